//! What is remembered of rooms that are gone: a bounded number of them, the last ones. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::failures::Failures;
use super::history::History;

/// Rooms that are remembered.
const MAX_ROOMS: usize = 1024;

/// What a room that comes back goes on with.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// How many clients have joined it.
    pub(super) joined: u64,
    /// Its messages, if they outlive the program.
    pub(super) history: Option<History>,
    /// How its programs failed.
    pub(super) failures: Failures,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pasts {
    by_name: BTreeMap<Arc<str>, (u64, Past)>,
    /// Names in the order of going, each with the number of its going; one that came back and went again
    /// stands twice, and only the later one counts.
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
    /// Bytes of history that may be bytes_held, and that are.
    bound: usize,
    bytes_held: usize,
}

impl Pasts {
    /// Of all rooms together, this many bytes of history are remembered.
    pub(super) fn new(bound: usize) -> Self {
        Self { by_name: BTreeMap::new(), order: VecDeque::new(), next: 0, bound, bytes_held: 0 }
    }

    /// A room is gone.
    pub(super) fn remember(&mut self, name: Arc<str>, past: Past) {
        self.recall(&name);
        self.bytes_held += past.bytes_held();
        self.order.push_back((self.next, Arc::clone(&name)));
        self.by_name.insert(name, (self.next, past));
        self.next += 1;
        while self.by_name.len() > MAX_ROOMS || (self.bytes_held > self.bound && self.by_name.len() > 1) {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            if self.by_name.get(&oldest).is_some_and(|(going, _)| *going == number) {
                self.recall(&oldest);
            }
        }
        // Rooms that come and go leave entries behind: they must not pile up either.
        if self.order.len() > 2 * MAX_ROOMS {
            let by_name = &self.by_name;
            self.order.retain(|(number, name)| by_name.get(name).is_some_and(|(going, _)| going == number));
        }
    }

    /// A room comes back: what is known of it, which is forgotten here.
    pub(super) fn recall(&mut self, name: &str) -> Option<Past> {
        let (_, past) = self.by_name.remove(name)?;
        self.bytes_held -= past.bytes_held();
        Some(past)
    }

    /// How the programs of a room failed.
    pub(super) fn failures(&self, name: &str) -> Failures {
        self.by_name.get(name).map(|(_, past)| past.failures).unwrap_or_default()
    }

    /// The first of them behind that name, in the order of names, and how many clients have joined it.
    pub(super) fn next(&self, behind: Bound<&str>) -> Option<(&Arc<str>, u64)> {
        let (name, (_, past)) = self.by_name.range::<str, _>((behind, Bound::Unbounded)).next()?;
        Some((name, past.joined))
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

    #[test]
    fn the_last_rooms_are_remembered_and_nothing_piles_up() {
        let mut pasts = Pasts::new(1 << 20);
        for n in 0..10_000u64 {
            pasts.remember(format!("room {n}").into(), Past { joined: n, ..Past::default() });
            pasts.remember("regular".into(), Past { joined: n, ..Past::default() });
        }
        assert_eq!(pasts.by_name.len(), MAX_ROOMS);
        assert!(pasts.order.len() <= 2 * MAX_ROOMS);
        assert_eq!(pasts.recall("regular").map(|past| past.joined), Some(9_999));
        assert_eq!(pasts.recall("room 9999").map(|past| past.joined), Some(9_999));
        assert!(pasts.recall("room 9999").is_none(), "once");
        assert!(pasts.recall("room 1").is_none(), "long gone");
    }
}
