//! The kill sequence: end of input, then the stop signal, then KILL, then giving up. Pure: it only
//! says what is due.

use std::time::{Duration, Instant};

/// From KILL to giving up.
pub(super) const REAP_TIMEOUT: Duration = Duration::from_secs(2);

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
    input_grace: Duration,
    grace: Duration,
    /// The stop signal does not come later than this, whatever is read.
    latest: Option<Instant>,
    /// Bytes of its input that it had not read when last looked at.
    unread: usize,
}

impl Sequence {
    pub(super) fn new(input_grace: Duration, grace: Duration) -> Self {
        Self { stage: Stage::Idle, next: None, input_grace, grace, latest: None, unread: usize::MAX }
    }

    /// Its input has ended: the clock runs. A second call changes nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.stage == Stage::Idle {
            self.enter(Stage::InputEnded, now, self.input_grace);
            self.latest = now.checked_add(self.input_grace.saturating_add(self.grace));
        }
    }

    /// It has not read so many bytes of its input yet. As long as they become fewer, it is left alone.
    pub(super) fn note_unread(&mut self, unread: usize, now: Instant) {
        if self.stage == Stage::InputEnded && unread < self.unread {
            self.enter(Stage::InputEnded, now, self.input_grace);
            self.next = self.next.min(self.latest.or(self.next));
        }
        self.unread = unread;
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
                self.enter(Stage::Killed, now, REAP_TIMEOUT);
                Some(Due::Kill)
            }
            Stage::Killed => {
                (self.stage, self.next) = (Stage::GivenUp, None);
                Some(Due::GiveUp)
            }
        }
    }

    /// Whether it is on its way out.
    pub(super) fn has_begun(&self) -> bool {
        self.stage != Stage::Idle
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
        let mut sequence = Sequence::new(Duration::from_millis(250), Duration::from_secs(3));
        assert_eq!(sequence.due(at(99_999)), None, "nothing before it begins");
        sequence.begin(start);
        sequence.begin(at(200));
        let seen: Vec<_> = (0..6000).filter_map(|t| sequence.due(at(t)).map(|due| (t, due))).collect();
        assert_eq!(seen, [(250, Due::Signal), (3250, Due::Kill), (5250, Due::GiveUp)]);
        assert_eq!(sequence.next(), None);
    }

    #[test]
    fn one_that_reads_on_is_left_alone_for_a_bounded_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut sequence = Sequence::new(Duration::from_millis(250), Duration::from_secs(3));
        sequence.begin(start);
        sequence.note_unread(100, at(0));
        sequence.note_unread(90, at(200));
        sequence.note_unread(90, at(300));
        assert_eq!(sequence.due(at(449)), None);
        assert_eq!(sequence.due(at(450)), Some(Due::Signal), "it has read nothing more for 0.25 s");

        let mut sequence = Sequence::new(Duration::from_millis(250), Duration::from_secs(3));
        sequence.begin(start);
        for millis in (0..3250).step_by(50) {
            sequence.note_unread(100_000 - millis as usize, at(millis));
            assert_eq!(sequence.due(at(millis)), None, "{millis}");
        }
        sequence.note_unread(1, at(3250));
        assert_eq!(sequence.due(at(3250)), Some(Due::Signal), "whatever is left");
    }

    #[test]
    fn hurry_goes_straight_to_kill() {
        let now = Instant::now();
        let mut sequence = Sequence::new(Duration::from_millis(250), Duration::from_secs(3));
        sequence.begin(now);
        sequence.hurry(now);
        assert_eq!(sequence.due(now), Some(Due::Kill));
        sequence.hurry(now);
        assert_eq!(sequence.due(now), None, "not twice");
    }
}
