//! A program over TCP: it listens on the port of 127.0.0.1 that it was given. Another user's program that listens there
//! is not connected to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::ending::AtEnd;
use super::log_pipe::LogPipe;
use super::peer::{Listeners, PeerCheck};
use super::room_side::Shared;
use super::spawn::{self, Wiring};
use super::started::{INPUT_BOUND, Source, StartContext, StartError, Started};
use crate::recipe::{Program, TcpOptions};
use crate::sink::{Stdin, Stream};
use crate::sys::deadline::Deadline;
use crate::sys::poll::poll;
use crate::sys::process::Process;
use crate::sys::reason;

/// Between two tries: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// How often it is asked whether the program is still wanted.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Bytes of one read, and how many of them a full pipe takes (pipe(7)).
const MAX_READ: usize = 8 * 1024;
const PIPE_READS: usize = 64 * 1024 / MAX_READ;

pub(super) fn start(
    program: &Program,
    options: &TcpOptions,
    shared: &Shared,
    context: &StartContext,
    wanted: &dyn Fn() -> bool,
) -> Result<Started, StartError> {
    let port = context.port.ok_or(StartError::NoPort)?;
    let spawned = spawn::start(program, context, Wiring::Port(port), &shared.processes)?;
    let process = spawned.process;
    let mut log_pipe = LogPipe::new(spawned.log, "output", &shared.log, &context.room, process.id());
    let times = (program.delay, options.connect_timeout);
    let stream = connect(&process, &mut log_pipe, port, times, wanted)?;
    let output = stream.try_clone().map_err(StartError::Resources)?;
    Ok(Started {
        input: Stdin::new(Stream::Socket(stream), INPUT_BOUND),
        source: Source {
            kind: "program",
            output: Some(output),
            log_pipe,
            process: Some(process),
            at_end: AtEnd::Stopped,
        },
    })
}

/// Waits for `delay` or until the program has ended; what it prints meanwhile is logged.
pub(super) fn wait(
    process: &Process,
    log_pipe: &mut LogPipe,
    delay: Duration,
    wanted: impl Fn() -> bool,
) -> Result<(), StartError> {
    let end = Instant::now() + delay;
    while Instant::now() < end && process.exited().is_none() {
        wait_briefly(process, log_pipe, end)?;
        if !wanted() {
            return Err(unwanted());
        }
    }
    Ok(())
}

/// Tries to connect until the program listens. What it prints meanwhile is logged, and its end is noticed at once.
/// While another user listens on the port, no connection is made: the program may be waiting for the port, too.
fn connect(
    process: &Process,
    log_pipe: &mut LogPipe,
    port: u16,
    (delay, patience): (Duration, Duration),
    wanted: impl Fn() -> bool,
) -> Result<OwnedFd, StartError> {
    let first = Instant::now() + delay;
    let deadline = first + patience;
    let (mut next, mut pause) = (first, FIRST_PAUSE);
    let mut warned = false;
    loop {
        wait_briefly(process, log_pipe, next)?;
        if let Some(exit) = process.exited() {
            // Log what is left in the pipe, but not for ever: another process may hold it and go on printing.
            for _ in 0..PIPE_READS {
                if log_pipe.fd().is_some_and(has_more) {
                    wait_briefly(process, log_pipe, next)?;
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
        let failure = match attempt(process, port) {
            Ok(stream) => return Ok(stream),
            Err(failure) => failure,
        };
        if let (Failure::Stranger(user), false) = (&failure, warned) {
            warned = true;
            let line = log_pipe.warn("another user listens on the program's port");
            line.number("port", port).number("uid", user).write();
        }
        if now >= deadline || matches!(failure, Failure::Unknown) {
            return Err(StartError::NotListening(failure.describe(port)));
        }
        next = (now + pause).min(deadline);
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Why there is no connection to the program.
enum Failure {
    /// It does not listen.
    System(io::Error),
    /// Another user does.
    Stranger(u32),
    /// It cannot be known who does.
    Unknown,
}

impl Failure {
    /// For clients too: nothing about the users of this machine.
    fn describe(&self, port: u16) -> String {
        match self {
            Self::System(e) => format!("it does not listen on port {port} in time: {}", reason(e)),
            Self::Stranger(_) => format!("another user listens on port {port}"),
            Self::Unknown => format!(
                "it cannot be known whose program listens on port {port}: neither netlink nor /proc/net/tcp \
                 can be read"
            ),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

impl From<PeerCheck> for Failure {
    fn from(check: PeerCheck) -> Self {
        match check {
            PeerCheck::Stranger(user) => Self::Stranger(user),
            PeerCheck::Unknown => Self::Unknown,
            PeerCheck::Absent | PeerCheck::Trusted => Self::System(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// Connects if a program of our own user listens, or one of the user that the program runs as.
fn attempt(process: &Process, port: u16) -> Result<OwnedFd, Failure> {
    let trusts = |user| user == rustix::process::geteuid().as_raw() || Some(user) == process.user();
    let listeners = Listeners::now(port, trusts)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // On loopback the answer is there at once; only a full backlog makes it wait.
    let stream = TcpStream::connect_timeout(&address, MAX_PAUSE).and_then(other_than_ours)?;
    match listeners.check(&stream, port, trusts) {
        PeerCheck::Trusted => {}
        other => return Err(other.into()),
    }
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream.into())
}

fn unwanted() -> StartError {
    StartError::NotListening("the server is shutting down".to_owned())
}

/// Waits for a while, but no longer than `until`, and logs what the program prints.
fn wait_briefly(process: &Process, log_pipe: &mut LogPipe, until: Instant) -> Result<(), StartError> {
    let until = until.min(Instant::now() + ASK_AGAIN);
    let printed = {
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN));
        fds.extend(log_pipe.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        poll(&mut fds, Deadline::at(until)).map_err(StartError::Resources)?;
        fds.get(1).is_some_and(|fd| !fd.revents().is_empty())
    };
    if printed {
        log_pipe.read(&mut vec![0; MAX_READ]);
    }
    Ok(())
}

fn has_more(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(fd).is_ok_and(|waiting| waiting > 0)
}

/// A connection to a port of the ephemeral range on which no socket listens can connect to itself (RFC 9293 §3.5).
fn other_than_ours(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
