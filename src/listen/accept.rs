//! The accept loop: one thread for each listener, one for each connection. It survives all errors but the loss of its
//! listener: no descriptors, no memory, no threads.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, sockopt};

use super::certificates::Certificates;
use super::listener::Listener;
use super::refuse::Refusals;
use crate::counters::Count;
use crate::gate::Refusal;
use crate::http::respond;
use crate::service::Service;
use crate::sink::Stream;
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::descriptors;
use crate::sys::poll::{Waker, poll};
use crate::sys::reason;
use crate::sys::threads::{thread, work};
use crate::ws::serve::serve;

/// Stack of a connection's thread, in bytes. A test runs the deepest path in a debug build.
const STACK: usize = 64 * 1024;

/// Stack of an accept thread, in bytes.
const ACCEPT_STACK: usize = 64 * 1024;

/// Pause after descriptors or memory ran out.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// How often a repeated failure is logged.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// A running accept thread.
#[derive(Debug)]
pub struct Acceptor {
    waker: Arc<Waker>,
    thread: JoinHandle<()>,
    over: Arc<AtomicBool>,
}

/// Announces, when it is dropped, the end of an accept thread: it was stopped, lost its listener or panicked.
struct Over {
    over: Arc<AtomicBool>,
    changed: Arc<Bell>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.changed.ring();
    }
}

impl Acceptor {
    /// Starts a thread; `changed` is rung when it ends. With certificates its connections have TLS.
    pub fn start(
        service: &Arc<Service>,
        listener: Listener,
        certificates: Option<Arc<Certificates>>,
        changed: &Arc<Bell>,
    ) -> io::Result<Self> {
        // Small messages must not wait for an acknowledgement. Accepted connections inherit this on Linux; it fails on
        // unix sockets, which do not need it.
        let _ = sockopt::set_tcp_nodelay(&listener.socket, true);
        let waker = Arc::new(Waker::new()?);
        let over = Arc::<AtomicBool>::default();
        let mut accept = Accept {
            service: Arc::clone(service),
            listener,
            certificates,
            waker: Arc::clone(&waker),
            refusals: Refusals::default(),
            failing: None,
            _over: Over { over: Arc::clone(&over), changed: Arc::clone(changed) },
        };
        let thread = thread("accept", ACCEPT_STACK, move || accept.run())?;
        Ok(Self { waker, thread, over })
    }

    /// Whether the thread has ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Ends the thread, closes the listener and removes the file of a unix socket.
    pub fn stop(self) {
        self.waker.wake();
        // It waits only in its poll, which was just woken.
        let _ = self.thread.join();
    }
}

/// What an accept thread does next.
enum Next {
    /// Wait for the next connection.
    Poll,
    /// Accept nothing for [`ERROR_PAUSE`].
    Pause,
    End,
}

struct Accept {
    service: Arc<Service>,
    listener: Listener,
    certificates: Option<Arc<Certificates>>,
    waker: Arc<Waker>,
    refusals: Refusals,
    /// When a failure was last logged, and how often it occurred since.
    failing: Option<(Instant, u64)>,
    _over: Over,
}

impl Accept {
    fn run(&mut self) {
        let mut rest_until = None;
        loop {
            let now = Instant::now();
            self.refusals.expire(now);
            let resting = rest_until.is_some_and(|until| until > now);
            let deadline =
                [rest_until.filter(|_| resting), self.refusals.deadline()].into_iter().flatten().min();
            let ready = match self.wait(resting, deadline.map_or(Deadline::NEVER, Deadline::at)) {
                Ok(ready) => ready,
                Err(e) => {
                    // ENOMEM, for example.
                    self.log_failure("cannot poll", &e);
                    std::thread::sleep(ERROR_PAUSE);
                    continue;
                }
            };
            if ready[0] {
                return;
            }
            self.refusals.proceed(&ready[2..]);
            if ready[1] {
                match self.accept_all() {
                    Next::Poll => {}
                    Next::Pause => rest_until = Some(Instant::now() + ERROR_PAUSE),
                    Next::End => return,
                }
            }
        }
    }

    /// Polls the waker, the listener and the refused connections; returns which are ready, in this order.
    fn wait(&self, resting: bool, deadline: Deadline) -> io::Result<Vec<bool>> {
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::from_borrowed_fd(self.waker.as_fd(), PollFlags::IN));
        // During a pause the waker, without events, takes the place of the listener: HUP is reported in any case.
        fds.push(if resting {
            PollFd::from_borrowed_fd(self.waker.as_fd(), PollFlags::empty())
        } else {
            PollFd::from_borrowed_fd(self.listener.socket.as_fd(), PollFlags::IN)
        });
        fds.extend(self.refusals.descriptors().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        // Without a deadline: woken by a connection, or by `Acceptor::stop`.
        poll(&mut fds, deadline)?;
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    fn accept_all(&mut self) -> Next {
        // Limited, so that refused connections and the waker have their turn.
        for _ in 0..64 {
            match rustix::net::acceptfrom_with(&self.listener.socket, SocketFlags::CLOEXEC) {
                Ok((socket, peer)) => {
                    self.service.counters.one(Count::Accepted);
                    if descriptors::note(&socket) {
                        self.service.log.debug("soft limit on open files raised").write();
                    }
                    self.admit(socket, peer);
                }
                Err(Errno::AGAIN) => return Next::Poll,
                // The connection is gone, or the network reported an error on it (accept(2)).
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::NETDOWN
                    | Errno::PROTO
                    | Errno::NOPROTOOPT
                    | Errno::HOSTDOWN
                    | Errno::NONET
                    | Errno::HOSTUNREACH
                    | Errno::OPNOTSUPP
                    | Errno::NETUNREACH
                    | Errno::PERM,
                ) => {}
                Err(Errno::INVAL | Errno::BADF | Errno::NOTSOCK) => {
                    // Another process has shut it down. It never accepts again.
                    self.service
                        .log
                        .error("listener is gone")
                        .field("listening", &self.listener.announced)
                        .field("reason", "another process has shut it down")
                        .write();
                    return Next::End;
                }
                Err(Errno::MFILE) if descriptors::exhausted() => {}
                // EMFILE, ENFILE, ENOBUFS, ENOMEM and others: the connection waits in the backlog.
                Err(e) => {
                    self.log_failure("cannot accept", &e.into());
                    return Next::Pause;
                }
            }
        }
        Next::Poll
    }

    fn admit(&mut self, socket: OwnedFd, peer: Option<SocketAddrAny>) {
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).map(canonical);
        let stream = match &self.certificates {
            None => Stream::Socket(socket),
            Some(certificates) => match certificates.secure(socket, &self.service.log) {
                Ok(stream) => stream,
                Err(e) => return self.log_failure("cannot use TLS", &e),
            },
        };
        let stream = Arc::new(stream);
        let slot = match self.service.connections.admit(&stream) {
            Ok(slot) => slot,
            Err(full) => {
                let refusal = Refusal::from(full);
                self.log_failure_text("connection refused", &refusal.reason);
                return self.refuse(&stream, &refusal);
            }
        };
        let service = Arc::clone(&self.service);
        let served = Arc::clone(&stream);
        let redirect = self.listener.redirect;
        let started = work("conn", STACK, move || {
            // A panic ends this connection, not the server. The drop of `Member` leaves the room.
            let outcome = catch_unwind(AssertUnwindSafe(|| serve(&service, &served, peer, &slot, redirect)));
            if outcome.is_err() {
                service.log.error("internal error in a connection").write();
            }
            drop(served);
            drop(slot);
        });
        if let Err(e) = started {
            self.log_failure("cannot start a thread", &e);
            self.refuse(&stream, &Refusal::no_thread());
        }
    }

    /// Sends a refusal without a thread.
    fn refuse(&mut self, stream: &Arc<Stream>, refusal: &Refusal) {
        self.service.counters.one(refusal.count);
        let fields = &self.service.config.headers.http;
        self.refusals.push(stream, respond::print(&refusal.reply(), fields));
    }

    fn log_failure(&mut self, what: &str, error: &io::Error) {
        self.log_failure_text(what, &reason(error));
    }

    /// Logs a failure at most once a second, with its number of occurrences.
    fn log_failure_text(&mut self, what: &str, why: &str) {
        let mut times = 0;
        if let Some((last, since)) = self.failing {
            if last.elapsed() < LOG_EVERY {
                self.failing = Some((last, since + 1));
                return;
            }
            times = since;
        }
        self.service
            .log
            .warn(what)
            .field("reason", why)
            .number("connections", self.service.connections.len())
            .number("times", times + 1)
            .write();
        self.failing = Some((Instant::now(), 0));
    }
}

/// Turns an IPv4-mapped IPv6 address into an IPv4 address.
pub fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
