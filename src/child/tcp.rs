//! Finding a child that talks over TCP: on 127.0.0.1, at the port it was told, as soon as it listens.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::command::StartError;
use super::journal::Journal;
use crate::sys::deadline::Deadline;
use crate::sys::poll::poll;
use crate::sys::process::Process;
use crate::sys::reason;

/// Between two tries: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How often it is asked whether anybody still wants it.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Bytes of one read, and how many of them a full pipe takes (pipe(7)).
const READ_MOST: usize = 8 * 1024;
const PIPE_READS: usize = 64 * 1024 / READ_MOST;

/// Waits for this long; what the child prints meanwhile is logged. A child that has ended is not waited for.
pub(super) fn wait(
    process: &Process,
    journal: &mut Journal,
    delay: Duration,
    wanted: impl Fn() -> bool,
) -> Result<(), StartError> {
    let end = Instant::now() + delay;
    while Instant::now() < end && process.exited().is_none() {
        look(process, journal, end)?;
        if !wanted() {
            return Err(unwanted());
        }
    }
    Ok(())
}

/// Connects to the child's port, again and again until it listens. What the child prints meanwhile is
/// logged, and its end is noticed at once.
pub(super) fn connect(
    process: &Process,
    journal: &mut Journal,
    port: u16,
    (delay, patience): (Duration, Duration),
    wanted: impl Fn() -> bool,
) -> Result<OwnedFd, StartError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let first = Instant::now() + delay;
    let deadline = first + patience;
    let (mut next, mut pause) = (first, FIRST_PAUSE);
    loop {
        look(process, journal, next)?;
        if let Some(exit) = process.exited() {
            // Its last words, which wait in the pipe; not what somebody goes on printing who holds it too.
            for _ in 0..PIPE_READS {
                if journal.fd().is_some_and(has_more) {
                    look(process, journal, next)?;
                }
            }
            return Err(StartError::NotListening(format!(
                "it ended ({exit}) before it listened on port {port}"
            )));
        }
        if !wanted() {
            return Err(unwanted());
        }
        let now = Instant::now();
        if now < next {
            continue;
        }
        // On loopback the answer is there at once; only a full backlog makes it wait.
        match TcpStream::connect_timeout(&address, LONGEST_PAUSE).and_then(other_than_ours) {
            Ok(stream) => {
                let ready = stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true));
                return ready.map(|()| stream.into()).map_err(StartError::Resources);
            }
            Err(_) if now < deadline => {
                next = (now + pause).min(deadline);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(e) => {
                return Err(StartError::NotListening(format!(
                    "it does not listen on port {port} in time: {}",
                    reason(&e)
                )));
            }
        }
    }
}

fn unwanted() -> StartError {
    StartError::NotListening("the server is shutting down".to_owned())
}

/// Waits for a while, but no longer than `until`, and logs what the child prints.
fn look(process: &Process, journal: &mut Journal, until: Instant) -> Result<(), StartError> {
    let until = until.min(Instant::now() + ASK_AGAIN);
    let printed = {
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN));
        fds.extend(journal.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        poll(&mut fds, Deadline::at(until)).map_err(StartError::Resources)?;
        fds.get(1).is_some_and(|fd| !fd.revents().is_empty())
    };
    if printed {
        journal.read(&mut vec![0; READ_MOST]);
    }
    Ok(())
}

fn has_more(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(fd).is_ok_and(|waiting| waiting > 0)
}

/// A connection to a port of the ephemeral range that nobody listens on can meet itself (RFC 9293 §3.5,
/// simultaneous open).
fn other_than_ours(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
