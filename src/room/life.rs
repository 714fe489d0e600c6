//! The life of a room's process: a state and an event give the next state and the effects. Pure: the room locks, asks,
//! unlocks and then acts. A backend without a process counts as one.
//!
//! | process    | new clients |
//! |------------|-------------------|
//! | `None`     | wait until the first of them has started one |
//! | `Running`  | join it, as soon as the call that starts it has returned |
//! | `Stopping` | wait for the next one: there are never two at once |
//! | `Stuck`    | are refused until it has exited |

use std::ops::BitOr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    Running,
    Stopping,
    Stuck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A slot was taken for a client, before its upgrade.
    Reserved,
    /// A client with a slot asks to join, for the first time or again. `first`: it has waited longest. `failing`: the
    /// program has failed so often that it must not be started now.
    Asks {
        first: bool,
        failing: bool,
    },
    /// A client that waited has hung up.
    GaveUp,
    /// The start has returned. The process may have exited already, and even be reaped.
    StartOk,
    StartFailed,
    /// The process is about to end.
    Exiting,
    /// It was reaped; so many slots are free.
    Gone(usize),
    /// It cannot be reaped; so many slots are free.
    Stuck(usize),
    /// Members were closed before the process ends; so many slots are free.
    Closed(usize),
    /// One slot was given back.
    Left,
    /// The room has been empty for as long as the process may stay.
    LingerOver,
    ShutDown,
}

/// A set of effects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effects(u16);

impl Effects {
    const NONE: Self = Self(0);
    /// The client that asks starts the process.
    pub(super) const START: Self = Self(1);
    /// All clients that wait join, in their order.
    pub(super) const ADMIT: Self = Self(1 << 1);
    /// The client that asks is refused.
    pub(super) const REFUSE: Self = Self(1 << 2);
    /// All clients that wait are refused.
    pub(super) const REFUSE_ALL: Self = Self(1 << 3);
    /// Clients that wait ask again.
    pub(super) const WAKE: Self = Self(1 << 4);
    /// The kill sequence begins.
    pub(super) const STOP: Self = Self(1 << 5);
    /// The clients are closed with 1001, then the kill sequence begins.
    pub(super) const SHUT_DOWN: Self = Self(1 << 6);
    /// The reader looks since when the room is empty.
    pub(super) const WAKE_READER: Self = Self(1 << 7);
    /// The room is removed from the table if it is still unused by then.
    pub(super) const FORGET: Self = Self(1 << 8);

    pub(super) const fn has(self, effect: Self) -> bool {
        self.0 & effect.0 != 0
    }
}

impl BitOr for Effects {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[derive(Debug)]
pub(super) struct Life {
    process: Process,
    /// A thread is in the call that starts the process.
    starting: bool,
    /// Members, and clients on their way to become one.
    slots: usize,
    shutting_down: bool,
    /// The process stays for some time after its last client (`--linger`).
    lingers: bool,
}

impl Life {
    pub(super) fn new(lingers: bool) -> Self {
        Self { process: Process::None, starting: false, slots: 0, shutting_down: false, lingers }
    }

    /// Every transition.
    #[expect(clippy::match_same_arms, reason = "one rule a line")]
    pub(super) fn on(&mut self, event: Event) -> Effects {
        use Effects as F;
        use Event as E;
        use Process as P;

        self.count(event);
        let (now, starting, down, empty) = (self.process, self.starting, self.shutting_down, self.slots == 0);
        let forget = if empty { F::FORGET } else { F::NONE };
        let (next, effects) = match (now, event) {
            // A client asks to join.
            (_, E::Asks { .. }) if down => (now, F::REFUSE),
            (P::Stuck, E::Asks { .. }) => (now, F::REFUSE),
            (P::Running, E::Asks { .. }) if !starting => (now, F::ADMIT),
            (P::None, E::Asks { failing: true, .. }) => (now, F::REFUSE),
            (P::None, E::Asks { first: true, .. }) if !starting => (P::Running, F::START),
            (_, E::Asks { .. } | E::Reserved) => (now, F::NONE),
            (_, E::GaveUp) => (now, F::WAKE),

            // The process starts.
            (P::Running | P::Stopping, E::StartOk) if down => (P::Stopping, F::SHUT_DOWN),
            (P::Running, E::StartOk) => (now, F::ADMIT | F::WAKE),
            (P::Stopping | P::Stuck, E::StartOk) => (now, F::NONE),
            (P::None, E::StartOk) => (now, F::WAKE | forget),
            (_, E::StartFailed) => (P::None, F::REFUSE_ALL | F::WAKE),

            // It ends.
            (P::Running, E::Exiting) => (P::Stopping, F::NONE),
            (_, E::Exiting | E::Closed(_)) => (now, F::NONE),
            (_, E::Gone(_)) => (P::None, F::WAKE | forget),
            (_, E::Stuck(_)) => (P::Stuck, F::REFUSE_ALL | F::WAKE),

            // It is ended.
            (P::Running, E::Left) if empty && self.lingers => (now, F::WAKE_READER),
            (P::Running, E::Left | E::LingerOver) if empty => (P::Stopping, F::STOP),
            (P::None, E::Left) => (now, forget),
            (_, E::Left | E::LingerOver) => (now, F::NONE),
            (P::Running | P::Stopping, E::ShutDown) if !starting => {
                (P::Stopping, F::REFUSE_ALL | F::WAKE | F::SHUT_DOWN)
            }
            (_, E::ShutDown) => (now, F::REFUSE_ALL | F::WAKE),
        };
        self.process = next;
        self.starting |= effects.has(F::START);
        effects
    }

    /// What an event changes whatever the process does.
    fn count(&mut self, event: Event) {
        match event {
            Event::Reserved => self.slots += 1,
            Event::Left => self.slots -= 1,
            Event::Gone(slots) | Event::Stuck(slots) | Event::Closed(slots) => self.slots -= slots,
            Event::StartOk | Event::StartFailed => self.starting = false,
            Event::ShutDown => self.shutting_down = true,
            Event::Asks { .. } | Event::GaveUp | Event::Exiting | Event::LingerOver => {}
        }
    }

    /// Whether the room can be forgotten: there is no client and no process.
    pub(super) fn is_unused(&self) -> bool {
        self.is_empty() && self.is_idle()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// Whether the next client starts a process.
    pub(super) fn is_idle(&self) -> bool {
        self.process == Process::None && !self.starting
    }

    /// Whether there is a process that can be ended, or one that is being started.
    pub(super) fn has_process(&self) -> bool {
        matches!(self.process, Process::Running | Process::Stopping)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.process == Process::Stopping
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.process == Process::Stuck
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }
}

#[cfg(test)]
mod tests {
    //! A model of all that happens around a room, in random order: clients, the thread that starts a process, the
    //! process, and the table. A client that waits acts only after it was woken.

    use std::collections::VecDeque;

    use super::*;

    const CLIENTS: usize = 5;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Client {
        Away,
        /// It has a slot.
        Reserved,
        /// It waits for an answer; whether it was woken.
        Waits(bool),
        Starts,
        Joined,
        Refused,
    }

    #[derive(Debug, Default, Clone, Copy)]
    struct Program {
        told_to_stop: bool,
        exiting: bool,
        stuck: bool,
    }

    struct Model {
        life: Life,
        seed: u64,
        clients: [Client; CLIENTS],
        /// Answers for clients that wait: whether it has joined.
        answered: [Option<bool>; CLIENTS],
        arrivals: VecDeque<usize>,
        /// Clients that are on the list: the slots that the process frees when it ends.
        members: Vec<usize>,
        program: Option<Program>,
        /// The start has begun the process and has not returned.
        spawned: bool,
        listed: bool,
        forget: bool,
        failing: bool,
        joins: usize,
        answers: usize,
        starts: usize,
        lives: usize,
        forgotten: usize,
    }

    impl Model {
        fn new(seed: u64) -> Self {
            Self {
                life: Life::new(false),
                seed,
                clients: [Client::Away; CLIENTS],
                answered: [None; CLIENTS],
                arrivals: VecDeque::new(),
                members: Vec::new(),
                program: None,
                spawned: false,
                listed: false,
                forget: false,
                failing: false,
                joins: 0,
                answers: 0,
                starts: 0,
                lives: 0,
                forgotten: 0,
            }
        }

        /// A number below `bound` (xorshift).
        fn random(&mut self, bound: usize) -> usize {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            (self.seed >> 20) as usize % bound
        }

        fn on(&mut self, event: Event, asking: Option<usize>) {
            let effects = self.life.on(event);
            if effects.has(Effects::START) {
                let starter = asking.expect("only a client starts a process");
                assert!(!self.life.is_shutting_down());
                assert_eq!(self.arrivals.pop_front(), Some(starter), "the first one");
                self.clients[starter] = Client::Starts;
                self.members.push(starter);
            }
            if effects.has(Effects::ADMIT) {
                let program = self.program.expect("there is a process to join");
                assert!(!program.exiting && !program.stuck && !program.told_to_stop);
                for client in std::mem::take(&mut self.arrivals) {
                    self.answered[client] = Some(true);
                    self.members.push(client);
                }
            }
            if effects.has(Effects::REFUSE) {
                let client = asking.expect("only a client that asks is refused");
                self.arrivals.retain(|&other| other != client);
                self.refuse(client);
            }
            if effects.has(Effects::REFUSE_ALL) {
                for client in std::mem::take(&mut self.arrivals) {
                    self.answered[client] = Some(false);
                }
            }
            if effects.has(Effects::WAKE) {
                for client in self.clients.iter_mut().filter(|client| **client == Client::Waits(false)) {
                    *client = Client::Waits(true);
                }
            }
            if effects.has(Effects::STOP) || effects.has(Effects::SHUT_DOWN) {
                assert!(self.clients.iter().all(|&client| client != Client::Starts), "its handle is known");
                self.program.as_mut().expect("there is a process to stop").told_to_stop = true;
            }
            self.forget |= effects.has(Effects::FORGET);
        }

        fn refuse(&mut self, client: usize) {
            self.clients[client] = Client::Refused;
            self.answers += 1;
        }

        fn asks(&mut self, client: usize) {
            let first = self.arrivals.front() == Some(&client);
            self.clients[client] = Client::Waits(false);
            self.on(Event::Asks { first, failing: self.failing }, Some(client));
            self.take_answer(client);
        }

        fn take_answer(&mut self, client: usize) -> bool {
            let answer = self.answered[client].take();
            if let Some(joined) = answer {
                self.answers += 1;
                self.clients[client] = if joined { Client::Joined } else { Client::Refused };
            }
            answer.is_some()
        }

        fn free_members(&mut self) -> usize {
            std::mem::take(&mut self.members).len()
        }

        /// One step of a client, if it has one. While `calm`, clients only go.
        fn step_of_client(&mut self, client: usize, calm: bool) -> bool {
            let state = self.clients[client];
            match state {
                Client::Away if calm => return false,
                Client::Away => {
                    if !self.listed {
                        assert!(self.program.is_none(), "a room with a process was forgotten");
                        let lingers = self.random(2) == 0;
                        self.life = Life::new(lingers);
                        self.listed = true;
                        self.forget = false;
                        self.lives += 1;
                    }
                    if self.life.is_shutting_down() || self.life.is_stuck() {
                        return false;
                    }
                    self.clients[client] = Client::Reserved;
                    self.on(Event::Reserved, None);
                }
                Client::Reserved if self.random(5) == 0 => {
                    self.clients[client] = Client::Away;
                    self.on(Event::Left, None);
                }
                Client::Reserved => {
                    self.joins += 1;
                    self.arrivals.push_back(client);
                    self.asks(client);
                }
                Client::Waits(_) if !calm && self.answered[client].is_none() && self.random(10) == 0 => {
                    self.arrivals.retain(|&other| other != client);
                    self.refuse(client);
                    self.on(Event::GaveUp, None);
                }
                Client::Waits(true) => {
                    if !self.take_answer(client) {
                        self.asks(client);
                    }
                }
                Client::Waits(false) => return false,
                Client::Starts if !self.spawned => {
                    if self.random(4) == 0 || self.life.is_shutting_down() {
                        self.members.retain(|&member| member != client);
                        self.refuse(client);
                        self.on(Event::StartFailed, None);
                        assert!(self.arrivals.is_empty(), "all that waited for it are refused");
                    } else {
                        assert!(self.program.is_none(), "two processes");
                        self.program = Some(Program::default());
                        self.spawned = true;
                        self.starts += 1;
                    }
                }
                Client::Starts => {
                    self.spawned = false;
                    self.clients[client] = Client::Joined;
                    self.answers += 1;
                    self.on(Event::StartOk, None);
                    let runs = self.life.process == Process::Running;
                    assert!(!runs || self.arrivals.is_empty(), "all that waited for it join at once");
                }
                Client::Joined => {
                    self.clients[client] = Client::Away;
                    if let Some(at) = self.members.iter().position(|&member| member == client) {
                        self.members.remove(at);
                        self.on(Event::Left, None);
                    }
                }
                Client::Refused => {
                    self.clients[client] = Client::Away;
                    self.on(Event::Left, None);
                }
            }
            true
        }

        /// One step of the process. While `calm`, it does only what follows from an effect.
        fn step_of_program(&mut self, calm: bool) -> bool {
            let Some(mut program) = self.program else { return false };
            if calm && !program.told_to_stop && !program.exiting && !program.stuck {
                let empty = self.clients.iter().all(|&client| client == Client::Away);
                if empty {
                    self.on(Event::LingerOver, None);
                }
                return empty;
            }
            match self.random(5) {
                0 if !program.exiting && !program.stuck => {
                    program.exiting = true;
                    self.program = Some(program);
                    self.on(Event::Exiting, None);
                }
                1 if (program.told_to_stop || program.exiting) && !program.stuck => {
                    let freed = self.free_members();
                    self.on(Event::Closed(freed), None);
                }
                2 if !program.stuck && !program.exiting && self.random(3) == 0 => {
                    program.stuck = true;
                    self.program = Some(program);
                    let freed = self.free_members();
                    self.on(Event::Stuck(freed), None);
                }
                3 if !calm && self.members.is_empty() => self.on(Event::LingerOver, None),
                _ if program.exiting || program.stuck => {
                    self.program = None;
                    let freed = self.free_members();
                    self.failing = !calm && self.random(4) == 0;
                    self.on(Event::Gone(freed), None);
                }
                _ => {}
            }
            true
        }

        /// The table takes the room off, some time after it was asked to.
        fn step_of_table(&mut self) -> bool {
            if !std::mem::take(&mut self.forget) {
                return false;
            }
            if self.listed && self.life.is_unused() {
                self.listed = false;
                self.forgotten += 1;
            }
            true
        }

        fn check(&self) {
            let sleeps = |&client: &usize| self.clients[client] == Client::Waits(false);
            let answered = |client: usize| self.answered[client].is_some();
            assert!(!(0..CLIENTS).filter(sleeps).any(answered), "an answer that no thread takes");
            // A client that was admitted is a member, whether or not its thread knows.
            let holds = |&client: &usize| match self.clients[client] {
                Client::Reserved | Client::Refused => true,
                Client::Waits(_) => self.answered[client] != Some(true),
                Client::Away | Client::Starts | Client::Joined => false,
            };
            let slots = (0..CLIENTS).filter(holds).count();
            assert_eq!(self.life.slots, slots + self.members.len());
            assert!(self.listed || self.life.is_unused());
            let no_next = self.life.is_stuck() || self.life.is_shutting_down();
            assert!(self.arrivals.is_empty() || !no_next, "clients wait for a process that never comes");
            let starting = self.clients.contains(&Client::Starts);
            assert_eq!(self.life.starting, starting);
            let ends = self.life.is_shutting_down() && !starting;
            assert!(!ends || self.program.is_none_or(|it| it.told_to_stop || it.stuck), "it is not stopped");
            let starts = starting && !self.spawned;
            assert_eq!(self.life.has_process(), starts || self.program.is_some_and(|it| !it.stuck));
        }

        fn step(&mut self, calm: bool) -> bool {
            let who = self.random(CLIENTS + 3);
            let moved = match who {
                CLIENTS | 6 => self.step_of_program(calm),
                7 => self.step_of_table(),
                client => self.step_of_client(client, calm),
            };
            self.check();
            moved
        }
    }

    #[test]
    fn whatever_happens_in_whatever_order_there_is_one_process_and_everyone_is_answered() {
        let (mut starts, mut lives, mut shut_down) = (0, 0, 0);
        for seed in 1..=3000u64 {
            let mut model = Model::new(0x9e37_79b9_7f4a_7c15 ^ (seed << 20));
            for _ in 0..model.random(200) {
                model.step(false);
            }
            if model.listed && model.random(2) == 0 {
                model.on(Event::ShutDown, None);
                shut_down += 1;
            }
            // Long enough for all that can still move.
            for _ in 0..2000 {
                model.step(true);
            }
            assert!(model.clients.iter().all(|&client| client == Client::Away), "{:?}", model.clients);
            assert!(model.program.is_none(), "seed {seed}: a process without clients stays");
            assert_eq!(model.answers, model.joins, "seed {seed}: each join is answered once");
            assert!(!model.listed, "seed {seed}: an unused room stays");
            assert_eq!(model.forgotten, model.lives, "seed {seed}: each room is forgotten once");
            starts += model.starts;
            lives += model.lives;
        }
        assert!(starts > 3000 && lives > 3000 && shut_down > 300, "{starts} {lives} {shut_down}");
    }

    #[test]
    fn the_room_of_a_process_with_a_linger_time_stops_it_only_when_that_is_over() {
        let mut life = Life::new(true);
        life.on(Event::Reserved);
        assert!(life.on(Event::Asks { first: true, failing: false }).has(Effects::START));
        life.on(Event::StartOk);
        assert_eq!(life.on(Event::Left), Effects::WAKE_READER);
        life.on(Event::Reserved);
        assert_eq!(life.on(Event::LingerOver), Effects::NONE, "a client came");
        life.on(Event::Left);
        assert_eq!(life.on(Event::LingerOver), Effects::STOP);
    }
}
