//! From a request for a room to a member of it: the checks before the 101, and the join after it.

use std::sync::Arc;

use super::close;
use super::connection::Connection;
use super::inbound::is_waiting;
use crate::clients::Client;
use crate::counters::Count;
use crate::framing::notices::Notices;
use crate::gate::{self, Refusal, Visit};
use crate::http::head::Head;
use crate::http::respond::switching_protocols;
use crate::http::route::UpgradeRequest;
use crate::http::{cgi, plain, subprotocol};
use crate::room::{EntryError, Member, RoomSlot};
use crate::sink::{CloseOrder, Stream};
use crate::site::Target;
use crate::sys::threads::set_name;

/// The longest header field, in bytes, that is kept for the join and leave messages of a client.
const MAX_KEPT_FIELD: usize = 4096;

/// Checks a request for a room, reserves a slot, sends the 101 and joins the room.
///
/// Not inlined, as are the functions below: the deepest determines how many pages of stack each client keeps.
#[inline(never)]
pub(super) fn upgrade(connection: &Connection<'_>, head: &Head, request: UpgradeRequest) -> Option<Member> {
    match admit(connection, head) {
        Ok((target, slot)) => join(connection, head, request, &target, slot),
        Err(refusal) => {
            refuse(connection, head, &refusal);
            None
        }
    }
}

#[inline(never)]
fn refuse(connection: &Connection<'_>, head: &Head, refusal: &Refusal) {
    // First: a client that gets the refusal may try again at once.
    connection.slot.give_address_back();
    connection.note_refusal(Some(head), refusal);
    let _ = plain::answer(connection.http(), head, connection.service.face.refusal(refusal), true);
}

/// All checks of a request, in this order: the room's name, the gate, the limits of rooms.
#[inline(never)]
fn admit(connection: &Connection<'_>, head: &Head) -> Result<(Target, RoomSlot), Refusal> {
    let Connection { service, peer, slot, .. } = *connection;
    let target = service.face.target(&connection.request(head))?;
    gate::check(&mut Visit { config: &service.config, head, peer, slot })?;
    let slot = service.table.reserve(&target)?;
    Ok((target, slot))
}

/// The header fields that the join and leave messages use. The client keeps them as long as it stays.
fn headers(connection: &Connection<'_>, head: &Head, notices: &Notices) -> Vec<(String, String)> {
    let mut fields = cgi::fields(head, |name| notices.header_names().any(|wanted| wanted == name));
    fields.retain(|(name, value)| {
        let fits = value.len() <= MAX_KEPT_FIELD;
        if !fits {
            let line = connection.service.log.warn("header field left out of the join message");
            line.field("name", name).number("bytes", value.len()).number("most", MAX_KEPT_FIELD).write();
        }
        fits
    });
    fields.into_iter().map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect()
}

/// Sends the 101 and joins the room. From here on a failure is reported in a close frame.
fn join(
    connection: &Connection<'_>,
    head: &Head,
    request: UpgradeRequest,
    target: &Target,
    slot: RoomSlot,
) -> Option<Member> {
    connection.slot.mark_upgraded();
    let prepared = prepare(connection, head, request, target);
    let client = || prepared.client(connection.service.next_id());
    let mut hung_up = None;
    let face = &connection.service.face;
    let variables = || face.variables(&connection.request(head), target);
    let stay = |client: &Arc<Client>, moved| is_waiting(client, &mut hung_up, moved);
    let (client, joined) = slot.join(client, &variables, stay);
    match joined {
        Ok(member) => {
            face.log_joined(&client);
            set_name(&format!("conn {}", client.id));
            Some(member)
        }
        Err(e) => {
            close(connection, &client, &e);
            None
        }
    }
}

/// All of a client but its id, and the 101: made before the room is locked.
struct Prepared {
    room: Arc<str>,
    address: String,
    query: String,
    headers: Vec<(String, String)>,
    stream: Arc<Stream>,
    max_queue: usize,
    answer: Vec<u8>,
}

#[inline(never)]
fn prepare(connection: &Connection<'_>, head: &Head, request: UpgradeRequest, target: &Target) -> Prepared {
    let config = &connection.service.config;
    let protocol = subprotocol::choose(&request.protocols, &config.protocols);
    Prepared {
        room: Arc::clone(&target.room),
        address: connection.address(),
        query: request.query,
        headers: headers(connection, head, &target.recipe.notices),
        stream: Arc::clone(connection.stream),
        max_queue: target.recipe.max_queue,
        answer: switching_protocols(&request.accept, protocol, &config.headers.ws),
    }
}

impl Prepared {
    fn client(self, id: u64) -> Arc<Client> {
        let Self { room, address, query, headers, stream, max_queue, answer } = self;
        let client = Client::new(id, room, address, query, headers, stream, max_queue);
        // It is sent when the client is in the room's list, so that a client that has the 101 misses no message.
        client.sink.queue_handshake(answer);
        Arc::new(client)
    }
}

/// Closes a client that was upgraded and could not join.
#[inline(never)]
fn close(connection: &Connection<'_>, client: &Arc<Client>, e: &EntryError) {
    let service = connection.service;
    let (code, count) = match e {
        EntryError::ShuttingDown => (1001, Count::ClosedShutdown),
        EntryError::Gone => (1011, Count::ClosedGone),
        _ => (1011, Count::ClosedFailure),
    };
    service.counters.one(count);
    let _ = client.close(code, &e.to_string(), CloseOrder::DropQueue);
    service
        .log
        .warn("client refused")
        .room(&client.room)
        .client(client.id)
        .field("address", &client.address)
        .number("code", code)
        .field("reason", e)
        .write();
    close::finish(service, client);
}
