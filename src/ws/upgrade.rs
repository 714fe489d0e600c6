//! From a request for a room to a member of it: the checks before the 101, and the joining after it.

use std::fmt::Display;
use std::sync::Arc;

use super::close;
use super::connection::Connection;
use super::inbound::still_there;
use crate::clients::Client;
use crate::counters::Count;
use crate::http::head::Head;
use crate::http::respond::{Reply, refuse, refuse_for, switching_protocols};
use crate::http::route::UpgradeRequest;
use crate::http::{cgi, origin, plain, subprotocol};
use crate::room::{JoinError, Member, ReserveError, Room};
use crate::sink::CloseOrder;
use crate::sys::threads::set_name;

/// A request for a room: checked, given a slot, switched over, joined. Not in line, as what comes after it: the
/// deepest of them decides how many pages of its stack each client keeps.
#[inline(never)]
pub(super) fn upgrade(connection: &Connection<'_>, head: &Head, request: UpgradeRequest) -> Option<Member> {
    let Connection { service, stream, peer, slot: connection_slot } = *connection;
    let refuse_with = |reply: Reply, reason: &dyn Display, count: Count| {
        // First of all: whoever reads the refusal may come again at once.
        connection_slot.give_address_back();
        service.counters.one(count);
        connection.log_refusal(&request.room, reply.status, &reason.to_string());
        let _ = plain::answer(connection.http(), head, reply, true);
        None
    };
    if let Err(refused) = origin::check(&service.config.origin, head) {
        return refuse_with(refuse(403, "Origin not allowed"), &refused, Count::RefusedOrigin);
    }
    if let (Some(most), Some(peer)) = (service.config.limits.address_clients, peer)
        && !connection_slot.claim_address(peer.ip(), most)
    {
        let reason = "Too many clients from this address";
        return refuse_with(refuse(429, reason), &reason, Count::RefusedLimit);
    }
    let slot = match service.table.reserve(&request.room) {
        Ok(slot) => slot,
        Err(e @ ReserveError::NotAllowed) => {
            return refuse_with(refuse(400, &e.to_string()), &e, Count::RefusedBad);
        }
        Err(e) => {
            let reply = match e {
                ReserveError::Failing(_, pause) => refuse_for(&e.to_string(), pause),
                _ => refuse(503, &e.to_string()),
            };
            return refuse_with(reply, &e, Count::RefusedLimit);
        }
    };
    let address = connection.address();
    let protocol = subprotocol::choose(&request.protocols, &service.config.protocols);
    let answer = switching_protocols(&request.accept, protocol);
    connection_slot.is_upgraded();
    let client = || {
        let id = service.next_id();
        let client = Client::new(
            id,
            request.room.as_str().into(),
            address,
            request.query,
            Arc::clone(stream),
            service.config.recipe.max_queue,
        );
        // It leaves when the client is on the room's list, so that it misses nothing that is said once it
        // knows that it is in.
        client.sink.queue_handshake(answer);
        Arc::new(client)
    };
    let mut hung_up = None;
    let cgi = || {
        if service.config.recipe.program().is_some_and(|program| program.cgi_environment) {
            cgi::variables(head, peer)
        } else {
            Vec::new()
        }
    };
    let stay = |client: &Arc<Client>, moved| still_there(client, &mut hung_up, moved);
    let (client, joined) = Room::join(slot, client, &cgi, stay);
    let id = client.id;
    let e = match joined {
        Ok(member) => {
            set_name(&format!("conn {id}"));
            return Some(member);
        }
        Err(e) => e,
    };
    let (code, count) = match e {
        JoinError::ShuttingDown => (1001, Count::ClosedShutdown),
        JoinError::Gone => (1011, Count::ClosedGone),
        JoinError::Start(_) | JoinError::Stuck | JoinError::Failing(_) => (1011, Count::ClosedFailure),
    };
    service.counters.one(count);
    let _ = client.close(code, &e.to_string(), CloseOrder::DropQueue);
    service
        .log
        .warn("client refused")
        .room(&request.room)
        .client(id)
        .field("address", &client.address)
        .number("code", code)
        .field("reason", e)
        .write();
    close::finish(service, &client);
    None
}
