//! Bytes to messages and back: pure, no I/O, knows nothing of rooms.
//!
//! - [`output`]: what a program says, as frames with an address; [`input`]: what it is told
//! - [`lines`], [`packets`]: how a stream is cut; [`json`], [`gwsocket`], [`lsp`], [`relay`]: the framings
//! - [`notices`], [`template`]: what it is told of clients that come and leave
//! - [`metadata`]: what a program says of its room
//! - [`address`], [`rooms`]: who a message is for; [`heads`], [`batch`]: messages as websocket frames

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

/// How messages are told apart on the backend's side, in each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framing {
    /// What it says.
    pub output: output::Output,
    /// What it is told.
    pub input: input::Input,
    /// After this long without more, what has no end yet is a message.
    pub partial: Option<std::time::Duration>,
}
