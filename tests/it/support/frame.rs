//! Websocket frames (RFC 6455 §5.2), written out here once more: the tests must not read with the eyes of
//! the library that the server speaks with, and must be able to write what is wrong.

/// Opcodes.
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The first bit of a frame: the last one of its message.
pub(crate) const FIN: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame with this first byte.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64, true);
    let start = frame.len();
    frame.extend_from_slice(payload);
    for (byte, mask) in frame[start..].iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= mask;
    }
    frame
}

/// A frame as only a server may send it.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, payload.len() as u64, false), payload.to_vec()].concat()
}

/// The head of a frame, with the mask behind it if there is to be one; any length may be claimed.
pub(crate) fn head(first: u8, length: u64, mask: bool) -> Vec<u8> {
    let bit = if mask { 0x80 } else { 0 };
    let mut head = vec![first];
    match length {
        0..=125 => head.push(bit | length as u8),
        126..=0xffff => {
            head.push(bit + 126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head.push(bit + 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    if mask {
        head.extend_from_slice(&MASK);
    }
    head
}

pub(crate) fn text(message: &str) -> Vec<u8> {
    masked(FIN | TEXT, message.as_bytes())
}

pub(crate) fn binary(message: &[u8]) -> Vec<u8> {
    masked(FIN | BINARY, message)
}

pub(crate) fn ping(payload: &[u8]) -> Vec<u8> {
    masked(FIN | PING, payload)
}

pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    masked(FIN | CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

pub(crate) fn close_without_code() -> Vec<u8> {
    masked(FIN | CLOSE, b"")
}

/// A frame of the server: opcode and payload. All of ours are whole messages, unmasked.
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// The first frame in `bytes`, and how many bytes it takes; `None` when more has to come.
///
/// # Panics
/// When it is none that a server may send, or not as short as it can be written.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "no extension was agreed on: {first:#x}");
    assert_eq!(first & FIN, FIN, "the server does not fragment: {first:#x}");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let opcode = first & 0x0f;
    let (length, start) = match second {
        126 => {
            let length = u16::from_be_bytes(bytes.get(2..4)?.try_into().expect("two bytes"));
            assert!(length > 125, "a length of {length} in three bytes");
            (length as usize, 4)
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes"));
            assert!(length > 0xffff, "a length of {length} in nine bytes");
            (usize::try_from(length).expect("a length that fits"), 10)
        }
        short => (short as usize, 2),
    };
    assert!([TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode), "opcode {opcode}");
    assert!(opcode < CLOSE || length <= 125, "a control frame of {length} bytes");
    let payload = bytes.get(start..start + length)?.to_vec();
    Some((Frame { opcode, payload }, start + length))
}
