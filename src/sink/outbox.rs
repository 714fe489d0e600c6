//! The sink to a client: websocket frames, control frames ahead of them, and a close frame at the end.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::frame_queue::FrameQueue;
use super::state::{CloseState, MAX_SLICES, Pending as _, WriteResult};
use super::stream::Stream;
use super::writer::Writer;
use crate::framing::batch::{Batch, Volume};
use crate::framing::heads::Control;
use crate::sys::lock;
use crate::sys::tcp::unacknowledged;

/// What to do with frames for which there is no room.
#[derive(Debug, Clone, Copy)]
pub enum Overflow<'a> {
    /// Queue them: the thread that watches sees the backlog and stops reading the backend.
    Queue,
    /// Drop each frame that does not fit, whole, and count it here.
    Drop(&'a AtomicU64),
}

/// Where in the queue a close frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseOrder {
    /// After everything that is queued.
    AfterQueue,
    /// In place of everything that is queued, except a frame that is half-written.
    DropQueue,
}

/// The state of an outbox at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Status {
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
pub struct Outbox {
    /// `--maxqueue`.
    bound: usize,
    /// Whether it takes data. Set under the lock; read without it by callers that must not wait for a write.
    open: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stream: Arc<Stream>,
    writer: Writer<FrameQueue>,
    open: Arc<AtomicBool>,
    /// Length of the close frame, once there is one.
    close_length: usize,
    /// Messages that were written or queued.
    sent: Volume,
}

impl Outbox {
    pub fn new(stream: Arc<Stream>, bound: usize) -> Self {
        let open = Arc::new(AtomicBool::new(true));
        let writer = Writer::new(FrameQueue::default());
        Self {
            bound,
            open: Arc::clone(&open),
            state: Mutex::new(State { stream, writer, open, close_length: 0, sent: Volume::default() }),
        }
    }

    /// Writes parts of a batch if nothing waits; queues what the kernel does not take.
    pub fn send(&self, batch: &Arc<Batch>, parts: &[Range<usize>], overflow: Overflow<'_>) -> WriteResult {
        let mut state = lock(&self.state);
        let State { stream, writer, sent, .. } = &mut *state;
        if writer.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let mut written = 0;
        if writer.queue.is_empty() {
            let direct = if let [part] = parts {
                writer.write_now(stream, &[IoSlice::new(&batch.bytes[part.clone()])])
            } else {
                let slice = |part: &Range<usize>| IoSlice::new(&batch.bytes[part.clone()]);
                let slices: Vec<_> = parts.iter().take(MAX_SLICES).map(slice).collect();
                writer.write_now(stream, &slices)
            };
            let Ok(direct) = direct else {
                state.break_off();
                return WriteResult::Refused;
            };
            written = direct;
        }
        let queue = &mut writer.queue;
        for part in parts {
            sent.add(batch.volume(part));
            let skip = written.min(part.len());
            written -= skip;
            if skip == part.len() {
                continue;
            }
            // The write may have ended in the middle of a frame.
            queue.note_direct_write(&batch.bytes[part.clone()], skip);
            let rest = part.start + skip..part.end;
            match overflow {
                Overflow::Queue => queue.push_shared(batch, rest),
                Overflow::Drop(dropped) => {
                    let lost = queue.push_what_fits(batch, rest, self.bound);
                    sent.take_back(lost);
                    dropped.fetch_add(lost.messages, Ordering::Relaxed);
                }
            }
        }
        writer.result()
    }

    /// Queues the history for a client that joins. Writes nothing, so a lock may be held. Call [`Outbox::flush`]
    /// afterwards.
    pub fn queue_replay(&self, batch: &Arc<Batch>, part: Range<usize>) {
        let mut state = lock(&self.state);
        if state.writer.close_state == CloseState::Open {
            state.sent.add(batch.volume(&part));
            state.writer.queue.push_replay(batch, part);
        }
    }

    /// Queues the answer to the handshake, ahead of all frames. Call [`Outbox::flush`] afterwards.
    pub fn queue_handshake(&self, answer: Vec<u8>) {
        lock(&self.state).writer.queue.set_handshake(answer);
    }

    /// Messages that were written or queued so far.
    pub fn sent(&self) -> Volume {
        lock(&self.state).sent
    }

    /// Sends a ping, ahead of queued data.
    pub fn ping(&self, frame: Control) -> WriteResult {
        self.urgent(|queue| queue.set_ping(frame))
    }

    /// Sends a pong, ahead of queued data; it replaces one that still waits.
    pub fn pong(&self, frame: Control) -> WriteResult {
        self.urgent(|queue| queue.set_pong(frame))
    }

    fn urgent(&self, set: impl FnOnce(&mut FrameQueue)) -> WriteResult {
        let mut state = lock(&self.state);
        if state.writer.close_state != CloseState::Open {
            return WriteResult::Refused;
        }
        let idle = state.writer.queue.is_empty();
        set(&mut state.writer.queue);
        if idle {
            // Nothing waited, so the kernel takes a ping at once: that tells nothing about the peer.
            let moved = state.writer.moved;
            state.write_queue();
            state.writer.moved = moved;
        }
        state.writer.result()
    }

    /// Sends the close frame; the outbox takes nothing more. A second close is refused, except one that drops the queue
    /// while the first still waits.
    pub fn close(&self, frame: &[u8], order: CloseOrder) -> WriteResult {
        let mut state = lock(&self.state);
        match (state.writer.close_state, order) {
            (CloseState::Open, _) | (CloseState::Closing, CloseOrder::DropQueue) => {}
            _ => return WriteResult::Refused,
        }
        if state.writer.close_state == CloseState::Closing && state.writer.queue.len() <= state.close_length {
            // The first close frame is being written already.
            return state.writer.result();
        }
        if order == CloseOrder::DropQueue {
            state.writer.queue.keep_only_begun();
        }
        state.close_length = frame.len();
        state.writer.queue.push_close(frame);
        state.writer.close_state = CloseState::Closing;
        state.open.store(false, Ordering::Release);
        state.write_queue();
        state.writer.result()
    }

    /// Writes what waits, as far as the kernel takes it.
    pub fn flush(&self) -> WriteResult {
        let mut state = lock(&self.state);
        state.write_queue();
        state.writer.result()
    }

    /// The same for the thread that watches: once nothing waits, the outbox is not watched any more.
    pub fn flush_watched(&self) -> WriteResult {
        let mut state = lock(&self.state);
        state.write_queue();
        state.writer.watched_result()
    }

    /// If something waits and no thread watches this outbox, says yes, and counts it as watched from now on.
    #[must_use = "the caller has to wake the thread that watches"]
    pub fn claim_watch(&self) -> bool {
        lock(&self.state).writer.claim_watch()
    }

    /// Gives up: drops what waits and takes nothing more. The socket stays open while it is in use elsewhere.
    pub fn abandon(&self) {
        lock(&self.state).break_off();
    }

    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub fn status(&self) -> Status {
        let Writer { queue, close_state, moved, owed, .. } = &lock(&self.state).writer;
        Status {
            close_state: *close_state,
            bytes_held: queue.bytes_held() + owed,
            left: queue.len() + owed,
            backlog: queue.backlog(),
            moved: *moved,
        }
    }

    /// Bytes that the peer's kernel has acknowledged, up to a constant, and `true`. Where the kernel does not say so (a
    /// unix socket, no netlink), the bytes that it took, and `false`; with `ask_only`, nothing.
    pub fn acknowledged(&self, ask_only: bool) -> Option<(i64, bool)> {
        // Under the lock: what is written meanwhile would look as if it had been acknowledged.
        let state = lock(&self.state);
        let owed = unacknowledged(&state.stream);
        let taken = || state.stream.sent().unwrap_or(state.writer.taken);
        (owed.is_some() || !ask_only)
            .then(|| (taken().cast_signed() - owed.unwrap_or(0).cast_signed(), owed.is_some()))
    }
}

impl State {
    fn write_queue(&mut self) {
        if self.writer.write_queue(&self.stream).is_err() {
            self.break_off();
        }
    }

    fn break_off(&mut self) {
        self.open.store(false, Ordering::Release);
        self.writer.break_off();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn batch(payloads: &[&[u8]]) -> Arc<Batch> {
        let mut batch = Batch::default();
        for payload in payloads {
            let head = [&[0x82, 126], &(payload.len() as u16).to_be_bytes()[..]].concat();
            batch.push_frame(&[&head, *payload].concat());
        }
        Arc::new(batch)
    }

    fn whole(batch: &Batch) -> [Range<usize>; 1] {
        std::array::from_fn(|_| 0..batch.bytes.len())
    }

    fn pair(bound: usize) -> (Outbox, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        (Outbox::new(Arc::new(Stream::Socket(ours.into())), bound), theirs)
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
}
