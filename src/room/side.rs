//! The room as others see it: its process, which talks to it and ends, and whoever asks how it stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::History;
use super::listing::{Facts, Waiting};
use super::past::Past;
use super::room::Room;
use super::state::Phase;
use crate::backend::{Departed, Outcome, RoomSide};
use crate::clients::Client;
use crate::framing::batch::Batch;
use crate::framing::output::Decoded;
use crate::recipe::Keep;
use crate::sys::lock;

impl Room {
    /// How it stands.
    pub(super) fn facts(&self) -> Facts {
        let state = lock(&self.state);
        Facts {
            name: Arc::clone(&self.name),
            clients: state.members.len(),
            joined: state.joined,
            metadata: state.metadata.clone(),
        }
    }

    /// What waits in it.
    pub(super) fn waiting(&self) -> Waiting {
        let (members, child) = {
            let state = lock(&self.state);
            let child = match &state.phase {
                Phase::Running(child) | Phase::Stopping(child) => Some(Arc::clone(child)),
                Phase::Idle | Phase::Starting { .. } | Phase::Stuck => None,
            };
            (state.members.clone(), child)
        };
        // Each with its own lock, and none while the room is locked.
        let clients = members.iter().map(|client| client.sink.status().bytes_held).sum();
        let (program, unread) = child.map_or((0, 0), |child| (child.queued(), child.unread_messages()));
        Waiting { clients, program, unread }
    }

    /// What is to be remembered of it once it is gone.
    pub(super) fn past(&self, with_history: bool) -> Past {
        let mut state = lock(&self.state);
        let nothing = History::new(Keep::Nothing, 0);
        let history = with_history.then(|| std::mem::replace(&mut state.history, nothing));
        Past { joined: state.joined, history, failures: state.failures }
    }

    /// The process is gone: the members go with it, the next to come gets a new one.
    fn end(&self, phase: Phase) -> Vec<Arc<Client>> {
        let mut state = lock(&self.state);
        let members = std::mem::take(&mut state.members);
        if matches!(state.phase, Phase::Starting { .. }) {
            // It has exited before the one who started it could be counted.
            state.joined += members.len() as u64;
        }
        state.list = None;
        state.slots -= members.len();
        state.phase = phase;
        state.metadata = None;
        if !self.table.upgrade().is_some_and(|table| table.recipe.history.persist) {
            state.history.clear();
        }
        drop(state);
        self.changed.notify_all();
        self.forget();
        members
    }
}

impl RoomSide for Room {
    fn name(&self) -> &str {
        &self.name
    }

    fn take(&self, batch: &Batch, decoded: &Decoded) -> Arc<[Arc<Client>]> {
        let mut state = lock(&self.state);
        state.history.add(batch, decoded);
        if let Some(list) = &state.list {
            return Arc::clone(list);
        }
        let list: Arc<[Arc<Client>]> = state.members.as_slice().into();
        state.list = Some(Arc::clone(&list));
        list
    }

    fn describe(&self, metadata: Vec<u8>) {
        lock(&self.state).metadata = Some(metadata.into());
    }

    fn clients(&self) -> usize {
        lock(&self.state).members.len()
    }

    fn is_wanted(&self) -> bool {
        !lock(&self.state).shutting_down
    }

    fn empty_since(&self) -> Option<Instant> {
        lock(&self.state).empty_since
    }

    fn give_up_waiting(&self, since: Instant) -> bool {
        let mut state = lock(&self.state);
        match &state.phase {
            Phase::Running(child) if state.empty_since == Some(since) => {
                state.phase = Phase::Stopping(Arc::clone(child));
                true
            }
            _ => false,
        }
    }

    fn child_ends(&self) {
        let mut state = lock(&self.state);
        match &mut state.phase {
            Phase::Running(child) => {
                let child = Arc::clone(child);
                state.phase = Phase::Stopping(child);
            }
            Phase::Starting { ends } => *ends = true,
            Phase::Idle | Phase::Stopping(_) | Phase::Stuck => {}
        }
    }

    fn close_members_first(&self) -> Departed {
        let (members, all) = {
            let mut state = lock(&self.state);
            let members = std::mem::take(&mut state.members);
            state.list = None;
            state.slots -= members.len();
            let all: Vec<_> = members.iter().chain(&state.leaving).cloned().collect();
            (members, all)
        };
        let mut leaves = Vec::new();
        for client in all {
            client.leave_once(|| {
                leaves.extend(self.leave_notice(&client).map(|notice| (Arc::clone(&client), notice)));
            });
        }
        Departed { members, leaves }
    }

    fn child_ended(&self, outcome: Outcome, lived: Duration) -> Vec<Arc<Client>> {
        lock(&self.state).failures.note(outcome, lived, Instant::now());
        self.end(Phase::Idle)
    }

    fn child_is_stuck(&self) -> Vec<Arc<Client>> {
        self.end(Phase::Stuck)
    }

    fn reader_ended(&self) {
        if let Some(table) = self.table.upgrade() {
            table.reader_ends();
        }
    }
}
