//! The websocket protocol as far as a client that measures needs it (RFC 6455): an opening handshake with
//! one fixed key, masked messages with a number in them, and the server's frames one after the other.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, Stream};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::secure;

/// How long nothing may come before something counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The key and the answer of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What every message is masked with; a key of zero might be spared the work.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Digits of the number that a message begins with.
pub(crate) const DIGITS: usize = 16;

/// The request for a room.
pub(crate) fn request(address: SocketAddr, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// The answer to it, for a server that knows no more than this.
pub(crate) fn answer() -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .into_bytes()
}

/// Length of a whole answer at the start of `bytes`, if it is there.
///
/// # Errors
/// When it is not a 101 to the fixed key.
pub(crate) fn answer_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if head.split(' ').nth(1) != Some("101") || !head.contains(ACCEPT) {
        let first = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("refused: {first}")));
    }
    Ok(Some(end + 4))
}

/// A frame of the server's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.opcode, 0..=2)
    }
}

/// Head and payload length of the frame at the start of `bytes`, if all of it is there; `mask` is 4 for a
/// client's frames, 0 for a server's.
fn frame_at(bytes: &[u8], mask: usize) -> Option<(usize, usize)> {
    let number = |range: std::ops::Range<usize>| {
        Some(bytes.get(range)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    };
    let (head, length) = match bytes.get(1)? & 0x7f {
        126 => (4 + mask, number(2..4)?),
        127 => (10 + mask, number(2..10)?),
        length => (2 + mask, usize::from(length)),
    };
    (bytes.len() >= head + length).then_some((head, length))
}

/// What has come and has not been looked at.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Inbox {
    /// One that takes at most this much with one read.
    pub(crate) fn new(room: usize) -> Self {
        Self { bytes: vec![0; room], from: 0, to: 0 }
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Option<Frame<'_>> {
        let bytes = &self.bytes[self.from..self.to];
        let (head, length) = frame_at(bytes, 0)?;
        self.from += head + length;
        Some(Frame { opcode: bytes[0] & 15, payload: &bytes[head..head + length] })
    }

    /// One read; an end of the stream is an error.
    pub(crate) fn fill(&mut self, mut stream: impl Read) -> io::Result<usize> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.from > 0 && self.to == self.bytes.len() {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.bytes.len() {
            // A frame larger than thought.
            self.bytes.resize(2 * self.to.max(64), 0);
        }
        let read = stream.read(&mut self.bytes[self.to..])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the connection"));
        }
        self.to += read;
        Ok(read)
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// Whether the answer to the handshake has come; takes it off.
    pub(crate) fn is_in(&mut self) -> io::Result<bool> {
        let Some(length) = answer_length(self.unread())? else { return Ok(false) };
        self.from += length;
        Ok(true)
    }
}

/// A client with a blocking socket that gives up after [`PATIENCE`].
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Inbox,
    tls: Option<Box<ClientConnection>>,
}

impl Client {
    /// Connects, with TLS if there is a configuration for it, and asks for `path`; `room` is what it takes with
    /// one read.
    pub(crate) fn open(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        path: &str,
        room: usize,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let tls = tls.map(secure::connection).transpose()?.map(Box::new);
        let mut client = Self { stream, inbox: Inbox::new(room.max(512)), tls };
        client.send(&request(address, path))?;
        while !client.inbox.is_in()? {
            client.fill()?;
        }
        Ok(client)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => {
                let mut stream = Stream::new(tls.as_mut(), &mut self.stream);
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        match &mut self.tls {
            None => self.inbox.fill(&self.stream),
            Some(tls) => self.inbox.fill(Stream::new(tls.as_mut(), &mut self.stream)),
        }
    }
}

/// Whether nothing has come for too long, or nothing is there now.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Messages of one size, each with its number at the beginning.
#[derive(Debug, Clone)]
pub(crate) struct Messages {
    /// A whole frame, masked, without its number.
    frame: Vec<u8>,
    head: usize,
    payload: Vec<u8>,
}

impl Messages {
    /// Text of `size` bytes, at least [`DIGITS`]; as binary messages if need be.
    pub(crate) fn new(size: usize, binary: bool) -> Self {
        let payload: Vec<u8> = (0..size.max(DIGITS)).map(|at| b'a' + (at % 26) as u8).collect();
        let mut frame = Vec::with_capacity(payload.len() + 14);
        put_head(if binary { Data::Binary } else { Data::Text }, Some(MASK), payload.len(), &mut frame);
        let head = frame.len();
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
        Self { frame, head, payload }
    }

    pub(crate) fn size(&self) -> usize {
        self.payload.len()
    }

    /// Bytes that a message takes on its way back.
    pub(crate) fn room(&self) -> usize {
        self.payload.len() + 10
    }

    /// Appends message `number` as a frame.
    pub(crate) fn put(&self, number: u64, out: &mut Vec<u8>) {
        let at = out.len() + self.head;
        out.extend_from_slice(&self.frame);
        for (index, digit) in digits(number).iter().enumerate() {
            out[at + index] = digit ^ MASK[index % 4];
        }
    }

    /// Message `number` as a frame.
    pub(crate) fn one(&self, number: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frame.len());
        self.put(number, &mut out);
        out
    }

    /// The number of a message that came back.
    ///
    /// # Errors
    /// When anything else of it is not as it was sent.
    pub(crate) fn number(&self, payload: &[u8]) -> io::Result<u64> {
        // There are servers that leave the end of the line in.
        let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
        let wrong = || io::Error::other(format!("a message came back damaged, {} bytes", payload.len()));
        if payload.len() != self.payload.len() || payload[DIGITS..] != self.payload[DIGITS..] {
            return Err(wrong());
        }
        payload[..DIGITS].iter().try_fold(0, |number, &digit| match digit {
            b'a'..=b'p' => Ok(number << 4 | u64::from(digit - b'a')),
            _ => Err(wrong()),
        })
    }
}

/// Sixteen letters for a number: four bits each.
fn digits(number: u64) -> [u8; DIGITS] {
    std::array::from_fn(|index| b'a' + (number >> (60 - 4 * index) & 15) as u8)
}

/// Follows the numbers that one client gets: what is missing, and that none comes twice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Order {
    pub(crate) next: u64,
    pub(crate) lost: u64,
}

impl Order {
    /// Takes note of a number.
    ///
    /// # Errors
    /// When it came before, or out of turn.
    pub(crate) fn take(&mut self, number: u64) -> io::Result<()> {
        if number < self.next {
            return Err(io::Error::other(format!("message {number} came after {}", self.next - 1)));
        }
        self.lost += number - self.next;
        self.next = number + 1;
        Ok(())
    }
}

/// Time since then, in nanoseconds.
pub(crate) fn nanoseconds(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

/// A close frame with code 1000.
pub(crate) fn close() -> Vec<u8> {
    let mut frame = vec![0x88, 0x82];
    frame.extend_from_slice(&MASK);
    frame.extend([0x03 ^ MASK[0], 0xe8 ^ MASK[1]]);
    frame
}

/// Gives each whole message in `bytes`, unmasked in place; says how many bytes they took. For servers that
/// know no more than this: text of any size, in one frame each, up to a close.
pub(crate) fn unmask_whole(bytes: &mut [u8], mut each: impl FnMut(&[u8])) -> usize {
    let mut at = 0;
    loop {
        let rest = &mut bytes[at..];
        let Some((head, length)) = frame_at(rest, 4) else { return at };
        if rest[0] & 15 == 8 {
            return at;
        }
        let mask = [rest[head - 4], rest[head - 3], rest[head - 2], rest[head - 1]];
        let payload = &mut rest[head..head + length];
        let (fours, last) = payload.as_chunks_mut::<4>();
        for four in fours {
            *four = (u32::from_ne_bytes(*four) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
        }
        for (byte, mask) in last.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        each(payload);
        at += head + length;
    }
}

/// Appends a server's text frame.
pub(crate) fn frame(payload: &[u8], out: &mut Vec<u8>) {
    put_head(Data::Text, None, payload.len(), out);
    out.extend_from_slice(payload);
}

fn put_head(opcode: Data, mask: Option<[u8; 4]>, length: usize, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode: OpCode::Data(opcode), mask, ..FrameHeader::default() };
    // Writing to a vector cannot fail.
    let _ = header.format(length as u64, out);
}
