//! Receives the head of a request, with a deadline and a limit in size.
//!
//! Data after the head is returned to the caller: it is the next request, or websocket frames in the same packet as the
//! upgrade.

use std::io;

use super::head::{Head, HeadError, MAX_HEAD};
use crate::sink::Stream;
use crate::sys::deadline::Deadline;

/// How much is read at once, in bytes. A usual head fits.
const CHUNK: usize = 1024;

/// Bytes of empty lines that are accepted before a request (RFC 9112 §2.2).
const MAX_EMPTY: usize = 16;

/// Receives a head. `input` is what was read after the previous head; returns what was read after this one.
///
/// A caller that allows a longer wait for the first byte than for the rest waits for the first
/// byte with [`Stream::is_readable_by`], unless there is `input`.
#[inline(never)]
pub fn receive(stream: &Stream, input: Vec<u8>, deadline: Deadline) -> Result<(Head, Vec<u8>), HeadError> {
    let mut buffer = input;
    let mut empty = 0;
    let mut parse = !buffer.is_empty();
    loop {
        if parse {
            empty += drop_empty_lines(&mut buffer);
            if empty > MAX_EMPTY {
                return Err(HeadError::Malformed("empty lines instead of a request"));
            }
            if let Some((head, length)) = Head::parse(&buffer)? {
                return Ok((head, buffer.split_off(length)));
            }
        }
        let had = buffer.len();
        if had >= MAX_HEAD {
            return Err(HeadError::TooLarge);
        }
        let mut chunk = [0; CHUNK];
        let most = CHUNK.min(MAX_HEAD - had);
        match stream.read_by(&mut chunk[..most], deadline) {
            Ok(0) if had == 0 => return Err(HeadError::Closed),
            Ok(0) => return Err(HeadError::Truncated),
            Ok(received) => buffer.extend_from_slice(&chunk[..received]),
            Err(e) if e.kind() == io::ErrorKind::TimedOut && had == 0 => return Err(HeadError::Idle),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(HeadError::TimedOut),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return Err(HeadError::NotTls),
            Err(e) => return Err(HeadError::Io(e)),
        }
        // Parse only when a line has ended, so that single bytes do not cost a parse each; and at the first bytes,
        // which show other protocols such as TLS.
        parse = had == 0 || memchr::memchr(b'\n', &buffer[had..]).is_some();
    }
}

/// Removes empty lines at the start; returns their number of bytes.
fn drop_empty_lines(buffer: &mut Vec<u8>) -> usize {
    let mut at = 0;
    loop {
        at += match &buffer[at..] {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => break,
        };
    }
    buffer.drain(..at);
    at
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

    use super::*;

    const REQUEST: &[u8] = b"GET /room?q HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n";

    fn far() -> Deadline {
        Deadline::after(Duration::from_secs(30))
    }

    /// Receives from a peer that sends `bytes` and then closes.
    fn from(bytes: &[u8]) -> Result<(Head, Vec<u8>), HeadError> {
        let (ours, mut theirs) = pair();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // The receiver may have had enough before the end.
                let _ = theirs.write_all(bytes);
            });
            let result = receive(&ours, Vec::new(), far());
            drop(ours);
            result
        })
    }

    /// A pair that keeps packets apart, so that each `recv` gets exactly what one `send` sent.
    fn packets() -> (Stream, Stream) {
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
        rustix::net::socketpair(kind.0, kind.1, SocketFlags::CLOEXEC, None)
            .map(|(ours, theirs)| (Stream::Socket(ours), Stream::Socket(theirs)))
            .expect("socketpair")
    }

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        (Stream::Socket(ours.into()), theirs)
    }

    #[test]
    fn one_byte_at_a_time_is_a_request_too() {
        let (ours, theirs) = packets();
        for byte in [b"\r\n\n", REQUEST].concat() {
            rustix::net::send(&theirs, &[byte], SendFlags::empty()).expect("send");
        }
        let (head, rest) = receive(&ours, Vec::new(), far()).expect("a head");
        assert_eq!((head.path(), head.query(), rest.len()), ("/room", Some("q"), 0));
    }

    #[test]
    fn what_came_behind_the_head_is_handed_on_and_taken_up_again() {
        let (ours, mut theirs) = pair();
        let frame = b"\x81\x80\x01\x02\x03\x04";
        theirs
            .write_all(&[b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\n", REQUEST, frame].concat())
            .expect("write");
        let (first, rest) = receive(&ours, Vec::new(), far()).expect("the first");
        assert_eq!(first.path(), "/1");
        // Nothing more comes: the second is in what was left over.
        let (second, rest) = receive(&ours, rest, Deadline::after(Duration::ZERO)).expect("the second");
        assert_eq!(second.path(), "/room");
        assert_eq!(rest, frame);
    }

    #[test]
    fn silence_and_half_a_request_are_different_errors() {
        let soon = || Deadline::after(Duration::ZERO);
        let (ours, mut theirs) = pair();
        assert!(matches!(receive(&ours, Vec::new(), soon()), Err(HeadError::Idle)));
        theirs.write_all(b"\r\n").expect("write");
        assert!(matches!(receive(&ours, Vec::new(), soon()), Err(HeadError::Idle)));
        theirs.write_all(b"GET / HT").expect("write");
        assert!(matches!(receive(&ours, Vec::new(), soon()), Err(HeadError::TimedOut)));
        assert!(matches!(from(b""), Err(HeadError::Closed)));
        assert!(matches!(from(b"\r\n"), Err(HeadError::Closed)));
        assert!(matches!(from(b"GET / HTTP/1.1\r\nHost: h\r\n"), Err(HeadError::Truncated)));
    }

    #[test]
    fn nonsense_is_refused_at_its_first_bytes() {
        // The peer keeps the connection open and sends no line end: only the first bytes show it.
        let (ours, mut theirs) = pair();
        theirs.write_all(b"\x16\x03\x01\x00\xa5").expect("write");
        assert!(matches!(receive(&ours, Vec::new(), far()), Err(HeadError::Malformed(_))));
    }

    #[test]
    fn the_bounds_hold_to_the_byte() {
        let sized = |size: usize| {
            let mut text = b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec();
            text.resize(size - 4, b'x');
            text.extend(b"\r\n\r\n");
            text
        };
        assert!(from(&sized(MAX_HEAD)).is_ok());
        assert!(matches!(from(&sized(MAX_HEAD + 1)), Err(HeadError::TooLarge)));
        assert!(matches!(from(&vec![b'a'; 3 * MAX_HEAD]), Err(HeadError::TooLarge)));
        assert!(matches!(from(b"a: b\r\n"), Err(HeadError::Malformed(_))));
        assert!(matches!(from(&b"\r\n".repeat(9)), Err(HeadError::Malformed(_))));
        assert!(from(&[&b"\r\n".repeat(8), REQUEST].concat()).is_ok());
        // The same when all of it was read before.
        let (ours, _theirs) = pair();
        let large = receive(&ours, sized(MAX_HEAD + 1), far());
        assert!(matches!(large, Err(HeadError::TooLarge)));
    }
}
