//! What tungstenite reads from and writes to: the client's socket, and its sink.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use super::ahead::{Came, Given, Inlet};
use super::pieces::{Need, header_length, payload_length};
use crate::room::Member;
use crate::sys::limits::{MapGuard, Maps};

/// The opcode of a close frame (RFC 6455 §5.2).
const CLOSE: u8 = 0x08;

/// The first byte of a pong's head: final, opcode 10 (RFC 6455 §5.2).
const PONG: u8 = 0x8a;

/// "Bad gateway": registered with IANA after RFC 6455, and unknown to tungstenite, which hands it over as 1002.
const BAD_GATEWAY: u16 = 1014;

/// Memory maps that large messages take: the one that is read, the one that is put together, and the line that is
/// made of it.
const BUFFER_MAPS: u64 = 3;

/// Reads block, for as long as the socket's receive time-out says; writes never do.
pub(super) struct SocketReader<'a> {
    member: &'a Member,
    inlet: Inlet,
    /// The memory maps of a large message. Without them it is not read on.
    maps: Arc<Maps>,
    large: Option<MapGuard>,
    /// When bytes last came.
    heard: Instant,
    /// When the clock has to be looked at, even if bytes keep coming and no message ends.
    look_at: Option<Instant>,
    walk: Walk,
}

impl<'a> SocketReader<'a> {
    /// A client's stream, with what came behind its request. `limit` is the largest frame that is allowed.
    pub(super) fn new(member: &'a Member, rest: Vec<u8>, limit: usize, maps: &Arc<Maps>) -> Self {
        let mut walk = Walk::default();
        walk.go(&rest);
        let (inlet, maps) = (Inlet::new(rest, limit), Arc::clone(maps));
        Self { member, inlet, maps, large: None, heard: Instant::now(), look_at: None, walk }
    }

    /// When bytes last came.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// A read that comes after this, once, says that it would block.
    pub(super) fn look_at(&mut self, at: Option<Instant>) {
        self.look_at = at;
    }

    /// Whether a reader of so many messages and control frames holds no byte of another one.
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
        self.inlet.ahead.is_busy()
    }

    /// Whether no read brings anything before tungstenite, which holds nothing, has been set up anew.
    pub(super) fn needs_renewal(&self) -> bool {
        self.inlet.pieces.need() == Some(Need::NewBuffer)
    }

    /// tungstenite has been set up anew.
    pub(super) fn renewed(&mut self) {
        self.inlet.pieces.renew();
    }

    /// Whether a read has failed for want of memory maps.
    pub(super) fn lacks_maps(&self) -> bool {
        self.inlet.pieces.need() == Some(Need::Maps)
    }

    /// Gives back the memory maps of large messages, unless there may still be one. What was made of them must be
    /// gone.
    pub(super) fn give_back_maps(&mut self) {
        if self.large.is_some() && !self.inlet.pieces.is_large() {
            self.large = None;
            self.inlet.pieces.revoke();
        }
    }

    fn is_to_look(&mut self) -> bool {
        self.look_at.take_if(|at| self.heard >= *at).is_some()
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Came> {
        let was_busy = self.is_busy();
        let Self { member, inlet, heard, walk, .. } = self;
        let came = inlet.ahead.fill(buffer, |into| {
            loop {
                match member.client().stream.read(into) {
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
        Ok(came)
    }
}

impl Read for SocketReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_to_look() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match self.inlet.give(buffer) {
                Given::Bytes(given) => return Ok(given),
                Given::Nothing(Some(Need::NewBuffer)) => return Err(io::ErrorKind::WouldBlock.into()),
                Given::Nothing(Some(Need::Maps)) => {
                    let held = self.maps.reserve_maps(BUFFER_MAPS).ok_or(io::ErrorKind::OutOfMemory)?;
                    self.large = Some(held);
                    self.inlet.pieces.grant();
                }
                Given::Nothing(None) => match self.fill(buffer)? {
                    Came::Bytes(0) | Came::Ahead(0) => return Ok(0),
                    Came::Ahead(_) => {}
                    Came::Bytes(read) => {
                        let unchanged = self.inlet.let_pass(&buffer[..read]);
                        if unchanged > 0 {
                            return Ok(unchanged);
                        }
                    }
                },
            }
        }
    }
}

impl Write for SocketReader<'_> {
    /// All that tungstenite writes by itself are pongs, each whole (its answers to a close are never
    /// flushed: a close is answered by `close`). They go ahead of queued data.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.first() == Some(&PONG) {
            self.member.watch(self.member.client().sink.pong(bytes.to_vec()));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows the frames of a stream by their heads (RFC 6455 §5.2), to know where messages end. It checks
/// nothing: tungstenite does that.
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

    /// As far as the bytes that are there show.
    fn head_length(&self) -> usize {
        header_length(&self.head[..self.have])
    }

    fn payload_length(&self) -> u64 {
        payload_length(&self.head)
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
