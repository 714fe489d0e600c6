//! Bytes to messages and back: pure, no I/O, knows nothing of rooms.

pub mod frames;
pub mod lines;
