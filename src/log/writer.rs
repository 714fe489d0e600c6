//! The log thread: takes the lines that wait and writes them to standard error.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::line::{Line, Shape, Shared};
use crate::config::Level;
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::lock;
use crate::sys::poll::ready;
use crate::sys::reason;

/// Bytes of lines taken at a time.
const BATCH: usize = 64 * 1024;

/// Bytes handed to one `write`: a pipe takes so many as one piece (pipe(7), `PIPE_BUF`), so what programs
/// write to the same pipe stands between two lines, not in one.
const PIECE: usize = 4096;

/// How long the log thread rests when it has written all there was: the lines of a burst are written together
/// and wake it once, not each by itself.
const REST: Duration = Duration::from_millis(1);

/// How long standard error is waited for, or left alone after a failure, before it is tried again.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The body of the log thread.
pub(super) fn run(queue: &Receiver<Line>, shape: Shape, silent: bool, shared: &Shared) {
    let mut output = Output { fd: rustix::stdio::stderr(), torn: false, failure: None };
    let (mut text, mut answers) = (String::new(), Vec::<Arc<Bell>>::new());
    loop {
        let next = lock(&shared.repeats).next();
        // What was lost is reported as soon as something can be written again, also when no line follows.
        let again = (shared.dropped.load(Ordering::Relaxed) > 0).then(|| Instant::now() + FLUSH_TIMEOUT);
        let first = match [next, again].into_iter().flatten().min() {
            Some(next) => queue.recv_deadline(next),
            // Ends when the last handle is gone.
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
                Line::Look => {}
                Line::Flush(written) => answers.push(written),
            }
            if text.len() < BATCH {
                line = queue.try_recv().ok();
            }
        }
        let mut told = Vec::new();
        lock(&shared.repeats).due(Instant::now(), false, |line, lines| told.push((line, lines)));
        // They are older than what has just come, and each begins with its time.
        told.sort_unstable();
        text.insert_str(0, &shape.repeated(&told));
        held += told.iter().map(|(line, _)| line.capacity()).sum::<usize>();
        let lost = if silent { 0 } else { output.write(text.as_bytes()) };
        // Before the losses are looked at: a thread that finds no room after that reports it once more.
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

/// Standard error, which programs may share, and change the mode of.
struct Output {
    fd: BorrowedFd<'static>,
    /// The last line that was begun was not finished.
    torn: bool,
    /// Why lines were lost, if it was not for want of a reader.
    failure: Option<Errno>,
}

impl Output {
    /// Writes whole lines; says how many of them were lost.
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

    /// One write. A full pipe in non-blocking mode is waited for, as a blocking one is: what comes meanwhile
    /// waits in the queue, and what finds no room there is lost.
    fn write_some(&self, piece: &[u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::write(self.fd, piece) {
                Err(Errno::INTR) => {}
                // It never should.
                Ok(0) => return Err(Errno::IO),
                Err(Errno::AGAIN) => {
                    if !ready(self.fd, PollFlags::OUT, Deadline::after(FLUSH_TIMEOUT)).unwrap_or(false) {
                        continue;
                    }
                    // Ready, and yet it may have no room for all of a piece.
                    std::thread::sleep(REST);
                }
                result => return result,
            }
        }
    }

    /// Says how many lines were lost, if any were.
    fn report_losses(&mut self, shape: Shape, shared: &Shared) {
        let lost = shared.dropped.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let reason = match self.failure {
            Some(error) => format!("standard error: {}", reason(&error.into())),
            None => "standard error was not read in time".to_owned(),
        };
        let mut line = shape.draft(Level::Warn, "log lines dropped");
        line.push("lines", &lost, false);
        line.push("reason", &reason, true);
        if self.write(line.finish().as_bytes()) == 0 {
            self.failure = None;
        } else {
            // To be reported another time.
            shared.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

/// As many whole lines as one write takes, or a line that is longer than that.
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
