//! How a program is started: argv, environment, process group, pipes.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use super::launch;
use super::started::{StartContext, StartError};

use crate::recipe::{Program, Stderr};
use crate::sys::descriptors::{self, Copies, Start};
use crate::sys::process::{Process, Processes};

/// Where the standard streams of a program go.
#[derive(Debug, Clone, Copy)]
pub enum Wiring<'a> {
    /// Input and output are pipes to us.
    Stdio,
    /// The same, in this working directory.
    StdioIn(&'a Path),
    /// It listens on this port; all that it prints goes to the log.
    Port(u16),
}

/// A program that runs, and our ends of its pipes, all in non-blocking mode.
#[derive(Debug)]
pub struct Spawned {
    pub process: Arc<Process>,
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    /// What goes to the log.
    pub log: Option<OwnedFd>,
}

/// Starts the program in a process group of its own.
pub fn start(
    program: &Program,
    context: &StartContext,
    wiring: Wiring<'_>,
    processes: &Processes,
) -> Result<Spawned, StartError> {
    let start = descriptors::start();
    let limit = match start {
        Start::Limited(limit) => Some(limit),
        Start::Direct(_) => None,
    };
    let mut command = launch::command(program, limit);
    command
        .env_clear()
        .envs(program.passed.iter().map(|(name, value)| (name, value)))
        // The sockets that the server inherited are not the program's.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        // Last, so that nothing passed on replaces them.
        .envs(context.variables.iter().map(|(name, value)| (name, value)))
        .process_group(0);
    if let Wiring::StdioIn(directory) = wiring {
        command.current_dir(directory);
    }
    let mut log = None;
    if let Wiring::Port(port) = wiring {
        // One pipe for both streams.
        let (reader, writer) = io::pipe().map_err(StartError::Resources)?;
        let both = writer.try_clone().map_err(StartError::Resources)?;
        log = Some(OwnedFd::from(reader));
        command.env("PORT", port.to_string()).stdin(Stdio::null()).stdout(writer).stderr(both);
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(match program.stderr {
            Stderr::Log | Stderr::Messages => Stdio::piped(),
            Stderr::Inherit => Stdio::inherit(),
            Stderr::Null => Stdio::null(),
        });
    }
    let copies = Copies::begin();
    // Returns when the program has been executed, or could not be.
    let spawned = command.spawn();
    drop(copies);
    let mut child = spawned.map_err(|e| StartError::Spawn(program.name.clone(), e))?;
    drop(start);
    // Closes our copies of the pipe's write end, or its end would never be seen.
    drop(command);

    // From here on a failure has to end the program.
    let served = Process::open(child.id()).map(Arc::new).and_then(|process| {
        processes.add(&process);
        descriptors::note(&process);
        // The mode belongs to our end alone: a pipe's ends are two open files (pipe(7)).
        let unblocked = |fd: OwnedFd| rustix::io::ioctl_fionbio(&fd, true).map(|()| fd);
        Ok(Spawned {
            process,
            stdin: child.stdin.take().map(OwnedFd::from).map(unblocked).transpose()?,
            stdout: child.stdout.take().map(OwnedFd::from).map(unblocked).transpose()?,
            log: log.take().or_else(|| child.stderr.take().map(OwnedFd::from)).map(unblocked).transpose()?,
        })
    });
    served.map_err(|e| {
        let _ = child.kill();
        let _ = child.wait();
        StartError::Resources(e)
    })
}
