//! The streams of a CGI program: the body of the request goes to its input while its output goes to the client. Nothing is
//! kept but what one read has brought, so a side that does not take its bytes stops the other one.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::body::Length;
use super::cgi_head::CgiHead;
use super::chunked::RequestBody;
use super::head::{Head, Version};
use super::send::{Peer, Sender, check_cutoff, try_again};
use crate::backend::LogPipe;
use crate::sys::deadline::Deadline;
use crate::sys::poll::poll;
use crate::sys::process::Process;
use crate::sys::progress::{Pace, Progress};

/// How much is read at once, in bytes.
const CHUNK: usize = 8 * 1024;

/// How much output is read and dropped where a response has no body, or has more than its length, in bytes.
const MAX_DROPPED: usize = 1024 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a response was not completed.
pub(super) enum Failure {
    /// By the program: the status, and the reason for the log.
    Program(u16, String),
    /// By the client: the status and the text of the response.
    Client(u16, &'static str),
    /// The client is gone or too slow, or the server ends.
    Unsent(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unsent(error)
    }
}

/// The response, by what comes next of it.
enum Response {
    /// The head, of which this has been read.
    Head(Vec<u8>),
    /// So many bytes of the body.
    Sized(u64),
    Chunked,
    UntilEnd,
    /// It is complete; so much more output has been dropped.
    Complete(usize),
}

/// See the module's documentation.
pub(super) struct Exchange<'a> {
    peer: Peer<'a>,
    sender: Sender<'a>,
    head: &'a Head,
    last: bool,
    /// What is still to come of the request's body.
    body: RequestBody,
    /// Read from the client and not decoded.
    raw: Vec<u8>,
    /// Decoded and not yet taken by the program.
    input: Vec<u8>,
    /// `None` once it is closed, by us or by the program.
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    /// To be sent to the client.
    output: Vec<u8>,
    response: Response,
    /// How the end of the response is shown, once its head is there.
    announced: Option<Length>,
    goes_on: bool,
    /// How fast the client sends the body, in bytes received.
    upload: Progress,
    received: u64,
    /// When the program last read or wrote, or could not because of the client.
    active: Instant,
    buffer: Vec<u8>,
}

/// What is left of an exchange.
pub(super) struct Outcome {
    pub(super) announced: Option<Length>,
    /// The connection stays open.
    pub(super) goes_on: bool,
    /// Read after the request.
    pub(super) rest: Vec<u8>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        peer: Peer<'a>,
        head: &'a Head,
        body: RequestBody,
        rest: Vec<u8>,
        (stdin, stdout): (Option<OwnedFd>, Option<OwnedFd>),
        last: bool,
    ) -> Self {
        // RFC 9110 §10.1.1: not in HTTP/1.0, and needless once the body is on its way.
        let waits = head.version == Version::Http11
            && !body.is_complete()
            && rest.is_empty()
            && head.has_token("expect", "100-continue");
        Self {
            peer,
            sender: Sender::new(peer),
            head,
            last,
            body,
            raw: rest,
            input: Vec::new(),
            stdin,
            stdout,
            output: if waits { CONTINUE.to_vec() } else { Vec::new() },
            response: Response::Head(Vec::new()),
            announced: None,
            goes_on: false,
            upload: Progress::default(),
            received: 0,
            active: Instant::now(),
            buffer: vec![0; CHUNK],
        }
    }

    /// Runs until the response is complete and sent. The process and its log are only looked at.
    /// Only the program's silence is limited in time, and the pace of the client.
    pub(super) fn run(
        &mut self,
        process: &Process,
        log_pipe: &mut LogPipe,
        silence: Duration,
    ) -> Result<(), Failure> {
        loop {
            log_pipe.read(&mut self.buffer);
            // One step in each direction, so that neither one waits for the other.
            let moved = [self.pass_input()?, self.pass_output(process)?];
            if self.stdout.is_none() && self.is_sent() {
                return Ok(());
            }
            // Also while something moves: a client may send without an end to a program that reads no more.
            check_cutoff(self.peer)?;
            self.check_silence(silence)?;
            if moved == [false, false] {
                self.wait(process, log_pipe, silence)?;
            }
        }
    }

    /// Closes the program's input and output.
    pub(super) fn finish(mut self) -> Outcome {
        // A body that has been received to its end may not have been decoded.
        let mut scrap = Vec::new();
        while !self.body.is_complete() {
            match self.body.decode(&self.raw, &mut scrap) {
                Ok(used) if used > 0 => drop(self.raw.drain(..used)),
                _ => break,
            }
        }
        let goes_on = self.goes_on && self.body.is_complete();
        Outcome { announced: self.announced, goes_on, rest: self.raw }
    }

    /// Moves a part of the request's body; returns whether there was one.
    fn pass_input(&mut self) -> Result<bool, Failure> {
        if !self.input.is_empty() {
            return Ok(self.write_input());
        }
        if self.body.is_complete() {
            self.stdin = None;
            return Ok(false);
        }
        let bad = |_| Failure::Client(400, "The chunks of the body are malformed");
        let used = self.body.decode(&self.raw, &mut self.input).map_err(bad)?;
        self.raw.drain(..used);
        if used > 0 {
            return Ok(true);
        }
        match self.peer.stream.read_by(&mut self.buffer, Deadline::after(Duration::ZERO)) {
            Ok(0) => Err(Failure::Client(400, "The body ends before its length")),
            Ok(read) => {
                self.raw.extend_from_slice(&self.buffer[..read]);
                self.received += read as u64;
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes to the program. What it does not want is dropped.
    fn write_input(&mut self) -> bool {
        let written = match self.stdin.as_ref().map(|stdin| rustix::io::write(stdin, &self.input)) {
            Some(Ok(written)) => written,
            Some(Err(Errno::AGAIN | Errno::INTR)) => return false,
            Some(Err(_)) | None => {
                self.stdin = None;
                self.input.clear();
                return true;
            }
        };
        self.input.drain(..written);
        self.active = Instant::now();
        true
    }

    /// Whether the kernel has all output so far: TLS may have taken what the kernel has not.
    fn is_sent(&self) -> bool {
        self.output.is_empty() && self.peer.stream.owed() == 0
    }

    /// Moves a part of the output; returns whether there was one.
    fn pass_output(&mut self, process: &Process) -> Result<bool, Failure> {
        if !self.is_sent() {
            let sent = self.sender.send_some(&self.output)?;
            self.output.drain(..sent);
            self.active = Instant::now();
            return Ok(sent > 0);
        }
        let Some(stdout) = &self.stdout else { return Ok(false) };
        // Looked at first: what it has written before its end is read.
        let has_ended = process.exited().is_some();
        match rustix::io::read(stdout, &mut self.buffer) {
            Ok(read) if read > 0 => {
                self.active = Instant::now();
                let buffer = std::mem::take(&mut self.buffer);
                let result = self.take(&buffer[..read]);
                self.buffer = buffer;
                result?;
            }
            // A process that it has left behind may keep the pipe open.
            Err(Errno::AGAIN) if !has_ended => return Ok(false),
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => self.end_output()?,
        }
        Ok(true)
    }

    /// Takes output of the program.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.response {
            Response::Head(had) => {
                had.extend_from_slice(bytes);
                return self.take_head(false);
            }
            Response::Sized(left) => {
                let part = usize::try_from(*left).map_or(bytes.len(), |left| bytes.len().min(left));
                *left -= part as u64;
                self.output.extend_from_slice(&bytes[..part]);
                if *left == 0 {
                    self.response = Response::Complete(bytes.len() - part);
                }
            }
            // An empty chunk would be the last one.
            Response::Chunked if bytes.is_empty() => {}
            Response::Chunked => {
                self.output.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                self.output.extend_from_slice(bytes);
                self.output.extend_from_slice(b"\r\n");
            }
            Response::UntilEnd => self.output.extend_from_slice(bytes),
            Response::Complete(dropped) => *dropped += bytes.len(),
        }
        if matches!(self.response, Response::Complete(dropped) if dropped > MAX_DROPPED) {
            self.stdout = None;
        }
        Ok(())
    }

    /// Begins the response once its head is complete. `is_all`: there is no more output.
    fn take_head(&mut self, is_all: bool) -> Result<(), Failure> {
        let Response::Head(output) = &self.response else { return Ok(()) };
        let bad = |error: super::cgi_head::CgiHeadError| Failure::Program(500, error.to_string());
        let Some((cgi, length)) = CgiHead::parse(output, is_all).map_err(bad)? else { return Ok(()) };
        let body = output[length..].to_vec();
        let knows_chunks = self.head.version == Version::Http11;
        let announced = match cgi.length {
            Some(bytes) => Length::Known(bytes),
            None if knows_chunks => Length::Chunked,
            None => Length::UntilEnd,
        };
        let has_body = cgi.can_have_body() && self.head.method() != "HEAD";
        self.response = match announced {
            _ if !has_body => Response::Complete(0),
            Length::Known(0) => Response::Complete(0),
            Length::Known(bytes) => Response::Sized(bytes),
            Length::Chunked => Response::Chunked,
            Length::UntilEnd => Response::UntilEnd,
        };
        // Only now: the connection can stay open only if the next request begins where the body has ended.
        self.goes_on = !self.last
            && self.head.wants_to_stay()
            // Frames may follow a handshake: they are no request.
            && !self.head.asks_upgrade()
            && self.body.is_complete()
            && (!has_body || announced != Length::UntilEnd);
        // For HEAD, what GET would have. A status without a body has no length (RFC 9110 §8.6).
        let printed = Some(announced).filter(|_| cgi.can_have_body());
        self.output = cgi.print(self.peer.more, printed, self.goes_on);
        self.announced = Some(announced);
        self.take(&body)
    }

    /// The program has closed its output, or has ended.
    fn end_output(&mut self) -> Result<(), Failure> {
        self.stdout = None;
        match self.response {
            Response::Head(_) => self.take_head(true),
            Response::Sized(left) => Err(Failure::Program(
                500,
                format!("the output is {left} bytes shorter than its Content-Length"),
            )),
            Response::Chunked => {
                self.output.extend_from_slice(b"0\r\n\r\n");
                Ok(())
            }
            Response::UntilEnd | Response::Complete(_) => Ok(()),
        }
    }

    fn wants_body(&self) -> bool {
        self.input.is_empty() && !self.body.is_complete()
    }

    /// Whether the program has read all that the client has sent, and can read more.
    fn waits_for_body(&self) -> bool {
        self.wants_body() && self.stdin.is_some() && self.is_sent()
    }

    /// Ends the output of a program that has been silent for too long after its response; without one, fails.
    fn check_silence(&mut self, silence: Duration) -> Result<(), Failure> {
        if self.waits_for_body() || !self.is_sent() || self.active.elapsed() < silence {
            return Ok(());
        }
        if matches!(self.response, Response::Complete(_)) {
            self.stdout = None;
            return Ok(());
        }
        let reason = format!("it neither read nor wrote for {} s", silence.as_secs());
        Err(Failure::Program(504, reason))
    }

    /// Waits until something can be moved; fails if the client is too slow.
    fn wait(&mut self, process: &Process, log_pipe: &LogPipe, silence: Duration) -> Result<(), Failure> {
        let now = Instant::now();
        if self.waits_for_body() {
            self.upload.note(now, self.received);
            if self.upload.verdict(now) != Pace::TakesEnough {
                return Err(Failure::Client(408, "The body of the request comes too slowly"));
            }
        }
        let wanted = |is_wanted, flags| if is_wanted { flags } else { PollFlags::empty() };
        let socket = wanted(self.wants_body(), PollFlags::IN) | wanted(!self.is_sent(), PollFlags::OUT);
        let mut fds = vec![PollFd::from_borrowed_fd(self.peer.stream.as_fd(), socket)];
        let mut add = |fd, flags| fds.push(PollFd::from_borrowed_fd(fd, flags));
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            add(stdin.as_fd(), PollFlags::OUT);
        }
        if let Some(stdout) = self.stdout.as_ref().filter(|_| self.is_sent()) {
            add(stdout.as_fd(), PollFlags::IN);
            add(process.as_fd(), PollFlags::IN);
        }
        if let Some(fd) = log_pipe.fd() {
            add(fd, PollFlags::IN);
        }
        let silent = self.active.checked_add(silence).map_or(Deadline::NEVER, Deadline::at);
        let silent = if silent.passed() { Deadline::NEVER } else { silent };
        poll(&mut fds, try_again(self.peer).min(silent))?;
        // Reset, or closed in both directions. The end of the client's direction alone is not the end of its interest.
        if fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return Err(Failure::Unsent(io::ErrorKind::ConnectionReset.into()));
        }
        Ok(())
    }
}
