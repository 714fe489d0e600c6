//! The kill sequence: end of input, then the signals of the recipe, then KILL, then giving up. Pure: it says what is due.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::recipe::Step;

pub(super) const KILL: i32 = Signal::KILL.as_raw();

/// From KILL to giving up.
pub(super) const REAP_TIMEOUT: Duration = Duration::from_secs(2);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Send this signal to the process group.
    Signal(i32),
    /// The process cannot be reaped: go on without it.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    /// The step with this index is next.
    Before(usize),
    Killed,
    GivenUp,
}

/// How far the kill sequence of a process is.
#[derive(Debug)]
pub(super) struct Sequence {
    steps: Vec<Step>,
    stage: Stage,
    next: Option<Instant>,
    /// The first signal is not sent later than this, whatever is read.
    latest: Option<Instant>,
    /// Bytes of its input that it had not read at the last look.
    unread: usize,
}

impl Sequence {
    /// The steps in their order; KILL follows them at once if it is not the last one.
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self { steps, stage: Stage::Idle, next: None, latest: None, unread: usize::MAX }
    }

    fn wait_of(&self, step: usize) -> Duration {
        self.steps.get(step).map_or(Duration::ZERO, |step| step.wait)
    }

    /// The input has ended: the first wait begins. A second call changes nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.stage == Stage::Idle {
            self.enter(Stage::Before(0), now, self.wait_of(0));
            self.latest = now.checked_add(self.wait_of(0).saturating_add(self.wait_of(1)));
        }
    }

    /// Notes how many bytes of its input it has not read. While they become fewer, the first wait begins anew.
    pub(super) fn note_unread(&mut self, unread: usize, now: Instant) {
        if self.stage == Stage::Before(0) && unread < self.unread {
            self.enter(Stage::Before(0), now, self.wait_of(0));
            self.next = self.next.min(self.latest.or(self.next));
        }
        self.unread = unread;
    }

    /// KILL is due at once.
    pub(super) fn kill(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Killed | Stage::GivenUp) {
            self.enter(Stage::Before(usize::MAX), now, Duration::ZERO);
        }
    }

    /// What is due now; each step is given once.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        if self.next.is_none_or(|at| now < at) {
            return None;
        }
        match self.stage {
            Stage::Idle | Stage::GivenUp => None,
            Stage::Before(step) => {
                let signal = self.steps.get(step).map_or(KILL, |step| step.signal);
                if signal == KILL {
                    self.enter(Stage::Killed, now, REAP_TIMEOUT);
                } else {
                    self.enter(Stage::Before(step + 1), now, self.wait_of(step + 1));
                }
                Some(Due::Signal(signal))
            }
            Stage::Killed => {
                (self.stage, self.next) = (Stage::GivenUp, None);
                Some(Due::GiveUp)
            }
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// When something will be due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    fn enter(&mut self, stage: Stage, now: Instant, wait: Duration) {
        self.stage = stage;
        // Beyond the range of the clock: an hour.
        self.next = now.checked_add(wait).or_else(|| now.checked_add(Duration::from_secs(3600)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    const TERM: i32 = 15;

    fn term_and_kill() -> Sequence {
        Sequence::new(vec![
            Step { wait: Duration::from_millis(250), signal: TERM },
            Step { wait: Duration::from_secs(3), signal: KILL },
        ])
    }

    #[test]
    fn each_step_is_due_once_and_in_its_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut sequence = term_and_kill();
        assert_eq!(sequence.due(at(99_999)), None, "nothing before it begins");
        sequence.begin(start);
        sequence.begin(at(200));
        let seen: Vec<_> = (0..6000).filter_map(|t| sequence.due(at(t)).map(|due| (t, due))).collect();
        assert_eq!(seen, [(250, Due::Signal(TERM)), (3250, Due::Signal(KILL)), (5250, Due::GiveUp)]);
        assert_eq!(sequence.next(), None);
    }

    #[test]
    fn one_that_reads_on_is_left_alone_for_a_bounded_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut sequence = term_and_kill();
        sequence.begin(start);
        sequence.note_unread(100, at(0));
        sequence.note_unread(90, at(200));
        sequence.note_unread(90, at(300));
        assert_eq!(sequence.due(at(449)), None);
        assert_eq!(sequence.due(at(450)), Some(Due::Signal(TERM)), "it has read nothing more for 0.25 s");

        let mut sequence = term_and_kill();
        sequence.begin(start);
        for millis in (0..3250).step_by(50) {
            sequence.note_unread(100_000 - millis as usize, at(millis));
            assert_eq!(sequence.due(at(millis)), None, "{millis}");
        }
        sequence.note_unread(1, at(3250));
        assert_eq!(sequence.due(at(3250)), Some(Due::Signal(TERM)), "whatever is left");
    }

    /// What is due and when, in milliseconds, for a program that stays; it reads until then, or nothing at all.
    fn all_due(steps: &[Step], reads_until: u64) -> Vec<(u64, Due)> {
        let start = Instant::now();
        let mut sequence = Sequence::new(steps.to_vec());
        sequence.begin(start);
        let mut seen = Vec::new();
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            let unread = 100_000 - millis.min(reads_until) as usize;
            sequence.note_unread(unread, now);
            seen.extend(sequence.due(now).map(|due| (millis, due)));
        }
        assert_eq!(sequence.next(), None, "it comes to an end");
        seen
    }

    #[test]
    fn a_sequence_has_any_number_of_steps_and_keeps_their_waits() {
        const INT: i32 = 2;
        const HUP: i32 = 1;
        // The steps; when each signal is due if nothing is read; by how much later if it reads without end.
        type Signals<'a> = &'a [(u64, i32)];
        let cases: [(Signals<'_>, Signals<'_>, u64); 7] = [
            (&[], &[(0, KILL)], 0),
            (&[(700, KILL)], &[(700, KILL)], 0),
            (&[(700, TERM)], &[(700, TERM), (700, KILL)], 0),
            (&[(250, TERM), (3000, KILL)], &[(250, TERM), (3250, KILL)], 3000),
            // That of websocketd.
            (&[(100, INT), (250, TERM), (500, KILL)], &[(100, INT), (350, TERM), (850, KILL)], 250),
            (
                &[(100, INT), (250, TERM), (0, HUP), (500, KILL)],
                &[(100, INT), (350, TERM), (350, HUP), (850, KILL)],
                250,
            ),
            (&[(10, KILL), (1, TERM)], &[(10, KILL)], 1),
        ];
        for (steps, wanted, later) in cases {
            let step = |&(millis, signal): &(u64, i32)| Step { wait: Duration::from_millis(millis), signal };
            let steps: Vec<_> = steps.iter().map(step).collect();
            let due = |later: u64| {
                let mut due: Vec<_> =
                    wanted.iter().map(|&(millis, signal)| (millis + later, Due::Signal(signal))).collect();
                let last = due.last().expect("KILL is always due").0;
                due.push((last + 2000, Due::GiveUp));
                due
            };
            // Two signals that are due at once are sent in two turns.
            let turns = |seen: Vec<(u64, Due)>, wanted: Vec<(u64, Due)>| {
                assert_eq!(seen.len(), wanted.len(), "{seen:?}");
                for ((seen_at, seen), (wanted_at, wanted)) in seen.into_iter().zip(wanted) {
                    assert!(
                        seen == wanted && (wanted_at..=wanted_at + 1).contains(&seen_at),
                        "{seen:?} {seen_at}"
                    );
                }
            };
            turns(all_due(&steps, 0), due(0));
            turns(all_due(&steps, u64::MAX), due(later));
            // What a shutdown waits for covers both.
            let recipe = Recipe { stop: steps.clone(), ..crate::backend::panics::recipe() };
            let last = wanted.last().expect("KILL is always due").0 + later;
            assert!(recipe.stop_time() >= Duration::from_millis(last), "{steps:?}");
        }
    }

    #[test]
    fn a_kill_skips_the_other_steps() {
        let now = Instant::now();
        let mut sequence = term_and_kill();
        sequence.begin(now);
        sequence.kill(now);
        assert_eq!(sequence.due(now), Some(Due::Signal(KILL)));
        sequence.kill(now);
        assert_eq!(sequence.due(now), None, "not twice");
    }
}
