//! What both sinks have in common: writing a queue to a descriptor without blocking. Knows nothing of frames and
//! messages. Its owner has the lock and the descriptor.

use std::io::IoSlice;
use std::time::Instant;

use rustix::io::Errno;

use super::state::{CloseState, Pending, WriteResult};
use super::stream::Stream;

/// Bytes handed to one `writev`.
const MAX_WRITE: usize = 64 * 1024;

/// Writes in a row for one sink before the thread that watches it serves the others.
const ROUNDS: usize = 16;

/// The peer is gone: the owner has to call [`Writer::break_off`].
#[derive(Debug)]
pub(super) struct Gone;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Writer<Q> {
    pub(super) queue: Q,
    pub(super) close_state: CloseState,
    /// A thread polls the descriptor and flushes.
    watched: bool,
    /// Bytes that the stream has taken and not written, when it was last asked.
    pub(super) owed: usize,
    /// Bytes that the stream took so far.
    pub(super) taken: u64,
    /// When the kernel last took something of what waited, or when the waiting began.
    pub(super) moved: Instant,
}

impl<Q: Pending> Writer<Q> {
    pub(super) fn new(queue: Q) -> Self {
        let moved = Instant::now();
        Self { queue, close_state: CloseState::Open, watched: false, owed: 0, taken: 0, moved }
    }

    /// Writes directly, while the queue is empty. Says how many bytes the stream took: 0 where it would block.
    pub(super) fn write_now(&mut self, stream: &Stream, slices: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let written = match stream.write(slices) {
            Ok(written) => written,
            Err(Errno::AGAIN) => 0,
            // EPIPE, ECONNRESET and all else.
            Err(_) => return Err(Gone),
        };
        self.taken += written as u64;
        self.owed = stream.owed();
        Ok(written)
    }

    /// Writes from the queue until it is empty, the kernel takes no more, or [`ROUNDS`] are over. The end is written only
    /// once the stream owes nothing.
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
        // What the stream had written of what it owed shows as a smaller debt.
        let owed = if self.queue.is_empty() { stream.flush().map_err(|_| Gone)? } else { stream.owed() };
        if owed < self.owed {
            self.moved = Instant::now();
        }
        self.owed = owed;
        if self.is_clear() && self.close_state == CloseState::Closing {
            self.close_state = CloseState::Closed;
        }
        Ok(())
    }

    /// Whether the kernel has everything.
    fn is_clear(&self) -> bool {
        self.queue.is_empty() && self.owed == 0
    }

    /// The result of a call that handed something over.
    pub(super) fn result(&self) -> WriteResult {
        if self.close_state == CloseState::Broken {
            WriteResult::Refused
        } else if self.is_clear() {
            WriteResult::Clear
        } else {
            WriteResult::Waits { needs_watcher: !self.watched }
        }
    }

    /// The same for the thread that watches: once nothing waits, it does not watch any more.
    pub(super) fn watched_result(&mut self) -> WriteResult {
        let result = self.result();
        if !matches!(result, WriteResult::Waits { .. }) {
            self.watched = false;
        }
        result
    }

    /// If something waits and no thread watches, says yes, and counts it as watched from now on.
    pub(super) fn claim_watch(&mut self) -> bool {
        if self.watched || self.is_clear() {
            return false;
        }
        self.watched = true;
        self.moved = Instant::now();
        true
    }

    /// Drops what waits and takes nothing more.
    pub(super) fn break_off(&mut self) {
        self.close_state = CloseState::Broken;
        self.queue.clear();
        self.owed = 0;
    }
}
