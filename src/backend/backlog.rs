//! The clients of one backend that the reader watches: it writes what their sockets did not take, closes those that are
//! too slow, and ends those that were closed.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::budget::HoldBudget;
use crate::clients::{CLOSE_TIMEOUT, Client, TRY_AGAIN, Uptake};
use crate::recipe::Slow;
use crate::sink::{CloseOrder, CloseState, Status, WriteResult};

/// How long a slow client may take nothing while no other client has to wait for it.
const ALONE_TIMEOUT: Duration = Duration::from_secs(10);

/// The same with `--slow block`, whether or not others wait.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The same from the beginning of a shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// A client that is watched.
#[derive(Debug)]
struct Watched {
    client: Arc<Client>,
    /// Since when the room's output waits for it.
    slow_since: Option<Instant>,
    /// Once a close frame is queued.
    close: Option<Close>,
    /// When it was last written to or observed.
    tried: Instant,
    uptake: Uptake,
}

/// How far the close of a client is.
#[derive(Debug)]
struct Close {
    queued: Instant,
    /// When the kernel had taken all of it.
    written: Option<Instant>,
    /// The client is ended by then, however slowly it takes what is left.
    latest: Instant,
    /// The queue was dropped, so the client is owed nothing: without an answer it is reset.
    dropped: bool,
}

impl Close {
    fn new(client: &Client, dropped: bool, now: Instant) -> Self {
        Self { queued: now, written: None, latest: client.close_deadline(now), dropped }
    }
}

impl Watched {
    fn new(client: &Arc<Client>) -> Self {
        let now = Instant::now();
        Self {
            client: Arc::clone(client),
            slow_since: None,
            close: None,
            tried: now,
            uptake: Uptake::new(now),
        }
    }

    /// Notes what the client's kernel has acknowledged.
    fn observe(&mut self, now: Instant) {
        self.tried = now;
        self.uptake.observe(&self.client, now);
    }

    /// Whether it is time to try again, although `poll` shows nothing: see [`TRY_AGAIN`].
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.tried) >= TRY_AGAIN
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Backlog {
    watched: Vec<Watched>,
    slow: Slow,
    budget: HoldBudget,
    /// A client that has kept up waits for a slow one.
    holding: bool,
    /// `--maxqueue`.
    bound: usize,
    /// In a shutdown: slow clients are closed by then.
    slow_deadline: Option<Instant>,
    /// In a shutdown: closed clients are ended by then.
    close_deadline: Option<Instant>,
    /// When to check again, whatever happens.
    next: Option<Instant>,
}

impl Backlog {
    pub(super) fn new(slow: Slow, patience: Duration, bound: usize) -> Self {
        Self {
            watched: Vec::new(),
            slow,
            budget: HoldBudget::new(patience, Instant::now()),
            holding: false,
            bound,
            slow_deadline: None,
            close_deadline: None,
            next: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Whether the output is not read, because a client is slow.
    pub(super) fn is_stalling(&self) -> bool {
        self.watched.iter().any(|watched| watched.slow_since.is_some())
    }

    /// When to check again, whatever happens.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Watches a client from now on.
    pub(super) fn add(&mut self, client: &Arc<Client>) {
        self.entry(client);
    }

    fn entry(&mut self, client: &Arc<Client>) -> &mut Watched {
        let index =
            if let Some(index) = self.watched.iter().position(|watched| watched.client.id == client.id) {
                index
            } else {
                self.watched.push(Watched::new(client));
                self.watched.len() - 1
            };
        &mut self.watched[index]
    }

    /// Queues a close frame, and watches the client until it has answered or is ended.
    pub(super) fn close(&mut self, client: &Arc<Client>, code: u16, reason: &str, ending: CloseOrder) {
        let now = Instant::now();
        let close = Close::new(client, ending == CloseOrder::DropQueue, now);
        let _ = client.close(code, reason, ending);
        let watched = self.entry(client);
        watched.slow_since = None;
        watched.close.get_or_insert(close);
        self.next = Some(now);
    }

    /// The server is shutting down: slow clients are closed soon.
    pub(super) fn shut_down(&mut self) {
        self.slow_deadline.get_or_insert_with(|| Instant::now() + SHUTDOWN_TIMEOUT);
        self.next = Some(Instant::now());
    }

    /// Sets when the closed clients are ended at the latest.
    pub(super) fn end_by(&mut self, close_deadline: Instant) {
        self.close_deadline = Some(earlier(close_deadline, self.close_deadline));
        self.next = Some(Instant::now());
    }

    /// Adds the descriptors to poll, in the order in which [`Backlog::serve`] takes the results.
    pub(super) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for watched in self.watched.iter().filter(|watched| watched.waits_for_room()) {
            fds.push(PollFd::from_borrowed_fd(watched.client.stream.as_fd(), PollFlags::OUT));
        }
    }

    /// Writes where that is possible.
    pub(super) fn serve(&mut self, mut ready: impl Iterator<Item = bool>) {
        let now = Instant::now();
        self.watched.retain_mut(|watched| {
            if !watched.waits_for_room() {
                return true;
            }
            let ready = ready.next().unwrap_or(false);
            if !ready && !watched.is_due(now) {
                return true;
            }
            if ready {
                watched.tried = now;
            } else {
                watched.observe(now);
            }
            // A broken one is left to `check`.
            watched.client.sink.flush_watched() != WriteResult::Clear || watched.close.is_some()
        });
    }

    /// Drops the clients that have left or caught up, closes those that are too slow, and ends those whose close is
    /// overdue. `clients` says how many are in the room; `too_slow` is called for each that is closed.
    pub(super) fn check(&mut self, clients: impl Fn() -> usize, mut too_slow: impl FnMut(&Arc<Client>)) {
        self.next = None;
        let now = Instant::now();
        if self.watched.is_empty() {
            if std::mem::take(&mut self.holding) {
                self.budget.left(now, true);
            }
            return;
        }
        let (mut waiting, mut closing, mut any_slow) = (0, 0, false);
        let mut next: Option<Instant> = None;
        let mut alarm = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        let (policy, bound, close_deadline) = (self.slow, self.bound, self.close_deadline);
        self.watched.retain_mut(|watched| {
            if watched.client.is_finished() {
                return false;
            }
            let status = watched.client.sink.status();
            match status.close_state {
                // Its thread may block in a read that nothing else ends.
                CloseState::Broken => {
                    watched.client.cut();
                    false
                }
                CloseState::Open => {
                    waiting += usize::from(status.left > 0);
                    if policy == Slow::Drop {
                        return true;
                    }
                    if status.backlog >= bound {
                        watched.slow_since.get_or_insert(now);
                    } else if status.backlog <= bound / 2 {
                        watched.slow_since = None;
                    }
                    any_slow |= watched.slow_since.is_some();
                    true
                }
                CloseState::Closing | CloseState::Closed => {
                    watched.slow_since = None;
                    closing += 1;
                    match watched.advance_close(&status, close_deadline, now) {
                        Some(at) => {
                            alarm(at);
                            true
                        }
                        None => false,
                    }
                }
            }
        });
        // While each client still has something to read, none waits for a slow one.
        let left = self.budget.left(now, self.holding);
        self.holding = policy == Slow::Disconnect && any_slow && clients() > waiting + closing;
        let mut slow = Vec::new();
        for watched in self.watched.iter_mut().filter(|_| any_slow) {
            let Some(since) = watched.slow_since else { continue };
            let (holding, slow_deadline) = (self.holding, self.slow_deadline);
            let until = |watched: &Watched| {
                let moved = watched.client.sink.status().moved.max(watched.uptake.moved()).max(since);
                let until = match policy {
                    Slow::Block => moved + BLOCK_TIMEOUT,
                    _ if holding => now + left,
                    _ => moved + ALONE_TIMEOUT,
                };
                earlier(until, slow_deadline)
            };
            let mut at = until(watched);
            if at <= now && !holding {
                // Try once more: this process, or the machine, may have been stopped until now.
                watched.observe(now);
                let _ = watched.client.sink.flush();
                at = until(watched);
            }
            if at <= now {
                slow.push(Arc::clone(&watched.client));
            } else {
                alarm(at.min(watched.tried + TRY_AGAIN));
            }
        }
        self.next = next;
        for client in slow {
            too_slow(&client);
            self.close(&client, 1013, "too slow to keep up", CloseOrder::DropQueue);
        }
    }
}

impl Watched {
    /// Whether something waits for the kernel to take more.
    fn waits_for_room(&self) -> bool {
        self.close.as_ref().is_none_or(|close| close.written.is_none())
    }

    /// Checks a client that was closed: says when to check again, or nothing if it has been ended.
    fn advance_close(
        &mut self,
        status: &Status,
        close_deadline: Option<Instant>,
        now: Instant,
    ) -> Option<Instant> {
        let client = Arc::clone(&self.client);
        let mut close = self.close.take().unwrap_or_else(|| Close::new(&client, false, now));
        if status.close_state == CloseState::Closed {
            close.written.get_or_insert(now);
            if self.is_due(now) {
                self.observe(now);
            }
        }
        let since = close.written.unwrap_or(close.queued).max(status.moved).max(self.uptake.moved());
        let until = earlier((since + CLOSE_TIMEOUT).min(close.latest), close_deadline);
        if until <= now {
            // The kernel goes on to deliver what it has taken, unless a reset stops that.
            if close.written.is_some() && !close.dropped {
                client.wake();
            } else {
                client.cut();
            }
            return None;
        }
        self.close = Some(close);
        Some(until.min(self.tried + TRY_AGAIN))
    }
}

fn earlier(at: Instant, limit: Option<Instant>) -> Instant {
    limit.map_or(at, |limit| at.min(limit))
}
