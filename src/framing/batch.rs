//! Frames that are encoded once for many clients. Pure.

use std::ops::Range;

/// Whole frames, one after the other.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// Where each frame ends.
    pub ends: Vec<usize>,
    /// Bytes of all frame heads.
    heads: usize,
}

/// Messages, and the bytes of their payload.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    pub messages: u64,
    pub bytes: u64,
}

impl Volume {
    pub fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    pub fn take_back(&mut self, less: Self) {
        self.messages -= less.messages;
        self.bytes -= less.bytes;
    }
}

impl Batch {
    /// Adds a frame: `write` appends its head and `payload` bytes.
    pub fn push(&mut self, payload: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.heads += self.bytes.len() - start - payload;
    }

    /// Adds a whole frame.
    pub fn push_frame(&mut self, frame: &[u8]) {
        self.push(frame.len() - head_length(frame), |bytes| bytes.extend_from_slice(frame));
    }

    /// Removes all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.heads = 0;
    }

    /// The messages in a part, which begins and ends between two frames.
    pub fn volume(&self, part: &Range<usize>) -> Volume {
        if part.start == 0 && part.end == self.bytes.len() {
            let bytes = (self.bytes.len() - self.heads) as u64;
            return Volume { messages: self.ends.len() as u64, bytes };
        }
        let first = self.ends.partition_point(|&end| end <= part.start);
        let mut volume = Volume::default();
        let mut start = part.start;
        for &end in self.ends[first..].iter().take_while(|&&end| end <= part.end) {
            let frame = &self.bytes[start..end];
            volume.messages += 1;
            volume.bytes += (frame.len() - head_length(frame)) as u64;
            start = end;
        }
        volume
    }

    /// Where frame `index` is.
    pub fn range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// Bytes of the head of an unmasked frame (RFC 6455 §5.2).
fn head_length(frame: &[u8]) -> usize {
    match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::heads::{Kind, encode};

    #[test]
    fn the_volume_of_a_part_is_that_of_its_payloads() {
        let mut batch = Batch::default();
        let lengths = [0, 1, 125, 126, 65_535, 65_536];
        for length in lengths {
            encode(&mut batch, Kind::Binary, &vec![7; length]);
        }
        for from in 0..lengths.len() {
            for to in from..=lengths.len() {
                let start = if from == 0 { 0 } else { batch.ends[from - 1] };
                let end = if to == 0 { 0 } else { batch.ends[to - 1] };
                let bytes = lengths[from..to].iter().sum::<usize>() as u64;
                let wanted = Volume { messages: (to - from) as u64, bytes };
                assert_eq!(batch.volume(&(start..end)), wanted, "{from}..{to}");
            }
        }
        let mut copy = Batch::default();
        (0..lengths.len()).for_each(|index| copy.push_frame(&batch.bytes[batch.range(index)]));
        assert_eq!(copy.volume(&(0..copy.bytes.len())), batch.volume(&(0..batch.bytes.len())));
    }
}
