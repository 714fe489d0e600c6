//! Byte streams without a queue. Client connections are read and written only here, HTTP included, so that TLS would be
//! one more variant.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::sys::deadline::Deadline;
use crate::sys::socket;

/// A byte stream. Its descriptor is for `poll` and socket options only.
#[derive(Debug)]
pub enum Stream {
    /// A stream socket.
    Socket(OwnedFd),
    /// The write end of a pipe, in non-blocking mode.
    Pipe(OwnedFd),
}

impl Stream {
    /// Reads, blocking for as long as the descriptor's mode and receive time-out say.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => rustix::io::read(fd, buffer),
        }
    }

    /// Reads from a socket, waiting until the deadline at most.
    ///
    /// # Errors
    /// `TimedOut` when the deadline has passed; the system's otherwise. `Ok(0)` is the end of the stream.
    pub fn read_by(&self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => socket::recv_by(fd.as_fd(), buffer, deadline),
        }
    }

    /// Writes without blocking, whatever the mode of a socket.
    pub fn write(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) => socket::send_now(fd.as_fd(), slices),
            Self::Pipe(fd) => loop {
                match rustix::io::writev(fd, slices) {
                    Err(Errno::INTR) => {}
                    result => return result,
                }
            },
        }
    }

    /// Ends our direction of a socket; the other one can still be read.
    pub fn end_writing(&self) -> Result<(), Errno> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => rustix::net::shutdown(fd, Shutdown::Write),
        }
    }

    /// Ends a socket so that what was sent arrives: see [`socket::read_to_end`].
    pub fn end_gently(&self, time: Duration, bytes: usize, hurries: impl Fn() -> bool) {
        if self.end_writing().is_ok() {
            socket::read_to_end(self.as_fd(), time, bytes, hurries);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => fd.as_fd(),
        }
    }
}
