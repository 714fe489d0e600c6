//! What the API and the metrics show of rooms, by name. Rooms are read one at a time, in the order of their names: a
//! client that takes the answer slowly holds neither rooms nor copies of them. A room that is opened or removed
//! meanwhile is shown once or not at all.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::names::{Key, Name, RoomName};
use super::room::Room;
use super::table::{Rooms, Table};
use crate::recipe::Share;
use crate::sys::lock;

/// A room at some moment.
#[derive(Debug, Clone)]
pub struct Facts {
    pub name: Arc<str>,
    pub clients: usize,
    /// JSON.
    pub metadata: Option<Arc<[u8]>>,
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
    /// How many room names are in use.
    pub fn name_count(&self) -> usize {
        lock(&self.rooms).names.len()
    }

    /// One room as it is now.
    pub fn facts_of(&self, name: &str) -> Option<Facts> {
        let name = lock(&self.rooms).names.get(name).cloned();
        name.map(|name| self.facts_about(&name))
    }

    /// All rooms, each as it is when it is read.
    pub fn facts(self: &Arc<Self>) -> impl Iterator<Item = Facts> + use<> {
        let (table, mut last) = (Arc::clone(self), None::<RoomName>);
        std::iter::from_fn(move || {
            let name = Arc::clone(lock(&table.rooms).name_after(last.as_ref())?);
            last = Some(Arc::clone(&name.text));
            Some(table.facts_about(&name))
        })
    }

    /// All rooms that are open or remembered, and how many clients have ever joined each.
    pub fn joined(self: &Arc<Self>) -> impl Iterator<Item = (Arc<str>, u64)> + use<> {
        let (table, mut last) = (Arc::clone(self), None::<RoomName>);
        std::iter::from_fn(move || {
            let next = {
                let rooms = lock(&table.rooms);
                let there = rooms.name_after(last.as_ref());
                let there = there.map(|name| (&name.text, name.joined.load(Ordering::SeqCst)));
                // A name is in one of the two only.
                let next = there.into_iter().chain(rooms.past.next(last.as_ref())).min();
                next.map(|(name, clients)| (Arc::clone(name), clients))
            }?;
            last = Some(Arc::clone(&next.0));
            Some(next)
        })
    }

    /// What waits for clients and for programs.
    pub fn waiting(&self) -> Waiting {
        let rooms: Vec<_> = lock(&self.rooms).by_key.values().cloned().collect();
        rooms.iter().map(waiting_in).fold(Waiting::default(), |sum, more| Waiting {
            clients: sum.clients + more.clients,
            program: sum.program + more.program,
            unread: sum.unread + more.unread,
        })
    }

    fn facts_about(&self, name: &Name) -> Facts {
        // Where each client has a process of its own, none speaks for the room: no metadata is shown.
        let key = match self.recipe.share {
            Share::Room => Some(Key::Name(Arc::clone(&name.text))),
            Share::Client => None,
            Share::Server => Some(Key::Server),
        };
        let room = key.and_then(|key| lock(&self.rooms).by_key.get(&key).cloned());
        Facts {
            name: Arc::clone(&name.text),
            clients: name.clients.load(Ordering::SeqCst),
            metadata: room.and_then(|room| room.lock().metadata.clone()),
        }
    }
}

impl Rooms {
    fn name_after(&self, last: Option<&RoomName>) -> Option<&Arc<Name>> {
        let start = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.names.range::<RoomName, _>((start, Bound::Unbounded)).next().map(|(_, name)| name)
    }
}

fn waiting_in(room: &Arc<Room>) -> Waiting {
    let (members, backend) = {
        let mut state = room.lock();
        (state.list(), state.backend.clone())
    };
    // Each with its own lock, and none while the room is locked.
    let clients = members.iter().map(|client| client.sink.status().bytes_held).sum();
    let (program, unread) = backend.map_or((0, 0), |backend| (backend.queued(), backend.unread_messages()));
    Waiting { clients, program, unread }
}
