//! Tools for tests under load: clients by the thousand in one thread, clients that do not read, and a look
//! at the server from outside. Bytes are compared as they stand on the wire, which is strict and quick.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};

use super::client::{NO_CODE, handshake};
use super::frame;
use super::process::status_number;
use super::raw::Address;
use super::server::Server;

/// The longest wait for anything that should come soon, on a machine that is busy with something else.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Raises this process's soft limit on descriptors to the hard one and says what it is.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).expect("a soft limit can be raised to the hard one");
    limit.maximum.unwrap_or(u64::MAX)
}

/// What a server's process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holds {
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
    pub(crate) programs: usize,
}

impl Holds {
    pub(crate) fn now(server: &Server) -> Self {
        Self {
            threads: server.threads(),
            descriptors: server.descriptors(),
            programs: server.children().len(),
        }
    }

    /// Waits until the server holds no more and no less than this again.
    pub(crate) fn comes_back(self, server: &Server, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let now = Self::now(server);
            if now == self {
                return;
            }
            assert!(Instant::now() < deadline, "after {within:?}: {now:?}, at the start {self:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The most memory that has been resident at a time since [`forget_peak`], in KiB.
pub(crate) fn peak(server: &Server) -> u64 {
    status_number(server.pid(), "VmHWM")
}

/// Begins a new measurement of the peak (proc(5)).
pub(crate) fn forget_peak(server: &Server) {
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").expect("the peak is reset");
}

/// Everything that a client is to hear, as it stands on the wire.
#[derive(Debug, Default)]
pub(crate) struct Wire(Vec<u8>);

impl Wire {
    pub(crate) fn of(payloads: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut wire = Self::default();
        for payload in payloads {
            wire.push(&payload);
        }
        wire
    }

    pub(crate) fn push(&mut self, payload: &[u8]) {
        self.0.extend(frame::head(frame::FIN | frame::TEXT, payload.len() as u64, false));
        self.0.extend_from_slice(payload);
    }

    /// A close frame without a reason at its end.
    pub(crate) fn then_close(mut self, code: u16) -> Arc<Self> {
        self.0.extend(frame::unmasked(frame::FIN | frame::CLOSE, &code.to_be_bytes()));
        Arc::new(self)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A numbered line of a given length, as the program under test prints them.
pub(crate) fn numbered(number: usize, length: usize) -> Vec<u8> {
    let mut line = number.to_string().into_bytes();
    let fill = b'a' + (number % 26) as u8;
    line.resize(line.len().max(length), fill);
    line
}

/// The number at the start of such a line; panics unless the line is whole.
pub(crate) fn number_of(line: &[u8], length: usize) -> usize {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&line[..digits]).expect("digits").parse().expect("a number");
    assert!(line == numbered(number, length), "a damaged line: {}", String::from_utf8_lossy(line));
    number
}

/// What a client heard next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
    /// TCP ended in an orderly way, after this much of a frame.
    End(usize),
    /// TCP was reset.
    Reset,
    /// Nothing until the deadline.
    Nothing,
}

/// A client in a room: a non-blocking socket and what was read from it.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
    at: usize,
    /// The most that one read takes.
    slice: usize,
}

impl Peer {
    /// Connects and upgrades. Being upgraded is not yet being in the room: that the program is told.
    pub(crate) fn join(server: &Server, target: &str) -> Self {
        Self::try_join(server.address(), target).expect("the client is upgraded")
    }

    pub(crate) fn try_join(address: &Address, target: &str) -> io::Result<Self> {
        Self::upgrade(TcpStream::connect(tcp(address))?, target)
    }

    /// Connects and says nothing.
    pub(crate) fn connected(address: &Address) -> TcpStream {
        TcpStream::connect(tcp(address)).expect("a client connects")
    }

    /// Joins with little room in its kernel for what it does not read.
    pub(crate) fn join_small(server: &Server, target: &str) -> Self {
        // A program that another test starts meanwhile must not keep it open.
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket");
        // Before connecting: the window's scale is agreed on then (tcp(7)).
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("a small buffer");
        rustix::net::connect(&socket, &tcp(server.address())).expect("connected");
        Self::upgrade(TcpStream::from(socket), target).expect("the client is upgraded")
    }

    fn upgrade(mut socket: TcpStream, target: &str) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SOON))?;
        socket.write_all(handshake(target, "").as_bytes())?;
        let (mut buffer, mut scrap) = (Vec::new(), [0; 1024]);
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            match socket.read(&mut scrap)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => buffer.extend_from_slice(&scrap[..read]),
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&buffer).into_owned()));
        }
        socket.set_nonblocking(true)?;
        Ok(Self { socket, buffer, at: end, slice: 64 * 1024 })
    }

    /// From now on reads no more than this at a time.
    pub(crate) fn read_at_most(&mut self, slice: usize) {
        self.slice = slice;
    }

    /// Bytes that were read and not yet looked at.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    pub(crate) fn forget(&mut self, bytes: usize) {
        self.at += bytes;
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
    }

    /// One read without waiting: how much came, `None` for nothing yet.
    pub(crate) fn read_now(&mut self) -> io::Result<Option<usize>> {
        if self.at > 0 && self.at * 2 >= self.buffer.len() {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let had = self.buffer.len();
        self.buffer.resize(had + self.slice, 0);
        let read = loop {
            match self.socket.read(&mut self.buffer[had..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(had + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(read) => Ok(Some(read)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The next frame.
    pub(crate) fn next(&mut self, deadline: Instant) -> Heard {
        loop {
            if let Some((heard, length)) = parse(self.unread()) {
                self.forget(length);
                return heard;
            }
            match self.read_now() {
                Ok(Some(0)) => return Heard::End(self.unread().len()),
                Ok(Some(_)) => {}
                Ok(None) => {
                    if !readable(&self.socket, deadline) {
                        return Heard::Nothing;
                    }
                }
                Err(_) => return Heard::Reset,
            }
        }
    }

    /// Sends everything, however long the server takes to take it; what comes meanwhile waits unread.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = self.send_some(bytes, Instant::now() + SOON).expect("the server is there");
            assert!(sent > 0, "the server takes nothing for {SOON:?}");
            bytes = &bytes[sent..];
        }
    }

    /// Sends what is taken at once, or as soon as anything is: 0 if that is not before the deadline.
    pub(crate) fn send_some(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        loop {
            match self.socket.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::OUT)];
                    if poll(&mut fds, deadline) == 0 {
                        return Ok(0);
                    }
                }
                sent => return sent,
            }
        }
    }

    /// The same client, for a thread that only sends.
    pub(crate) fn sender(&self) -> Self {
        let socket = self.socket.try_clone().expect("a second handle to a socket");
        Self { socket, buffer: Vec::new(), at: 0, slice: self.slice }
    }

    /// The next thing it hears is this.
    pub(crate) fn hears(&mut self, text: &str) {
        let heard = self.next(Instant::now() + SOON);
        assert_eq!(heard, Heard::Text(text.as_bytes().to_vec()));
    }

    /// Closes with a handshake, and waits until the server ends TCP. Gives the code of the answer.
    pub(crate) fn close(mut self, code: u16) -> u16 {
        self.send(&frame::close(code, ""));
        let deadline = Instant::now() + SOON;
        let mut answer = None;
        loop {
            match self.next(deadline) {
                Heard::Text(_) | Heard::Ping | Heard::Pong(_) => {}
                Heard::Close(code, _) => answer = Some(code),
                Heard::End(0) => return answer.expect("a close is answered before TCP ends"),
                other => panic!("in place of the answer to a close: {other:?}"),
            }
        }
    }

    /// Answers the server's close and sees TCP end.
    pub(crate) fn answer_close(&mut self, code: u16) {
        // The server may have stopped waiting for it.
        let _ = self.socket.write(&frame::close(code, ""));
        let end = self.next(Instant::now() + SOON);
        assert!(matches!(end, Heard::End(0) | Heard::Reset), "after the closes: {end:?}");
    }

    /// Ends TCP with a reset (`SO_LINGER`, socket(7)).
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO)).expect("linger");
    }
}

/// The frame at the start of `bytes`, if it is whole, and its length.
fn parse(bytes: &[u8]) -> Option<(Heard, usize)> {
    let (frame, length) = frame::parse(bytes)?;
    let heard = match frame.opcode {
        frame::TEXT => Heard::Text(frame.payload),
        frame::PING => Heard::Ping,
        frame::PONG => Heard::Pong(frame.payload),
        frame::CLOSE => {
            let (code, reason) = match frame.payload.split_first_chunk() {
                Some((code, reason)) => (u16::from_be_bytes(*code), reason.to_vec()),
                None => (NO_CODE, Vec::new()),
            };
            Heard::Close(code, String::from_utf8(reason).expect("a reason is UTF-8"))
        }
        other => panic!("a frame with opcode {other}"),
    };
    Some((heard, length))
}

fn tcp(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(_) => panic!("{address:?} is no TCP address"),
        #[cfg(feature = "tls")]
        Address::Tls(_) => panic!("{address:?} is no TCP address"),
    }
}

/// Waits until there is something to read, or the end; `false` at the deadline.
pub(crate) fn readable(socket: &TcpStream, deadline: Instant) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    poll(&mut fds, deadline) > 0
}

/// Waits until the other end has reset or ended the connection, without reading; `false` at the deadline.
pub(crate) fn ended(socket: &TcpStream, deadline: Instant) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
    poll(&mut fds, deadline) > 0
}

fn poll(fds: &mut [PollFd<'_>], deadline: Instant) -> usize {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.expect("poll"),
        }
    }
}

/// Clients that are to hear the same, looked after by one thread.
pub(crate) struct Crowd {
    members: Vec<Member>,
    wire: Arc<Wire>,
    /// The longest time in which one member heard nothing, from its first byte to its last.
    pub(crate) gap: Duration,
}

struct Member {
    peer: Peer,
    heard: usize,
    last: Option<Instant>,
    /// How often it heard nothing for a second or more.
    long_gaps: usize,
}

impl Crowd {
    pub(crate) fn new(peers: impl IntoIterator<Item = Peer>, wire: &Arc<Wire>) -> Self {
        let members =
            peers.into_iter().map(|peer| Member { peer, heard: 0, last: None, long_gaps: 0 }).collect();
        Self { members, wire: Arc::clone(wire), gap: Duration::ZERO }
    }

    /// The first of them, to send something.
    pub(crate) fn first(&mut self) -> &mut Peer {
        &mut self.members[0].peer
    }

    /// Reads until every client has got so many bytes; `false` when none got anything for `quiet`.
    /// Panics at the first byte that is not as it should be, and when the whole takes too long.
    pub(crate) fn hear_or_quiet(&mut self, bytes: usize, quiet: Duration) -> bool {
        let limit = Instant::now() + 2 * SOON;
        loop {
            let waiting: Vec<usize> =
                (0..self.members.len()).filter(|&index| self.members[index].heard < bytes).collect();
            if waiting.is_empty() {
                return true;
            }
            assert!(Instant::now() < limit, "{} of {} still wait", waiting.len(), self.members.len());
            let mut fds: Vec<_> = waiting
                .iter()
                .map(|&index| {
                    PollFd::from_borrowed_fd(self.members[index].peer.socket.as_fd(), PollFlags::IN)
                })
                .collect();
            // What the upgrade brought along is there already.
            let begun = waiting.iter().any(|&index| !self.members[index].peer.unread().is_empty());
            let deadline = Instant::now() + if begun { Duration::ZERO } else { quiet };
            if poll(&mut fds, deadline) == 0 && !begun {
                return false;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            for (&index, ready) in waiting.iter().zip(ready) {
                self.hear_one(index, ready);
            }
        }
    }

    /// How often the one who was held up most often heard nothing for a second or more.
    pub(crate) fn long_gaps(&self) -> usize {
        self.members.iter().map(|member| member.long_gaps).max().unwrap_or(0)
    }

    pub(crate) fn hear(&mut self, bytes: usize) {
        assert!(self.hear_or_quiet(bytes, SOON), "nothing for {SOON:?}");
    }

    /// Everything, the close included; then each answers it, and TCP ends.
    pub(crate) fn hear_all(&mut self) {
        self.hear(self.wire.len());
        for member in &mut self.members {
            member.peer.answer_close(1000);
        }
    }

    fn hear_one(&mut self, index: usize, ready: bool) {
        let member = &mut self.members[index];
        if ready {
            match member.peer.read_now() {
                Ok(Some(0)) => panic!("client {index}: TCP ended after {} bytes", member.heard),
                Ok(_) => {}
                Err(e) => panic!("client {index}: {e} after {} bytes", member.heard),
            }
        }
        let fresh = member.peer.unread();
        if fresh.is_empty() {
            return;
        }
        let wanted = &self.wire.0[member.heard..];
        let length = fresh.len().min(wanted.len());
        if fresh[..length] != wanted[..length] {
            let at = fresh.iter().zip(wanted).take_while(|(a, b)| a == b).count();
            let show = |bytes: &[u8]| bytes[at..bytes.len().min(at + 80)].escape_ascii().to_string();
            let (heard, wanted) = (show(fresh), show(wanted));
            panic!("client {index}, byte {}: heard {heard}, wanted {wanted}", member.heard + at);
        }
        assert_eq!(length, fresh.len(), "client {index} heard more than there is");
        member.heard += length;
        member.peer.forget(length);
        let now = Instant::now();
        if let Some(last) = member.last.replace(now) {
            let gap = now - last;
            self.gap = self.gap.max(gap);
            member.long_gaps += usize::from(gap >= Duration::from_secs(1));
        }
    }
}
