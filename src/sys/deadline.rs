//! Deadlines: each function that can wait takes one.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// When responses must be finished because the server shuts down. Set at the start of the shutdown.
pub type Cutoff = OnceLock<Instant>;

/// A point in time; `None` is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline. Only for waits that say what wakes them.
    pub const NEVER: Self = Self(None);

    /// From now; never if that is beyond the range of the clock.
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now().checked_add(duration))
    }

    pub fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    pub fn passed(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// The time left: zero once it has passed, `None` for never.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// The earlier of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_deadline_wins_and_never_loses() {
        let soon = Deadline::after(Duration::from_secs(1));
        let late = Deadline::after(Duration::from_secs(9));
        assert_eq!(soon.min(late), soon);
        assert_eq!(late.min(soon), soon);
        assert_eq!(Deadline::NEVER.min(late), late);
        assert_eq!(late.min(Deadline::NEVER), late);
        assert!(Deadline::after(Duration::ZERO).passed());
        assert!(!Deadline::NEVER.passed());
        assert!(!Deadline::after(Duration::MAX).passed(), "beyond the clock is never");
    }
}
