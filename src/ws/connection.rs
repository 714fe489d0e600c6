//! A connection, and what is logged about it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::close::Leave;
use crate::clients::Client;
use crate::config::Level;
use crate::counters::Count;
use crate::face::{Leaving, Request, address};
use crate::gate::Refusal;
use crate::http::head::Head;
use crate::http::respond::Reply;
use crate::http::send::Peer;
use crate::log::Entry;
use crate::recipe::Recipe;
use crate::service::Service;
use crate::sink::Stream;
use crate::slots::ConnectionSlot;

/// An open connection, whatever it asks for.
pub(super) struct Connection<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) stream: &'a Arc<Stream>,
    /// None on a unix socket.
    pub(super) peer: Option<SocketAddr>,
    pub(super) slot: &'a ConnectionSlot,
}

impl Connection<'_> {
    /// `ip:port`, or `unix:`.
    pub(super) fn address(&self) -> String {
        address(self.peer)
    }

    pub(super) fn http(&self) -> Peer<'_> {
        Peer {
            stream: self.stream,
            cutoff: self.service.connections.cutoff(),
            more: &self.service.config.headers.http,
        }
    }

    fn line<'l>(&'l self, level: Level, message: &'l str) -> Entry<'l> {
        self.service.log.at(level, message).field("address", self.address())
    }

    pub(super) fn request<'h>(&self, head: &'h Head) -> Request<'h> {
        Request { head, peer: self.peer, is_secure: self.stream.is_secure() }
    }

    /// Logs a request and its response.
    pub(super) fn log_request(&self, head: &Head, reply: &Reply) {
        if reply.status >= 400 && head.is_handshake() {
            self.service.counters.one(Count::RefusedBad);
        }
        self.service.face.log_request(&self.request(head), reply);
    }

    /// Counts and logs a refusal.
    pub(super) fn note_refusal(&self, head: Option<&Head>, refusal: &Refusal) {
        self.service.counters.one(refusal.count);
        let request = head.map(|head| self.request(head));
        self.service.face.log_refusal(request.as_ref(), self.peer, refusal);
    }

    pub(super) fn log_silence(&self, reason: &str) {
        self.line(Level::Debug, "connection without a request").field("reason", reason).write();
    }

    /// Logs a response that was not sent to its end.
    pub(super) fn log_unsent(&self, head: &Head, error: &io::Error) {
        let level = if error.kind() == io::ErrorKind::TimedOut {
            self.service.counters.one(Count::ResponsesCut);
            Level::Info
        } else {
            // The client has closed the connection.
            Level::Debug
        };
        self.line(level, "response cut off").field("path", head.path()).field("reason", error).write();
    }
}

/// Logs that a client has left its room, whose recipe and process these were.
pub(super) fn log_left(service: &Service, client: &Client, recipe: &Recipe, pid: Option<i32>, leave: Leave) {
    let (code, reason) = match (client.closed(), leave) {
        // The server has closed the connection; the client may or may not have answered.
        (Some((1000, reason)), _) if reason.is_empty() => {
            let is_program = recipe.program().is_some();
            (Some(1000), if is_program { "program ended" } else { "connection ended" }.into())
        }
        (Some((code, reason)), _) => (Some(code), reason),
        (None, Leave::Closed(code)) => (code, "closed by the client".into()),
        (None, Leave::Gone) => {
            let failure = client.stream.failure();
            (None, failure.unwrap_or_else(|| "connection ended without a close frame".to_owned()).into())
        }
        (None, Leave::Silent) => (None, "no answer to a ping".into()),
        (None, Leave::Broken(code, reason)) => (Some(code), reason.into()),
    };
    service.face.log_left(&Leaving { client, pid, code, reason: &reason });
}
