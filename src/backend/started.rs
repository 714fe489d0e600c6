//! What is needed to start a backend, what a started one consists of, and why one could not be started.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::ending::AtEnd;
use super::log_pipe::LogPipe;
use crate::recipe::Variables;
use crate::sink::Stdin;
use crate::sys::process::Process;
use crate::sys::reason;

/// Bytes that may wait for a backend's stdin beside what its pipe holds; one message always fits. Kept small: what one
/// client has queued, the others have to wait for.
pub(super) const INPUT_BOUND: usize = 16 * 1024;

/// Stack of a backend's threads; deep enough for a debug build.
pub(super) const STACK: usize = 128 * 1024;

/// How long to wait before polling again where `poll` itself fails.
pub(super) const POLL_RETRY: Duration = Duration::from_millis(10);

/// What a start needs to know of the room and of the client for which the backend is started.
#[derive(Debug, Clone, Default)]
pub struct StartContext {
    /// The room's name in the log; empty where all rooms share the backend.
    pub room: String,
    /// For a program over TCP: the port that it is to listen on.
    pub port: Option<u16>,
    /// Variables for the program, in addition to those that are passed on; they replace those of the same name.
    pub variables: Variables,
}

/// A backend that could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The program could not be executed.
    Spawn(OsString, io::Error),
    /// The program was started and did not listen on its port; says why. It has been killed.
    NotListening(String),
    /// There is no port that it could listen on.
    NoPort,
    /// No connection could be made; says why.
    NotConnected(String),
    /// There was no thread, descriptor or memory to serve it; it has been killed.
    Resources(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(name, e) => write!(f, "cannot start {}: {}", name.to_string_lossy(), reason(e)),
            Self::NotListening(why) => write!(f, "cannot talk to the program: {why}"),
            Self::NoPort => f.write_str("no port of --tcpports is free"),
            Self::NotConnected(why) => write!(f, "cannot connect: {why}"),
            Self::Resources(e) => write!(f, "cannot serve the program: {}", reason(e)),
        }
    }
}

impl StartError {
    /// Whether the program failed, and not this machine, for want of descriptors, processes or memory.
    pub fn is_of_the_program(&self) -> bool {
        let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN].map(|e| Some(e.raw_os_error()));
        match self {
            Self::Spawn(_, e) => !short.contains(&e.raw_os_error()),
            Self::NotListening(_) => true,
            Self::NoPort | Self::NotConnected(_) | Self::Resources(_) => false,
        }
    }

    /// The words for the log.
    pub fn what(&self) -> &'static str {
        match self {
            Self::NotConnected(_) => "connection not made",
            _ => "program not started",
        }
    }

    /// The text for clients: nothing about the files and the limits of this machine.
    pub fn public(&self) -> String {
        match self {
            Self::Spawn(..) | Self::Resources(_) => "cannot start the program".to_owned(),
            Self::NotListening(_) | Self::NoPort | Self::NotConnected(_) => self.to_string(),
        }
    }
}

impl std::error::Error for StartError {}

/// A backend that runs: our ends of it, all in non-blocking mode.
pub(super) struct Started {
    pub(super) input: Stdin,
    pub(super) source: Source,
}

/// What a reader reads, and the process whose exit it waits for.
pub(super) struct Source {
    /// Its name in the log.
    pub(super) kind: &'static str,
    pub(super) output: Option<OwnedFd>,
    pub(super) log_pipe: LogPipe,
    /// `None` for a connection and a relay.
    pub(super) process: Option<Arc<Process>>,
    pub(super) at_end: AtEnd,
}

impl Source {
    pub(super) fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|process| process.id())
    }
}
