//! Minds the clients of one child: goes on writing to those whose socket was full, judges those who
//! are behind, and sees closes through to their end.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::client::{CLOSE_PATIENCE, Client, TRY_AGAIN};
use crate::config::Slow;
use crate::sink::{After, Ending, Phase};

/// How long the only client of a room may take nothing before it is too slow.
const ALONE_PATIENCE: Duration = Duration::from_secs(10);

/// The same with `--slow block`, for any client.
const BLOCK_PATIENCE: Duration = Duration::from_secs(30);

/// The same while the server is shutting down, which nobody may hold up.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// A client that is looked after, and why.
#[derive(Debug)]
struct Minded {
    client: Arc<Client>,
    /// Since when it holds the room up.
    behind: Option<Instant>,
    /// When its close was queued, and when that was written out.
    closing: Option<Instant>,
    written: Option<Instant>,
    /// When it was last written to.
    tried: Instant,
    /// Nothing that was said to it is owed to it: without an answer it is reset.
    broken_off: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Minder {
    minded: Vec<Minded>,
    slow: Slow,
    patience: Duration,
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
        Self { minded: Vec::new(), slow, patience, bound, hurry: None, last_call: None, next: None }
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

    /// Looks after a client whose sink says that something waits and nobody minds it.
    pub(super) fn add(&mut self, client: &Arc<Client>) {
        self.entry(client);
    }

    fn entry(&mut self, client: &Arc<Client>) -> &mut Minded {
        let index = if let Some(index) = self.minded.iter().position(|minded| minded.client.id == client.id) {
            index
        } else {
            self.minded.push(Minded {
                client: Arc::clone(client),
                behind: None,
                closing: None,
                written: None,
                tried: Instant::now(),
                broken_off: false,
            });
            self.minded.len() - 1
        };
        &mut self.minded[index]
    }

    /// Queues a close frame and sees it through: written out, answered, ended.
    pub(super) fn close(&mut self, client: &Arc<Client>, code: u16, reason: &str, ending: Ending) {
        let _ = client.close(code, reason, ending);
        let now = Instant::now();
        let minded = self.entry(client);
        minded.behind = None;
        minded.broken_off = ending == Ending::BreakOff;
        minded.closing.get_or_insert(now);
        self.next = Some(now);
    }

    /// The server is shutting down: from now on a client that is behind is soon given up.
    pub(super) fn hurry(&mut self) {
        self.hurry.get_or_insert_with(|| Instant::now() + LAST_PATIENCE);
        self.next = Some(Instant::now());
    }

    /// From now on no close takes longer than this.
    pub(super) fn end_by(&mut self, last_call: Instant) {
        self.last_call = Some(earlier(last_call, self.last_call));
        self.next = Some(Instant::now());
    }

    /// Adds the descriptors to poll, in the order in which [`Minder::serve`] takes the answers.
    pub(super) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for minded in self.minded.iter().filter(|minded| minded.written.is_none()) {
            fds.push(PollFd::from_borrowed_fd(minded.client.door.as_fd(), PollFlags::OUT));
        }
    }

    /// Goes on writing where that is possible.
    pub(super) fn serve(&mut self, mut ready: impl Iterator<Item = bool>) {
        self.minded.retain_mut(|minded| {
            if minded.written.is_some() {
                return true;
            }
            let ready = ready.next().unwrap_or(false);
            if !ready && minded.tried.elapsed() < TRY_AGAIN {
                return true;
            }
            minded.tried = Instant::now();
            // A broken one stays for `judge`.
            minded.client.sink.flush_watched() != After::Clear || minded.closing.is_some()
        });
    }

    /// Looks at everybody: who is done, who has caught up, who is too slow, whose end is overdue.
    /// `others` says whether a client shares its room; `too_slow` is told of each that is closed.
    pub(super) fn judge(&mut self, others: impl Fn() -> bool, mut too_slow: impl FnMut(&Arc<Client>)) {
        self.next = None;
        if self.minded.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut slow = Vec::new();
        let (policy, patience, bound) = (self.slow, self.patience, self.bound);
        let (hurry, last_call) = (self.hurry, self.last_call);
        let mut next: Option<Instant> = None;
        let mut alarm = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        self.minded.retain_mut(|minded| {
            let client = &minded.client;
            if client.is_finished() {
                return false;
            }
            let look = client.sink.look();
            match look.phase {
                // Its thread may sit in a read that nothing ends.
                Phase::Broken => {
                    client.cut();
                    false
                }
                Phase::Open if policy == Slow::Drop => true,
                Phase::Open => {
                    if look.backlog >= bound {
                        minded.behind.get_or_insert(now);
                    } else if look.backlog <= bound / 2 {
                        minded.behind = None;
                    }
                    let Some(since) = minded.behind else { return true };
                    let until = match policy {
                        Slow::Block => look.moved.max(since) + BLOCK_PATIENCE,
                        _ if others() => since + patience,
                        _ => look.moved.max(since) + ALONE_PATIENCE,
                    };
                    let until = earlier(until, hurry);
                    if until <= now {
                        slow.push(Arc::clone(client));
                    } else {
                        alarm(until.min(minded.tried + TRY_AGAIN));
                    }
                    true
                }
                Phase::Ending => {
                    minded.behind = None;
                    let closing = *minded.closing.get_or_insert(now);
                    let until = earlier(closing.max(look.moved) + CLOSE_PATIENCE, last_call);
                    if until <= now {
                        client.cut();
                        return false;
                    }
                    alarm(until.min(minded.tried + TRY_AGAIN));
                    true
                }
                Phase::Ended => {
                    minded.behind = None;
                    let written = *minded.written.get_or_insert(now);
                    let until = earlier(written + CLOSE_PATIENCE, last_call);
                    if until <= now {
                        // What the kernel still holds of a story that was told, it goes on to deliver.
                        if minded.broken_off {
                            client.cut();
                        } else {
                            client.wake();
                        }
                        return false;
                    }
                    alarm(until);
                    true
                }
            }
        });
        self.next = next;
        for client in slow {
            too_slow(&client);
            self.close(&client, 1013, "too slow to keep up", Ending::BreakOff);
        }
    }
}

fn earlier(at: Instant, limit: Option<Instant>) -> Instant {
    limit.map_or(at, |limit| at.min(limit))
}
