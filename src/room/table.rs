//! The table of rooms, and the slots that are taken before a client is upgraded.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, Weak};

use super::room::Room;
use crate::child::Settings;
use crate::log::Log;
use crate::sys::deadline::Deadline;
use crate::sys::lock;

/// What is written to the program when a client comes and goes.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Template of the join message.
    pub join: Option<String>,
    /// Template of the leave message.
    pub leave: Option<String>,
}

/// Why there is no place in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveError {
    /// Its last program cannot be ended.
    Stuck,
    /// The server is shutting down.
    ShuttingDown,
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stuck => "room is not available: its last program does not end",
            Self::ShuttingDown => "server is shutting down",
        })
    }
}

/// All rooms, by name.
pub struct Table {
    /// How programs are started and ended.
    pub(super) settings: Arc<Settings>,
    /// What they are told.
    pub(super) hooks: Hooks,
    rooms: Mutex<Rooms>,
    /// Reader threads that run.
    readers: Mutex<usize>,
    reader_ended: Condvar,
}

#[derive(Default)]
struct Rooms {
    by_name: HashMap<Arc<str>, Arc<Room>>,
    shutting_down: bool,
}

/// A place in a room, held from before the upgrade until the client has joined or given up.
pub struct Ticket {
    pub(super) room: Arc<Room>,
    pub(super) used: bool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.used {
            self.room.give_back();
        }
    }
}

impl Table {
    /// An empty table.
    pub fn new(settings: Settings, hooks: Hooks) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::new(settings),
            hooks,
            rooms: Mutex::default(),
            readers: Mutex::new(0),
            reader_ended: Condvar::new(),
        })
    }

    pub(super) fn log(&self) -> &Log {
        &self.settings.log
    }

    /// Takes a place in a room, which begins to exist if it did not.
    pub fn reserve(self: &Arc<Self>, name: &str) -> Result<Ticket, ReserveError> {
        let mut rooms = lock(&self.rooms);
        if rooms.shutting_down {
            return Err(ReserveError::ShuttingDown);
        }
        let room = if let Some(room) = rooms.by_name.get(name) {
            Arc::clone(room)
        } else {
            let room = Arc::new(Room::new(name, Arc::downgrade(self)));
            rooms.by_name.insert(Arc::clone(room.shared_name()), Arc::clone(&room));
            room
        };
        room.take_place()?;
        Ok(Ticket { room, used: false })
    }

    /// Forgets a room that nobody is in and no process belongs to.
    pub(super) fn forget_if_gone(&self, room: &Room) {
        let mut rooms = lock(&self.rooms);
        let same =
            rooms.by_name.get(room.shared_name()).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), room));
        if same && room.is_gone() {
            rooms.by_name.remove(room.shared_name());
        }
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        lock(&self.rooms).by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses all newcomers and begins every room's kill sequence, side by side.
    pub fn shut_down(&self) {
        let rooms: Vec<_> = {
            let mut rooms = lock(&self.rooms);
            rooms.shutting_down = true;
            rooms.by_name.values().cloned().collect()
        };
        for room in rooms {
            room.shut_down();
        }
    }

    /// KILL to every program, at once.
    pub fn kill(&self) {
        let rooms: Vec<_> = lock(&self.rooms).by_name.values().cloned().collect();
        for room in rooms {
            room.kill();
        }
    }

    pub(super) fn reader_starts(&self) {
        *lock(&self.readers) += 1;
    }

    pub(super) fn reader_ends(&self) {
        *lock(&self.readers) -= 1;
        self.reader_ended.notify_all();
    }

    /// Waits until the last reader thread, and so the last program, is gone; says whether that is so.
    pub fn wait_until_quiet(&self, deadline: Deadline) -> bool {
        let mut readers = lock(&self.readers);
        while *readers > 0 {
            let Some(left) = deadline.left().filter(|left| !left.is_zero()) else { return false };
            readers = self
                .reader_ended
                .wait_timeout(readers, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        true
    }
}

/// A table that may be gone by the time a room looks for it.
pub(super) type WeakTable = Weak<Table>;
