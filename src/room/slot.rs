//! A slot in a room, taken before a client is upgraded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::entry_error::EntryError;
use super::history::History;
use super::life::{Effects, Event, Life};
use super::names::{Key, Name, RoomName, SharedFailures};
use super::past::Past;
use super::ports::until_found;
use super::room::Room;
use super::state::State;
use super::table::{Rooms, Table};
use crate::recipe::{Keep, Recipe};
use crate::site::Target;
use crate::sys::lock;

/// A room and the table that it is in. The room itself does not know its table.
#[derive(Clone)]
pub(super) struct Registration {
    pub(super) table: Arc<Table>,
    pub(super) room: Arc<Room>,
}

impl Registration {
    /// Gives one slot back and changes the state, under one lock. If it was the last slot, the backend ends.
    pub(super) fn give_back(&self, name: &Arc<Name>, change: impl FnOnce(&mut State)) {
        let mut state = self.room.lock();
        change(&mut state);
        name.give_back_slot();
        let effects = self.room.on(&mut state, Event::Left);
        if state.life.is_empty() {
            state.empty_since = Some(Instant::now());
        }
        self.act(self.room.act(state, effects), std::iter::once(name));
    }

    /// Does what effects need the table for. `names` are those of the slots that were given back.
    pub(super) fn act<'a>(&self, effects: Effects, names: impl Iterator<Item = &'a Arc<Name>>) {
        if effects.has(Effects::FORGET) {
            self.table.forget_room(&self.room);
        }
        for name in names.filter(|name| name.is_unused()) {
            self.table.forget_name(name);
        }
    }
}

impl Table {
    /// Takes a slot in the room of a request, which is opened if need be.
    pub fn reserve(self: &Arc<Self>, target: &Target) -> Result<RoomSlot, EntryError> {
        let mut slot = Err(EntryError::NoPort);
        until_found(&mut || {
            slot = self.reserve_now(target);
            !matches!(slot, Err(EntryError::NoPort))
        });
        slot
    }

    fn reserve_now(self: &Arc<Self>, target: &Target) -> Result<RoomSlot, EntryError> {
        let wanted = &target.room;
        let mut rooms = lock(&self.rooms);
        if rooms.shutting_down {
            return Err(EntryError::ShuttingDown);
        }
        if self.bounds.oneshot && rooms.taken {
            return Err(EntryError::Oneshot);
        }
        let name = rooms.names.get(wanted).cloned();
        if name.as_ref().is_some_and(|name| name.is_full(self.bounds.room_clients)) {
            return Err(EntryError::RoomFull);
        }
        let key = rooms.key(self.recipe.share, wanted);
        let room = rooms.by_key.get(&key).cloned();
        let port = match &room {
            Some(room) => room.reserve().map(|()| None)?,
            None => self.may_open(&mut rooms, &key, wanted, name.as_ref())?,
        };
        // From here on nothing fails.
        let (name, past) = match name {
            Some(name) => (name, Past::default()),
            None => rooms.open_name(wanted),
        };
        let room = room.unwrap_or_else(|| self.open(&mut rooms, key, &target.recipe, &name, past, port));
        name.take_slot();
        rooms.taken = true;
        Ok(RoomSlot { registration: Registration { table: Arc::clone(self), room }, name, used: false })
    }

    /// Whether another room may be opened, and the port of its program if it needs one.
    fn may_open(
        &self,
        rooms: &mut Rooms,
        key: &Key,
        wanted: &RoomName,
        name: Option<&Arc<Name>>,
    ) -> Result<Option<u16>, EntryError> {
        self.check_number(rooms)?;
        let failures = match (key, name) {
            (Key::Server, _) => rooms.past.failures(key),
            (_, Some(name)) => name.failures.get(),
            (_, None) => rooms.past.failures(&Key::Name(Arc::clone(wanted))),
        };
        if let Some(pause) = failures.pause(Instant::now()) {
            return Err(EntryError::Failing(failures.in_a_row(), pause));
        }
        match &mut rooms.ports {
            Some(ports) => ports.take().map(Some).ok_or(EntryError::NoPort),
            None => Ok(None),
        }
    }

    fn check_number(&self, rooms: &Rooms) -> Result<(), EntryError> {
        let open = rooms.by_key.len() + rooms.processes;
        if self.bounds.rooms.is_some_and(|most| open >= most) {
            Err(EntryError::TooManyRooms)
        } else {
            Ok(())
        }
    }

    /// Takes a slot for a process that serves no room, such as a CGI program. It counts as a room.
    pub fn reserve_process(self: &Arc<Self>) -> Result<ProcessSlot, EntryError> {
        let mut rooms = lock(&self.rooms);
        if rooms.shutting_down {
            return Err(EntryError::ShuttingDown);
        }
        self.check_number(&rooms)?;
        rooms.processes += 1;
        Ok(ProcessSlot(Arc::clone(self)))
    }

    /// Opens a room with one slot taken. `past` is what is remembered of its name.
    fn open(
        &self,
        rooms: &mut Rooms,
        key: Key,
        recipe: &Arc<Recipe>,
        name: &Arc<Name>,
        past: Past,
        port: Option<u16>,
    ) -> Arc<Room> {
        let recipe = Arc::clone(recipe);
        let (keep, linger, name, past) = match key {
            Key::Name(_) => (recipe.history.keep, recipe.times.linger, Some(Arc::clone(name)), past),
            // No other client ever joins: no history, no linger.
            Key::Client(_) => (Keep::Nothing, Duration::ZERO, Some(Arc::clone(name)), Past::default()),
            Key::Server => {
                let past = rooms.past.recall(&key).unwrap_or_default();
                (recipe.history.keep, recipe.times.linger, None, past)
            }
        };
        let failures = match &name {
            Some(name) => name.failures.clone(),
            None => SharedFailures::new(past.failures),
        };
        if let Some(name) = &name {
            name.rooms.fetch_add(1, Ordering::SeqCst);
        }
        let history = past.history.unwrap_or_else(|| History::new(keep, recipe.max_queue));
        let mut life = Life::new(!linger.is_zero());
        life.on(Event::Reserved);
        let state = State::new(life, history, port);
        let shared = Arc::clone(&self.shared);
        let room = Arc::new(Room::new(key.clone(), name, recipe, shared, failures, state));
        rooms.by_key.insert(key, Arc::clone(&room));
        room
    }
}

/// A slot for a process that serves no room, to be held until the process is reaped.
pub struct ProcessSlot(Arc<Table>);

impl Drop for ProcessSlot {
    fn drop(&mut self) {
        lock(&self.0.rooms).processes -= 1;
    }
}

/// A slot, held from before the upgrade until the client has joined or given up.
pub struct RoomSlot {
    pub(super) registration: Registration,
    pub(super) name: Arc<Name>,
    /// The client has joined: it gives the slot back when it leaves.
    pub(super) used: bool,
}

impl Drop for RoomSlot {
    fn drop(&mut self) {
        if !self.used {
            self.registration.give_back(&self.name, |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Bounds;
    use super::*;
    use crate::backend::panics::{recipe, shared};

    #[test]
    fn rooms_and_processes_of_no_room_are_counted_together() {
        let bounds = Bounds { rooms: Some(2), ..Bounds::default() };
        let table = Table::new(Arc::new(recipe()), Arc::new(shared()), bounds, Arc::default());
        let target = |name| Target::new(name, &table.recipe);
        let full = |error: Option<EntryError>| assert_eq!(error, Some(EntryError::TooManyRooms));
        let room = table.reserve(&target("a")).expect("a room");
        let process = table.reserve_process().expect("a process");
        full(table.reserve(&target("b")).err());
        full(table.reserve_process().err());
        drop(process);
        let other = table.reserve(&target("b")).expect("the place of the process");
        full(table.reserve_process().err());
        drop((room, other));
        let processes = [table.reserve_process(), table.reserve_process()];
        assert!(processes.iter().all(Result::is_ok));
        full(table.reserve_process().err());
        drop(processes);
        table.shut_down();
        assert_eq!(table.reserve_process().err(), Some(EntryError::ShuttingDown));
    }
}
