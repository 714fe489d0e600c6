//! What tungstenite reads from and writes to: the client's socket, and its sink.

use std::io::{self, Read, Write};
use std::time::Instant;

use rustix::io::Errno;

use crate::room::Member;

/// The first byte of a pong's head: final, opcode 10 (RFC 6455 §5.2).
const PONG: u8 = 0x8a;

/// Reads block, for as long as the socket's receive time-out says; writes never do.
pub(super) struct Stream<'a> {
    member: &'a Member,
    /// What came behind the request.
    rest: Vec<u8>,
    /// When bytes last came.
    heard: Instant,
    /// When the clock has to be looked at, even if bytes keep coming and no message ends.
    look_at: Option<Instant>,
    walk: Walk,
}

impl<'a> Stream<'a> {
    /// A client's stream, with what came behind its request.
    pub(super) fn new(member: &'a Member, rest: Vec<u8>) -> Self {
        Self { member, rest, heard: Instant::now(), look_at: None, walk: Walk::default() }
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
        self.rest.is_empty() && self.walk.is_between_messages() && self.walk.items == items
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.look_at.is_some_and(|at| self.heard >= at) {
            self.look_at = None;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = if self.rest.is_empty() {
            loop {
                match self.member.client().door.read(buffer) {
                    // A signal: any thread may be the one that takes it, and SO_RCVTIMEO forbids the
                    // kernel to restart the call (signal(7)).
                    Err(Errno::INTR) => {}
                    result => break result?,
                }
            }
        } else {
            let read = self.rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&self.rest[..read]);
            self.rest.drain(..read);
            read
        };
        if read > 0 {
            self.heard = Instant::now();
            self.walk.go(&buffer[..read]);
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
                self.left -= step as u64;
                bytes = &bytes[step..];
            }
            if self.left == 0 {
                let (last, control) = (self.head[0] & 0x80 != 0, self.head[0] & 0x08 != 0);
                self.items += u64::from(last);
                if !control {
                    self.inside = !last;
                }
                self.have = 0;
            }
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
}
