//! Bytes to messages and back: pure, no I/O, knows nothing of rooms.

pub mod address;
pub mod frames;
pub mod gwsocket;
pub mod json;
pub mod lines;
