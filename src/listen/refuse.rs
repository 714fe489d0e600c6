//! Connections that are refused without a thread.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sink::Stream;
use crate::sys::deadline::Deadline;

/// Refused connections are still read, so that a reset does not destroy the response: how many, and for how long.
const MAX_REFUSED: usize = 64;
const LAST_READ: Duration = Duration::from_secs(1);

/// Connections that are being refused, oldest first.
#[derive(Default)]
pub(super) struct Refusals(VecDeque<Refused>);

/// The response is sent when the request begins to arrive: some clients treat an earlier response as a broken connection.
struct Refused {
    stream: Arc<Stream>,
    until: Instant,
    /// `None` once it was sent.
    answer: Option<Vec<u8>>,
}

impl Refusals {
    pub(super) fn push(&mut self, stream: &Arc<Stream>, answer: Vec<u8>) {
        if self.0.len() >= MAX_REFUSED {
            self.0.pop_front();
        }
        let until = Instant::now() + LAST_READ;
        self.0.push_back(Refused { stream: Arc::clone(stream), until, answer: Some(answer) });
    }

    /// Closes those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.0.front().is_some_and(|refused| refused.until <= now) {
            self.0.pop_front();
        }
    }

    /// When the time of the first is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|refused| refused.until)
    }

    /// Their descriptors, in their order.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|refused| refused.stream.as_fd())
    }

    /// Continues with those that are `ready`, in the order of [`Refusals::descriptors`].
    pub(super) fn proceed(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        self.0.retain_mut(|refused| !ready.next().copied().unwrap_or(false) || refused.proceed());
    }
}

impl Refused {
    /// Discards what was received and responds; returns whether more can arrive.
    fn proceed(&mut self) -> bool {
        match self.stream.read_by(&mut [0; 4096], Deadline::after(Duration::ZERO)) {
            Ok(read) => {
                self.answer();
                read > 0
            }
            // Of TLS, perhaps only a part of the handshake.
            Err(e) => e.kind() == std::io::ErrorKind::TimedOut,
        }
    }

    /// The response fits into the socket's buffer. Only our direction is closed and reading goes on: a reset could
    /// overtake the response.
    fn answer(&mut self) {
        if let Some(answer) = self.answer.take() {
            let _ = self.stream.write(&[IoSlice::new(&answer)]);
            let _ = self.stream.end_writing();
        }
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        self.answer();
    }
}
