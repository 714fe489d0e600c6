//! Process 1 of a container inherits each process whose parent has exited, and has to reap it.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::process::Processes;

/// How often to look for orphans.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct Orphans {
    /// Zombies that were there at the last look.
    seen: Vec<i32>,
    next: Instant,
}

impl Orphans {
    /// Orphans to be reaped, where this process is process 1.
    pub fn if_init() -> Option<Self> {
        (rustix::process::getpid() == Pid::INIT).then(|| Self::new(Instant::now()))
    }

    fn new(now: Instant) -> Self {
        Self { seen: Vec::new(), next: now + INTERVAL }
    }

    /// When to call [`Orphans::reap`] again.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Reaps orphans if it is time for it, whatever the caller was woken by.
    pub fn reap(&mut self, programs: &Processes) {
        for pid in self.due(Instant::now(), || zombies().into_iter().filter(|&pid| !programs.contains(pid))) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }

    /// The zombies that are to be reaped now: those that were there at the last look, an interval ago. A program of
    /// ours that was just started is not in the list of programs yet.
    fn due<I: Iterator<Item = i32>>(&mut self, now: Instant, zombies: impl FnOnce() -> I) -> Vec<Pid> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + INTERVAL;
        let before = std::mem::replace(&mut self.seen, zombies().collect());
        self.seen.iter().filter(|pid| before.contains(pid)).copied().filter_map(Pid::from_raw).collect()
    }
}

/// Children of this process that have exited and are not reaped (proc(5)); none where there is no /proc.
fn zombies() -> Vec<i32> {
    let own = rustix::process::getpid();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_zombie = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parent_of_zombie(&stat) == Some(own.as_raw_pid())
    };
    pids.filter(is_zombie).collect()
}

/// The parent in a line of /proc/PID/stat, if the process is a zombie. The name may hold anything.
fn parent_of_zombie(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.strip_prefix(" Z ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zombies_have_a_parent_here() {
        let cases = [
            ("12 (sleep) Z 1 12 12 0", Some(1)),
            ("12 (sleep) S 1 12 12 0", None),
            ("12 (a) Z 7 (b) Z 42 1", Some(42)),
            ("12 (a) Z 7) S 42 1", None),
            ("", None),
        ];
        for (stat, parent) in cases {
            assert_eq!(parent_of_zombie(stat), parent, "{stat}");
        }
    }

    #[test]
    fn a_zombie_is_reaped_an_interval_after_it_was_seen_however_often_it_is_asked() {
        let start = Instant::now();
        let mut orphans = Orphans::new(start);
        let mut reaped = Vec::new();
        for millis in (0..3000).step_by(10) {
            let now = start + Duration::from_millis(millis);
            let due = orphans.due(now, || [7, 8].into_iter().take(if millis < 1500 { 1 } else { 2 }));
            reaped.extend(due.into_iter().map(|pid| (millis, pid.as_raw_nonzero().get())));
        }
        assert_eq!(reaped, [(2000, 7)], "8 was seen once");
    }

    #[test]
    fn a_child_that_has_exited_is_found() {
        let mut child = std::process::Command::new("true").spawn().expect("start true");
        let pid = i32::try_from(child.id()).expect("a pid");
        while !zombies().contains(&pid) {
            std::thread::yield_now();
        }
        child.wait().expect("reap it");
        assert!(!zombies().contains(&pid));
    }
}
