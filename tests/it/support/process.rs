//! Processes from outside: who is whose child, who is gone, what one holds.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::DEADLINE;

/// Held while a process is started and while an executable file is written: a child that is just being
/// forked would hold the file open for writing, and executing it fails then (ETXTBSY, execve(2)).
pub(crate) fn forking() -> MutexGuard<'static, ()> {
    static FORKING: Mutex<()> = Mutex::new(());
    FORKING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed()).expect("a process number is not 0")
}

/// Sends a signal to one process; that it is gone already is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = rustix::process::kill_process(id(pid), signal);
}

/// Sends a signal to a process group.
pub(crate) fn signal_group(pid: u32, signal: Signal) {
    let _ = rustix::process::kill_process_group(id(pid), signal);
}

/// Waits until a process has ended; says whether it has in that time. It need not be our child.
pub(crate) fn ended_within(pid: u32, time: Duration) -> bool {
    let Ok(pidfd) = rustix::process::pidfd_open(id(pid), PidfdFlags::empty()) else { return true };
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).expect("a sane deadline"),
            tv_nsec: left.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.expect("poll a pidfd") > 0,
        }
    }
}

/// Waits until a process has ended.
pub(crate) fn await_end(pid: u32) {
    assert!(ended_within(pid, DEADLINE), "process {pid} still runs after {DEADLINE:?}");
}

/// Whether a process runs; one that has ended and waits to be reaped does not.
pub(crate) fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// State and parent of a process (`/proc/PID/stat`, proc(5)).
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The children of a process, those included that wait to be reaped.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let mut found: Vec<u32> = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&other| stat(other).is_some_and(|(_, parent)| parent == pid))
        .collect();
    found.sort_unstable();
    found
}

/// A number in `/proc/PID/status`: `VmRSS` (KiB), `Threads`, ...
pub(crate) fn status_number(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in the status of {pid}"))
}
