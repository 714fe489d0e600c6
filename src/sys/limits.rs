//! What this system lets one process hold: descriptors, threads, memory maps.

use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit};

use super::kernel;

/// Memory maps that one thread takes: stack, guard, signal stack and its guard; one to spare.
const MAPS_PER_THREAD: u64 = 5;

/// Descriptors kept back for standard streams, listeners, the log and static files.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Threads kept back for everything that is not a connection, the three that run already included.
const RESERVED_THREADS: u64 = 19;

/// Descriptors that there is a place for from the start, of eight bytes each in the kernel.
const TABLE: u64 = 16 * 1024;

/// The limit on descriptors that the server was started with; children get it back.
static STARTED_WITH: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit on descriptors to the hard one and says what it is now. To be called while there is
/// one thread.
pub fn raise_descriptors() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = STARTED_WITH.set(limit);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now =
        if limit.current != limit.maximum && rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
            raised.current
        } else {
            limit.current
        };
    let descriptors = now.unwrap_or(u64::MAX);
    make_table(descriptors);
    descriptors
}

/// Has the kernel make its table of descriptors large at once. It grows it by itself, but of a process with
/// several threads each time waits for all processors (`expand_files` calls `synchronize_rcu`): some ten
/// milliseconds in which nobody is accepted, in the middle of a burst.
fn make_table(descriptors: u64) {
    let last = descriptors.min(TABLE).saturating_sub(1);
    // One of that number, for a moment. Without it things are slower, no more.
    let _ = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), i32::try_from(last).unwrap_or(0));
}

/// Gives a child that was just started the descriptor limit that the server was started with: a
/// program that uses `select` or closes "all" descriptors must not find a limit of a million.
pub fn restore_descriptors(child: u32) {
    let Some(limit) = STARTED_WITH.get() else { return };
    if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) {
        // It may have ended already; then there is nobody to give it to.
        let _ = rustix::process::prlimit(Some(pid), Resource::Nofile, *limit);
    }
}

/// How many connections, of one thread and one descriptor each, this process can hold, and what
/// stops it there.
pub fn connections(descriptors: u64) -> (usize, &'static str) {
    let threads = |limit: u64| limit.saturating_sub(RESERVED_THREADS);
    let processes = rustix::process::getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
    let bounds = [
        (descriptors.saturating_sub(RESERVED_DESCRIPTORS), "open files (ulimit -n)"),
        (number("/proc/sys/vm/max_map_count").unwrap_or(65_530) / MAPS_PER_THREAD, "vm.max_map_count"),
        (threads(number("/proc/sys/kernel/threads-max").unwrap_or(u64::MAX)), "kernel.threads-max"),
        (threads(number("/proc/sys/kernel/pid_max").unwrap_or(32_768)), "kernel.pid_max"),
        (threads(processes), "processes (ulimit -u)"),
        (threads(cgroup_pids().unwrap_or(u64::MAX)), "pids.max of the control group"),
    ];
    let (limit, reason) = bounds.into_iter().min_by_key(|&(limit, _)| limit).unwrap_or((1, "nothing"));
    (usize::try_from(limit).unwrap_or(usize::MAX).max(1), reason)
}

/// `pids.max` of the control group (version 2) that this process is in, or of one above it.
fn cgroup_pids() -> Option<u64> {
    let own = kernel::read("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut group = std::path::Path::new("/sys/fs/cgroup").join(path);
    let mut least = None;
    while group.starts_with("/sys/fs/cgroup") {
        if let Some(limit) = group.join("pids.max").to_str().and_then(number) {
            least = Some(least.map_or(limit, |least: u64| least.min(limit)));
        }
        if !group.pop() {
            break;
        }
    }
    least
}

/// The number in a file of one number; `None` for `max` and for no such file.
fn number(path: &str) -> Option<u64> {
    kernel::read(path).ok()?.trim().parse().ok()
}
