//! The log thread: writes queued lines to standard error, or to standard output in the format of websocketd.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::line::{Line, Shape, Shared};
use crate::config::{Level, LogFormat};
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::lock;
use crate::sys::poll::ready;
use crate::sys::reason;

/// Bytes of lines taken at a time.
const BATCH: usize = 64 * 1024;

/// Bytes in one `write`. A pipe takes this many at once (pipe(7), `PIPE_BUF`), so that output of programs on the same
/// pipe does not end up inside a line.
const PIECE: usize = 4096;

/// Pause after the queue was emptied, so that the lines of a burst are written together and wake the thread once.
const REST: Duration = Duration::from_millis(1);

/// How long to wait for the stream, and how long after a failure to try again.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The body of the log thread.
pub(super) fn run(queue: &Receiver<Line>, shape: Shape, silent: bool, shared: &Shared) {
    let (fd, name) = match shape.format {
        LogFormat::Text | LogFormat::Json => (rustix::stdio::stderr(), "standard error"),
        #[cfg(feature = "websocketd")]
        LogFormat::Websocketd => (rustix::stdio::stdout(), "standard output"),
    };
    let mut output = Output { fd, name, torn: false, failure: None };
    let (mut text, mut answers) = (String::new(), Vec::<Arc<Bell>>::new());
    loop {
        let next = lock(&shared.repeats).next();
        // Lost lines are reported as soon as writing works again, even if no line follows.
        let again = (shared.dropped.load(Ordering::Relaxed) > 0).then(|| Instant::now() + FLUSH_TIMEOUT);
        let first = match [next, again].into_iter().flatten().min() {
            Some(next) => queue.recv_deadline(next),
            // Disconnected when the last `Log` is dropped.
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let (mut line, mut held) = match first {
            Ok(line) => (Some(line), 0),
            Err(RecvTimeoutError::Timeout) => (None, 0),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(taken) = line.take() {
            match taken {
                Line::Text(line) => {
                    text.push_str(&line);
                    held += line.capacity();
                }
                Line::Wake => {}
                Line::Flush(written) => answers.push(written),
            }
            if text.len() < BATCH {
                line = queue.try_recv().ok();
            }
        }
        // These are older than the lines that were just received.
        let repeated = lock(&shared.repeats).due(Instant::now(), false);
        text.insert_str(0, &shape.repeated(&repeated));
        held += repeated.iter().map(|(line, _)| line.capacity()).sum::<usize>();
        let lost = if silent { 0 } else { output.write(text.as_bytes()) };
        // Before `dropped` is read: a thread that drops a line after this sends `Line::Wake` again.
        shared.bytes.fetch_sub(held, Ordering::Relaxed);
        shared.dropped.fetch_add(lost, Ordering::Relaxed);
        if lost == 0 && !silent {
            output.report_losses(shape, shared);
        }
        text.clear();
        for written in answers.drain(..) {
            written.ring();
        }
        if queue.is_empty() {
            std::thread::sleep(REST);
        }
    }
}

/// The stream that is written to. Programs may share it and change its mode.
struct Output {
    fd: BorrowedFd<'static>,
    name: &'static str,
    /// The last line was written only in part.
    torn: bool,
    /// The error by which lines were lost; `None` if the stream was not read.
    failure: Option<Errno>,
}

impl Output {
    /// Writes whole lines. Returns the number of lines that were lost.
    fn write(&mut self, mut text: &[u8]) -> u64 {
        if self.torn && !text.is_empty() {
            match self.write_some(b"\n") {
                Ok(_) => self.torn = false,
                Err(error) => return self.lose(text, error),
            }
        }
        while !text.is_empty() {
            match self.write_some(piece(text)) {
                Ok(written) => {
                    self.torn = written > 0 && text[written - 1] != b'\n';
                    text = &text[written..];
                }
                Err(error) => return self.lose(text, error),
            }
        }
        0
    }

    fn lose(&mut self, text: &[u8], error: Errno) -> u64 {
        self.failure = Some(error);
        memchr::memchr_iter(b'\n', text).count() as u64
    }

    /// One write. Waits for a full pipe, in non-blocking mode too. Further lines stay in the queue until it is full,
    /// then they are dropped.
    fn write_some(&self, piece: &[u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::write(self.fd, piece) {
                Err(Errno::INTR) => {}
                // Never for a length above 0.
                Ok(0) => return Err(Errno::IO),
                Err(Errno::AGAIN) => {
                    if !ready(self.fd, PollFlags::OUT, Deadline::after(FLUSH_TIMEOUT)).unwrap_or(false) {
                        continue;
                    }
                    // Ready, but perhaps without room for the whole piece.
                    std::thread::sleep(REST);
                }
                result => return result,
            }
        }
    }

    /// Logs the number of lines that were lost.
    fn report_losses(&mut self, shape: Shape, shared: &Shared) {
        let lost = shared.dropped.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let reason = match self.failure {
            Some(error) => format!("{}: {}", self.name, reason(&error.into())),
            None => format!("{} was not read in time", self.name),
        };
        let mut line = shape.draft(Level::Warn, "log lines dropped");
        line.push("lines", &lost, false);
        line.push("reason", &reason, true);
        if self.write(line.finish().as_bytes()) == 0 {
            self.failure = None;
        } else {
            // Report it later.
            shared.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

/// As many whole lines as fit into one write, or one line that is longer.
fn piece(text: &[u8]) -> &[u8] {
    if text.len() <= PIECE {
        return text;
    }
    let whole = memchr::memrchr(b'\n', &text[..PIECE]);
    let end = whole.or_else(|| memchr::memchr(b'\n', text));
    &text[..end.map_or(text.len(), |end| end + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_whole_lines_that_a_pipe_takes_as_one_or_one_long_line() {
        let line = |length: usize| [vec![b'x'; length - 1], vec![b'\n']].concat();
        for (lines, first) in [
            (vec![line(10)], 10),
            (vec![line(4096), line(1)], 4096),
            (vec![line(4000), line(96), line(1)], 4096),
            (vec![line(4000), line(97)], 4000),
            (vec![line(5000), line(1)], 5000),
            (vec![line(1), line(5000)], 1),
        ] {
            assert_eq!(piece(&lines.concat()).len(), first);
        }
    }
}
