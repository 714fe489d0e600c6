//! Bytes to messages and back: pure, no I/O, knows nothing of rooms.
//!
//! - [`output`]: a backend's output, as frames with addresses; [`input`]: clients' messages, as its input
//! - [`lines`], [`packets`]: how a stream is cut; [`json`], [`gwsocket`], [`lsp`], [`relay`]: the framings
//! - [`notices`], [`template`]: the messages to a backend that a client has joined or left
//! - [`metadata`]: what a program says about its room
//! - [`address`], [`rooms`]: which clients a message is for; [`heads`], [`batch`]: messages as websocket frames

pub mod address;
pub mod batch;
pub mod broken;
pub mod gwsocket;
pub mod heads;
pub mod input;
pub mod json;
mod keys;
pub mod lines;
pub mod lsp;
pub mod metadata;
pub mod notices;
pub mod output;
pub mod packets;
pub mod relay;
pub mod rooms;
mod scan;
pub mod template;

/// How a backend's streams are divided into messages, in each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framing {
    pub output: output::Output,
    pub input: input::Input,
    /// `--partial`: output without an end is sent as a message after this time.
    pub partial: Option<std::time::Duration>,
}
