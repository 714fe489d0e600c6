//! Websocket connections: the thread of one, from its first byte to its careful close.

mod ahead;
mod close;
pub mod connection;
mod inbound;
mod liveness;
mod pieces;
mod plain;
mod socket_reader;
