//! HTTP: reading a request's head, deciding what it asks for, answering everything that is not an
//! upgrade. Owns no thread and no state; the connection's thread calls it:
//!
//! - [`receive`]: one head from a socket, under a deadline and a size bound
//! - [`head`]: a head that has been read, as data
//! - [`route`]: what a head asks for; pure
//! - [`subprotocol`]: which subprotocol is spoken; pure
//! - [`plain`]: answers a request that is not an upgrade and says whether the connection goes on
//! - [`respond`]: a response, printed
//! - [`send`]: its bytes, to a peer that may be slow
//! - [`files`]: the files of one directory, for `--staticdir`
//! - [`api`], [`metrics`]: rooms as JSON and counters as OpenMetrics text; pure
//! - [`cgi`]: a request as variables of a program; pure
//! - [`authority`], [`body`]: a host and its port; what follows a response's head

pub mod api;
pub mod authority;
pub mod body;
pub mod cgi;
pub mod files;
pub mod head;
pub mod metrics;
pub mod plain;
pub mod receive;
pub mod respond;
pub mod route;
pub mod send;
pub mod subprotocol;
