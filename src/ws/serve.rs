//! The thread of a connection: serves requests until one is an upgrade or the connection ends.

use std::net::SocketAddr;
use std::sync::Arc;

use super::close;
use super::connection::{Connection, log_left};
use super::converse::converse;
use super::upgrade::upgrade;
use crate::counters::Count;
use crate::gate::Refusal;
use crate::http::head::HeadError;
use crate::http::plain::{KEEP_ALIVE, MAX_REQUESTS, Next, answer, answer_and_end};
#[cfg(feature = "websocketd")]
use crate::http::program::{self, SILENCE};
use crate::http::receive::receive;
use crate::http::route::{Plain, Route, other_port};
use crate::service::Service;
use crate::sink::Stream;
use crate::slots::ConnectionSlot;
use crate::sys::deadline::Deadline;

/// Serves a connection to its end. `peer` is `None` on a unix socket; with `redirect` all requests are redirected to that
/// port.
pub fn serve(
    service: &Arc<Service>,
    stream: &Arc<Stream>,
    peer: Option<SocketAddr>,
    slot: &ConnectionSlot,
    redirect: Option<u16>,
) {
    let connection = Connection { service, stream, peer, slot };
    let mut rest = Vec::new();
    for number in 1..=MAX_REQUESTS {
        // `--handshaketimeout` limits the wait for the first request, KEEP_ALIVE the wait for each further one.
        if number > 1 && rest.is_empty() && !stream.is_readable_by(Deadline::after(KEEP_ALIVE)) {
            return;
        }
        let deadline = Deadline::after(service.config.times.handshake);
        let head = match receive(stream, rest, deadline) {
            Ok((head, behind)) => {
                rest = behind;
                head
            }
            Err(e) => return refuse_head(&connection, &e, number),
        };
        slot.mark_asked();
        // Only the face of websocketd redirects.
        let route = match redirect.filter(|_| cfg!(feature = "websocketd")) {
            Some(port) => other_port(&head, service.config.tls.is_some(), port)
                .map(|place| Route::Plain(Plain::Moved(place)))
                .ok_or_else(|| Refusal::new(400, "Bad Request", Count::RefusedBad)),
            None => service.face.route(&connection.request(&head)),
        };
        let reply = match route {
            Ok(Route::Upgrade(request)) => {
                let member = upgrade(&connection, &head, request);
                // The client can stay for days, and the request is no longer needed.
                drop(head);
                if let Some(member) = member {
                    let leave = converse(service, &member, rest);
                    let (client, recipe, pid) =
                        (Arc::clone(member.client()), Arc::clone(member.recipe()), member.pid());
                    // Leaves the room, which must not wait for the closing handshake.
                    drop(member);
                    log_left(service, &client, &recipe, pid, leave);
                    close::end_client(service, &client, leave);
                }
                return;
            }
            #[cfg(feature = "websocketd")]
            Ok(Route::Program(call)) => match service.table.reserve_process() {
                Ok(_slot) => {
                    let http = connection.http();
                    let last = number == MAX_REQUESTS || http.cutoff.get().is_some();
                    match program::run(http, &head, rest, &call, service.table.shared(), last, SILENCE) {
                        Ok(Some(behind)) => rest = behind,
                        Ok(None) => return,
                        Err(e) => return connection.log_unsent(&head, &e),
                    }
                    continue;
                }
                Err(e) => {
                    let refusal = Refusal::from(e);
                    connection.note_refusal(Some(&head), &refusal);
                    service.face.refusal(&refusal)
                }
            },
            Ok(Route::Plain(what)) => service.face.reply(&connection.request(&head), &what),
            Err(refusal) => service.face.refusal(&refusal),
        };
        connection.log_request(&head, &reply);
        let http = connection.http();
        let last = number == MAX_REQUESTS || http.cutoff.get().is_some();
        match answer(http, &head, reply, last) {
            Ok(Next::KeepAlive) => {}
            Ok(Next::Close) => return,
            Err(e) => return connection.log_unsent(&head, &e),
        }
    }
}

/// Handles a head that could not be read.
fn refuse_head(connection: &Connection<'_>, error: &HeadError, number: usize) {
    if let Some(refusal) = Refusal::of_head(error) {
        connection.note_refusal(None, &refusal);
        // It fails if the peer is gone.
        let _ = answer_and_end(connection.http(), connection.service.face.refusal(&refusal));
    } else if number == 1 || !matches!(error, HeadError::Closed | HeadError::Idle) {
        connection.log_silence(&error.to_string());
    }
}
