//! A TLS connection over a socket: one more kind of [`Stream`](super::Stream).
//!
//! Ciphertext is read outside the lock. A write encrypts one record at a time, and only while the kernel takes all of
//! it: what it does not take is *owed*, less than one record beside some bytes of the handshake.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{Error, ServerConfig};

use super::state::PARTIAL;
use crate::sys::deadline::Deadline;
use crate::sys::lock;
use crate::sys::poll::{poll, ready};
use crate::sys::progress::TRY_AGAIN;
use crate::sys::socket::send_now;

/// The largest plaintext of a record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;

/// How much larger a record of any cipher suite is than its plaintext, at most.
const OVERHEAD: usize = 64;

/// The largest plaintext of one write.
const MAX_WRITE: usize = 4 * RECORD;

/// The most ciphertext that waits for more: a message of the handshake in many small records.
const MAX_INCOMING: usize = 128 * 1024;

/// Buffers that the next write takes. Without them musl's allocator maps and unmaps two pages for each record.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// The most that are kept.
const MAX_SPARE: usize = 4;

/// See the module's documentation.
pub struct Tls {
    socket: OwnedFd,
    state: Mutex<State>,
    /// How many bytes are owed, for callers that must not wait for the lock.
    owed: AtomicUsize,
}

struct State {
    connection: UnbufferedServerConnection,
    phase: Phase,
    /// Ciphertext that is not a whole record yet.
    incoming: Vec<u8>,
    /// Plaintext that no caller has taken, from `given` on.
    plain: Vec<u8>,
    given: usize,
    /// Ciphertext that the kernel has not taken, from `flushed` on.
    outgoing: Vec<u8>,
    flushed: usize,
    /// Bytes that the kernel has taken.
    sent: u64,
    /// How much larger the last record was than its plaintext.
    overhead: usize,
}

/// How far a connection is.
#[derive(Debug, PartialEq)]
enum Phase {
    /// Nothing was received.
    New,
    /// The handshake or data.
    Secure,
    /// The peer speaks HTTP without TLS. What is written now is not encrypted: a response that says so.
    PlainHttp,
    /// The peer sends nothing more.
    Ended,
    /// The peer broke the protocol, or was refused.
    Failed(Error),
}

impl Tls {
    pub(super) fn new(socket: OwnedFd, config: &Arc<ServerConfig>) -> Result<Self, Error> {
        let state = State {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            phase: Phase::New,
            incoming: Vec::new(),
            plain: Vec::new(),
            given: 0,
            outgoing: Vec::new(),
            flushed: 0,
            sent: 0,
            overhead: 0,
        };
        Ok(Self { socket, state: Mutex::new(state), owed: AtomicUsize::new(0) })
    }

    /// Reads once, blocking as the socket does.
    ///
    /// # Errors
    /// [`PARTIAL`] when bytes have arrived, but no whole record.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        if let Some(given) = self.give(buffer) {
            return Ok(given);
        }
        let read = rustix::io::read(&self.socket, &mut *buffer)?;
        self.decrypt(buffer, read).map_err(|_| Errno::PROTO)?.ok_or(PARTIAL)
    }

    /// Reads, waiting until the deadline at most.
    pub(super) fn read_by(&self, buffer: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        if let Some(given) = self.give(buffer) {
            return Ok(given);
        }
        loop {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, read)) => {
                    if let Some(given) = self.decrypt(buffer, read)? {
                        return Ok(given);
                    }
                    // Records without data must not keep a caller here.
                    if deadline.passed() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let owes = self.owed() > 0;
                    let events = if owes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                    let mut fds = [PollFd::new(&self.socket, events)];
                    if poll(&mut fds, deadline)? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    if owes {
                        self.flush()?;
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Whether a read returns at once, without a look at the socket.
    pub(super) fn is_readable(&self) -> bool {
        let state = lock(&self.state);
        !state.plain.is_empty() || state.phase == Phase::Ended
    }

    /// Encrypts and writes without blocking; returns how much plaintext was taken. What the kernel did not take is owed.
    ///
    /// # Errors
    /// `AGAIN` while something is owed or the handshake is not over.
    pub(super) fn write(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut state = lock(&self.state);
        if state.phase == Phase::PlainHttp {
            return send_now(self.socket.as_fd(), slices);
        }
        let result = state.write(self.socket.as_fd(), slices);
        self.note_owed(&state);
        result
    }

    /// Writes what is owed; returns how much still is.
    pub(super) fn flush(&self) -> Result<usize, Errno> {
        let mut state = lock(&self.state);
        let result = state.flush(self.socket.as_fd());
        self.note_owed(&state);
        match result {
            Ok(()) | Err(Errno::AGAIN) => Ok(state.owed()),
            Err(e) => Err(e),
        }
    }

    /// Bytes that the kernel has not taken.
    pub(super) fn owed(&self) -> usize {
        self.owed.load(Ordering::Acquire)
    }

    /// Bytes that the kernel has taken.
    pub(super) fn sent(&self) -> u64 {
        lock(&self.state).sent
    }

    /// How much larger a record is than its plaintext.
    pub(super) fn overhead(&self) -> usize {
        lock(&self.state).overhead
    }

    /// Why the connection has failed, if the peer has broken the protocol.
    pub(super) fn failure(&self) -> Option<String> {
        match &lock(&self.state).phase {
            Phase::Failed(error) => Some(describe(error)),
            _ => None,
        }
    }

    /// Tells the peer that nothing follows (`close_notify`), waiting until then for its kernel to take what is owed.
    pub(super) fn say_end(&self, time: Duration, hurries: impl Fn() -> bool) {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Secure | Phase::Ended) {
            // A peer that is gone does not need it.
            let _ = state.process(Outgoing::End);
        }
        self.note_owed(&state);
        drop(state);
        let until = Instant::now() + time;
        while let Ok(1..) = self.flush() {
            let now = Instant::now();
            let next = Deadline::at(until.min(now + TRY_AGAIN));
            if now >= until || hurries() || ready(self.socket.as_fd(), PollFlags::OUT, next).is_err() {
                return;
            }
        }
    }

    /// Gives plaintext that is there, or the end of it.
    fn give(&self, buffer: &mut [u8]) -> Option<usize> {
        lock(&self.state).give(buffer)
    }

    /// Takes ciphertext out of the buffer and puts plaintext there; `None` if there is none yet.
    fn decrypt(&self, buffer: &mut [u8], read: usize) -> io::Result<Option<usize>> {
        let mut state = lock(&self.state);
        state.receive(&buffer[..read]);
        // Tickets, alerts and the like. If it fails, so does the next read or write.
        let _ = state.flush(self.socket.as_fd());
        self.note_owed(&state);
        match (state.give(buffer), &state.phase) {
            (Some(given), _) => Ok(Some(given)),
            (None, Phase::PlainHttp) => Err(io::ErrorKind::Unsupported.into()),
            (None, Phase::Failed(error)) => Err(io::Error::other(describe(error))),
            (None, _) => Ok(None),
        }
    }

    fn note_owed(&self, state: &State) {
        self.owed.store(state.owed(), Ordering::Release);
    }
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
enum Outgoing<'a> {
    Nothing,
    Data(&'a [u8]),
    End,
}

impl State {
    fn owed(&self) -> usize {
        self.outgoing.len() - self.flushed
    }

    fn give(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let left = &self.plain[self.given..];
        if left.is_empty() {
            return (self.phase == Phase::Ended).then_some(0);
        }
        let given = left.len().min(buffer.len());
        buffer[..given].copy_from_slice(&left[..given]);
        self.given += given;
        if self.given == self.plain.len() {
            // An idle connection keeps no buffers.
            (self.plain, self.given) = (Vec::new(), 0);
        }
        Some(given)
    }

    /// Takes what was read from the socket; nothing is the end.
    fn receive(&mut self, bytes: &[u8]) {
        match (&self.phase, bytes) {
            (Phase::New | Phase::Secure, []) => self.phase = Phase::Ended,
            (Phase::New, [b'A'..=b'Z', ..]) => self.phase = Phase::PlainHttp,
            (Phase::New | Phase::Secure, _) => {
                self.phase = Phase::Secure;
                self.incoming.extend_from_slice(bytes);
                if let Err(error) = self.process(Outgoing::Nothing) {
                    self.phase = Phase::Failed(error);
                    self.incoming = Vec::new();
                }
            }
            _ => {}
        }
    }

    /// Processes what was received, then encrypts; returns whether the connection is ready for that.
    fn process(&mut self, message: Outgoing<'_>) -> Result<bool, Error> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut sealed = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.outgoing, 1024, |out| {
                        data.encode(out).map_err(|error| match error {
                            EncodeError::InsufficientSize(e) => Some(e.required_size),
                            EncodeError::AlreadyEncoded => None,
                        })
                    })?;
                }
                // It is kept until the kernel has taken it.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.phase = Phase::Ended,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let (plain, end) = match message {
                        Outgoing::Nothing => return self.tidy(discard).map(|()| true),
                        Outgoing::Data(plain) => (plain, false),
                        Outgoing::End => (&[][..], true),
                    };
                    let added = append(&mut self.outgoing, plain.len() + OVERHEAD, |out| {
                        let result =
                            if end { traffic.queue_close_notify(out) } else { traffic.encrypt(plain, out) };
                        result.map_err(|error| match error {
                            EncryptError::InsufficientSize(e) => Some(e.required_size),
                            EncryptError::EncryptExhausted => None,
                        })
                    })?;
                    self.overhead = added.saturating_sub(plain.len());
                    sealed = Some(true);
                }
                Ok(_) => sealed = Some(false),
                Err(error) => {
                    self.incoming.drain(..discard);
                    self.take_alert();
                    return Err(error);
                }
            }
            self.tidy(discard)?;
            if let Some(sealed) = sealed {
                return Ok(sealed);
            }
        }
    }

    /// Drops what has been processed.
    fn tidy(&mut self, discard: usize) -> Result<(), Error> {
        if discard >= self.incoming.len() {
            self.incoming = Vec::new();
        } else {
            self.incoming.drain(..discard);
        }
        if self.incoming.len() > MAX_INCOMING {
            return Err(Error::General("a message of the handshake is too large".to_owned()));
        }
        Ok(())
    }

    /// After an error: the alert for the peer. rustls must not be asked to process anything else any more: it may have kept
    /// a place in a buffer that is gone.
    fn take_alert(&mut self) {
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else { return };
            let _ = append(&mut self.outgoing, OVERHEAD, |out| data.encode(out).map_err(|_| None));
        }
    }

    fn write(&mut self, socket: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.flush(socket)?;
        let most = slices.iter().map(|slice| slice.len()).sum::<usize>().min(MAX_WRITE);
        let mut taken = 0;
        while taken < most {
            if matches!(self.phase, Phase::Failed(_)) {
                return Err(Errno::PIPE);
            }
            let mut joined = spare();
            let plain = next_record(slices, taken, &mut joined);
            let length = plain.len();
            let result = self.process(Outgoing::Data(plain));
            put_back(joined);
            match result {
                Ok(true) => taken += length,
                // The handshake is not over.
                Ok(false) => return Err(Errno::AGAIN),
                Err(error) => {
                    self.phase = Phase::Failed(error);
                    continue;
                }
            }
            match self.flush(socket) {
                Ok(()) => {}
                Err(Errno::AGAIN) => {
                    self.keep_only_owed();
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(taken)
    }

    /// Copies what is owed to a buffer of its own length: it may wait for long.
    fn keep_only_owed(&mut self) {
        let owed = self.outgoing[self.flushed..].to_vec();
        put_back(std::mem::replace(&mut self.outgoing, owed));
        self.flushed = 0;
    }

    /// Writes what is owed.
    ///
    /// # Errors
    /// `AGAIN` if something still is.
    fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        while self.owed() > 0 {
            let written = send_now(socket, &[IoSlice::new(&self.outgoing[self.flushed..])])?;
            self.flushed += written;
            self.sent += written as u64;
        }
        if self.flushed > 0 {
            put_back(std::mem::take(&mut self.outgoing));
            self.flushed = 0;
        }
        Ok(())
    }
}

fn spare() -> Vec<u8> {
    lock(&SPARE).pop().unwrap_or_default()
}

fn put_back(mut buffer: Vec<u8>) {
    buffer.clear();
    let mut spare = lock(&SPARE);
    if spare.len() < MAX_SPARE && buffer.capacity() <= 2 * RECORD {
        spare.push(buffer);
    }
}

/// The plaintext of the next record, from this offset on.
fn next_record<'a>(slices: &'a [IoSlice<'_>], mut offset: usize, joined: &'a mut Vec<u8>) -> &'a [u8] {
    let mut rest = slices.iter();
    while let Some(slice) = rest.next() {
        let skip = offset.min(slice.len());
        offset -= skip;
        let part = &slice[skip..];
        let part = &part[..part.len().min(RECORD - joined.len())];
        // Not copied if it is a whole record, or all that there is.
        if joined.is_empty() && (part.len() == RECORD || rest.len() == 0 && !part.is_empty()) {
            return part;
        }
        joined.extend_from_slice(part);
    }
    joined
}

/// Appends what `encode` puts into a buffer of about `size` bytes. It fails with the size that it needs, if any will do.
fn append(
    outgoing: &mut Vec<u8>,
    size: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<usize, Error> {
    if outgoing.capacity() == 0 {
        *outgoing = spare();
    }
    let had = outgoing.len();
    outgoing.resize(had + size, 0);
    let mut result = encode(&mut outgoing[had..]);
    if let Err(Some(size)) = result {
        outgoing.resize(had + size, 0);
        result = encode(&mut outgoing[had..]);
    }
    outgoing.truncate(had + result.unwrap_or(0));
    result.map_err(|_| Error::EncryptError)
}

/// The error in words.
fn describe(error: &Error) -> String {
    format!("TLS: {error}")
}

impl AsFd for Tls {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // A connection that times out ends like any other.
        self.say_end(Duration::ZERO, || true);
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("socket", &self.socket).field("owed", &self.owed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;
    use crate::framing::batch::Batch;
    use crate::sink::{CloseOrder, CloseState, Outbox, Overflow, Stream, WriteResult};

    type Client = StreamOwned<ClientConnection, UnixStream>;

    fn server_config() -> Arc<ServerConfig> {
        let certificate = include_bytes!("../../tests/it/certificates/server.pem");
        let key = include_bytes!("../../tests/it/certificates/server.key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(key).expect("a key"),
            );
        Arc::new(config.expect("a configuration"))
    }

    fn client(socket: UnixStream) -> Client {
        let ca = include_bytes!("../../tests/it/certificates/ca.pem");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca).expect("a certificate")).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), socket)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    fn unconnected() -> (Tls, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        // As small as it can be: less than a record.
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 1).expect("a small buffer");
        (Tls::new(ours.into(), &server_config()).expect("a connection"), theirs)
    }

    /// Both ends, after the handshake. The client has sent `first`.
    fn connected(first: &[u8]) -> (Tls, Client) {
        let (server, theirs) = unconnected();
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                let mut client = client(theirs);
                client.write_all(first).expect("sent");
                client
            });
            let mut byte = [0];
            assert_eq!(server.read_by(&mut byte, soon()).expect("a byte"), 1);
            assert_eq!(byte, first[..1]);
            (server, connecting.join().expect("a client"))
        })
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length as u32).flat_map(u32::to_be_bytes).take(length).collect()
    }

    #[test]
    fn everything_arrives_in_order_through_a_socket_smaller_than_a_record() {
        let (server, mut client) = connected(b"!");
        let content = content(300_000);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut got = vec![0; content.len()];
                client.read_exact(&mut got).expect("all of it");
                got
            });
            let mut rest = content.as_slice();
            while !rest.is_empty() || server.owed() > 0 {
                // In two parts of uneven size.
                let (first, second) = rest.split_at(rest.len().min(10_001));
                let second = &second[..second.len().min(70_000)];
                match server.write(&[IoSlice::new(first), IoSlice::new(second)]) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(Errno::AGAIN) => {
                        ready(server.as_fd(), PollFlags::OUT, soon()).expect("poll");
                    }
                    Err(e) => panic!("{e}"),
                }
                assert!(server.owed() < RECORD + OVERHEAD, "{} bytes are owed", server.owed());
            }
            assert!(reading.join().expect("the reader") == content, "in order and complete");
        });
        assert!(server.sent() > 300_000, "with what TLS adds");
    }

    #[test]
    fn a_peer_that_takes_nothing_blocks_no_call_and_is_owed_one_record() {
        let (server, _client) = connected(b"!");
        let bytes = [b'x'; 5000];
        let mut taken = 0;
        while let Ok(more) = server.write(&[IoSlice::new(&bytes)]) {
            taken += more;
            assert!(taken < 1 << 20, "the kernel takes no more than its buffer");
        }
        let owed = server.owed();
        assert!((1..5000 + OVERHEAD).contains(&owed), "{owed}");
        for _ in 0..3 {
            assert_eq!(server.write(&[IoSlice::new(&bytes)]), Err(Errno::AGAIN));
            assert_eq!(server.flush(), Ok(owed));
        }
    }

    #[test]
    fn a_sink_is_neither_clear_nor_closed_while_its_stream_owes() {
        let (server, mut client) = connected(b"!");
        let sink = Outbox::new(Arc::new(Stream::Tls(Box::new(server))), 1 << 20);
        let mut batch = Batch::default();
        batch.push_frame(&[&[0x82, 126, 0x1f, 0x40][..], &[7; 8000]].concat());
        let batch = Arc::new(batch);
        let (mut sent, whole) = (0, std::array::from_fn::<_, 1, _>(|_| 0..batch.bytes.len()));
        // The last one is in the stream, not in the queue.
        while sink.send(&batch, &whole, Overflow::Queue) == WriteResult::Clear {
            sent += 1;
        }
        sent += 1;
        assert_eq!(sink.status().backlog, 0);
        assert!(sink.status().left > 0, "it waits");
        assert!(sink.claim_watch(), "so it has to be watched");
        let close = sink.close(&[0x88, 0], CloseOrder::AfterQueue);
        assert_eq!(close, WriteResult::Waits { needs_watcher: false });
        let (all, reading) = (sent * batch.bytes.len() + 2, channel());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut got = vec![0; all];
                client.read_exact(&mut got).expect("all of it");
                reading.0.send(got).expect("the test is there");
                client
            });
            let got = loop {
                let state = sink.status().close_state;
                let result = sink.flush_watched();
                assert!(state == CloseState::Closing || result == WriteResult::Clear);
                if let Ok(got) = reading.1.recv_timeout(Duration::from_millis(1)) {
                    break got;
                }
            };
            assert_eq!(got[all - 2..], [0x88, 0]);
            assert_eq!(sink.flush_watched(), WriteResult::Clear);
            let status = sink.status();
            assert_eq!((status.close_state, status.left), (CloseState::Closed, 0));
        });
    }

    #[test]
    fn plaintext_that_was_read_ahead_counts_as_readable() {
        let (server, mut client) = connected(b"0123456789");
        let stream = Stream::Tls(Box::new(server));
        let now = || Deadline::after(Duration::ZERO);
        assert!(stream.is_readable_by(now()), "the socket is empty, the record is not");
        let mut buffer = [0; 4];
        assert_eq!(stream.read(&mut buffer), Ok(4));
        assert_eq!(stream.read_by(&mut [0; 9], now()).expect("the rest"), 5);
        assert!(!stream.is_readable_by(now()));
        client.conn.send_close_notify();
        client.flush().expect("sent");
        assert!(stream.is_readable_by(soon()));
        assert_eq!(stream.read_by(&mut buffer, soon()).expect("the end"), 0);
        assert_eq!(stream.read(&mut buffer), Ok(0), "for good");
        assert!(stream.is_readable_by(now()), "the client waits for our close_notify with TCP open");
    }

    #[test]
    fn a_part_of_a_record_is_no_data_and_an_end_in_it_is_an_end() {
        let (server, client) = connected(b"!");
        let mut socket = &client.sock;
        socket.write_all(&[0x17, 3, 3, 1, 0, 9, 9]).expect("sent");
        let mut buffer = [0; 100];
        assert_eq!(server.read(&mut buffer), Err(PARTIAL));
        let error = server.read_by(&mut buffer, Deadline::after(Duration::ZERO)).expect_err("nothing");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        socket.shutdown(std::net::Shutdown::Write).expect("ended");
        assert_eq!(server.read(&mut buffer), Ok(0));
    }

    #[test]
    fn what_is_not_tls_is_told_so_and_never_a_panic() {
        let cases: [(&[u8], io::ErrorKind, &[u8]); 5] = [
            (b"GET / HTTP/1.1\r\n", io::ErrorKind::Unsupported, b""),
            (b"\x80\x2e\x01\x03\x01 an old ClientHello", io::ErrorKind::Other, b"\x15\x03\x03\x00\x02\x02"),
            (&[0; 100], io::ErrorKind::Other, b"\x15\x03\x03\x00\x02\x02"),
            (&[0x16, 3, 1, 0xff, 0xff, 1], io::ErrorKind::Other, b"\x15\x03\x03\x00\x02\x02"),
            (&[0x17, 3, 3, 0, 1, 1], io::ErrorKind::Other, b"\x15\x03\x03\x00\x02\x02"),
        ];
        for (sent, kind, answer) in cases {
            let (server, mut theirs) = unconnected();
            theirs.write_all(sent).expect("sent");
            let error = server.read_by(&mut [0; 1000], soon()).expect_err("no data");
            assert_eq!(error.kind(), kind, "{error} for {sent:?}");
            let written = server.write(&[IoSlice::new(b"plain")]);
            let expected = if answer.is_empty() { Ok(5) } else { Err(Errno::PIPE) };
            assert_eq!(written, expected);
            drop(server);
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).expect("the end");
            let answer = if answer.is_empty() { b"plain" } else { answer };
            assert_eq!(&got[..answer.len()], answer, "{sent:?}");
        }
    }
}
