//! The kill sequence: end of input, then the stop signal, then KILL, then giving up. Pure: it only
//! says what is due.

use std::time::{Duration, Instant};

/// From the end of input to the stop signal.
pub(super) const INPUT_PATIENCE: Duration = Duration::from_millis(250);

/// From KILL to giving up.
pub(super) const REAP_PATIENCE: Duration = Duration::from_secs(2);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Send the stop signal to the process group.
    Signal,
    /// Send KILL to the process group.
    Kill,
    /// It cannot be reaped: go on without it.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    InputEnded,
    Signalled,
    Killed,
    GivenUp,
}

/// Where one process is on its way out.
#[derive(Debug)]
pub(super) struct Sequence {
    stage: Stage,
    next: Option<Instant>,
    grace: Duration,
}

impl Sequence {
    pub(super) fn new(grace: Duration) -> Self {
        Self { stage: Stage::Idle, next: None, grace }
    }

    /// Its input has ended: the clock runs. A second call changes nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.stage == Stage::Idle {
            self.enter(Stage::InputEnded, now, INPUT_PATIENCE);
        }
    }

    /// KILL is due at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Killed | Stage::GivenUp) {
            self.enter(Stage::Signalled, now, Duration::ZERO);
        }
    }

    /// What is due, once for each step.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.next.is_none_or(|at| now < at) {
            return None;
        }
        match self.stage {
            Stage::Idle | Stage::GivenUp => None,
            Stage::InputEnded => {
                self.enter(Stage::Signalled, now, self.grace);
                Some(Due::Signal)
            }
            Stage::Signalled => {
                self.enter(Stage::Killed, now, REAP_PATIENCE);
                Some(Due::Kill)
            }
            Stage::Killed => {
                (self.stage, self.next) = (Stage::GivenUp, None);
                Some(Due::GiveUp)
            }
        }
    }

    /// When something will be due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    fn enter(&mut self, stage: Stage, now: Instant, patience: Duration) {
        self.stage = stage;
        // Beyond the clock's range: some hours must do.
        self.next = now.checked_add(patience).or_else(|| now.checked_add(Duration::from_secs(3600)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_due_once_and_in_its_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut sequence = Sequence::new(Duration::from_secs(3));
        assert_eq!(sequence.due(at(99_999)), None, "nothing before it begins");
        sequence.begin(start);
        sequence.begin(at(200));
        let seen: Vec<_> = (0..6000).filter_map(|t| sequence.due(at(t)).map(|due| (t, due))).collect();
        assert_eq!(seen, [(250, Due::Signal), (3250, Due::Kill), (5250, Due::GiveUp)]);
        assert_eq!(sequence.next(), None);
    }

    #[test]
    fn hurry_goes_straight_to_kill() {
        let now = Instant::now();
        let mut sequence = Sequence::new(Duration::from_secs(3));
        sequence.begin(now);
        sequence.hurry(now);
        assert_eq!(sequence.due(now), Some(Due::Kill));
        sequence.hurry(now);
        assert_eq!(sequence.due(now), None, "not twice");
    }
}
