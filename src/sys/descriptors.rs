//! The soft limit on descriptors. Programs get the limit that the server was started with: with a limit of a million,
//! select(2) fails and closing "all" descriptors takes long. The server keeps that limit until it needs more. From then
//! on it starts programs through a step that restores the limit first.

use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::lock;

/// The size that the kernel's table of descriptors gets at the start. An entry takes eight bytes.
const TABLE: u64 = 16 * 1024;

/// A lower soft limit is raised at the start: half of it may be used up before [`note`] sees the next descriptor.
const LEAST: u64 = 256;

/// Set if the limit of this process can be raised.
static LIMIT: OnceLock<Limit> = OnceLock::new();

/// A soft limit that can be raised.
#[derive(Debug)]
struct Limit {
    started_with: Rlimit,
    /// It is about to be raised: from now on programs are started with the limit restored.
    wanted: AtomicBool,
    /// Programs that are being started directly. They inherit the current limit, so it is raised after the last of
    /// them.
    direct: AtomicUsize,
    raised: AtomicBool,
}

/// How to start a program.
#[derive(Debug)]
pub enum Start {
    /// Directly. The guard must be kept until the program has started.
    Direct(Direct),
    /// With this limit on descriptors.
    Limited(Rlimit),
}

/// See [`Start::Direct`].
#[derive(Debug)]
pub struct Direct(Option<&'static Limit>);

/// How many programs are being started, and when the last one was.
static COPIES: Mutex<(usize, Option<Instant>)> = Mutex::new((0, None));

/// Linux closes the copies a moment after it has let the process go on that starts the program (`begin_new_exec`).
const CLOSING: Duration = Duration::from_millis(100);

/// Whether a program is being started, or was a moment ago. Until it is executed, its process has a copy of each
/// descriptor of the server: what the server closes meanwhile stays open.
pub fn are_copied() -> bool {
    let (starting, last) = *lock(&COPIES);
    starting > 0 || last.is_some_and(|last| last.elapsed() < CLOSING)
}

/// A program that is being started, for [`are_copied`]. To be kept from before the fork until it has been executed.
#[derive(Debug)]
pub struct Copies(());

impl Copies {
    pub fn begin() -> Self {
        lock(&COPIES).0 += 1;
        Self(())
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let mut copies = lock(&COPIES);
        *copies = (copies.0 - 1, Some(Instant::now()));
    }
}

/// Returns how many descriptors the server can have. `can_restore`: programs can be started with another limit than the
/// server's; otherwise the limit is never raised. Must be called once, before the first thread starts.
pub fn prepare(can_restore: bool) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let can_be_raised =
        can_restore && limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok();
    let descriptors = if can_be_raised { raised.current } else { limit.current }.unwrap_or(u64::MAX);
    make_table(descriptors);
    if can_be_raised {
        let stays = limit.current.is_some_and(|soft| soft < LEAST);
        let raised = stays || setrlimit(Resource::Nofile, limit).is_err();
        let _ = LIMIT.set(Limit {
            started_with: limit,
            wanted: AtomicBool::new(raised),
            direct: AtomicUsize::new(0),
            raised: AtomicBool::new(raised),
        });
    }
    descriptors
}

/// Whether the soft limit is below the hard one.
pub fn could_be_more() -> bool {
    let limit = getrlimit(Resource::Nofile);
    limit.current != limit.maximum
}

/// Makes the kernel allocate a large table of descriptors now. It also grows on demand, but in a process with several
/// threads that waits for all processors (`expand_files` calls `synchronize_rcu`): about ten milliseconds without an
/// accept, in the middle of a burst.
fn make_table(descriptors: u64) {
    let last = descriptors.min(TABLE).saturating_sub(1);
    // A descriptor with that number, closed at once. If this fails, the server is only slower.
    let _ = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), i32::try_from(last).unwrap_or(0));
}

/// Raises the limit if the number of a new descriptor shows that half of it is used. Returns whether it was raised.
pub fn note(descriptor: impl AsFd) -> bool {
    LIMIT.get().is_some_and(|limit| limit.is_half_used(descriptor) && limit.raise())
}

/// Raises the limit after descriptors ran out. Returns whether it was raised.
pub fn exhausted() -> bool {
    LIMIT.get().is_some_and(Limit::raise)
}

/// Must be called right before a program is started.
pub fn start() -> Start {
    let Some(limit) = LIMIT.get() else { return Start::Direct(Direct(None)) };
    // Either this thread sees `wanted`, or the thread that raises the limit sees `direct` (hence `SeqCst` in both).
    limit.direct.fetch_add(1, Ordering::SeqCst);
    let direct = Direct(Some(limit));
    if limit.wanted.load(Ordering::SeqCst) {
        drop(direct);
        Start::Limited(limit.started_with)
    } else {
        Start::Direct(direct)
    }
}

impl Limit {
    fn is_half_used(&self, descriptor: impl AsFd) -> bool {
        let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
        self.started_with.current.is_some_and(|soft| number >= soft / 2)
    }

    fn raise(&self) -> bool {
        if self.raised.load(Ordering::SeqCst) {
            return false;
        }
        self.wanted.store(true, Ordering::SeqCst);
        if self.direct.load(Ordering::SeqCst) > 0 {
            // The last `Direct` that is dropped raises it.
            return false;
        }
        let Rlimit { maximum, .. } = self.started_with;
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok()
            && !self.raised.swap(true, Ordering::SeqCst)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let Some(limit) = self.0 else { return };
        if limit.direct.fetch_sub(1, Ordering::SeqCst) == 1 && limit.wanted.load(Ordering::SeqCst) {
            limit.raise();
        }
    }
}
