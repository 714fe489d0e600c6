//! A running backend as its room sees it: its stdin, and the orders to its reader.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clients::{Client, Uptake};
use crate::framing::heads;
use crate::recipe::RoomTimes;
use crate::sink::{Messages, Pushed, Stdin, WriteResult};
use crate::sys::lock;
use crate::sys::poll::Waker;
use crate::sys::tcp::unacknowledged;

/// See the module's documentation.
pub struct Handle {
    pub(super) stdin: Stdin,
    /// The process, if there is one.
    pid: Option<i32>,
    /// Starts the thread that watches the stdin. Most backends read as fast as their clients write and never need it.
    start_writer: StartWriter,
    writer_runs: AtomicBool,
    /// There was no thread for the writer: the reader tries again.
    pub(super) lacks_writer: AtomicBool,
    /// How often a client that waits for its turn is pinged.
    probe: Option<Duration>,
    /// It is gone after so many times that.
    gone_after: u32,
    pub(super) writer_waker: Waker,
    pub(super) reader_waker: Waker,
    /// The reader watches clients: it has to look when one joins or leaves.
    pub(super) is_watching: AtomicBool,
    /// The room has been informed of the end.
    pub(super) over: AtomicBool,
    pub(super) orders: Mutex<Orders>,
}

/// Starts the writer of a backend.
///
/// # Errors
/// The system has no thread left.
pub(super) type StartWriter = Box<dyn Fn(&Arc<Handle>) -> io::Result<()> + Send + Sync>;

/// Orders to the reader, which looks at them when it is woken.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) stop: bool,
    pub(super) shut_down: bool,
    pub(super) kill: bool,
    /// Clients that the reader is to watch from now on.
    pub(super) backlog: Vec<Arc<Client>>,
}

impl Handle {
    pub(super) fn new(
        stdin: Stdin,
        pid: Option<i32>,
        start_writer: StartWriter,
        times: &RoomTimes,
    ) -> io::Result<Self> {
        Ok(Self {
            stdin,
            pid,
            start_writer,
            writer_runs: AtomicBool::new(false),
            lacks_writer: AtomicBool::new(false),
            probe: times.ping,
            gone_after: times.gone_after,
            writer_waker: Waker::new()?,
            reader_waker: Waker::new()?,
            is_watching: AtomicBool::new(false),
            over: AtomicBool::new(false),
            orders: Mutex::default(),
        })
    }

    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Bytes of memory held by input that waits.
    pub fn queued(&self) -> usize {
        self.stdin.bytes_held()
    }

    pub fn unread_messages(&self) -> u64 {
        self.stdin.unread_messages()
    }

    /// Passes messages of a client on. While the backend does not read, waits for the client's turn, as long as
    /// `stay` says yes; it gets the time when the backend last read something.
    pub fn input(
        self: &Arc<Self>,
        client: &Arc<Client>,
        messages: Messages<'_>,
        stay: impl FnMut(Instant) -> bool,
    ) -> Pushed {
        self.push_in_turn(client, messages, true, stay, || {})
    }

    /// Puts a client's join in the order of joins. Neither writes nor waits, so a lock may be held. Call
    /// [`Handle::finish_join`] afterwards.
    pub fn announce_join(&self, client: &Client, join: &[u8]) {
        if self.stdin.push_or_reserve(client.id, join) {
            client.mark_joined();
        }
    }

    /// Writes the join that was announced, or waits for the client's turn to do so. Marks the client as joined.
    pub fn finish_join(
        self: &Arc<Self>,
        client: &Arc<Client>,
        join: impl FnOnce() -> Vec<u8>,
        stay: impl FnMut(Instant) -> bool,
    ) {
        if client.has_joined() {
            self.watch_stdin(self.stdin.flush());
        } else {
            let join = join();
            let ends = [join.len()];
            self.push_in_turn(client, Messages::one([&join, b""], &ends), false, stay, || {
                client.mark_joined();
            });
        }
    }

    /// Gives up the client's turn, if it still has one.
    pub fn cancel_turn(&self, client: &Client) {
        self.stdin.cancel_turn(client.id);
    }

    fn push_in_turn(
        self: &Arc<Self>,
        client: &Arc<Client>,
        messages: Messages<'_>,
        counted: bool,
        mut stay: impl FnMut(Instant) -> bool,
        taken: impl FnOnce(),
    ) -> Pushed {
        let mut probed = Instant::now();
        let mut uptake = Uptake::new(probed);
        let stay = || {
            // What this client has queued already has to be written while it waits.
            if self.stdin.claim_watch() {
                self.wake_writer();
            }
            // Nothing is read from a client that waits here, so neither its close nor its pongs are seen. Its kernel
            // acknowledges a ping or answers with a reset. If it does neither, the client is gone.
            let now = Instant::now();
            if let Some(every) = self.probe.filter(|&every| now - probed >= every) {
                probed = now;
                let stalls = uptake.observe(client, now) == 0;
                if stalls && unacknowledged(&client.stream).is_some_and(|owed| owed > 0) {
                    if now - uptake.moved() >= every * self.gone_after {
                        client.mark_vanished();
                        return false;
                    }
                } else {
                    uptake = Uptake::new(now);
                }
                self.watch(client, client.sink.ping(heads::ping()));
            }
            stay(self.stdin.moved())
        };
        let pushed = self.stdin.push_in_turn(client.id, messages, counted, stay, taken);
        self.watch_stdin(pushed.after);
        pushed
    }

    /// Passes a notice on without waiting for a turn: for leaves, of which there is one for each join.
    pub fn push_notice(self: &Arc<Self>, notice: &[u8]) {
        self.watch_stdin(self.stdin.push(notice));
    }

    /// Wakes the writer if something waits that it does not watch yet.
    fn watch_stdin(self: &Arc<Self>, after: WriteResult) {
        if after == (WriteResult::Waits { needs_watcher: true }) && self.stdin.claim_watch() {
            self.wake_writer();
        }
    }

    /// Wakes the writer, which is started when it is first needed.
    pub(super) fn wake_writer(self: &Arc<Self>) {
        self.writer_waker.wake();
        if !self.writer_runs.swap(true, Ordering::SeqCst) && (self.start_writer)(self).is_err() {
            self.writer_runs.store(false, Ordering::SeqCst);
            self.lacks_writer.store(true, Ordering::SeqCst);
            self.reader_waker.wake();
        }
    }

    /// Begins the kill sequence: the last notices, then the end of stdin.
    pub fn stop(self: &Arc<Self>, last: impl FnOnce() -> Vec<u8>) {
        let after = self.stdin.close_input(last);
        self.watch_stdin(after);
        lock(&self.orders).stop = true;
        self.reader_waker.wake();
    }

    /// The server shuts down: the reader closes the clients, sends their leave notices and stops the backend.
    pub fn shut_down(&self) {
        lock(&self.orders).shut_down = true;
        self.reader_waker.wake();
    }

    /// Sends KILL at once.
    pub fn kill(&self) {
        lock(&self.orders).kill = true;
        self.reader_waker.wake();
    }

    /// Hands a client to the backlog if something waits in its outbox and no thread watches it.
    pub fn watch(&self, client: &Arc<Client>, after: WriteResult) {
        if after == (WriteResult::Waits { needs_watcher: true }) && client.sink.claim_watch() {
            lock(&self.orders).backlog.push(Arc::clone(client));
            self.reader_waker.wake();
        }
    }

    /// Hands a client that was closed to the backlog, which ends it in bounded time.
    pub fn watch_close(&self, client: &Arc<Client>) {
        lock(&self.orders).backlog.push(Arc::clone(client));
        self.reader_waker.wake();
    }

    /// Wakes the reader: it looks at its orders and at whether the room is empty.
    pub fn notify_reader(&self) {
        self.reader_waker.wake();
    }

    /// A client has joined or left: wakes the reader if it watches clients. The reader sets `is_watching` before it
    /// looks at the members, and the caller has changed them before this reads it. So one of the two sees the other
    /// (`SeqCst` on both sides).
    pub fn members_changed(&self) {
        if self.is_watching.load(Ordering::SeqCst) {
            self.reader_waker.wake();
        }
    }
}
