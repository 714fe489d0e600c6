//! What the server counts, for the metrics: one table, one atomic each.

use std::sync::atomic::{AtomicU64, Ordering};

/// A thing that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// TCP connections that were accepted.
    Accepted,
    /// Clients that joined a room.
    Joined,
    /// Upgrades refused because the request was bad.
    RefusedBad,
    /// Upgrades refused because of the page they came from.
    RefusedOrigin,
    /// Upgrades and connections refused because a limit was reached.
    RefusedLimit,
    /// Answers to plain requests that were cut off: the client took too little, or the server ended.
    ResponsesCut,
    /// Messages of clients, whatever became of them.
    MessagesReceived,
    /// Their bytes.
    BytesIn,
    /// Messages of clients that were handed over to a program. It may not have read all of them.
    MessagesPassed,
    /// Messages of clients that a program has read: see [`Counters::settle`].
    MessagesIn,
    /// Messages of programs, once each however many get them.
    MessagesOut,
    /// Their bytes, as frames.
    BytesOut,
    /// Messages dropped for clients that were too slow.
    DroppedSlow,
    /// Messages of clients that were no JSON objects.
    DroppedNotJson,
    /// Messages of clients whose program read no more.
    DroppedUnread,
    /// Messages of clients that were handed over to a program which has never read them.
    LostUnread,
    /// Messages of clients that came after the server had closed them.
    DroppedClosed,
    /// Messages of clients that were not for the program (`--input discard`).
    Discarded,
    /// Messages of programs whose header could not be understood.
    DroppedMalformed,
    /// Messages of programs over `--maxline`.
    DroppedOverlong,
    /// What programs said of their rooms and could not be shown.
    DroppedMetadata,
    /// Messages of programs that were not UTF-8, repaired.
    Repaired,
    /// Clients closed because their program ended well.
    ClosedEnd,
    /// Clients closed because the server ended.
    ClosedShutdown,
    /// Clients closed because they broke the protocol (1002, 1007).
    ClosedProtocol,
    /// Clients closed because they sent too much (1009).
    ClosedTooLarge,
    /// Clients closed because there was no memory map for their large message (1013).
    ClosedMaps,
    /// Clients closed because they were idle (1008).
    ClosedIdle,
    /// Clients closed because their program failed (1011).
    ClosedFailure,
    /// Clients closed because they were too slow (1013).
    ClosedSlow,
    /// Clients that closed by themselves.
    ClosedByClient,
    /// Clients that were gone without a close.
    ClosedGone,
    /// Programs that were started.
    Started,
    /// Programs that could not be started.
    StartFailed,
    /// Programs that ended with status 0.
    ExitedWell,
    /// Programs that ended with another status.
    ExitedBadly,
    /// Programs ended by a signal.
    Signalled,
    /// Programs that could not be ended.
    Stuck,
}

/// A family of counters: name without `_total`, what it counts, and its members with their label.
pub type Family = (&'static str, &'static str, &'static [(&'static str, Count)]);

/// All of them, as they are shown.
pub const FAMILIES: [Family; 13] = [
    ("scalesocket_connections_accepted", "TCP connections accepted", &[("", Count::Accepted)]),
    ("scalesocket_clients_joined", "Clients that joined a room", &[("", Count::Joined)]),
    (
        "scalesocket_refusals",
        "Connections and upgrades refused",
        &[
            ("reason=\"bad request\"", Count::RefusedBad),
            ("reason=\"origin\"", Count::RefusedOrigin),
            ("reason=\"limit\"", Count::RefusedLimit),
        ],
    ),
    (
        "scalesocket_responses_cut_off",
        "HTTP responses cut off because the client was too slow or the server shut down",
        &[("", Count::ResponsesCut)],
    ),
    (
        "scalesocket_messages_received",
        "Messages received from clients, whether or not a program has read them",
        &[("", Count::MessagesReceived)],
    ),
    (
        "scalesocket_messages",
        "Messages of clients that a program has read, and messages of programs",
        &[("from=\"client\"", Count::MessagesIn), ("from=\"program\"", Count::MessagesOut)],
    ),
    (
        "scalesocket_message_bytes",
        "Bytes of messages from clients and from programs",
        &[("from=\"client\"", Count::BytesIn), ("from=\"program\"", Count::BytesOut)],
    ),
    (
        "scalesocket_messages_dropped",
        "Messages dropped",
        &[
            ("reason=\"slow client\"", Count::DroppedSlow),
            ("reason=\"not json\"", Count::DroppedNotJson),
            ("reason=\"program reads no more\"", Count::DroppedUnread),
            ("reason=\"not read by the program\"", Count::LostUnread),
            ("reason=\"client was closed\"", Count::DroppedClosed),
            ("reason=\"discarded\"", Count::Discarded),
            ("reason=\"malformed header\"", Count::DroppedMalformed),
            ("reason=\"too long\"", Count::DroppedOverlong),
            ("reason=\"metadata\"", Count::DroppedMetadata),
        ],
    ),
    (
        "scalesocket_messages_repaired",
        "Messages of programs repaired because they were not UTF-8",
        &[("", Count::Repaired)],
    ),
    (
        "scalesocket_closes",
        "Clients disconnected, by reason",
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
        "Programs that ended, by kind of exit",
        &[
            ("kind=\"success\"", Count::ExitedWell),
            ("kind=\"status\"", Count::ExitedBadly),
            ("kind=\"signal\"", Count::Signalled),
            ("kind=\"stuck\"", Count::Stuck),
        ],
    ),
];

/// How many there are.
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
    /// One more.
    pub fn one(&self, count: Count) {
        self.add(count, 1);
    }

    /// So many more.
    pub fn add(&self, count: Count, more: u64) {
        if more > 0 {
            self.0[count as usize].fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Works out how many messages of clients programs have read: `passed` less `unread` and what was lost. Read
    /// `passed` before `unread`: then the result can only be too low, and the next call corrects that. A counter must
    /// not go down.
    pub fn settle(&self, passed: u64, unread: u64) {
        let read = passed.saturating_sub(unread + self.get(Count::LostUnread));
        self.0[Count::MessagesIn as usize].fetch_max(read, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, count: Count) -> u64 {
        // Acquire: what is asked after it is not asked before, see `settle`.
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
