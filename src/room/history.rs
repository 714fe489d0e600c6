//! What a room remembers of its program's messages, for those who come later. Bounded in number and bytes.

use std::collections::VecDeque;

use crate::config::Keep;
use crate::framing::output::{Found, range};
use crate::sink::Batch;

/// What an entry costs beside its bytes.
const ENTRY: usize = 64;

/// See the module's documentation.
///
/// A private message is not kept: numbers are never used again, so it is for nobody who comes later. One
/// that leaves somebody out leaves out nobody who comes later.
#[derive(Debug)]
pub(super) struct History {
    keep: Keep,
    /// Bytes of frames that may be kept; the last one always is.
    bound: usize,
    frames: VecDeque<Box<[u8]>>,
    held: usize,
}

impl History {
    pub(super) fn new(keep: Keep, bound: usize) -> Self {
        Self { keep, bound, frames: VecDeque::new(), held: 0 }
    }

    /// Takes over what is to be kept of a batch.
    pub(super) fn add(&mut self, batch: &Batch, found: &Found) {
        match self.keep {
            Keep::Nothing => {}
            Keep::All(most) => {
                let public = (0..batch.ends.len()).rev().filter(|&index| found.addresses.is_public(index));
                let mut last: Vec<_> = public.take(most).collect();
                last.reverse();
                for index in last {
                    self.push(&batch.bytes[range(batch, index)], most);
                }
            }
            Keep::Tagged(most) => {
                for &index in found.tagged.iter().filter(|&&index| found.addresses.is_public(index)) {
                    self.push(&batch.bytes[range(batch, index)], most);
                }
            }
        }
    }

    fn push(&mut self, frame: &[u8], most: usize) {
        self.held += frame.len() + ENTRY;
        self.frames.push_back(frame.into());
        while self.frames.len() > most || (self.held > self.bound && self.frames.len() > 1) {
            if let Some(oldest) = self.frames.pop_front() {
                self.held -= oldest.len() + ENTRY;
            }
        }
    }

    /// All that is kept, in order, for one who joins; `None` if there is nothing.
    pub(super) fn replay(&self) -> Option<Batch> {
        if self.frames.is_empty() {
            return None;
        }
        let mut batch = Batch::default();
        for frame in &self.frames {
            batch.bytes.extend_from_slice(frame);
            batch.ends.push(batch.bytes.len());
        }
        Some(batch)
    }

    /// Bytes of memory that it holds, more or less.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.frames, self.held) = (VecDeque::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::config::Output;
    use crate::framing::output::Decoder;

    fn after(keep: Keep, bound: usize, output: &str) -> Vec<String> {
        let framing = Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true };
        let (mut decoder, mut history) = (Decoder::new(&framing, 1 << 20), History::new(keep, bound));
        for chunk in output.as_bytes().chunks(100) {
            let (mut batch, mut found) = (Batch::default(), Found::default());
            decoder.push(chunk, &mut batch, &mut found);
            history.add(&batch, &found);
        }
        let Some(batch) = history.replay() else { return Vec::new() };
        let text = |part: Range<usize>| String::from_utf8(batch.bytes[part][2..].to_vec()).expect("text");
        (0..batch.ends.len()).map(|index| text(range(&batch, index))).collect()
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
    }
}
