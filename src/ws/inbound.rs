//! Passes the messages of a client to its program. Messages that arrive in one read of the socket become one write to
//! the program.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::clients::Client;
use crate::config::Level;
use crate::counters::Count;
use crate::framing::heads::Kind;
use crate::framing::input;
use crate::log::Entry;
use crate::recipe::Incoming;
use crate::room::Member;
use crate::service::Service;
use crate::sink::{Messages, Pushed};
use crate::sys::deadline::Deadline;
use crate::sys::poll::poll;

/// The largest batch of messages in bytes.
const BATCH_BYTES: usize = 16 * 1024;

/// A message of this many bytes is passed on alone, without a copy.
const LARGE_MESSAGE: usize = 4 * 1024;

/// The largest number of messages in a batch: the end of each takes memory too.
const MAX_BATCH: usize = 4096;

/// The memory, in bytes, that a client keeps while it is not busy.
const IDLE_MEMORY: usize = 1024;

/// How long the messages of a client that has hung up wait for a program that reads nothing.
const HUNG_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub(super) struct Inbound<'a> {
    service: &'a Service,
    member: &'a Member,
    /// The batch: bytes, and where each message ends in them.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Payload bytes that are not yet counted.
    payload: u64,
    /// A buffer for the framing of a message.
    scratch: Vec<u8>,
    hung_up: Option<Instant>,
}

/// Whether the thread had to wait for the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the client's clocks must be restarted"]
pub(super) enum Waited {
    No,
    Yes,
}

impl<'a> Inbound<'a> {
    pub(super) fn new(service: &'a Service, member: &'a Member) -> Self {
        Self {
            service,
            member,
            bytes: Vec::new(),
            ends: Vec::new(),
            payload: 0,
            scratch: Vec::new(),
            hung_up: None,
        }
    }

    /// Takes a message. It is passed on at once, unless `more` have arrived and it fits into a batch with them.
    pub(super) fn take(&mut self, kind: Kind, message: &[u8], more: bool) -> Waited {
        // A large message is not copied to the batch, which goes first.
        let first = if message.len() >= BATCH_BYTES { self.flush() } else { Waited::No };
        let then = self.take_next(kind, message, more);
        if first == Waited::Yes { first } else { then }
    }

    fn take_next(&mut self, kind: Kind, message: &[u8], more: bool) -> Waited {
        self.payload += message.len() as u64;
        if let Some((count, what)) = dropped_as(self.member.recipe().incoming, kind) {
            self.received(1);
            self.service.counters.one(count);
            if !what.is_empty() {
                self.log_dropped(Level::Debug, what).write();
            }
            return Waited::No;
        }
        let framing = self.member.recipe().framing.input;
        let client = self.member.client().id;
        let sender = input::Sender { id: client, room: &self.member.client().room };
        let Some(parts) = input::parts(framing, sender, kind, message, &mut self.scratch) else {
            self.received(1);
            self.service.counters.one(Count::DroppedNotJson);
            self.log_dropped(Level::Warn, &format!("message dropped: not {}", framing.wants())).write();
            return Waited::No;
        };
        if self.ends.is_empty() && (!more || message.len() >= LARGE_MESSAGE) {
            let ends = [parts[0].len() + parts[1].len()];
            let pushed = pass(self.member, Messages::one(parts, &ends), &mut self.hung_up);
            return self.count(pushed, 1);
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
        let waits = more && self.bytes.len() < BATCH_BYTES && self.ends.len() < MAX_BATCH;
        if waits { Waited::No } else { self.flush() }
    }

    /// Passes on the batch.
    pub(super) fn flush(&mut self) -> Waited {
        if self.ends.is_empty() {
            return Waited::No;
        }
        let messages = Messages { parts: [&self.bytes, b""], ends: &self.ends };
        let pushed = pass(self.member, messages, &mut self.hung_up);
        let all = self.ends.len();
        self.bytes.clear();
        self.ends.clear();
        self.count(pushed, all)
    }

    /// Counts a message that is dropped because the server has closed the connection.
    pub(super) fn count_ignored(&self) {
        self.service.counters.one(Count::MessagesReceived);
        self.service.counters.one(Count::DroppedClosed);
    }

    /// Frees the memory of a client that was busy. The batch must be empty.
    pub(super) fn shrink(&mut self) {
        let ends = self.ends.capacity() * size_of::<usize>();
        if self.bytes.capacity() + self.scratch.capacity() + ends > IDLE_MEMORY {
            (self.bytes, self.scratch, self.ends) = (Vec::new(), Vec::new(), Vec::new());
        }
    }

    /// Counts messages as received, once their result is known.
    fn received(&mut self, messages: usize) {
        let counters = &self.service.counters;
        counters.add(Count::MessagesReceived, messages as u64);
        counters.add(Count::BytesIn, std::mem::take(&mut self.payload));
    }

    /// Counts messages as passed on or dropped.
    fn count(&mut self, pushed: Pushed, messages: usize) -> Waited {
        self.received(messages);
        let counters = &self.service.counters;
        let refused = (messages - pushed.taken) as u64;
        counters.add(Count::MessagesPassed, pushed.taken as u64);
        counters.add(Count::DroppedUnread, refused);
        if refused > 0 {
            self.log_dropped(Level::Warn, "messages dropped: the program reads no more")
                .number("messages", refused)
                .write();
        }
        if pushed.waited { Waited::Yes } else { Waited::No }
    }

    fn log_dropped<'l>(&'l self, level: Level, message: &'l str) -> Entry<'l> {
        let client = self.member.client();
        self.service.log.at(level, message).room(&client.room).client(client.id)
    }
}

/// What a message counts as if it is not passed on whatever the framing says, and what is logged about it, if anything.
fn dropped_as(incoming: Incoming, kind: Kind) -> Option<(Count, &'static str)> {
    match (incoming, kind) {
        (Incoming::Discard, _) => Some((Count::Discarded, "")),
        (Incoming::Only(Kind::Text), Kind::Binary) => Some((Count::DroppedKind, "message dropped: not text")),
        (Incoming::Only(Kind::Binary), Kind::Text) => {
            Some((Count::DroppedKind, "message dropped: not binary"))
        }
        (Incoming::Pass | Incoming::Only(_), _) => None,
    }
}

fn pass(member: &Member, messages: Messages<'_>, hung_up: &mut Option<Instant>) -> Pushed {
    member.input(messages, |moved| is_waiting(member.client(), hung_up, moved))
}

/// Whether a client's messages should go on waiting for the program to read: not if the connection was reset or closed
/// by the server, and not without limit if the client has hung up. `moved` is when the program last read something.
pub(super) fn is_waiting(client: &Client, hung_up: &mut Option<Instant>, moved: Instant) -> bool {
    let mut fds = [PollFd::new(&client.stream, PollFlags::RDHUP)];
    let broken = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    if poll(&mut fds, Deadline::after(Duration::ZERO)).is_err() || fds[0].revents().intersects(broken) {
        return false;
    }
    if fds[0].revents().contains(PollFlags::RDHUP) {
        let since = *hung_up.get_or_insert_with(Instant::now);
        if since.max(moved).elapsed() > HUNG_UP_TIMEOUT {
            return false;
        }
    }
    client.is_open()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_of_the_wanted_kind_are_passed_on() {
        let of = |incoming| [Kind::Text, Kind::Binary].map(|kind| dropped_as(incoming, kind));
        let other = |what| Some((Count::DroppedKind, what));
        assert_eq!(of(Incoming::Pass), [None; 2]);
        assert_eq!(of(Incoming::Discard), [Some((Count::Discarded, "")); 2]);
        assert_eq!(of(Incoming::Only(Kind::Text)), [None, other("message dropped: not text")]);
        assert_eq!(of(Incoming::Only(Kind::Binary)), [other("message dropped: not binary"), None]);
    }
}
