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

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::state::{Phase, State};
use super::table::{ReserveError, WeakTable};
use crate::backend::Handle;
use crate::clients::Client;
use crate::framing::template::Subject;
use crate::sys::lock;

/// See the module's documentation.
pub struct Room {
    pub(super) name: Arc<str>,
    pub(super) table: WeakTable,
    pub(super) state: Mutex<State>,
    /// The phase has changed.
    pub(super) changed: Condvar,
}

impl Room {
    pub(super) fn new(name: &str, table: WeakTable, state: State) -> Self {
        Self { name: name.into(), table, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Called with the table locked, so that the room cannot be forgotten in between.
    pub(super) fn take_place(&self, most: Option<usize>) -> Result<(), ReserveError> {
        let mut state = lock(&self.state);
        if let (Phase::Idle, Some(pause)) = (&state.phase, state.failures.pause(Instant::now())) {
            return Err(ReserveError::Failing(state.failures.in_a_row(), pause));
        }
        match state.phase {
            Phase::Stuck => return Err(ReserveError::Stuck),
            _ if most.is_some_and(|most| state.slots >= most) => return Err(ReserveError::RoomFull),
            _ if state.shutting_down => return Err(ReserveError::ShuttingDown),
            _ => state.slots += 1,
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
        state.slots == 0 && matches!(state.phase, Phase::Idle)
    }

    /// What the program is told when a client comes.
    pub(super) fn join_notice(&self, client: &Client) -> Option<Vec<u8>> {
        self.table.upgrade()?.recipe.notices.join(&subject(client))
    }

    /// What it is told when that client leaves.
    pub(super) fn leave_notice(&self, client: &Client) -> Option<Vec<u8>> {
        self.table.upgrade()?.recipe.notices.leave(&subject(client))
    }

    /// Takes a client out. The child sees the leave after its last message, because both come from the
    /// client's own thread; and before the end of its input, because the place is given back after.
    pub(super) fn leave(&self, client: &Arc<Client>, child: &Arc<Handle>) {
        // Off the list first: what the program says of its leave is not for itself. A client whose process
        // has ended is on no list, and its place is free already.
        let present = lock(&self.state).begin_to_leave(client);
        child.leave_line(client);
        client.leave_once(|| {
            if client.has_joined()
                && let Some(notice) = self.leave_notice(client)
            {
                child.tell(&notice);
            }
        });
        if present {
            self.vacate(|state| state.leaving.retain(|leaving| leaving.id != client.id));
        }
        child.members_changed();
    }

    /// Gives one place back. If it was the last one and nobody is to be waited for, the process ends.
    fn vacate(&self, change: impl FnOnce(&mut State)) {
        let linger = self.table.upgrade().map_or(Duration::ZERO, |table| table.recipe.times.linger);
        let mut state = lock(&self.state);
        change(&mut state);
        state.slots -= 1;
        if state.slots > 0 {
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
                    child.wake_reader_thread();
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

    /// The server ends: nobody comes in any more, and the process's reader tells those who are there, then the
    /// process.
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
        drop(state);
        child.shut_down();
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

/// What notices say of a client.
fn subject(client: &Client) -> Subject<'_> {
    Subject { id: client.id, room: &client.room, address: &client.address, query: &client.query }
}
