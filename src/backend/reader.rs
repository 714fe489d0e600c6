//! The thread that reads a child and owns its life: output to the clients, the end of input, the
//! signals, the exit, the close_cause.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use super::backlog::Backlog;
use super::log_pipe::LogPipe;
use super::stop::{Due, Sequence};
use super::{CloseCause, Departed, Handle, Outcome, RoomSide, SHUTTING_DOWN, Shared, close_of};
use crate::clients::{Client, SHUTDOWN_CLOSE_TIMEOUT};
use crate::config::Level;
use crate::counters::Count;
use crate::framing::output::{Decoded, Decoder, Output};
use crate::recipe::{Backend, Recipe, Slow};
use crate::sink::{Batch, CloseOrder, CloseState, Overflow, WriteResult};
use crate::sys::deadline::Deadline;
use crate::sys::limits::MapGuard;
use crate::sys::lock;
use crate::sys::pipe::{PIPE, PIPE_WIDE, Wide, widen};
use crate::sys::poll::poll;
use crate::sys::process::{Exit, Process};
use crate::sys::threads::work;

/// Bytes of one read: more than a pipe holds at first, so that a full one shows.
const MAX_READ: usize = PIPE_WIDE;

/// Bytes of the first reads of lines: most programs never say more at a time. What is taken in chunks is read
/// as it comes.
const FIRST_READ: usize = 8 * 1024;

/// A batch up to this size is kept to be filled again.
const MAX_SPARE: usize = 512 * 1024;

/// How long output is awaited after the exit, while somebody else still holds the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// How often a child on its way out is asked whether it has read its input.
const INPUT_CHECK: Duration = Duration::from_millis(10);

/// A traced program that has exited: how often `waitid` is asked again, and for how long.
const HIDDEN_END_CHECK: Duration = Duration::from_millis(200);
const HIDDEN_END_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the child's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// It has exited but is not reaped; output may still come until then.
    Draining(Exit, Instant),
    /// Its clients have been told; it cannot be reaped yet.
    Stuck,
    /// It has been reaped and its clients told.
    Over,
}

/// What a poll said.
struct Ready {
    waker: bool,
    process: bool,
    stdout: bool,
    log_pipe: bool,
    clients: Vec<bool>,
}

/// See the module's documentation.
pub(super) struct Reader {
    recipe: Arc<Recipe>,
    shared: Arc<Shared>,
    child: Arc<Handle>,
    room_side: Arc<dyn RoomSide>,
    process: Arc<Process>,
    /// Its end shows and cannot be seen: since when, and when to look again.
    hidden_end: Option<(Instant, Instant)>,
    stdout: Option<OwnedFd>,
    /// What goes to the log.
    log_pipe: LogPipe,
    /// Cuts stdout into messages.
    decoder: Decoder,
    decoded: Decoded,
    buffer: Vec<u8>,
    spare: Arc<Batch>,
    backlog: Backlog,
    sequence: Sequence,
    life: Life,
    close_cause: CloseCause,
    started: Instant,
    /// It closed its connection.
    silent: bool,
    /// Nothing more is waited for.
    killed: bool,
    /// Its clients have been told that the server ends.
    members_closed: bool,
    /// What it has not read of its input has been counted.
    accounted: bool,
    /// When to look whether it has read its input.
    input_check: Option<Instant>,
    /// Since when nobody is there.
    empty_since: Option<Instant>,
    /// Since when output waits for a slow client.
    stalled_since: Option<Instant>,
    sent: u64,
    bad_text: u64,
    /// Stdout is a wide pipe.
    wide: Option<Wide>,
    _maps: MapGuard,
}

impl Reader {
    #[expect(clippy::too_many_arguments)]
    pub(super) fn new(
        recipe: Arc<Recipe>,
        shared: Arc<Shared>,
        child: Arc<Handle>,
        room_side: Arc<dyn RoomSide>,
        process: Arc<Process>,
        stdout: OwnedFd,
        log_pipe: LogPipe,
        maps: MapGuard,
    ) -> Self {
        let first = if recipe.framing.output == Output::Chunks { MAX_READ } else { FIRST_READ };
        Self {
            backlog: Backlog::new(recipe.slow, recipe.times.patience, recipe.max_queue),
            sequence: Sequence::new(recipe.stop.clone()),
            decoder: Decoder::new(&recipe.framing.output, recipe.max_line),
            decoded: Decoded::default(),
            recipe,
            shared,
            child,
            room_side,
            process,
            hidden_end: None,
            stdout: Some(stdout),
            log_pipe,
            buffer: vec![0; first],
            spare: Arc::default(),
            life: Life::Running,
            close_cause: CloseCause::Exit,
            started: Instant::now(),
            silent: false,
            killed: false,
            members_closed: false,
            accounted: false,
            input_check: None,
            empty_since: None,
            stalled_since: None,
            sent: 0,
            bad_text: 0,
            wide: None,
            _maps: maps,
        }
    }

    /// Runs it in a thread of its own.
    pub(super) fn spawn(self, name: &str) -> io::Result<()> {
        let (shared, room_side) = (Arc::clone(&self.shared), Arc::clone(&self.room_side));
        let child = Arc::clone(&self.child);
        work(name, super::STACK, move || {
            // A panic in here must not leave a room that nobody looks after. The child itself is ended
            // when the reader is dropped.
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                shared.log.error("internal error in a room").room(room_side.name()).write();
                // Not if it has been told already: the next process may be there by now.
                if !child.over.load(Ordering::SeqCst) {
                    for client in room_side.child_ended(Outcome::Failed, Duration::ZERO) {
                        let _ = client.close(1011, "internal error", CloseOrder::DropQueue);
                        client.wake();
                    }
                }
            }
            room_side.reader_ended();
        })?;
        Ok(())
    }

    /// The main loop of a room.
    fn run(mut self) {
        while self.life != Life::Over || !self.backlog.is_empty() {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(e) => {
                    // ENOMEM and the like: nothing can be waited for, so end it in an orderly way.
                    self.shared
                        .log
                        .error("cannot poll")
                        .room(self.room_side.name())
                        .field("error", e)
                        .write();
                    self.sequence.hurry(Instant::now());
                    std::thread::sleep(Duration::from_millis(10));
                    Ready { waker: true, process: false, stdout: true, log_pipe: true, clients: Vec::new() }
                }
            };
            // Before anything that changes who is watched: the answers are in the order of the question.
            self.backlog.serve(ready.clients.into_iter());
            if ready.waker {
                // Drained first: an order given while we look rings again.
                self.child.reader.drain();
                self.take_orders();
            }
            if ready.stdout {
                self.read_output();
            }
            if ready.log_pipe {
                self.log_pipe.read(&mut self.buffer);
            }
            if ready.process {
                self.notice_exit();
            }
            self.judge_slow();
            self.keep_time();
        }
    }

    /// Waits for whatever concerns this child next.
    fn wait(&self) -> io::Result<Ready> {
        let waker = self.child.reader.as_fd();
        let watched = matches!(self.life, Life::Running | Life::Stuck) && self.hidden_end.is_none();
        let process = watched.then(|| self.process.as_fd());
        let stdout = self.stdout.as_ref().filter(|_| self.stalled_since.is_none()).map(|fd| fd.as_fd());
        let own = [
            PollFd::from_borrowed_fd(waker, PollFlags::IN),
            interest(process, waker),
            interest(stdout, waker),
            interest(self.log_pipe.fd(), waker),
        ];
        let deadline = self.next_alarm().map_or(Deadline::NEVER, Deadline::at);
        let said = |fd: &PollFd<'_>| !fd.revents().is_empty();
        if self.backlog.is_empty() {
            // The hot path: four descriptors, no allocation. Who wakes a wait without a deadline:
            // the child by its output or its end, everybody else by the waker.
            let mut fds = own;
            poll(&mut fds, deadline)?;
            let [waker, process, stdout, log_pipe] = fds.each_ref().map(said);
            return Ok(Ready { waker, process, stdout, log_pipe, clients: Vec::new() });
        }
        let mut fds = Vec::from(own);
        self.backlog.poll_fds(&mut fds);
        poll(&mut fds, deadline)?;
        Ok(Ready {
            waker: said(&fds[0]),
            process: said(&fds[1]),
            stdout: said(&fds[2]),
            log_pipe: said(&fds[3]),
            clients: fds[4..].iter().map(said).collect(),
        })
    }

    /// When time next changes something, on whichever clock.
    fn next_alarm(&self) -> Option<Instant> {
        let drained = match self.life {
            Life::Draining(_, until) if self.stalled_since.is_none() || self.killed => Some(until),
            _ => None,
        };
        let running = matches!(self.life, Life::Running);
        let lonely =
            self.empty_since.filter(|_| running).and_then(|at| at.checked_add(self.recipe.times.linger));
        let sequence = self.sequence.next().filter(|_| running);
        let hidden = self.hidden_end.map(|(_, look)| look);
        [drained, lonely, sequence, hidden, self.input_check, self.backlog.next()].into_iter().flatten().min()
    }

    fn take_orders(&mut self) {
        let (stop, shut_down, kill, backlog) = {
            let mut orders = lock(&self.child.orders);
            self.close_cause = orders.close_cause;
            (orders.stop, orders.shut_down, orders.kill, std::mem::take(&mut orders.backlog))
        };
        for client in &backlog {
            self.backlog.add(client);
        }
        if shut_down && self.life == Life::Running && !std::mem::replace(&mut self.members_closed, true) {
            self.close_members_first();
        }
        let now = Instant::now();
        if stop {
            self.sequence.begin(now);
        }
        if kill {
            self.sequence.hurry(now);
            if let Life::Draining(_, until) = &mut self.life {
                // Whatever is still in the pipe, and whoever still holds it.
                *until = now;
                self.killed = true;
                self.process.signal_group(Signal::KILL);
            }
            // Close frames are written as far as that goes at once; nobody's answer is waited for.
            self.backlog.end_by(now);
        }
        if self.shared.ending.load(Ordering::SeqCst) {
            self.backlog.hurry();
            if self.life == Life::Over {
                self.backlog.end_by(now + SHUTDOWN_CLOSE_TIMEOUT);
            }
        }
        self.empty_since = self.room_side.empty_since();
    }

    /// The server ends. What the child has said until now is delivered, then its clients are closed, then it is
    /// told of their leaves: what it says to that is for nobody.
    fn close_members_first(&mut self) {
        let waiting = self.stdout.as_ref().and_then(|fd| rustix::io::ioctl_fionread(fd).ok());
        let mut left = usize::try_from(waiting.unwrap_or(0)).unwrap_or(0);
        while left > 0 {
            match self.read_output() {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        let Departed { members, leaves } = self.room_side.close_members_first();
        self.close_all(&members, 1001, SHUTTING_DOWN);
        // No leave for a client whose join was never told.
        self.child.stop(|| {
            let told = leaves.into_iter().filter(|(client, _)| client.has_joined());
            told.flat_map(|(_, notice)| notice).collect()
        });
        self.sequence.begin(Instant::now());
    }

    /// One read of the child's output, to everybody; says how many bytes there were.
    fn read_output(&mut self) -> usize {
        let Some(stdout) = &self.stdout else { return 0 };
        let read = match rustix::io::read(stdout, &mut self.buffer) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return 0,
            Err(_) => 0,
        };
        self.decoded.clear();
        let mut fresh = std::mem::take(&mut self.spare);
        // Nobody holds a spare batch any more, or it would not be one.
        let Some(batch) = Arc::get_mut(&mut fresh) else { return 0 };
        if read == 0 {
            self.stdout = None;
            // One that was told to stop may close it.
            if self.is_tcp() && self.life == Life::Running && !self.sequence.has_begun() {
                // It can never be heard again. If it is about to exit, its status says more.
                self.silent = true;
                self.room_side.child_ends();
                self.child.stop(Vec::new);
            }
            self.decoder.finish(batch, &mut self.decoded);
        } else {
            if read == PIPE && self.wide.is_none() {
                self.wide = widen(stdout);
            }
            self.decoder.push(&self.buffer[..read], batch, &mut self.decoded);
            if read == self.buffer.len() {
                self.buffer.resize(MAX_READ, 0);
            }
        }
        self.deliver(fresh);
        read
    }

    fn is_tcp(&self) -> bool {
        matches!(self.recipe.backend, Backend::Tcp(..))
    }

    /// Sends a batch to whom it is for.
    fn deliver(&mut self, batch: Arc<Batch>) {
        self.note_damage();
        if let Some(metadata) = self.decoded.metadata.take() {
            self.room_side.describe(metadata);
        }
        self.sent += batch.ends.len() as u64;
        self.shared.counters.add(Count::MessagesOut, batch.ends.len() as u64);
        self.shared.counters.add(Count::BytesOut, batch.bytes.len() as u64);
        if !batch.ends.is_empty() {
            let members = self.room_side.take(&batch, &self.decoded);
            if self.decoded.addresses.is_plain() {
                let whole = 0..batch.bytes.len();
                for member in members.iter() {
                    self.send(member, &batch, std::slice::from_ref(&whole));
                }
            } else {
                let present: Vec<u64> = members.iter().map(|member| member.id).collect();
                let shares = self.decoded.addresses.shares(&present, &batch.ends);
                let mut parts = Vec::new();
                for member in members.iter() {
                    if shares.parts(member.id, &mut parts) {
                        self.send(member, &batch, &parts);
                    }
                }
            }
        }
        self.keep_spare(batch);
        // A list of ids may be as large as the message was, and it may be long until the next one.
        self.decoded.clear();
    }

    fn send(&mut self, member: &Arc<Client>, batch: &Arc<Batch>, parts: &[Range<usize>]) {
        let overflow = match self.recipe.slow {
            Slow::Drop => Overflow::Drop(&member.dropped),
            Slow::Disconnect | Slow::Block => Overflow::Queue,
        };
        let before = member.dropped.load(Ordering::Relaxed);
        let after = member.sink.send(batch, parts, overflow);
        let dropped = member.dropped.load(Ordering::Relaxed) - before;
        self.shared.counters.add(Count::DroppedSlow, dropped);
        match after {
            WriteResult::Clear => {}
            WriteResult::Waits { needs_watcher } => {
                if needs_watcher && member.sink.claim_watch() {
                    self.backlog.add(member);
                }
            }
            WriteResult::Refused => {
                // A dead socket: its thread may sit in a read that nothing ends.
                if member.sink.status().close_state == CloseState::Broken {
                    member.wake();
                }
            }
        }
    }

    /// A batch that nobody waits for any more is filled again: no allocation on the hot path.
    fn keep_spare(&mut self, mut batch: Arc<Batch>) {
        self.spare = match Arc::get_mut(&mut batch) {
            Some(own) if own.memory() <= MAX_SPARE => {
                own.bytes.clear();
                own.ends.clear();
                batch
            }
            _ => Arc::default(),
        };
    }

    /// Logs what had to be thrown away or replaced; a broken framing ends the child.
    fn note_damage(&mut self) {
        let Decoded { overlong, bad_text, malformed, unfit_metadata, unfinished, broken, .. } = self.decoded;
        let (log, counters) = (&self.shared.log, &self.shared.counters);
        counters.add(Count::DroppedOverlong, overlong);
        counters.add(Count::DroppedMalformed, malformed);
        counters.add(Count::DroppedMetadata, unfit_metadata);
        counters.add(Count::Repaired, bad_text);
        let warn = |message| log.warn(message).room(self.room_side.name()).number("pid", self.child.pid);
        if overlong > 0 {
            warn("oversized line discarded: longer than --maxline")
                .number("lines", overlong)
                .number("limit", self.recipe.max_line)
                .write();
        }
        if malformed > 0 {
            warn(
                "message of the program thrown away: its header cannot be understood, and it may be private",
            )
            .number("messages", malformed)
            .write();
        }
        if unfit_metadata > 0 {
            warn("metadata of the program discarded: more than 64 KiB, or not fit for every JSON parser")
                .number("messages", unfit_metadata)
                .write();
        }
        if bad_text > 0 && self.bad_text == 0 {
            warn("output of the program is not UTF-8: bad bytes become U+FFFD (--binary passes them on)")
                .write();
        }
        self.bad_text += bad_text;
        if unfinished > 0 {
            warn("program ended in the middle of a packet, which is thrown away")
                .number("bytes", unfinished)
                .write();
        }
        if let Some(broken) = broken {
            log.error("program ended: it broke the framing")
                .room(self.room_side.name())
                .number("pid", self.child.pid)
                .field("reason", broken)
                .write();
            self.stdout = None;
            self.blame(CloseCause::BrokenFraming);
            self.sequence.hurry(Instant::now());
        }
    }

    /// Has the clients told that the program is ended for this, unless the server ends anyway.
    fn blame(&self, close_cause: CloseCause) {
        let mut orders = lock(&self.child.orders);
        if orders.close_cause == CloseCause::Exit {
            orders.close_cause = close_cause;
        }
    }

    fn notice_exit(&mut self) {
        let now = Instant::now();
        let Some(exit) = self.process.exited() else {
            // The pidfd is readable but `waitid` says nothing yet: a tracer has to reap it first. Polling the pidfd
            // would spin.
            let since = self.hidden_end.map_or(now, |(since, _)| since);
            self.hidden_end = Some((since, now + HIDDEN_END_CHECK));
            if self.life == Life::Running && now - since >= HIDDEN_END_TIMEOUT {
                self.give_up("the end of the program cannot be seen; is it traced?");
            }
            return;
        };
        self.hidden_end = None;
        if self.life == Life::Running {
            self.room_side.child_ends();
            // Only the time of waiting from here on is added to the time of draining.
            self.stalled_since = self.stalled_since.map(|_| now);
            self.life = Life::Draining(exit, now + DRAIN);
        }
    }

    /// Whether the output has to wait for somebody; the time of waiting does not count as draining.
    fn judge_slow(&mut self) {
        let (room_side, log, counters) = (&self.room_side, &self.shared.log, &self.shared.counters);
        // Said before looking at who is there and who is done: see `Handle::members_changed`.
        if self.child.is_watching.load(Ordering::Relaxed) == self.backlog.is_empty() {
            self.child.is_watching.store(!self.backlog.is_empty(), Ordering::SeqCst);
        }
        self.backlog.judge(
            || room_side.clients(),
            |client| {
                counters.one(Count::ClosedSlow);
                log.warn("client closed: too slow to keep up")
                    .room(room_side.name())
                    .client(client.id)
                    .field("address", &client.address)
                    .number("queued", client.sink.status().bytes_held)
                    .write();
            },
        );
        match (self.stalled_since, self.backlog.is_stalling()) {
            (None, true) => self.stalled_since = Some(Instant::now()),
            (Some(since), false) => {
                self.stalled_since = None;
                if let Life::Draining(_, until) = &mut self.life {
                    *until += since.elapsed();
                }
            }
            _ => {}
        }
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.hidden_end.is_some_and(|(_, look)| look <= now) {
            self.notice_exit();
        }
        match self.life {
            Life::Running => {
                self.check_input(now);
                if let Some(since) = self.empty_since
                    && now.saturating_duration_since(since) >= self.recipe.times.linger
                {
                    if self.room_side.give_up_waiting(since) {
                        self.child.stop(Vec::new);
                    }
                    // Somebody came meanwhile, and perhaps went; or it is told to stop.
                    self.empty_since = self.room_side.empty_since().filter(|&newer| newer != since);
                }
                match self.sequence.due(now) {
                    Some(Due::Signal(signal)) => {
                        if self.silent {
                            self.blame(CloseCause::Silence);
                        }
                        self.signal(Signal::from_named_raw(signal));
                    }
                    Some(Due::GiveUp) => self.give_up("program cannot be ended"),
                    None => {}
                }
            }
            Life::Draining(exit, until) => {
                let silent = self.stdout.is_none() && self.log_pipe.fd().is_none();
                let over = (self.stalled_since.is_none() || self.killed) && until <= now;
                if silent || over {
                    self.end(exit);
                }
            }
            Life::Stuck => {
                if self.process.exited().is_some() {
                    self.process.signal_group(Signal::KILL);
                    self.process.reap();
                    self.shared.log.info("stuck program exited").room(self.room_side.name()).write();
                    self.room_side.child_ended(Outcome::Stopped, self.started.elapsed());
                    self.life = Life::Over;
                }
            }
            Life::Over => {}
        }
    }

    /// Closes the input once the program has read all of it, and puts the stop signal off while it still reads. A pipe
    /// has no event for that, so it is polled.
    fn check_input(&mut self, now: Instant) {
        self.input_check = None;
        if self.sequence.has_begun() {
            let unread = self.child.stdin.close_if_read();
            self.sequence.note_unread(unread.unwrap_or(0), now);
            match unread {
                Some(_) => self.input_check = Some(now + INPUT_CHECK),
                None => self.child.writer.wake(),
            }
        }
    }

    fn signal(&self, signal: Option<Signal>) {
        let Some(signal) = signal else { return };
        self.shared
            .log
            .debug("signal to the process group")
            .room(self.room_side.name())
            .number("pid", self.child.pid)
            .number("signal", signal.as_raw())
            .write();
        self.process.signal_group(signal);
    }

    /// It has exited and said all it will say: end the rest of its group, reap, tell the clients.
    fn end(&mut self, exit: Exit) {
        // An item that somebody else began in the pipe and never ended is not lost either.
        if self.stdout.take().is_some() {
            self.decoded.clear();
            let mut last = Batch::default();
            self.decoder.finish(&mut last, &mut self.decoded);
            self.deliver(Arc::new(last));
        }
        self.log_pipe.close();
        // While it is not reaped, its group's number cannot be anybody else's.
        self.process.signal_group(Signal::KILL);
        self.process.reap();
        self.life = Life::Over;
        self.shared.counters.one(match exit {
            Exit::Status(0) => Count::ExitedWell,
            Exit::Signal(_) => Count::Signalled,
            Exit::Status(_) | Exit::Unknown => Count::ExitedBadly,
        });
        let outcome = match self.child.close_cause() {
            CloseCause::BrokenFraming | CloseCause::Silence => Outcome::Failed,
            _ if exit.success() => Outcome::Done,
            _ if self.sequence.has_begun() => Outcome::Stopped,
            _ => Outcome::Failed,
        };
        self.shared
            .log
            .at(if outcome == Outcome::Failed { Level::Warn } else { Level::Info }, "program ended")
            .room(self.room_side.name())
            .number("pid", self.child.pid)
            .field("exit", exit)
            .seconds("duration", self.started.elapsed())
            .number("messages", self.sent)
            .write();
        self.account_for_input();
        self.child.over.store(true, Ordering::SeqCst);
        let clients = self.room_side.child_ended(outcome, self.started.elapsed());
        self.close_members(&clients, Some(exit));
    }

    /// Its input is over: what it has never read of clients' messages is counted.
    fn account_for_input(&mut self) {
        if std::mem::replace(&mut self.accounted, true) {
            return;
        }
        let stdin = &self.child.stdin;
        stdin.abandon();
        self.child.writer.wake();
        let lost = stdin.unread_messages();
        self.shared.counters.add(Count::LostUnread, lost);
        if lost > 0 {
            self.shared
                .log
                .warn("messages of clients not read by the program")
                .room(self.room_side.name())
                .number("pid", self.child.pid)
                .number("messages", lost)
                .write();
        }
    }

    /// Go on without it, and wait for its end with nothing but the pidfd.
    fn give_up(&mut self, why: &str) {
        self.shared
            .log
            .error("program given up; its room is refused until it is gone")
            .room(self.room_side.name())
            .number("pid", self.child.pid)
            .field("reason", why)
            .write();
        self.life = Life::Stuck;
        self.shared.counters.one(Count::Stuck);
        self.stdout = None;
        self.log_pipe.close();
        self.account_for_input();
        self.child.over.store(true, Ordering::SeqCst);
        let clients = self.room_side.child_is_stuck();
        self.close_members(&clients, None);
    }

    fn close_members(&mut self, clients: &[Arc<Client>], exit: Option<Exit>) {
        // Anew: the end of its input ends many a child before the waker has rung for the order to stop.
        self.close_cause = self.child.close_cause();
        let (code, reason) = close_of(exit, self.close_cause);
        self.close_all(clients, code, &reason);
    }

    /// Closes clients, and sees them through.
    fn close_all(&mut self, clients: &[Arc<Client>], code: u16, reason: &str) {
        let count = match code {
            1000 => Count::ClosedEnd,
            1001 => Count::ClosedShutdown,
            _ => Count::ClosedFailure,
        };
        self.shared.counters.add(count, clients.len() as u64);
        for client in clients {
            self.backlog.close(client, code, reason, CloseOrder::AfterQueue);
        }
        if self.close_cause == CloseCause::Shutdown {
            self.backlog.end_by(Instant::now() + SHUTDOWN_CLOSE_TIMEOUT);
        }
        // Whoever is written out already needs no poll, only an alarm.
        self.judge_slow();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.account_for_input();
    }
}

/// An entry for `poll`. A descriptor that is of no interest now is taken out, or its HUP would spin:
/// the waker stands in, asked for nothing.
fn interest<'a>(fd: Option<BorrowedFd<'a>>, stand_in: BorrowedFd<'a>) -> PollFd<'a> {
    match fd {
        Some(fd) => PollFd::from_borrowed_fd(fd, PollFlags::IN),
        None => PollFd::from_borrowed_fd(stand_in, PollFlags::empty()),
    }
}
