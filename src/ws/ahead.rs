//! Data from a client that tungstenite has not read yet.

use std::io;
use std::ops::Range;

use super::pieces::{Need, Pieces};

/// The size of tungstenite's buffer for each client, in bytes. With musl's header it is 1008, one of its size classes.
pub(super) const READ_BUFFER: usize = 1000;

/// The size of the buffer for a busy client, in bytes.
const AHEAD: usize = 64 * 1024;

/// After this many small reads in a row a client no longer counts as busy.
const SMALL_READS: u32 = 16;

/// Between the socket and tungstenite: buffers data and cuts large frames.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) ahead: Ahead,
    pub(super) pieces: Pieces,
}

/// The result of [`Inlet::give`].
#[derive(Debug)]
pub(super) enum Given {
    Bytes(usize),
    /// More data must arrive first, or something has to be done.
    Nothing(Option<Need>),
}

impl Inlet {
    /// `rest` is what arrived after the request; a frame has at most `limit` bytes.
    pub(super) fn new(rest: Vec<u8>, limit: usize) -> Self {
        Self { ahead: Ahead::new(rest), pieces: Pieces::new(limit) }
    }

    /// Gives buffered data to tungstenite.
    pub(super) fn give(&mut self, into: &mut [u8]) -> Given {
        if self.ahead.is_empty() && !self.pieces.owes() {
            return Given::Nothing(None);
        }
        let (taken, given) = self.pieces.pass(self.ahead.bytes(), into);
        self.ahead.take(taken);
        if given > 0 { Given::Bytes(given) } else { Given::Nothing(self.pieces.need()) }
    }

    /// Returns how many of these bytes, which were read into tungstenite's buffer, it may use unchanged. The others are
    /// kept for [`Inlet::give`].
    pub(super) fn pass_unchanged(&mut self, bytes: &[u8]) -> usize {
        let unchanged = self.pieces.unchanged(bytes);
        self.ahead.keep(&bytes[unchanged..]);
        unchanged
    }
}

/// Data that was read ahead. tungstenite always reads in steps of one size and holds a buffer of that size: a small one,
/// because most clients are idle. This larger buffer is for busy clients.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Empty unless the client is busy.
    buffer: Vec<u8>,
    /// Where the data is in it.
    full: Range<usize>,
    /// Consecutive reads that would have fitted into the small buffer.
    small_reads: u32,
}

impl Ahead {
    fn new(bytes: Vec<u8>) -> Self {
        Self { full: 0..bytes.len(), buffer: bytes, small_reads: SMALL_READS }
    }

    /// Whether the client sends much. A read that times out ends this.
    pub(super) fn is_busy(&self) -> bool {
        self.small_reads < SMALL_READS
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.full.clone()]
    }

    fn take(&mut self, taken: usize) {
        self.full.start += taken;
    }

    /// Keeps bytes. It must be empty.
    fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.buffer = bytes.to_vec();
            self.full = 0..bytes.len();
        }
    }

    /// Lets `read` fill this buffer or, for a client that is not busy, the caller's. It must be empty.
    pub(super) fn fill(
        &mut self,
        into: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Filled> {
        if !self.is_busy() {
            // Freed before the read, which can take hours.
            (self.buffer, self.full) = (Vec::new(), 0..0);
            let read = read(into)?;
            if read >= READ_BUFFER {
                self.small_reads = 0;
            }
            return Ok(Filled::Bytes(read));
        }
        if self.buffer.len() < AHEAD {
            self.buffer = vec![0; AHEAD];
        }
        let read = read(&mut self.buffer).inspect_err(|_| self.small_reads = SMALL_READS)?;
        self.small_reads = if read > READ_BUFFER { 0 } else { self.small_reads + 1 };
        self.full = 0..read;
        Ok(Filled::Ahead(read))
    }
}

/// Into which buffer bytes were read, and how many.
#[derive(Debug)]
pub(super) enum Filled {
    /// The caller's.
    Bytes(usize),
    /// The one of [`Ahead`].
    Ahead(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn would_block() -> io::Error {
        io::ErrorKind::WouldBlock.into()
    }

    /// A socket that has `chunks` to give, each in as many reads as it takes, and a time-out after each.
    fn socket(chunks: &[Vec<u8>]) -> impl FnMut(&mut [u8]) -> io::Result<usize> {
        let mut chunks: Vec<Vec<u8>> = chunks.iter().rev().cloned().collect();
        move |into| {
            let chunk = chunks.last_mut().ok_or_else(would_block)?;
            if chunk.is_empty() {
                chunks.pop();
                return Err(would_block());
            }
            let read = chunk.len().min(into.len());
            into[..read].copy_from_slice(&chunk[..read]);
            chunk.drain(..read);
            Ok(read)
        }
    }

    /// Gives what is here; if nothing is, has a buffer filled first.
    fn give(
        ahead: &mut Ahead,
        into: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if ahead.is_empty()
            && let Filled::Bytes(read) = ahead.fill(into, read)?
        {
            return Ok(read);
        }
        let step = ahead.bytes().len().min(into.len());
        into[..step].copy_from_slice(&ahead.bytes()[..step]);
        ahead.take(step);
        Ok(step)
    }

    #[test]
    fn bytes_come_out_as_they_came_in_whatever_the_steps_and_a_time_out_loses_none() {
        let all: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        for (behind, chunk) in [(0, 1), (10, 999), (2000, 1000), (0, 1001), (5, 70_000), (0, 300_000)] {
            for step in [1, 14, 1000, 4096, 100_000] {
                let chunks: Vec<Vec<u8>> = all[behind..].chunks(chunk).map(<[u8]>::to_vec).collect();
                let (mut read, mut time_outs) = (socket(&chunks), 0);
                let mut ahead = Ahead::new(all[..behind].to_vec());
                let (mut out, mut into) = (Vec::new(), vec![0; step]);
                while time_outs < chunks.len() {
                    match give(&mut ahead, &mut into, &mut read) {
                        Ok(read) => out.extend_from_slice(&into[..read]),
                        Err(_) => time_outs += 1,
                    }
                }
                assert!(out == all, "chunks of {chunk}, steps of {step}");
            }
        }
    }

    #[test]
    fn only_a_busy_client_has_a_buffer() {
        let mut into = [0; READ_BUFFER];
        let mut ahead = Ahead::new(b"behind the request".to_vec());
        give(&mut ahead, &mut into, |_| unreachable!("there is something")).expect("bytes");
        let little = |into: &mut [u8]| Ok(into.len().min(100));
        give(&mut ahead, &mut into, little).expect("bytes");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, false));

        let much = |into: &mut [u8]| Ok(into.len());
        give(&mut ahead, &mut into, much).expect("bytes");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, true), "only when there is more");
        give(&mut ahead, &mut into, much).expect("bytes");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (AHEAD, true));
        while !ahead.full.is_empty() {
            give(&mut ahead, &mut into, |_| unreachable!("there is something")).expect("bytes");
        }
        give(&mut ahead, &mut into, |_| Err(would_block())).expect_err("a time-out");
        give(&mut ahead, &mut into, |_| Err(would_block())).expect_err("a time-out");
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, false), "a time-out ends it");

        give(&mut ahead, &mut into, much).expect("bytes");
        for _ in 0..=SMALL_READS {
            give(&mut ahead, &mut into, little).expect("bytes");
        }
        assert_eq!((ahead.buffer.capacity(), ahead.is_busy()), (0, false), "so do small reads");
    }
}
