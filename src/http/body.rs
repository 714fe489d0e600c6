//! The body of a response: bytes, a part of a file, or pieces that are computed while they are sent.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::send::Sender;

/// How much of a body is in memory at the same time, in bytes.
const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
pub enum Body {
    Bytes(Vec<u8>),
    File(FilePart),
    /// A body whose length is not known.
    Computed(Computed),
}

/// A part of an open regular file.
#[derive(Debug)]
pub struct FilePart {
    pub file: OwnedFd,
    pub from: u64,
    pub length: u64,
}

/// Computes a body while it is sent: a peer that takes it slowly, or not at all, holds one piece of it.
pub type Pieces = Box<dyn Iterator<Item = Vec<u8>>>;

/// A body that is not yet computed to its end.
pub struct Computed {
    /// The part that was computed.
    first: Vec<u8>,
    rest: Pieces,
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computed").field("first", &self.first.len()).finish_non_exhaustive()
    }
}

/// How a response shows where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Known(u64),
    /// Chunks with their lengths; the last one is empty (RFC 9112 §7.1).
    Chunked,
    /// By the end of the connection: HTTP/1.0.
    UntilEnd,
}

impl Body {
    /// The pieces one after the other. A small body is computed here and has a known length.
    pub fn pieces(mut pieces: Pieces) -> Self {
        let mut first = Vec::new();
        while first.len() < CHUNK {
            match pieces.next() {
                Some(piece) => first.extend_from_slice(&piece),
                None => return Self::Bytes(first),
            }
        }
        Self::Computed(Computed { first, rest: pieces })
    }

    /// Its length, for a peer that may not know chunks (HTTP/1.0).
    pub fn length(&self, knows_chunks: bool) -> Length {
        match self {
            Self::Bytes(bytes) => Length::Known(bytes.len() as u64),
            Self::File(part) => Length::Known(part.length),
            Self::Computed(_) if knows_chunks => Length::Chunked,
            Self::Computed(_) => Length::UntilEnd,
        }
    }

    /// Sends the head and this body. The beginning is sent with the head, so that a small response is one packet and does
    /// not wait for the acknowledgement of its head (RFC 896).
    ///
    /// # Errors
    /// `UnexpectedEof` if the file became shorter. The length was announced, so only the end of the connection shows this
    /// to the peer (RFC 9112 §6.3).
    pub(super) fn send(self, sender: &mut Sender<'_>, mut head: Vec<u8>, length: Length) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                head.extend_from_slice(&bytes);
                sender.send_all(&head)
            }
            Self::File(part) => part.send(sender, head),
            Self::Computed(body) => body.send(sender, head, length == Length::Chunked),
        }
    }
}

impl Computed {
    fn send(mut self, sender: &mut Sender<'_>, head: Vec<u8>, chunked: bool) -> io::Result<()> {
        let (mut buffer, mut chunk) = (head, self.first);
        loop {
            if chunked {
                buffer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            }
            buffer.extend_from_slice(&chunk);
            if chunked {
                // For the last chunk, which is empty, this is the empty trailer.
                buffer.extend_from_slice(b"\r\n");
            }
            sender.send_all(&buffer)?;
            if chunk.is_empty() {
                return Ok(());
            }
            buffer.clear();
            chunk.clear();
            while chunk.len() < CHUNK
                && let Some(piece) = self.rest.next()
            {
                chunk.extend_from_slice(&piece);
            }
        }
    }
}

impl FilePart {
    /// Not with `sendfile`: on a blocking socket it waits without limit for the peer.
    fn send(&self, sender: &mut Sender<'_>, head: Vec<u8>) -> io::Result<()> {
        let (mut at, mut left) = (self.from, self.length);
        let (mut start, mut buffer) = (head.len(), head);
        let chunk = |left| usize::try_from(left).map_or(CHUNK, |left| CHUNK.min(left));
        buffer.resize(start + chunk(left), 0);
        loop {
            let end = start + chunk(left);
            let read = match rustix::io::pread(&self.file, &mut buffer[start..end], at) {
                Ok(0) if left > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            sender.send_all(&buffer[..start + read])?;
            at += read as u64;
            left -= read as u64;
            start = 0;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    use super::*;
    use crate::http::files::testing::Directory;
    use crate::http::send::Peer;
    use crate::sink::Stream;
    use crate::sys::deadline::Cutoff;

    /// What a peer gets of a response with that body, and how sending it ended.
    fn receive(body: Body, knows_chunks: bool) -> (io::Result<()>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        let ours = Stream::Socket(ours.into());
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut received = Vec::new();
                theirs.read_to_end(&mut received).expect("read");
                received
            });
            let peer = Peer { stream: &ours, cutoff: &Cutoff::new(), more: &[] };
            let length = body.length(knows_chunks);
            let result = body.send(&mut Sender::new(peer), b"head".to_vec(), length);
            drop(ours);
            (result, reader.join().expect("the reader"))
        })
    }

    #[test]
    fn a_large_body_is_computed_while_it_is_sent() {
        let made = Rc::new(Cell::new(0));
        let pieces = |number: usize| -> Pieces {
            let made = Rc::clone(&made);
            made.set(0);
            Box::new((0..number).map(move |piece| {
                made.set(made.get() + 1);
                format!("{piece:08}").into_bytes()
            }))
        };
        let whole: Vec<u8> = pieces(20_000).flatten().collect();

        let small = Body::pieces(pieces(1000));
        assert!(
            matches!(&small, Body::Bytes(bytes) if *bytes == whole[..8000]),
            "a small body has a known length"
        );

        let large = Body::pieces(pieces(20_000));
        assert!(made.get() <= CHUNK / 8, "{} pieces before the first was sent", made.get());
        assert_eq!((large.length(true), large.length(false)), (Length::Chunked, Length::UntilEnd));
        let (result, received) = receive(large, false);
        result.expect("sent");
        assert_eq!(received, [b"head", &whole[..]].concat());

        let (result, received) = receive(Body::pieces(pieces(20_000)), true);
        result.expect("sent");
        let (first, second, third) = (&whole[..CHUNK], &whole[CHUNK..2 * CHUNK], &whole[2 * CHUNK..]);
        let chunks: [&[u8]; 7] =
            [b"head10000\r\n", first, b"\r\n10000\r\n", second, b"\r\n7100\r\n", third, b"\r\n0\r\n\r\n"];
        assert_eq!(received, chunks.concat());
    }

    #[test]
    fn a_large_part_of_a_file_is_sent_whole_and_a_file_that_shrank_is_an_error() {
        let directory = Directory::new();
        let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        directory.write("file", &content);
        let part = |from, length| {
            let file = File::open(directory.path().join("file")).expect("open").into();
            Body::File(FilePart { file, from, length })
        };
        let (result, received) = receive(part(7, 250_000), true);
        result.expect("sent");
        assert_eq!(received, [b"head", &content[7..250_007]].concat());
        let (result, received) = receive(part(299_990, 20), true);
        assert_eq!(result.expect_err("too short").kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(received, [b"head", &content[299_990..]].concat());
        let (result, received) = receive(part(0, 0), true);
        result.expect("sent");
        assert_eq!(received, b"head", "an empty file");
    }
}
