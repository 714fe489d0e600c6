//! The table of rooms, and the slots that are taken before a client is upgraded.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::history::History;
use super::past::Pasts;
use super::ports::Ports;
use super::room::Room;
use super::state::State;
use crate::backend::{Handle, Shared};
use crate::log::Log;
use crate::recipe::{Backend, Recipe};
use crate::sys::bell::Bell;
use crate::sys::lock;

/// Which rooms there may be, and how many may be in them.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// So many at once.
    pub rooms: Option<usize>,
    /// So many clients in each.
    pub room_clients: Option<usize>,
    /// One client, ever.
    pub oneshot: bool,
}

/// Why there is no place in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReserveError {
    /// There are as many rooms as there may be.
    TooManyRooms,
    /// All ports that programs may listen on are in use.
    NoPort,
    /// There are as many clients in it as there may be.
    RoomFull,
    /// The only client that is served has come already.
    Oneshot,
    /// Its last program cannot be ended.
    Stuck,
    /// Its program failed so many times in a row; it is not started again before so long.
    Failing(u32, Duration),
    /// The server is shutting down.
    ShuttingDown,
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failing(times, _) => return write!(f, "The program failed {times} times in a row"),
            Self::TooManyRooms => "Too many rooms",
            Self::NoPort => "No port left for the program",
            Self::RoomFull => "Room is full",
            Self::Oneshot => "Only one client is served",
            Self::Stuck => "Room is not available: its last program does not end",
            Self::ShuttingDown => "Server is shutting down",
        })
    }
}

/// Of all rooms that are gone, so many times `--maxqueue` bytes of history are remembered.
const REMEMBERED: usize = 16;

/// All rooms, by name.
pub struct Table {
    /// How each room works.
    pub(super) recipe: Arc<Recipe>,
    /// What all programs of the server share.
    pub(super) shared: Arc<Shared>,
    bounds: Bounds,
    pub(super) rooms: Mutex<Rooms>,
    /// All that may still live, those that no room knows any more too.
    children: Mutex<Vec<Weak<Handle>>>,
    /// Reader threads that run: as many programs live.
    readers: AtomicUsize,
    /// Rung when one of them has ended.
    changed: Arc<Bell>,
}

pub(super) struct Rooms {
    /// In the order of names, so that they can be shown in it, a few at a time.
    pub(super) by_name: BTreeMap<Arc<str>, Arc<Room>>,
    pub(super) past: Pasts,
    /// Where programs listen, if they talk over TCP.
    ports: Option<Ports>,
    /// Somebody holds or has held a place: it is upgraded, so with `--oneshot` it was the one, whether or not
    /// it could join.
    taken: bool,
    shutting_down: bool,
}

/// A place in a room, held from before the upgrade until the client has joined or given up.
pub struct RoomSlot {
    pub(super) room: Arc<Room>,
    pub(super) used: bool,
}

impl Drop for RoomSlot {
    fn drop(&mut self) {
        if !self.used {
            self.room.give_back();
        }
    }
}

impl Table {
    /// An empty table; `changed` is rung whenever a program is gone.
    pub fn new(recipe: Arc<Recipe>, shared: Arc<Shared>, bounds: Bounds, changed: Arc<Bell>) -> Arc<Self> {
        let ports = match &recipe.backend {
            Backend::Tcp(_, options) => Some(Ports::new(options.ports.clone())),
            Backend::Stdio(_) | Backend::Connect(_) | Backend::Relay { .. } => None,
        };
        let past = Pasts::new(REMEMBERED.saturating_mul(recipe.max_queue));
        Arc::new(Self {
            recipe,
            shared,
            rooms: Mutex::new(Rooms {
                by_name: BTreeMap::new(),
                past,
                ports,
                taken: false,
                shutting_down: false,
            }),
            bounds,
            children: Mutex::default(),
            readers: AtomicUsize::new(0),
            changed,
        })
    }

    pub(super) fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Takes a place in a room, which begins to exist if it did not.
    pub fn reserve(self: &Arc<Self>, name: &str) -> Result<RoomSlot, ReserveError> {
        let mut rooms = lock(&self.rooms);
        if rooms.shutting_down {
            return Err(ReserveError::ShuttingDown);
        }
        if self.bounds.oneshot && rooms.taken {
            return Err(ReserveError::Oneshot);
        }
        let failures = rooms.past.failures(name);
        let room = if let Some(room) = rooms.by_name.get(name) {
            Arc::clone(room)
        } else if self.bounds.rooms.is_some_and(|most| rooms.by_name.len() >= most) {
            return Err(ReserveError::TooManyRooms);
        } else if let Some(pause) = failures.pause(Instant::now()) {
            return Err(ReserveError::Failing(failures.in_a_row(), pause));
        } else {
            let port = match &mut rooms.ports {
                Some(ports) => Some(ports.take().ok_or(ReserveError::NoPort)?),
                None => None,
            };
            let past = rooms.past.recall(name).unwrap_or_default();
            let history =
                past.history.unwrap_or_else(|| History::new(self.recipe.history.keep, self.recipe.max_queue));
            let state = State::new(port, past.joined, history, past.failures);
            let room = Arc::new(Room::new(name, Arc::downgrade(self), state));
            rooms.by_name.insert(Arc::clone(room.shared_name()), Arc::clone(&room));
            room
        };
        room.take_place(self.bounds.room_clients)?;
        rooms.taken = true;
        Ok(RoomSlot { room, used: false })
    }

    /// Where the next program of a room is to listen: the room's port unless somebody else has come to listen
    /// there; nowhere if programs talk over pipes.
    pub(super) fn port_for(&self, port: Option<u16>) -> Result<Option<u16>, ()> {
        let mut rooms = lock(&self.rooms);
        match (&mut rooms.ports, port) {
            (None, _) => Ok(None),
            (Some(ports), Some(port)) => ports.keep_or_take(port).map(Some).ok_or(()),
            (Some(ports), None) => ports.take().map(Some).ok_or(()),
        }
    }

    /// Forgets a room that nobody is in and no process belongs to.
    pub(super) fn forget_if_gone(&self, room: &Room) {
        let mut rooms = lock(&self.rooms);
        let same =
            rooms.by_name.get(room.shared_name()).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), room));
        if same && room.is_gone() {
            rooms.by_name.remove(room.shared_name());
            let past = room.past(self.recipe.history.persist);
            if let (Some(ports), Some(port)) = (&mut rooms.ports, room.port()) {
                ports.give_back(port);
            }
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
        self.shared.ending.store(true, Ordering::SeqCst);
        for room in rooms {
            room.shut_down();
        }
        // Those too whose program is gone while its clients are still being told.
        for child in lock(&self.children).iter().filter_map(Weak::upgrade) {
            child.wake_reader_thread();
        }
    }

    /// Whether the server is shutting down.
    pub fn is_shutting_down(&self) -> bool {
        self.shared.ending.load(Ordering::SeqCst)
    }

    /// KILL to every program, at once: told to those who look after them, and sent to their process groups
    /// whether or not those come to it. Says how many programs had not ended.
    pub fn kill(&self) -> usize {
        let rooms: Vec<_> = lock(&self.rooms).by_name.values().cloned().collect();
        for room in rooms {
            room.kill();
        }
        for child in lock(&self.children).iter().filter_map(Weak::upgrade) {
            child.kill();
        }
        self.shared.processes.kill()
    }

    /// A program lives.
    pub(super) fn note(&self, child: &Arc<Handle>) {
        let mut children = lock(&self.children);
        // Those that are gone are forgotten when there are as many of them as of the others.
        if children.len() >= 2 * self.programs().max(16) {
            children.retain(|child| child.strong_count() > 0);
        }
        children.push(Arc::downgrade(child));
    }

    pub(super) fn reader_starts(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn reader_ends(&self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
        self.changed.ring();
    }

    /// How many programs live.
    pub fn programs(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }
}

/// A table that may be gone by the time a room looks for it.
pub(super) type WeakTable = Weak<Table>;
