//! scalesocket: serve any program over websockets, one room per URL path.
//!
//! The map, from the top down; imports point down only:
//!
//! - [`cli`]: the command line: one table of flags and its renderings; makes a `Config`
//! - [`server`]: one run of the server, from the first listener to the last reaped child
//! - [`listen`]: TCP and unix sockets, inherited ones, the accept loop
//! - [`ws`]: the connection's thread, from the first byte to the careful close
//! - [`service`]: what all connections of a server share
//! - [`http`]: request heads, routes, plain answers, static files
//! - [`room`]: who is in, which process answers, what happens when they come and go
//! - [`child`]: a process and its two threads: output, backlog, life and death
//! - [`client`], [`connections`]: one client; all open connections
//! - [`framing`]: bytes to messages and back, pure
//! - [`sink`]: the one queue-and-write type
//! - [`counters`]: what is counted for the metrics
//! - [`config`]: what the server was asked to do, as plain data
//! - [`log`]: text and JSON lines
//! - [`sys`]: poll, eventfd, pidfd, sockets: thin names over the system
#![forbid(unsafe_code)]

pub mod backend;
pub mod cli;
pub mod clients;
pub mod config;
pub mod counters;
pub mod framing;
pub mod http;
pub mod listen;
pub mod log;
pub mod recipe;
pub mod room;
pub mod server;
pub mod service;
pub mod sink;
pub mod slots;
pub mod sys;
pub mod ws;
