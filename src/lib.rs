//! scalesocket: serve any program over websockets, one room per URL path.
//!
//! The map, from the top down; imports point down only:
//!
//! - [`cli`]: the command line: one table of flags and its renderings; makes a `Config`
//! - [`config`]: what the server was asked to do, as plain data
//! - [`log`]: text and JSON lines
//! - [`sys`]: poll, eventfd, pidfd, sockets: thin names over the system
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod log;
pub mod sys;
