//! Process 1 of a container inherits each process whose parent has exited, and has to reap it.

use std::fs;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::process::Processes;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Orphans {
    /// Zombies that were there at the last call.
    seen: Vec<i32>,
}

impl Orphans {
    /// Orphans to be reaped, where this process is process 1.
    pub fn if_init() -> Option<Self> {
        (rustix::process::getpid() == Pid::INIT).then(Self::default)
    }

    /// Reaps orphans. To be called about once a second: a zombie is reaped when it is seen for the second time, for a
    /// program of ours that was just started may not be in `programs` yet.
    pub fn reap(&mut self, programs: &Processes) {
        let zombies: Vec<_> = zombies().into_iter().filter(|&pid| !programs.contains(pid)).collect();
        for pid in zombies.iter().filter(|pid| self.seen.contains(pid)).copied().filter_map(Pid::from_raw) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
        self.seen = zombies;
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
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.strip_prefix("Z ")?.split(' ').next()?.parse().ok()
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
