//! Sockets: sending without blocking, receiving with a deadline, closing without a reset.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use super::deadline::Deadline;
use super::poll::ready;
use super::progress::{TRY_AGAIN, end_timeout};
use super::tcp::unacknowledged;

/// Sends what the kernel takes at once. Never blocks and never raises SIGPIPE.
pub fn send_now(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        let sent = match slices {
            [only] => rustix::net::send(fd, only, flags),
            _ => rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags),
        };
        match sent {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Receives into `buffer`; waits until the deadline.
///
/// # Errors
/// `TimedOut` if the deadline passed, or an error of the system. `Ok(0)` is the end of the stream.
pub fn recv_by(fd: BorrowedFd<'_>, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
    loop {
        match rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, received)) => return Ok(received),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !ready(fd, PollFlags::IN, deadline)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Reads and throws away what the peer still sends behind the end of our direction, for a bounded time and size, so
/// that what was sent arrives: closing with bytes unread would send a reset, and that may overtake, at the peer, what
/// it has not read yet (RFC 1122 §4.2.2.13).
///
/// On a slow link much may still be on its way: whenever the peer's kernel acknowledges more, the time starts again.
/// Without time, or once `hurries` returns true, the rest is left to the kernel.
pub fn read_to_end(fd: BorrowedFd<'_>, time: Duration, mut bytes: usize, hurries: impl Fn() -> bool) {
    let started = Instant::now();
    let mut owed = None;
    let mut until = started + time;
    let mut latest = until;
    let mut scrap = vec![0; 16 * 1024];
    while bytes > 0 && until > Instant::now() && !hurries() {
        match recv_by(fd, &mut scrap, Deadline::at(until.min(Instant::now() + TRY_AGAIN))) {
            Ok(0) => return,
            Ok(received) => bytes = bytes.saturating_sub(received),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                let left = unacknowledged(fd).unwrap_or(0);
                if owed.is_none() {
                    latest = started + end_timeout(time, left);
                }
                if left > 0 && owed.replace(left).is_some_and(|before| left < before) {
                    until = (Instant::now() + time).min(latest);
                }
            }
            Err(_) => return,
        }
    }
}

/// Wakes a thread that waits in a read of this socket: the read returns the end of the stream. Writing still works.
pub fn wake_reader(fd: impl AsFd) {
    let _ = rustix::net::shutdown(fd, Shutdown::Read);
}

/// Makes the close of this socket a reset that discards unsent data (`SO_LINGER`, socket(7)).
pub fn reset_on_close(fd: impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_linger(fd, Some(Duration::ZERO));
}
