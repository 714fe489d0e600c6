//! Responses to plain requests, with data from the rooms where needed.

use crate::config::{Metrics, Origin};
use crate::counters::Count;
use crate::gate::{Refusal, origin};
use crate::http::api::{self, RoomFacts, Rooms};
use crate::http::head::Head;
use crate::http::metrics::{self, Gauges, Series};
use crate::http::plain;
use crate::http::respond::{Reply, refuse};
use crate::http::route::Plain;
use crate::room::Facts;
use crate::service::Service;
use crate::site::{self, NoRoom};

#[inline(never)]
pub(super) fn reply(service: &Service, head: &Head, what: &Plain) -> Reply {
    match what {
        Plain::OutsideBase => Refusal::from(NoRoom::OutsideBase(service.config.base.clone())).reply(),
        Plain::Options | Plain::Health | Plain::File => {
            let reply = plain::reply(head, what, service.files.as_ref(), &service.config.base);
            if reply.status == 404 { nothing_here(service, head) } else { reply }
        }
        Plain::Metrics => metrics(service),
        Plain::Api(ask) => {
            let table = &service.table;
            let rooms: Rooms = match ask.room() {
                Some(name) => Box::new(table.facts_of(name).into_iter().map(room_facts)),
                None => Box::new(table.facts().map(room_facts)),
            };
            allow_origin(service, head, api::reply(ask, rooms))
        }
    }
}

/// A 404, with a hint if the request was meant to open a websocket.
fn nothing_here(service: &Service, head: &Head) -> Reply {
    let is_room = || service.files.is_none() && site::room(&service.config, head.path()).is_ok();
    if head.is_handshake() || is_room() {
        let hint = "This is a websocket address; a proxy must pass on Upgrade and Connection, in HTTP/1.1";
        return refuse(404, hint);
    }
    refuse(404, "Not found")
}

fn room_facts(facts: Facts) -> RoomFacts {
    RoomFacts { name: facts.name, connections: facts.clients, metadata: facts.metadata }
}

/// Allows pages that may connect to read the response (CORS, Fetch standard).
fn allow_origin(service: &Service, head: &Head, reply: Reply) -> Reply {
    let allowed = &service.config.origin;
    if *allowed == Origin::Any {
        return reply.with("Access-Control-Allow-Origin", "*");
    }
    let reply = reply.with("Vary", "Origin");
    match head.only("origin") {
        Some(page) if origin::check(allowed, head).is_ok() => reply.with("Access-Control-Allow-Origin", page),
        _ => reply,
    }
}

fn metrics(service: &Service) -> Reply {
    let table = &service.table;
    let passed = service.counters.get(Count::MessagesPassed);
    let waiting = table.waiting();
    service.counters.set_read(passed, waiting.unread);
    let state = Gauges {
        rooms: table.name_count(),
        programs: table.processes(),
        connections: service.connections.len(),
        queued: [waiting.clients, waiting.program],
    };
    let rooms = (service.config.metrics == Some(Metrics::Rooms)).then(|| Series {
        joined: Box::new(table.joined()),
        open: Box::new(table.facts().map(|room| (room.name, room.clients as u64))),
    });
    metrics::reply(&service.counters, &state, rooms)
}
