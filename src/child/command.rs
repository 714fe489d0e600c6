//! How the program of a room is started: argv, environment, process group, pipes.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::config::{Program, Stderr};
use crate::sys::limits;
use crate::sys::process::Process;

/// What the first client of a room brings along for the program's environment.
#[derive(Debug, Clone, Default)]
pub struct Occasion {
    /// The room's name.
    pub room: String,
    /// The query of the request, raw.
    pub query: String,
    /// `ip:port`, or `unix:`.
    pub address: String,
    /// The CGI set, if it was asked for.
    pub cgi: Vec<(String, OsString)>,
}

/// A program that could not be started.
#[derive(Debug)]
pub enum StartError {
    /// It could not be executed.
    Spawn(OsString, io::Error),
    /// It runs, but there was no thread, descriptor or memory to serve it; it has been killed.
    Resources(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(name, e) => write!(f, "cannot start {}: {e}", name.to_string_lossy()),
            Self::Resources(e) => write!(f, "cannot serve the program: {e}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn(_, e) | Self::Resources(e) => Some(e),
        }
    }
}

/// A started program and our ends of its pipes, all in non-blocking mode.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: Option<OwnedFd>,
}

/// Starts the program in a process group of its own.
pub(super) fn start(program: &Program, occasion: &Occasion) -> Result<Started, StartError> {
    let mut command = Command::new(&program.path);
    command
        .arg0(&program.name)
        .args(&program.arguments)
        .env_clear()
        .envs(program.passed.iter().map(|(name, value)| (name, value)))
        .envs(occasion.cgi.iter().map(|(name, value)| (name, value)))
        // Last, so that nothing passed on takes their place.
        .env("ROOM", &occasion.room)
        .env("QUERY_STRING", &occasion.query)
        .env("REMOTE_ADDR", &occasion.address)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(match program.stderr {
            Stderr::Log => Stdio::piped(),
            Stderr::Inherit => Stdio::inherit(),
            Stderr::Null => Stdio::null(),
        });
    let mut child = command.spawn().map_err(|e| StartError::Spawn(program.name.clone(), e))?;
    limits::restore_descriptors(child.id());

    // From here on a failure must not leave the program behind.
    let served = Process::open(child.id()).and_then(|process| {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let stdin = OwnedFd::from(child.stdin.take().ok_or_else(missing)?);
        let stdout = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
        let stderr = child.stderr.take().map(OwnedFd::from);
        for fd in [Some(&stdin), Some(&stdout), stderr.as_ref()].into_iter().flatten() {
            // The mode belongs to our end alone: a pipe's ends are two open files (pipe(7)).
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        Ok(Started { process, stdin, stdout, stderr })
    });
    served.map_err(|e| {
        let _ = child.kill();
        let _ = child.wait();
        StartError::Resources(e)
    })
}
