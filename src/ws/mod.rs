//! Websocket connections: the thread of a connection, from the first byte to the close.
//!
//! - [`serve`]: requests, until one is an upgrade
//! - `upgrade`: checks, the room, the 101
//! - `converse`: the loop of a client: passes each message to the program
//! - `stream`, `socket_reader`, `ahead`, `pieces`: reading messages with bounded memory
//! - `inbound`, `liveness`: passing messages to the program; pings and time-outs
//! - `close`: the close frames, then TCP

mod ahead;
mod close;
mod connection;
mod converse;
mod inbound;
mod liveness;
mod pieces;
pub mod serve;
mod socket_reader;
mod stream;
mod upgrade;
