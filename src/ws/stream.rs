//! What tungstenite reads from and writes to: the client's socket, and its sink.

use std::io::{self, Read, Write};
use std::time::Instant;

use rustix::io::Errno;

use crate::room::Member;
use crate::sink::After;

/// The first half-byte of a pong's head: final, opcode 10 (RFC 6455 §5.2).
const PONG: u8 = 0x8a;

/// Reads block, for as long as the socket's receive time-out says; writes never do.
pub(super) struct Stream<'a> {
    member: &'a Member,
    /// When bytes last came.
    pub(super) heard: Instant,
}

impl<'a> Stream<'a> {
    pub(super) fn new(member: &'a Member) -> Self {
        Self { member, heard: Instant::now() }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.member.client().door.read(buffer) {
                // A signal: any thread may be the one that takes it, and SO_RCVTIMEO forbids the
                // kernel to restart the call (signal(7)).
                Err(Errno::INTR) => {}
                Ok(0) => return Ok(0),
                Ok(read) => {
                    self.heard = Instant::now();
                    return Ok(read);
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Write for Stream<'_> {
    /// All that tungstenite writes by itself are pongs, each whole (its answers to a close are never
    /// flushed: a close is ours to answer). They go ahead of queued data.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.first() == Some(&PONG) {
            let after: After = self.member.client().sink.pong(bytes.to_vec());
            self.member.mind(after);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
