//! Threads with a name and a small stack. A thread that has finished waits a moment for more work: to create and end a
//! thread takes a dozen system calls, four of which lock the memory map of the whole process.

use std::ffi::CString;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lock;

/// How long an idle thread stays, and how many may be idle.
const STAY: Duration = Duration::from_secs(1);
const MAX_PARKED: usize = 32;

type Body = Box<dyn FnOnce() + Send>;

struct Work {
    name: String,
    body: Body,
}

/// A thread that waits for work.
struct Parked {
    stack: usize,
    work: Mutex<Option<Work>>,
    filled: Condvar,
}

static PARKED: Mutex<Vec<Arc<Parked>>> = Mutex::new(Vec::new());

/// Starts a thread that the caller can join.
///
/// # Errors
/// The system's, when it has no memory, no process number or no memory map left (EAGAIN).
pub fn thread(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    spawn(name, stack, Box::new(body))
}

/// Runs this in an idle thread, or in a new one. It cannot be joined.
///
/// # Errors
/// As [`thread`].
pub fn work(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    hand_over(Work { name: name.to_owned(), body: Box::new(body) }, stack)
}

fn hand_over(work: Work, stack: usize) -> io::Result<()> {
    let parked = {
        let mut parked = lock(&PARKED);
        // The one that became idle last: its memory may still be in a cache.
        parked.iter().rposition(|parked| parked.stack >= stack).map(|at| parked.remove(at))
    };
    if let Some(parked) = parked {
        *lock(&parked.work) = Some(work);
        parked.filled.notify_one();
        return Ok(());
    }
    let Work { name, body } = work;
    spawn(&name, stack, Box::new(move || serve(body, stack))).map(drop)
}

/// The body of a thread that waits for more work. A panic ends it.
fn serve(first: Body, stack: usize) {
    first();
    let own = Arc::new(Parked { stack, work: Mutex::new(None), filled: Condvar::new() });
    while let Some(work) = own.wait() {
        set_name(&work.name);
        (work.body)();
    }
}

impl Parked {
    /// Waits for work; `None` if none comes in time or enough threads are idle.
    fn wait(self: &Arc<Self>) -> Option<Work> {
        {
            let mut parked = lock(&PARKED);
            if parked.len() >= MAX_PARKED {
                return None;
            }
            parked.push(Arc::clone(self));
        }
        let mut until = Instant::now() + STAY;
        let mut work = lock(&self.work);
        loop {
            if let Some(work) = work.take() {
                return Some(work);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(work);
                let mut parked = lock(&PARKED);
                if let Some(at) = parked.iter().position(|other| Arc::ptr_eq(other, self)) {
                    parked.remove(at);
                    return None;
                }
                drop(parked);
                // Another thread has just removed this one from the list and is about to give it work.
                until += STAY;
                work = lock(&self.work);
                continue;
            }
            work = self.filled.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Sets the name that `ps -L` and `top -H` show. A failure is ignored.
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Takes a boxed body, so that std's code around it is compiled once.
fn spawn(name: &str, stack: usize, body: Body) -> io::Result<JoinHandle<()>> {
    // std panics at a NUL in the name. A room's name has none, but make sure.
    std::thread::Builder::new().name(name.replace('\0', "")).stack_size(stack).spawn(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn an_idle_thread_does_the_next_work_and_busy_threads_share_none() {
        let begin = |hold: Option<mpsc::Receiver<()>>| {
            let (tell, told) = mpsc::channel();
            work("test", 64 * 1024, move || {
                let _ = tell.send(std::thread::current().id());
                hold.map(|hold| hold.recv());
            })
            .expect("a thread");
            told.recv_timeout(STAY * 10).expect("it runs")
        };
        let first = begin(None);
        // It joins the list of idle threads soon after this and stays for at least a second.
        let until = Instant::now() + STAY * 10;
        while begin(None) != first {
            assert!(Instant::now() < until, "the idle thread did not take the next work");
        }
        let (release, hold): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel()).unzip();
        let ids: Vec<_> = hold.into_iter().map(|hold| begin(Some(hold))).collect();
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "two share a thread");
        drop(release);
    }
}
