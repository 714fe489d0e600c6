//! Websocket connections: the thread of one, from its first byte to its careful close.

mod close;
pub mod connection;
mod inbound;
mod liveness;
mod plain;
mod stream;
