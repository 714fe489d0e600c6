//! One room: its members, the process they share, and its life.
//!
//! ```text
//!           first client               last one left, or it exited
//!  Idle ──────────────────▶ Starting ──▶ Running ─────────────▶ Stopping ──▶ Idle (and forgotten)
//!    ▲                          │                                  │  ▲
//!    └────── failed start ──────┘            who comes now waits ──┘  └─ never two processes
//! ```
//!
//! Nothing waits, spawns, writes or signals while it holds the room's lock: that comes after.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::history::History;
use super::member::Member;
use super::state::{Phase, State};
use super::table::{Hooks, ReserveError, Table, Ticket, WeakTable};
use super::template::{Subject, Template};
use crate::child::{Audience, Child, Occasion, StartError, Variables};
use crate::client::Client;
use crate::config::Input;
use crate::counters::Count;
use crate::framing::gwsocket;
use crate::sys::lock;

/// A client that waits for the old process to end is woken at the latest after this to look again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a client waits before it matters whether it is still there. One that hangs up sooner is a
/// client like any other: it joins, and it leaves.
const WAITING_PATIENCE: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub struct Room {
    pub(super) name: Arc<str>,
    pub(super) table: WeakTable,
    pub(super) state: Mutex<State>,
    /// The phase has changed.
    pub(super) changed: Condvar,
}

/// Why a client could not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinError {
    /// The program could not be started; says why.
    Start(Arc<str>),
    /// The room's last program cannot be ended.
    Stuck,
    /// The server is shutting down.
    ShuttingDown,
    /// The client has hung up meanwhile.
    Gone,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(reason) => f.write_str(reason),
            Self::Stuck => ReserveError::Stuck.fmt(f),
            Self::ShuttingDown => ReserveError::ShuttingDown.fmt(f),
            Self::Gone => f.write_str("hung up while it waited"),
        }
    }
}

impl Room {
    pub(super) fn new(
        name: &str,
        table: WeakTable,
        port: Option<u16>,
        joined: u64,
        history: History,
    ) -> Self {
        Self {
            name: name.into(),
            table,
            state: Mutex::new(State::new(port, joined, history)),
            changed: Condvar::new(),
        }
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Called with the table locked, so that the room cannot be forgotten in between.
    pub(super) fn take_place(&self, most: Option<usize>) -> Result<(), ReserveError> {
        let mut state = lock(&self.state);
        match state.phase {
            Phase::Stuck => return Err(ReserveError::Stuck),
            _ if most.is_some_and(|most| state.places >= most) => return Err(ReserveError::RoomFull),
            _ if state.shutting_down => return Err(ReserveError::ShuttingDown),
            _ => state.places += 1,
        }
        state.empty_since = None;
        Ok(())
    }

    pub(super) fn give_back(&self) {
        self.vacate(|_| {});
    }

    /// Where its programs listen.
    pub(super) fn port(&self) -> Option<u16> {
        lock(&self.state).port
    }

    pub(super) fn is_gone(&self) -> bool {
        let state = lock(&self.state);
        state.places == 0 && matches!(state.phase, Phase::Idle)
    }

    /// Brings a client in: to the process that runs, to the next one if that is on its way out, or to
    /// one that is started for it, with `cgi` in its environment. The child sees the join before the
    /// client's first message.
    pub fn join(
        mut ticket: Ticket,
        client: &Arc<Client>,
        cgi: &dyn Fn() -> Variables,
        mut stay: impl FnMut(Instant) -> bool,
    ) -> Result<Member, JoinError> {
        let room = Arc::clone(&ticket.room);
        let child = room.enter(client, cgi, &mut stay)?;
        ticket.used = true;
        child.mind(client, client.sink.flush());
        let member =
            Member { room: Arc::clone(&room), child: Arc::clone(&child), client: Arc::clone(client) };
        let Some(table) = room.table.upgrade() else { return Err(JoinError::ShuttingDown) };
        table.settings.counters.one(Count::Joined);
        table
            .log()
            .info("client joined")
            .room(&room.name)
            .client(client.id)
            .field("address", &client.address)
            .write();
        if tells(&table.hooks) {
            // Waits for its turn even where nothing is said of a join, but something of the leave: so there
            // is at most one leave for each time that the program has read, and the queue stays bounded.
            child.greet(client, &room.join_notice(client).unwrap_or_default(), stay);
        } else {
            client.greet();
        }
        Ok(member)
    }

    /// Puts the client on the list of a running process; starts one where there is none.
    fn enter(
        self: &Arc<Self>,
        client: &Arc<Client>,
        cgi: &dyn Fn() -> Variables,
        stay: &mut impl FnMut(Instant) -> bool,
    ) -> Result<Arc<Child>, JoinError> {
        let came = Instant::now();
        let mut state = lock(&self.state);
        let seen = state.failures;
        loop {
            if state.shutting_down {
                return Err(JoinError::ShuttingDown);
            }
            match &state.phase {
                Phase::Running(child) => {
                    let child = Arc::clone(child);
                    state.add(client);
                    state.joined += 1;
                    drop(state);
                    // A slow client that was alone is not any more.
                    child.members_changed();
                    return Ok(child);
                }
                Phase::Stuck => return Err(JoinError::Stuck),
                // Those who waited for a start that failed share its fate; the next to come tries again.
                Phase::Idle if state.failures > seen => {
                    return Err(JoinError::Start(Arc::clone(&state.failure)));
                }
                Phase::Idle => {
                    state.phase = Phase::Starting { ends: false };
                    drop(state);
                    // A start may take long: the client is told that the handshake is over. It misses
                    // nothing, for nobody says anything yet.
                    let _ = client.sink.flush();
                    // On the list before the process runs: it may say something at once, and exit.
                    lock(&self.state).add(client);
                    let started = self.start(client, cgi);
                    return self.started(client, started);
                }
                Phase::Starting { .. } | Phase::Stopping(_) => {
                    // An end takes long enough to be told that the handshake is over; and while it does, the
                    // reader has to know that somebody waits. A start usually does not: the client is told
                    // when it is on the list, so that it misses nothing.
                    if let Phase::Stopping(child) = &state.phase {
                        let child = Arc::clone(child);
                        drop(state);
                        let _ = client.sink.flush();
                        child.look_again();
                        state = lock(&self.state);
                    }
                    // Woken by whoever starts or the reader that ends; both take bounded time.
                    while matches!(state.phase, Phase::Starting { .. } | Phase::Stopping(_)) {
                        let waited = self.changed.wait_timeout(state, LOOK_AGAIN);
                        drop(waited.unwrap_or_else(PoisonError::into_inner).0);
                        if came.elapsed() >= LOOK_AGAIN {
                            let _ = client.sink.flush();
                        }
                        if came.elapsed() > WAITING_PATIENCE && !stay(came) {
                            return Err(JoinError::Gone);
                        }
                        state = lock(&self.state);
                        if state.shutting_down {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// The process runs, or does not; or has run and exited already.
    fn started(
        &self,
        client: &Arc<Client>,
        started: Result<Arc<Child>, StartError>,
    ) -> Result<Arc<Child>, JoinError> {
        let mut state = lock(&self.state);
        let result = match started {
            Ok(child) => {
                // If the client is no longer on the list, the process is over, the client has been told,
                // and the phase is another process's.
                let over = state.find(client.id).is_none();
                let ends = matches!(state.phase, Phase::Starting { ends: true });
                state.joined += u64::from(!over);
                match (over, ends || state.shutting_down) {
                    (true, _) => {}
                    (false, true) => state.phase = Phase::Stopping(Arc::clone(&child)),
                    (false, false) => state.phase = Phase::Running(Arc::clone(&child)),
                }
                let (shutting_down, killed) = (state.shutting_down, state.killed);
                drop(state);
                if shutting_down {
                    child.stop_with_server(Vec::new);
                }
                if killed {
                    child.kill();
                }
                Ok(child)
            }
            Err(e) => {
                let reason: Arc<str> = e.to_string().into();
                state.remove(client.id);
                state.phase = Phase::Idle;
                state.failures += 1;
                state.failure = Arc::clone(&reason);
                // Then it was not the program that failed.
                let shutting_down = state.shutting_down;
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
    ) -> Result<Arc<Child>, StartError> {
        let Some(table) = self.table.upgrade() else {
            return Err(StartError::Resources(std::io::ErrorKind::Interrupted.into()));
        };
        // In a statement of its own: the room must not be locked while the table is asked.
        let port = lock(&self.state).port;
        let port = table.port_for(port);
        // Without one, the one it had is given up: it may be another room's by now.
        lock(&self.state).port = port.unwrap_or(None);
        table.reader_starts();
        let started = match port {
            Ok(port) => {
                let occasion = Occasion {
                    room: self.name.to_string(),
                    query: client.query.clone(),
                    address: client.address.clone(),
                    port,
                    cgi: cgi(),
                };
                let audience: Arc<dyn Audience> = Arc::clone(self) as Arc<dyn Audience>;
                Child::start(&table.settings, &occasion, audience)
            }
            Err(()) => Err(StartError::NotListening("no port of --tcpports is free".to_owned())),
        };
        if let Ok(child) = &started {
            table.note(child);
        }
        if let Err(e) = &started {
            table.settings.counters.one(Count::StartFailed);
            table.reader_ends();
            table.log().error("program not started").room(&self.name).field("error", e).write();
        }
        started
    }

    fn message(&self, table: &Table, template: &Template, client: &Client) -> Vec<u8> {
        let subject =
            Subject { id: client.id, room: &self.name, address: &client.address, query: &client.query };
        let mut message = template.render(&subject);
        // With --binary nothing is added to what the program reads.
        if table.settings.framing.input != Input::Raw {
            message.push('\n');
        }
        message.into_bytes()
    }

    /// What the program is told when a client comes.
    fn join_notice(&self, client: &Client) -> Option<Vec<u8>> {
        let table = self.table.upgrade()?;
        match &table.hooks {
            Hooks::Templates { join, .. } => Some(self.message(&table, join.as_ref()?, client)),
            Hooks::Gwsocket => Some(gwsocket::open(client.id, client.host())),
        }
    }

    /// What it is told when that client leaves.
    fn leave_notice(&self, client: &Client) -> Option<Vec<u8>> {
        let table = self.table.upgrade()?;
        match &table.hooks {
            Hooks::Templates { leave, .. } => Some(self.message(&table, leave.as_ref()?, client)),
            Hooks::Gwsocket => Some(gwsocket::close(client.id)),
        }
    }

    /// Takes a client out. The child sees the leave after its last message, because both come from the
    /// client's own thread; and before the end of its input, because the place is given back after.
    pub(super) fn leave(&self, client: &Arc<Client>, child: &Arc<Child>) {
        // Off the list first: what the program says of its leave is not for itself. A client whose process
        // has ended is on no list, and its place is free already.
        let present = lock(&self.state).begin_to_leave(client);
        client.leave_once(|| {
            if client.is_greeted()
                && let Some(notice) = self.leave_notice(client)
            {
                child.tell(&notice);
            }
        });
        if let Some(table) = self.table.upgrade() {
            table
                .log()
                .info("client left")
                .room(&self.name)
                .client(client.id)
                .field("address", &client.address)
                .seconds("duration", client.since.elapsed())
                .number("received", client.received.load(Ordering::Relaxed))
                .number("sent", client.sink.taken())
                .number("dropped", client.dropped.load(Ordering::Relaxed))
                .write();
        }
        if present {
            self.vacate(|state| state.leaving.retain(|leaving| leaving.id != client.id));
        }
        child.members_changed();
    }

    /// Gives one place back. If it was the last one and nobody is to be waited for, the process ends.
    fn vacate(&self, change: impl FnOnce(&mut State)) {
        let linger = self.table.upgrade().map_or(Duration::ZERO, |table| table.settings.linger);
        let mut state = lock(&self.state);
        change(&mut state);
        state.places -= 1;
        if state.places > 0 {
            return;
        }
        state.empty_since = Some(Instant::now());
        match &state.phase {
            Phase::Running(child) => {
                let child = Arc::clone(child);
                if linger.is_zero() {
                    state.phase = Phase::Stopping(Arc::clone(&child));
                    drop(state);
                    child.stop(Vec::new);
                } else {
                    drop(state);
                    child.look_again();
                }
            }
            Phase::Idle => {
                drop(state);
                self.forget();
            }
            Phase::Starting { .. } | Phase::Stopping(_) | Phase::Stuck => {}
        }
    }

    pub(super) fn forget(&self) {
        if let Some(table) = self.table.upgrade() {
            table.forget_if_gone(self);
        }
    }

    /// The server ends: nobody comes in any more, every member has left, the kill sequence begins.
    pub(super) fn shut_down(&self) {
        let mut state = lock(&self.state);
        state.shutting_down = true;
        self.changed.notify_all();
        let child = match &state.phase {
            Phase::Running(child) | Phase::Stopping(child) => Arc::clone(child),
            Phase::Idle | Phase::Starting { .. } | Phase::Stuck => return,
        };
        if matches!(state.phase, Phase::Running(_)) {
            state.phase = Phase::Stopping(Arc::clone(&child));
        }
        let members: Vec<_> = state.members.iter().chain(&state.leaving).cloned().collect();
        drop(state);
        let mut leaves = Vec::new();
        for client in members {
            client.leave_once(|| {
                leaves.extend(self.leave_notice(&client).map(|notice| (Arc::clone(&client), notice)));
            });
        }
        // Of those who are just joining only the ones whose join the program has been told.
        child.stop_with_server(|| {
            let told = leaves.into_iter().filter(|(client, _)| client.is_greeted());
            told.flat_map(|(_, notice)| notice).collect()
        });
    }

    pub(super) fn kill(&self) {
        let child = {
            let mut state = lock(&self.state);
            state.killed = true;
            match &state.phase {
                Phase::Running(child) | Phase::Stopping(child) => Arc::clone(child),
                Phase::Idle | Phase::Starting { .. } | Phase::Stuck => return,
            }
        };
        child.kill();
    }
}

/// Whether programs are told of clients that come or go.
fn tells(hooks: &Hooks) -> bool {
    match hooks {
        Hooks::Templates { join, leave } => join.is_some() || leave.is_some(),
        Hooks::Gwsocket => true,
    }
}
