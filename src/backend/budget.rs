//! How long a room may wait for slow clients. Pure.

use std::time::{Duration, Instant};

/// While no client waits, one part in so many of the time is refilled: a room waits for at most a tenth of the time.
const REFILL: u32 = 9;

/// A longer time between two looks does not count in full: this process, or the machine, was stopped, so no client
/// could catch up.
const MAX_STEP: Duration = Duration::from_secs(1);

/// How long the clients that keep up may still be made to wait for slow ones. It is one budget for the room, not one
/// for each slow client. Full, it is `--patience`.
#[derive(Debug)]
pub(super) struct HoldBudget {
    full: Duration,
    left: Duration,
    looked: Instant,
}

impl HoldBudget {
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self { full: patience, left: patience, looked: now }
    }

    /// What is left of it now. `holding` says whether a client has been made to wait since the last look.
    pub(super) fn left(&mut self, now: Instant, holding: bool) -> Duration {
        let passed = now.saturating_duration_since(self.looked);
        self.looked = now;
        self.left = if holding {
            self.left.saturating_sub(passed.min(MAX_STEP))
        } else {
            self.full.min(self.left + passed / REFILL)
        };
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_held_for_its_patience_at_a_time_and_for_a_tenth_of_the_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut budget = HoldBudget::new(Duration::from_secs(2), start);
        for millis in (500..=2000).step_by(500) {
            assert_eq!(budget.left(at(millis), true), Duration::from_millis(2000 - millis));
        }
        assert_eq!(budget.left(at(2500), true), Duration::ZERO);
        assert_eq!(budget.left(at(11_500), false), Duration::from_secs(1), "nine seconds give one");
        assert_eq!(budget.left(at(99_999), false), Duration::from_secs(2), "never more than full");

        let (mut now, mut held) = (start, Duration::ZERO);
        let mut budget = HoldBudget::new(Duration::from_secs(2), start);
        let mut holding = false;
        for _ in 0..100_000 {
            now += Duration::from_millis(10);
            held += if holding { Duration::from_millis(10) } else { Duration::ZERO };
            let left = budget.left(now, holding);
            // One who stalls for as long as it is let, again and again.
            holding = if holding { !left.is_zero() } else { left > Duration::from_millis(500) };
        }
        let share = held.as_secs_f64() / (now - start).as_secs_f64();
        assert!((0.09..0.105).contains(&share), "{share}");
    }

    #[test]
    fn a_time_in_which_the_server_was_stopped_does_not_count() {
        let start = Instant::now();
        let mut budget = HoldBudget::new(Duration::from_secs(2), start);
        assert_eq!(budget.left(start + Duration::from_secs(60), true), Duration::from_secs(1));
    }
}
