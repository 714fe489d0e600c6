//! A child process and its two threads: the reader, which owns the child's life and minds the clients
//! that have a backlog, and the writer, which minds the child's stdin.

mod backlog;
mod budget;
mod command;
pub mod launch;
mod log_pipe;
#[cfg(test)]
mod panics;
mod peer;
mod reader;
mod stop;
mod tcp;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::command::Talk;
pub use self::command::{StartContext, StartError, Variables};
use self::log_pipe::LogPipe;
use crate::clients::{Client, GONE_AFTER, Uptake};
use crate::counters::{Count, Counters};
use crate::framing::frames;
use crate::framing::output::Decoded;
use crate::log::Log;
use crate::recipe::{Backend, Recipe};
use crate::sink::{Batch, Messages, Pushed, Sink, WriteResult};
use crate::sys::limits::Maps;
use crate::sys::lock;
use crate::sys::poll::Waker;
use crate::sys::process::{Exit, Processes};
use crate::sys::tcp::unacknowledged;
use crate::sys::threads::work;

/// Bytes that may wait for a child's stdin beside what its pipe holds; one message always fits. Few: what one client
/// has put here, the others have to wait for.
pub const INPUT_BOUND: usize = 16 * 1024;

/// Stack of a child's threads; deep enough for a debug build.
const STACK: usize = 128 * 1024;

/// What a child takes of the server's memory maps, in threads: its two, and its buffers.
const THREADS: u64 = 3;

/// What all backends of a server share.
#[derive(Clone)]
pub struct Shared {
    /// The server is shutting down: slow clients are given up early.
    pub ending: Arc<AtomicBool>,
    pub log: Log,
    pub counters: Arc<Counters>,
    /// What its threads take.
    pub maps: Arc<Maps>,
    /// All processes that live.
    pub processes: Arc<Processes>,
}

/// How a child ended, or that it could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With status 0.
    Done,
    /// It was told to stop.
    Stopped,
    /// With another status, by a signal, or before it ran.
    Failed,
}

/// Those who are told that the server ends, before the child is.
pub struct Departed {
    /// Who was there: nobody is any more.
    pub members: Vec<Arc<Client>>,
    /// Leave notices that the child has not been told yet, and of whom.
    pub leaves: Vec<(Arc<Client>, Vec<u8>)>,
}

/// Those whom a child talks to; what its reader has to know of its room.
pub trait RoomSide: Send + Sync {
    /// The room's name.
    fn name(&self) -> &str;
    /// Takes a batch over into the history and says, in the same moment, who is there to get it now: a
    /// client that joins gets it either way, once.
    fn take(&self, batch: &Batch, decoded: &Decoded) -> Arc<[Arc<Client>]>;
    /// What the child says of its room.
    fn describe(&self, metadata: Vec<u8>);
    /// How many clients are there.
    fn clients(&self) -> usize;
    /// Since when nobody is there and nobody is about to come, if that is so.
    fn empty_since(&self) -> Option<Instant>;
    /// The child has stayed alone since then, which is long enough: says whether that is still so; if it
    /// is, nobody joins it any more.
    fn give_up_waiting(&self, since: Instant) -> bool;
    /// Whether a child that is not ready yet is still wanted.
    fn is_wanted(&self) -> bool;
    /// The child is about to be gone: nobody joins it any more.
    fn child_ends(&self);
    /// The server ends: those who are there are told so now, and hear nothing more from the child.
    fn close_members_first(&self) -> Departed;
    /// The child has been reaped, so long after its start. Gives back those who were with it; the next to come
    /// gets a new one.
    fn child_ended(&self, outcome: Outcome, lived: Duration) -> Vec<Arc<Client>>;
    /// The child cannot be reaped: as [`RoomSide::child_ended`], but nobody gets a new one until it is gone.
    fn child_is_stuck(&self) -> Vec<Arc<Client>>;
    /// The reader's thread is done.
    fn reader_ended(&self);
}

/// How the child's clients are told that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseCause {
    /// As the child's exit says.
    Exit,
    /// The server is shutting down.
    Shutdown,
    /// It closed its connection and can never be heard again.
    Silence,
    /// It broke the framing and can never be understood again.
    BrokenFraming,
}

/// A running child, as its room knows it.
#[derive(Debug)]
pub struct Handle {
    pid: i32,
    stdin: Sink,
    /// How often a client is pinged whose messages it does not take.
    probe: Option<Duration>,
    /// Wakes the writer.
    writer: Waker,
    /// Wakes the reader.
    reader: Waker,
    /// The reader minds somebody, so that it matters to it who comes and who is gone.
    is_watching: AtomicBool,
    /// Its room has been told that it is over.
    over: AtomicBool,
    orders: Mutex<Orders>,
}

/// What others want of the reader, looked at when its waker rings.
#[derive(Debug)]
struct Orders {
    stop: bool,
    shut_down: bool,
    kill: bool,
    close_cause: CloseCause,
    /// Clients whose sinks nobody minds yet.
    backlog: Vec<Arc<Client>>,
}

impl Handle {
    /// Starts a child for an room_side: the process and its two threads.
    pub fn start(
        recipe: &Arc<Recipe>,
        shared: &Arc<Shared>,
        context: &StartContext,
        room_side: Arc<dyn RoomSide>,
    ) -> Result<Arc<Self>, StartError> {
        let maps = shared.maps.reserve(THREADS).ok_or_else(|| {
            StartError::Resources(io::Error::other("too many memory maps (vm.max_map_count)"))
        })?;
        let (Backend::Stdio(program) | Backend::Tcp(program, _)) = &recipe.backend else {
            return Err(StartError::NoPort);
        };
        let started = command::start(program, context, &shared.processes)?;
        let pid = started.process.id();
        let process = started.process;
        let what = if context.port.is_some() { "output" } else { "stderr" };
        let mut log_pipe = LogPipe::new(started.log_pipe, what, &shared.log, &context.room, pid);
        let (stdin, stdout) = match started.talk {
            Talk::Stdio(stdin, stdout) => {
                // A program that must not be talked to at once; `delay` is hardly ever given.
                tcp::wait(&process, &mut log_pipe, program.delay, || room_side.is_wanted())?;
                (Sink::to_pipe(stdin, INPUT_BOUND), stdout)
            }
            Talk::Tcp(port) => {
                let patience = match &recipe.backend {
                    Backend::Tcp(_, options) => options.connect_timeout,
                    _ => Duration::ZERO,
                };
                let times = (program.delay, patience);
                let stream = tcp::connect(&process, &mut log_pipe, port, times, || room_side.is_wanted())?;
                let reading = stream.try_clone().map_err(StartError::Resources)?;
                (Sink::to_socket(stream, INPUT_BOUND), reading)
            }
        };
        let serve = || -> io::Result<(Arc<Self>, reader::Reader)> {
            let child = Arc::new(Self {
                pid,
                stdin,
                probe: recipe.times.ping,
                writer: Waker::new()?,
                reader: Waker::new()?,
                is_watching: AtomicBool::new(false),
                over: AtomicBool::new(false),
                orders: Mutex::new(Orders {
                    stop: false,
                    shut_down: false,
                    kill: false,
                    close_cause: CloseCause::Exit,
                    backlog: Vec::new(),
                }),
            });
            work(&format!("write {}", context.room), STACK, {
                let child = Arc::clone(&child);
                move || writer::run(&child)
            })?;
            let reader = reader::Reader::new(
                Arc::clone(recipe),
                Arc::clone(shared),
                Arc::clone(&child),
                room_side,
                process,
                stdout,
                log_pipe,
                maps,
            );
            Ok((child, reader))
        };
        let (child, reader) = serve().map_err(StartError::Resources)?;
        reader.spawn(&format!("read {}", context.room)).map_err(StartError::Resources)?;
        shared.counters.one(Count::Started);
        shared.log.info("program started").room(&context.room).number("pid", pid).write();
        Ok(child)
    }

    /// Its process id, which is its process group's too.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Bytes held by what waits for it.
    pub fn queued(&self) -> usize {
        self.stdin.status().bytes_held
    }

    /// Messages of clients that it has not read.
    pub fn unread_messages(&self) -> u64 {
        self.stdin.unread_messages()
    }

    /// Passes messages of a client on; waits in line while the child does not read, for as long as `stay` says
    /// yes, which is told when the child last read something.
    pub fn input(
        &self,
        client: &Arc<Client>,
        messages: Messages<'_>,
        stay: impl FnMut(Instant) -> bool,
    ) -> Pushed {
        self.input_told(client, messages, true, stay, || {})
    }

    /// Takes a client's place in the order of joins, without writing or waiting: for a caller who holds a lock.
    /// [`Handle::settle_join`] afterwards.
    pub fn announce(&self, client: &Client, join: &[u8]) {
        if self.stdin.announce(client.id, join) {
            client.mark_joined();
        }
    }

    /// Has the join that was announced written, or waits in line for it. It is noted in the client that it was
    /// taken.
    pub fn settle_join(
        &self,
        client: &Arc<Client>,
        join: impl FnOnce() -> Vec<u8>,
        stay: impl FnMut(Instant) -> bool,
    ) {
        if client.has_joined() {
            self.taken(self.stdin.flush());
        } else {
            let join = join();
            let ends = [join.len()];
            self.input_told(client, Messages::one([&join, b""], &ends), false, stay, || client.mark_joined());
        }
    }

    /// The client is done, whether or not its join was taken.
    pub fn leave_line(&self, client: &Client) {
        self.stdin.leave_line(client.id);
    }

    fn input_told(
        &self,
        client: &Arc<Client>,
        messages: Messages<'_>,
        counted: bool,
        mut stay: impl FnMut(Instant) -> bool,
        taken: impl FnOnce(),
    ) -> Pushed {
        let mut probed = Instant::now();
        let mut uptake = Uptake::new(probed);
        let stay = || {
            // What this client has left in the queue has to be written while it waits in line.
            if self.stdin.claim_watch() {
                self.writer.wake();
            }
            // The end of a client that is not read stands, unseen, behind its data, and so do its pongs. What is
            // sent to it is acknowledged by its kernel, or answered with a reset; if neither, nobody is there.
            let now = Instant::now();
            if let Some(every) = self.probe.filter(|&every| now - probed >= every) {
                probed = now;
                let stalls = uptake.observe(client, now) == 0;
                if stalls && unacknowledged(&client.stream).is_some_and(|owed| owed > 0) {
                    if now - uptake.moved() >= every * GONE_AFTER {
                        client.vanish();
                        return false;
                    }
                } else {
                    uptake = Uptake::new(now);
                }
                self.mind(client, client.sink.ping(frames::ping()));
            }
            stay(self.stdin.status().moved)
        };
        let pushed = self.stdin.push_in_turn(client.id, messages, counted, stay, taken);
        self.taken(pushed.after);
        pushed
    }

    /// Passes a line on whatever waits: for leave messages, of which there is one for each join.
    pub fn tell(&self, line: &[u8]) {
        self.taken(self.stdin.push(line));
    }

    /// Has the writer go on where something waits.
    fn taken(&self, after: WriteResult) {
        if after == (WriteResult::Waits { needs_watcher: true }) && self.stdin.claim_watch() {
            self.writer.wake();
        }
    }

    /// Begins the kill sequence: these last lines, then the end of its input. Takes no input after that.
    pub fn stop(&self, last: impl FnOnce() -> Vec<u8>) {
        let after = self.stdin.end_with(last);
        self.taken(after);
        lock(&self.orders).stop = true;
        self.reader.wake();
    }

    /// The server ends: its clients are told so, then the child is told of their leaves, and stopped.
    pub fn shut_down(&self) {
        {
            let mut orders = lock(&self.orders);
            orders.close_cause = CloseCause::Shutdown;
            orders.shut_down = true;
        }
        self.reader.wake();
    }

    fn close_cause(&self) -> CloseCause {
        lock(&self.orders).close_cause
    }

    /// KILL at once.
    pub fn kill(&self) {
        lock(&self.orders).kill = true;
        self.reader.wake();
    }

    /// Hands a client whose sink waits to the backlog, unless it is watched.
    pub fn mind(&self, client: &Arc<Client>, after: WriteResult) {
        if after == (WriteResult::Waits { needs_watcher: true }) && client.sink.claim_watch() {
            lock(&self.orders).backlog.push(Arc::clone(client));
            self.reader.wake();
        }
    }

    /// Hands a client that was closed to the backlog, who sees to its end.
    pub fn see_through(&self, client: &Arc<Client>) {
        lock(&self.orders).backlog.push(Arc::clone(client));
        self.reader.wake();
    }

    /// The reader looks anew: at its orders, and whether anybody is there.
    pub fn wake_reader_thread(&self) {
        self.reader.wake();
    }

    /// Somebody came, or is done: the reader looks anew if it minds somebody. Either it sees what is new
    /// when it looks after saying that it does, or this sees that it does (hence `SeqCst`, on both sides).
    pub fn members_changed(&self) {
        if self.is_watching.load(Ordering::SeqCst) {
            self.reader.wake();
        }
    }
}

/// What clients are told when the server ends.
const SHUTTING_DOWN: &str = "server is shutting down";

/// The close code and reason that an exit gives its clients.
fn close_of(exit: Option<Exit>, close_cause: CloseCause) -> (u16, String) {
    match (close_cause, exit) {
        (CloseCause::Shutdown, _) => (1001, SHUTTING_DOWN.to_owned()),
        (CloseCause::BrokenFraming, _) => (1011, "program broke the framing".to_owned()),
        (CloseCause::Silence, _) => (1011, "program closed its connection".to_owned()),
        (CloseCause::Exit, Some(exit)) if exit.success() => (1000, String::new()),
        (CloseCause::Exit, Some(exit)) => (1011, exit.to_string()),
        (CloseCause::Exit, None) => (1011, "program cannot be ended".to_owned()),
    }
}
