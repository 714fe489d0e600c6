//! Output of a program that goes to the log, line by line: its standard error, or all that it prints where it talks
//! over TCP. It is always read, so the program never blocks on it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::framing::lines::{Overlong, Splitter};
use crate::log::{Entry, Log};

/// Longest part of a line that is logged, in bytes.
const LINE: usize = 8 * 1024;

/// See the module's documentation.
pub struct LogPipe {
    fd: Option<OwnedFd>,
    /// The stream's name in the log.
    what: &'static str,
    splitter: Splitter,
    log: Log,
    room: String,
    pid: i32,
}

impl LogPipe {
    /// `fd` is in non-blocking mode.
    pub fn new(fd: Option<OwnedFd>, what: &'static str, log: &Log, room: &str, pid: i32) -> Self {
        let splitter = Splitter::new(b"\n", true, LINE, Overlong::Cut);
        Self { fd, what, splitter, log: log.clone(), room: room.to_owned(), pid }
    }

    /// For a backend without such a stream.
    pub(super) fn none(log: &Log, room: &str) -> Self {
        Self::new(None, "", log, room, 0)
    }

    /// To poll; `None` once it has ended.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// Logs a last line without an end, and reads no more. Says whether there could have been more.
    pub(super) fn close(&mut self) -> bool {
        let was_open = self.fd.take().is_some();
        if was_open {
            self.take(&[]);
        }
        was_open
    }

    /// A line of the log about the program.
    pub fn warn<'a>(&'a self, what: &'a str) -> Entry<'a> {
        self.log.warn(what).room(&self.room).number("pid", self.pid)
    }

    /// Reads once, into `buffer`. Says how many bytes it read: 0 at the end, none if there was nothing to read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let read = match rustix::io::read(self.fd.as_ref()?, &mut *buffer) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(_) => 0,
        };
        if read == 0 {
            self.fd = None;
        }
        self.take(&buffer[..read]);
        Some(read)
    }

    /// Logs each line that these bytes complete; no bytes are the end.
    fn take(&mut self, bytes: &[u8]) {
        let (log, room, pid, what) = (&self.log, &self.room, self.pid, self.what);
        let line = |line: &[u8]| {
            log.output(what)
                .room(room)
                .number("pid", pid)
                .content("line", String::from_utf8_lossy(line))
                .write();
        };
        if bytes.is_empty() {
            self.splitter.finish(line);
        } else {
            self.splitter.push(bytes, line);
        }
    }
}
