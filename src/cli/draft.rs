//! What the options set: a [`Config`], and values that depend on other options.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::flag::Table;
use crate::clients::GONE_AFTER;
use crate::config::{
    Address, Config, FaceKind, Headers, Level, Limits, Listen, LogConfig, LogFormat, Origin, Subprotocols,
    Times,
};
use crate::framing::Framing;
use crate::framing::input::Input;
use crate::framing::notices::Notices;
use crate::framing::output::Output;
use crate::recipe::{
    Backend, Destination, HistoryOptions, Incoming, Keep, Program, Recipe, RoomTimes, Share, Slow, Step,
    TcpOptions,
};

/// See the module's documentation. Initial values are not used where the table has a default.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) addresses: Vec<Address>,
    /// Without its path and environment.
    pub(super) program: Program,
    pub(super) tcp: TcpOptions,
    pub(super) relay_to_sender: bool,
    pub(super) connect: Option<Destination>,
    pub(super) share: Option<Share>,
    /// Names of the environment variables for the program.
    pub(super) variables: Vec<String>,
    pub(super) delimiters: Vec<u8>,
    pub(super) null: Null,
    pub(super) frame: Option<Frame>,
    pub(super) client_frame: Option<Frame>,
    pub(super) server_frame: Option<Frame>,
    pub(super) join: Option<String>,
    pub(super) leave: Option<String>,
    #[cfg(feature = "websocketd")]
    pub(super) websocketd: super::websocketd::Options,
    /// Print this instead of serving.
    pub(super) print: Option<Print>,
}

pub(super) type Print = fn(&'static Table<Draft>) -> String;

/// Which messages end with a NUL byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    Output,
    Both,
}

/// A framing with more than delimiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    Json,
    Jsonl,
    Gwsocket,
    Lsp,
}

impl Draft {
    pub(super) fn new() -> Self {
        let recipe = Recipe {
            backend: Backend::Relay,
            share: Share::Room,
            framing: Framing { output: Output::Chunks, input: Input::Raw, partial: None },
            incoming: Incoming::Pass,
            notices: Notices::Gwsocket,
            history: HistoryOptions { keep: Keep::Nothing, persist: false },
            slow: Slow::Disconnect,
            ends_with_output: false,
            max_line: 0,
            max_queue: 0,
            times: RoomTimes {
                linger: Duration::ZERO,
                patience: Duration::ZERO,
                ping: None,
                gone_after: GONE_AFTER,
            },
            stop: vec![
                Step { wait: Duration::ZERO, signal: Signal::TERM.as_raw() },
                Step { wait: Duration::ZERO, signal: Signal::KILL.as_raw() },
            ],
        };
        let config = Config {
            face: FaceKind::Rooms,
            listen: Listen::Inetd,
            redirects: Vec::new(),
            tls: None,
            recipe: Arc::new(recipe),
            limits: Limits {
                message: 0,
                clients: None,
                rooms: None,
                room_clients: None,
                address_clients: None,
            },
            times: Times { handshake: Duration::ZERO, ping: None, gone_after: GONE_AFTER, idle: None },
            base: String::new(),
            default_room: None,
            rooms: None,
            oneshot: false,
            exit_idle: None,
            exit_end: false,
            api: false,
            console: false,
            metrics: None,
            origin: Origin::SameHost,
            protocols: Subprotocols::Any,
            headers: Headers::default(),
            static_dir: None,
            log: LogConfig { format: LogFormat::Text, level: Level::Info },
            warnings: Vec::new(),
        };
        Self {
            config,
            addresses: Vec::new(),
            program: Program::default(),
            tcp: TcpOptions { ports: 0..=0, connect_timeout: Duration::ZERO },
            relay_to_sender: false,
            connect: None,
            share: None,
            variables: Vec::new(),
            delimiters: Vec::new(),
            null: Null::Output,
            frame: None,
            client_frame: None,
            server_frame: None,
            join: None,
            leave: None,
            #[cfg(feature = "websocketd")]
            websocketd: super::websocketd::Options::default(),
            print: None,
        }
    }

    pub(super) fn recipe(&mut self) -> &mut Recipe {
        Arc::get_mut(&mut self.config.recipe).expect("the draft has the only reference")
    }
}
