//! How a client comes into a room: to the process that runs, or to the next one, in the order of coming.
//!
//! Nothing waits, spawns, writes or signals while it holds the room's lock: that comes after.

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::member::Member;
use super::room::Room;
use super::state::{Phase, State};
use super::table::RoomSlot;
use crate::backend::{Handle, Outcome, RoomSide, StartContext, StartError, Variables, start_backend};
use crate::clients::Client;
use crate::counters::Count;
use crate::sys::lock;

/// A client that waits for the old process to end is woken at the latest after this to look again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a client waits before it matters whether it is still there. One that hangs up sooner is a
/// client like any other: it joins, and it leaves.
const WAITING_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a client could not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinError {
    /// The program could not be started; says of it what clients may know.
    Start(Arc<str>),
    /// The room's last program cannot be ended.
    Stuck,
    /// The server is shutting down.
    ShuttingDown,
    /// The room's program failed so many times in a row that it is not started for now.
    Failing(u32),
    /// The client has hung up meanwhile.
    Gone,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(reason) => f.write_str(reason),
            Self::Stuck => f.write_str("room is not available: its last program does not end"),
            Self::ShuttingDown => f.write_str("server is shutting down"),
            Self::Failing(times) => write!(f, "the program failed {times} times in a row"),
            Self::Gone => f.write_str("hung up while it waited"),
        }
    }
}

impl Room {
    /// Brings a client in: to the process that runs, to the next one if that is on its way out, or to
    /// one that is started for it, with `cgi` in its environment. The child sees the join before the
    /// client's first message, and all joins in the order of ids, in which clients come: `client` makes the
    /// client, with the next id, while the room is locked.
    pub fn join(
        mut slot: RoomSlot,
        client: impl FnOnce() -> Arc<Client>,
        cgi: &dyn Fn() -> Variables,
        mut stay: impl FnMut(&Arc<Client>, Instant) -> bool,
    ) -> (Arc<Client>, Result<Member, JoinError>) {
        let room = Arc::clone(&slot.room);
        let (client, entered) = room.enter(client, cgi, &mut stay);
        let child = match entered {
            Ok(child) => child,
            Err(e) => return (client, Err(e)),
        };
        slot.used = true;
        child.mind(&client, client.sink.flush());
        let member =
            Member { room: Arc::clone(&room), child: Arc::clone(&child), client: Arc::clone(&client) };
        let Some(table) = room.table.upgrade() else { return (client, Err(JoinError::ShuttingDown)) };
        table.shared.counters.one(Count::Joined);
        table
            .log()
            .info("client joined")
            .room(&room.name)
            .client(client.id)
            .field("address", &client.address)
            .write();
        if table.recipe.notices.any() {
            let join = || room.join_notice(&client).unwrap_or_default();
            child.settle_join(&client, join, |moved| stay(&client, moved));
        }
        (client, Ok(member))
    }

    /// Puts a client on the list of a running process; starts one where there is none.
    fn enter(
        self: &Arc<Self>,
        client: impl FnOnce() -> Arc<Client>,
        cgi: &dyn Fn() -> Variables,
        stay: &mut impl FnMut(&Arc<Client>, Instant) -> bool,
    ) -> (Arc<Client>, Result<Arc<Handle>, JoinError>) {
        let mut state = lock(&self.state);
        let client = client();
        if let Phase::Running(child) = &state.phase
            && !state.shutting_down
        {
            let child = Arc::clone(child);
            self.admit(&mut state, &child, &client);
            drop(state);
            // A slow client that was alone is not any more.
            child.members_changed();
            return (client, Ok(child));
        }
        state.arrivals.push_back(Arc::clone(&client));
        let result = self.wait_to_enter(state, &client, cgi, stay);
        if result.is_err() {
            // Perhaps it was the first, whose part it is to start the process.
            self.changed.notify_all();
        }
        (client, result)
    }

    /// Adds a member, and tells the child in the same moment: so joins come in the order of the list.
    fn admit(&self, state: &mut State, child: &Arc<Handle>, client: &Arc<Client>) {
        state.add(client);
        state.joined += 1;
        self.announce(child, client);
    }

    fn announce(&self, child: &Arc<Handle>, client: &Arc<Client>) {
        if self.table.upgrade().is_some_and(|table| table.recipe.notices.any()) {
            // A client takes its turn even if there is only a leave message: this bounds the leave messages that can
            // be queued.
            child.announce(client, &self.join_notice(client).unwrap_or_default());
        } else {
            client.mark_joined();
        }
    }

    /// A client that has arrived waits for the process, or starts it if it is the first.
    fn wait_to_enter<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        client: &Arc<Client>,
        cgi: &dyn Fn() -> Variables,
        stay: &mut impl FnMut(&Arc<Client>, Instant) -> bool,
    ) -> Result<Arc<Handle>, JoinError> {
        let came = Instant::now();
        let seen = state.failed_starts;
        loop {
            if let Some(child) = state.take_admission(client.id) {
                return Ok(child);
            }
            let refusal = match &state.phase {
                _ if state.shutting_down => Some(JoinError::ShuttingDown),
                Phase::Stuck => Some(JoinError::Stuck),
                // A failed start fails all who waited for it; the next client tries again.
                Phase::Idle if state.failed_starts > seen => {
                    Some(JoinError::Start(Arc::clone(&state.failure)))
                }
                Phase::Idle if state.failures.pause(Instant::now()).is_some() => {
                    Some(JoinError::Failing(state.failures.in_a_row()))
                }
                _ => None,
            };
            if let Some(refusal) = refusal {
                // Before the room is unlocked: nobody may let it in any more.
                state.give_up_arrival(client.id);
                return Err(refusal);
            }
            match &state.phase {
                Phase::Idle if state.arrivals.front().is_some_and(|first| first.id == client.id) => {
                    state.arrivals.pop_front();
                    state.phase = Phase::Starting { ends: false };
                    drop(state);
                    // A start may take long: the client is told that the handshake is over. It misses
                    // nothing, for nothing is said yet.
                    let _ = client.sink.flush();
                    // On the list before the process runs: it may say something at once, and exit.
                    lock(&self.state).add(client);
                    let started = self.start(client, cgi);
                    return self.started(client, started);
                }
                // An end takes long enough to be told that the handshake is over; and while it does, the reader
                // has to know that a client waits. A start usually does not: the client is told when it is on the
                // list, so that it misses nothing.
                Phase::Stopping(child) => {
                    let child = Arc::clone(child);
                    drop(state);
                    let _ = client.sink.flush();
                    child.wake_reader_thread();
                    state = lock(&self.state);
                    if matches!(state.phase, Phase::Stopping(_)) {
                        state = self.wait_for_change(state, client, came, stay)?;
                    }
                }
                Phase::Idle | Phase::Starting { .. } | Phase::Running(_) | Phase::Stuck => {
                    state = self.wait_for_change(state, client, came, stay)?;
                }
            }
        }
    }

    /// One wait of a client that has arrived. Woken by whoever starts a process or by the reader that ends; both
    /// take bounded time.
    fn wait_for_change<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        client: &Arc<Client>,
        came: Instant,
        stay: &mut impl FnMut(&Arc<Client>, Instant) -> bool,
    ) -> Result<MutexGuard<'a, State>, JoinError> {
        let waited = self.changed.wait_timeout(state, LOOK_AGAIN);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if came.elapsed() >= LOOK_AGAIN && state.find(client.id).is_none() {
            drop(state);
            let _ = client.sink.flush();
            let gone = came.elapsed() > WAITING_TIMEOUT && !stay(client, came);
            state = lock(&self.state);
            // It may have got in meanwhile: then it leaves like any other.
            if gone && state.give_up_arrival(client.id) {
                return Err(JoinError::Gone);
            }
        }
        Ok(state)
    }

    /// The process runs, or does not; or has run and exited already.
    fn started(
        &self,
        client: &Arc<Client>,
        started: Result<Arc<Handle>, StartError>,
    ) -> Result<Arc<Handle>, JoinError> {
        let mut state = lock(&self.state);
        let result = match started {
            Ok(child) => {
                // If the client is no longer on the list, the process is over, the client has been told,
                // and the phase is another process's.
                let over = state.find(client.id).is_none();
                let ends = matches!(state.phase, Phase::Starting { ends: true });
                if !over {
                    state.joined += 1;
                    self.announce(&child, client);
                }
                match (over, ends || state.shutting_down) {
                    (true, _) => {}
                    (false, true) => state.phase = Phase::Stopping(Arc::clone(&child)),
                    (false, false) => {
                        state.phase = Phase::Running(Arc::clone(&child));
                        for arrival in std::mem::take(&mut state.arrivals) {
                            self.admit(&mut state, &child, &arrival);
                            state.admitted.push((arrival.id, Arc::clone(&child)));
                        }
                    }
                }
                let (shutting_down, killed) = (state.shutting_down, state.killed);
                drop(state);
                if shutting_down {
                    child.shut_down();
                }
                if killed {
                    child.kill();
                }
                Ok(child)
            }
            Err(e) => {
                let reason: Arc<str> = e.public().into();
                state.remove(client.id);
                state.phase = Phase::Idle;
                state.failed_starts += 1;
                state.failure = Arc::clone(&reason);
                // Then it was not the program that failed.
                let shutting_down = state.shutting_down;
                if !shutting_down && e.is_of_the_program() {
                    state.failures.note(Outcome::Failed, Duration::ZERO, Instant::now());
                }
                drop(state);
                Err(if shutting_down { JoinError::ShuttingDown } else { JoinError::Start(reason) })
            }
        };
        self.changed.notify_all();
        result
    }

    fn start(
        self: &Arc<Self>,
        client: &Client,
        cgi: &dyn Fn() -> Variables,
    ) -> Result<Arc<Handle>, StartError> {
        let Some(table) = self.table.upgrade() else {
            return Err(StartError::Resources(std::io::ErrorKind::Interrupted.into()));
        };
        // A separate statement, so that the room's lock is released before `port_for` takes the table's.
        let port = lock(&self.state).port;
        let port = table.port_for(port);
        // Without one, the one it had is given up: it may be another room's by now.
        lock(&self.state).port = port.unwrap_or(None);
        table.reader_starts();
        let started = match port {
            Ok(port) => {
                let context = StartContext {
                    room: self.name.to_string(),
                    query: client.query.clone(),
                    address: client.address.clone(),
                    port,
                    cgi: cgi(),
                };
                let room_side: Arc<dyn RoomSide> = Arc::clone(self) as Arc<dyn RoomSide>;
                start_backend(&table.recipe, &table.shared, &context, room_side)
            }
            Err(()) => Err(StartError::NoPort),
        };
        if let Ok(child) = &started {
            table.note(child);
        }
        if let Err(e) = &started {
            table.shared.counters.one(Count::StartFailed);
            table.reader_ends();
            table.log().error("program not started").room(&self.name).field("error", e).write();
        }
        started
    }
}
