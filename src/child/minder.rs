//! Minds the clients of one child: goes on writing to those whose socket was full, judges those who
//! are behind, and sees closes through to their end.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::budget::HoldBudget;
use crate::client::{CLOSE_PATIENCE, Client, TRY_AGAIN, Uptake};
use crate::config::Slow;
use crate::sink::{After, Ending, Look, Phase};
use crate::sys::tcp::unacknowledged;

/// How long a client may take nothing while no other is kept waiting for it.
const ALONE_TIMEOUT: Duration = Duration::from_secs(10);

/// The same with `--slow block`, whoever waits.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The same while the server is shutting down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes a second that a client has to take, on the whole, of what was said to it before its close.
const LEAST_RATE: u64 = 2 * 1024;

/// A client that is looked after, and why.
#[derive(Debug)]
struct Minded {
    client: Arc<Client>,
    /// Since when it holds the room up.
    behind: Option<Instant>,
    /// Its end, once its close is queued.
    close: Option<Close>,
    /// When it was last written to, whether or not the kernel said that there is room.
    tried: Instant,
    uptake: Uptake,
}

/// How far the end of a client is.
#[derive(Debug)]
struct Close {
    queued: Instant,
    /// When all of it was in the kernel's hands.
    written: Option<Instant>,
    /// By then it is over, however the client takes what is left.
    latest: Instant,
    /// Nothing that was said to the client is owed to it: without an answer it is reset.
    broken_off: bool,
}

impl Close {
    fn new(client: &Client, broken_off: bool, now: Instant) -> Self {
        let left = client.sink.look().left as u64 + unacknowledged(&client.door).unwrap_or(0);
        let latest = now + 2 * CLOSE_PATIENCE + Duration::from_secs(left / LEAST_RATE);
        Self { queued: now, written: None, latest, broken_off }
    }
}

impl Minded {
    fn new(client: &Arc<Client>) -> Self {
        let now = Instant::now();
        Self { client: Arc::clone(client), behind: None, close: None, tried: now, uptake: Uptake::new(now) }
    }

    /// Takes note of what the client's kernel has acknowledged.
    fn observe(&mut self, now: Instant) {
        self.tried = now;
        self.uptake.observe(&self.client, now);
    }

    /// Whether it is time to write to it, or to look at it, although no event says so.
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.tried) >= TRY_AGAIN
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Minder {
    minded: Vec<Minded>,
    slow: Slow,
    budget: HoldBudget,
    /// A client that is not behind is waiting for one that is.
    holding: bool,
    /// `--maxqueue`.
    bound: usize,
    /// By then nobody holds the room up any more.
    hurry: Option<Instant>,
    /// All closes end by then.
    last_call: Option<Instant>,
    /// When time next changes something.
    next: Option<Instant>,
}

impl Minder {
    pub(super) fn new(slow: Slow, patience: Duration, bound: usize) -> Self {
        Self {
            minded: Vec::new(),
            slow,
            budget: HoldBudget::new(patience, Instant::now()),
            holding: false,
            bound,
            hurry: None,
            last_call: None,
            next: None,
        }
    }

    /// Whether nobody needs minding.
    pub(super) fn is_empty(&self) -> bool {
        self.minded.is_empty()
    }

    /// Whether the child is not read because somebody is behind.
    pub(super) fn holds_up(&self) -> bool {
        self.minded.iter().any(|minded| minded.behind.is_some())
    }

    /// When time next changes something.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Looks after a client whose sink says that something waits and no thread watches it.
    pub(super) fn add(&mut self, client: &Arc<Client>) {
        self.entry(client);
    }

    fn entry(&mut self, client: &Arc<Client>) -> &mut Minded {
        let index = if let Some(index) = self.minded.iter().position(|minded| minded.client.id == client.id) {
            index
        } else {
            self.minded.push(Minded::new(client));
            self.minded.len() - 1
        };
        &mut self.minded[index]
    }

    /// Queues a close frame and sees it through: written out, answered, ended.
    pub(super) fn close(&mut self, client: &Arc<Client>, code: u16, reason: &str, ending: Ending) {
        let now = Instant::now();
        let close = Close::new(client, ending == Ending::BreakOff, now);
        let _ = client.close(code, reason, ending);
        let minded = self.entry(client);
        minded.behind = None;
        minded.close.get_or_insert(close);
        self.next = Some(now);
    }

    /// The server is shutting down: from now on a client that is behind is soon given up.
    pub(super) fn hurry(&mut self) {
        self.hurry.get_or_insert_with(|| Instant::now() + SHUTDOWN_TIMEOUT);
        self.next = Some(Instant::now());
    }

    /// From now on no close takes longer than this.
    pub(super) fn end_by(&mut self, last_call: Instant) {
        self.last_call = Some(earlier(last_call, self.last_call));
        self.next = Some(Instant::now());
    }

    /// Adds the descriptors to poll, in the order in which [`Minder::serve`] takes the answers.
    pub(super) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for minded in self.minded.iter().filter(|minded| minded.waits_for_room()) {
            fds.push(PollFd::from_borrowed_fd(minded.client.door.as_fd(), PollFlags::OUT));
        }
    }

    /// Goes on writing where that is possible.
    pub(super) fn serve(&mut self, mut ready: impl Iterator<Item = bool>) {
        let now = Instant::now();
        self.minded.retain_mut(|minded| {
            if !minded.waits_for_room() {
                return true;
            }
            let ready = ready.next().unwrap_or(false);
            if !ready && !minded.is_due(now) {
                return true;
            }
            if ready {
                minded.tried = now;
            } else {
                minded.observe(now);
            }
            // A broken one stays for `judge`.
            minded.client.sink.flush_watched() != After::Clear || minded.close.is_some()
        });
    }

    /// Looks at everybody: who is done, who has caught up, who is too slow, whose end is overdue.
    /// `clients` says how many there are in the room; `too_slow` is told of each that is closed.
    pub(super) fn judge(&mut self, clients: impl Fn() -> usize, mut too_slow: impl FnMut(&Arc<Client>)) {
        self.next = None;
        let now = Instant::now();
        if self.minded.is_empty() {
            if std::mem::take(&mut self.holding) {
                self.budget.left(now, true);
            }
            return;
        }
        let (mut waiting, mut closing, mut behind) = (0, 0, false);
        let mut next: Option<Instant> = None;
        let mut alarm = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        let (policy, bound, last_call) = (self.slow, self.bound, self.last_call);
        self.minded.retain_mut(|minded| {
            if minded.client.is_finished() {
                return false;
            }
            let look = minded.client.sink.look();
            match look.phase {
                // Its thread may sit in a read that nothing ends.
                Phase::Broken => {
                    minded.client.cut();
                    false
                }
                Phase::Open => {
                    waiting += usize::from(look.left > 0);
                    if policy == Slow::Drop {
                        return true;
                    }
                    if look.backlog >= bound {
                        minded.behind.get_or_insert(now);
                    } else if look.backlog <= bound / 2 {
                        minded.behind = None;
                    }
                    behind |= minded.behind.is_some();
                    true
                }
                Phase::Ending | Phase::Ended => {
                    minded.behind = None;
                    closing += 1;
                    match minded.see_through(&look, last_call, now) {
                        Some(at) => {
                            alarm(at);
                            true
                        }
                        None => false,
                    }
                }
            }
        });
        // Where all have something to read yet, nobody is kept waiting by those who are behind.
        let left = self.budget.left(now, self.holding);
        self.holding = policy == Slow::Disconnect && behind && clients() > waiting + closing;
        let mut slow = Vec::new();
        for minded in self.minded.iter_mut().filter(|_| behind) {
            let Some(since) = minded.behind else { continue };
            let (holding, hurry) = (self.holding, self.hurry);
            let until = |minded: &Minded| {
                let moved = minded.client.sink.look().moved.max(minded.uptake.moved()).max(since);
                let until = match policy {
                    Slow::Block => moved + BLOCK_TIMEOUT,
                    _ if holding => now + left,
                    _ => moved + ALONE_TIMEOUT,
                };
                earlier(until, hurry)
            };
            let mut at = until(minded);
            if at <= now && !holding {
                // Looked at once more: this process, or the machine, may have been stopped until now.
                minded.observe(now);
                let _ = minded.client.sink.flush();
                at = until(minded);
            }
            if at <= now {
                slow.push(Arc::clone(&minded.client));
            } else {
                alarm(at.min(minded.tried + TRY_AGAIN));
            }
        }
        self.next = next;
        for client in slow {
            too_slow(&client);
            self.close(&client, 1013, "too slow to keep up", Ending::BreakOff);
        }
    }
}

impl Minded {
    /// Whether something waits until the kernel takes more.
    fn waits_for_room(&self) -> bool {
        self.close.as_ref().is_none_or(|close| close.written.is_none())
    }

    /// Goes on with the end of a client; says when to look again, or nothing if it is over.
    fn see_through(&mut self, look: &Look, last_call: Option<Instant>, now: Instant) -> Option<Instant> {
        let client = Arc::clone(&self.client);
        let mut close = self.close.take().unwrap_or_else(|| Close::new(&client, false, now));
        if look.phase == Phase::Ended {
            close.written.get_or_insert(now);
            if self.is_due(now) {
                self.observe(now);
            }
        }
        let since = close.written.unwrap_or(close.queued).max(look.moved).max(self.uptake.moved());
        let until = earlier((since + CLOSE_PATIENCE).min(close.latest), last_call);
        if until <= now {
            // What the kernel still holds of a story that was told, it goes on to deliver.
            if close.written.is_some() && !close.broken_off {
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
