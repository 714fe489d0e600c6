//! The clients that wait to write to a backend whose stdin is full: in their order, each once.

use std::collections::VecDeque;
use std::thread::Thread;

/// A client that waits. A turn may be reserved before its thread begins to wait.
#[derive(Debug)]
struct Waiter {
    client: u64,
    thread: Option<Thread>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Turns(VecDeque<Waiter>);

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_first(&self, client: u64) -> bool {
        self.0.front().is_some_and(|first| first.client == client)
    }

    /// Reserves the last turn, for a thread that waits later.
    pub(super) fn reserve(&mut self, client: u64) {
        self.0.push_back(Waiter { client, thread: None });
    }

    /// Sets the current thread to be woken at this client's turn, which is the last one unless it was reserved.
    pub(super) fn wait(&mut self, client: u64) {
        let thread = Some(std::thread::current());
        match self.0.iter_mut().find(|waiter| waiter.client == client) {
            Some(waiter) => waiter.thread = thread,
            None => self.0.push_back(Waiter { client, thread }),
        }
    }

    /// Moves the first client to the end.
    pub(super) fn go_last(&mut self) {
        self.0.rotate_left(1);
    }

    pub(super) fn leave(&mut self, client: u64) {
        self.0.retain(|waiter| waiter.client != client);
    }

    pub(super) fn wake_first(&self) {
        if let Some(Waiter { thread: Some(thread), .. }) = self.0.front() {
            thread.unpark();
        }
    }

    pub(super) fn wake_all(&self) {
        for thread in self.0.iter().filter_map(|waiter| waiter.thread.as_ref()) {
            thread.unpark();
        }
    }
}
