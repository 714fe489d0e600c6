//! The settings of a server: plain data, already valid. `cli` makes it; everything else only reads it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::recipe::Recipe;

/// The settings of one run of the server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which face the server has.
    pub face: FaceKind,
    /// Where to listen.
    pub listen: Listen,
    /// Where every request is redirected to another port of the same host (`--redirport` of websocketd).
    pub redirects: Vec<Redirect>,
    /// Certificate and key, if connections are encrypted.
    pub tls: Option<TlsFiles>,
    /// How each room works.
    pub recipe: Arc<Recipe>,
    /// Bounds on size and number.
    pub limits: Limits,
    /// Bounds on time.
    pub times: Times,
    /// What all paths begin with: empty, or `/a/b`.
    pub base: String,
    /// The room of a websocket request whose path names none.
    pub default_room: Option<String>,
    /// `--rooms`: the only rooms that exist.
    pub rooms: Option<Vec<String>>,
    /// Whether only one client is served.
    pub oneshot: bool,
    /// End after this long without a connection.
    pub exit_idle: Option<Duration>,
    /// End with the first program, with its status.
    pub exit_end: bool,
    /// Whether rooms can be asked for over HTTP.
    pub api: bool,
    /// Whether the console page is served.
    pub console: bool,
    /// Whether metrics can be asked for over HTTP, and which.
    pub metrics: Option<Metrics>,
    /// Which pages may connect.
    pub origin: Origin,
    /// Which subprotocol of those that a client offers is named in the answer.
    pub protocols: Subprotocols,
    /// Header fields of each response beside the server's own.
    pub headers: Headers,
    /// Directory of files for requests that are not an upgrade.
    pub static_dir: Option<PathBuf>,
    /// How to log.
    pub log: LogConfig,
    /// Warnings to log at start: options without effect.
    pub warnings: Vec<String>,
}

/// Which face the server has.
#[derive(Debug, Clone)]
pub enum FaceKind {
    /// Rooms.
    Rooms,
    /// websocketd's.
    #[cfg(feature = "websocketd")]
    Websocketd(Arc<Websocketd>),
}

/// What the face of websocketd needs beside the rest of the settings. Its program is that of the recipe.
#[derive(Debug, Clone, Default)]
pub struct Websocketd {
    /// `--dir`: a directory of programs, one for each path; no symbolic links in it. The program of the recipe is
    /// without name and path then.
    pub script_dir: Option<PathBuf>,
    /// `--cgidir`: a directory of CGI programs, as it was given.
    pub cgi_dir: Option<PathBuf>,
    /// `--devconsole`
    pub console: bool,
    /// `--reverselookup`
    pub reverse_lookup: bool,
    /// `--maxforks`: programs at once, those of CGI included; `None` is unlimited.
    pub max_forks: Option<usize>,
    /// `--sameorigin`
    pub same_origin: bool,
    /// `--origin`
    pub origins: Option<Vec<String>>,
    /// The variables of `--passenv` that are set.
    pub passed: Vec<(OsString, OsString)>,
}

/// Where to listen for requests that are redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub address: Address,
    /// The port to redirect to.
    pub port: u16,
}

/// Files in PEM format.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that it is signed with.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificates of those who sign for clients; then each client must have one.
    pub client_ca: Option<PathBuf>,
}

/// Header fields, name and value, by the kind of response.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Headers {
    /// Of responses to plain requests, refusals included.
    pub http: Vec<(String, String)>,
    /// Of the 101.
    pub ws: Vec<(String, String)>,
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

/// Bounds on size and number.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message of a client, in bytes.
    pub message: usize,
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
    /// Ping after this long without a byte.
    pub ping: Option<Duration>,
    /// The client is gone after so many times that.
    pub gone_after: u32,
    /// Close a client that sent no message for this long.
    pub idle: Option<Duration>,
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
    /// As websocketd writes it, on standard output.
    #[cfg(feature = "websocketd")]
    Websocketd,
}

/// Importance of a log line, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No line at all.
    Off,
    /// The server cannot start.
    Fatal,
    /// A failure that needs an operator.
    Error,
    /// Something was refused, dropped or given up.
    Warn,
    /// Joins, leaves, starts, exits.
    Info,
    /// Requests, in the log of websocketd.
    Access,
    /// With `-v`: plain requests, signals, decisions.
    Debug,
    /// With `-vv`: details for developers.
    Trace,
}
