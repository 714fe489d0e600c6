//! What a client does, once it is in: each message that it sends goes straight to the program, one blocking read
//! after the other. What the program says never passes through here.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::close::Leave;
use super::inbound::{Inbound, Waited};
use super::liveness::Clock;
use super::stream::{Item, MessageStream};
use crate::room::Member;
use crate::service::Service;

/// The loop of a client: a message in, a line to the program.
///
/// Not inlined: it may run for days, and the stack above it decides how much memory an idle client takes.
#[inline(never)]
pub(super) fn converse(service: &Service, member: &Member, rest: Vec<u8>) -> Leave {
    let client = member.client();
    let mut stream = MessageStream::new(service, member, rest);
    let mut inbound = Inbound::new(service, member);
    let mut clock = Clock::new(service);
    let leave = loop {
        if stream.needs_renewal() {
            stream.renew();
        }
        // What has come already is read without waiting.
        if !stream.has_more() {
            if inbound.flush() == Waited::Yes {
                clock.liveness.stood_still(Instant::now());
            }
            if !stream.reader().is_busy() {
                inbound.shrink();
                stream.reader().give_back_maps();
            }
            if client.has_vanished() {
                break Leave::Silent;
            }
            if let Some(leave) = clock.look(service, member, stream.reader()) {
                break leave;
            }
        }
        let (kind, message) = match stream.read() {
            Item::Message(kind, message) => (kind, message),
            Item::Nothing => continue,
            Item::End(leave) => break leave,
        };
        clock.liveness.message(stream.heard());
        if !client.is_open() {
            // The server has closed already: what comes now is not for the program.
            inbound.ignore();
            continue;
        }
        client.received.messages.fetch_add(1, Ordering::Relaxed);
        client.received.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
        if inbound.take(kind, &message, stream.has_more()) == Waited::Yes {
            clock.liveness.stood_still(Instant::now());
        }
    };
    let _ = inbound.flush();
    leave
}
