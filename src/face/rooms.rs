//! The first face: each path is a room, and beside the rooms there are API, metrics and static files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Face, Leaving, Request, address};
use crate::clients::Client;
use crate::config::{Config, Level, Metrics, Origin};
use crate::counters::{Count, Counters};
use crate::gate::{Refusal, origin};
use crate::http::api::{self, RoomFacts};
use crate::http::files::FileServer;
use crate::http::head::Head;
use crate::http::metrics::{self, Gauges, Series};
use crate::http::respond::{Reply, refuse};
use crate::http::route::{Offers, Plain, Route, route};
use crate::http::{cgi, console, plain};
use crate::log::Log;
use crate::recipe::{Share, Variables};
use crate::room::{Facts, Table};
use crate::site::{self, NoRoom, Target};
use crate::slots::Slots;

/// See the module's documentation.
pub struct RoomsFace {
    pub config: Arc<Config>,
    pub counters: Arc<Counters>,
    pub log: Log,
    pub table: Arc<Table>,
    pub connections: Arc<Slots>,
    pub files: Option<FileServer>,
}

impl Face for RoomsFace {
    fn route(&self, request: &Request<'_>) -> Result<Route, Refusal> {
        let offers = Offers { api: self.config.api, metrics: self.config.metrics.is_some() };
        let path = site::below(&self.config.base, request.head.path());
        Ok(route(request.head, path, offers)?)
    }

    fn target(&self, request: &Request<'_>) -> Result<Target, Refusal> {
        let room = site::room(&self.config, request.head.path())?;
        Ok(site::target(&self.config, room)?)
    }

    fn variables(&self, request: &Request<'_>, target: &Target) -> Variables {
        let Request { head, peer, .. } = *request;
        let recipe = &target.recipe;
        let mut variables = if recipe.program().is_some_and(|program| program.cgi_environment) {
            cgi::variables(head, peer, request.is_secure)
        } else {
            Vec::new()
        };
        let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.into()));
        if recipe.share != Share::Server {
            set("ROOM", &target.room);
        }
        set("QUERY_STRING", head.query().unwrap_or_default());
        set("REMOTE_ADDR", &address(peer));
        variables
    }

    #[inline(never)]
    fn reply(&self, request: &Request<'_>, plain: &Plain) -> Reply {
        let head = request.head;
        match plain {
            Plain::OutsideBase => Refusal::from(NoRoom::OutsideBase(self.config.base.clone())).reply(),
            Plain::Options | Plain::Health | Plain::File | Plain::Moved(_) => {
                let reply = plain::reply(head, plain, self.files.as_ref(), &self.config.base);
                if reply.status == 404 { self.nothing_here(head) } else { reply }
            }
            Plain::Console => console::reply(self.config.api),
            Plain::Metrics => self.metrics(),
            Plain::Api(ask) => {
                let rooms: api::Rooms = match ask.room() {
                    Some(name) => Box::new(self.table.facts_of(name).into_iter().map(room_facts)),
                    None => Box::new(self.table.facts().map(room_facts)),
                };
                self.allow_origin(head, api::reply(ask, rooms))
            }
        }
    }

    fn refusal(&self, refusal: &Refusal) -> Reply {
        refusal.reply()
    }

    fn log_listening(&self, address: &str, _redirects: bool) {
        let text = format!("listening on {address}");
        let line = self.log.info(&text).json_field("listening", address);
        if self.config.tls.is_some() { line.field("tls", "on") } else { line }.write();
    }

    /// A refused websocket is a warning, all else is logged at debug level. Queries are not logged, as they can contain
    /// tokens.
    fn log_request(&self, request: &Request<'_>, reply: &Reply) {
        let head = request.head;
        let refused = reply.status >= 400 && head.is_handshake();
        let (level, message) = if refused { (Level::Warn, "refused") } else { (Level::Debug, "request") };
        let line = self.log.at(level, message).field("address", address(request.peer));
        let line = line.field("method", head.method());
        let line = if refused { line.field("path", head.path()) } else { line.content("path", head.path()) };
        let line = line.number("status", reply.status);
        if reply.status >= 400 { line.field("reason", reply.reason()) } else { line }.write();
    }

    fn log_refusal(&self, request: Option<&Request<'_>>, peer: Option<SocketAddr>, refusal: &Refusal) {
        let path = request.map(|request| request.head.path());
        let room = path.and_then(|path| site::room(&self.config, path).ok()).unwrap_or_default();
        let line = self.log.warn("refused").field("address", address(peer)).room(room);
        let line = match path {
            Some(path) if room.is_empty() => line.field("path", path),
            _ => line,
        };
        line.number("status", refusal.status).field("reason", &refusal.reason).write();
    }

    fn log_joined(&self, client: &Client) {
        let line = self.log.info("client joined").room(&client.room).client(client.id);
        line.field("address", &client.address).write();
    }

    fn log_left(&self, leaving: &Leaving<'_>) {
        let Leaving { client, code, reason, .. } = leaving;
        let sent = client.sink.sent();
        let line = self.log.info("client left").room(&client.room).client(client.id);
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
}

impl RoomsFace {
    /// The console, or a 404, with a hint if the request was meant to open a websocket.
    fn nothing_here(&self, head: &Head) -> Reply {
        if self.config.console && !head.is_handshake() && self.has_console(head.path()) {
            return console::reply(self.config.api);
        }
        let is_room = || self.files.is_none() && site::room(&self.config, head.path()).is_ok();
        if head.is_handshake() || is_room() {
            let hint =
                "This is a websocket address; a proxy must pass on Upgrade and Connection, in HTTP/1.1";
            return refuse(404, hint);
        }
        refuse(404, "Not found")
    }

    /// Whether the console is served for a path: for the room that it names, and for the start of all paths.
    fn has_console(&self, path: &str) -> bool {
        let room = site::room(&self.config, path);
        matches!(site::below(&self.config.base, path), Some("" | "/"))
            || room.is_ok_and(|room| site::target(&self.config, room).is_ok())
    }

    /// Allows pages that may connect to read the response (CORS, Fetch standard).
    fn allow_origin(&self, head: &Head, reply: Reply) -> Reply {
        let allowed = &self.config.origin;
        if *allowed == Origin::Any {
            return reply.with("Access-Control-Allow-Origin", "*");
        }
        let reply = reply.with("Vary", "Origin");
        match head.only("origin") {
            Some(page) if origin::check(allowed, head).is_ok() => {
                reply.with("Access-Control-Allow-Origin", page)
            }
            _ => reply,
        }
    }

    fn metrics(&self) -> Reply {
        let table = &self.table;
        let passed = self.counters.get(Count::MessagesPassed);
        let waiting = table.waiting();
        self.counters.set_read(passed, waiting.unread);
        let state = Gauges {
            rooms: table.name_count(),
            programs: table.processes(),
            connections: self.connections.len(),
            queued: [waiting.clients, waiting.program],
        };
        let rooms = (self.config.metrics == Some(Metrics::Rooms)).then(|| Series {
            joined: Box::new(table.joined()),
            open: Box::new(table.facts().map(|room| (room.name, room.clients as u64))),
        });
        metrics::reply(&self.counters, &state, rooms)
    }
}

fn room_facts(facts: Facts) -> RoomFacts {
    RoomFacts { name: facts.name, connections: facts.clients, metadata: facts.metadata }
}
