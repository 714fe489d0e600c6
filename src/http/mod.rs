//! HTTP: reads the head of a request, decides what it asks for, and answers everything that is not an upgrade. It has
//! neither threads nor state; the thread of the connection calls it:
//!
//! - [`receive`]: receives a head, with a deadline and a limit in size
//! - [`head`]: a head as data
//! - [`route`]: what a head asks for; pure
//! - [`subprotocol`]: which subprotocol is chosen; pure
//! - [`plain`]: answers a request that is not an upgrade
//! - [`respond`]: a response, and how it is printed
//! - [`send`]: sends it to a peer that may be slow
//! - [`files`]: static files, for `--staticdir`
//! - [`api`], [`metrics`]: rooms as JSON and counters as OpenMetrics text; pure
//! - [`console`]: the page of `--console`; pure
//! - [`cgi`]: a request as environment variables; pure
//! - [`program`]: runs a CGI program for a request: [`exchange`] moves the bytes, [`chunked`] decodes the body of the
//!   request, [`cgi_head`] reads the head of the response; the last two are pure
//! - [`authority`], [`body`]: a host and its port; the body of a response

pub mod api;
pub mod authority;
pub mod body;
pub mod cgi;
#[cfg(feature = "websocketd")]
pub mod cgi_head;
#[cfg(feature = "websocketd")]
pub mod chunked;
pub mod console;
#[cfg(feature = "websocketd")]
mod exchange;
pub mod files;
pub mod head;
pub mod metrics;
pub mod plain;
#[cfg(feature = "websocketd")]
pub mod program;
pub mod receive;
pub mod respond;
pub mod route;
pub mod send;
pub mod subprotocol;
