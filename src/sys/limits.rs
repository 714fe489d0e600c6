//! What this system lets one process hold: descriptors, threads, memory maps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Resource;

use super::kernel;

/// Memory maps that one thread takes: stack, guard, signal stack and its guard; one to spare, for its share of
/// the maps that the allocator makes for several buffers at once.
const MAPS_PER_THREAD: u64 = 5;

/// Descriptors kept back for standard streams, listeners, the log and static files.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Threads kept back for everything that is not a connection, the four that run already included.
const RESERVED_THREADS: u64 = 20;

/// How many connections, of one thread and one descriptor each, this process can hold, and what
/// stops it there.
pub fn connections(descriptors: u64) -> (usize, &'static str) {
    let threads = |limit: u64| limit.saturating_sub(RESERVED_THREADS);
    let processes = rustix::process::getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
    let bounds = [
        (descriptors.saturating_sub(RESERVED_DESCRIPTORS), "open files (ulimit -n)"),
        (memory_maps() / MAPS_PER_THREAD, "vm.max_map_count"),
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

/// How many memory maps there are.
fn memory_maps() -> u64 {
    number("/proc/sys/vm/max_map_count").unwrap_or(65_530)
}

/// The memory maps of this process. Where the system has none left, std cannot map the signal
/// stack of a new thread and the allocator no memory, and either ends the process: so it does not come to that.
#[derive(Debug)]
pub struct Maps {
    left: AtomicU64,
}

/// Some of them; given back when dropped.
#[derive(Debug)]
pub struct MapGuard {
    maps: Arc<Maps>,
    held: u64,
}

impl Maps {
    /// All that the system allows.
    pub fn all() -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(memory_maps()) })
    }

    /// For so many threads.
    pub fn of(threads: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(threads * MAPS_PER_THREAD) })
    }

    /// Maps for so many threads, if they are there.
    pub fn reserve(self: &Arc<Self>, threads: u64) -> Option<MapGuard> {
        self.reserve_maps(threads * MAPS_PER_THREAD)
    }

    /// So many maps, if they are there: for buffers so large that the allocator gives each a map of its own.
    pub fn reserve_maps(self: &Arc<Self>, held: u64) -> Option<MapGuard> {
        let take = |left: u64| left.checked_sub(held);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(MapGuard { maps: Arc::clone(self), held })
    }
}

impl Drop for MapGuard {
    fn drop(&mut self) {
        self.maps.left.fetch_add(self.held, Ordering::Relaxed);
    }
}

/// The number in a file of one number; `None` for `max` and for no such file.
fn number(path: &str) -> Option<u64> {
    kernel::read(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_given_back_and_never_more_than_there_are() {
        let maps = Maps::of(4);
        let first = maps.reserve(3).expect("there are four");
        assert!(maps.reserve(2).is_none());
        let second = maps.reserve(1).expect("one is left");
        drop(first);
        assert!(maps.reserve(4).is_none());
        drop(second);
        let last = maps.reserve_maps(1).expect("all are back");
        assert!(maps.reserve(4).is_none());
        drop(last);
        drop(maps.reserve(4).expect("all are back"));
    }
}
