//! Threads with a name and a small stack. One that has done its work stays for a moment and does the next: to
//! make a thread and to end it takes a dozen system calls, four of which lock the whole process's memory.

use std::ffi::CString;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lock;

/// How long a thread without work stays, and how many of them.
const STAY: Duration = Duration::from_secs(1);
const MAX_PARKED: usize = 32;

type Body = Box<dyn FnOnce() + Send>;

/// What a thread is to do.
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

/// Starts a thread that somebody waits for in the end.
///
/// # Errors
/// The system's, when it has no memory, no process number or no memory map left (EAGAIN).
pub fn thread(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    spawn(name, stack, Box::new(body))
}

/// Has a thread do this, one that is there already if possible; nobody waits for it.
///
/// # Errors
/// As [`thread`].
pub fn work(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    hand_over(Work { name: name.to_owned(), body: Box::new(body) }, stack)
}

fn hand_over(work: Work, stack: usize) -> io::Result<()> {
    let parked = {
        let mut parked = lock(&PARKED);
        // The one that came last: what it touched may still be in a cache.
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

/// The body of a thread that stays. One that panics does not.
fn serve(first: Body, stack: usize) {
    first();
    let own = Arc::new(Parked { stack, work: Mutex::new(None), filled: Condvar::new() });
    while let Some(work) = own.wait() {
        set_name(&work.name);
        (work.body)();
    }
}

impl Parked {
    /// The next work, if any comes in time and there is a place to wait.
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
                // Somebody has just taken this one off the list, and hands its work over.
                until += STAY;
                work = lock(&self.work);
                continue;
            }
            work = self.filled.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Seen in `ps -L` and `top -H`; if it fails, it is only a name.
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// All that std does around a thread's body is in the program once, not for each kind of thread anew.
fn spawn(name: &str, stack: usize, body: Body) -> io::Result<JoinHandle<()>> {
    // A NUL in a thread's name would be a panic; a room's name cannot hold one, but prove it here.
    std::thread::Builder::new().name(name.replace('\0', "")).stack_size(stack).spawn(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_that_is_done_does_the_next_work_and_none_waits_for_another() {
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
        // It is on the list soon after it has said so, and leaves it after a second at the earliest.
        let until = Instant::now() + STAY * 10;
        while begin(None) != first {
            assert!(Instant::now() < until, "nobody takes the next work");
        }
        let (release, hold): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel()).unzip();
        let ids: Vec<_> = hold.into_iter().map(|hold| begin(Some(hold))).collect();
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "each has a thread");
        drop(release);
    }
}
