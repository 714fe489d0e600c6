//! The soft limit on descriptors. A program that uses select(2), or closes "all" descriptors, must not find a
//! limit of a million, so programs get the limit that the server was started with. The server itself keeps that
//! limit until it needs more; from then on programs are started in a way that sets it back before they run.

use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that there is a place for from the start, of eight bytes each in the kernel.
const TABLE: u64 = 16 * 1024;

/// A soft limit below this is raised at the start: half of it may be gone before the next descriptor is looked at.
const LEAST: u64 = 256;

/// The limit of this process, once it is known that it can be raised.
static LIMIT: OnceLock<Limit> = OnceLock::new();

/// A soft limit that can be raised.
#[derive(Debug)]
struct Limit {
    started_with: Rlimit,
    /// It is to be raised: no program is started any more without setting it back.
    wanted: AtomicBool,
    /// Programs that are being started without that. They have the limit of the moment in which the process is
    /// created, so it is raised behind the last of them.
    direct: AtomicUsize,
    raised: AtomicBool,
}

/// How a program is to be started.
#[derive(Debug)]
pub enum Start {
    /// As it is; this is kept until it has been.
    Direct(Direct),
    /// With its limit on descriptors set to this.
    Limited(Rlimit),
}

/// See [`Start::Direct`].
#[derive(Debug)]
pub struct Direct(Option<&'static Limit>);

/// Finds out how many descriptors there can be. `can_set_back`: whether programs can be started with another
/// limit than ours; without that it stays as it is. To be called once, while there is one thread.
pub fn prepare(can_set_back: bool) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let can_be_raised =
        can_set_back && limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok();
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

/// Has the kernel make its table of descriptors large at once. It grows it by itself, but of a process with
/// several threads each time waits for all processors (`expand_files` calls `synchronize_rcu`): some ten
/// milliseconds in which nobody is accepted, in the middle of a burst.
fn make_table(descriptors: u64) {
    let last = descriptors.min(TABLE).saturating_sub(1);
    // One of that number, for a moment. Without it things are slower, no more.
    let _ = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), i32::try_from(last).unwrap_or(0));
}

/// Looks at the number of a new descriptor, and raises the limit when half of it is used. Says whether it was
/// raised now.
pub fn note(descriptor: impl AsFd) -> bool {
    LIMIT.get().is_some_and(|limit| limit.is_half_used(descriptor) && limit.raise())
}

/// There is no descriptor left: raises the limit. Says whether it was raised now.
pub fn exhausted() -> bool {
    LIMIT.get().is_some_and(Limit::raise)
}

/// To be asked right before a program is started.
pub fn start() -> Start {
    let Some(limit) = LIMIT.get() else { return Start::Direct(Direct(None)) };
    // Either this sees that it is to be raised, or who raises it sees this (hence `SeqCst`, on both sides).
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
            // The last of them raises it.
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
