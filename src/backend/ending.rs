//! How a backend ends: each event gives the actions that follow. Pure: the reader does them.
//!
//! ```text
//!            stop, end of output         exit, or nothing left to wait for      output and log over, or DRAIN
//!  Running ──────────────────────▶ (steps) ─────────────────────────────▶ Draining ─────────────▶ Over
//!                                     │ after KILL and REAP_TIMEOUT
//!                                     └──────────────────────────▶ Stuck ──────── exit ─────────▶ Over
//! ```

use std::time::{Duration, Instant};

use super::steps::{Due, Sequence};
use crate::sys::process::Exit;

/// How long output is read after the exit while another process still holds the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// For a traced program that has exited: how often `waitid` is asked again, and for how long.
const HIDDEN_EXIT_CHECK: Duration = Duration::from_millis(200);
const HIDDEN_EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// What the end of its output means for a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// Nothing: a program that has closed its standard output may go on reading.
    KeepsReading,
    /// The session is over: its clients are closed with 1000 and it is stopped. Its exit status does not matter, as it
    /// is seen before or after the end of the output.
    SessionOver,
    /// It is stopped: a program that has closed its connection can send nothing more.
    Stopped,
    /// It has ended: there is no process to wait for.
    Over,
}

/// Why a backend's clients are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCause {
    /// Its process has exited.
    Exit,
    /// Its output has ended, and with it the session.
    OutputEnd,
    /// The server is shutting down.
    Shutdown,
    /// It closed its connection.
    Silence,
    /// Its output cannot be understood any more.
    BrokenFraming,
    /// Reading from its connection failed.
    ConnectionLost,
}

/// What happens to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Its room has no clients any more.
    Stop,
    /// The server is shutting down.
    ShutDown,
    /// It is to be killed without delay.
    Kill,
    /// How many bytes of its input are unread.
    Unread(usize),
    /// Its output has ended.
    OutputEnded,
    /// Reading from it failed.
    OutputFailed,
    /// Its output cannot be understood.
    FramingBroken,
    /// Nothing more is to be read from it, neither output nor log.
    AllRead,
    /// Its process has exited; how, unless that is hidden because a tracer has to reap it first.
    Exited(Option<Exit>),
    /// Whether the output waits for a slow client.
    Stalled(bool),
    /// Time has passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Close the clients, send their leave notices, end the input. At most once.
    CloseMembers,
    /// Let no more clients join.
    RefuseClients,
    EndInput,
    /// Send this signal to the process group.
    Signal(i32),
    /// Kill the rest of the process group, reap, close the clients.
    Finish(Exit),
    /// Close the clients, and go on without it.
    GiveUp(&'static str),
    /// Reap a process that was given up and has exited.
    ReapStuck,
}

/// Where a backend is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// It has exited but is not reaped; output may still come until then.
    Draining(Exit, Instant),
    /// Its clients have been closed; it cannot be reaped yet.
    Stuck,
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ending {
    stage: Stage,
    at_end: AtEnd,
    steps: Sequence,
    cause: CloseCause,
    /// It closed its connection before it was stopped.
    silent: bool,
    killed: bool,
    members_closed: bool,
    /// Since when output waits for a slow client.
    stalled_since: Option<Instant>,
    /// Its exit is hidden: since when, and when to ask again.
    hidden_exit: Option<(Instant, Instant)>,
}

impl Ending {
    pub(super) fn new(at_end: AtEnd, steps: Sequence) -> Self {
        Self {
            stage: Stage::Running,
            at_end,
            steps,
            cause: CloseCause::Exit,
            silent: false,
            killed: false,
            members_closed: false,
            stalled_since: None,
            hidden_exit: None,
        }
    }

    pub(super) fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        use Action::{CloseMembers, EndInput, RefuseClients};
        let none = Vec::new();
        let running = self.stage == Stage::Running;
        match event {
            Event::Stop => {
                self.steps.begin(now);
                none
            }
            Event::ShutDown => {
                self.cause = CloseCause::Shutdown;
                if running && !std::mem::replace(&mut self.members_closed, true) {
                    self.steps.begin(now);
                    return vec![CloseMembers];
                }
                none
            }
            Event::Kill => {
                self.steps.kill(now);
                if let Stage::Draining(_, until) = &mut self.stage {
                    // No matter what is still in the pipe, or which process still holds it.
                    *until = now;
                    self.killed = true;
                    return vec![Action::Signal(super::steps::KILL)];
                }
                none
            }
            Event::Unread(bytes) => {
                self.steps.note_unread(bytes, now);
                none
            }
            Event::OutputEnded | Event::OutputFailed if running => match self.at_end {
                AtEnd::KeepsReading => none,
                // A program that was stopped may close its output or its connection.
                AtEnd::SessionOver | AtEnd::Stopped if self.steps.has_begun() => none,
                AtEnd::SessionOver => {
                    self.set_cause(CloseCause::OutputEnd);
                    self.members_closed = true;
                    self.steps.begin(now);
                    vec![RefuseClients, CloseMembers]
                }
                AtEnd::Stopped => {
                    // If it is about to exit, its status tells more.
                    self.silent = true;
                    self.steps.begin(now);
                    vec![RefuseClients, EndInput]
                }
                AtEnd::Over => {
                    if event == Event::OutputFailed {
                        self.set_cause(CloseCause::ConnectionLost);
                    }
                    self.exited(Exit::Status(0), now)
                }
            },
            Event::FramingBroken => {
                self.set_cause(CloseCause::BrokenFraming);
                self.steps.kill(now);
                none
            }
            Event::AllRead => match self.stage {
                Stage::Draining(exit, _) => self.finish(exit),
                _ => none,
            },
            Event::Exited(exit) => self.notice_exit(exit, now),
            Event::Stalled(stalled) => {
                self.stall(stalled, now);
                none
            }
            Event::Tick => self.tick(now),
            Event::OutputEnded | Event::OutputFailed => none,
        }
    }

    fn notice_exit(&mut self, exit: Option<Exit>, now: Instant) -> Vec<Action> {
        match (self.stage, exit) {
            (Stage::Running, Some(exit)) => self.exited(exit, now),
            (Stage::Running, None) => {
                // Polling the pidfd would spin.
                let since = self.hidden_exit.map_or(now, |(since, _)| since);
                self.hidden_exit = Some((since, now + HIDDEN_EXIT_CHECK));
                if now - since >= HIDDEN_EXIT_TIMEOUT {
                    return self.give_up("the end of the program cannot be seen; is it traced?");
                }
                Vec::new()
            }
            (Stage::Stuck, Some(_)) => {
                self.stage = Stage::Over;
                vec![Action::ReapStuck]
            }
            _ => Vec::new(),
        }
    }

    fn exited(&mut self, exit: Exit, now: Instant) -> Vec<Action> {
        if self.at_end == AtEnd::SessionOver {
            self.set_cause(CloseCause::OutputEnd);
        }
        self.hidden_exit = None;
        // Only the stall from here on is added to the time of draining.
        self.stalled_since = self.stalled_since.map(|_| now);
        self.stage = Stage::Draining(exit, now + DRAIN);
        vec![Action::RefuseClients]
    }

    /// While a client stalls the output, the time of draining stands still.
    fn stall(&mut self, stalled: bool, now: Instant) {
        match (self.stalled_since, stalled) {
            (None, true) => self.stalled_since = Some(now),
            (Some(since), false) => {
                self.stalled_since = None;
                if let Stage::Draining(_, until) = &mut self.stage {
                    *until += now.saturating_duration_since(since);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        match self.stage {
            Stage::Running => match self.steps.due(now) {
                Some(Due::Signal(signal)) => {
                    if self.silent {
                        self.set_cause(CloseCause::Silence);
                    }
                    match self.at_end {
                        AtEnd::Over if signal == super::steps::KILL => self.exited(Exit::Status(0), now),
                        AtEnd::Over => Vec::new(),
                        _ => vec![Action::Signal(signal)],
                    }
                }
                Some(Due::GiveUp) => self.give_up("program cannot be ended"),
                None => Vec::new(),
            },
            Stage::Draining(exit, until) if until <= now && (self.stalled_since.is_none() || self.killed) => {
                self.finish(exit)
            }
            _ => Vec::new(),
        }
    }

    fn finish(&mut self, exit: Exit) -> Vec<Action> {
        self.stage = Stage::Over;
        vec![Action::Finish(exit)]
    }

    fn give_up(&mut self, reason: &'static str) -> Vec<Action> {
        self.stage = Stage::Stuck;
        self.hidden_exit = None;
        vec![Action::GiveUp(reason)]
    }

    /// Sets why it ends, unless there is a reason already.
    fn set_cause(&mut self, cause: CloseCause) {
        if self.cause == CloseCause::Exit {
            self.cause = cause;
        }
    }

    pub(super) fn cause(&self) -> CloseCause {
        self.cause
    }

    /// Whether its clients have been closed: now all that is left is their closing handshake.
    pub(super) fn has_closed_members(&self) -> bool {
        self.members_closed || self.is_over()
    }

    pub(super) fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.steps.has_begun()
    }

    /// Whether its process is to be polled for its exit.
    pub(super) fn awaits_exit(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Stuck) && self.hidden_exit.is_none()
    }

    /// Whether its exit is to be asked for although it is not polled.
    pub(super) fn must_check_exit(&self, now: Instant) -> bool {
        self.hidden_exit.is_some_and(|(_, check)| check <= now)
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// When the next tick is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let drained = match self.stage {
            Stage::Draining(_, until) if self.stalled_since.is_none() || self.killed => Some(until),
            _ => None,
        };
        let step = self.steps.next().filter(|_| self.is_running());
        [drained, step, self.hidden_exit.map(|(_, check)| check)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::KILL;
    use super::*;
    use crate::recipe::Step;

    const TERM: i32 = 15;

    fn ending(at_end: AtEnd) -> Ending {
        let steps = [(250, TERM), (3000, KILL)];
        let step = |(millis, signal)| Step { wait: Duration::from_millis(millis), signal };
        Ending::new(at_end, Sequence::new(steps.map(step).to_vec()))
    }

    fn actions(ending: &mut Ending, event: Event, now: Instant) -> Vec<Action> {
        ending.on(event, now).into_iter().collect()
    }

    #[test]
    fn the_end_of_output_ends_what_cannot_be_heard_any_more() {
        let now = Instant::now();
        let cases = [
            (AtEnd::KeepsReading, vec![], CloseCause::Exit),
            (AtEnd::SessionOver, vec![Action::RefuseClients, Action::CloseMembers], CloseCause::OutputEnd),
            (AtEnd::Stopped, vec![Action::RefuseClients, Action::EndInput], CloseCause::Silence),
            (AtEnd::Over, vec![Action::RefuseClients], CloseCause::Exit),
        ];
        for (at_end, wanted, cause) in cases {
            let mut ending = ending(at_end);
            assert_eq!(actions(&mut ending, Event::OutputEnded, now), wanted, "{at_end:?}");
            ending.on(Event::Tick, now + Duration::from_secs(1));
            assert_eq!(ending.cause(), cause, "{at_end:?}");
        }
        let mut broken = ending(AtEnd::Over);
        broken.on(Event::OutputFailed, now);
        assert_eq!(broken.cause(), CloseCause::ConnectionLost);
    }

    #[test]
    fn the_end_of_a_session_is_the_same_whether_output_or_process_ends_first() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let exit = Exit::Status(3);
        let mut output_first = ending(AtEnd::SessionOver);
        output_first.on(Event::OutputEnded, start);
        assert!(output_first.is_stopping() && output_first.is_running() && output_first.has_closed_members());
        assert_eq!(actions(&mut output_first, Event::Exited(Some(exit)), at(10)), [Action::RefuseClients]);
        assert_eq!(actions(&mut output_first, Event::AllRead, at(10)), [Action::Finish(exit)]);
        let mut exit_first = ending(AtEnd::SessionOver);
        exit_first.on(Event::Exited(Some(exit)), start);
        assert_eq!(actions(&mut exit_first, Event::OutputEnded, start), []);
        assert_eq!(actions(&mut exit_first, Event::AllRead, start), [Action::Finish(exit)]);
        assert_eq!([output_first.cause(), exit_first.cause()], [CloseCause::OutputEnd; 2]);

        // One that lives on goes through the steps, with its clients closed once.
        let mut stays = ending(AtEnd::SessionOver);
        stays.on(Event::OutputEnded, start);
        assert_eq!(actions(&mut stays, Event::ShutDown, at(1)), [], "a shutdown closes no client twice");
        assert_eq!(stays.cause(), CloseCause::Shutdown);
        assert_eq!(actions(&mut stays, Event::Tick, at(249)), []);
        assert_eq!(actions(&mut stays, Event::Tick, at(250)), [Action::Signal(TERM)]);
        assert_eq!(actions(&mut stays, Event::Tick, at(3250)), [Action::Signal(KILL)]);

        // One that is stopped already because its only client has left.
        let mut left = ending(AtEnd::SessionOver);
        left.on(Event::Stop, start);
        assert_eq!(actions(&mut left, Event::OutputEnded, at(1)), []);
    }

    #[test]
    fn a_program_that_exits_is_finished_when_all_is_read_or_a_second_later() {
        let now = Instant::now();
        let exit = Exit::Status(3);
        let mut quick = ending(AtEnd::KeepsReading);
        assert_eq!(actions(&mut quick, Event::Exited(Some(exit)), now), [Action::RefuseClients]);
        assert_eq!(actions(&mut quick, Event::AllRead, now), [Action::Finish(exit)]);
        let mut held = ending(AtEnd::KeepsReading);
        held.on(Event::Exited(Some(exit)), now);
        held.on(Event::Stalled(true), now);
        assert_eq!(actions(&mut held, Event::Tick, now + DRAIN), [], "a slow client stops the clock");
        held.on(Event::Stalled(false), now + DRAIN);
        assert_eq!(actions(&mut held, Event::Tick, now + DRAIN), []);
        assert_eq!(actions(&mut held, Event::Tick, now + 2 * DRAIN), [Action::Finish(exit)]);
    }

    #[test]
    fn a_hidden_exit_is_given_up_and_buried_when_it_shows() {
        let now = Instant::now();
        let mut ending = ending(AtEnd::KeepsReading);
        assert_eq!(actions(&mut ending, Event::Exited(None), now), []);
        assert!(!ending.awaits_exit() && ending.must_check_exit(now + HIDDEN_EXIT_CHECK));
        let later = now + HIDDEN_EXIT_TIMEOUT;
        assert!(matches!(actions(&mut ending, Event::Exited(None), later)[..], [Action::GiveUp(_)]));
        assert!(ending.awaits_exit());
        assert_eq!(actions(&mut ending, Event::Exited(Some(Exit::Status(0))), later), [Action::ReapStuck]);
        assert!(ending.is_over());
    }

    #[test]
    fn what_has_no_process_is_over_after_the_last_step() {
        let now = Instant::now();
        let mut ending = ending(AtEnd::Over);
        ending.on(Event::Stop, now);
        assert_eq!(actions(&mut ending, Event::Tick, now + Duration::from_millis(250)), []);
        let last = now + Duration::from_millis(3250);
        assert_eq!(actions(&mut ending, Event::Tick, last), [Action::RefuseClients]);
        assert_eq!(actions(&mut ending, Event::AllRead, last), [Action::Finish(Exit::Status(0))]);
    }

    /// A deterministic stream of numbers (xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    /// Whatever happens in whatever order: clients are closed first at most once, it is finished or given up once,
    /// and after a stop it is over or stuck within a bounded time that nothing puts off.
    #[test]
    fn every_order_of_events_comes_to_one_end() {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for round in 0..20_000 {
            let kinds = [AtEnd::KeepsReading, AtEnd::SessionOver, AtEnd::Stopped, AtEnd::Over];
            let at_end = kinds[round % kinds.len()];
            let mut ending = ending(at_end);
            let mut now = Instant::now();
            let (mut firsts, mut ends, mut reaps, mut stopped) = (0, 0, 0, false);
            let mut history = Vec::new();
            let mut unread = 1000;
            let mut must_close = false;
            for step in 0..60 {
                now += Duration::from_millis(random.below(200));
                let process = at_end != AtEnd::Over;
                let event = match random.below(if stopped || step < 40 { 12 } else { 1 }) {
                    0 => Event::Stop,
                    1 => Event::ShutDown,
                    2 if random.below(10) == 0 => Event::Kill,
                    3 => Event::OutputEnded,
                    4 => Event::OutputFailed,
                    5 if random.below(10) == 0 => Event::FramingBroken,
                    6 if process && random.below(4) == 0 => {
                        Event::Exited((random.below(2) == 0).then_some(Exit::Status(1)))
                    }
                    7 => Event::Stalled(random.below(2) == 0),
                    8 => {
                        unread -= random.below(unread + 1).min(unread);
                        Event::Unread(unread as usize)
                    }
                    9 => Event::AllRead,
                    _ => Event::Tick,
                };
                stopped |= matches!(event, Event::Stop | Event::ShutDown);
                history.push(event);
                let output_ends = matches!(event, Event::OutputEnded | Event::OutputFailed);
                must_close |= at_end == AtEnd::SessionOver
                    && output_ends
                    && ending.is_running()
                    && !ending.is_stopping();
                for action in ending.on(event, now) {
                    firsts += u32::from(action == Action::CloseMembers);
                    ends += u32::from(matches!(action, Action::Finish(_) | Action::GiveUp(_)));
                    reaps += u32::from(action == Action::ReapStuck);
                }
            }
            assert!(!must_close || firsts == 1 && ending.is_stopping(), "{history:?}");
            // Left alone with the clock, and a client that is not slow for ever. The end of a session stops it, too.
            if !must_close {
                ending.on(Event::Stop, now);
            }
            ending.on(Event::Stalled(false), now);
            for _ in 0..100 {
                now += Duration::from_millis(100);
                let events = [Event::Tick]
                    .into_iter()
                    .chain(ending.must_check_exit(now).then_some(Event::Exited(None)));
                for event in events {
                    for action in ending.on(event, now) {
                        ends += u32::from(matches!(action, Action::Finish(_) | Action::GiveUp(_)));
                    }
                }
            }
            assert!(firsts <= 1, "{history:?}");
            assert_eq!(ends, 1, "{at_end:?} {history:?} {ending:?}");
            assert!(reaps <= 1 && ending.next().is_none_or(|at| at > now), "{history:?} {ending:?}");
        }
    }
}
