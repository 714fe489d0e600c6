//! What follows a response's head: bytes, or a part of a file.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::send::Sender;

/// How much of a file is in memory at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// What follows a response's head.
#[derive(Debug)]
pub enum Body {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A part of a file.
    File(FilePart),
}

/// A part of an open regular file.
#[derive(Debug)]
pub struct FilePart {
    /// The file, open for reading.
    pub file: OwnedFd,
    /// Where the part begins, in bytes.
    pub from: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

impl Body {
    /// The length, in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(part) => part.length,
        }
    }

    /// Sends a response: its head, then this. The beginning goes with the head, so that a small
    /// answer is one packet and never waits for the peer to acknowledge its head (RFC 896).
    ///
    /// # Errors
    /// `UnexpectedEof` when the file became shorter: the length was announced, so that only the
    /// end of the connection can tell the peer (RFC 9112 §6.3).
    pub(super) fn send(&self, sender: &mut Sender<'_>, mut head: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                head.extend_from_slice(bytes);
                sender.send_all(&head)
            }
            Self::File(part) => part.send(sender, head),
        }
    }
}

impl FilePart {
    /// Not `sendfile`: on a blocking socket that waits for as long as the peer likes.
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
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::http::files::testing::Directory;
    use crate::http::send::Peer;
    use crate::sys::deadline::Cutoff;

    #[test]
    fn a_part_larger_than_memory_for_it_arrives_whole_and_a_file_that_shrank_is_an_error() {
        let directory = Directory::new();
        let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        directory.write("file", &content);
        let part = |from, length| {
            let file = File::open(directory.path().join("file")).expect("open").into();
            Body::File(FilePart { file, from, length })
        };
        let receive = |body: &Body| {
            let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
            std::thread::scope(|scope| {
                let reader = scope.spawn(move || {
                    let mut received = Vec::new();
                    theirs.read_to_end(&mut received).expect("read");
                    received
                });
                let peer = Peer { socket: ours.as_fd(), cutoff: &Cutoff::new() };
                let result = body.send(&mut Sender::new(peer), b"head".to_vec());
                drop(ours);
                (result, reader.join().expect("the reader"))
            })
        };
        let (result, received) = receive(&part(7, 250_000));
        result.expect("sent");
        assert_eq!(received, [b"head", &content[7..250_007]].concat());
        let (result, received) = receive(&part(299_990, 20));
        assert_eq!(result.expect_err("too short").kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(received, [b"head", &content[299_990..]].concat());
        let (result, received) = receive(&part(0, 0));
        result.expect("sent");
        assert_eq!(received, b"head", "an empty file");
    }
}
