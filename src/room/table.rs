//! The table of rooms and of their names.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::names::{Key, Name, RoomName};
use super::past::{Past, Pasts};
use super::ports::Ports;
use super::room::Room;
use crate::backend::{Handle, Shared};
use crate::recipe::{Backend, Recipe, Share};
use crate::sys::bell::Bell;
use crate::sys::lock;

/// How many rooms and clients there may be.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    pub rooms: Option<usize>,
    /// Clients of each name.
    pub room_clients: Option<usize>,
    /// Only one client, ever.
    pub oneshot: bool,
}

/// So many times `--maxqueue` bytes of history are remembered of all rooms that were removed.
const REMEMBERED: usize = 16;

/// All rooms.
pub struct Table {
    pub(super) recipe: Arc<Recipe>,
    pub(super) shared: Arc<Shared>,
    pub(super) bounds: Bounds,
    pub(super) rooms: Mutex<Rooms>,
    handles: Mutex<Handles>,
    /// Reader threads that run: one for each backend.
    readers: AtomicUsize,
    /// Rung when one of them has ended.
    changed: Arc<Bell>,
}

/// All backends that may still run, also those that no room knows any more.
#[derive(Default)]
struct Handles {
    list: Vec<Weak<Handle>>,
    killed: bool,
}

pub(super) struct Rooms {
    pub(super) by_key: BTreeMap<Key, Arc<Room>>,
    /// Sorted: see `listing`.
    pub(super) names: BTreeMap<RoomName, Arc<Name>>,
    pub(super) past: Pasts,
    /// For programs over TCP.
    pub(super) ports: Option<Ports>,
    /// A slot was taken: with `--oneshot` it was the only one, whether or not its client has joined.
    pub(super) taken: bool,
    pub(super) shutting_down: bool,
    /// Processes of no room: see [`Table::reserve_process`].
    pub(super) processes: usize,
    /// The number of the next room of one client.
    next_client: u64,
}

impl Rooms {
    /// The key of a client's room; with `--share client` a new one at each call.
    pub(super) fn key(&mut self, share: Share, name: &RoomName) -> Key {
        match share {
            Share::Room => Key::Name(Arc::clone(name)),
            Share::Client => {
                self.next_client += 1;
                Key::Client(self.next_client)
            }
            Share::Server => Key::Server,
        }
    }

    /// Adds a name, with what is remembered of it.
    pub(super) fn open_name(&mut self, text: &RoomName) -> (Arc<Name>, Past) {
        let past = self.past.recall(&Key::Name(Arc::clone(text))).unwrap_or_default();
        let name = Arc::new(Name::new(Arc::clone(text), past.joined, past.failures));
        self.names.insert(Arc::clone(&name.text), Arc::clone(&name));
        (name, past)
    }

    fn forget_name(&mut self, name: &Arc<Name>, past: Past) {
        let same = self.names.get(&name.text).is_some_and(|known| Arc::ptr_eq(known, name));
        if same && name.is_unused() {
            self.names.remove(&name.text);
            let joined = name.joined.load(Ordering::SeqCst);
            self.past.remember(Key::Name(Arc::clone(&name.text)), Past { joined, ..past });
        }
    }
}

impl Table {
    /// `changed` is rung whenever a backend has ended.
    pub fn new(recipe: Arc<Recipe>, shared: Arc<Shared>, bounds: Bounds, changed: Arc<Bell>) -> Arc<Self> {
        let ports = match &recipe.backend {
            Backend::Tcp(_, options) => Some(Ports::new(options.ports.clone())),
            Backend::Stdio(_) | Backend::Connect(_) | Backend::Relay => None,
        };
        let past = Pasts::new(REMEMBERED.saturating_mul(recipe.max_queue));
        Arc::new(Self {
            recipe,
            shared,
            rooms: Mutex::new(Rooms {
                by_key: BTreeMap::new(),
                names: BTreeMap::new(),
                past,
                ports,
                taken: false,
                shutting_down: false,
                processes: 0,
                next_client: 0,
            }),
            bounds,
            handles: Mutex::default(),
            readers: AtomicUsize::new(0),
            changed,
        })
    }

    /// The port for the next program of a room: the room's own unless another socket is bound to it by now; `None` if
    /// programs do not talk over TCP.
    pub(super) fn port_for(&self, port: Option<u16>) -> Result<Option<u16>, ()> {
        let mut rooms = lock(&self.rooms);
        match (&mut rooms.ports, port) {
            (None, _) => Ok(None),
            (Some(ports), Some(port)) => ports.keep_or_take(port).map(Some).ok_or(()),
            (Some(ports), None) => ports.take().map(Some).ok_or(()),
        }
    }

    /// Removes a room if it has neither a client nor a backend, and is still in the table.
    pub(super) fn forget_room(&self, room: &Arc<Room>) {
        let mut rooms = lock(&self.rooms);
        let same = rooms.by_key.get(&room.key).is_some_and(|known| Arc::ptr_eq(known, room));
        if !same || !room.lock().life.is_unused() {
            return;
        }
        rooms.by_key.remove(&room.key);
        let (past, port) = room.remains();
        if let (Some(ports), Some(port)) = (&mut rooms.ports, port) {
            ports.give_back(port);
        }
        match &room.name {
            Some(name) => {
                name.rooms.fetch_sub(1, Ordering::SeqCst);
                rooms.forget_name(name, past);
            }
            None => rooms.past.remember(room.key.clone(), past),
        }
    }

    /// Removes a name if neither a client nor a room has it.
    pub(super) fn forget_name(&self, name: &Arc<Name>) {
        lock(&self.rooms).forget_name(name, Past { failures: name.failures.get(), ..Past::default() });
    }

    /// Refuses new clients and shuts down all rooms at once.
    pub fn shut_down(&self) {
        let rooms: Vec<_> = {
            let mut rooms = lock(&self.rooms);
            rooms.shutting_down = true;
            rooms.by_key.values().cloned().collect()
        };
        self.shared.ending.store(true, Ordering::SeqCst);
        for room in rooms {
            room.shut_down();
        }
        // Also the readers whose backend has ended while its clients are still being closed.
        for handle in lock(&self.handles).list.iter().filter_map(Weak::upgrade) {
            handle.notify_reader();
        }
    }

    /// What all programs of the server share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shared.ending.load(Ordering::SeqCst)
    }

    /// Sends KILL to all programs at once: through their readers, and here to their process groups in case a reader is
    /// busy. Says how many programs had not ended.
    pub fn kill(&self) -> usize {
        let mut handles = lock(&self.handles);
        handles.killed = true;
        for handle in handles.list.iter().filter_map(Weak::upgrade) {
            handle.kill();
        }
        drop(handles);
        self.shared.processes.kill()
    }

    /// Adds a backend that was started; it is killed if the others were.
    pub(super) fn add_handle(&self, handle: &Arc<Handle>) {
        let mut handles = lock(&self.handles);
        // Backends that have ended are dropped when they may be half of the list.
        if handles.list.len() >= 2 * self.backends().max(16) {
            handles.list.retain(|handle| handle.strong_count() > 0);
        }
        handles.list.push(Arc::downgrade(handle));
        if handles.killed {
            handle.kill();
        }
    }

    pub(super) fn reader_starts(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn reader_ends(&self) {
        self.readers.fetch_sub(1, Ordering::SeqCst);
        self.changed.ring();
    }

    /// How many processes run.
    pub fn processes(&self) -> usize {
        self.shared.processes.count()
    }

    /// How many backends there are, with or without a process.
    pub fn backends(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }
}
