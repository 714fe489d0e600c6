//! A running backend, as its room knows it: what it is told, and that it ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clients::{Client, GONE_AFTER, Uptake};
use crate::framing::heads;
use crate::sink::{Messages, Pushed, Stdin, WriteResult};
use crate::sys::lock;
use crate::sys::poll::Waker;
use crate::sys::tcp::unacknowledged;

/// See the module's documentation.
#[derive(Debug)]
pub struct Handle {
    pub(super) stdin: Stdin,
    /// How often a client is pinged whose messages it does not take.
    probe: Option<Duration>,
    /// Wakes the writer.
    pub(super) writer_waker: Waker,
    /// Wakes the reader.
    pub(super) reader_waker: Waker,
    /// The reader watches clients, so that it matters to it who comes and who is gone.
    pub(super) is_watching: AtomicBool,
    /// Its room knows that it is over.
    pub(super) over: AtomicBool,
    pub(super) orders: Mutex<Orders>,
}

/// What others want of the reader, looked at when its waker rings.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) stop: bool,
    pub(super) shut_down: bool,
    pub(super) kill: bool,
    /// Clients whose sinks no thread watches yet.
    pub(super) backlog: Vec<Arc<Client>>,
}

impl Handle {
    /// Of a backend that takes its input here; a client that waits for it is pinged every `probe`.
    pub(super) fn new(stdin: Stdin, probe: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            stdin,
            probe,
            writer_waker: Waker::new()?,
            reader_waker: Waker::new()?,
            is_watching: AtomicBool::new(false),
            over: AtomicBool::new(false),
            orders: Mutex::default(),
        })
    }

    /// Bytes held by what waits for it.
    pub fn queued(&self) -> usize {
        self.stdin.bytes_held()
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
        self.push_in_turn(client, messages, true, stay, || {})
    }

    /// Takes a client's place in the order of joins, without writing or waiting: for a caller who holds a lock.
    /// [`Handle::finish_join`] afterwards.
    pub fn announce_join(&self, client: &Client, join: &[u8]) {
        if self.stdin.push_or_reserve(client.id, join) {
            client.mark_joined();
        }
    }

    /// Has the join that was announced written, or waits in line for it. It is noted in the client that it was
    /// taken.
    pub fn finish_join(
        &self,
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

    /// The client is done, whether or not its join was taken.
    pub fn cancel_turn(&self, client: &Client) {
        self.stdin.cancel_turn(client.id);
    }

    fn push_in_turn(
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
                self.writer_waker.wake();
            }
            // The end of a client that is not read stands, unseen, behind its data, and so do its pongs. What is
            // sent to it is acknowledged by its kernel, or answered with a reset; if neither, nobody is there.
            let now = Instant::now();
            if let Some(every) = self.probe.filter(|&every| now - probed >= every) {
                probed = now;
                let stalls = uptake.observe(client, now) == 0;
                if stalls && unacknowledged(&client.stream).is_some_and(|owed| owed > 0) {
                    if now - uptake.moved() >= every * GONE_AFTER {
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

    /// Passes a line on whatever waits: for leave messages, of which there is one for each join.
    pub fn push_notice(&self, line: &[u8]) {
        self.watch_stdin(self.stdin.push(line));
    }

    /// Has the writer go on where something waits.
    fn watch_stdin(&self, after: WriteResult) {
        if after == (WriteResult::Waits { needs_watcher: true }) && self.stdin.claim_watch() {
            self.writer_waker.wake();
        }
    }

    /// Begins the kill sequence: these last lines, then the end of its input. Takes no input after that.
    pub fn stop(&self, last: impl FnOnce() -> Vec<u8>) {
        let after = self.stdin.close_input(last);
        self.watch_stdin(after);
        lock(&self.orders).stop = true;
        self.reader_waker.wake();
    }

    /// The server shuts down: its clients are closed, then the backend is told that they leave, and stopped.
    pub fn shut_down(&self) {
        lock(&self.orders).shut_down = true;
        self.reader_waker.wake();
    }

    /// KILL at once.
    pub fn kill(&self) {
        lock(&self.orders).kill = true;
        self.reader_waker.wake();
    }

    /// Hands a client whose sink waits to the backlog, unless it is watched.
    pub fn watch(&self, client: &Arc<Client>, after: WriteResult) {
        if after == (WriteResult::Waits { needs_watcher: true }) && client.sink.claim_watch() {
            lock(&self.orders).backlog.push(Arc::clone(client));
            self.reader_waker.wake();
        }
    }

    /// Hands a client that was closed to the backlog, who sees to its end.
    pub fn watch_close(&self, client: &Arc<Client>) {
        lock(&self.orders).backlog.push(Arc::clone(client));
        self.reader_waker.wake();
    }

    /// The reader looks anew: at its orders, and whether anybody is there.
    pub fn notify_reader(&self) {
        self.reader_waker.wake();
    }

    /// Somebody came, or is done: the reader looks anew if it minds somebody. Either it sees what is new
    /// when it looks after saying that it does, or this sees that it does (hence `SeqCst`, on both sides).
    pub fn members_changed(&self) {
        if self.is_watching.load(Ordering::SeqCst) {
            self.reader_waker.wake();
        }
    }
}
