//! What the server was asked to do: plain data, already valid.
//!
//! Knows no flag and reads no environment; `cli` builds it, everything else only reads it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything one run of the server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// What answers in each room.
    pub program: Program,
    /// How messages are told apart.
    pub framing: Framing,
    /// What becomes of clients' messages.
    pub incoming: Incoming,
    /// What is replayed to those who come later.
    pub history: HistoryOptions,
    /// Written to the program when a client joins.
    pub join_message: Option<String>,
    /// Written to the program when a client leaves.
    pub leave_message: Option<String>,
    /// Bounds on size and number.
    pub limits: Limits,
    /// Bounds on time.
    pub times: Times,
    /// What becomes of a client that cannot keep up.
    pub slow: Slow,
    /// The only rooms there may be, if that is so.
    pub rooms: Option<Vec<String>>,
    /// Whether only one client is served, ever.
    pub oneshot: bool,
    /// Whether rooms can be asked for over HTTP.
    pub api: bool,
    /// Whether metrics can be asked for over HTTP, and which.
    pub metrics: Option<Metrics>,
    /// Which pages may connect.
    pub origin: Origin,
    /// Which subprotocol of those that a client offers is named in the answer.
    pub protocols: Subprotocols,
    /// Directory of files for requests that are not an upgrade.
    pub static_dir: Option<PathBuf>,
    /// How to log.
    pub log: LogConfig,
}

/// Where connections come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// These addresses. Sockets inherited by the `LISTEN_FDS` protocol take their place.
    Addresses(Vec<Address>),
    /// Descriptor 0: a listening socket or one accepted connection, as inetd hands it over.
    Inetd,
}

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 or IPv6 address and port; port 0 lets the system pick.
    Tcp(SocketAddr),
    /// One socket for IPv6 and IPv4 on all addresses: `:PORT`.
    Any(u16),
    /// A unix stream socket; permission bits of its file, if they were given.
    Unix {
        /// Path of the socket file.
        path: PathBuf,
        /// Permission bits, such as `0o660`.
        mode: Option<u32>,
    },
}

/// The program that answers in a room.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program as it was named on the command line; `argv[0]` of the child.
    pub name: OsString,
    /// The file that is executed: `name` resolved in `PATH` once, at start.
    pub path: PathBuf,
    /// Arguments after the name.
    pub arguments: Vec<OsString>,
    /// Variables passed on from the server's environment, values as found at start.
    pub passed: Vec<(OsString, OsString)>,
    /// Whether the first client's request goes into the environment (RFC 3875).
    pub cgi_environment: bool,
    /// Where the program's standard error goes.
    pub stderr: Stderr,
    /// How the server talks to it.
    pub transport: Transport,
    /// The signal that asks it to stop, by number.
    pub stop_signal: i32,
}

/// How the server talks to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Over its standard input and output.
    Stdio {
        /// How long to wait after its start before anything is written or read.
        delay: Duration,
    },
    /// Over a TCP connection to a port of 127.0.0.1 that it listens on.
    Tcp {
        /// Ports to choose from, both ends included.
        ports: std::ops::RangeInclusive<u16>,
        /// How long to wait after its start before the first try.
        delay: Duration,
        /// How long it has, after that, until it listens.
        patience: Duration,
    },
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

/// How messages are told apart on the program's side, in each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framing {
    /// What the program says.
    pub output: Output,
    /// What it is told.
    pub input: Input,
}

/// How the program's output is cut into messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Each item that ends in one of these bytes is one text message.
    /// `strip_cr` also takes a `\r` before the delimiter away. With `json`, a message that is a JSON object
    /// may say in its members whom it is for.
    Delimited {
        /// The set of bytes that end an item; at least one.
        delimiters: Vec<u8>,
        /// Whether `\r\n` ends an item as `\n` does.
        strip_cr: bool,
        /// Whether messages may have a JSON header.
        json: bool,
    },
    /// Whatever one read gives is one binary message.
    Chunks,
    /// gwsocket's packets.
    Gwsocket,
}

/// How clients' messages are written to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The message and a newline.
    Lines,
    /// The message as it is.
    Raw,
    /// JSON objects, one a line, with the client's number in `_from`.
    Json,
    /// gwsocket's packets.
    Gwsocket,
}

/// What becomes of clients' messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// They are passed to the program.
    #[default]
    Pass,
    /// They are read and dropped: the program reads none.
    Discard,
}

/// Which messages of the program are replayed to a client that joins later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryOptions {
    /// Which.
    pub keep: Keep,
    /// Whether they outlive the program.
    pub persist: bool,
}

/// Which messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// None.
    #[default]
    Nothing,
    /// The last so many.
    All(usize),
    /// The last so many of those that are marked (`_cache`).
    Tagged(usize),
}

/// What becomes of a client that does not read as fast as the program writes.
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

/// Bounds on size and number.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message of a client, in bytes.
    pub message: usize,
    /// Largest message of the program, in bytes.
    pub line: usize,
    /// What may wait for one client, in bytes; one message always fits.
    pub queue: usize,
    /// Connections in all; `None` is what the system can hold.
    pub clients: Option<usize>,
    /// Rooms at once.
    pub rooms: Option<usize>,
    /// Clients in one room.
    pub room_clients: Option<usize>,
    /// Clients from one address (IPv6: one /64).
    pub address_clients: Option<usize>,
}

/// Bounds on time. `None` is off.
#[derive(Debug, Clone)]
pub struct Times {
    /// From accept to the end of the request's head.
    pub handshake: Duration,
    /// Ping after this long without a byte; the client is gone after three times that.
    pub ping: Option<Duration>,
    /// Close a client that sent no message for this long.
    pub idle: Option<Duration>,
    /// How long a program stays after its last client left.
    pub linger: Duration,
    /// How long a program, once its input has ended, may read nothing more of it before the stop signal.
    pub input_grace: Duration,
    /// How long a program has between the stop signal and KILL.
    pub grace: Duration,
    /// How long a room of several waits for a client that is behind.
    pub patience: Duration,
}

/// Which pages may connect (`Origin`, RFC 6454).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No `Origin`, or one whose host is the request's `Host`, port aside.
    #[default]
    SameHost,
    /// Anything.
    Any,
    /// No `Origin`, or one of these: `host`, `host:port` or `scheme://host[:port]`.
    Listed(Vec<String>),
}

/// Which subprotocol of those that a client offers is named in the answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Subprotocols {
    /// The first.
    #[default]
    Any,
    /// The first that is one of these.
    Listed(Vec<String>),
}

/// Which metrics are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metrics {
    /// All, those of each room too.
    Rooms,
    /// Those of the server alone.
    Global,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Shape of a line.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: Level,
}

/// Shape of a log line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, room and client, message, `key=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Importance of a log line, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed that somebody has to mend.
    Error,
    /// Something was refused, dropped or given up.
    Warn,
    /// Joins, leaves, starts, exits.
    Info,
    /// With `-v`: plain requests, signals, decisions.
    Debug,
    /// With `-vv`: every wake-up that matters to a developer.
    Trace,
}
