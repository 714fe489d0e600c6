//! The writing core of both sinks: a queue, and a descriptor that takes what it can without blocking.
//!
//! It knows nothing of frames or messages. Its owner holds the lock and the descriptor.

use std::io::IoSlice;
use std::time::Instant;

use rustix::io::Errno;

use super::state::{CloseState, Pending, WriteResult};
use super::stream::Stream;

/// Data handed to one `writev`.
const MAX_WRITE: usize = 64 * 1024;

/// Writes in a row for one sink before the thread that watches it serves the others.
const ROUNDS: usize = 16;

/// The other end is gone: the owner has to call [`Writer::break_off`].
#[derive(Debug)]
pub(super) struct Gone;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Writer<Q> {
    pub(super) queue: Q,
    pub(super) close_state: CloseState,
    /// A thread polls the descriptor and flushes.
    watched: bool,
    /// Bytes the kernel took since the beginning.
    pub(super) taken: u64,
    /// When the kernel last took something of what waited, or when the waiting began.
    pub(super) moved: Instant,
}

impl<Q: Pending> Writer<Q> {
    pub(super) fn new(queue: Q) -> Self {
        let moved = Instant::now();
        Self { queue, close_state: CloseState::Open, watched: false, taken: 0, moved }
    }

    /// Writes past the queue, which is empty: what the kernel took, 0 where it would block.
    pub(super) fn write_now(&mut self, stream: &Stream, slices: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let written = match stream.write(slices) {
            Ok(written) => written,
            Err(Errno::AGAIN) => 0,
            // EPIPE, ECONNRESET and all else.
            Err(_) => return Err(Gone),
        };
        self.taken += written as u64;
        Ok(written)
    }

    /// Writes from the queue until it is empty, the kernel takes no more, or it is others' turn.
    pub(super) fn write_queue(&mut self, stream: &Stream) -> Result<(), Gone> {
        for _ in 0..ROUNDS {
            if self.queue.is_empty() {
                break;
            }
            let mut slices = Vec::with_capacity(8);
            self.queue.next(MAX_WRITE, &mut slices);
            match stream.write(&slices) {
                Ok(written) => {
                    drop(slices);
                    self.queue.advance(written);
                    self.taken += written as u64;
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) => break,
                Err(_) => return Err(Gone),
            }
        }
        if self.queue.is_empty() && self.close_state == CloseState::Closing {
            self.close_state = CloseState::Closed;
        }
        Ok(())
    }

    /// What a call that handed something over answers.
    pub(super) fn result(&self) -> WriteResult {
        if self.close_state == CloseState::Broken {
            WriteResult::Refused
        } else if self.queue.is_empty() {
            WriteResult::Clear
        } else {
            WriteResult::Waits { needs_watcher: !self.watched }
        }
    }

    /// The same for the thread that watches: once nothing waits, it does so no more.
    pub(super) fn watched_result(&mut self) -> WriteResult {
        let result = self.result();
        if !matches!(result, WriteResult::Waits { .. }) {
            self.watched = false;
        }
        result
    }

    /// Whether something waits and no thread watches; from here on it counts as watched.
    pub(super) fn claim_watch(&mut self) -> bool {
        if self.watched || self.queue.is_empty() {
            return false;
        }
        self.watched = true;
        self.moved = Instant::now();
        true
    }

    /// Throws away what waits and takes nothing more.
    pub(super) fn break_off(&mut self) {
        self.close_state = CloseState::Broken;
        self.queue.clear();
    }
}
