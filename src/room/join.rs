//! How a client joins: the backend that runs or the next one, in the order in which clients come.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::entry_error::EntryError;
use super::life::{Effects, Event};
use super::member::Member;
use super::ports::until_found;
use super::slot::RoomSlot;
use super::state::{Answer, Occupant, State};
use crate::backend::{Handle, Outcome, RoomSide, StartContext, StartError, start_backend};
use crate::clients::Client;
use crate::counters::Count;
use crate::recipe::Variables;

/// How long one wait for an answer takes at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// From then on it is checked whether a client that waits has hung up. One that hangs up sooner joins and leaves like
/// any other.
const WAITING_TIMEOUT: Duration = Duration::from_secs(10);

impl RoomSlot {
    /// Lets a client join the backend that runs, the next one if that one is stopping, or a new one that is started
    /// for it with `variables` in its environment. The program sees the join before the client's first message, and all
    /// joins in the order of their ids: `client` makes the client, with the next id, while the room is locked.
    pub fn join(
        mut self,
        client: impl FnOnce() -> Arc<Client>,
        variables: &dyn Fn() -> Variables,
        mut stay: impl FnMut(&Arc<Client>, Instant) -> bool,
    ) -> (Arc<Client>, Result<Member, EntryError>) {
        let (client, entered) = self.enter(client, variables, &mut stay);
        let backend = match entered {
            Ok(backend) => backend,
            Err(refusal) => return (client, Err(refusal)),
        };
        self.used = true;
        let room = &self.registration.room;
        // A slow client may have been the only one until now.
        backend.members_changed();
        backend.watch(&client, client.sink.flush());
        let member = Member {
            registration: self.registration.clone(),
            name: Arc::clone(&self.name),
            backend: Arc::clone(&backend),
            client: Arc::clone(&client),
        };
        room.shared.counters.one(Count::Joined);
        if room.recipe.notices.any() {
            let join = || room.join_notice(&client).unwrap_or_default();
            backend.finish_join(&client, join, |moved| stay(&client, moved));
        }
        (client, Ok(member))
    }

    /// Asks until there is an answer. If the answer is to start a backend, does so.
    fn enter(
        &self,
        client: impl FnOnce() -> Arc<Client>,
        variables: &dyn Fn() -> Variables,
        stay: &mut impl FnMut(&Arc<Client>, Instant) -> bool,
    ) -> (Arc<Client>, Answer) {
        let room = &self.registration.room;
        let came = Instant::now();
        let mut state = room.lock();
        let client = client();
        let occupant = Occupant { client: Arc::clone(&client), name: Arc::clone(&self.name) };
        state.arrivals.push_back(occupant);
        let mut flushed = false;
        loop {
            if let Some(answer) = state.take_answer(client.id) {
                return (client, answer);
            }
            let first = state.arrivals.front().is_some_and(|first| first.client.id == client.id);
            let failing = room.failures.get().pause(Instant::now()).is_some();
            let event = Event::Asks { first, failing };
            let effects = room.on(&mut state, event);
            if effects.has(Effects::START)
                && let Some(occupant) = state.take_arrival(client.id)
            {
                // A member before the program runs: it may print something at once, and exit.
                state.add(occupant);
                drop(state);
                // A start may take long: let the client see the end of the handshake.
                let _ = client.sink.flush();
                let started = self.start(variables);
                return (Arc::clone(&client), self.started(&client, started));
            }
            if effects.has(Effects::REFUSE) {
                state.take_arrival(client.id);
                let refusal = room.refusal(&state, event);
                return (client, Err(refusal));
            }
            if effects.has(Effects::ADMIT) {
                continue;
            }
            // The end of a process takes long: let the client see the end of the handshake. A start usually does not
            // take long, so then the client sees it as a member and misses nothing.
            if state.life.is_stopping() && !std::mem::replace(&mut flushed, true) {
                drop(state);
                let _ = client.sink.flush();
                state = room.lock();
                continue;
            }
            state = match self.wait(state, &client, came, stay) {
                Ok(state) => state,
                Err(refusal) => return (client, Err(refusal)),
            };
        }
    }

    /// Waits once. The thread that starts a backend, or the reader of the one that ends, ends the wait; both take
    /// bounded time.
    #[inline(never)]
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        client: &Arc<Client>,
        came: Instant,
        stay: &mut impl FnMut(&Arc<Client>, Instant) -> bool,
    ) -> Result<MutexGuard<'a, State>, EntryError> {
        let room = &self.registration.room;
        let waited = room.changed.wait_timeout(state, LOOK_AGAIN);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if came.elapsed() >= LOOK_AGAIN && state.arrivals.iter().any(|arrival| arrival.client.id == client.id)
        {
            drop(state);
            let _ = client.sink.flush();
            let gone = came.elapsed() > WAITING_TIMEOUT && !stay(client, came);
            state = room.lock();
            // If it has joined meanwhile, it leaves like any other.
            if gone && state.take_arrival(client.id).is_some() {
                let effects = room.on(&mut state, Event::GaveUp);
                room.act(state, effects);
                return Err(EntryError::Gone);
            }
        }
        Ok(state)
    }

    /// The start has returned. The process may have exited already.
    #[inline(never)]
    fn started(&self, client: &Arc<Client>, started: Result<Arc<Handle>, StartError>) -> Answer {
        let room = &self.registration.room;
        let mut state = room.lock();
        match started {
            Ok(backend) => {
                // If there is none, it has exited already, and its members have been closed.
                if state.life.has_process() {
                    state.backend = Some(Arc::clone(&backend));
                    // If it has ended the session already, this client has been closed.
                    if state.has_member(client.id) {
                        room.announce_join(
                            &backend,
                            &Occupant { client: Arc::clone(client), name: Arc::clone(&self.name) },
                        );
                    }
                }
                let effects = room.on(&mut state, Event::StartOk);
                self.registration.act(room.act(state, effects), std::iter::empty());
                Ok(backend)
            }
            Err(e) => {
                // In a shutdown, the start was cut short.
                if !state.life.is_shutting_down() && e.is_of_the_program() {
                    room.failures.note(Outcome::Failed, Duration::ZERO);
                }
                state.remove(client.id);
                state.failure = e.public().into();
                let effects = room.on(&mut state, Event::StartFailed);
                let refusal = room.refusal(&state, Event::StartFailed);
                room.act(state, effects);
                Err(refusal)
            }
        }
    }

    #[inline(never)]
    fn start(&self, variables: &dyn Fn() -> Variables) -> Result<Arc<Handle>, StartError> {
        let (room, table) = (&self.registration.room, &self.registration.table);
        // A separate statement, so that the room's lock is released before `port_for` takes the table's.
        let mut port = room.lock().port;
        // Once the old port is given up, another room may have it.
        let mut found = Err(());
        until_found(&mut || {
            found = table.port_for(port.take());
            found.is_ok()
        });
        let port = found;
        // Without a port, the old one is given up: another room may have it by now.
        room.lock().port = port.unwrap_or(None);
        table.reader_starts();
        let start = |port| {
            let context = StartContext { room: room.label().to_owned(), port, variables: variables() };
            let room_side: Arc<dyn RoomSide> = Arc::new(self.registration.clone());
            start_backend(&room.recipe, &room.shared, &context, room_side)
        };
        let started = match port {
            // A panic must not leave a room that waits for the start.
            Ok(port) => catch_unwind(AssertUnwindSafe(|| start(port)))
                .unwrap_or_else(|_| Err(StartError::Resources(io::Error::other("internal error")))),
            Err(()) => Err(StartError::NoPort),
        };
        match &started {
            Ok(backend) => table.add_handle(backend),
            Err(e) => {
                room.shared.counters.one(Count::StartFailed);
                table.reader_ends();
                room.shared.log.error(e.what()).room(&self.name.text).field("error", e).write();
            }
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::super::table::{Bounds, Table};
    use super::*;
    use crate::backend::panics::{recipe, shared};
    use crate::sink::Stream;
    use crate::site::Target;

    #[test]
    fn a_start_that_panics_is_a_failed_start_and_leaves_nothing_behind() {
        let table = Table::new(Arc::new(recipe()), Arc::new(shared()), Bounds::default(), Arc::default());
        for id in 1..3 {
            let (socket, _peer) = UnixStream::pair().expect("a pair of sockets");
            let stream = Arc::new(Stream::Socket(socket.into()));
            let client = || {
                let (address, query) = (String::new(), String::new());
                Arc::new(Client::new(id, "room".into(), address, query, Vec::new(), stream, 1000))
            };
            let slot = table.reserve(&Target::new("room", &table.recipe)).expect("a slot");
            let (_, joined) = slot.join(client, &|| panic!("a bug in the start"), |_, _| true);
            let error = joined.err().expect("it cannot join");
            assert_eq!(error.to_string(), "cannot start the program", "client {id}");
            assert_eq!((table.name_count(), table.backends()), (0, 0));
        }
    }
}
