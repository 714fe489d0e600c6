//! gwsocket's binary framing: a header of twelve bytes, all big-endian, then the payload. Pure.
//!
//! ```text
//! u32 client | u32 type | u32 length | payload
//! ```
//!
//! From the program: type 1 text, 2 binary; client 0 is everybody. To the program: the same for messages,
//! and 16 when a client came (its address in 46 bytes, padded with NUL), 8 when it left (no payload).

use std::fmt;

use super::heads::Kind;

/// Bytes of the header.
const HEADER: usize = 12;

/// Bytes of the address in an open notice: `INET6_ADDRSTRLEN`.
const ADDRESS: usize = 46;

const TEXT: u32 = 0x01;
const BINARY: u32 = 0x02;
const CLOSE: u32 = 0x08;
const OPEN: u32 = 0x10;

/// The header of a client's message. A client's number that does not fit 32 bits is cut: that is after
/// four thousand million clients.
pub fn message(client: u64, kind: Kind, length: usize) -> [u8; HEADER] {
    header(client, if kind == Kind::Text { TEXT } else { BINARY }, length)
}

/// The notice that a client came.
pub fn open(client: u64, address: &str) -> Vec<u8> {
    let mut notice = header(client, OPEN, ADDRESS).to_vec();
    let address = address.as_bytes();
    notice.extend_from_slice(&address[..address.len().min(ADDRESS - 1)]);
    notice.resize(HEADER + ADDRESS, 0);
    notice
}

/// The notice that a client left.
pub fn close(client: u64) -> Vec<u8> {
    header(client, CLOSE, 0).to_vec()
}

fn header(client: u64, kind: u32, length: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(client as u32).to_be_bytes());
    header[4..8].copy_from_slice(&kind.to_be_bytes());
    header[8..].copy_from_slice(&(length as u32).to_be_bytes());
    header
}

/// A message of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Whom it is for; 0 is everybody.
    pub client: u64,
    /// Text or binary.
    pub kind: Kind,
    /// What it says.
    pub payload: &'a [u8],
}

/// The program broke the framing: from here on nothing it says can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A packet of an unknown type.
    Type(u32),
    /// A packet longer than allowed, in bytes.
    Length(u32),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "a packet of the unknown type {kind:#x} (1 is text, 2 binary)"),
            Self::Length(length) => write!(f, "a packet of {length} bytes, more than --maxline"),
        }
    }
}

/// Cuts the program's output into packets, by their length, however the bytes come.
#[derive(Debug)]
pub struct Packets {
    partial: Vec<u8>,
    limit: usize,
}

impl Packets {
    /// Payloads may have this many bytes.
    pub fn new(limit: usize) -> Self {
        Self { partial: Vec::new(), limit }
    }

    /// Takes the next bytes and gives each packet that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut packet: impl FnMut(Packet<'_>)) -> Result<(), Broken> {
        loop {
            if self.partial.is_empty() {
                let Some((whole, length)) = self.first(bytes)? else { break };
                packet(whole);
                bytes = &bytes[length..];
                continue;
            }
            // A packet that came in parts: its header first, then as much as that says.
            let wanted = match self.length(&self.partial)? {
                None => HEADER,
                Some(length) => HEADER + length,
            };
            let step = (wanted - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..step]);
            bytes = &bytes[step..];
            if self.partial.len() < wanted {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.partial);
            match self.first(&whole)? {
                Some((complete, _)) => packet(complete),
                None => self.partial = whole,
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes of a packet that has begun and not ended.
    pub fn unfinished(&self) -> usize {
        self.partial.len()
    }

    /// The packet at the start of `bytes`, and its length with its header.
    fn first<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Packet<'a>, usize)>, Broken> {
        let Some(length) = self.length(bytes)? else { return Ok(None) };
        let Some(payload) = bytes.get(HEADER..HEADER + length) else { return Ok(None) };
        let kind = if word(bytes, 4) == TEXT { Kind::Text } else { Kind::Binary };
        Ok(Some((Packet { client: u64::from(word(bytes, 0)), kind, payload }, HEADER + length)))
    }

    /// What the header at the start of `bytes` announces, once it is whole.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        if bytes.len() < HEADER {
            return Ok(None);
        }
        match (word(bytes, 4), word(bytes, 8)) {
            (TEXT | BINARY, length) if length as usize <= self.limit => Ok(Some(length as usize)),
            (TEXT | BINARY, length) => Err(Broken::Length(length)),
            (kind, _) => Err(Broken::Type(kind)),
        }
    }
}

/// The big-endian word at `at`, of a header that is whole.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(client: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(u64::from(client), kind, payload.len()).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn notices_and_messages_have_gwsockets_layout() {
        assert_eq!(message(258, Kind::Text, 3), [0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 3]);
        assert_eq!(message(1, Kind::Binary, 65_536), [0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 0]);
        let notice = open(7, "127.0.0.1");
        assert_eq!(notice[..12], [0, 0, 0, 7, 0, 0, 0, 0x10, 0, 0, 0, 46]);
        assert_eq!(notice.len(), 12 + 46);
        assert_eq!(&notice[12..22], b"127.0.0.1\0");
        assert_eq!(open(7, &"x".repeat(99)).len(), 12 + 46);
        assert_eq!(close(7), [0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0]);
    }

    #[test]
    fn packets_are_the_same_however_the_bytes_come() {
        let long = vec![9; 300];
        let wanted: [(u32, u32, &[u8]); 5] =
            [(0, 1, b"hello\n"), (3, 2, b""), (3, 2, &long), (4, 1, b""), (u32::MAX, 1, b"x")];
        let stream: Vec<u8> = wanted.iter().flat_map(|&(to, kind, text)| packet(to, kind, text)).collect();
        for step in (1..40).chain([100, 311, 312, 313, 1000]) {
            let mut decoder = Packets::new(300);
            let mut got = Vec::new();
            for chunk in stream.chunks(step) {
                decoder
                    .push(chunk, |packet| {
                        let kind = if packet.kind == Kind::Text { 1 } else { 2 };
                        got.push((packet.client as u32, kind, packet.payload.to_vec()));
                    })
                    .expect("good framing");
            }
            assert_eq!(got.len(), wanted.len(), "steps of {step}");
            assert!(got.iter().zip(wanted).all(|(got, wanted)| (got.0, got.1, &got.2[..]) == wanted));
            assert_eq!(decoder.unfinished(), 0);
        }
    }

    #[test]
    fn a_broken_framing_is_told_and_never_allocated() {
        for step in [1, 5, 12, 100] {
            let broken = |bytes: &[u8]| {
                let mut decoder = Packets::new(10);
                let result = bytes.chunks(step).try_for_each(|chunk| decoder.push(chunk, |_| ()));
                assert!(decoder.partial.capacity() < 100);
                result.expect_err("broken")
            };
            assert_eq!(broken(&packet(1, 3, b"")), Broken::Type(3));
            assert_eq!(broken(&packet(1, 0x0100_0000, b"")), Broken::Type(0x0100_0000));
            assert_eq!(broken(&packet(1, 1, &[0; 11])), Broken::Length(11));
            assert_eq!(broken(&[[0, 0, 0, 1, 0, 0, 0, 2], [0xff; 8]].concat()), Broken::Length(u32::MAX));
        }
    }

    #[test]
    fn memory_follows_what_has_come_and_not_what_a_header_announces() {
        const LIMIT: usize = 16 << 20;
        let mut decoder = Packets::new(LIMIT);
        let (mut come, mut got) = (HEADER, 0);
        decoder.push(&message(0, Kind::Binary, LIMIT), |_| got += 1).expect("as long as allowed");
        for chunk in vec![7; LIMIT].chunks(64 * 1024) {
            assert!(decoder.partial.capacity() <= 2 * come, "{} of {come}", decoder.partial.capacity());
            decoder.push(chunk, |packet| got += packet.payload.len()).expect("good framing");
            come += chunk.len();
        }
        assert_eq!((got, decoder.partial.capacity()), (LIMIT, 0), "nothing is kept");
    }
}
