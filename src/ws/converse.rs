//! The loop of a client that has joined its room: reads a message and passes it to the program. Output of the program
//! does not pass through this thread.

use std::sync::atomic::Ordering;

use super::close::Leave;
use super::inbound::Inbound;
use super::liveness::Clock;
use super::stream::{Item, MessageStream};
use crate::room::Member;
use crate::service::Service;

/// Runs until the client leaves.
///
/// Not inlined: it can run for days, and the stack above it determines the memory of an idle client.
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
        // Messages that have already arrived are read first.
        if !stream.has_more() {
            clock.restart_after(inbound.flush());
            if !stream.reader().is_busy() {
                inbound.shrink();
                stream.reader().give_back_maps();
            }
            if client.has_vanished() {
                break Leave::Silent;
            }
            if let Some(leave) = clock.check(service, member, stream.reader()) {
                break leave;
            }
        }
        let (kind, message) = match stream.read() {
            Item::Message(kind, message) => (kind, message),
            Item::Nothing => continue,
            Item::End(leave) => break leave,
        };
        clock.liveness.message(stream.reader().heard());
        if !client.is_open() {
            // The server has closed the connection: the program does not get this message.
            inbound.count_ignored();
            continue;
        }
        client.received.messages.fetch_add(1, Ordering::Relaxed);
        client.received.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
        clock.restart_after(inbound.take(kind, &message, stream.has_more()));
    };
    let _ = inbound.flush();
    leave
}
