//! What a room remembers of its program's messages, for those who come later. Bounded in number and bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::framing::batch::Batch;
use crate::framing::output::Decoded;
use crate::recipe::Keep;

/// What an entry costs beside its bytes.
const ENTRY: usize = 64;

/// Bytes of frames that are kept together, so that all who join share them.
const CHUNK: usize = 32 * 1024;

/// See the module's documentation.
///
/// A private message is not kept: ids are never reused, so it is for nobody who comes later. One that leaves
/// somebody out leaves out nobody who comes later.
#[derive(Debug)]
pub(super) struct History {
    keep: Keep,
    /// Bytes that may be held; the last message always is.
    bound: usize,
    /// Frames in order. The chunks are full and do not change any more: clients that join share them.
    chunks: VecDeque<Arc<Batch>>,
    /// The newest frames. Whoever joins gets a copy, for more of them are added.
    tail: Batch,
    /// How many frames at the beginning of the oldest chunk are not kept any more.
    expired: usize,
    frames: usize,
    /// Bytes of the frames that are kept, and what they cost beside.
    bytes_held: usize,
}

impl History {
    pub(super) fn new(keep: Keep, bound: usize) -> Self {
        Self {
            keep,
            bound,
            chunks: VecDeque::new(),
            tail: Batch::default(),
            expired: 0,
            frames: 0,
            bytes_held: 0,
        }
    }

    /// Takes over what is to be kept of a batch.
    pub(super) fn add(&mut self, batch: &Batch, decoded: &Decoded) {
        match self.keep {
            Keep::Nothing => {}
            Keep::All(most) => {
                let public = (0..batch.ends.len()).rev().filter(|&index| decoded.addresses.is_public(index));
                let mut last: Vec<_> = public.take(most).collect();
                last.reverse();
                for index in last {
                    self.push(&batch.bytes[batch.range(index)], most);
                }
            }
            Keep::Tagged(most) => {
                for &index in decoded.tagged.iter().filter(|&&index| decoded.addresses.is_public(index)) {
                    self.push(&batch.bytes[batch.range(index)], most);
                }
            }
        }
    }

    fn push(&mut self, frame: &[u8], most: usize) {
        if !self.tail.ends.is_empty() && self.tail.bytes.len() + frame.len() > CHUNK {
            let mut full = std::mem::take(&mut self.tail);
            // Shared with many for long; and a queue copies what keeps much more in memory than it is.
            full.bytes.shrink_to_fit();
            full.ends.shrink_to_fit();
            self.chunks.push_back(Arc::new(full));
        }
        self.tail.push_frame(frame);
        self.frames += 1;
        self.bytes_held += frame.len() + ENTRY;
        while self.frames > most || (self.bytes_held > self.bound && self.frames > 1) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.chunks.front().map_or(&self.tail, |chunk| &**chunk);
        self.bytes_held -= oldest.range(self.expired).len() + ENTRY;
        self.frames -= 1;
        self.expired += 1;
        if self.expired == oldest.ends.len() {
            self.expired = 0;
            if self.chunks.pop_front().is_none() {
                self.tail = Batch::default();
            }
        }
    }

    /// All that is kept, in order, for one who joins: parts of batches.
    pub(super) fn replay(&self) -> impl Iterator<Item = (Arc<Batch>, Range<usize>)> {
        let tail = (!self.tail.ends.is_empty()).then(|| Arc::new(self.tail.clone()));
        self.chunks.iter().cloned().chain(tail).enumerate().map(|(index, batch)| {
            let expired = if index == 0 { self.expired } else { 0 };
            let from = expired.checked_sub(1).map_or(0, |last| batch.ends[last]);
            let part = from..batch.bytes.len();
            (batch, part)
        })
    }

    /// Bytes of memory that it holds, more or less.
    pub(super) fn bytes_held(&self) -> usize {
        self.bytes_held
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.keep, self.bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::output::Decoder;
    use crate::framing::output::Output;

    fn after(keep: Keep, bound: usize, output: &str) -> Vec<String> {
        let framing =
            Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true, room: false };
        let (mut decoder, mut history) = (Decoder::new(&framing, 1 << 20), History::new(keep, bound));
        for chunk in output.as_bytes().chunks(100) {
            let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
            decoder.push(chunk, &mut batch, &mut decoded);
            history.add(&batch, &decoded);
        }
        let mut texts = Vec::new();
        for (batch, part) in history.replay() {
            let kept =
                (0..batch.ends.len()).map(|index| batch.range(index)).filter(|at| at.start >= part.start);
            texts.extend(kept.map(|at| String::from_utf8(batch.bytes[at][2..].to_vec()).expect("text")));
        }
        assert_eq!(texts.len(), history.frames);
        let bytes: usize = texts.iter().map(|text| text.len() + 2 + ENTRY).sum();
        assert_eq!(bytes, history.bytes_held());
        texts
    }

    #[test]
    fn the_last_public_messages_stay() {
        let output = "a\n{\"_to\":1}\nb\n{\"_except\":1}\nc\n{\"_to\":2}\n{\"_cache\":true}\n{\"_cache\":true,\"_to\":1}\n";
        assert_eq!(after(Keep::Nothing, 9999, output), [""; 0]);
        assert_eq!(after(Keep::All(2), 9999, output), ["c", "{\"_cache\":true}"]);
        assert_eq!(
            after(Keep::All(99), 9999, output),
            ["a", "b", "{\"_except\":1}", "c", "{\"_cache\":true}"]
        );
        assert_eq!(after(Keep::Tagged(9), 9999, output), ["{\"_cache\":true}"]);
    }

    #[test]
    fn bytes_are_bounded_and_the_last_message_always_stays() {
        let lines = (0..1000).map(|n| format!("{n:0>50}")).collect::<Vec<_>>().join("\n") + "\n";
        let kept = after(Keep::All(65_536), 10_000, &lines);
        assert!(kept.len() < 10_000 / 50 && kept.len() > 50);
        assert_eq!(kept.last().map(String::as_str), Some(format!("{:0>50}", 999).as_str()));
        assert_eq!(after(Keep::All(9), 1, &lines).len(), 1);
        let kept = after(Keep::All(65_536), 1 << 20, &lines);
        assert_eq!(kept.len(), 1000);
        assert!(kept.iter().zip(lines.lines()).all(|(kept, line)| kept == line));
    }

    #[test]
    fn those_who_join_share_what_is_replayed() {
        let mut history = History::new(Keep::All(65_536), 2 << 20);
        let frame = [&[0x81, 100], &[b'x'; 100][..]].concat();
        for _ in 0..10_000 {
            history.push(&frame, 65_536);
        }
        let (one, other): (Vec<_>, Vec<_>) = (history.replay().collect(), history.replay().collect());
        let copied = |replay: &[(Arc<Batch>, Range<usize>)]| -> usize {
            let own = replay.iter().filter(|(batch, _)| Arc::strong_count(batch) == 1);
            own.map(|(batch, _)| batch.memory()).sum()
        };
        assert!(copied(&one) <= 2 * CHUNK, "{}", copied(&one));
        assert_eq!(one.iter().map(|(_, part)| part.len()).sum::<usize>(), 10_000 * frame.len());
        assert_eq!(one.len(), other.len());
    }
}
