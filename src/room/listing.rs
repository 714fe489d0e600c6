//! What there is to tell of all rooms. They are looked at one at a time, in the order of their names: whoever asks
//! may take the answer slowly, and then holds neither rooms nor copies of them. What comes and goes meanwhile is
//! shown or not, and never twice.

use std::ops::Bound;
use std::sync::Arc;

use super::table::Table;
use crate::sys::lock;

/// A room as it is at some moment.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its name.
    pub name: Arc<str>,
    /// Its members.
    pub clients: usize,
    /// How many have joined it, ever.
    pub joined: u64,
    /// What its program says of it: JSON.
    pub metadata: Option<Arc<[u8]>>,
}

/// A room that is there or is remembered, and how many clients have joined it, ever.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its name.
    pub name: Arc<str>,
    /// How many.
    pub clients: u64,
}

/// What waits in one room, or in all of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// Bytes for clients.
    pub clients: usize,
    /// Bytes for programs.
    pub program: usize,
    /// Messages of clients that programs have not read yet.
    pub unread: u64,
}

impl Table {
    /// One room as it is now, if it is there.
    pub fn facts_of(&self, name: &str) -> Option<Facts> {
        let room = lock(&self.rooms).by_name.get(name).cloned();
        room.map(|room| room.facts())
    }

    /// All rooms, each as it is when its turn comes.
    pub fn facts(self: &Arc<Self>) -> impl Iterator<Item = Facts> + use<> {
        let (table, mut last) = (Arc::clone(self), None::<Arc<str>>);
        std::iter::from_fn(move || {
            let room = {
                let rooms = lock(&table.rooms);
                let next = rooms.by_name.range::<str, _>((behind(last.as_deref()), Bound::Unbounded)).next();
                next.map(|(_, room)| Arc::clone(room))?
            };
            let facts = room.facts();
            last = Some(Arc::clone(&facts.name));
            Some(facts)
        })
    }

    /// The rooms that are there and those that are gone and remembered.
    pub fn joined(self: &Arc<Self>) -> impl Iterator<Item = Joined> + use<> {
        let (table, mut last) = (Arc::clone(self), None::<Arc<str>>);
        std::iter::from_fn(move || {
            let (there, gone) = {
                let rooms = lock(&table.rooms);
                let behind = behind(last.as_deref());
                let there = rooms.by_name.range::<str, _>((behind, Bound::Unbounded)).next();
                let there = there.map(|(_, room)| Arc::clone(room));
                let gone = rooms.past.next(behind);
                (there, gone.map(|(name, clients)| Joined { name: Arc::clone(name), clients }))
            };
            // A name is in one of the two only.
            let next = match (there, gone) {
                (Some(room), Some(gone)) if gone.name < *room.shared_name() => gone,
                (Some(room), _) => {
                    let facts = room.facts();
                    Joined { name: facts.name, clients: facts.joined }
                }
                (None, gone) => gone?,
            };
            last = Some(Arc::clone(&next.name));
            Some(next)
        })
    }

    /// What waits for clients and for programs.
    pub fn waiting(&self) -> Waiting {
        let rooms: Vec<_> = lock(&self.rooms).by_name.values().cloned().collect();
        rooms.iter().map(|room| room.waiting()).fold(Waiting::default(), |sum, more| Waiting {
            clients: sum.clients + more.clients,
            program: sum.program + more.program,
            unread: sum.unread + more.unread,
        })
    }
}

fn behind(name: Option<&str>) -> Bound<&str> {
    name.map_or(Bound::Unbounded, Bound::Excluded)
}
