//! The room as its backend sees it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::life::{Effects, Event};
use super::slot::Registration;
use crate::backend::{Departed, Outcome, RoomSide};
use crate::clients::Client;
use crate::framing::batch::Batch;
use crate::framing::output::Decoded;

impl Registration {
    /// The backend has ended, or cannot be ended: removes its members.
    fn end(&self, event: fn(usize) -> Event) -> Vec<Arc<Client>> {
        let mut state = self.room.lock();
        let members = state.remove_all();
        state.backend = None;
        state.metadata = None;
        if !self.room.recipe.history.persist {
            state.history.clear();
        }
        let effects = self.room.on(&mut state, event(members.len()));
        let effects = self.room.act(state, effects);
        self.act(effects, members.iter().map(|member| &member.name));
        members.into_iter().map(|member| member.client).collect()
    }
}

impl RoomSide for Registration {
    fn name(&self) -> &str {
        self.room.label()
    }

    fn members_for(&self, batch: &Batch, decoded: &Decoded) -> Arc<[Arc<Client>]> {
        let mut state = self.room.lock();
        state.history.add(batch, decoded);
        state.list()
    }

    fn set_metadata(&self, metadata: Vec<u8>) {
        self.room.lock().metadata = Some(metadata.into());
    }

    fn member_count(&self) -> usize {
        self.room.lock().members.len()
    }

    fn is_wanted(&self) -> bool {
        !self.room.lock().life.is_shutting_down()
    }

    fn empty_since(&self) -> Option<Instant> {
        self.room.lock().empty_since
    }

    fn end_linger(&self, since: Instant) -> bool {
        let mut state = self.room.lock();
        // The caller stops the backend.
        state.empty_since == Some(since) && state.life.on(Event::LingerOver).has(Effects::STOP)
    }

    fn backend_ending(&self) {
        self.room.lock().life.on(Event::Exiting);
    }

    fn remove_members(&self) -> Departed {
        let (members, leaving) = {
            let mut state = self.room.lock();
            let members = state.remove_all();
            state.life.on(Event::Closed(members.len()));
            (members, state.leaving.clone())
        };
        self.act(Effects::default(), members.iter().map(|member| &member.name));
        let members: Vec<_> = members.into_iter().map(|member| member.client).collect();
        let mut leaves = Vec::new();
        for client in members.iter().chain(&leaving) {
            client.leave_once(|| {
                leaves.extend(self.room.leave_notice(client).map(|notice| (Arc::clone(client), notice)));
            });
        }
        Departed { members, leaves }
    }

    fn backend_ended(&self, outcome: Outcome, lived: Duration) -> Vec<Arc<Client>> {
        self.room.failures.note(outcome, lived);
        self.end(Event::Gone)
    }

    fn backend_stuck(&self) -> Vec<Arc<Client>> {
        self.end(Event::Stuck)
    }

    fn reader_ended(&self) {
        self.table.reader_ends();
    }
}
