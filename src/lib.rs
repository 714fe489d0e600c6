//! scalesocket: serve any program over websockets, one room per URL path.
//!
//! The map, from the top down; imports point down only:
//!
//! - [`cli`]: the command line: one table of flags and its renderings; makes a `Config`
//! - [`server`]: one run of the server, from the first listener to the last reaped program
//! - [`listen`]: TCP and unix sockets, inherited ones, the accept loop
//! - [`ws`]: the thread of a connection, from the first byte to the careful close
//! - [`service`]: what all connections of a server share
//! - [`gate`]: the checks before the 101, and what every refusal says
//! - [`http`]: request heads, routes, plain answers, static files
//! - [`site`]: which room a request is for and how that room works
//! - [`room`]: who is in, which process answers, what happens when they come and go
//! - [`backend`]: a process and its two threads: output, backlog, life and death
//! - [`clients`], [`slots`]: one client; all open connections
//! - [`framing`]: bytes to messages and back, pure
//! - [`sink`]: queues in front of descriptors, and the streams behind them
//! - [`counters`]: what is counted for the metrics
//! - [`config`], [`recipe`]: what the server was asked to do, and how one room works: plain data
//! - [`log`]: text and JSON lines
//! - [`sys`]: thin wrappers for system calls
#![forbid(unsafe_code)]

pub mod backend;
pub mod cli;
pub mod clients;
pub mod config;
pub mod counters;
pub mod framing;
pub mod gate;
pub mod http;
pub mod listen;
pub mod log;
pub mod percent;
pub mod recipe;
pub mod room;
pub mod server;
pub mod service;
pub mod sink;
pub mod site;
pub mod slots;
pub mod sys;
pub mod ws;
