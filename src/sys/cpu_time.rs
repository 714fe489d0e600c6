//! The CPU time of the calling thread, for tests of cost that must pass on a busy machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that `work` took.
pub(crate) fn of(work: impl FnOnce()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    };
    let start = now();
    work();
    now().saturating_sub(start)
}
