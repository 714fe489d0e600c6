//! One room: its clients and the backend that they share. `life` decides what follows an event; a room locks, asks it,
//! unlocks and acts.
//!
//! Locks are taken in the order table, room, sink. A thread that holds the room's lock does not wait, spawn, write
//! or signal.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::entry_error::EntryError;
use super::history::History;
use super::life::{Effects, Event};
use super::names::{Key, Name, SharedFailures};
use super::past::Past;
use super::state::{Occupant, State};
use crate::backend::{Handle, Shared};
use crate::clients::Client;
use crate::framing::template::Subject;
use crate::recipe::{Keep, Recipe};
use crate::sys::lock;

pub(super) struct Room {
    pub(super) key: Key,
    /// `None` where clients of all names share the room.
    pub(super) name: Option<Arc<Name>>,
    pub(super) recipe: Arc<Recipe>,
    pub(super) shared: Arc<Shared>,
    pub(super) failures: SharedFailures,
    state: Mutex<State>,
    /// Notified when a client that waits should ask again.
    pub(super) changed: Condvar,
}

impl Room {
    pub(super) fn new(
        key: Key,
        name: Option<Arc<Name>>,
        recipe: Arc<Recipe>,
        shared: Arc<Shared>,
        failures: SharedFailures,
        state: State,
    ) -> Self {
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { key, name, recipe, shared, failures, state, changed }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The name for the log; empty where all names share the room.
    pub(super) fn label(&self) -> &str {
        self.name.as_ref().map_or("", |name| &name.text)
    }

    /// Takes a slot. Called while the table is locked, so that the room is not removed meanwhile.
    pub(super) fn reserve(&self) -> Result<(), EntryError> {
        let mut state = self.lock();
        let closed = state.life.is_shutting_down() || state.life.is_stuck();
        if closed || state.life.is_idle() && self.failures.get().pause(Instant::now()).is_some() {
            return Err(self.refusal(&state, Event::Reserved));
        }
        state.life.on(Event::Reserved);
        state.empty_since = None;
        Ok(())
    }

    /// Why a client may not join.
    pub(super) fn refusal(&self, state: &State, event: Event) -> EntryError {
        match event {
            _ if state.life.is_shutting_down() => EntryError::ShuttingDown,
            _ if state.life.is_stuck() => EntryError::Stuck,
            Event::StartFailed => EntryError::Start(Arc::clone(&state.failure)),
            _ => {
                let failures = self.failures.get();
                EntryError::Failing(failures.in_a_row(), failures.pause(Instant::now()).unwrap_or_default())
            }
        }
    }

    /// Asks the room's life. What concerns the clients that wait is done at once, under the same lock.
    pub(super) fn on(&self, state: &mut State, event: Event) -> Effects {
        let effects = state.life.on(event);
        if effects.has(Effects::ADMIT)
            && let Some(backend) = state.backend.clone()
        {
            for arrival in std::mem::take(&mut state.arrivals) {
                state.answers.push((arrival.client.id, Ok(Arc::clone(&backend))));
                self.announce_join(&backend, &arrival);
                state.add(arrival);
            }
        }
        if effects.has(Effects::REFUSE_ALL) {
            let refusal = self.refusal(state, event);
            for arrival in std::mem::take(&mut state.arrivals) {
                state.answers.push((arrival.client.id, Err(refusal.clone())));
            }
        }
        effects
    }

    /// Unlocks the room and does the other effects, except [`Effects::FORGET`], which needs the table.
    pub(super) fn act(&self, state: MutexGuard<'_, State>, effects: Effects) -> Effects {
        let backend = state.backend.clone();
        drop(state);
        if effects.has(Effects::WAKE) {
            self.changed.notify_all();
        }
        if let Some(backend) = backend {
            if effects.has(Effects::STOP) {
                backend.stop(Vec::new);
            }
            if effects.has(Effects::SHUT_DOWN) {
                backend.shut_down();
            }
            if effects.has(Effects::WAKE_READER) {
                backend.notify_reader();
            }
        }
        effects
    }

    /// Counts a client that joins, and announces it to the backend while the room is locked: so joins are sent in the
    /// order of the members.
    pub(super) fn announce_join(&self, backend: &Handle, occupant: &Occupant) {
        let client = &occupant.client;
        occupant.name.joined.fetch_add(1, Ordering::SeqCst);
        if self.recipe.notices.any() {
            // A client takes a turn even if there are only leave messages: this bounds how many can be queued.
            backend.announce_join(client, &self.join_notice(client).unwrap_or_default());
        } else {
            client.mark_joined();
        }
    }

    /// The message to the program that a client has joined.
    pub(super) fn join_notice(&self, client: &Client) -> Option<Vec<u8>> {
        self.recipe.notices.join(&subject(client))
    }

    /// The message to the program that a client has left.
    pub(super) fn leave_notice(&self, client: &Client) -> Option<Vec<u8>> {
        self.recipe.notices.leave(&subject(client))
    }

    /// The server shuts down: clients that wait are refused, members are closed, the backend is stopped.
    pub(super) fn shut_down(&self) {
        let mut state = self.lock();
        let effects = self.on(&mut state, Event::ShutDown);
        self.act(state, effects);
    }

    /// What is remembered of the room when it is removed, and the port of its program.
    pub(super) fn remains(&self) -> (Past, Option<u16>) {
        let mut state = self.lock();
        let nothing = History::new(Keep::Nothing, 0);
        let persist = self.recipe.history.persist;
        let history = persist.then(|| std::mem::replace(&mut state.history, nothing));
        (Past { joined: 0, history, failures: self.failures.get() }, state.port)
    }
}

fn subject(client: &Client) -> Subject<'_> {
    Subject {
        id: client.id,
        room: &client.room,
        address: &client.address,
        query: &client.query,
        headers: &client.headers,
    }
}
