//! A notification that threads send and one thread waits for.

use std::sync::{Condvar, Mutex, PoisonError};

use super::deadline::Deadline;
use super::lock;

/// Says only that something has happened, not what and not how often. A ring while no thread waits ends the next wait
/// at once.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Ends the current wait or else the next one. Never blocks.
    pub fn ring(&self) {
        // If it has rung already, the waiting thread was woken. To wake it is a system call.
        if !std::mem::replace(&mut *lock(&self.rung), true) {
            self.changed.notify_one();
        }
    }

    /// Waits until it rings or the deadline has passed; says whether it rang.
    pub fn wait(&self, deadline: Deadline) -> bool {
        let mut rung = lock(&self.rung);
        while !std::mem::take(&mut *rung) {
            rung = match deadline.left() {
                Some(left) if left.is_zero() => return false,
                Some(left) => self.changed.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0,
                // Without a deadline: woken by `ring`.
                None => self.changed.wait(rung).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_ring_before_the_wait_is_kept_once() {
        let bell = Bell::default();
        let now = || Deadline::after(Duration::ZERO);
        bell.ring();
        bell.ring();
        assert!(bell.wait(now()));
        assert!(!bell.wait(now()));
    }

    #[test]
    fn a_ring_ends_a_wait() {
        let bell = Arc::new(Bell::default());
        let ringer = std::thread::spawn({
            let bell = Arc::clone(&bell);
            move || bell.ring()
        });
        assert!(bell.wait(Deadline::NEVER));
        ringer.join().expect("the ringer is done");
    }
}
