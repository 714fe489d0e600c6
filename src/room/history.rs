//! The messages that are replayed to clients that join. Bounded in number and bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::framing::batch::Batch;
use crate::framing::output::Decoded;
use crate::framing::rooms::Rooms;
use crate::recipe::Keep;

/// What an entry costs beside its bytes.
const ENTRY: usize = 64;

/// Bytes of frames that are kept together, so that clients that join share them.
const CHUNK: usize = 32 * 1024;

/// See the module's documentation.
///
/// A message with `_to` is not kept: ids are never reused, so no later client may see it. One with `_except` is kept
/// for all later clients.
#[derive(Debug)]
pub(super) struct History {
    keep: Keep,
    /// Bytes that may be held; the last message is always kept.
    bound: usize,
    /// Frames in order. The chunks are full and do not change any more: clients that join share them.
    chunks: VecDeque<Arc<Batch>>,
    /// The newest frames. A client that joins gets a copy, because more of them are added.
    tail: Batch,
    /// How many frames at the beginning of the oldest chunk are not kept any more.
    expired: usize,
    frames: usize,
    /// Frames that are for some rooms alone: the number of the frame, counted from the first ever, and the rooms. In
    /// order.
    named: VecDeque<(u64, Rooms)>,
    /// Frames that were dropped, ever.
    dropped: u64,
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
            named: VecDeque::new(),
            dropped: 0,
            bytes_held: 0,
        }
    }

    /// Adds what is to be kept of a batch.
    pub(super) fn add(&mut self, batch: &Batch, decoded: &Decoded) {
        let is_public = |&index: &usize| decoded.addresses.is_public(index);
        let (kept, most): (Vec<usize>, _) = match self.keep {
            Keep::Nothing => return,
            Keep::All(most) => ((0..batch.ends.len()).rev().filter(is_public).take(most).collect(), most),
            Keep::Tagged(most) => {
                (decoded.tagged.iter().copied().rev().filter(is_public).take(most).collect(), most)
            }
        };
        for index in kept.into_iter().rev() {
            let named = decoded.rooms.binary_search_by_key(&index, |&(named, _)| named);
            self.push(&batch.bytes[batch.range(index)], named.ok().map(|at| &decoded.rooms[at].1), most);
        }
    }

    fn push(&mut self, frame: &[u8], rooms: Option<&Rooms>, most: usize) {
        if !self.tail.ends.is_empty() && self.tail.bytes.len() + frame.len() > CHUNK {
            let mut full = std::mem::take(&mut self.tail);
            // It is shared for long. And a queue copies a part of a batch that takes much more memory than the part.
            full.bytes.shrink_to_fit();
            full.ends.shrink_to_fit();
            self.chunks.push_back(Arc::new(full));
        }
        if let Some(rooms) = rooms {
            self.bytes_held += rooms.memory();
            self.named.push_back((self.dropped + self.frames as u64, rooms.clone()));
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
        if self.named.front().is_some_and(|&(number, _)| number == self.dropped)
            && let Some((_, rooms)) = self.named.pop_front()
        {
            self.bytes_held -= rooms.memory();
        }
        self.frames -= 1;
        self.dropped += 1;
        self.expired += 1;
        if self.expired == oldest.ends.len() {
            self.expired = 0;
            if self.chunks.pop_front().is_none() {
                self.tail = Batch::default();
            }
        }
    }

    /// What is kept for a client that joins this room, in order: parts of batches.
    pub(super) fn replay(&self, room: &str) -> Vec<(Arc<Batch>, Range<usize>)> {
        let tail = (!self.tail.ends.is_empty()).then(|| Arc::new(self.tail.clone()));
        let mut parts = Vec::new();
        // The number of the first frame of a chunk, and the first one of the chunk that is not replayed yet.
        let (mut number, mut next) = (self.dropped - self.expired as u64, self.expired);
        for batch in self.chunks.iter().cloned().chain(tail) {
            let start = |index: usize| index.checked_sub(1).map_or(0, |before| batch.ends[before]);
            let end = number + batch.ends.len() as u64;
            let named = self.named.range(self.named.partition_point(|&(named, _)| named < number)..);
            for (named, rooms) in named.take_while(|&&(named, _)| named < end) {
                if !rooms.contains(room) {
                    let hidden = usize::try_from(named - number).unwrap_or(usize::MAX);
                    if next < hidden {
                        parts.push((Arc::clone(&batch), start(next)..start(hidden)));
                    }
                    next = hidden + 1;
                }
            }
            if next < batch.ends.len() {
                parts.push((Arc::clone(&batch), start(next)..batch.bytes.len()));
            }
            (number, next) = (end, 0);
        }
        parts
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
        let history = filled(keep, bound, output);
        let texts = seen(&history, "room");
        assert_eq!(texts.len(), history.frames);
        let bytes: usize = texts.iter().map(|text| text.len() + 2 + ENTRY).sum();
        assert_eq!(bytes, history.bytes_held());
        texts
    }

    fn filled(keep: Keep, bound: usize, output: &str) -> History {
        let framing =
            Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true, room: true };
        let (mut decoder, mut history) = (Decoder::new(&framing, 1 << 20), History::new(keep, bound));
        for chunk in output.as_bytes().chunks(100) {
            let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
            decoder.push(chunk, &mut batch, &mut decoded);
            history.add(&batch, &decoded);
        }
        history
    }

    /// What a client that joins this room gets.
    fn seen(history: &History, room: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for (batch, part) in history.replay(room) {
            let frames = (0..batch.ends.len()).map(|index| batch.range(index));
            let kept = frames.filter(|at| at.start >= part.start && at.end <= part.end);
            texts.extend(kept.map(|at| String::from_utf8(batch.bytes[at][2..].to_vec()).expect("text")));
        }
        texts
    }

    #[test]
    fn a_message_for_some_rooms_is_replayed_in_these_alone_and_dropped_in_its_turn() {
        let to = |rooms: &str, n: usize| format!("{{\"_room\":{rooms},\"n\":{n}}}");
        let (a, b, both, none) = (to("\"a\"", 1), to("\"b\"", 2), to("[\"a\",\"b\"]", 3), to("[]", 4));
        let lines = [&*a, "all", &*b, &*both, &*none, "end"];
        let output = lines.join("\n") + "\n";
        let history = filled(Keep::All(99), 9999, &output);
        assert_eq!(seen(&history, "a"), [&*a, "all", &*both, "end"]);
        assert_eq!(seen(&history, "b"), ["all", &*b, &*both, "end"]);
        assert_eq!(seen(&history, "c"), ["all", "end"]);

        let history = filled(Keep::All(4), 9999, &output);
        assert_eq!(seen(&history, "a"), [&*both, "end"]);
        assert_eq!(seen(&history, "b"), [&*b, &*both, "end"]);
        assert_eq!(history.named.len(), 3);
        let history = filled(Keep::All(1), 9999, &output);
        assert_eq!((history.named.len(), history.bytes_held()), (0, 5 + ENTRY));

        // Over many chunks, of which the oldest are dropped.
        let lines: Vec<_> = (0..5000).map(|n| to(if n % 3 == 0 { "\"a\"" } else { "\"b\"" }, n)).collect();
        let history = filled(Keep::All(4000), 9_999_999, &(lines.join("\n") + "\n"));
        for (room, is_for) in [("a", true), ("b", false)] {
            let wanted = (1000..5000).filter(|n| (n % 3 == 0) == is_for).map(|n| lines[n].clone());
            assert_eq!(seen(&history, room), wanted.collect::<Vec<_>>(), "{room}");
        }
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
    fn clients_that_join_share_what_is_replayed() {
        let mut history = History::new(Keep::All(65_536), 2 << 20);
        let frame = [&[0x81, 100], &[b'x'; 100][..]].concat();
        for _ in 0..10_000 {
            history.push(&frame, None, 65_536);
        }
        let (one, other): (Vec<_>, Vec<_>) = (history.replay("room"), history.replay("room"));
        let copied = |replay: &[(Arc<Batch>, Range<usize>)]| -> usize {
            let own = replay.iter().filter(|(batch, _)| Arc::strong_count(batch) == 1);
            own.map(|(batch, _)| batch.memory()).sum()
        };
        assert!(copied(&one) <= 2 * CHUNK, "{}", copied(&one));
        assert_eq!(one.iter().map(|(_, part)| part.len()).sum::<usize>(), 10_000 * frame.len());
        assert_eq!(one.len(), other.len());
    }
}
