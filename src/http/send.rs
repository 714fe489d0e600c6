//! Sends a response to a peer that may be slow, stalled or hostile, at most until the server ends.

use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::sink::Stream;
use crate::sys::deadline::{Cutoff, Deadline};
use crate::sys::poll::ready;
use crate::sys::progress::{MIN_RATE, Pace, Progress, RATE_WINDOW, STALL, TRY_AGAIN};
use crate::sys::socket::reset_on_close;
use crate::sys::tcp::unacknowledged;

/// The receiver of a response.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    pub stream: &'a Stream,
    /// When all responses must be finished; set when the server shuts down.
    pub cutoff: &'a Cutoff,
    /// Header fields of all responses: name and value.
    pub more: &'a [(String, String)],
}

/// Sends the parts of a response and checks how fast the peer takes it.
pub(super) struct Sender<'a> {
    peer: Peer<'a>,
    progress: Progress,
    /// Bytes that our kernel has accepted.
    accepted: u64,
}

impl<'a> Sender<'a> {
    pub(super) fn new(peer: Peer<'a>) -> Self {
        Self { peer, progress: Progress::default(), accepted: 0 }
    }

    /// # Errors
    /// `TimedOut`, with the reason as its text, when the peer takes too little or the server ends; the
    /// system's otherwise.
    pub(super) fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut tried = self.accepted > 0;
        while !bytes.is_empty() || self.peer.stream.owed() > 0 {
            // A small response that is sent at once is sent even after the cutoff.
            if tried {
                check_cutoff(self.peer)?;
            }
            tried = true;
            match self.send_some(bytes)? {
                0 => {
                    ready(self.peer.stream.as_fd(), PollFlags::OUT, try_again(self.peer))?;
                }
                sent => bytes = &bytes[sent..],
            }
        }
        Ok(())
    }

    /// Sends what the kernel takes at once; returns how much that was. To be called again by [`try_again`].
    ///
    /// # Errors
    /// `TimedOut` when the peer takes too little; the system's otherwise.
    pub(super) fn send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.peer.stream.write(&[IoSlice::new(bytes)]) {
            // A stream that wrote what it owes has taken none of these bytes.
            Ok(sent) if sent > 0 => {
                self.accepted += sent as u64;
                Ok(sent)
            }
            Ok(_) | Err(Errno::AGAIN) => {
                let now = Instant::now();
                self.progress.note(now, self.taken());
                // Checked only while the peer makes us wait, not while our disk is slow.
                self.judge(now)?;
                Ok(0)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Bytes that the peer's kernel has acknowledged.
    fn taken(&self) -> u64 {
        let sent = self.peer.stream.sent().unwrap_or(self.accepted);
        sent.saturating_sub(unacknowledged(self.peer.stream.as_fd()).unwrap_or(0))
    }

    fn judge(&self, now: Instant) -> io::Result<()> {
        let reason = match self.progress.verdict(now) {
            Pace::TakesEnough => return Ok(()),
            Pace::Stalled => format!("the client took nothing for {} s", STALL.as_secs()),
            Pace::TooSlow => {
                let window = RATE_WINDOW.as_secs();
                let bytes = MIN_RATE * window;
                format!("the client took less than {bytes} bytes in {window} s")
            }
        };
        // Unsent data must not stay in the kernel's memory for minutes.
        reset_on_close(self.peer.stream.as_fd());
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    }
}

/// Whether there is still time for a response.
///
/// # Errors
/// `TimedOut` when the server ends.
pub(super) fn check_cutoff(peer: Peer<'_>) -> io::Result<()> {
    if peer.cutoff.get().is_some_and(|&at| at <= Instant::now()) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the server is shutting down"));
    }
    Ok(())
}

/// When to look again at a slow peer, at the latest.
pub(super) fn try_again(peer: Peer<'_>) -> Deadline {
    let again = Deadline::after(TRY_AGAIN);
    peer.cutoff.get().map_or(again, |&at| again.min(Deadline::at(at)))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_peer_that_takes_nothing_has_until_the_cutoff_also_when_it_comes_meanwhile() {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        let ours = Stream::Socket(ours.into());
        let cutoff = Cutoff::new();
        let error = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                Sender::new(Peer { stream: &ours, cutoff: &cutoff, more: &[] })
                    .send_all(&vec![b'x'; 16 << 20])
            });
            // It has begun, and cannot end.
            theirs.read_exact(&mut [0]).expect("the first byte");
            cutoff.set(Instant::now()).expect("set once");
            sender.join().expect("the sender")
        });
        let error = error.expect_err("cut off");
        assert_eq!((error.kind(), error.to_string().as_str()), {
            (io::ErrorKind::TimedOut, "the server is shutting down")
        });
    }
}
