//! The table of rooms, and the slots that are taken before a client is upgraded.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crossbeam_channel::Sender;

use super::history::History;
use super::past::Pasts;
use super::room::Room;
use crate::child::Settings;
use crate::config;
use crate::log::Log;
use crate::sys::lock;

/// What is written to the program when a client comes and goes.
#[derive(Debug, Clone)]
pub enum Hooks {
    /// These templates, each as one line.
    Templates {
        /// Of the join message.
        join: Option<String>,
        /// Of the leave message.
        leave: Option<String>,
    },
    /// gwsocket's notices.
    Gwsocket,
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

/// Of all rooms that are gone, so many times `--maxqueue` bytes of history are remembered.
const REMEMBERED: usize = 16;

/// All rooms, by name.
pub struct Table {
    /// How programs are started and ended.
    pub(super) settings: Arc<Settings>,
    /// What they are told.
    pub(super) hooks: Hooks,
    /// What they remember.
    pub(super) history: config::History,
    rooms: Mutex<Rooms>,
    /// Reader threads that run: as many programs live.
    readers: AtomicUsize,
    /// Rung when one of them has ended.
    changed: Sender<()>,
}

struct Rooms {
    by_name: HashMap<Arc<str>, Arc<Room>>,
    past: Pasts,
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
    /// An empty table; `changed` is rung whenever a program is gone.
    pub fn new(settings: Settings, hooks: Hooks, history: config::History, changed: Sender<()>) -> Arc<Self> {
        let past = Pasts::new(REMEMBERED.saturating_mul(settings.queue));
        Arc::new(Self {
            settings: Arc::new(settings),
            hooks,
            rooms: Mutex::new(Rooms { by_name: HashMap::new(), past, shutting_down: false }),
            history,
            readers: AtomicUsize::new(0),
            changed,
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
            let past = rooms.past.recall(name).unwrap_or_default();
            let history =
                past.history.unwrap_or_else(|| History::new(self.history.keep, self.settings.queue));
            let room = Arc::new(Room::new(name, Arc::downgrade(self), past.joined, history));
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
            let past = room.past(self.history.persist);
            rooms.past.remember(Arc::clone(room.shared_name()), past);
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
        self.readers.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn reader_ends(&self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
        // Rung already: then whoever waits will look.
        let _ = self.changed.try_send(());
    }

    /// How many programs live.
    pub fn programs(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }
}

/// A table that may be gone by the time a room looks for it.
pub(super) type WeakTable = Weak<Table>;
