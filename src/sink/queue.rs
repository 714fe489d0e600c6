//! What waits for one descriptor: pieces in order, and the control frames that may overtake them.
//!
//! Pure: no descriptor, no lock. The rules that live here: bytes counted are bytes held; a control
//! frame goes ahead of data but never inside a frame that is half-written; at least one data frame
//! goes between two control frames.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// What an entry costs beside its bytes.
const ENTRY: usize = 64;

/// A buffer of our own starts with this capacity; each that follows it at once has twice as much as the one before,
/// up to [`MAX_TAIL`]. So what is held stays in proportion to what waits. None is larger: of these, musl's allocator
/// puts 14 into one memory map, and from 131,052 bytes each would be a map of its own, of which a process may have
/// few: see [`Maps`](crate::sys::limits::Maps).
const TAIL_LEAST: usize = 1024;
const MAX_TAIL: usize = 64 * 1024;

/// Parts of batches below this size are copied: a piece of its own would cost more than its bytes.
const SHARED_LEAST: usize = 4 * 1024;

/// The longest head of a frame that is not masked (RFC 6455 §5.2).
const HEAD: usize = 10;

/// Slices handed to one `writev`; far below `IOV_MAX` (1024), enough for one buffer's worth.
const SLICES: usize = 64;

/// Frames that were encoded once for many receivers.
#[derive(Debug, Default)]
pub struct Batch {
    /// The frames, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each frame ends.
    pub ends: Vec<usize>,
}

impl Batch {
    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// A control frame, whole: at most 2 bytes of head and 125 of payload (RFC 6455 §5.5).
pub type Control = Vec<u8>;

#[derive(Debug)]
enum Piece {
    Shared(Arc<Batch>, Range<usize>),
    Own(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(batch, range) => &batch.bytes[range.clone()],
            Self::Own(bytes) => bytes,
        }
    }

    fn cost(&self) -> usize {
        ENTRY
            + match self {
                // A slice of it keeps all of it alive.
                Self::Shared(batch, _) => batch.memory(),
                Self::Own(bytes) => bytes.capacity(),
            }
    }
}

/// Messages, and the bytes of their payload.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub messages: u64,
    pub bytes: u64,
}

/// The queue of one sink.
#[derive(Debug)]
pub(super) struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written already.
    at: usize,
    /// Bytes of memory that the pieces hold.
    bytes_held: usize,
    /// Bytes of data still to be written.
    left: usize,
    /// How many of them are a replay. It comes first, so the next bytes written are its.
    replay: usize,
    /// Bytes of the message that was queued last.
    newest: usize,
    /// Whether the bytes are websocket frames, so that `frames` is kept.
    framed: bool,
    /// Where in the frames the writer is.
    frames: Frames,
    /// A control frame, or the handshake, in the writer's hand and how much of it is written.
    hand: Option<(Control, usize)>,
    ping: Option<Control>,
    pong: Option<Control>,
    /// A control frame went last: data goes before the next one.
    data_is_due: bool,
}

impl Queue {
    /// An empty queue, of websocket frames or of plain bytes.
    pub(super) fn new(framed: bool) -> Self {
        Self {
            pieces: VecDeque::new(),
            at: 0,
            bytes_held: 0,
            left: 0,
            replay: 0,
            newest: 0,
            framed,
            frames: Frames::default(),
            hand: None,
            ping: None,
            pong: None,
            data_is_due: false,
        }
    }

    /// Whether nothing waits, control frames included.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.hand.is_none() && self.ping.is_none() && self.pong.is_none()
    }

    /// Bytes of memory held by what waits.
    pub(super) fn bytes_held(&self) -> usize {
        self.bytes_held
    }

    /// Bytes that wait before the newest message, a replay not counted: what says whether the reader is behind.
    /// One message always fits, whatever its size.
    pub(super) fn backlog(&self) -> usize {
        self.left.saturating_sub(self.replay + self.newest)
    }

    /// Whether a frame has been written in part and not to its end.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.frames.begun > 0
    }

    /// Appends a part of a batch, which ends where a message ends: shared, or copied out where the part is small
    /// beside what it would keep in memory.
    pub(super) fn push_shared(&mut self, batch: &Arc<Batch>, range: Range<usize>) {
        let last = batch.ends.partition_point(|&end| end < range.end);
        let start = last.checked_sub(1).map_or(0, |before| batch.ends[before]);
        self.newest = range.end - start.max(range.start);
        self.share_or_copy(batch, range);
    }

    /// Appends a part of what is replayed to a client that joins, before anything else.
    pub(super) fn push_replay(&mut self, batch: &Arc<Batch>, range: Range<usize>) {
        self.replay += range.len();
        self.share_or_copy(batch, range);
    }

    /// Appends one message, or the rest of one, as a copy.
    pub(super) fn push_message(&mut self, message: &[u8]) {
        self.newest = message.len();
        self.push_copy(message);
    }

    fn share_or_copy(&mut self, batch: &Arc<Batch>, range: Range<usize>) {
        if range.len() < SHARED_LEAST || range.len() * 2 < batch.memory() {
            let (ends, mut from) = (&batch.ends, range.start);
            while from < range.end {
                // As many messages as a buffer holds, or one that is larger.
                let next = ends.partition_point(|&end| end <= from);
                let last = ends.partition_point(|&end| end <= from + MAX_TAIL).max(next + 1) - 1;
                let until = ends.get(last).map_or(range.end, |&end| end.min(range.end));
                self.push_copy(&batch.bytes[from..until]);
                from = until;
            }
        } else {
            self.left += range.len();
            self.push(Piece::Shared(Arc::clone(batch), range));
        }
    }

    /// Appends a copy, to the last buffer if that is our own and has room. One message, or the rest of one, may be
    /// larger than a buffer: it takes several, and its head is not divided.
    pub(super) fn push_copy(&mut self, mut bytes: &[u8]) {
        self.left += bytes.len();
        let is_long = bytes.len() > MAX_TAIL;
        while !bytes.is_empty() {
            if let Some(Piece::Own(tail)) = self.pieces.back_mut() {
                let room = tail.capacity() - tail.len();
                if room >= if is_long { HEAD } else { bytes.len() } {
                    let (step, rest) = bytes.split_at(room.min(bytes.len()));
                    tail.extend_from_slice(step);
                    bytes = rest;
                    continue;
                }
            }
            let usual = match self.pieces.back() {
                Some(Piece::Own(full)) => (2 * full.capacity()).min(MAX_TAIL),
                Some(Piece::Shared(..)) | None => TAIL_LEAST,
            };
            self.push(Piece::Own(Vec::with_capacity(bytes.len().clamp(usual, MAX_TAIL))));
        }
    }

    fn push(&mut self, piece: Piece) {
        self.bytes_held += piece.cost();
        self.pieces.push_back(piece);
    }

    /// Notes that `written` bytes of the frames in `bytes` went out before anything was queued, the
    /// last of them perhaps in part.
    pub(super) fn note_direct_write(&mut self, bytes: &[u8], written: usize) {
        if self.framed {
            self.frames.walk(bytes, written);
        }
    }

    /// Messages that have been written to their end; of frames only.
    pub(super) fn sent(&self) -> Sent {
        self.frames.sent
    }

    /// What goes ahead of all frames, for a queue that nothing has gone through yet.
    pub(super) fn set_handshake(&mut self, bytes: Vec<u8>) {
        self.hand = Some((bytes, 0));
    }

    /// A ping to send as soon as a frame's end allows; the latest one wins.
    pub(super) fn set_ping(&mut self, frame: Control) {
        self.ping = Some(frame);
    }

    /// A pong to send as soon as a frame's end allows; the latest one wins (RFC 6455 §5.5.3).
    pub(super) fn set_pong(&mut self, frame: Control) {
        self.pong = Some(frame);
    }

    /// Bytes of data that wait.
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// The same, a replay not counted.
    pub(super) fn len_without_replay(&self) -> usize {
        self.left - self.replay
    }

    /// Drops the control frames that have not been begun: nothing follows a close.
    pub(super) fn drop_controls(&mut self) {
        (self.ping, self.pong) = (None, None);
    }

    /// Drops all but what has been begun: a half-written control frame, a half-written data frame.
    pub(super) fn keep_only_begun(&mut self) {
        self.ping = None;
        self.pong = None;
        let (pieces, mut at) = (std::mem::take(&mut self.pieces), self.at);
        self.clear_pieces();
        for piece in pieces {
            let rest = &piece.bytes()[at..];
            self.push_copy(&rest[..rest.len().min(self.frames.begun - self.left)]);
            at = 0;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        let sent = self.frames.sent;
        *self = Self::new(self.framed);
        self.frames.sent = sent;
    }

    fn clear_pieces(&mut self) {
        self.pieces.clear();
        self.pieces.shrink_to(8);
        self.at = 0;
        self.bytes_held = 0;
        (self.left, self.replay, self.newest) = (0, 0, 0);
    }

    /// What to write next, at most `limit` bytes of data (but always some). Follow with
    /// [`Queue::advance`].
    pub(super) fn next<'a>(&'a mut self, limit: usize, slices: &mut Vec<IoSlice<'a>>) {
        if self.hand.is_none() && self.frames.begun == 0 && (!self.data_is_due || self.pieces.is_empty()) {
            self.hand = self.pong.take().or_else(|| self.ping.take()).map(|control| (control, 0));
        }
        if let Some((control, at)) = &self.hand {
            slices.push(IoSlice::new(&control[*at..]));
        }
        // Somebody waits for the end of this frame: go no further than that.
        let overtaken = self.hand.is_none() && (self.ping.is_some() || self.pong.is_some());
        let mut left = match self.pieces.front() {
            Some(first) if overtaken && self.frames.begun == 0 => frame_length(&first.bytes()[self.at..]),
            Some(_) if overtaken => self.frames.begun,
            _ => limit,
        };
        for (index, piece) in self.pieces.iter().enumerate().take(SLICES) {
            if left == 0 {
                break;
            }
            let bytes = if index == 0 { &piece.bytes()[self.at..] } else { piece.bytes() };
            let bytes = &bytes[..bytes.len().min(left)];
            left -= bytes.len();
            slices.push(IoSlice::new(bytes));
        }
    }

    /// Takes note that `written` bytes of what [`Queue::next`] gave are out.
    pub(super) fn advance(&mut self, mut written: usize) {
        if let Some((control, at)) = &mut self.hand {
            let step = written.min(control.len() - *at);
            *at += step;
            written -= step;
            if *at < control.len() {
                return;
            }
            self.hand = None;
            self.data_is_due = true;
        }
        while written > 0 {
            let Some(first) = self.pieces.front() else { return };
            let rest = &first.bytes()[self.at..];
            let step = written.min(rest.len());
            if self.framed {
                self.frames.walk(rest, step);
            }
            self.data_is_due = false;
            self.at += step;
            self.left -= step;
            self.replay = self.replay.saturating_sub(step);
            written -= step;
            if step == rest.len() {
                self.bytes_held -= first.cost();
                self.at = 0;
                self.pieces.pop_front();
            }
        }
        if self.pieces.is_empty() {
            self.clear_pieces();
        }
    }
}

/// Where a writer is in a stream of frames.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes still to be written of the frame that is half-written.
    begun: usize,
    /// Bytes of payload of that frame; none if it is a control frame.
    payload: Option<usize>,
    /// Messages that have been written to their end.
    sent: Sent,
}

impl Frames {
    /// Goes `written` bytes on through the frames in `bytes`.
    fn walk(&mut self, bytes: &[u8], written: usize) {
        let mut at = 0;
        while at < written {
            if self.begun == 0 {
                self.begun = frame_length(&bytes[at..]);
                self.payload = payload_length(&bytes[at..], self.begun);
            }
            let step = self.begun.min(written - at);
            self.begun -= step;
            at += step;
            if self.begun == 0
                && let Some(payload) = self.payload
            {
                self.sent.messages += 1;
                self.sent.bytes += payload as u64;
            }
        }
    }
}

/// Length of the payload of a frame of this length; none for control frames, which have the opcodes from 8 on.
fn payload_length(bytes: &[u8], frame: usize) -> Option<usize> {
    let head = match bytes.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    bytes.first().filter(|&first| first & 0x0f < 8).map(|_| frame.saturating_sub(head))
}

/// Length of the unmasked frame at the start of `bytes`, head included (RFC 6455 §5.2). The head
/// always lies whole within one piece.
fn frame_length(bytes: &[u8]) -> usize {
    let announced = |range: Range<usize>| {
        bytes.get(range).unwrap_or_default().iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
    };
    match bytes.get(1) {
        Some(126) => 4 + announced(2..4),
        Some(127) => 10 + announced(2..10),
        Some(&length) => 2 + usize::from(length),
        None => bytes.len().max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x82];
        match payload.len() {
            n @ 0..126 => bytes.push(n as u8),
            n @ 126..65536 => {
                bytes.push(126);
                bytes.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                bytes.push(127);
                bytes.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    fn batch(payloads: &[&[u8]]) -> Arc<Batch> {
        let mut batch = Batch::default();
        for payload in payloads {
            batch.bytes.extend_from_slice(&frame(payload));
            batch.ends.push(batch.bytes.len());
        }
        Arc::new(batch)
    }

    /// Writes everything, at most `step` bytes at a time, and gives what came out.
    fn drain(queue: &mut Queue, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !queue.is_empty() {
            let mut slices = Vec::new();
            queue.next(1 << 20, &mut slices);
            let before = out.len();
            out.extend(slices.iter().flat_map(|slice| slice.iter().copied()).take(step));
            let written = out.len() - before;
            assert!(written > 0, "a queue that is not empty gives something to write");
            queue.advance(written);
        }
        assert_eq!((queue.bytes_held(), queue.len(), queue.backlog()), (0, 0, 0));
        out
    }

    #[test]
    fn whatever_the_steps_frames_come_out_whole_and_control_frames_between_them() {
        let long = vec![b'x'; 300];
        let longest = vec![b'y'; 150_000];
        let data: [&[u8]; 5] = [b"one", b"", &long, b"four", &longest];
        let (ping, pong) = (vec![0x89, 1, b'i'], vec![0x8a, 2, b'o', b'o']);
        for step in [1, 2, 3, 7, 100, 301, 1 << 20] {
            for (cut, copied) in [0, 1, 4, 5, 9, 200].into_iter().flat_map(|cut| [(cut, false), (cut, true)])
            {
                let mut queue = Queue::new(true);
                let all = batch(&data);
                queue.note_direct_write(&all.bytes, cut);
                if copied {
                    let mut from = cut;
                    for &end in all.ends.iter().filter(|&&end| end > cut) {
                        queue.push_message(&all.bytes[from..end]);
                        from = end;
                    }
                } else {
                    queue.push_shared(&all, cut..all.bytes.len());
                }
                queue.set_ping(ping.clone());
                queue.set_pong(pong.clone());
                let mut out = all.bytes[..cut].to_vec();
                out.extend(drain(&mut queue, step));

                let (mut payloads, mut kinds, mut at) = (Vec::new(), Vec::new(), 0);
                while at < out.len() {
                    let length = frame_length(&out[at..]);
                    let whole = &out[at..at + length];
                    kinds.push(whole[0]);
                    if whole[0] == 0x82 {
                        payloads.push(whole.to_vec());
                    }
                    at += length;
                }
                let wanted: Vec<_> = data.iter().map(|payload| frame(payload)).collect();
                assert_eq!(payloads, wanted, "step {step} cut {cut}");
                let first = kinds.iter().position(|&kind| kind == 0x8a).expect("the pong is there");
                let second = kinds.iter().position(|&kind| kind == 0x89).expect("the ping is there");
                assert!(second > first + 1, "data between two control frames: {kinds:x?}");
                let begun = 1 + all.ends.iter().filter(|&&end| end < cut).count();
                assert_eq!(first, if cut == 0 { 0 } else { begun }, "ahead of all not begun: {kinds:x?}");
            }
        }
    }

    #[test]
    fn a_broken_off_queue_ends_with_the_frame_already_begun() {
        let all = batch(&[b"first", b"second", b"third"]);
        for (cut, rest) in [(0, 0), (3, 4), (7, 0), (8, 7)] {
            let mut queue = Queue::new(true);
            queue.note_direct_write(&all.bytes, cut);
            queue.push_shared(&all, cut..all.bytes.len());
            queue.set_ping(vec![0x89, 0]);
            queue.keep_only_begun();
            assert_eq!(drain(&mut queue, 2), &all.bytes[cut..cut + rest], "cut {cut}");
        }
        let all = batch(&[&vec![b'x'; 200_000], b"second"]);
        for (cut, written) in [(5, 0), (0, 1), (0, 70_000), (100, 150_000)] {
            let mut queue = Queue::new(true);
            queue.note_direct_write(&all.bytes, cut);
            queue.push_message(&all.bytes[cut..all.ends[0]]);
            queue.push_message(&all.bytes[all.ends[0]..]);
            queue.next(usize::MAX, &mut Vec::new());
            queue.advance(written);
            queue.keep_only_begun();
            assert!(drain(&mut queue, 10_000) == all.bytes[cut + written..all.ends[0]], "{cut} {written}");
        }
    }

    #[test]
    fn no_copy_is_so_large_that_it_is_a_memory_map_of_its_own() {
        let (large, lines) = (vec![4; 300_000], [5; 1000]);
        let mut messages = vec![&lines[..]; 400];
        messages.insert(100, &large);
        let all = batch(&messages);
        let mut queue = Queue::new(true);
        // As one who gets a part only, who gets each that fits, and a program do.
        queue.push_shared(&all, all.ends[90]..all.ends[110]);
        for message in all.ends.windows(2) {
            queue.push_message(&all.bytes[message[0]..message[1]]);
        }
        queue.push_copy(&large);
        let lengths = queue.pieces.iter().map(|piece| match piece {
            Piece::Own(bytes) => bytes.capacity(),
            Piece::Shared(..) => panic!("a small part of it"),
        });
        assert!(lengths.max() <= Some(MAX_TAIL));
        assert!(
            queue.bytes_held() < queue.len() + 3 * MAX_TAIL,
            "{} for {}",
            queue.bytes_held(),
            queue.len()
        );
    }

    #[test]
    fn bytes_counted_are_bytes_held() {
        let big = batch(&[&[0; 10_000]]);
        let mut queue = Queue::new(true);
        queue.push_shared(&big, 0..big.bytes.len());
        assert!(queue.bytes_held() >= big.bytes.capacity());
        queue.clear();
        assert_eq!(queue.bytes_held(), 0);
        queue.push_shared(&big, big.bytes.len() - 10..big.bytes.len());
        assert!(queue.bytes_held() < 2_000, "a small rest is copied out and does not pin the whole");
        assert_eq!(Arc::strong_count(&big), 1);
    }

    #[test]
    fn what_is_held_is_in_proportion_to_what_waits_whatever_comes() {
        let batches: Vec<_> =
            [1, 7, 100, 900, 3000, 5000, 20_000].map(|size| batch(&[&vec![1; size]])).into();
        let mut dice = 1u64;
        for _ in 0..50 {
            let mut queue = Queue::new(true);
            for _ in 0..2000 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Some sizes more often than others, each time.
                let batch = &batches[(dice >> 40) as usize % batches.len() * (dice >> 60) as usize / 16];
                if dice & 1 << 33 == 0 {
                    queue.push_shared(batch, 0..batch.bytes.len());
                } else {
                    queue.push_copy(&batch.bytes);
                }
                let bound = 3 * queue.len() + 4 * TAIL_LEAST;
                assert!(
                    queue.bytes_held() <= bound,
                    "{} bytes_held, {} wait",
                    queue.bytes_held(),
                    queue.len()
                );
            }
        }
    }

    #[test]
    fn one_message_and_a_replay_always_fit_and_what_is_written_counts_no_more() {
        let old = batch(&[&vec![1; 50_000]]);
        let (small, large) = (batch(&[&[2; 100], &[3; 100]]), batch(&[&vec![4; 70_000]]));
        let mut queue = Queue::new(true);
        queue.push_replay(&old, 0..old.bytes.len());
        assert_eq!(queue.backlog(), 0, "a replay");
        queue.push_shared(&large, 0..large.bytes.len());
        assert_eq!(queue.backlog(), 0, "one message");
        queue.push_shared(&small, 0..small.bytes.len());
        assert_eq!(queue.backlog(), large.bytes.len() + 102, "what waits before the newest");
        let mut write = |bytes: usize| {
            queue.next(usize::MAX, &mut Vec::new());
            queue.advance(bytes);
            queue.backlog()
        };
        assert_eq!(write(old.bytes.len()), large.bytes.len() + 102, "the replay is out");
        assert_eq!(write(large.bytes.len()), 102);
        assert_eq!(write(102), 0);
        assert_eq!(write(102), 0);
    }

    #[test]
    fn many_small_frames_do_not_keep_their_index_in_memory() {
        let tiny = batch(&vec![&b"x"[..]; 50_000]);
        let mut queue = Queue::new(true);
        queue.push_shared(&tiny, 0..tiny.bytes.len());
        assert!(queue.bytes_held() < 2 * tiny.bytes.len(), "{} for {}", queue.bytes_held(), tiny.bytes.len());
    }

    #[test]
    fn plain_bytes_pass_as_they_are_and_share_buffers() {
        let mut queue = Queue::new(false);
        let mut wanted = Vec::new();
        for n in 0..5_000u32 {
            let line = format!("line {n}\n");
            queue.push_copy(line.as_bytes());
            wanted.extend_from_slice(line.as_bytes());
        }
        assert!(queue.bytes_held() < wanted.len() + 2 * MAX_TAIL);
        assert_eq!(drain(&mut queue, 777), wanted);
    }
}
