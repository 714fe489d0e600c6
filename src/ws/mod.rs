//! Websocket connections: the thread of one, from its first byte to its careful close.
//!
//! - [`serve`]: requests, until one of them is an upgrade
//! - `upgrade`: checks, the room, the 101
//! - `converse`: the loop of a client: a message in, a line to the program
//! - `stream`, `inbound`, `liveness`: its messages, the way to the program, its clocks
//! - `close`: the close frames, then TCP

mod ahead;
mod close;
mod connection;
mod converse;
mod inbound;
mod liveness;
mod pieces;
mod plain;
pub mod serve;
mod socket_reader;
mod stream;
mod upgrade;
