//! scalesocket: serve any program over websockets, one room per URL path.
//!
//! The map, from the top down; imports point down only:
//!
//! - [`http`]: request heads, routes, responses, files
//! - [`config`]: what the server was asked to do, as plain data
//! - [`log`]: text and JSON lines
//! - [`sys`]: poll, eventfd, pidfd, sockets: thin names over the system
#![forbid(unsafe_code)]

pub mod config;
pub mod http;
pub mod log;
pub mod sys;
