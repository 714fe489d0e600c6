//! Bytes to messages and back: pure, no I/O, knows nothing of rooms.
//!
//! - [`output`]: what a program says, as frames with an address; [`input`]: what it is told
//! - [`lines`], [`json`], [`gwsocket`]: the framings
//! - [`metadata`]: what a program says of its room
//! - [`address`]: who a message is for; [`frames`]: messages as websocket frames

pub mod address;
pub mod frames;
pub mod gwsocket;
pub mod input;
pub mod json;
pub mod lines;
pub mod metadata;
pub mod output;
