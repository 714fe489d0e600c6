//! How one room works: what answers in it, who shares that, how messages are told apart, and the bounds of a
//! room. Plain data, already valid: the command line makes it, a room keeps it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::framing::Framing;
use crate::framing::notices::Notices;

/// See the module's documentation. The first three are independent choices.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub backend: Backend,
    pub share: Share,
    pub framing: Framing,
    pub incoming: Incoming,
    pub notices: Notices,
    pub history: HistoryOptions,
    pub slow: Slow,
    /// Largest message of the backend, in bytes.
    pub max_line: usize,
    /// What may wait for one client, in bytes; one message always fits.
    pub max_queue: usize,
    pub times: RoomTimes,
    /// How a backend is ended.
    pub stop: Vec<Step>,
}

/// What answers in a room.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A program, over its standard input and output.
    Stdio(Program),
    /// A program, over a TCP connection to a port of 127.0.0.1 that it listens on.
    Tcp(Program, TcpOptions),
    /// What listens at this address already.
    Connect(Destination),
    /// The room itself: what a client sends goes to the others.
    Relay {
        /// To the one who sent it too.
        to_sender: bool,
    },
}

/// Who shares a process or a connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All clients of a room.
    #[default]
    Room,
    /// Nobody: each client has one of its own.
    Client,
    /// All clients of the server.
    Server,
}

/// A program to start.
#[derive(Debug, Default, Clone)]
pub struct Program {
    /// The program as it was named on the command line; `argv[0]` of the process.
    pub name: OsString,
    /// The file that is executed: `name` resolved in `PATH` once, at start.
    pub path: PathBuf,
    /// Arguments after the name.
    pub arguments: Vec<OsString>,
    /// Variables passed on from the server's environment, values as found at start.
    pub passed: Vec<(OsString, OsString)>,
    /// Whether the first client's request goes into the environment (RFC 3875).
    pub cgi_environment: bool,
    /// Where its standard error goes.
    pub stderr: Stderr,
    /// How long to wait after its start before anything is written or read.
    pub delay: Duration,
}

/// How a program is reached that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpOptions {
    /// Ports to choose from, both ends included.
    pub ports: RangeInclusive<u16>,
    /// How long it has, after its delay, until it listens.
    pub connect_timeout: Duration,
}

/// An address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Tcp(SocketAddr),
    /// Looked up at each connection.
    Host(String, u16),
    Unix(PathBuf),
}

/// Where a program's standard error goes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// Line by line into the log, with room and process id.
    Log,
    /// To the server's own standard error.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
}

/// What happens to clients' messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// They are passed to the backend.
    #[default]
    Pass,
    /// They are read, counted and dropped.
    Discard,
}

/// Which messages of the backend are replayed to a client that joins later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryOptions {
    pub keep: Keep,
    /// Whether they outlive the process.
    pub persist: bool,
}

/// Which messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    #[default]
    Nothing,
    /// The last so many.
    All(usize),
    /// The last so many of those that are marked (`_cache`).
    Tagged(usize),
}

/// What happens to a client that does not read as fast as the backend writes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// The room waits a bounded time, then closes the client with 1013.
    #[default]
    Disconnect,
    /// Messages that do not fit are dropped for that client and counted.
    Drop,
    /// The room waits for as long as the client takes anything.
    Block,
}

/// The times of a room.
#[derive(Debug, Clone, Copy)]
pub struct RoomTimes {
    /// How long the backend stays after its last client left.
    pub linger: Duration,
    /// How long a room of several waits for a client that is behind.
    pub patience: Duration,
    /// How often a client is pinged whose messages the backend does not read; `None` is never.
    pub ping: Option<Duration>,
}

/// One step of a kill sequence, which begins with the end of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Time since the step before. In the first step it begins anew as long as the input is still being read, for
    /// at most the time of the second step.
    pub wait: Duration,
    /// What is sent to the process group then, by number.
    pub signal: i32,
}

impl Recipe {
    /// The program that is started in each room, if there is one.
    pub fn program(&self) -> Option<&Program> {
        match &self.backend {
            Backend::Stdio(program) | Backend::Tcp(program, _) => Some(program),
            Backend::Connect(_) | Backend::Relay { .. } => None,
        }
    }
}
