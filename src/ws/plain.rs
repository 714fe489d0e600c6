//! What a plain request is answered with: the one place where HTTP meets rooms.

use crate::config::{Metrics, Origin};
use crate::counters::Count;
use crate::http::api::{self, RoomFacts};
use crate::http::head::Head;
use crate::http::metrics::{self, State};
use crate::http::respond::Reply;
use crate::http::route::Plain;
use crate::http::{origin, plain};
use crate::room::Facts;
use crate::service::Service;

/// The answer to a plain request.
pub(super) fn reply(service: &Service, head: &Head, what: &Plain) -> Reply {
    match what {
        Plain::Health | Plain::File => plain::reply(head, what, service.files.as_ref()),
        Plain::Metrics => metrics::reply(&service.counters, &state(service)),
        Plain::Api(ask) => {
            let rooms: Vec<RoomFacts> = match ask.room() {
                Some(name) => service.table.facts_of(name).into_iter().map(room_facts).collect(),
                None => service.table.facts().into_iter().map(room_facts).collect(),
            };
            allow_origin(service, head, api::reply(ask, &rooms))
        }
    }
}

fn room_facts(facts: Facts) -> RoomFacts {
    let text = |bytes: std::sync::Arc<[u8]>| String::from_utf8_lossy(&bytes).into_owned();
    RoomFacts { name: facts.name.to_string(), connections: facts.clients, metadata: facts.metadata.map(text) }
}

/// A page that may connect may also read (CORS, Fetch standard).
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

fn state(service: &Service) -> State {
    let per_room = service.config.metrics == Some(Metrics::Rooms);
    let passed = service.counters.get(Count::MessagesPassed);
    let (rooms, past) =
        if per_room { service.table.facts_and_past() } else { (service.table.facts(), Vec::new()) };
    service.counters.settle(passed, rooms.iter().map(|room| room.unread).sum());
    let sum = |index: usize| rooms.iter().map(|room| room.queued[index]).sum();
    let mut state = State {
        rooms: rooms.len(),
        programs: service.table.programs(),
        connections: service.connections.len(),
        queued: [sum(0), sum(1)],
        per_room: Vec::new(),
    };
    if per_room {
        state.per_room = rooms
            .iter()
            .map(|room| (room.name.to_string(), Some(room.clients), room.joined))
            .chain(past.into_iter().map(|(name, joined)| (name, None, joined)))
            .collect();
    }
    state
}
