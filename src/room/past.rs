//! What is remembered of rooms that were removed from the table. Bounded in number and bytes. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::failures::Failures;
use super::history::History;
use super::names::{Key, RoomName};

/// How many rooms are remembered.
const MAX_ROOMS: usize = 1024;

/// What a room that is opened again starts with.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// How many clients have joined it.
    pub(super) joined: u64,
    /// With `--persist`.
    pub(super) history: Option<History>,
    pub(super) failures: Failures,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pasts {
    by_key: BTreeMap<Key, (u64, Past)>,
    /// Keys in the order in which their rooms were removed, numbered. A room that was removed twice is in here twice;
    /// only the later entry counts.
    order: VecDeque<(u64, Key)>,
    next: u64,
    /// Bytes of history that may be held, and that are.
    bound: usize,
    bytes_held: usize,
}

impl Pasts {
    /// `bound` is the bytes of history that are remembered of all rooms together.
    pub(super) fn new(bound: usize) -> Self {
        Self { by_key: BTreeMap::new(), order: VecDeque::new(), next: 0, bound, bytes_held: 0 }
    }

    pub(super) fn remember(&mut self, key: Key, past: Past) {
        self.recall(&key);
        self.bytes_held += past.bytes_held();
        self.order.push_back((self.next, key.clone()));
        self.by_key.insert(key, (self.next, past));
        self.next += 1;
        while self.by_key.len() > MAX_ROOMS || (self.bytes_held > self.bound && self.by_key.len() > 1) {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            if self.by_key.get(&oldest).is_some_and(|(going, _)| *going == number) {
                self.recall(&oldest);
            }
        }
        // Rooms that are opened again leave old entries in here, which must not pile up.
        if self.order.len() > 2 * MAX_ROOMS {
            let by_key = &self.by_key;
            self.order.retain(|(number, key)| by_key.get(key).is_some_and(|(going, _)| going == number));
        }
    }

    /// Takes out what is remembered of a room that is opened again.
    pub(super) fn recall(&mut self, key: &Key) -> Option<Past> {
        let (_, past) = self.by_key.remove(key)?;
        self.bytes_held -= past.bytes_held();
        Some(past)
    }

    pub(super) fn failures(&self, key: &Key) -> Failures {
        self.by_key.get(key).map(|(_, past)| past.failures).unwrap_or_default()
    }

    /// The next name after that one, in the order of names, and how many clients have joined it.
    pub(super) fn next(&self, after: Option<&RoomName>) -> Option<(&RoomName, u64)> {
        let start = after.map_or(Bound::Unbounded, |name| Bound::Excluded(Key::Name(Arc::clone(name))));
        match self.by_key.range((start, Bound::Unbounded)).next()? {
            (Key::Name(name), (_, past)) => Some((name, past.joined)),
            // Names come first in the order of keys.
            (Key::Client(_) | Key::Server, _) => None,
        }
    }
}

impl Past {
    fn bytes_held(&self) -> usize {
        self.history.as_ref().map_or(0, History::bytes_held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Key {
        Key::Name(text.into())
    }

    #[test]
    fn the_last_rooms_are_remembered_and_nothing_piles_up() {
        let mut pasts = Pasts::new(1 << 20);
        for n in 0..10_000u64 {
            pasts.remember(name(&format!("room {n}")), Past { joined: n, ..Past::default() });
            pasts.remember(name("regular"), Past { joined: n, ..Past::default() });
        }
        assert_eq!(pasts.by_key.len(), MAX_ROOMS);
        assert!(pasts.order.len() <= 2 * MAX_ROOMS);
        assert_eq!(pasts.recall(&name("regular")).map(|past| past.joined), Some(9_999));
        assert_eq!(pasts.recall(&name("room 9999")).map(|past| past.joined), Some(9_999));
        assert!(pasts.recall(&name("room 9999")).is_none(), "once");
        assert!(pasts.recall(&name("room 1")).is_none(), "long gone");
    }
}
