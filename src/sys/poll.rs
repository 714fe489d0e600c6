//! `poll` with a deadline that survives signals, and the eventfd that wakes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::deadline::Deadline;

/// Waits until one of `fds` is ready or the deadline has passed; says how many are ready.
/// A signal does not end the wait: what is left of the deadline is waited again (EINTR, poll(2)).
pub fn poll(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<usize> {
    loop {
        let left = deadline.left().map(|left| Timespec {
            tv_sec: left.as_secs().min(i32::MAX as u64).cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        });
        match rustix::event::poll(fds, left.as_ref()) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Waits for one descriptor; says whether it is ready (or broken: the next call will tell).
pub fn ready(fd: BorrowedFd<'_>, wanted: PollFlags, deadline: Deadline) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    Ok(poll(&mut fds, deadline)? > 0)
}

/// Wakes a thread that sits in `poll`: an eventfd, non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// A new one, not yet rung.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Makes the descriptor readable. Cannot block: a full counter (EAGAIN) is readable already.
    pub fn wake(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes all rings back. Call it *before* looking at what the ring was about.
    pub fn drain(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_ring_before_the_wait_is_not_lost_and_drains_once() {
        let waker = Waker::new().expect("eventfd");
        waker.wake();
        waker.wake();
        let soon = || Deadline::after(Duration::ZERO);
        assert!(ready(waker.as_fd(), PollFlags::IN, soon()).expect("poll"));
        waker.drain();
        assert!(!ready(waker.as_fd(), PollFlags::IN, soon()).expect("poll"));
    }
}
