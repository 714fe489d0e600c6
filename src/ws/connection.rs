//! A connection, and what is logged about it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::close::Leave;
use crate::clients::Client;
use crate::config::Level;
use crate::counters::Count;
use crate::gate::Refusal;
use crate::http::head::Head;
use crate::http::respond::Reply;
use crate::http::send::Peer;
use crate::log::Entry;
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
        self.peer.map_or_else(|| "unix:".to_owned(), |peer| peer.to_string())
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

    /// Logs a request and its response: a refused websocket as a warning, all else at debug level. Queries are not
    /// logged, as they can contain tokens.
    pub(super) fn log_request(&self, head: &Head, reply: &Reply) {
        let refused = reply.status >= 400 && head.is_handshake();
        let (level, message) = if refused { (Level::Warn, "refused") } else { (Level::Debug, "request") };
        let line = self.line(level, message).field("method", head.method());
        let line = if refused { line.field("path", head.path()) } else { line.content("path", head.path()) };
        let line = line.number("status", reply.status);
        if refused {
            self.service.counters.one(Count::RefusedBad);
        }
        if reply.status >= 400 { line.field("reason", reply.reason()) } else { line }.write();
    }

    /// Counts and logs a refusal. `room` is empty if unknown.
    pub(super) fn note_refusal(&self, head: Option<&Head>, room: &str, refusal: &Refusal) {
        self.service.counters.one(refusal.count);
        let line = self.line(Level::Warn, "refused").room(room);
        let line = match head {
            Some(head) if room.is_empty() => line.field("path", head.path()),
            _ => line,
        };
        line.number("status", refusal.status).field("reason", &refusal.reason).write();
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

/// Logs that a client has left its room. Bytes are payload in both directions.
pub(super) fn log_left(service: &Service, client: &Client, leave: Leave) {
    let (code, reason) = match (client.closed(), leave) {
        // The server has closed the connection; the client may or may not have answered.
        (Some((1000, reason)), _) if reason.is_empty() => {
            let is_program = service.config.recipe.program().is_some();
            (Some(1000), if is_program { "program ended" } else { "connection ended" }.into())
        }
        (Some((code, reason)), _) => (Some(code), reason),
        (None, Leave::Closed(code)) => (code, "closed by the client".into()),
        (None, Leave::Gone) => (None, "connection ended without a close frame".into()),
        (None, Leave::Silent) => (None, "no answer to a ping".into()),
        (None, Leave::Broken(code, reason)) => (Some(code), reason.into()),
    };
    let sent = client.sink.sent();
    let line = service.log.info("client left").room(&client.room).client(client.id);
    let line = line.field("address", &client.address);
    let line = if let Some(code) = code { line.number("code", code) } else { line };
    line.field("reason", reason)
        .seconds("duration", client.since.elapsed())
        .number("received", client.received.messages.load(Ordering::Relaxed))
        .number("received_bytes", client.received.bytes.load(Ordering::Relaxed))
        .number("sent", sent.messages)
        .number("sent_bytes", sent.bytes)
        .number("dropped", client.dropped.load(Ordering::Relaxed))
        .write();
}
