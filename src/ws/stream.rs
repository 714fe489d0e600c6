//! What tungstenite reads from and writes to: the client's socket, and its sink.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Instant;

use rustix::io::Errno;

use crate::room::Member;

/// The opcode of a close frame (RFC 6455 §5.2).
const CLOSE: u8 = 0x08;

/// The first byte of a pong's head: final, opcode 10 (RFC 6455 §5.2).
const PONG: u8 = 0x8a;

/// "Bad gateway": registered with IANA after RFC 6455, and unknown to tungstenite, which hands it over as 1002.
const BAD_GATEWAY: u16 = 1014;

/// What tungstenite reads at a time, and holds for each client, in bytes; with musl's own it is 1008, which is
/// one of its sizes.
pub(super) const READ_BUFFER: usize = 1000;

/// What is read at a time of a client that sends much, in bytes.
const AHEAD: usize = 64 * 1024;

/// After so many small reads in a row a client sends much no more.
const SMALL_READS: u32 = 16;

/// Reads block, for as long as the socket's receive time-out says; writes never do.
pub(super) struct Stream<'a> {
    member: &'a Member,
    ahead: Ahead,
    /// When bytes last came.
    heard: Instant,
    /// When the clock has to be looked at, even if bytes keep coming and no message ends.
    look_at: Option<Instant>,
    walk: Walk,
}

impl<'a> Stream<'a> {
    /// A client's stream, with what came behind its request.
    pub(super) fn new(member: &'a Member, rest: Vec<u8>) -> Self {
        let mut walk = Walk::default();
        walk.go(&rest);
        Self { member, ahead: Ahead::new(rest), heard: Instant::now(), look_at: None, walk }
    }

    /// When bytes last came.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// A read that comes after this, once, says that it would block.
    pub(super) fn look_at(&mut self, at: Option<Instant>) {
        self.look_at = at;
    }

    /// Whether whoever has read so many messages and control frames holds no byte of another one.
    pub(super) fn is_read_out(&self, items: u64) -> bool {
        self.walk.is_between_messages() && self.walk.items == items
    }

    /// Whether more messages and control frames than that have come whole.
    pub(super) fn has_more(&self, items: u64) -> bool {
        self.walk.items > items
    }

    /// The code of the client's close frame, which tungstenite has read as `code`.
    pub(super) fn close_code(&self, code: u16) -> u16 {
        self.walk.closed_with.filter(|&sent| sent == BAD_GATEWAY).unwrap_or(code)
    }

    /// Whether the client sends much, so that buffers are kept for it; a read that times out ends that.
    pub(super) fn is_busy(&self) -> bool {
        self.ahead.is_busy()
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.look_at.is_some_and(|at| self.heard >= at) {
            self.look_at = None;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let was_busy = self.is_busy();
        let Self { member, ahead, heard, walk, .. } = self;
        let read = ahead.read(buffer, |into| {
            loop {
                match member.client().door.read(into) {
                    // A signal: any thread may be the one that takes it, and SO_RCVTIMEO forbids the
                    // kernel to restart the call (signal(7)).
                    Err(Errno::INTR) => {}
                    Ok(0) => return Ok(0),
                    Ok(read) => {
                        *heard = Instant::now();
                        walk.go(&into[..read]);
                        return Ok(read);
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        })?;
        if self.is_busy() && !was_busy {
            // The read after this one must not wait for longer than a busy client is waited for, even if this
            // message never ends.
            self.look_at = Some(self.heard);
        }
        Ok(read)
    }
}

impl Write for Stream<'_> {
    /// All that tungstenite writes by itself are pongs, each whole (its answers to a close are never
    /// flushed: a close is ours to answer). They go ahead of queued data.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.first() == Some(&PONG) {
            self.member.mind(self.member.client().sink.pong(bytes.to_vec()));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was read of a socket before it was asked for. tungstenite reads in steps of one size for good and
/// holds a buffer of that size: a small one for the sake of those who are idle, and this one for the sake of
/// those who are not.
#[derive(Debug)]
struct Ahead {
    /// Only a client that sends much has one.
    buffer: Vec<u8>,
    /// Where in it the bytes are.
    full: Range<usize>,
    /// Reads in a row that brought no more than a small buffer holds.
    small_reads: u32,
}

impl Ahead {
    fn new(bytes: Vec<u8>) -> Self {
        Self { full: 0..bytes.len(), buffer: bytes, small_reads: SMALL_READS }
    }

    fn is_busy(&self) -> bool {
        self.small_reads < SMALL_READS
    }

    /// Gives what is here; if nothing is, has `read` fill a buffer: this one or, for a client that sends
    /// little, the caller's.
    fn read(
        &mut self,
        into: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.full.is_empty() {
            if !self.is_busy() {
                // Before the read, which may take hours.
                self.buffer = Vec::new();
                let read = read(into)?;
                if read >= READ_BUFFER {
                    self.small_reads = 0;
                }
                return Ok(read);
            }
            if self.buffer.len() < AHEAD {
                self.buffer = vec![0; AHEAD];
            }
            let read = read(&mut self.buffer).inspect_err(|_| self.small_reads = SMALL_READS)?;
            self.small_reads = if read > READ_BUFFER { 0 } else { self.small_reads + 1 };
            self.full = 0..read;
        }
        let step = self.full.len().min(into.len());
        into[..step].copy_from_slice(&self.buffer[self.full.start..][..step]);
        self.full.start += step;
        Ok(step)
    }
}

/// Follows the frames of a stream by their heads (RFC 6455 §5.2), to know where messages end. It judges
/// nothing: that is tungstenite's.
#[derive(Debug, Default)]
struct Walk {
    head: [u8; 14],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
    /// A message has begun with a frame that is not its last.
    inside: bool,
    /// Messages and control frames that have come whole.
    items: u64,
    /// The first two bytes of a close frame, unmasked.
    code: [u8; 2],
    /// What they said in the first close frame that had any.
    closed_with: Option<u16>,
}

impl Walk {
    fn is_between_messages(&self) -> bool {
        self.have == 0 && !self.inside
    }

    fn go(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.have < self.head_length() {
                self.head[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                if self.have < self.head_length() {
                    continue;
                }
                self.left = self.payload_length();
            } else {
                let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                if self.head[0] & 0x0f == CLOSE {
                    self.note_code(&bytes[..step]);
                }
                self.left -= step as u64;
                bytes = &bytes[step..];
            }
            if self.left == 0 {
                let (last, control) = (self.head[0] & 0x80 != 0, self.head[0] & 0x08 != 0);
                self.items += u64::from(last);
                if self.head[0] & 0x0f == CLOSE && self.payload_length() >= 2 {
                    self.closed_with.get_or_insert(u16::from_be_bytes(self.code));
                }
                if !control {
                    self.inside = !last;
                }
                self.have = 0;
            }
        }
    }

    /// A part of a close frame's payload: its first two bytes are the code (RFC 6455 §5.5.1). Control frames
    /// that are unmasked or long are errors that tungstenite sees.
    fn note_code(&mut self, part: &[u8]) {
        let (at, mask) = (self.payload_length() - self.left, self.head_length().saturating_sub(4));
        for (index, byte) in (at..2).zip(part) {
            let index = index as usize;
            self.code[index] = byte ^ self.head[mask + index];
        }
    }

    /// As far as it can be told from what is there.
    fn head_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        mask + match self.head[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn payload_length(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        match self.head[1] & 0x7f {
            126 => number(&self.head[2..4]),
            127 => number(&self.head[2..10]),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(0x80 | length as u8),
            126..65_536 => {
                bytes.push(0xfe);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0xff);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + 4 + length, 0x5a);
        bytes
    }

    fn would_block() -> io::Error {
        io::ErrorKind::WouldBlock.into()
    }

    /// A socket that has `chunks` to give, each in as many reads as it takes, and a time-out after each.
    fn socket(chunks: &[Vec<u8>]) -> impl FnMut(&mut [u8]) -> io::Result<usize> {
        let mut chunks: Vec<Vec<u8>> = chunks.iter().rev().cloned().collect();
        move |into| {
            let chunk = chunks.last_mut().ok_or_else(would_block)?;
            if chunk.is_empty() {
                chunks.pop();
                return Err(would_block());
            }
            let read = chunk.len().min(into.len());
            into[..read].copy_from_slice(&chunk[..read]);
            chunk.drain(..read);
            Ok(read)
        }
    }

    #[test]
    fn bytes_come_out_as_they_came_in_whatever_the_steps_and_a_time_out_loses_none() {
        let all: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        for (behind, chunk) in [(0, 1), (10, 999), (2000, 1000), (0, 1001), (5, 70_000), (0, 300_000)] {
            for step in [1, 14, 1000, 4096, 100_000] {
                let chunks: Vec<Vec<u8>> = all[behind..].chunks(chunk).map(<[u8]>::to_vec).collect();
                let (mut read, mut time_outs) = (socket(&chunks), 0);
                let mut ahead = Ahead::new(all[..behind].to_vec());
                let (mut out, mut into) = (Vec::new(), vec![0; step]);
                while time_outs < chunks.len() {
                    match ahead.read(&mut into, &mut read) {
                        Ok(read) => out.extend_from_slice(&into[..read]),
                        Err(_) => time_outs += 1,
                    }
                }
                assert!(out == all, "chunks of {chunk}, steps of {step}");
            }
        }
    }

    #[test]
    fn a_buffer_is_held_for_those_who_send_much_and_by_nobody_who_waits_for_long() {
        let mut into = [0; READ_BUFFER];
        let mut ahead = Ahead::new(b"behind the request".to_vec());
        ahead.read(&mut into, |_| unreachable!("there is something")).expect("bytes");
        let little = |into: &mut [u8]| Ok(into.len().min(100));
        ahead.read(&mut into, little).expect("bytes");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, false));

        let much = |into: &mut [u8]| Ok(into.len());
        ahead.read(&mut into, much).expect("bytes");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, true), "only when there is more");
        ahead.read(&mut into, much).expect("bytes");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (AHEAD, true));
        while !ahead.full.is_empty() {
            ahead.read(&mut into, |_| unreachable!("there is something")).expect("bytes");
        }
        ahead.read(&mut into, |_| Err(would_block())).expect_err("a time-out");
        ahead.read(&mut into, |_| Err(would_block())).expect_err("a time-out");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, false), "a time-out ends it");

        ahead.read(&mut into, much).expect("bytes");
        for _ in 0..=SMALL_READS {
            ahead.read(&mut into, little).expect("bytes");
        }
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, false), "so do small reads");
    }

    #[test]
    fn messages_are_counted_however_the_bytes_come() {
        // Two messages, one in three frames with a ping between them, an empty one, a close.
        let parts = [(0x81, 5), (0x02, 300), (0x00, 0), (0x89, 7), (0x80, 70_000), (0x82, 0), (0x88, 2)];
        let between = [true, false, false, false, true, true, true];
        let stream: Vec<Vec<u8>> = parts.iter().map(|&(first, length)| frame(first, length)).collect();
        for step in [1, 2, 3, 13, 4096, 100_000] {
            let mut walk = Walk::default();
            let mut items = 0;
            for ((bytes, between), (first, _)) in stream.iter().zip(between).zip(parts) {
                for chunk in bytes.chunks(step) {
                    walk.go(chunk);
                }
                items += u64::from(first & 0x80 != 0);
                assert_eq!((walk.is_between_messages(), walk.items), (between, items), "steps of {step}");
            }
            let mut walk = Walk::default();
            let all = stream.concat();
            for chunk in all.chunks(step) {
                walk.go(chunk);
            }
            assert_eq!((walk.items, walk.is_between_messages()), (5, true));
        }
    }

    #[test]
    fn the_code_of_the_first_close_is_known_however_the_bytes_come() {
        let close = |code: u16, mask: [u8; 4]| {
            let [high, low] = code.to_be_bytes();
            [&[0x88, 0x83][..], &mask, &[high ^ mask[0], low ^ mask[1], b'!' ^ mask[2]]].concat()
        };
        let empty = vec![0x88, 0x80, 1, 2, 3, 4];
        for (stream, code) in [
            ([frame(0x81, 5), close(1014, [9, 8, 7, 6])].concat(), Some(1014)),
            ([close(1000, [0; 4]), close(1014, [0; 4])].concat(), Some(1000)),
            (empty, None),
            (frame(0x82, 100), None),
            // A violation, and no panic.
            (vec![0x88, 0x02, 3, 0xf6], Some(0x0316)),
            (frame(0x88, 70_000), Some(0)),
        ] {
            for step in [1, 2, 3, 100] {
                let mut walk = Walk::default();
                for chunk in stream.chunks(step) {
                    walk.go(chunk);
                }
                assert_eq!(walk.closed_with.is_some(), code.is_some(), "steps of {step}");
                if stream[1] & 0x80 != 0 {
                    assert_eq!(walk.closed_with, code, "steps of {step}");
                }
            }
        }
    }
}
