//! The framing of a relay, which is a pipe to ourselves: the sender, the length and the kind of each message, then the
//! message. Pure.
//!
//! ```text
//! u64 sender | u64 length | u8 kind | message
//! ```

use super::broken::Broken;
use super::heads::Kind;
use super::packets;

/// Bytes of the header.
pub const HEADER: usize = 17;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// The header of a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub sender: u64,
    pub kind: Kind,
}

impl Header {
    pub fn bytes(self, length: usize) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&self.sender.to_be_bytes());
        bytes[8..16].copy_from_slice(&(length as u64).to_be_bytes());
        bytes[16] = if self.kind == Kind::Text { TEXT } else { BINARY };
        bytes
    }
}

impl packets::Header for Header {
    const MAX: usize = HEADER;

    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize, u64)>, Broken> {
        let Some(bytes) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let number =
            |at: usize| bytes[at..at + 8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let kind = match bytes[16] {
            TEXT => Kind::Text,
            BINARY => Kind::Binary,
            other => return Err(Broken::Type(other.into())),
        };
        Ok(Some((Self { sender: number(0), kind }, HEADER, number(8))))
    }
}
