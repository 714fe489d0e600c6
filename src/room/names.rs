//! The keys and names of rooms, and what is counted for a name.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::failures::Failures;
use crate::backend::Outcome;
use crate::sys::lock;

/// The first segment of a path, as it was sent.
pub(super) type RoomName = Arc<str>;

/// The key of a room in the table: clients with the same key share a room. This is all that the table knows of
/// `--share`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Name(RoomName),
    /// A room of one client. The number is used once, so no other client finds it.
    Client(u64),
    Server,
}

/// The counts of one name. They change under the lock of a room or of the table; they are atomic because several rooms
/// may have the same name.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) text: RoomName,
    /// Members, and clients about to join. Taken only while the table is locked.
    slots: AtomicUsize,
    /// Members.
    pub(super) clients: AtomicUsize,
    /// Clients that have ever joined.
    pub(super) joined: AtomicU64,
    /// Rooms that have this name.
    pub(super) rooms: AtomicUsize,
    /// Counted by name: a page that reconnects again and again is slowed down even if each client has its own process.
    pub(super) failures: SharedFailures,
}

impl Name {
    pub(super) fn new(text: RoomName, joined: u64, failures: Failures) -> Self {
        Self {
            text,
            slots: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            joined: AtomicU64::new(joined),
            rooms: AtomicUsize::new(0),
            failures: SharedFailures::new(failures),
        }
    }

    pub(super) fn is_full(&self, most: Option<usize>) -> bool {
        most.is_some_and(|most| self.slots.load(Ordering::SeqCst) >= most)
    }

    pub(super) fn take_slot(&self) {
        self.slots.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn give_back_slot(&self) {
        self.slots.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether no client and no room has it.
    pub(super) fn is_unused(&self) -> bool {
        self.slots.load(Ordering::SeqCst) == 0 && self.rooms.load(Ordering::SeqCst) == 0
    }
}

/// The failures of all programs with one name. Its lock is the innermost one.
#[derive(Debug, Clone)]
pub(super) struct SharedFailures(Arc<Mutex<Failures>>);

impl SharedFailures {
    pub(super) fn new(failures: Failures) -> Self {
        Self(Arc::new(Mutex::new(failures)))
    }

    pub(super) fn get(&self) -> Failures {
        *lock(&self.0)
    }

    pub(super) fn note(&self, outcome: Outcome, lived: Duration) {
        lock(&self.0).note(outcome, lived, Instant::now());
    }
}
