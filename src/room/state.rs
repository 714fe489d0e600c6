//! What a room knows while it is locked: where its process is in its life, and who is in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::failures::Failures;
use super::history::History;
use crate::backend::Handle;
use crate::clients::Client;

/// Where a room's process is in its life.
pub(super) enum Phase {
    /// There is none.
    Idle,
    /// One of the clients is starting it. `ends`: it has exited already.
    Starting {
        /// It has exited before its start was over.
        ends: bool,
    },
    /// It answers.
    Running(Arc<Handle>),
    /// It is on its way out; who comes now waits for the next one.
    Stopping(Arc<Handle>),
    /// It cannot be ended; nobody comes in.
    Stuck,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// Members, and those who hold a slot.
    pub(super) slots: usize,
    /// Since when there are none.
    pub(super) empty_since: Option<Instant>,
    /// In the order of their numbers.
    pub(super) members: Vec<Arc<Client>>,
    /// Those who are no members any more, but whose leave the program may not have been told yet.
    pub(super) leaving: Vec<Arc<Client>>,
    /// Clients that wait for a process, in the order of their coming.
    pub(super) arrivals: VecDeque<Arc<Client>>,
    /// Those that got in meanwhile, and with which process; their threads take this up.
    pub(super) admitted: Vec<(u64, Arc<Handle>)>,
    /// The members as a list, until somebody comes or goes.
    pub(super) list: Option<Arc<[Arc<Client>]>>,
    /// What is replayed to those who come.
    pub(super) history: History,
    /// Where its programs listen, if they talk over TCP.
    pub(super) port: Option<u16>,
    /// How many clients have joined, ever.
    pub(super) joined: u64,
    /// What the program said of the room: JSON.
    pub(super) metadata: Option<Arc<[u8]>>,
    /// How many starts have failed, and why the last one did.
    pub(super) failed_starts: u64,
    pub(super) failure: Arc<str>,
    /// How its programs failed.
    pub(super) failures: Failures,
    pub(super) shutting_down: bool,
    /// Nothing is to live any more.
    pub(super) killed: bool,
}

impl State {
    /// A room without anybody or anything, that goes on where its past ended.
    pub(super) fn new(port: Option<u16>, joined: u64, history: History, failures: Failures) -> Self {
        Self {
            phase: Phase::Idle,
            slots: 0,
            empty_since: None,
            members: Vec::new(),
            leaving: Vec::new(),
            arrivals: VecDeque::new(),
            admitted: Vec::new(),
            list: None,
            history,
            port,
            joined,
            metadata: None,
            failed_starts: 0,
            failure: "".into(),
            failures,
            shutting_down: false,
            killed: false,
        }
    }

    /// Adds a member. It gets the history before anything else, because nothing is sent to it before it is
    /// on the list; queued, not written, because the room is locked.
    pub(super) fn add(&mut self, client: &Arc<Client>) {
        for (batch, part) in self.history.replay() {
            client.sink.queue_replay(&batch, part);
        }
        // The newest, nearly always: then nobody else has to be looked at.
        let at = match self.members.last() {
            Some(last) if last.id > client.id => self.members.partition_point(|member| member.id < client.id),
            _ => self.members.len(),
        };
        self.members.insert(at, Arc::clone(client));
        self.list = None;
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(at) = self.find(id) else { return false };
        self.list = None;
        self.members.remove(at);
        true
    }

    /// Takes a client off those that wait, if it still is one of them.
    pub(super) fn give_up_arrival(&mut self, id: u64) -> bool {
        let at = self.arrivals.iter().position(|arrival| arrival.id == id);
        at.is_some_and(|at| self.arrivals.remove(at).is_some())
    }

    /// The process that a client got in with while it waited.
    pub(super) fn take_admission(&mut self, id: u64) -> Option<Arc<Handle>> {
        let at = self.admitted.iter().position(|(admitted, _)| *admitted == id)?;
        Some(self.admitted.swap_remove(at).1)
    }

    /// Takes a member off the list; its place stays taken until its leave has been told.
    pub(super) fn begin_to_leave(&mut self, client: &Arc<Client>) -> bool {
        let present = self.remove(client.id);
        if present {
            self.leaving.push(Arc::clone(client));
        }
        present
    }

    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.members.binary_search_by_key(&id, |member| member.id).ok()
    }
}
