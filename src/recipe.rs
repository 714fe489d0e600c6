//! How one room works: its backend, who shares it, the framing, and the bounds of a room. Plain data, already valid:
//! the command line makes it, a room keeps it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::framing::Framing;
use crate::framing::heads::Kind;
use crate::framing::notices::Notices;
use crate::framing::output::Output;

/// Names and values of an environment.
pub type Variables = Vec<(String, OsString)>;

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
    /// Whether the end of a program's output is the end of the session, even if the process still runs: of its standard
    /// output, and of its standard error, too, if that is sent to the clients.
    pub ends_with_output: bool,
    /// Largest message of the backend, in bytes.
    pub max_line: usize,
    /// How many bytes may wait for one client; one message always fits.
    pub max_queue: usize,
    pub times: RoomTimes,
    /// The kill sequence.
    pub stop: Vec<Step>,
}

/// What answers in a room.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A program, over its standard input and output.
    Stdio(Program),
    /// A program that listens on a port of 127.0.0.1, over a TCP connection.
    Tcp(Program, TcpOptions),
    /// A connection to this address; no program.
    Connect(Destination),
    /// No program: what a client sends goes to the other clients.
    Relay,
}

/// Which clients share a backend.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All clients of a room.
    #[default]
    Room,
    /// None: each client has its own.
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
    /// How long it may take, after its delay, until it listens.
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
    /// Into the log and, line by line, to the clients: each line of both streams is a JSON message that names its stream.
    Messages,
}

/// What happens to clients' messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// They are passed to the backend.
    #[default]
    Pass,
    /// They are read, counted and dropped.
    Discard,
    /// Those of this kind are passed to the backend; the others are dropped and counted.
    Only(Kind),
}

/// Which messages of the backend are replayed to a client that joins later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryOptions {
    pub keep: Keep,
    /// Whether they are kept when the backend ends.
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
    /// How long the other clients of a room wait for a slow one.
    pub patience: Duration,
    /// How often a client is pinged while the backend does not read its messages; `None` is never.
    pub ping: Option<Duration>,
    /// The client is gone after so many times that.
    pub gone_after: u32,
}

/// One step of a kill sequence, which begins with the end of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Time since the step before. That of the first step begins anew while the program still reads its input, for at
    /// most the time of the second step.
    pub wait: Duration,
    /// The signal that is then sent to the process group, by number.
    pub signal: i32,
}

impl Recipe {
    /// The program, if there is one.
    pub fn program(&self) -> Option<&Program> {
        match &self.backend {
            Backend::Stdio(program) | Backend::Tcp(program, _) => Some(program),
            Backend::Connect(_) | Backend::Relay => None,
        }
    }

    /// How its output is cut into messages; and its standard error, if that is sent to the clients.
    pub fn outputs(&self) -> (Output, Option<Output>) {
        match &self.backend {
            Backend::Stdio(Program { stderr: Stderr::Messages, .. }) => {
                (Output::Named("stdout"), Some(Output::Named("stderr")))
            }
            _ => (self.framing.output.clone(), None),
        }
    }

    /// How long the kill sequence takes at most, up to its last signal. The first wait begins anew while the program
    /// reads, for at most the second wait: so that one counts twice.
    pub fn stop_time(&self) -> Duration {
        let waits = self.stop.iter().chain(self.stop.get(1)).map(|step| step.wait);
        waits.fold(Duration::ZERO, Duration::saturating_add)
    }
}
