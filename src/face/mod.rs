//! The faces of the program: the first one serves rooms, the second one is a drop-in for websocketd. A face says what a
//! request asks for, which recipe its room has, and what is answered and logged. Everything behind it is the same.

pub mod rooms;
#[cfg(feature = "websocketd")]
pub mod websocketd;

use std::net::SocketAddr;

use crate::clients::Client;
use crate::gate::Refusal;
use crate::http::head::Head;
use crate::http::respond::Reply;
use crate::http::route::{Plain, Route};
use crate::recipe::Variables;
use crate::site::Target;

/// A request and where it comes from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub head: &'a Head,
    /// `None` on a unix socket.
    pub peer: Option<SocketAddr>,
    /// Over TLS.
    pub is_secure: bool,
}

/// How a client has left.
#[derive(Debug)]
pub struct Leaving<'a> {
    pub client: &'a Client,
    /// The process that served it, if there was one.
    pub pid: Option<i32>,
    /// The code of the close frame; `None` if there was none.
    pub code: Option<u16>,
    pub reason: &'a str,
}

/// See the module's documentation.
pub trait Face: Send + Sync {
    /// What a request asks for.
    fn route(&self, request: &Request<'_>) -> Result<Route, Refusal>;

    /// The room of a websocket request, before any other check.
    fn target(&self, request: &Request<'_>) -> Result<Target, Refusal>;

    /// The environment of a program that is started for a request, beside the variables that all programs get. Called
    /// only when a program is started.
    fn variables(&self, request: &Request<'_>, target: &Target) -> Variables;

    /// The response to a request that is not an upgrade.
    fn reply(&self, request: &Request<'_>, plain: &Plain) -> Reply;

    /// The response to a request that is refused.
    fn refusal(&self, refusal: &Refusal) -> Reply;

    /// Logs what is served, before the first listener is.
    fn log_start(&self) {}

    /// Logs an address that is listened on, if only to redirect to another port.
    fn log_listening(&self, address: &str, redirects: bool);

    /// Logs a plain request and its response.
    fn log_request(&self, request: &Request<'_>, reply: &Reply);

    /// Logs a refusal; `request` is `None` if its head could not be read.
    fn log_refusal(&self, request: Option<&Request<'_>>, peer: Option<SocketAddr>, refusal: &Refusal);

    /// Logs that a client has joined.
    fn log_joined(&self, client: &Client);

    /// Logs that a client has left.
    fn log_left(&self, leaving: &Leaving<'_>);
}

/// `ip:port`, or `unix:`.
pub fn address(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix:".to_owned(), |peer| peer.to_string())
}
