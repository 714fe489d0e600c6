//! Messages as websocket frames (RFC 6455 §5): heads, pings and closes. Pure.

use std::borrow::Cow;

use tungstenite::protocol::frame::coding::{CloseCode, Control as ControlCode, Data, OpCode};
use tungstenite::protocol::frame::{FrameHeader, Utf8Bytes};
use tungstenite::protocol::{CloseFrame, frame::Frame};

use super::batch::Batch;

/// A control frame, whole: at most 2 bytes of head and 125 of payload (RFC 6455 §5.5).
pub type Control = Vec<u8>;

/// The kind of a message on the websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

/// Appends one message to a batch, as one unmasked frame. In text, bytes that are not UTF-8 become U+FFFD; says whether
/// there were any.
pub fn encode(batch: &mut Batch, kind: Kind, payload: &[u8]) -> bool {
    let (opcode, payload) = match kind {
        Kind::Text => (Data::Text, text(payload)),
        Kind::Binary => (Data::Binary, Cow::Borrowed(payload)),
    };
    let header = FrameHeader { opcode: OpCode::Data(opcode), ..FrameHeader::default() };
    batch.push(payload.len(), |bytes| {
        // Writing to a Vec cannot fail.
        let _ = header.format(payload.len() as u64, bytes);
        bytes.extend_from_slice(&payload);
    });
    matches!(payload, Cow::Owned(_))
}

/// The bytes as UTF-8, with bad ones replaced.
pub(super) fn text(payload: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(payload) {
        Ok(_) => Cow::Borrowed(payload),
        Err(_) => Cow::Owned(String::from_utf8_lossy(payload).into_owned().into_bytes()),
    }
}

pub fn ping() -> Control {
    vec![0x80 | u8::from(OpCode::Control(ControlCode::Ping)), 0]
}

/// A close frame with code and reason; a reason of more than 123 bytes is cut (RFC 6455 §5.5).
pub fn close(code: u16, reason: &str) -> Control {
    let end = (0..=reason.len().min(123)).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
    bytes(Frame::close(Some(CloseFrame {
        code: CloseCode::from(code),
        reason: Utf8Bytes::from(&reason[..end]),
    })))
}

/// A close frame without a code: the answer to one without a code.
pub fn close_without_code() -> Control {
    bytes(Frame::close(None))
}

fn bytes(frame: Frame) -> Control {
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to a Vec cannot fail.
    let _ = frame.format(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_heads_of_rfc_6455() {
        let mut batch = Batch::default();
        assert!(!encode(&mut batch, Kind::Text, b"Hello"));
        assert_eq!(batch.bytes, [0x81, 5, b'H', b'e', b'l', b'l', b'o']);
        assert!(!encode(&mut batch, Kind::Binary, &[0xff; 256]));
        assert_eq!(batch.bytes[7..12], [0x82, 126, 1, 0, 0xff]);
        assert!(!encode(&mut batch, Kind::Binary, &vec![0; 65_536]));
        assert_eq!(batch.bytes[267..278], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(batch.ends, [7, 267, 267 + 10 + 65_536]);
    }

    #[test]
    fn bad_utf8_is_replaced_and_told() {
        let mut batch = Batch::default();
        assert!(encode(&mut batch, Kind::Text, b"a\xff\xfeb"));
        assert_eq!(&batch.bytes[2..], "a\u{fffd}\u{fffd}b".as_bytes());
        assert!(!encode(&mut batch, Kind::Text, "ö".as_bytes()));
    }

    #[test]
    fn a_close_frame_holds_its_code_and_as_much_reason_as_fits() {
        assert_eq!(close(1000, ""), [0x88, 2, 3, 0xe8]);
        assert_eq!(close(1011, "no")[2..], [3, 0xf3, b'n', b'o']);
        let long = close(1011, &"ä".repeat(100));
        assert_eq!(long.len(), 2 + 2 + 122, "cut between two characters");
        assert_eq!(long[1], 124);
        assert_eq!(ping(), [0x89, 0]);
        assert_eq!(close_without_code(), [0x88, 0]);
    }
}
