//! gwsocket's binary framing: a header of twelve bytes, all big-endian, then the payload. Pure.
//!
//! ```text
//! u32 client | u32 type | u32 length | payload
//! ```
//!
//! From the program: type 1 is text, 2 binary; client 0 is all clients. To the program: the same for messages, 16 when
//! a client has joined (its address in 46 bytes, padded with NUL), 8 when it has left (no payload).

use super::broken::Broken;
use super::heads::Kind;
use super::packets;

/// Bytes of the header.
const HEADER: usize = 12;

/// Bytes of the address in an open notice: `INET6_ADDRSTRLEN`.
const ADDRESS: usize = 46;

const TEXT: u32 = 0x01;
const BINARY: u32 = 0x02;
const CLOSE: u32 = 0x08;
const OPEN: u32 = 0x10;

/// The header of a client's message. An id of more than 32 bits is cut: that is after four thousand million clients.
pub fn message(client: u64, kind: Kind, length: usize) -> [u8; HEADER] {
    header(client, if kind == Kind::Text { TEXT } else { BINARY }, length)
}

/// The notice that a client has joined.
pub fn open(client: u64, address: &str) -> Vec<u8> {
    let mut notice = header(client, OPEN, ADDRESS).to_vec();
    let address = address.as_bytes();
    notice.extend_from_slice(&address[..address.len().min(ADDRESS - 1)]);
    notice.resize(HEADER + ADDRESS, 0);
    notice
}

/// The notice that a client has left.
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

/// The header of a message of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The client that it is for; 0 is all clients.
    pub client: u64,
    pub kind: Kind,
}

impl packets::Header for Header {
    const MAX: usize = HEADER;

    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize, u64)>, Broken> {
        if bytes.len() < HEADER {
            return Ok(None);
        }
        let kind = match word(bytes, 4) {
            TEXT => Kind::Text,
            BINARY => Kind::Binary,
            kind => return Err(Broken::Type(kind)),
        };
        Ok(Some((Self { client: word(bytes, 0).into(), kind }, HEADER, word(bytes, 8).into())))
    }
}

/// The big-endian word at `at` of a complete header.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use packets::Packets;

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
            let mut decoder = Packets::<Header>::new(300);
            let mut got = Vec::new();
            for chunk in stream.chunks(step) {
                decoder
                    .push(chunk, |header, payload| {
                        let kind = if header.kind == Kind::Text { 1 } else { 2 };
                        got.push((header.client as u32, kind, payload.to_vec()));
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
                let mut decoder = Packets::<Header>::new(10);
                let result = bytes.chunks(step).try_for_each(|chunk| decoder.push(chunk, |_, _| ()));
                assert!(decoder.memory() < 100);
                result.expect_err("broken")
            };
            assert_eq!(broken(&packet(1, 3, b"")), Broken::Type(3));
            assert_eq!(broken(&packet(1, 0x0100_0000, b"")), Broken::Type(0x0100_0000));
            assert_eq!(broken(&packet(1, 1, &[0; 11])), Broken::Length(11));
            assert_eq!(
                broken(&[[0, 0, 0, 1, 0, 0, 0, 2], [0xff; 8]].concat()),
                Broken::Length(u32::MAX.into())
            );
        }
    }

    #[test]
    fn memory_follows_what_has_come_and_not_what_a_header_announces() {
        const LIMIT: usize = 16 << 20;
        let mut decoder = Packets::<Header>::new(LIMIT);
        let (mut come, mut got) = (HEADER, 0);
        decoder.push(&message(0, Kind::Binary, LIMIT), |_, _| got += 1).expect("as long as allowed");
        for chunk in vec![7; LIMIT].chunks(64 * 1024) {
            assert!(decoder.memory() <= 2 * come, "{} of {come}", decoder.memory());
            decoder.push(chunk, |_, payload| got += payload.len()).expect("good framing");
            come += chunk.len();
        }
        assert_eq!((got, decoder.memory()), (LIMIT, 0), "nothing is kept");
    }
}
