//! What answers in a room, and its two threads: the reader, which owns its life and watches the clients that have a
//! backlog, and the writer, which watches its input.
//!
//! - [`start`]: the kinds of backends: [`stdio`], [`tcp`], [`connect`], [`relay`]
//! - [`reader`]: the loop of a room; [`deliver`]: output to clients; [`ending`], [`steps`]: how it ends, pure
//! - [`backlog`], [`budget`]: clients that do not keep up
//! - [`spawn`], [`launch`]: starting a program

mod backlog;
mod budget;
mod connect;
mod deliver;
mod ending;
pub mod launch;
mod log_pipe;
#[cfg(test)]
mod panics;
mod peer;
mod reader;
mod relay;
mod spawn;
mod start;
mod stdio;
mod steps;
mod tcp;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::reader::Reader;
use self::start::Started;
pub use self::start::{StartContext, StartError, Variables};
use crate::clients::{Client, GONE_AFTER, Uptake};
use crate::counters::{Count, Counters};
use crate::framing::frames;
use crate::framing::output::Decoded;
use crate::log::Log;
use crate::recipe::Recipe;
use crate::sink::{Batch, Messages, Pushed, Sink, WriteResult};
use crate::sys::limits::Maps;
use crate::sys::lock;
use crate::sys::poll::Waker;
use crate::sys::process::Processes;
use crate::sys::tcp::unacknowledged;
use crate::sys::threads::work;

/// Bytes that may wait for a backend's input beside what its pipe holds; one message always fits. Few: what one client
/// has put here, the others have to wait for.
const INPUT_BOUND: usize = 16 * 1024;

/// Stack of a backend's threads; deep enough for a debug build.
const STACK: usize = 128 * 1024;

/// What a backend takes of the server's memory maps, in threads: its two, and its buffers.
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

/// A running backend, as its room knows it.
#[derive(Debug)]
pub struct Handle {
    stdin: Sink,
    /// How often a client is pinged whose messages it does not take.
    probe: Option<Duration>,
    /// Wakes the writer.
    writer: Waker,
    /// Wakes the reader.
    reader: Waker,
    /// The reader watches clients, so that it matters to it who comes and who is gone.
    is_watching: AtomicBool,
    /// Its room knows that it is over.
    over: AtomicBool,
    orders: Mutex<Orders>,
}

/// What others want of the reader, looked at when its waker rings.
#[derive(Debug, Default)]
struct Orders {
    stop: bool,
    shut_down: bool,
    kill: bool,
    /// Clients whose sinks no thread watches yet.
    backlog: Vec<Arc<Client>>,
}

impl Handle {
    /// Starts what answers in a room: a process or a connection, and its two threads.
    pub fn start(
        recipe: &Arc<Recipe>,
        shared: &Arc<Shared>,
        context: &StartContext,
        room_side: Arc<dyn RoomSide>,
    ) -> Result<Arc<Self>, StartError> {
        let maps = shared.maps.reserve(THREADS).ok_or_else(|| {
            StartError::Resources(io::Error::other("too many memory maps (vm.max_map_count)"))
        })?;
        let Started { input, source } = start::start(recipe, shared, context, &|| room_side.is_wanted())?;
        let (kind, pid) = (source.kind, source.pid());
        let serve = || -> io::Result<(Arc<Self>, Reader)> {
            let handle = Arc::new(Self {
                stdin: input,
                probe: recipe.times.ping,
                writer: Waker::new()?,
                reader: Waker::new()?,
                is_watching: AtomicBool::new(false),
                over: AtomicBool::new(false),
                orders: Mutex::default(),
            });
            work(&format!("write {}", context.room), STACK, {
                let handle = Arc::clone(&handle);
                move || writer::run(&handle)
            })?;
            let reader = Reader::new(recipe, shared, Arc::clone(&handle), room_side, source, maps);
            Ok((handle, reader))
        };
        let (handle, reader) = serve().map_err(StartError::Resources)?;
        reader.spawn(&format!("read {}", context.room)).map_err(StartError::Resources)?;
        if pid.is_some() {
            shared.counters.one(Count::Started);
        }
        shared.log.info(&format!("{kind} started")).room(&context.room).pid(pid).write();
        Ok(handle)
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

    /// The server shuts down: its clients are closed, then the backend is told that they leave, and stopped.
    pub fn shut_down(&self) {
        lock(&self.orders).shut_down = true;
        self.reader.wake();
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
