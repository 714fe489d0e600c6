//! How the program of a room is started: argv, environment, process group, pipes.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Arc;

use super::launch;
use rustix::io::Errno;

use crate::recipe::{Program, Stderr};
use crate::sys::descriptors::{self, Start};
use crate::sys::process::{Process, Processes};
use crate::sys::reason;

/// Names and values of an environment.
pub type Variables = Vec<(String, OsString)>;

/// What the first client of a room brings along for the program's environment.
#[derive(Debug, Clone, Default)]
pub struct StartContext {
    /// The room's name.
    pub room: String,
    /// The query of the request, raw.
    pub query: String,
    /// `ip:port`, or `unix:`.
    pub address: String,
    /// The port that it is to listen on, if it talks over TCP.
    pub port: Option<u16>,
    /// The CGI set, if it was asked for.
    pub cgi: Variables,
}

/// A program that could not be started.
#[derive(Debug)]
pub enum StartError {
    /// It could not be executed.
    Spawn(OsString, io::Error),
    /// It was started and did not listen on its port; says why. It has been killed.
    NotListening(String),
    /// There is no port that it could listen on.
    NoPort,
    /// It runs, but there was no thread, descriptor or memory to serve it; it has been killed.
    Resources(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(name, e) => write!(f, "cannot start {}: {}", name.to_string_lossy(), reason(e)),
            Self::NotListening(why) => write!(f, "cannot talk to the program: {why}"),
            Self::NoPort => f.write_str("no port of --tcpports is free"),
            Self::Resources(e) => write!(f, "cannot serve the program: {}", reason(e)),
        }
    }
}

impl StartError {
    /// Whether the program is what failed, not this machine, which had nothing left to start it with.
    pub fn is_of_the_program(&self) -> bool {
        let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN].map(|e| Some(e.raw_os_error()));
        match self {
            Self::Spawn(_, e) => !short.contains(&e.raw_os_error()),
            Self::NotListening(_) => true,
            Self::NoPort | Self::Resources(_) => false,
        }
    }

    /// What clients are told of it: nothing about the files and the limits of this machine.
    pub fn public(&self) -> String {
        match self {
            Self::Spawn(..) | Self::Resources(_) => "cannot start the program".to_owned(),
            Self::NotListening(_) | Self::NoPort => self.to_string(),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn(_, e) | Self::Resources(e) => Some(e),
            Self::NotListening(_) | Self::NoPort => None,
        }
    }
}

/// A started program and our ends of its pipes, all in non-blocking mode.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) process: Arc<Process>,
    pub(super) talk: Talk,
    /// What goes to the log.
    pub(super) log_pipe: Option<OwnedFd>,
}

/// How it is talked to.
#[derive(Debug)]
pub(super) enum Talk {
    /// Through the pipes of its standard input and output.
    Stdio(OwnedFd, OwnedFd),
    /// Over TCP, once it listens on this port.
    Tcp(u16),
}

/// Starts the program in a process group of its own.
pub(super) fn start(
    program: &Program,
    context: &StartContext,
    processes: &Processes,
) -> Result<Started, StartError> {
    let start = descriptors::start();
    let limit = match start {
        Start::Limited(limit) => Some(limit),
        Start::Direct(_) => None,
    };
    let mut command = launch::command(program, limit);
    command
        .env_clear()
        .envs(program.passed.iter().map(|(name, value)| (name, value)))
        // Sockets that were handed to the server are not the program's.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .envs(context.cgi.iter().map(|(name, value)| (name, value)))
        // Last, so that nothing passed on takes their place.
        .env("ROOM", &context.room)
        .env("QUERY_STRING", &context.query)
        .env("REMOTE_ADDR", &context.address)
        .process_group(0);
    let mut log_pipe = None;
    if let Some(port) = context.port {
        // All that it prints is for the log: one pipe for both streams.
        let (reader, writer) = io::pipe().map_err(StartError::Resources)?;
        let both = writer.try_clone().map_err(StartError::Resources)?;
        log_pipe = Some(OwnedFd::from(reader));
        command.env("PORT", port.to_string()).stdin(Stdio::null()).stdout(writer).stderr(both);
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(match program.stderr {
            Stderr::Log => Stdio::piped(),
            Stderr::Inherit => Stdio::inherit(),
            Stderr::Null => Stdio::null(),
        });
    }
    let mut child = command.spawn().map_err(|e| StartError::Spawn(program.name.clone(), e))?;
    drop(start);
    // Our copies of the pipe's write end go with it, or its end would never be seen.
    drop(command);

    // From here on a failure must not leave the program behind.
    let served = Process::open(child.id()).map(Arc::new).and_then(|process| {
        processes.add(&process);
        descriptors::note(&process);
        // The mode belongs to our end alone: a pipe's ends are two open files (pipe(7)).
        let unblocked = |fd: OwnedFd| rustix::io::ioctl_fionbio(&fd, true).map(|()| fd);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let log_pipe = log_pipe.take().or_else(|| child.stderr.take().map(OwnedFd::from));
        let log_pipe = log_pipe.map(unblocked).transpose()?;
        let talk = match context.port {
            Some(port) => Talk::Tcp(port),
            None => Talk::Stdio(
                unblocked(child.stdin.take().ok_or_else(missing)?.into())?,
                unblocked(child.stdout.take().ok_or_else(missing)?.into())?,
            ),
        };
        Ok(Started { process, talk, log_pipe })
    });
    served.map_err(|e| {
        let _ = child.kill();
        let _ = child.wait();
        StartError::Resources(e)
    })
}
