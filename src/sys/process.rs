//! Processes by pidfd, and process groups.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::bell::Bell;
use super::deadline::Deadline;
use super::kernel;
use super::lock;
use super::poll::ready;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Status(i32),
    Signal(i32),
    /// It could not be waited for.
    Unknown,
}

impl Exit {
    pub fn success(self) -> bool {
        self == Self::Status(0)
    }

    /// The status that a shell gives it: 128 and the number of the signal that killed it.
    pub fn as_status(self) -> u8 {
        match self {
            Self::Status(status) => status.to_le_bytes()[0],
            Self::Signal(signal) => 128u8.wrapping_add(signal.to_le_bytes()[0]),
            Self::Unknown => 1,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => write!(f, "ended, status unknown"),
        }
    }
}

/// How the first program ended.
#[derive(Debug, Default)]
pub struct FirstExit {
    exit: OnceLock<Exit>,
    changed: Arc<Bell>,
}

impl FirstExit {
    /// `changed` is rung for each exit.
    pub fn new(changed: Arc<Bell>) -> Self {
        Self { exit: OnceLock::new(), changed }
    }

    /// A program has ended. Its clients may still take their last messages.
    pub fn note(&self, exit: Exit) {
        let _ = self.exit.set(exit);
        self.changed.ring();
    }

    pub fn get(&self) -> Option<Exit> {
        self.exit.get().copied()
    }
}

/// A child process: its id, which is also that of its process group, and a descriptor that becomes readable when it
/// ends.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    fd: OwnedFd,
    /// Locked while a signal is sent: once it is reaped, its id can belong to another process.
    reaped: Mutex<bool>,
}

/// All processes that have not been reaped, for the end of the server.
#[derive(Debug, Default)]
pub struct Processes(Mutex<Vec<Weak<Process>>>);

impl Processes {
    pub fn add(&self, process: &Arc<Process>) {
        let mut all = lock(&self.0);
        // Processes that are gone are removed before the vector would have to grow.
        if all.len() == all.capacity() {
            all.retain(|process| process.strong_count() > 0);
        }
        all.push(Arc::downgrade(process));
    }

    /// Whether this is one of them.
    pub fn contains(&self, pid: i32) -> bool {
        lock(&self.0).iter().filter_map(Weak::upgrade).any(|process| process.id() == pid)
    }

    /// How many have not been reaped.
    pub fn count(&self) -> usize {
        let all: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        all.iter().filter(|process| !*lock(&process.reaped)).count()
    }

    /// Sends KILL to the process group of each. Returns how many have not been reaped.
    pub fn kill(&self) -> usize {
        let all: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        all.iter().filter(|process| process.signal_group(Signal::KILL)).count()
    }
}

/// How long to wait, after KILL, for a process that is dropped.
const LAST_WAIT: Duration = Duration::from_secs(2);

impl Process {
    /// Opens a child that has not been reaped.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self {
            pid,
            fd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?,
            reaped: Mutex::new(false),
        })
    }

    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its current effective user id (proc(5)); `None` if unknown.
    pub fn user(&self) -> Option<u32> {
        rustix::fs::stat(format!("/proc/{}", self.id())).ok().map(|directory| directory.st_uid)
    }

    /// How it ended, if it has, *without* reaping it: its id and that of its group stay in use.
    pub fn exited(&self) -> Option<Exit> {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    /// Reaps it if it has ended. After that its id can belong to another process, so no more signals are sent.
    pub fn reap(&self) -> Option<Exit> {
        let mut reaped = lock(&self.reaped);
        let exit = self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        *reaped |= exit.is_some();
        exit
    }

    /// Sends a signal to the process group, unless the process has been reaped. Returns whether it was sent.
    pub fn signal_group(&self, signal: Signal) -> bool {
        let reaped = lock(&self.reaped);
        if *reaped {
            return false;
        }
        // ESRCH: the group is empty. EPERM: a set-user-id member; the others got the signal (kill(2)).
        let _ = rustix::process::kill_process_group(self.pid, signal);
        // The process may have moved to another group of its session.
        if rustix::process::getpgid(Some(self.pid)).is_ok_and(|group| group != self.pid) {
            let _ = rustix::process::pidfd_send_signal(&self.fd, signal);
        }
        true
    }

    fn wait(&self, options: WaitIdOptions) -> Option<Exit> {
        match rustix::process::waitid(WaitId::Pid(self.pid), options) {
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => Exit::Status(status),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            }),
            Ok(None) => None,
            // ECHILD: it was reaped elsewhere.
            Err(_) => Some(Exit::Unknown),
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Process {
    /// Kills it with its group, and reaps it.
    fn drop(&mut self) {
        if self.signal_group(Signal::KILL) {
            let _ = ready(self.fd.as_fd(), PollFlags::IN, Deadline::after(LAST_WAIT));
            self.reap();
        }
    }
}

/// Whether this process ignores a signal. An ignored signal stays ignored in the programs that it starts (execve(2)).
pub fn is_ignored(signal: Signal) -> bool {
    let status = kernel::read("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Whether this process was started with SIGCHLD ignored. Then the kernel reaps children itself (sigaction(2)): their
/// exit status is lost, and their ids can be reused at once.
pub fn children_are_reaped_unseen() -> bool {
    is_ignored(Signal::CHILD)
}
