//! The sink to a backend: clients' messages and notices of joins and leaves, then the end of input.
//!
//! While the program does not read, clients wait for their turns, one message a turn. What it has not read when its
//! input ends is counted.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::queue::Queue;
use super::state::{CloseState, Pending as _, WriteResult};
use super::stream::Stream;
use super::turns::Turns;
use super::writer::Writer;
use crate::sys::lock;
use crate::sys::tcp::unacknowledged;

/// How often a thread that waits for its turn asks whether to go on.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct Stdin {
    /// It is full when so many bytes wait.
    bound: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once the input has ended.
    stream: Option<Arc<Stream>>,
    writer: Writer<Queue>,
    turns: Turns,
    ledger: Ledger,
    /// Messages that the program will never read.
    lost: u64,
}

/// Messages of one client, or one notice.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    /// The bytes, one part after the other.
    pub parts: [&'a [u8]; 2],
    /// Where each message ends; the last one at the end of the bytes.
    pub ends: &'a [usize],
}

/// What was taken of some messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// How many were taken, from the first on.
    pub taken: usize,
    /// Whether the caller had to wait.
    pub waited: bool,
    pub after: WriteResult,
}

impl Stdin {
    /// `stream` is in non-blocking mode. A socket may be read by another thread, so its end is a shutdown. Of a pipe
    /// this holds the only lasting reference: dropping it is the end of the input.
    pub fn new(stream: Stream, bound: usize) -> Self {
        Self {
            bound,
            state: Mutex::new(State {
                stream: Some(Arc::new(stream)),
                writer: Writer::new(Queue::default()),
                turns: Turns::default(),
                ledger: Ledger::default(),
                lost: 0,
            }),
        }
    }

    /// Queues the last notices, even above the bound, then the end of input. `last` is called under the lock, so that
    /// no message can come after them; it must take no other lock.
    pub fn close_input(&self, last: impl FnOnce() -> Vec<u8>) -> WriteResult {
        let mut state = lock(&self.state);
        if state.writer.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let last = last();
        state.enter(&[last.len()], 0, false);
        state.writer.queue.push_copy(&last);
        state.writer.close_state = CloseState::Closing;
        state.write_queue();
        state.turns.wake_all();
        state.writer.result()
    }

    /// Writes or queues a notice, even above the bound. The caller bounds the number of notices.
    pub fn push(&self, notice: &[u8]) -> WriteResult {
        let mut state = lock(&self.state);
        state.push([notice, b""], &[notice.len()], 0, false)
    }

    /// Queues a client's notice if there is room, and says so; call [`Stdin::flush`] afterwards. Otherwise reserves a
    /// turn for the client, to be used by [`Stdin::push_in_turn`] or given up by [`Stdin::cancel_turn`]. Neither writes
    /// nor waits, so a lock may be held.
    #[must_use]
    pub fn push_or_reserve(&self, client: u64, notice: &[u8]) -> bool {
        let mut state = lock(&self.state);
        if state.writer.close_state != CloseState::Open {
            return false;
        }
        if state.turns.is_empty() && state.writer.queue.len() < self.bound {
            state.enter(&[notice.len()], 0, false);
            state.writer.queue.push_copy(notice);
            return true;
        }
        state.turns.reserve(client);
        false
    }

    /// Gives up a client's turn.
    pub fn cancel_turn(&self, client: u64) {
        let mut state = lock(&self.state);
        state.turns.leave(client);
        state.wake_waiter(self.bound);
    }

    /// Writes or queues messages, or a notice if they are not `counted`. While there is no room, the thread waits for
    /// the client's turn: it is woken when there is room or the sink ends, and about once a second to ask `stay`. If
    /// that says no, what is left is refused. While others wait too, each turn takes one message. `taken` is called
    /// under the lock when the last message is taken; it must take no other lock.
    pub fn push_in_turn(
        &self,
        client: u64,
        messages: Messages<'_>,
        counted: bool,
        mut stay: impl FnMut() -> bool,
        taken: impl FnOnce(),
    ) -> Pushed {
        let mut pushed = Pushed { taken: 0, waited: false, after: WriteResult::Refused };
        let mut state = lock(&self.state);
        loop {
            let is_next = state.turns.is_empty() || state.turns.is_first(client);
            let must_wait = !is_next || state.writer.queue.len() >= self.bound;
            if state.writer.close_state == CloseState::Open && must_wait {
                state.turns.wait(client);
                drop(state);
                pushed.waited = true;
                // Asked before each wait, or a client that is gone would wait a second for each of its messages.
                let go_on = stay();
                if go_on {
                    // Woken by `wake_waiter`; a wake-up that comes first is not lost (park's token).
                    std::thread::park_timeout(ASK_AGAIN);
                }
                state = lock(&self.state);
                if !go_on {
                    break;
                }
                continue;
            }
            let alone = state.turns.len() <= 1;
            let until = if alone { messages.ends.len() } else { pushed.taken + 1 };
            let (parts, ends, from) = messages.part(pushed.taken..until);
            pushed.after = state.push(parts, ends, from, counted);
            if pushed.after == WriteResult::Refused {
                break;
            }
            pushed.taken = until;
            if until == messages.ends.len() {
                taken();
                break;
            }
            state.turns.go_last();
            state.wake_waiter(self.bound);
        }
        state.turns.leave(client);
        state.wake_waiter(self.bound);
        pushed
    }

    /// Writes what waits, as far as the kernel takes it.
    pub fn flush(&self) -> WriteResult {
        let mut state = lock(&self.state);
        state.write_queue();
        state.wake_waiter(self.bound);
        state.writer.result()
    }

    /// The same for the thread that watches: once nothing waits, the input is not watched any more.
    pub fn flush_watched(&self) -> WriteResult {
        let mut state = lock(&self.state);
        state.write_queue();
        state.wake_waiter(self.bound);
        state.writer.watched_result()
    }

    /// If something waits and no thread watches this input, says yes, and counts it as watched from now on.
    #[must_use = "the caller has to wake the thread that watches"]
    pub fn claim_watch(&self) -> bool {
        lock(&self.state).writer.claim_watch()
    }

    /// Gives up: drops what waits, takes nothing more, ends the input.
    pub fn abandon(&self) {
        lock(&self.state).break_off();
    }

    /// Closes the pipe if everything is written and the program has read it. Says how many bytes it has not read, or
    /// nothing once its input has ended.
    pub fn close_if_read(&self) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.writer.close_state == CloseState::Closed {
            state.close_stream();
        }
        state.stream.is_some().then(|| state.unread())
    }

    /// Messages of clients that the program has not read, those that it never will included.
    pub fn unread_messages(&self) -> u64 {
        let state = lock(&self.state);
        state.lost + state.ledger.messages_in(state.unread())
    }

    /// The descriptor, to poll it; `None` once the input has ended.
    pub fn stream(&self) -> Option<Arc<Stream>> {
        lock(&self.state).stream.clone()
    }

    /// Bytes of memory held by what waits.
    pub fn bytes_held(&self) -> usize {
        lock(&self.state).writer.queue.bytes_held()
    }

    /// When the kernel last took something of what waited, or when the waiting began.
    pub fn moved(&self) -> Instant {
        lock(&self.state).writer.moved
    }
}

impl<'a> Messages<'a> {
    /// One message, or one notice.
    pub fn one(parts: [&'a [u8]; 2], end: &'a [usize; 1]) -> Self {
        Self { parts, ends: end }
    }

    /// Some of the messages: their bytes, where each ends, and where the first begins.
    fn part(&self, which: Range<usize>) -> ([&'a [u8]; 2], &'a [usize], usize) {
        let from = which.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let until = which.end.checked_sub(1).map_or(0, |last| self.ends[last]);
        let [first, second] = self.parts;
        let cut = |part: &'a [u8], offset: usize| {
            let at = |end: usize| end.saturating_sub(offset).min(part.len());
            &part[at(from)..at(until)]
        };
        ([cut(first, 0), cut(second, first.len())], &self.ends[which], from)
    }
}

impl State {
    fn write_queue(&mut self) {
        let Some(stream) = &self.stream else { return };
        if self.writer.write_queue(stream).is_err() {
            self.break_off();
        } else if self.writer.close_state == CloseState::Closed {
            self.close_stream();
        }
    }

    /// Writes or queues messages, all of them or none.
    fn push(&mut self, parts: [&[u8]; 2], ends: &[usize], from: usize, counted: bool) -> WriteResult {
        if self.writer.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let mut written = 0;
        if self.writer.queue.is_empty() {
            let slices = parts.map(IoSlice::new);
            let slices = &slices[..if parts[1].is_empty() { 1 } else { 2 }];
            let direct = self.stream.as_ref().map(|stream| self.writer.write_now(stream, slices));
            let Some(Ok(taken)) = direct else {
                self.break_off();
                return WriteResult::Refused;
            };
            written = taken;
        }
        for part in parts {
            let skip = written.min(part.len());
            written -= skip;
            self.writer.queue.push_copy(&part[skip..]);
        }
        // After the bytes: `unread` has to count them, or entries of unread messages would be dropped.
        self.enter(ends, from, counted);
        self.writer.result()
    }

    /// Enters messages, or a notice, in the ledger: where they end, and where the first begins.
    fn enter(&mut self, ends: &[usize], from: usize, are_messages: bool) {
        let (stream, queued) = (self.stream.as_deref(), self.writer.queue.len());
        self.ledger.push(ends, from, are_messages, || queued + unread_in_kernel(stream));
    }

    fn break_off(&mut self) {
        self.lost += self.ledger.messages_in(self.unread());
        self.ledger.clear();
        self.writer.break_off();
        self.close_stream();
        self.turns.wake_all();
    }

    fn close_stream(&mut self) {
        match self.stream.as_deref() {
            None => return,
            Some(stream @ (Stream::Socket(_) | Stream::Tls(_))) => {
                // Fails if the peer is gone; then there is no end to send.
                let _ = stream.end_writing();
            }
            // Kept open while it holds unread bytes, to count them. See `close_if_read`.
            Some(Stream::Pipe(_)) => {
                if self.writer.close_state == CloseState::Closed && self.unread() > 0 {
                    return;
                }
            }
        }
        self.stream = None;
    }

    fn wake_waiter(&self, bound: usize) {
        if self.writer.queue.len() < bound || self.writer.close_state != CloseState::Open {
            self.turns.wake_first();
        }
    }

    /// Bytes that the program has not read, as far as is known: what waits here and in the kernel.
    fn unread(&self) -> usize {
        self.writer.queue.len() + unread_in_kernel(self.stream.as_deref())
    }
}

fn unread_in_kernel(stream: Option<&Stream>) -> usize {
    let bytes = match stream {
        Some(Stream::Pipe(fd)) => rustix::io::ioctl_fionread(fd).ok(),
        Some(stream) => unacknowledged(stream),
        None => None,
    };
    usize::try_from(bytes.unwrap_or(0)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_broken_pipe_refuses_and_wakes_those_who_wait() {
        let (reader, writer) = std::io::pipe().expect("pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("non-blocking");
        let sink = Arc::new(Stdin::new(Stream::Pipe(writer.into()), 1000));
        while sink.push(&[0; 4096]) == WriteResult::Clear {}
        let waiter = std::thread::spawn({
            let sink = Arc::clone(&sink);
            move || sink.push_in_turn(1, Messages::one([b"late", b"\n"], &[5]), true, || true, || {})
        });
        while lock(&sink.state).turns.is_empty() {
            std::thread::yield_now();
        }
        drop(reader);
        assert_eq!(sink.flush_watched(), WriteResult::Refused);
        let pushed = Pushed { taken: 0, waited: true, after: WriteResult::Refused };
        assert_eq!(waiter.join().expect("no panic"), pushed);
    }

    #[test]
    fn those_who_wait_get_their_turn_in_the_order_of_coming() {
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("non-blocking");
        let sink = Arc::new(Stdin::new(Stream::Pipe(writer.into()), 1000));
        let mut filled = 0;
        while sink.push(&[b'.'; 4096]) == WriteResult::Clear {
            filled += 4096;
        }
        let mut waiters = Vec::new();
        for n in 0..5u8 {
            let sink = Arc::clone(&sink);
            waiters.push(std::thread::spawn({
                let sink = Arc::clone(&sink);
                move || {
                    let message = [b'a' + n; 2000];
                    let messages = Messages::one([&message, b""], &[2000]);
                    sink.push_in_turn(u64::from(n), messages, true, || true, || {})
                }
            }));
            while lock(&sink.state).turns.len() <= usize::from(n) {
                std::thread::yield_now();
            }
        }
        let mut got = vec![0; filled + 4096 + 5 * 2000];
        let mut at = 0;
        while at < got.len() {
            let _ = sink.flush_watched();
            // The rest may still be on its way from a waiter to the queue.
            let more = at < filled || rustix::io::ioctl_fionread(&reader).is_ok_and(|waiting| waiting > 0);
            if more {
                at += reader.read(&mut got[at..]).expect("read");
            }
        }
        for waiter in waiters {
            assert!(waiter.join().expect("no panic").waited, "each had to wait");
        }
        got.retain(|&byte| byte != b'.');
        got.dedup();
        assert_eq!(got, b"abcde");
    }
}
