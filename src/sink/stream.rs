//! Byte streams without a queue. Client connections are read and written only here, HTTP included, so that TLS is one
//! more variant.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::tls::Tls;
use crate::sys::deadline::Deadline;
use crate::sys::poll::ready;
use crate::sys::socket;

/// A byte stream. Its descriptor is for `poll` and socket options only.
#[derive(Debug)]
pub enum Stream {
    /// A stream socket.
    Socket(OwnedFd),
    /// The write end of a pipe, in non-blocking mode.
    Pipe(OwnedFd),
    /// A stream socket with TLS.
    Tls(Box<Tls>),
}

impl Stream {
    /// A server's side of TLS on a socket.
    #[cfg(feature = "tls")]
    pub fn secure(
        socket: OwnedFd,
        config: &std::sync::Arc<rustls::ServerConfig>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::Tls(Box::new(Tls::new(socket, config)?)))
    }

    fn tls(&self) -> Option<&Tls> {
        if let Self::Tls(tls) = self { Some(tls) } else { None }
    }

    pub fn is_secure(&self) -> bool {
        self.tls().is_some()
    }

    /// Reads, blocking for as long as the descriptor's mode and receive time-out say.
    ///
    /// # Errors
    /// [`PARTIAL`](super::PARTIAL), or the system's.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => rustix::io::read(fd, buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    /// Reads from a socket, waiting until the deadline at most.
    ///
    /// # Errors
    /// `TimedOut` when the deadline has passed; `Unsupported` for HTTP without TLS where TLS is spoken; the system's
    /// otherwise. `Ok(0)` is the end of the stream.
    pub fn read_by(&self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => socket::recv_by(fd.as_fd(), buffer, deadline),
            Self::Tls(tls) => tls.read_by(buffer, deadline),
        }
    }

    /// Waits until there is something to read, an end or an error included; says whether there is.
    pub fn is_readable_by(&self, deadline: Deadline) -> bool {
        self.tls().is_some_and(Tls::is_readable)
            || ready(self.as_fd(), PollFlags::IN, deadline).unwrap_or(false)
    }

    /// Writes without blocking, whatever the mode of a socket. TLS may take bytes that the kernel has not: see
    /// [`Stream::flush`].
    pub fn write(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) => socket::send_now(fd.as_fd(), slices),
            Self::Pipe(fd) => loop {
                match rustix::io::writev(fd, slices) {
                    Err(Errno::INTR) => {}
                    result => return result,
                }
            },
            Self::Tls(tls) => tls.write(slices),
        }
    }

    /// Writes, without blocking, what was taken and not written; returns how many bytes are still owed.
    pub fn flush(&self) -> Result<usize, Errno> {
        self.tls().map_or(Ok(0), Tls::flush)
    }

    /// Bytes that were taken and not written.
    pub fn owed(&self) -> usize {
        self.tls().map_or(0, Tls::owed)
    }

    /// Bytes that the kernel has taken, where these are not those that [`Stream::write`] has taken.
    pub fn sent(&self) -> Option<u64> {
        self.tls().map(Tls::sent)
    }

    /// How many bytes are sent beside those of a small message.
    pub fn overhead(&self) -> usize {
        self.tls().map_or(0, Tls::overhead)
    }

    /// What the peer did wrong, if that has ended the stream.
    pub fn failure(&self) -> Option<String> {
        self.tls()?.failure()
    }

    /// Ends our direction of a socket; the other one can still be read.
    pub fn end_writing(&self) -> Result<(), Errno> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => rustix::net::shutdown(fd, Shutdown::Write),
            Self::Tls(tls) => {
                tls.say_end(Duration::ZERO, || true);
                rustix::net::shutdown(tls, Shutdown::Write)
            }
        }
    }

    /// Ends a socket so that what was sent arrives: see [`socket::read_to_end`].
    pub fn end_gently(&self, time: Duration, bytes: usize, hurries: impl Fn() -> bool) {
        if let Self::Tls(tls) = self {
            tls.say_end(time, &hurries);
        }
        if self.end_writing().is_ok() {
            socket::read_to_end(self.as_fd(), time, bytes, hurries);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(fd) | Self::Pipe(fd) => fd.as_fd(),
            Self::Tls(tls) => tls.as_fd(),
        }
    }
}
