//! Waiting for sockets, for a bounded time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, Timespec, epoll};
use rustix::io::Errno;

/// How long nothing may happen.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// Readiness of many sockets.
pub(crate) struct Events(OwnedFd);

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    pub(crate) fn add(&self, source: impl AsFd, index: usize, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, source, epoll::EventData::new_u64(index as u64), flags)?)
    }

    pub(crate) fn change(&self, source: impl AsFd, index: usize, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, source, epoll::EventData::new_u64(index as u64), flags)?)
    }

    pub(crate) fn forget(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, source)?)
    }

    /// At least one, or an error when nothing happens for too long.
    pub(crate) fn wait(&self, ready: &mut Vec<epoll::Event>) -> io::Result<()> {
        ready.clear();
        let patience = timespec(LONGEST);
        loop {
            match epoll::wait(&self.0, rustix::buffer::spare_capacity(ready), Some(&patience)) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came any more")),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) }
}

/// Waits for one of a few sockets.
pub(crate) fn poll_for(fds: &mut [PollFd<'_>], time: Duration) -> io::Result<()> {
    match rustix::event::poll(fds, Some(&timespec(time))) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
