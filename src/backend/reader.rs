//! The thread that reads a backend and ends it: output to the clients, the end of input, the signals, the exit, the
//! close of its clients. `ending` decides what follows an event; this does it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use super::backlog::Backlog;
use super::deliver::{Delivery, Read};
use super::ending::{Action, CloseCause, Ending, Event};
use super::handle::Handle;
use super::room_side::{Departed, Outcome, RoomSide, Shared};
use super::started::{POLL_RETRY, STACK, Source};
use super::steps::Sequence;
use crate::clients::{Client, SHUTDOWN_CLOSE_TIMEOUT};
use crate::counters::Count;
use crate::log::Entry;
use crate::recipe::Recipe;
use crate::sink::CloseOrder;
use crate::sys::deadline::Deadline;
use crate::sys::limits::MapGuard;
use crate::sys::lock;
use crate::sys::poll::poll;
use crate::sys::process::Exit;
use crate::sys::threads::work;

/// How often it is checked whether a backend that is being stopped has read its input.
const INPUT_CHECK: Duration = Duration::from_millis(10);

/// The result of a poll.
#[derive(Default)]
struct Ready {
    waker: bool,
    process: bool,
    output: bool,
    log: bool,
    clients: Vec<bool>,
}

/// How long to wait before another try to start the writer.
const WRITER_RETRY: Duration = Duration::from_millis(50);

/// See the module's documentation.
pub(super) struct Reader {
    recipe: Arc<Recipe>,
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    room_side: Arc<dyn RoomSide>,
    source: Source,
    delivery: Delivery,
    backlog: Backlog,
    ending: Ending,
    started: Instant,
    /// See [`Reader::count_unread`].
    unread_counted: bool,
    /// When to check again whether it has read its input.
    input_check: Option<Instant>,
    /// When to try again to start the writer.
    writer_due: Option<Instant>,
    /// Since when the room has been empty.
    empty_since: Option<Instant>,
    _maps: MapGuard,
}

impl Reader {
    pub(super) fn new(
        recipe: &Arc<Recipe>,
        shared: &Arc<Shared>,
        handle: Arc<Handle>,
        room_side: Arc<dyn RoomSide>,
        source: Source,
        maps: MapGuard,
    ) -> Self {
        Self {
            delivery: Delivery::new(recipe, shared, &room_side, source.pid()),
            backlog: Backlog::new(recipe.slow, recipe.times.patience, recipe.max_queue),
            ending: Ending::new(source.at_end, Sequence::new(recipe.stop.clone())),
            recipe: Arc::clone(recipe),
            shared: Arc::clone(shared),
            handle,
            room_side,
            source,
            started: Instant::now(),
            unread_counted: false,
            input_check: None,
            writer_due: None,
            empty_since: None,
            _maps: maps,
        }
    }

    /// Runs the reader in a thread of its own.
    pub(super) fn spawn(self, name: &str) -> io::Result<()> {
        let (shared, room_side) = (Arc::clone(&self.shared), Arc::clone(&self.room_side));
        let handle = Arc::clone(&self.handle);
        work(name, STACK, move || {
            // A panic must not leave a room without a reader. Dropping the reader ends the process.
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                shared.log.error("internal error in a room").room(room_side.name()).write();
                // If the room knows already, it may have the next backend by now.
                if !handle.over.load(Ordering::SeqCst) {
                    for client in room_side.backend_ended(Outcome::Failed, Duration::ZERO) {
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
        while !self.ending.is_over() || !self.backlog.is_empty() {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(e) => {
                    // ENOMEM and the like: without poll, the backend cannot be served.
                    self.about(self.shared.log.error("cannot poll")).field("error", e).write();
                    self.on_event(Event::Kill);
                    std::thread::sleep(POLL_RETRY);
                    Ready { waker: true, output: true, log: true, ..Ready::default() }
                }
            };
            // First, because the results are in the order of the clients that were watched at the poll.
            self.backlog.serve(ready.clients.into_iter());
            if ready.waker {
                // Drained first: an order given after that wakes the next poll.
                self.handle.reader_waker.drain();
                self.take_orders();
            }
            if ready.output {
                self.read_output();
            }
            if ready.log {
                self.read_log();
            }
            if ready.process {
                self.check_exit();
            }
            self.check_slow();
            self.check_time();
        }
    }

    /// Waits for the next thing to do.
    fn wait(&self) -> io::Result<Ready> {
        let waker = self.handle.reader_waker.as_fd();
        let process = self.source.process.as_ref().filter(|_| self.ending.awaits_exit()).map(|fd| fd.as_fd());
        let stalled = self.ending.is_stalled();
        let output = self.source.output.as_ref().filter(|_| !stalled).map(|fd| fd.as_fd());
        let log = self.source.log_pipe.fd().filter(|_| !(stalled && self.delivery.sends_log()));
        let own = [
            PollFd::from_borrowed_fd(waker, PollFlags::IN),
            interest(process, waker),
            interest(output, waker),
            interest(log, waker),
        ];
        let deadline = self.next_alarm().map_or(Deadline::NEVER, Deadline::at);
        let said = |fd: &PollFd<'_>| !fd.revents().is_empty();
        if self.backlog.is_empty() {
            // The hot path: four descriptors, no allocation. A wait without a deadline is ended by the backend's
            // output or exit, or by the waker.
            let mut fds = own;
            poll(&mut fds, deadline)?;
            let [waker, process, output, log] = fds.each_ref().map(said);
            return Ok(Ready { waker, process, output, log, clients: Vec::new() });
        }
        let mut fds = Vec::from(own);
        self.backlog.poll_fds(&mut fds);
        poll(&mut fds, deadline)?;
        let clients = fds[4..].iter().map(said).collect();
        let [waker, process, output, log] = [0, 1, 2, 3].map(|index| said(&fds[index]));
        Ok(Ready { waker, process, output, log, clients })
    }

    /// When to end the wait although nothing happens.
    fn next_alarm(&self) -> Option<Instant> {
        let lonely = self.empty_since.filter(|_| self.ending.is_running());
        let linger = lonely.and_then(|at| at.checked_add(self.recipe.times.linger));
        // While a client stalls the output, partial messages wait, too.
        let partial = self.delivery.partial_due().filter(|_| !self.ending.is_stalled());
        [linger, partial, self.ending.next(), self.input_check, self.backlog.next(), self.writer_due]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what follows an event.
    fn on_event(&mut self, event: Event) {
        for action in self.ending.on(event, Instant::now()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::CloseMembers => self.end_session(),
            Action::RefuseClients => self.room_side.backend_ending(),
            Action::EndInput => self.handle.stop(Vec::new),
            Action::Signal(signal) => self.signal(signal),
            Action::Finish(exit) => self.finish(exit),
            Action::GiveUp(why) => self.give_up(why),
            Action::ReapStuck => self.reap_stuck(),
        }
    }

    fn take_orders(&mut self) {
        let (stop, shut_down, kill, backlog) = {
            let mut orders = lock(&self.handle.orders);
            (orders.stop, orders.shut_down, orders.kill, std::mem::take(&mut orders.backlog))
        };
        for client in &backlog {
            self.backlog.add(client);
        }
        if shut_down {
            self.on_event(Event::ShutDown);
        }
        if stop {
            self.on_event(Event::Stop);
        }
        if kill {
            self.on_event(Event::Kill);
            // Close frames are written as far as the kernel takes them now; no answer is waited for.
            self.backlog.end_by(Instant::now());
        }
        if self.shared.ending.load(Ordering::SeqCst) {
            self.backlog.shut_down();
            if self.ending.has_closed_members() {
                self.backlog.end_by(Instant::now() + SHUTDOWN_CLOSE_TIMEOUT);
            }
        }
        self.empty_since = self.room_side.empty_since();
    }

    /// The session or the server ends before the process does. Delivers what was printed until now, closes the clients,
    /// sends their leave notices and ends the input. What the backend prints after that has no receiver.
    fn end_session(&mut self) {
        self.read_waiting(waiting(self.source.output.as_ref().map(|fd| fd.as_fd())), Self::read_output);
        if self.delivery.sends_log() {
            self.read_waiting(waiting(self.source.log_pipe.fd()), Self::read_log);
        }
        let Departed { members, leaves } = self.room_side.remove_members();
        self.close_members(&members, None);
        // A client whose join was not sent gets no leave notice.
        self.handle.stop(|| {
            let notices = leaves.into_iter().filter(|(client, _)| client.has_joined());
            notices.flat_map(|(_, notice)| notice).collect()
        });
    }

    /// Reads with `read` as much as waits in the pipe now.
    fn read_waiting(&mut self, waiting: usize, read: fn(&mut Self) -> usize) {
        let mut left = waiting;
        while left > 0 {
            match read(self) {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
    }

    /// Reads the output once and delivers it; says how many bytes there were.
    fn read_output(&mut self) -> usize {
        let Some(output) = &self.source.output else { return 0 };
        let read = self.delivery.read(output, &mut self.backlog);
        if self.delivery.take_broken() {
            self.source.output = None;
            self.on_event(Event::FramingBroken);
        }
        match read {
            Read::Bytes(bytes) => bytes,
            Read::Nothing => 0,
            Read::End | Read::Failed => {
                self.source.output = None;
                self.output_ended(if read == Read::End { Event::OutputEnded } else { Event::OutputFailed });
                0
            }
        }
    }

    /// Reads once what goes to the log, and delivers it if it is sent to the clients, too.
    fn read_log(&mut self) -> usize {
        let read = self.source.log_pipe.read(self.delivery.buffer());
        if let Some(bytes) = read {
            self.delivery.deliver_log(bytes, &mut self.backlog);
            if bytes == 0 && self.delivery.sends_log() {
                self.output_ended(Event::OutputEnded);
            }
        }
        read.unwrap_or(0)
    }

    /// One of the streams that are sent to the clients has ended. The output has ended with the last of them.
    fn output_ended(&mut self, event: Event) {
        let more = self.delivery.sends_log() && self.source.log_pipe.fd().is_some();
        if self.source.output.is_none() && !more {
            self.on_event(event);
        }
    }

    fn check_exit(&mut self) {
        if let Some(process) = &self.source.process {
            let exit = process.exited();
            self.on_event(Event::Exited(exit));
        }
    }

    /// Checks the clients that are watched, and whether the output has to wait for one.
    fn check_slow(&mut self) {
        let (room_side, log, counters) = (&self.room_side, &self.shared.log, &self.shared.counters);
        // Set before looking at the members: see `Handle::members_changed`.
        if self.handle.is_watching.load(Ordering::Relaxed) == self.backlog.is_empty() {
            self.handle.is_watching.store(!self.backlog.is_empty(), Ordering::SeqCst);
        }
        self.backlog.check(
            || room_side.member_count(),
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
        let stalled = self.backlog.is_stalling();
        if stalled != self.ending.is_stalled() {
            self.on_event(Event::Stalled(stalled));
        }
    }

    /// Does what is due.
    fn check_time(&mut self) {
        let now = Instant::now();
        if self.ending.must_check_exit(now) {
            self.check_exit();
        }
        if !self.ending.is_stalled() {
            self.delivery.deliver_partial(now, &mut self.backlog);
        }
        if self.ending.is_running() {
            self.check_input(now);
            if let Some(since) = self.empty_since
                && now.saturating_duration_since(since) >= self.recipe.times.linger
            {
                if self.room_side.end_linger(since) {
                    self.handle.stop(Vec::new);
                }
                // A client has joined meanwhile, and perhaps left; or the backend is stopped.
                self.empty_since = self.room_side.empty_since().filter(|&newer| newer != since);
            }
        }
        self.check_writer(now);
        if self.source.output.is_none() && self.source.log_pipe.fd().is_none() {
            self.on_event(Event::AllRead);
        }
        for action in self.ending.on(Event::Tick, now) {
            self.act(action);
        }
    }

    /// Tries again to start the writer, if there was no thread for it.
    fn check_writer(&mut self, now: Instant) {
        if !self.handle.lacks_writer.load(Ordering::SeqCst) {
            return;
        }
        let due = *self.writer_due.get_or_insert(now + WRITER_RETRY);
        if due <= now {
            self.writer_due = None;
            self.about(self.shared.log.warn("out of threads: messages to the program wait")).write();
            self.handle.lacks_writer.store(false, Ordering::SeqCst);
            self.handle.wake_writer();
        }
    }

    /// While the backend is being stopped: closes its stdin once it has read all of it, and puts the first signal off
    /// while it reads. A pipe has no event for that, so this is called every [`INPUT_CHECK`].
    fn check_input(&mut self, now: Instant) {
        self.input_check = None;
        if self.ending.is_stopping() {
            let unread = self.handle.stdin.close_if_read();
            self.on_event(Event::Unread(unread.unwrap_or(0)));
            match unread {
                Some(_) => self.input_check = Some(now + INPUT_CHECK),
                None => self.handle.writer_waker.wake(),
            }
        }
    }

    /// A line of the log about this backend.
    fn about<'a>(&'a self, line: Entry<'a>) -> Entry<'a> {
        line.room(self.room_side.name()).pid(self.source.pid())
    }

    fn signal(&self, number: i32) {
        let (Some(process), Some(signal)) = (&self.source.process, Signal::from_named_raw(number)) else {
            return;
        };
        let line = self.shared.log.debug("signal to the process group");
        self.about(line).number("signal", number).write();
        process.signal_group(signal);
    }

    /// The process has exited and its output is read: kills the rest of its group, reaps it, closes the clients.
    fn finish(&mut self, exit: Exit) {
        // Another process may have left a message without an end in the pipe.
        if self.source.output.take().is_some() {
            self.delivery.finish(&mut self.backlog);
        }
        if self.source.log_pipe.close() {
            self.delivery.deliver_log(0, &mut self.backlog);
        }
        if let Some(process) = &self.source.process {
            // While it is not reaped, its group's number is not another's.
            process.signal_group(Signal::KILL);
            process.reap();
            self.shared.counters.one(match exit {
                Exit::Status(0) => Count::ExitedWell,
                Exit::Signal(_) => Count::Signalled,
                Exit::Status(_) | Exit::Unknown => Count::ExitedBadly,
            });
        }
        // Orders that are given and not taken yet: its end is often seen first.
        self.take_orders();
        let outcome = match self.ending.cause() {
            CloseCause::BrokenFraming | CloseCause::Silence | CloseCause::ConnectionLost => Outcome::Failed,
            _ if exit.success() => Outcome::Done,
            CloseCause::OutputEnd => Outcome::Stopped,
            _ if self.ending.is_stopping() => Outcome::Stopped,
            _ => Outcome::Failed,
        };
        let (log, ended) = (&self.shared.log, format!("{} ended", self.source.kind));
        let line = if outcome == Outcome::Failed { log.warn(&ended) } else { log.info(&ended) };
        let line = self.about(line);
        let line = if self.source.process.is_some() { line.field("exit", exit) } else { line };
        line.seconds("duration", self.started.elapsed()).number("messages", self.delivery.messages()).write();
        if self.source.process.is_some() {
            self.shared.first_exit.note(exit);
        }
        self.count_unread();
        self.handle.over.store(true, Ordering::SeqCst);
        let clients = self.room_side.backend_ended(outcome, self.started.elapsed());
        self.close_members(&clients, Some(exit));
    }

    /// Ends the input, and counts the messages of clients that the backend has never read. Once.
    fn count_unread(&mut self) {
        if std::mem::replace(&mut self.unread_counted, true) {
            return;
        }
        let stdin = &self.handle.stdin;
        stdin.abandon();
        self.handle.writer_waker.wake();
        let lost = stdin.unread_messages();
        self.shared.counters.add(Count::LostUnread, lost);
        if lost > 0 {
            let what = format!("messages of clients not read by the {}", self.source.kind);
            self.about(self.shared.log.warn(&what)).number("messages", lost).write();
        }
    }

    /// Goes on without the process; only its pidfd is still polled.
    fn give_up(&mut self, why: &str) {
        let line = self.shared.log.error("program given up; its room is refused until it is gone");
        self.about(line).field("reason", why).write();
        self.shared.counters.one(Count::Stuck);
        self.source.output = None;
        self.source.log_pipe.close();
        self.count_unread();
        self.handle.over.store(true, Ordering::SeqCst);
        let clients = self.room_side.backend_stuck();
        self.take_orders();
        self.close_members(&clients, None);
    }

    /// A process that was given up has exited.
    fn reap_stuck(&mut self) {
        if let Some(process) = &self.source.process {
            process.signal_group(Signal::KILL);
            process.reap();
        }
        self.about(self.shared.log.info("stuck program exited")).write();
        self.room_side.backend_ended(Outcome::Stopped, self.started.elapsed());
    }

    fn close_members(&mut self, clients: &[Arc<Client>], exit: Option<Exit>) {
        let (code, reason) = close_of(exit, self.ending.cause());
        self.close_all(clients, code, &reason);
    }

    /// Closes clients; the backlog watches each until it is gone.
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
        if self.ending.cause() == CloseCause::Shutdown {
            self.backlog.end_by(Instant::now() + SHUTDOWN_CLOSE_TIMEOUT);
        }
        // Sets the alarm for clients that are written out already and so are not polled.
        self.check_slow();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.count_unread();
    }
}

/// The close code and reason for clients of a backend that has ended.
fn close_of(exit: Option<Exit>, cause: CloseCause) -> (u16, String) {
    match (cause, exit) {
        (CloseCause::Shutdown, _) => (1001, "server is shutting down".to_owned()),
        (CloseCause::OutputEnd, _) => (1000, String::new()),
        (CloseCause::BrokenFraming, _) => (1011, "program broke the framing".to_owned()),
        (CloseCause::Silence, _) => (1011, "program closed its connection".to_owned()),
        (CloseCause::ConnectionLost, _) => (1011, "connection lost".to_owned()),
        (CloseCause::Exit, Some(exit)) if exit.success() => (1000, String::new()),
        (CloseCause::Exit, Some(exit)) => (1011, exit.to_string()),
        (CloseCause::Exit, None) => (1011, "program cannot be ended".to_owned()),
    }
}

/// An entry for `poll`. Without a descriptor the entry is `stand_in`, polled for nothing: a descriptor that is not
/// read now must not be in the list, because its HUP would end each poll at once.
fn interest<'a>(fd: Option<BorrowedFd<'a>>, stand_in: BorrowedFd<'a>) -> PollFd<'a> {
    match fd {
        Some(fd) => PollFd::from_borrowed_fd(fd, PollFlags::IN),
        None => PollFd::from_borrowed_fd(stand_in, PollFlags::empty()),
    }
}

/// How many bytes can be read now.
fn waiting(fd: Option<BorrowedFd<'_>>) -> usize {
    let waiting = fd.and_then(|fd| rustix::io::ioctl_fionread(fd).ok());
    usize::try_from(waiting.unwrap_or(0)).unwrap_or(0)
}
