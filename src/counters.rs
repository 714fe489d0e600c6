//! The counters of the metrics: one table, one atomic each.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter. See [`FAMILIES`] for what each one shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    Accepted,
    Joined,
    RefusedBad,
    RefusedOrigin,
    RefusedLimit,
    ResponsesCut,
    MessagesReceived,
    BytesIn,
    /// Messages of clients that were written to a backend, which may not have read them yet. Not shown.
    MessagesPassed,
    /// Messages of clients that a backend has read: see [`Counters::set_read`].
    MessagesIn,
    /// Each message of a backend counts once, however many clients get it.
    MessagesOut,
    /// As frames.
    BytesOut,
    DroppedSlow,
    /// Not a JSON object, where the framing wants one.
    DroppedNotJson,
    /// The backend had stopped reading when the message came.
    DroppedUnread,
    /// The message was written to a backend that never read it.
    LostUnread,
    /// The message came after the server had closed the client.
    DroppedClosed,
    /// With `--input discard`.
    Discarded,
    /// Text where only binary messages are passed on, or the reverse.
    DroppedKind,
    DroppedMalformed,
    /// Longer than `--maxline`.
    DroppedOverlong,
    DroppedMetadata,
    Repaired,
    ClosedEnd,
    ClosedShutdown,
    /// Close codes 1002 and 1007.
    ClosedProtocol,
    ClosedTooLarge,
    /// No memory map was free for a large message (1013).
    ClosedMaps,
    ClosedIdle,
    ClosedFailure,
    ClosedSlow,
    ClosedByClient,
    /// The connection ended without a close frame.
    ClosedGone,
    Started,
    StartFailed,
    ExitedWell,
    ExitedBadly,
    Signalled,
    Stuck,
}

/// A metric: its name without `_total`, its help text, and its counters with their labels.
pub type Family = (&'static str, &'static str, &'static [(&'static str, Count)]);

/// All counters as they are shown.
pub const FAMILIES: [Family; 13] = [
    ("scalesocket_connections_accepted", "Connections accepted", &[("", Count::Accepted)]),
    ("scalesocket_clients_joined", "Clients that have joined a room", &[("", Count::Joined)]),
    (
        "scalesocket_refusals",
        "Connections and websocket upgrades refused, by reason",
        &[
            ("reason=\"bad request\"", Count::RefusedBad),
            ("reason=\"origin\"", Count::RefusedOrigin),
            ("reason=\"limit\"", Count::RefusedLimit),
        ],
    ),
    (
        "scalesocket_responses_cut_off",
        "HTTP responses cut off, because the client was too slow or the server shut down",
        &[("", Count::ResponsesCut)],
    ),
    (
        "scalesocket_messages_received",
        "Messages received from clients, dropped ones included",
        &[("", Count::MessagesReceived)],
    ),
    (
        "scalesocket_messages",
        "Messages of clients that a program has read, and messages of programs, each once however many clients get it",
        &[("from=\"client\"", Count::MessagesIn), ("from=\"program\"", Count::MessagesOut)],
    ),
    (
        "scalesocket_message_bytes",
        "Bytes of messages received from clients, and of websocket frames made from the messages of programs",
        &[("from=\"client\"", Count::BytesIn), ("from=\"program\"", Count::BytesOut)],
    ),
    (
        "scalesocket_messages_dropped",
        "Messages dropped, by reason",
        &[
            ("reason=\"slow client\"", Count::DroppedSlow),
            ("reason=\"not json\"", Count::DroppedNotJson),
            ("reason=\"program reads no more\"", Count::DroppedUnread),
            ("reason=\"not read by the program\"", Count::LostUnread),
            ("reason=\"client was closed\"", Count::DroppedClosed),
            ("reason=\"discarded\"", Count::Discarded),
            ("reason=\"wrong kind\"", Count::DroppedKind),
            ("reason=\"malformed header\"", Count::DroppedMalformed),
            ("reason=\"too long\"", Count::DroppedOverlong),
            ("reason=\"metadata\"", Count::DroppedMetadata),
        ],
    ),
    (
        "scalesocket_messages_repaired",
        "Text messages of programs that were not valid UTF-8, in which bad bytes were replaced",
        &[("", Count::Repaired)],
    ),
    (
        "scalesocket_closes",
        "Clients that have left, by reason",
        &[
            ("reason=\"program ended\"", Count::ClosedEnd),
            ("reason=\"program failed\"", Count::ClosedFailure),
            ("reason=\"shutdown\"", Count::ClosedShutdown),
            ("reason=\"protocol\"", Count::ClosedProtocol),
            ("reason=\"too large\"", Count::ClosedTooLarge),
            ("reason=\"out of memory maps\"", Count::ClosedMaps),
            ("reason=\"idle\"", Count::ClosedIdle),
            ("reason=\"slow\"", Count::ClosedSlow),
            ("reason=\"client\"", Count::ClosedByClient),
            ("reason=\"gone\"", Count::ClosedGone),
        ],
    ),
    ("scalesocket_program_starts", "Programs started", &[("", Count::Started)]),
    ("scalesocket_program_start_failures", "Programs that could not be started", &[("", Count::StartFailed)]),
    (
        "scalesocket_program_exits",
        "Programs that have ended, by kind of exit (stuck: killed, but not gone)",
        &[
            ("kind=\"success\"", Count::ExitedWell),
            ("kind=\"status\"", Count::ExitedBadly),
            ("kind=\"signal\"", Count::Signalled),
            ("kind=\"stuck\"", Count::Stuck),
        ],
    ),
];

const COUNTS: usize = Count::Stuck as usize + 1;

/// One server's counters.
#[derive(Debug)]
pub struct Counters([AtomicU64; COUNTS]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    pub fn one(&self, count: Count) {
        self.add(count, 1);
    }

    pub fn add(&self, count: Count, more: u64) {
        if more > 0 {
            self.0[count as usize].fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Sets how many messages of clients backends have read: `passed` less `unread` and those that were lost. Read
    /// `passed` before `unread`: then the result can only be too low, and the next call corrects it. A counter must not
    /// go down.
    pub fn set_read(&self, passed: u64, unread: u64) {
        let read = passed.saturating_sub(unread + self.get(Count::LostUnread));
        self.0[Count::MessagesIn as usize].fetch_max(read, Ordering::Relaxed);
    }

    pub fn get(&self, count: Count) -> u64 {
        // Acquire: what the caller reads next is not read before this. See `set_read`.
        self.0[count as usize].load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_shown_once() {
        let mut shown: Vec<_> = FAMILIES
            .iter()
            .flat_map(|(_, _, members)| members.iter().map(|(_, count)| *count as usize))
            .collect();
        shown.sort_unstable();
        let all = (0..COUNTS).filter(|&count| count != Count::MessagesPassed as usize);
        assert_eq!(shown, all.collect::<Vec<_>>());
    }
}
