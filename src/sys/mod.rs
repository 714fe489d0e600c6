//! Thin names over the system calls that std does not have, all without `unsafe` (rustix).

pub mod bell;
#[cfg(test)]
pub(crate) mod cpu_time;
pub mod deadline;
pub mod descriptors;
pub mod kernel;
pub mod limits;
pub mod orphans;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod progress;
pub mod signals;
pub mod socket;
pub mod tcp;
mod tcp_table;
pub mod threads;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks even if a thread panicked while it held the lock: the data is consistent wherever a panic can happen, and an
/// error in one connection must not end the others.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls until a condition holds, where the system sends no event.
#[cfg(test)]
fn tests_wait(mut condition: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < until, "not in time");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The text of an error without the ` (os error 2)` that std adds.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})"));
    match number.and_then(|number| text.strip_suffix(&number).map(str::to_owned)) {
        Some(words) => words,
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_words_and_no_number() {
        for (error, words) in [
            (io::Error::from_raw_os_error(2), "No such file or directory"),
            (rustix::io::Errno::ACCESS.into(), "Permission denied"),
            (io::Error::other("closed (os error 2)"), "closed (os error 2)"),
            (io::ErrorKind::TimedOut.into(), "timed out"),
        ] {
            assert_eq!(reason(&error), words);
        }
    }
}
