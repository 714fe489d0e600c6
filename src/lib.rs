//! scalesocket: serve any program over websockets, one room per URL path.
//!
//! The map, from the top down; imports point down only:
//!
//! - [`config`]: what the server was asked to do, as plain data
//! - [`log`]: text and JSON lines
//! - [`sys`]: poll, eventfd, pidfd, sockets: thin names over the system
#![forbid(unsafe_code)]

pub mod child;
pub mod client;
pub mod config;
pub mod framing;
pub mod log;
pub mod room;
pub mod sink;
pub mod sys;
