//! Thin names over the system calls that std does not have, all without `unsafe` (rustix).

pub mod bell;
pub mod deadline;
pub mod kernel;
pub mod limits;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod progress;
pub mod signals;
pub mod socket;
pub mod tcp;
pub mod threads;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a thread panicked with the lock held: what our mutexes guard is consistent at
/// every point where a panic could come, and one bad connection must not end the others.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks again and again until a condition holds, for what the system sends no event about.
#[cfg(test)]
fn tests_wait(mut condition: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < until, "not in time");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
