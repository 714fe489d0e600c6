//! What a room's lock guards: the life of its process, and its clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::entry_error::EntryError;
use super::history::History;
use super::life::Life;
use super::names::Name;
use crate::backend::Handle;
use crate::clients::Client;

/// A client, and the name that its slot counts for.
pub(super) struct Occupant {
    pub(super) client: Arc<Client>,
    pub(super) name: Arc<Name>,
}

/// The answer to a client that asks to join.
pub(super) type Answer = Result<Arc<Handle>, EntryError>;

pub(super) struct State {
    pub(super) life: Life,
    /// The backend, from when its start has returned until it has ended.
    pub(super) backend: Option<Arc<Handle>>,
    /// Since when no slot is taken.
    pub(super) empty_since: Option<Instant>,
    /// In the order of their ids.
    pub(super) members: Vec<Occupant>,
    /// Clients that are no members any more and whose leave notice may not be sent yet.
    pub(super) leaving: Vec<Arc<Client>>,
    /// Clients that wait to join, in the order in which they came.
    pub(super) arrivals: VecDeque<Occupant>,
    /// Answers for clients that waited; each client's thread takes its own.
    pub(super) answers: Vec<(u64, Answer)>,
    /// The members as a list, until one joins or leaves.
    pub(super) list: Option<Arc<[Arc<Client>]>>,
    pub(super) history: History,
    /// Where the program listens, if it talks over TCP.
    pub(super) port: Option<u16>,
    /// JSON.
    pub(super) metadata: Option<Arc<[u8]>>,
    /// Why the last start failed, if it did.
    pub(super) failure: Arc<str>,
}

impl State {
    pub(super) fn new(life: Life, history: History, port: Option<u16>) -> Self {
        Self {
            life,
            backend: None,
            empty_since: None,
            members: Vec::new(),
            leaving: Vec::new(),
            arrivals: VecDeque::new(),
            answers: Vec::new(),
            list: None,
            history,
            port,
            metadata: None,
            failure: "".into(),
        }
    }

    /// Adds a member, and queues the history for it. Nothing is sent to it before it is a member, so the history is
    /// first. It is not written here, because the room is locked.
    pub(super) fn add(&mut self, occupant: Occupant) {
        let client = &occupant.client;
        for (batch, part) in self.history.replay(&client.room) {
            client.sink.queue_replay(&batch, part);
        }
        // The newest is nearly always the last one.
        let at = match self.members.last() {
            Some(last) if last.client.id > client.id => {
                self.members.partition_point(|member| member.client.id < client.id)
            }
            _ => self.members.len(),
        };
        occupant.name.clients.fetch_add(1, Ordering::SeqCst);
        self.members.insert(at, occupant);
        self.list = None;
    }

    pub(super) fn has_member(&self, id: u64) -> bool {
        self.members.binary_search_by_key(&id, |member| member.client.id).is_ok()
    }

    /// Removes a member; its slot stays taken.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Ok(at) = self.members.binary_search_by_key(&id, |member| member.client.id) else { return false };
        self.list = None;
        self.members.remove(at).name.clients.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Removes all members and gives their slots back to their names; the life of the room counts its own slots. If the
    /// start has not returned, the client that starts the backend is not counted as joined yet.
    pub(super) fn remove_all(&mut self) -> Vec<Occupant> {
        self.list = None;
        let members = std::mem::take(&mut self.members);
        for member in &members {
            member.name.clients.fetch_sub(1, Ordering::SeqCst);
            member.name.give_back_slot();
            if self.backend.is_none() {
                member.name.joined.fetch_add(1, Ordering::SeqCst);
            }
        }
        members
    }

    /// Removes a member; its slot stays taken until its leave notice has been sent.
    pub(super) fn begin_to_leave(&mut self, client: &Arc<Client>) -> bool {
        let present = self.remove(client.id);
        if present {
            self.leaving.push(Arc::clone(client));
        }
        present
    }

    pub(super) fn list(&mut self) -> Arc<[Arc<Client>]> {
        let members = &self.members;
        Arc::clone(self.list.get_or_insert_with(|| members.iter().map(|it| Arc::clone(&it.client)).collect()))
    }

    /// Removes a client from those that wait, if it is one of them.
    pub(super) fn take_arrival(&mut self, id: u64) -> Option<Occupant> {
        let at = self.arrivals.iter().position(|arrival| arrival.client.id == id)?;
        self.arrivals.remove(at)
    }

    pub(super) fn take_answer(&mut self, id: u64) -> Option<Answer> {
        let at = self.answers.iter().position(|(of, _)| *of == id)?;
        Some(self.answers.swap_remove(at).1)
    }
}
