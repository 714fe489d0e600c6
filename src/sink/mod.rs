//! The one queue-and-write type: a descriptor that somebody reads at the other end, a client's
//! socket or a child's stdin, and what waits for it.
//!
//! Whoever has something to say locks the sink and, if nothing waits, writes at once without
//! blocking. What the kernel does not take waits in the queue, and the sink's *backlog*, a thread
//! that polls the descriptor, goes on when the other end has read. The mutex is held over pop,
//! write and put back, so the order of each sender holds. No call in here blocks, except
//! [`Sink::push_in_turn`], which is made for it.

mod ledger;
mod queue;
mod stream;
mod turns;

use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::Shutdown;

use self::ledger::Ledger;
use self::queue::Queue;
pub use self::queue::{Batch, Control, Sent};
pub use self::stream::Stream;
use self::turns::Turns;
use crate::sys::lock;
use crate::sys::tcp::unacknowledged;

/// Data handed to one `writev`.
const MAX_WRITE: usize = 64 * 1024;

/// Parts handed to one `sendmsg`; far below `IOV_MAX` (1024).
const SLICES: usize = 64;

/// Writes in a row for one sink before its backlog looks at the others again.
const ROUNDS: usize = 16;

/// How often a thread that waits for its turn asks whether it still should.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How far a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseState {
    /// Takes data.
    Open,
    /// Takes nothing more; what waits is still written.
    Closing,
    /// All is written, the end included.
    Closed,
    /// The other end is gone, or this one gave up: what waited is thrown away.
    Broken,
}

/// What became of something handed to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "where something waits, somebody has to watch the sink"]
pub enum WriteResult {
    /// Nothing waits.
    Clear,
    /// Something waits.
    Waits {
        /// No thread watches this sink. Whoever can wake one calls [`Sink::claim_watch`] and does so.
        needs_watcher: bool,
    },
    /// The sink takes nothing more.
    Refused,
}

/// What to do with frames for which there is no room.
#[derive(Debug, Clone, Copy)]
pub enum Overflow<'a> {
    /// Queue them: whoever watches the sink sees the backlog and holds the sender.
    Queue,
    /// Drop each frame that does not fit, whole, and count it here.
    Drop(&'a AtomicU64),
}

/// How a stream of frames ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseOrder {
    /// Behind all that is queued: it ends a story told.
    AfterQueue,
    /// In place of all that is queued but the frame already begun: it breaks off.
    DropQueue,
}

/// A look at a sink, for the one who minds it.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// How far it is.
    pub close_state: CloseState,
    /// Bytes of memory held by what waits.
    pub bytes_held: usize,
    /// Bytes that wait.
    pub left: usize,
    /// Bytes that wait before the newest message, a replay not counted.
    pub backlog: usize,
    /// When the kernel last took something of what waited, or when the waiting began.
    pub moved: Instant,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Sink {
    /// Bytes that wait at which it is behind, or full.
    bound: usize,
    /// Whether the close_state is `Open`, for those who must not wait for a write to end: set under the lock.
    open: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stream: Option<Arc<Stream>>,
    queue: Queue,
    close_state: CloseState,
    open: Arc<AtomicBool>,
    watched: bool,
    /// Bytes the kernel took since the beginning.
    taken: u64,
    /// Bytes of the last frame, once there is one.
    last: usize,
    moved: Instant,
    /// What a program's input has beside; not in line, so that a client's sink stays small.
    input: Option<Box<Input>>,
}

/// See [`State::input`].
#[derive(Debug, Default)]
struct Input {
    /// Clients that wait for room.
    turns: Turns,
    /// The messages that the program may not have read.
    ledger: Ledger,
    /// Messages that it will never read.
    lost: u64,
}

/// Messages of one client for a program, or one notice.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    /// The bytes, one part behind the other.
    pub parts: [&'a [u8]; 2],
    /// Where each message ends; the last one at the end of the bytes.
    pub ends: &'a [usize],
}

/// What became of messages for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// How many were taken, from the first one on.
    pub taken: usize,
    /// Whether the caller had to wait.
    pub waited: bool,
    /// As for everything that is handed to a sink.
    pub after: WriteResult,
}

impl Sink {
    /// A sink for websocket frames to a client.
    pub fn to_client(stream: Arc<Stream>, bound: usize) -> Self {
        Self::new(stream, bound, true)
    }

    /// A sink for plain bytes to a child over a stream socket in non-blocking mode.
    pub fn to_socket(fd: OwnedFd, bound: usize) -> Self {
        Self::new(Arc::new(Stream::Stream(fd)), bound, false)
    }

    /// A sink for plain bytes to a child. The sink holds the only lasting reference to the pipe:
    /// when it ends, the child sees the end of its input.
    pub fn to_pipe(fd: OwnedFd, bound: usize) -> Self {
        Self::new(Arc::new(Stream::Pipe(fd)), bound, false)
    }

    fn new(stream: Arc<Stream>, bound: usize, framed: bool) -> Self {
        let open = Arc::new(AtomicBool::new(true));
        Self {
            bound,
            open: Arc::clone(&open),
            state: Mutex::new(State {
                stream: Some(stream),
                queue: Queue::new(framed),
                close_state: CloseState::Open,
                open,
                watched: false,
                taken: 0,
                last: 0,
                moved: Instant::now(),
                input: (!framed).then(Box::default),
            }),
        }
    }

    /// Frames for a client, these parts of a batch: written at once where nothing waits, queued otherwise.
    pub fn send(&self, batch: &Arc<Batch>, parts: &[Range<usize>], overflow: Overflow<'_>) -> WriteResult {
        let mut state = lock(&self.state);
        if state.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let mut written = 0;
        if state.queue.is_empty() {
            let direct = if let [part] = parts {
                state.write_now(&[IoSlice::new(&batch.bytes[part.clone()])])
            } else {
                let slice = |part: &Range<usize>| IoSlice::new(&batch.bytes[part.clone()]);
                state.write_now(&parts.iter().take(SLICES).map(slice).collect::<Vec<_>>())
            };
            let Some(direct) = direct else { return WriteResult::Refused };
            written = direct;
        }
        for part in parts {
            let skip = written.min(part.len());
            written -= skip;
            // Where the part breaks off, if it does, in the middle of a frame or between two.
            state.queue.note_direct_write(&batch.bytes[part.clone()], skip);
            if skip == part.len() {
                continue;
            }
            let rest = part.start + skip..part.end;
            match overflow {
                Overflow::Queue => state.queue.push_shared(batch, rest),
                Overflow::Drop(dropped) => {
                    let lost = state.push_what_fits(batch, rest, self.bound);
                    dropped.fetch_add(lost, Ordering::Relaxed);
                }
            }
        }
        state.after()
    }

    /// Queues what is replayed to a client that joins, before anything else, and writes nothing: for a caller
    /// who holds a lock. [`Sink::flush`] afterwards.
    pub fn queue_replay(&self, batch: &Arc<Batch>, part: Range<usize>) {
        let mut state = lock(&self.state);
        if state.close_state == CloseState::Open {
            state.queue.push_replay(batch, part);
        }
    }

    /// The answer to the handshake, ahead of all frames; writes nothing yet. [`Sink::flush`] afterwards.
    pub fn queue_handshake(&self, answer: Vec<u8>) {
        lock(&self.state).queue.set_handshake(answer);
    }

    /// A ping, ahead of queued data.
    pub fn ping(&self, frame: Control) -> WriteResult {
        self.urgent(|queue| queue.set_ping(frame))
    }

    /// A pong, ahead of queued data; a later one takes the place of one that still waits.
    pub fn pong(&self, frame: Control) -> WriteResult {
        self.urgent(|queue| queue.set_pong(frame))
    }

    fn urgent(&self, set: impl FnOnce(&mut Queue)) -> WriteResult {
        let mut state = lock(&self.state);
        if state.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let idle = state.queue.is_empty();
        set(&mut state.queue);
        if idle {
            // Nothing waited: that the kernel takes a ping at once says nothing about the other end.
            let moved = state.moved;
            state.write_queue();
            state.moved = moved;
        }
        state.after()
    }

    /// The last frame. From here on the sink takes nothing more. A sink that is ending already can
    /// still be broken off; otherwise a second end is refused.
    pub fn close(&self, frame: &[u8], ending: CloseOrder) -> WriteResult {
        let mut state = lock(&self.state);
        match (state.close_state, ending) {
            (CloseState::Open, _) | (CloseState::Closing, CloseOrder::DropQueue) => {}
            _ => return WriteResult::Refused,
        }
        if state.close_state == CloseState::Closing && state.queue.len() <= state.last {
            // The last frame of before is on its way already: one is enough.
            return state.after();
        }
        if ending == CloseOrder::DropQueue {
            state.queue.keep_only_begun();
        }
        state.last = frame.len();
        state.queue.push_copy(frame);
        state.end()
    }

    /// The last notices for a child, whatever waits: then the end of its input. What they are is asked when
    /// nothing can come in between any more; who answers must take no other lock.
    pub fn end_with(&self, last: impl FnOnce() -> Vec<u8>) -> WriteResult {
        let mut state = lock(&self.state);
        if state.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let last = last();
        state.enter(&[last.len()], 0, false);
        state.queue.push_copy(&last);
        state.end()
    }

    /// A notice for a child, whatever waits. For what is bounded by its nature.
    pub fn push(&self, notice: &[u8]) -> WriteResult {
        let mut state = lock(&self.state);
        state.push([notice, b""], &[notice.len()], 0, false)
    }

    /// Queues a client's notice, or reserves its place in the line. Neither writes nor waits, so a lock may be held.
    /// Where there is room, the notice is queued, and this says so; [`Sink::flush`] afterwards. Otherwise the
    /// client has a place in the line, to be taken up with [`Sink::push_in_turn`] or given up with
    /// [`Sink::leave_line`].
    #[must_use]
    pub fn announce(&self, client: u64, notice: &[u8]) -> bool {
        let mut state = lock(&self.state);
        if state.close_state != CloseState::Open {
            return false;
        }
        if state.input().turns.is_empty() && state.queue.len() < self.bound {
            state.enter(&[notice.len()], 0, false);
            state.queue.push_copy(notice);
            return true;
        }
        state.input().turns.reserve(client);
        false
    }

    /// Gives a place in the line up.
    pub fn leave_line(&self, client: u64) {
        let mut state = lock(&self.state);
        state.input().turns.leave(client);
        state.wake_waiter(self.bound);
    }

    /// Messages for a child, or a notice if they are not `counted`. While there is no room, the client waits in
    /// line: woken as room comes or the sink ends, and about once a second to ask `stay`; when that says no,
    /// what is left is refused. While others wait too, one message is taken at a time, and then the client goes
    /// to the end of the line. `taken` is told when the last one is taken, before anything can come behind it;
    /// it must take no other lock.
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
            let is_next = state.input().turns.is_empty() || state.input().turns.is_first(client);
            let must_wait = !is_next || state.queue.len() >= self.bound;
            if state.close_state == CloseState::Open && must_wait {
                state.input().turns.wait(client);
                drop(state);
                pushed.waited = true;
                // Ask before each wait, or a client that is gone would wait a second for each of its messages.
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
            let alone = state.input().turns.len() <= 1;
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
            state.input().turns.go_last();
            state.wake_waiter(self.bound);
        }
        state.input().turns.leave(client);
        state.wake_waiter(self.bound);
        pushed
    }

    /// Goes on writing what waits.
    pub fn flush(&self) -> WriteResult {
        self.go_on(&mut lock(&self.state))
    }

    /// The same for the thread that watches this sink. Once it is clear or broken, it is not watched any more.
    pub fn flush_watched(&self) -> WriteResult {
        let mut state = lock(&self.state);
        let after = self.go_on(&mut state);
        if !matches!(after, WriteResult::Waits { .. }) {
            state.watched = false;
        }
        after
    }

    /// Whether the caller is the one to have this sink watched: something waits and no thread watches it yet.
    /// From here on it counts as watched.
    #[must_use = "the caller has to wake the thread that watches"]
    pub fn claim_watch(&self) -> bool {
        let mut state = lock(&self.state);
        if state.watched || state.queue.is_empty() {
            return false;
        }
        state.watched = true;
        state.moved = Instant::now();
        true
    }

    fn go_on(&self, state: &mut State) -> WriteResult {
        if state.close_state == CloseState::Broken {
            return WriteResult::Refused;
        }
        state.write_queue();
        state.wake_waiter(self.bound);
        if state.close_state == CloseState::Broken { WriteResult::Refused } else { state.after() }
    }

    /// Gives up: throws away what waits, takes nothing more. A pipe is closed, a socket stays open
    /// for those who still hold it.
    pub fn abandon(&self) {
        lock(&self.state).break_off();
    }

    /// Once everything has been written: closes a pipe that the program has read empty. Says how many bytes it
    /// has not read yet, or none once its input has ended.
    pub fn close_if_read(&self) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.close_state == CloseState::Closed {
            state.close_input();
        }
        state.stream.is_some().then(|| state.unread())
    }

    /// Messages of clients that a program has not read so far, those that it never will included.
    pub fn unread_messages(&self) -> u64 {
        let state = lock(&self.state);
        let unread = state.unread();
        state.input.as_ref().map_or(0, |input| input.lost + input.ledger.messages_in(unread))
    }

    /// The descriptor, to poll it; `None` once a pipe is closed.
    pub fn stream(&self) -> Option<Arc<Stream>> {
        lock(&self.state).stream.clone()
    }

    /// Whether it takes data.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let state = lock(&self.state);
        Status {
            close_state: state.close_state,
            bytes_held: state.queue.bytes_held(),
            left: state.queue.len(),
            backlog: state.queue.backlog(),
            moved: state.moved,
        }
    }

    /// Bytes that the peer's kernel has acknowledged, up to a constant, and whether the kernel said so. Where it cannot be
    /// asked (a unix socket, no netlink), the bytes that were handed to it; with `ask_only`, nothing then.
    pub fn acknowledged(&self, ask_only: bool) -> Option<(i64, bool)> {
        // Under the lock: what is written meanwhile would look as if it had been acknowledged.
        let state = lock(&self.state);
        let owed = state.stream.as_ref().and_then(unacknowledged);
        (owed.is_some() || !ask_only)
            .then(|| (state.taken.cast_signed() - owed.unwrap_or(0).cast_signed(), owed.is_some()))
    }

    /// Messages that the kernel took to their end since the beginning.
    pub fn sent(&self) -> Sent {
        lock(&self.state).queue.sent()
    }
}

impl<'a> Messages<'a> {
    /// One message, or one notice.
    pub fn one(parts: [&'a [u8]; 2], end: &'a [usize; 1]) -> Self {
        Self { parts, ends: end }
    }

    /// Some of the messages: their bytes, where each of them ends, and where the first begins.
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
    /// Writes without blocking: what the kernel took, 0 where it would block, `None` where the other
    /// end is gone.
    fn write_now(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let written = match self.stream.as_ref().map(|stream| stream.write(slices)) {
            Some(Ok(written)) => written,
            Some(Err(Errno::AGAIN)) => 0,
            // EPIPE, ECONNRESET and all else: nobody reads this any more.
            Some(Err(_)) | None => {
                self.break_off();
                return None;
            }
        };
        self.taken += written as u64;
        Some(written)
    }

    /// Queues the frames of a part for which there is room; says how many had to be dropped.
    fn push_what_fits(&mut self, batch: &Batch, part: Range<usize>, bound: usize) -> u64 {
        let (mut from, mut dropped) = (part.start, 0);
        let first = batch.ends.partition_point(|&end| end <= part.start);
        for &end in batch.ends[first..].iter().take_while(|&&end| end <= part.end) {
            // What has been begun is finished, and one message always fits.
            let begun = self.queue.is_inside_frame() && self.queue.is_empty();
            if begun || self.queue.len_without_replay() < bound {
                self.queue.push_message(&batch.bytes[from..end]);
            } else {
                dropped += 1;
            }
            from = end;
        }
        dropped
    }

    /// Writes from the queue until it is empty, the kernel takes no more, or it is others' turn.
    fn write_queue(&mut self) {
        for _ in 0..ROUNDS {
            if self.queue.is_empty() {
                break;
            }
            let Some(stream) = &self.stream else { break };
            let mut slices = Vec::with_capacity(8);
            self.queue.next(MAX_WRITE, &mut slices);
            match stream.write(&slices) {
                Ok(written) => {
                    drop(slices);
                    self.queue.advance(written);
                    self.taken += written as u64;
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    drop(slices);
                    self.break_off();
                }
            }
        }
        if self.queue.is_empty() && self.close_state == CloseState::Closing {
            self.close_state = CloseState::Closed;
            self.close_input();
        }
    }

    /// Writes or queues messages for a child, all of them or none.
    fn push(&mut self, parts: [&[u8]; 2], ends: &[usize], from: usize, counted: bool) -> WriteResult {
        if self.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let mut written = 0;
        if self.queue.is_empty() {
            match self.write_now(&parts.map(IoSlice::new)[..if parts[1].is_empty() { 1 } else { 2 }]) {
                Some(taken) => written = taken,
                None => return WriteResult::Refused,
            }
        }
        for part in parts {
            let skip = written.min(part.len());
            written -= skip;
            self.queue.push_copy(&part[skip..]);
        }
        // Behind the bytes: what is unread must count all of these, or entries of unread messages were forgotten.
        self.enter(ends, from, counted);
        self.after()
    }

    fn end(&mut self) -> WriteResult {
        self.close_state = CloseState::Closing;
        self.open.store(false, Ordering::Release);
        self.queue.drop_controls();
        self.write_queue();
        self.wake_all();
        match self.close_state {
            CloseState::Broken => WriteResult::Refused,
            _ => self.after(),
        }
    }

    fn after(&self) -> WriteResult {
        if self.queue.is_empty() {
            WriteResult::Clear
        } else {
            WriteResult::Waits { needs_watcher: !self.watched }
        }
    }

    fn break_off(&mut self) {
        let unread = self.unread();
        if let Some(input) = &mut self.input {
            input.lost += input.ledger.messages_in(unread);
            input.ledger.clear();
        }
        self.close_state = CloseState::Broken;
        self.open.store(false, Ordering::Release);
        self.queue.clear();
        self.close_input();
        self.wake_all();
    }

    fn close_input(&mut self) {
        match self.stream.as_deref() {
            Some(Stream::Socket(_)) | None => return,
            Some(Stream::Stream(fd)) => {
                // Gone already: then nobody has to be told.
                let _ = rustix::net::shutdown(fd, Shutdown::Write);
            }
            // Kept open while it holds unread bytes, so that they can be counted. The reader closes it later: see
            // `close_if_read`.
            Some(Stream::Pipe(_)) if self.close_state == CloseState::Closed && self.unread() > 0 => return,
            Some(Stream::Pipe(_)) => {}
        }
        self.stream = None;
    }

    fn wake_waiter(&self, bound: usize) {
        if self.queue.len() < bound || self.close_state != CloseState::Open {
            self.input.iter().for_each(|input| input.turns.wake_first());
        }
    }

    fn wake_all(&self) {
        self.input.iter().for_each(|input| input.turns.wake_all());
    }

    /// What only a program's input has.
    fn input(&mut self) -> &mut Input {
        self.input.get_or_insert_default()
    }

    /// Enters messages, or a notice, that are being handed over: where they end, and where the first begins.
    fn enter(&mut self, ends: &[usize], from: usize, are_messages: bool) {
        let (stream, queued) = (self.stream.as_deref(), self.queue.len());
        let ledger = &mut self.input.get_or_insert_default().ledger;
        ledger.push(ends, from, are_messages, || queued + unread_in_kernel(stream));
    }

    /// Bytes for a program that it has not read, as far as that is known: what waits here and in the kernel.
    fn unread(&self) -> usize {
        self.queue.len() + unread_in_kernel(self.stream.as_deref())
    }
}

fn unread_in_kernel(stream: Option<&Stream>) -> usize {
    let bytes = match stream {
        Some(Stream::Pipe(fd)) => rustix::io::ioctl_fionread(fd).ok(),
        Some(Stream::Stream(fd)) => unacknowledged(fd),
        Some(Stream::Socket(_)) | None => None,
    };
    usize::try_from(bytes.unwrap_or(0)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    fn batch(payloads: &[&[u8]]) -> Arc<Batch> {
        let mut batch = Batch::default();
        for payload in payloads {
            batch.bytes.extend_from_slice(&[0x82, 126]);
            batch.bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            batch.bytes.extend_from_slice(payload);
            batch.ends.push(batch.bytes.len());
        }
        Arc::new(batch)
    }

    fn whole(batch: &Batch) -> [Range<usize>; 1] {
        std::array::from_fn(|_| 0..batch.bytes.len())
    }

    fn pair(bound: usize) -> (Sink, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        (Sink::to_client(Arc::new(Stream::Socket(ours.into())), bound), theirs)
    }

    #[test]
    fn what_the_kernel_does_not_take_waits_and_comes_in_order() {
        let (sink, mut client) = pair(1 << 20);
        let one = batch(&[&[7; 1000], &[8; 1000]]);
        let (mut sent, mut claims) = (0, 0);
        while sent < 1000 {
            let after = sink.send(&one, &whole(&one), Overflow::Queue);
            if after == (WriteResult::Waits { needs_watcher: true }) {
                let _ = sink.flush();
                claims += u32::from(sink.claim_watch());
                assert!(!sink.claim_watch(), "one watcher");
            }
            sent += 1;
        }
        assert_eq!(claims, 1, "2 MB do not fit a socket's buffer, and one thread has to watch it");
        assert_eq!(
            sink.close(&[0x88, 0], CloseOrder::AfterQueue),
            WriteResult::Waits { needs_watcher: false }
        );
        assert_eq!(
            sink.send(&one, &whole(&one), Overflow::Queue),
            WriteResult::Refused,
            "nothing after the close"
        );
        let mut got = vec![0; 1000 * one.bytes.len() + 2];
        let mut at = 0;
        while at < got.len() {
            at += client.read(&mut got[at..]).expect("read");
            let _ = sink.flush_watched();
        }
        assert_eq!(sink.status().close_state, CloseState::Closed);
        assert!(got[..got.len() - 2].chunks(one.bytes.len()).all(|chunk| chunk == one.bytes));
        assert_eq!(got[got.len() - 2..], [0x88, 0]);
    }

    #[test]
    fn with_drop_whole_frames_are_missing_and_all_are_counted() {
        let (sink, mut client) = pair(10_000);
        let one = batch(&[&[1; 3000], &[2; 3000], &[3; 3000]]);
        let dropped = AtomicU64::new(0);
        for _ in 0..300 {
            let _ = sink.send(&one, &whole(&one), Overflow::Drop(&dropped));
        }
        let dropped = dropped.into_inner();
        assert!(dropped > 0);
        let _ = sink.close(&[0x88, 0], CloseOrder::AfterQueue);
        let mut got = Vec::new();
        let mut buffer = vec![0; 65536];
        while sink.status().close_state != CloseState::Closed {
            let n = client.read(&mut buffer).expect("read");
            got.extend_from_slice(&buffer[..n]);
            let _ = sink.flush_watched();
        }
        drop(sink);
        client.read_to_end(&mut got).expect("read");
        let frames = got[..got.len() - 2].chunks(3004);
        assert_eq!(frames.len() as u64, 900 - dropped);
        assert!(frames.into_iter().all(|frame| frame[4..].iter().all(|byte| *byte == frame[4])));
    }

    #[test]
    fn a_broken_pipe_refuses_and_wakes_those_who_wait() {
        let (reader, writer) = std::io::pipe().expect("pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("non-blocking");
        let sink = Arc::new(Sink::to_pipe(writer.into(), 1000));
        while sink.push(&[0; 4096]) == WriteResult::Clear {}
        let waiter = std::thread::spawn({
            let sink = Arc::clone(&sink);
            move || sink.push_in_turn(1, Messages::one([b"late", b"\n"], &[5]), true, || true, || {})
        });
        while lock(&sink.state).input().turns.is_empty() {
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
        let sink = Arc::new(Sink::to_pipe(writer.into(), 1000));
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
            while lock(&sink.state).input().turns.len() <= usize::from(n) {
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
