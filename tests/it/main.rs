//! The promises of `scalesocket`, kept by the real binary over real sockets.
//!
//! Each test is named after what it holds the server to, starts a server of its own on port 0, and waits
//! for events under a generous deadline: the suite must pass on a machine that is busy with something else.
//! Programs are shell scripts (POSIX sh and coreutils), or `testprog` where a shell cannot be one.
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

mod support;

mod accounts;
mod api;
#[cfg(feature = "websocketd")]
mod cgi;
mod cli;
mod closing;
mod connect;
mod console;
mod crash_loop;
mod descriptor_limit;
mod exits;
mod fairness;
mod framings;
mod gwsocket;
mod handshake_queue;
mod history;
mod http;
mod input_grace;
mod joins;
mod json;
mod large_and_late;
mod limits;
mod listening;
mod liveness;
mod log;
mod messages;
mod metrics;
mod program_life;
mod relay;
mod rooms;
mod share;
mod shutdown;
mod shutdown_bounds;
mod standstill;
mod static_files;
mod strangers;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocketd")]
mod websocketd;
#[cfg(feature = "websocketd")]
mod websocketd_cli;
#[cfg(feature = "websocketd")]
mod websocketd_session;

mod load_churn;
mod load_slow;
mod load_volume;
