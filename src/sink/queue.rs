//! Bytes that wait for one descriptor, in order: copies, and parts of batches shared with other queues. Pure.
//!
//! One rule holds here: what is counted is the memory that is held, and it stays in proportion to what waits.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use super::state::{MAX_SLICES, Pending};
use crate::framing::batch::Batch;

/// What an entry costs beside its bytes.
const ENTRY: usize = 64;

/// A buffer of our own starts with this capacity; each buffer right after another has twice its capacity, up to
/// [`MAX_TAIL`]. So the memory stays in proportion to what waits. None is larger: musl's allocator puts 14 of these
/// into one memory map, but a buffer of 131,052 bytes or more is a map of its own, and a process may have few of them:
/// see [`Maps`](crate::sys::limits::Maps).
const MIN_TAIL: usize = 1024;
const MAX_TAIL: usize = 64 * 1024;

/// Smaller parts of batches are copied: a piece of its own would cost more than its bytes.
const MIN_SHARED: usize = 4 * 1024;

/// The longest head of a frame that is not masked (RFC 6455 §5.2).
const MAX_HEAD: usize = 10;

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

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written already.
    at: usize,
    /// Bytes of memory that the pieces hold.
    bytes_held: usize,
    /// Bytes that wait.
    left: usize,
}

impl Queue {
    /// Bytes of memory held by what waits.
    pub(super) fn bytes_held(&self) -> usize {
        self.bytes_held
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// Appends a part of a batch, which ends where a message ends. It is shared, or copied if it is small in comparison
    /// with the memory that it would hold.
    pub(super) fn push_shared(&mut self, batch: &Arc<Batch>, range: Range<usize>) {
        if range.len() < MIN_SHARED || range.len() * 2 < batch.memory() {
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

    /// Appends a copy, to the last buffer if that is our own and has room. A message that is larger than a buffer takes
    /// several; its head is not divided.
    pub(super) fn push_copy(&mut self, mut bytes: &[u8]) {
        self.left += bytes.len();
        let is_long = bytes.len() > MAX_TAIL;
        while !bytes.is_empty() {
            if let Some(Piece::Own(tail)) = self.pieces.back_mut() {
                let room = tail.capacity() - tail.len();
                if room >= if is_long { MAX_HEAD } else { bytes.len() } {
                    let (step, rest) = bytes.split_at(room.min(bytes.len()));
                    tail.extend_from_slice(step);
                    bytes = rest;
                    continue;
                }
            }
            let usual = match self.pieces.back() {
                Some(Piece::Own(full)) => (2 * full.capacity()).min(MAX_TAIL),
                Some(Piece::Shared(..)) | None => MIN_TAIL,
            };
            self.push(Piece::Own(Vec::with_capacity(bytes.len().clamp(usual, MAX_TAIL))));
        }
    }

    fn push(&mut self, piece: Piece) {
        self.bytes_held += piece.cost();
        self.pieces.push_back(piece);
    }

    /// What is left of the first piece.
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.pieces.front().map(|piece| &piece.bytes()[self.at..])
    }

    /// Adds what to write next, at most `limit` bytes.
    pub(super) fn slices<'a>(&'a self, limit: usize, slices: &mut Vec<IoSlice<'a>>) {
        let (mut left, mut at) = (limit, self.at);
        for piece in self.pieces.iter().take(MAX_SLICES) {
            if left == 0 {
                break;
            }
            let bytes = &piece.bytes()[at..];
            let bytes = &bytes[..bytes.len().min(left)];
            (left, at) = (left - bytes.len(), 0);
            slices.push(IoSlice::new(bytes));
        }
    }

    /// Removes `written` bytes; `each` gets the rest of each piece and how many bytes of it are removed.
    pub(super) fn take_off(&mut self, mut written: usize, mut each: impl FnMut(&[u8], usize)) {
        while written > 0 {
            let Some(first) = self.pieces.front() else { return };
            let rest = &first.bytes()[self.at..];
            let step = written.min(rest.len());
            each(rest, step);
            self.at += step;
            self.left -= step;
            written -= step;
            if step == rest.len() {
                self.bytes_held -= first.cost();
                self.at = 0;
                self.pieces.pop_front();
            }
        }
        if self.pieces.is_empty() {
            self.clear();
        }
    }

    /// Drops everything after the first `length` bytes, which are copied.
    pub(super) fn truncate(&mut self, length: usize) {
        let (pieces, mut at) = (std::mem::take(&mut self.pieces), self.at);
        self.clear();
        for piece in pieces {
            let rest = &piece.bytes()[at..];
            self.push_copy(&rest[..rest.len().min(length - self.left)]);
            at = 0;
        }
    }
}

impl Pending for Queue {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn next<'a>(&'a mut self, limit: usize, slices: &mut Vec<IoSlice<'a>>) {
        self.slices(limit, slices);
    }

    fn advance(&mut self, written: usize) {
        self.take_off(written, |_, _| ());
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.pieces.shrink_to(8);
        (self.at, self.bytes_held, self.left) = (0, 0, 0);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
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

    pub(crate) fn batch(payloads: &[&[u8]]) -> Arc<Batch> {
        let mut batch = Batch::default();
        for payload in payloads {
            batch.push_frame(&frame(payload));
        }
        Arc::new(batch)
    }

    /// Writes everything, at most `step` bytes at a time, and gives what came out.
    pub(crate) fn drain(queue: &mut impl Pending, step: usize) -> Vec<u8> {
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
        out
    }

    #[test]
    fn no_copy_is_so_large_that_it_is_a_memory_map_of_its_own() {
        let (large, lines) = (vec![4; 300_000], [5; 1000]);
        let mut messages = vec![&lines[..]; 400];
        messages.insert(100, &large);
        let all = batch(&messages);
        let mut queue = Queue::default();
        // As one who gets a part only, who gets each that fits, and a program do.
        queue.push_shared(&all, all.ends[90]..all.ends[110]);
        for message in all.ends.windows(2) {
            queue.push_copy(&all.bytes[message[0]..message[1]]);
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
        let mut queue = Queue::default();
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
            let mut queue = Queue::default();
            for _ in 0..2000 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Some sizes more often than others, each time.
                let batch = &batches[(dice >> 40) as usize % batches.len() * (dice >> 60) as usize / 16];
                if dice & 1 << 33 == 0 {
                    queue.push_shared(batch, 0..batch.bytes.len());
                } else {
                    queue.push_copy(&batch.bytes);
                }
                let bound = 3 * queue.len() + 4 * MIN_TAIL;
                assert!(
                    queue.bytes_held() <= bound,
                    "{} bytes held, {} wait",
                    queue.bytes_held(),
                    queue.len()
                );
            }
        }
    }

    #[test]
    fn many_small_frames_do_not_keep_their_index_in_memory() {
        let tiny = batch(&vec![&b"x"[..]; 50_000]);
        let mut queue = Queue::default();
        queue.push_shared(&tiny, 0..tiny.bytes.len());
        assert!(queue.bytes_held() < 2 * tiny.bytes.len(), "{} for {}", queue.bytes_held(), tiny.bytes.len());
    }

    #[test]
    fn plain_bytes_pass_as_they_are_and_share_buffers() {
        let mut queue = Queue::default();
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
