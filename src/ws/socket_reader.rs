//! The stream that tungstenite uses: reads from the client's socket, writes to its sink.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use super::ahead::{Filled, Given, Inlet};
use super::pieces::{Need, header_length, payload_length};
use crate::room::Member;
use crate::sink::PARTIAL;
use crate::sys::limits::{MapGuard, Maps};

/// The opcode of a close frame (RFC 6455 §5.2).
const CLOSE: u8 = 0x08;

/// The first byte of a pong's head: final, opcode 10 (RFC 6455 §5.2).
const PONG: u8 = 0x8a;

/// "Bad gateway": registered with IANA after RFC 6455. tungstenite does not know it and reports 1002.
const BAD_GATEWAY: u16 = 1014;

/// Memory maps of a large message: the frame that is read, the message that is assembled, and the line for the program.
const BUFFER_MAPS: u64 = 3;

/// Reads wait at most for the receive time-out of the socket; writes never wait.
pub(super) struct SocketReader<'a> {
    member: &'a Member,
    inlet: Inlet,
    /// Where memory maps for large messages are reserved.
    maps: Arc<Maps>,
    large: Option<MapGuard>,
    /// When bytes last arrived.
    heard: Instant,
    /// When a read returns, even if bytes keep arriving and no message ends, so that the clock is checked.
    interrupt_at: Option<Instant>,
    frames: FrameTracker,
}

impl<'a> SocketReader<'a> {
    /// `rest` is what arrived after the request, `limit` the largest frame that is allowed.
    pub(super) fn new(member: &'a Member, rest: Vec<u8>, limit: usize, maps: &Arc<Maps>) -> Self {
        let mut frames = FrameTracker::default();
        frames.track(&rest);
        let (inlet, maps) = (Inlet::new(rest, limit), Arc::clone(maps));
        Self { member, inlet, maps, large: None, heard: Instant::now(), interrupt_at: None, frames }
    }

    /// When bytes last arrived.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// The first read after this time returns `WouldBlock`.
    pub(super) fn interrupt_at(&mut self, at: Option<Instant>) {
        self.interrupt_at = at;
    }

    /// Whether nothing has arrived after this number of messages and control frames.
    pub(super) fn is_read_out(&self, items: u64) -> bool {
        self.frames.is_between_messages() && self.frames.items == items
    }

    /// Whether more messages and control frames than this have arrived completely.
    pub(super) fn has_more(&self, items: u64) -> bool {
        self.frames.items > items
    }

    /// The code of the client's close frame, for which tungstenite reports `code`.
    pub(super) fn close_code(&self, code: u16) -> u16 {
        self.frames.closed_with.filter(|&sent| sent == BAD_GATEWAY).unwrap_or(code)
    }

    /// Whether the client sends much, so that its buffers are kept. A read that times out ends this.
    pub(super) fn is_busy(&self) -> bool {
        self.inlet.ahead.is_busy()
    }

    /// Whether tungstenite has to be renewed before the next read.
    pub(super) fn needs_renewal(&self) -> bool {
        self.inlet.pieces.need() == Some(Need::NewBuffer)
    }

    /// tungstenite was renewed.
    pub(super) fn renewed(&mut self) {
        self.inlet.pieces.renew();
    }

    /// Whether a read has failed because there were no memory maps.
    pub(super) fn lacks_maps(&self) -> bool {
        self.inlet.pieces.need() == Some(Need::Maps)
    }

    /// Releases the memory maps of large messages, unless tungstenite may still have one. The message must be dropped.
    pub(super) fn give_back_maps(&mut self) {
        if self.large.is_some() && !self.inlet.pieces.is_large() {
            self.large = None;
            self.inlet.pieces.revoke();
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<Filled> {
        let was_busy = self.is_busy();
        let Self { member, inlet, heard, frames, interrupt_at, .. } = self;
        let came = inlet.ahead.fill(buffer, |into| {
            loop {
                match member.client().stream.read(into) {
                    // Any thread can receive a signal, and with SO_RCVTIMEO the kernel does not restart the
                    // call (signal(7)).
                    Err(Errno::INTR) => {}
                    Err(e) if cfg!(feature = "tls") && e == PARTIAL => {
                        *heard = Instant::now();
                        if interrupt_at.take_if(|at| *heard >= *at).is_some() {
                            return Err(io::ErrorKind::WouldBlock.into());
                        }
                    }
                    Ok(0) => return Ok(0),
                    Ok(read) => {
                        *heard = Instant::now();
                        frames.track(&into[..read]);
                        return Ok(read);
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        })?;
        if self.is_busy() && !was_busy {
            // The next read must have the time-out of a busy client, even if this message never ends.
            self.interrupt_at = Some(self.heard);
        }
        Ok(came)
    }
}

impl Read for SocketReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.interrupt_at.take_if(|at| self.heard >= *at).is_some() {
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
                    Filled::Bytes(0) | Filled::Ahead(0) => return Ok(0),
                    Filled::Ahead(_) => {}
                    Filled::Bytes(read) => {
                        let unchanged = self.inlet.pass_unchanged(&buffer[..read]);
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
    /// tungstenite writes only pongs, each in one call (its answer to a close is never flushed: `close` sends the
    /// answer). They are sent before queued data.
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

/// Follows the headers of frames (RFC 6455 §5.2), to know where messages end. It checks nothing; tungstenite does.
#[derive(Debug, Default)]
struct FrameTracker {
    head: [u8; 14],
    /// Bytes of the head that have arrived.
    have: usize,
    /// Bytes of the payload that are missing.
    left: u64,
    /// Between the fragments of a message.
    inside: bool,
    /// Messages and control frames that have arrived completely.
    items: u64,
    /// The first two bytes of a close frame, unmasked.
    code: [u8; 2],
    /// The code of the first close frame that had one.
    closed_with: Option<u16>,
}

impl FrameTracker {
    fn is_between_messages(&self) -> bool {
        self.have == 0 && !self.inside
    }

    fn track(&mut self, mut bytes: &[u8]) {
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

    /// Reads the code from a part of a close frame's payload: its first two bytes (RFC 6455 §5.5.1). tungstenite rejects
    /// control frames that are unmasked or too long.
    fn note_code(&mut self, part: &[u8]) {
        let (at, mask) = (self.payload_length() - self.left, self.head_length().saturating_sub(4));
        for (index, byte) in (at..2).zip(part) {
            let index = index as usize;
            self.code[index] = byte ^ self.head[mask + index];
        }
    }

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
            let mut frames = FrameTracker::default();
            let mut items = 0;
            for ((bytes, between), (first, _)) in stream.iter().zip(between).zip(parts) {
                for chunk in bytes.chunks(step) {
                    frames.track(chunk);
                }
                items += u64::from(first & 0x80 != 0);
                assert_eq!((frames.is_between_messages(), frames.items), (between, items), "steps of {step}");
            }
            let mut frames = FrameTracker::default();
            let all = stream.concat();
            for chunk in all.chunks(step) {
                frames.track(chunk);
            }
            assert_eq!((frames.items, frames.is_between_messages()), (5, true));
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
                let mut frames = FrameTracker::default();
                for chunk in stream.chunks(step) {
                    frames.track(chunk);
                }
                assert_eq!(frames.closed_with.is_some(), code.is_some(), "steps of {step}");
                if stream[1] & 0x80 != 0 {
                    assert_eq!(frames.closed_with, code, "steps of {step}");
                }
            }
        }
    }
}
