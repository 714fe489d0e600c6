//! Websocket frames that wait for one client, and the control frames that may overtake them. Pure.
//!
//! Two rules hold here: a control frame goes ahead of data but never inside a frame that is half-written, and at least
//! one data frame goes between two control frames.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use super::queue::Queue;
use super::state::Pending;
use crate::framing::batch::{Batch, Volume};
use crate::framing::heads::Control;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct FrameQueue {
    data: Queue,
    /// How many bytes of the data are a replay. It comes first.
    replay: usize,
    /// Bytes of the newest message.
    newest: usize,
    /// Bytes that are left of the data frame that is half-written.
    begun: usize,
    /// The control frame or the handshake that is being written, and how much of it is written.
    urgent: Option<(Control, usize)>,
    ping: Option<Control>,
    pong: Option<Control>,
    /// A control frame went last: data goes before the next one.
    data_is_due: bool,
}

impl FrameQueue {
    pub(super) fn bytes_held(&self) -> usize {
        self.data.bytes_held()
    }

    /// Bytes of data that wait.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// Bytes that wait before the newest message, a replay not counted. This decides whether the client is slow: so one
    /// message always fits, whatever its size.
    pub(super) fn backlog(&self) -> usize {
        self.data.len().saturating_sub(self.replay + self.newest)
    }

    /// Appends a part of a batch, which ends where a message ends.
    pub(super) fn push_shared(&mut self, batch: &Arc<Batch>, range: Range<usize>) {
        let last = batch.ends.partition_point(|&end| end < range.end);
        let start = last.checked_sub(1).map_or(0, |before| batch.ends[before]);
        self.newest = range.end - start.max(range.start);
        self.data.push_shared(batch, range);
    }

    /// Appends a part of what is replayed to a client that joins, before anything else.
    pub(super) fn push_replay(&mut self, batch: &Arc<Batch>, range: Range<usize>) {
        self.replay += range.len();
        self.data.push_shared(batch, range);
    }

    /// Appends the frames of a part for which there is room below `bound`; says how many had to be dropped.
    pub(super) fn push_what_fits(&mut self, batch: &Batch, part: Range<usize>, bound: usize) -> Volume {
        let (mut from, mut dropped) = (part.start, Volume::default());
        let first = batch.ends.partition_point(|&end| end <= part.start);
        for &end in batch.ends[first..].iter().take_while(|&&end| end <= part.end) {
            // A frame that is half-written is finished, and one message always fits.
            let begun = self.begun > 0 && self.is_empty();
            if begun || self.data.len() - self.replay < bound {
                self.push_message(&batch.bytes[from..end]);
            } else {
                dropped.add(batch.volume(&(from..end)));
            }
            from = end;
        }
        dropped
    }

    /// Appends one message, or the rest of one, as a copy.
    fn push_message(&mut self, message: &[u8]) {
        self.newest = message.len();
        self.data.push_copy(message);
    }

    /// Appends a close frame and drops pings and pongs that are not begun: nothing may follow a close.
    pub(super) fn push_close(&mut self, frame: &[u8]) {
        self.data.push_copy(frame);
        (self.ping, self.pong) = (None, None);
    }

    /// Notes that `written` bytes of the frames in `bytes` went out before anything was queued, the
    /// last of them perhaps in part.
    pub(super) fn note_direct_write(&mut self, bytes: &[u8], written: usize) {
        walk(&mut self.begun, bytes, written);
    }

    /// Sets what goes ahead of all frames, while the queue is still empty.
    pub(super) fn set_handshake(&mut self, bytes: Vec<u8>) {
        self.urgent = Some((bytes, 0));
    }

    /// Sets the ping to send at the next end of a frame; the latest one wins.
    pub(super) fn set_ping(&mut self, frame: Control) {
        self.ping = Some(frame);
    }

    /// Sets the pong to send at the next end of a frame; the latest one wins (RFC 6455 §5.5.3).
    pub(super) fn set_pong(&mut self, frame: Control) {
        self.pong = Some(frame);
    }

    /// Drops everything but the control frame and the data frame that are half-written.
    pub(super) fn keep_only_begun(&mut self) {
        (self.ping, self.pong) = (None, None);
        self.data.truncate(self.begun);
        (self.replay, self.newest) = (0, 0);
    }
}

impl Pending for FrameQueue {
    fn is_empty(&self) -> bool {
        self.data.is_empty() && self.urgent.is_none() && self.ping.is_none() && self.pong.is_none()
    }

    fn next<'a>(&'a mut self, limit: usize, slices: &mut Vec<IoSlice<'a>>) {
        if self.urgent.is_none() && self.begun == 0 && (!self.data_is_due || self.data.is_empty()) {
            self.urgent = self.pong.take().or_else(|| self.ping.take()).map(|control| (control, 0));
        }
        if let Some((control, at)) = &self.urgent {
            slices.push(IoSlice::new(&control[*at..]));
        }
        // A control frame waits: write no further than the end of this data frame.
        let overtaken = self.urgent.is_none() && (self.ping.is_some() || self.pong.is_some());
        let limit = match self.data.first() {
            Some(first) if overtaken && self.begun == 0 => frame_length(first),
            Some(_) if overtaken => self.begun,
            _ => limit,
        };
        self.data.slices(limit, slices);
    }

    fn advance(&mut self, mut written: usize) {
        if let Some((control, at)) = &mut self.urgent {
            let step = written.min(control.len() - *at);
            *at += step;
            written -= step;
            if *at < control.len() {
                return;
            }
            self.urgent = None;
            self.data_is_due = true;
        }
        if written > 0 {
            let begun = &mut self.begun;
            self.data.take_off(written, |rest, step| walk(begun, rest, step));
            self.data_is_due = false;
            self.replay = self.replay.saturating_sub(written);
        }
        if self.data.is_empty() {
            (self.replay, self.newest) = (0, 0);
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Moves `written` bytes forward through the frames in `bytes`; `begun` is what is left of the current one.
fn walk(begun: &mut usize, bytes: &[u8], written: usize) {
    let mut at = 0;
    while at < written {
        if *begun == 0 {
            *begun = frame_length(&bytes[at..]);
        }
        let step = (*begun).min(written - at);
        *begun -= step;
        at += step;
    }
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
    use super::super::queue::tests::{batch, drain, frame};
    use super::*;

    #[test]
    fn whatever_the_steps_frames_come_out_whole_and_control_frames_between_them() {
        let long = vec![b'x'; 300];
        let longest = vec![b'y'; 150_000];
        let data: [&[u8]; 5] = [b"one", b"", &long, b"four", &longest];
        let (ping, pong) = (vec![0x89, 1, b'i'], vec![0x8a, 2, b'o', b'o']);
        for step in [1, 2, 3, 7, 100, 301, 1 << 20] {
            for (cut, copied) in [0, 1, 4, 5, 9, 200].into_iter().flat_map(|cut| [(cut, false), (cut, true)])
            {
                let mut queue = FrameQueue::default();
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
            let mut queue = FrameQueue::default();
            queue.note_direct_write(&all.bytes, cut);
            queue.push_shared(&all, cut..all.bytes.len());
            queue.set_ping(vec![0x89, 0]);
            queue.keep_only_begun();
            assert_eq!(drain(&mut queue, 2), &all.bytes[cut..cut + rest], "cut {cut}");
        }
        let all = batch(&[&vec![b'x'; 200_000], b"second"]);
        for (cut, written) in [(5, 0), (0, 1), (0, 70_000), (100, 150_000)] {
            let mut queue = FrameQueue::default();
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
    fn one_message_and_a_replay_always_fit_and_what_is_written_counts_no_more() {
        let old = batch(&[&vec![1; 50_000]]);
        let (small, large) = (batch(&[&[2; 100], &[3; 100]]), batch(&[&vec![4; 70_000]]));
        let mut queue = FrameQueue::default();
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
}
