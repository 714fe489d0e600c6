//! What was typed, value by value; `meaning` turns it into what it means.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Address, Headers, LogFormat, Metrics, Origin, Subprotocols};
use crate::recipe::{Destination, Incoming, Keep, Share, Slow, Stderr};

/// The options, defaults filled in by the parser from the table. A field's start value is never
/// seen where the table has a default.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) addresses: Vec<Address>,
    pub(super) inetd: bool,
    pub(super) binary: bool,
    pub(super) delimiters: Vec<u8>,
    pub(super) null: Option<Null>,
    pub(super) partial: Option<Duration>,
    pub(super) relay: Option<bool>,
    pub(super) connect: Option<Destination>,
    pub(super) share: Option<Share>,
    pub(super) default_room: Option<String>,
    pub(super) base: String,
    pub(super) headers: Headers,
    pub(super) exit_idle: Option<Duration>,
    pub(super) exit_end: bool,
    pub(super) quiet: bool,
    pub(super) json: bool,
    pub(super) frame: Option<MessageFrame>,
    pub(super) client_frame: Option<MessageFrame>,
    pub(super) server_frame: Option<MessageFrame>,
    pub(super) incoming: Incoming,
    pub(super) cache: Keep,
    pub(super) cache_persist: bool,
    pub(super) join_message: Option<String>,
    pub(super) leave_message: Option<String>,
    pub(super) max_message: usize,
    pub(super) max_line: usize,
    pub(super) pass_environment: Vec<String>,
    pub(super) cgi_environment: bool,
    pub(super) stderr: Stderr,
    pub(super) linger: Duration,
    pub(super) input_grace: Duration,
    pub(super) grace: Duration,
    pub(super) stop_signal: i32,
    pub(super) origin: Origin,
    pub(super) protocols: Subprotocols,
    pub(super) max_clients: Option<usize>,
    pub(super) max_rooms: Option<usize>,
    pub(super) max_room_clients: Option<usize>,
    pub(super) max_address_clients: Option<usize>,
    pub(super) rooms: Option<Vec<String>>,
    pub(super) oneshot: bool,
    pub(super) tcp: bool,
    pub(super) tcp_ports: Option<RangeInclusive<u16>>,
    pub(super) delay: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) api: bool,
    pub(super) metrics: Option<Metrics>,
    pub(super) max_queue: usize,
    pub(super) slow: Slow,
    pub(super) patience: Duration,
    pub(super) handshake_timeout: Duration,
    pub(super) ping: Duration,
    pub(super) idle: Duration,
    pub(super) static_dir: Option<PathBuf>,
    pub(super) log: LogFormat,
    pub(super) verbose: u8,
    /// Print this instead of serving.
    pub(super) print: Option<Print>,
    /// Names of the flags that were typed, each as often as it was.
    pub(super) given: Vec<&'static str>,
}

impl Arguments {
    /// Whether the flag was typed, not filled in.
    pub(super) fn gave(&self, name: &str) -> bool {
        self.given.contains(&name)
    }
}

/// A framing that says more than where a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageFrame {
    Json,
    Jsonl,
    Gwsocket,
    Lsp,
}

/// Which messages end in NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    Output,
    Both,
}

/// What can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Print {
    Help,
    Version,
    Man,
    Completions(Shell),
}

/// Shells that completions are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}
