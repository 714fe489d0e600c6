//! Who waits to hand something to a program whose input is full: in the order of coming, each client once.

use std::collections::VecDeque;
use std::thread::Thread;

/// A client that waits. It may have its place in the line before its thread has come to wait.
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

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is this client's turn.
    pub(super) fn is_first(&self, client: u64) -> bool {
        self.0.front().is_some_and(|first| first.client == client)
    }

    /// Takes a place at the end of the line, for a thread that comes later.
    pub(super) fn reserve(&mut self, client: u64) {
        self.0.push_back(Waiter { client, thread: None });
    }

    /// Has the current thread woken for this client, at the place that it has or at the end of the line.
    pub(super) fn wait(&mut self, client: u64) {
        let thread = Some(std::thread::current());
        match self.0.iter_mut().find(|waiter| waiter.client == client) {
            Some(waiter) => waiter.thread = thread,
            None => self.0.push_back(Waiter { client, thread }),
        }
    }

    /// Goes from the first place to the last.
    pub(super) fn go_last(&mut self) {
        self.0.rotate_left(1);
    }

    /// Gives the place up.
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
