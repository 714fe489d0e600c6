//! A socket with a deadline on every read, and HTTP by hand.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::DEADLINE;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// The same as `Tcp`, for a client that speaks TLS.
    #[cfg(feature = "tls")]
    Tls(super::tls::Target),
}

impl Address {
    /// As the server announces it.
    pub(crate) fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Tcp(text.parse().unwrap_or_else(|e| panic!("address {text}: {e}"))),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            #[cfg(feature = "tls")]
            Self::Tls(target) => target.address.port(),
            Self::Unix(path) => panic!("{} has no port", path.display()),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(super::tls::Socket),
}

impl Socket {
    pub(crate) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = TcpStream::connect_timeout(address, DEADLINE)?;
                socket.set_nodelay(true)?;
                Ok(Self::Tcp(socket))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            #[cfg(feature = "tls")]
            Address::Tls(target) => {
                let Self::Tcp(tcp) = Self::connect(&Address::Tcp(target.address))? else { unreachable!() };
                Ok(Self::Tls(super::tls::Socket::new(tcp, target)))
            }
        }
    }

    pub(crate) fn try_clone(&self) -> Self {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => Ok(Self::Tls(socket.clone())),
        }
        .expect("a second handle to a socket")
    }

    /// Reads what is there; `TimedOut` or `WouldBlock` when nothing comes within `time`.
    pub(crate) fn read(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<usize> {
        let time = Some(time.max(Duration::from_millis(1)));
        loop {
            let read = match self {
                Self::Tcp(socket) => socket.set_read_timeout(time).and_then(|()| socket.read(buffer)),
                Self::Unix(socket) => socket.set_read_timeout(time).and_then(|()| socket.read(buffer)),
                #[cfg(feature = "tls")]
                Self::Tls(socket) => socket.read(buffer, time),
            };
            match read {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Writes all; fails when the peer takes nothing for the deadline.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => {
                socket.set_write_timeout(Some(DEADLINE)).and_then(|()| socket.write_all(bytes))
            }
            Self::Unix(socket) => {
                socket.set_write_timeout(Some(DEADLINE)).and_then(|()| socket.write_all(bytes))
            }
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.write_all(bytes),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        // The peer may have been faster.
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(how),
            Self::Unix(socket) => socket.shutdown(how),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.shutdown(how),
        };
    }

    /// The local address, as the server's programs see it.
    pub(crate) fn local_address(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_addr().expect("an address").to_string(),
            Self::Unix(_) => "unix:".to_owned(),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.tcp.local_addr().expect("an address").to_string(),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.tcp.as_fd(),
        }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// In order.
    End,
    /// By a reset.
    Reset,
}

/// An answer: status, fields in order (names in lower case), body.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of a field; it must not be there twice.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice in {:?}", self.fields);
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

/// A connection that says what it is told to, right or wrong.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) socket: Socket,
    /// What has come and has not been looked at.
    pub(crate) buffer: Vec<u8>,
}

impl Raw {
    pub(crate) fn over(socket: Socket) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    pub(crate) fn connect(address: &Address) -> Self {
        Self::over(Socket::connect(address).unwrap_or_else(|e| panic!("connect to {address:?}: {e}")))
    }

    /// Connects with little room in the kernel for what is not read.
    pub(crate) fn connect_small(address: &Address) -> Self {
        let Address::Tcp(address) = address else { return Self::connect(address) };
        // A program that another test starts meanwhile must not keep it open.
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket");
        // Before connecting: the window's scale is agreed on then (tcp(7)).
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("a small buffer");
        rustix::net::connect(&socket, address).expect("connected");
        Self::over(Socket::Tcp(TcpStream::from(socket)))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// Sends what the server may not want to take any more.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    /// No more comes from here.
    pub(crate) fn end_sending(&self) {
        self.socket.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Reads more into the buffer; says if that was the end.
    pub(crate) fn fill(&mut self, until: Instant) -> Option<Ended> {
        let mut chunk = vec![0; 64 * 1024];
        match self.socket.read(&mut chunk, until.saturating_duration_since(Instant::now())) {
            Ok(0) => Some(Ended::End),
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                None
            }
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                Some(Ended::Reset)
            }
            Err(e) => {
                let so_far = String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(500)]);
                panic!("nothing came in time ({e}); so far {so_far:?}")
            }
        }
    }

    /// All that comes until the end, and what kind of end that is.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Ended) {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(ended) = self.fill(until) {
                return (std::mem::take(&mut self.buffer), ended);
            }
        }
    }

    /// The server says nothing more and closes.
    pub(crate) fn expect_end(&mut self) {
        let (bytes, ended) = self.rest();
        assert_eq!((String::from_utf8_lossy(&bytes).as_ref(), ended), ("", Ended::End));
    }

    /// Asks, for a path, and gives the answer; the connection stays.
    pub(crate) fn ask(&mut self, method: &str, target: &str, fields: &str) -> Response {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        self.response(method)
    }

    /// The next answer, to a request with this method.
    pub(crate) fn response(&mut self, method: &str) -> Response {
        let until = Instant::now() + DEADLINE;
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if let Some(ended) = self.fill(until) {
                panic!("{ended:?} instead of an answer: {:?}", String::from_utf8_lossy(&self.buffer));
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head in UTF-8");
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().expect("a status line");
        assert!(first.starts_with("HTTP/1.1 "), "{first}");
        let status = first[9..12].parse().unwrap_or_else(|e| panic!("{first}: {e}"));
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("field {line:?}"));
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let mut response = Response { status, fields, body: Vec::new() };
        let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
        if !bodiless {
            response.body = if response.field("transfer-encoding") == Some("chunked") {
                assert_eq!(response.field("content-length"), None, "one way to tell the end (RFC 9112 §6.2)");
                self.chunks(until)
            } else {
                let length = response.field("content-length");
                let length = length.unwrap_or_else(|| panic!("no length in {response:?}"));
                self.take(length.parse().expect("a length"), until)
            };
        }
        response
    }

    /// So many bytes.
    fn take(&mut self, length: usize, until: Instant) -> Vec<u8> {
        while self.buffer.len() < length {
            if let Some(ended) = self.fill(until) {
                panic!("{ended:?} after {} of {length} bytes", self.buffer.len());
            }
        }
        self.buffer.drain(..length).collect()
    }

    /// A body in chunks (RFC 9112 §7.1).
    fn chunks(&mut self, until: Instant) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.take(1, until));
            }
            let length = std::str::from_utf8(&line).expect("a length").trim_end();
            let length = usize::from_str_radix(length, 16).unwrap_or_else(|e| panic!("{length:?}: {e}"));
            body.extend(self.take(length, until));
            assert_eq!(self.take(2, until), b"\r\n");
            if length == 0 {
                return body;
            }
        }
    }
}
