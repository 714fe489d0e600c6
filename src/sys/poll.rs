//! `poll` with a deadline, and an eventfd that wakes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::deadline::Deadline;

/// Waits until one of `fds` is ready or the deadline has passed; returns how many are ready. A signal (EINTR, poll(2))
/// does not end the wait.
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

/// Waits for one descriptor; returns whether it is ready or has an error, which the next call on it reports.
pub fn ready(fd: BorrowedFd<'_>, wanted: PollFlags, deadline: Deadline) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    Ok(poll(&mut fds, deadline)? > 0)
}

/// Wakes a thread that waits in `poll`: an eventfd, non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Makes the descriptor readable. Never blocks: if the counter is full (EAGAIN), it is readable already.
    pub fn wake(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again. Must be called *before* the state that it announces is read.
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
