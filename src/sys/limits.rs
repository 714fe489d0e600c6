//! The system's limits for one process: descriptors, threads, memory maps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Resource;

use super::kernel;

/// Memory maps of one thread: stack, guard, signal stack and its guard; one more for its share of the maps that the
/// allocator makes for several buffers together.
const MAPS_PER_THREAD: u64 = 5;

/// Descriptors reserved for standard streams, listeners, the log and static files.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Threads reserved for everything but connections, including the four that are already running.
const RESERVED_THREADS: u64 = 20;

/// How many connections, with a thread and a descriptor each, this process can have, and the limit that is lowest.
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

/// The lowest `pids.max` of the control group (version 2) of this process and of those above it.
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

fn memory_maps() -> u64 {
    number("/proc/sys/vm/max_map_count").unwrap_or(65_530)
}

/// Counts the memory maps of this process, so that they never run out: without one, std cannot map the signal stack of
/// a new thread and the allocator gets no memory, and each of these ends the process.
#[derive(Debug)]
pub struct Maps {
    left: AtomicU64,
}

/// Reserved maps; released when dropped.
#[derive(Debug)]
pub struct MapGuard {
    maps: Arc<Maps>,
    held: u64,
}

impl Maps {
    /// As many as the system allows.
    pub fn all() -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(memory_maps()) })
    }

    /// Enough for this number of threads.
    pub fn of(threads: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(threads * MAPS_PER_THREAD) })
    }

    /// Reserves maps for this number of threads, if there are enough.
    pub fn reserve(self: &Arc<Self>, threads: u64) -> Option<MapGuard> {
        self.reserve_maps(threads * MAPS_PER_THREAD)
    }

    /// Reserves this number of maps, if there are enough. For buffers so large that each gets a map of its own.
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

/// The number in a file; `None` for `max` or if there is no such file.
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
