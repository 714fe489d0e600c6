//! The back-off of programs that fail again and again. Pure.

use std::time::{Duration, Instant};

use crate::backend::Outcome;

/// A failure counts if the program fails this soon after its start.
const SOON: Duration = Duration::from_secs(1);

/// From this number of failures in a row on, the next start has to wait.
const FREE: u32 = 5;

/// The first pause, and the longest; each failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A program that has lived for this long resets the count.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failures {
    in_a_row: u32,
    /// The program is not started before.
    until: Option<Instant>,
}

impl Failures {
    /// Counts the end of a program that has lived for this long.
    pub(super) fn note(&mut self, outcome: Outcome, lived: Duration, now: Instant) {
        match outcome {
            Outcome::Done => *self = Self::default(),
            _ if lived >= GOOD_LIFE => *self = Self::default(),
            Outcome::Failed if lived < SOON => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                if let Some(doublings) = self.in_a_row.checked_sub(FREE) {
                    self.until = Some(now + (FIRST_PAUSE * 2u32.pow(doublings.min(10))).min(MAX_PAUSE));
                }
            }
            Outcome::Failed | Outcome::Stopped => {}
        }
    }

    /// How long the program is not to be started from now on, if that is so.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_five_failures_each_start_waits_longer_until_a_good_life() {
        let mut now = Instant::now();
        let mut failures = Failures::default();
        let mut pauses = Vec::new();
        for _ in 0..14 {
            failures.note(Outcome::Failed, Duration::from_millis(10), now);
            let pause = failures.pause(now);
            pauses.push(pause.map_or(0, |pause| pause.as_millis()));
            now += pause.unwrap_or_default();
            assert_eq!(failures.pause(now), None, "it is over");
        }
        assert_eq!(pauses, [0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        failures.note(Outcome::Failed, Duration::from_secs(2), now);
        failures.note(Outcome::Stopped, Duration::from_millis(1), now);
        assert_eq!(failures.in_a_row(), 14, "neither soon nor good");
        failures.note(Outcome::Failed, Duration::from_secs(10), now);
        assert_eq!(failures, Failures::default(), "a good life");
        for _ in 0..9 {
            failures.note(Outcome::Failed, Duration::ZERO, now);
        }
        failures.note(Outcome::Done, Duration::ZERO, now);
        assert_eq!(failures, Failures::default(), "no longer in a row");
    }
}
