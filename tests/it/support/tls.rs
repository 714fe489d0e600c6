//! A client's side of TLS, and the certificates of the tests.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::raw::Address;
use super::{DEADLINE, Server};

/// The path of a certificate or key of the tests: see `tests/it/certificates/make`.
pub(crate) fn file(name: &str) -> String {
    format!("{}/tests/it/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A server's options for TLS.
pub(crate) fn options() -> [String; 2] {
    [format!("--tlscert={}", file("server.pem")), format!("--tlskey={}", file("server.key"))]
}

/// The settings of a client: the versions that it speaks, and the name of its certificate.
pub(crate) fn config(
    versions: &[&'static SupportedProtocolVersion],
    certificate: Option<&str>,
) -> Arc<ClientConfig> {
    let certificates = |name: &str| CertificateDer::from_pem_file(file(name)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificates("ca.pem")).expect("the certificate of the CA");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions that there are")
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).expect("a key");
            builder
                .with_client_auth_cert(vec![certificates(&format!("{name}.pem"))], key)
                .expect("a certificate with its key")
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A server, and how to speak to it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) config: Arc<ClientConfig>,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl Eq for Target {}

/// The server's first address, for clients that speak TLS.
pub(crate) fn address(server: &Server, config: &Arc<ClientConfig>) -> Address {
    let Address::Tcp(address) = *server.address() else { panic!("not TCP") };
    Address::Tls(Target { address, config: Arc::clone(config) })
}

/// A connection; a clone is the same one, for another thread.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    pub(crate) tcp: Arc<TcpStream>,
    session: Arc<Mutex<ClientConnection>>,
    /// Held by the one that writes ciphertext.
    writing: Arc<Mutex<()>>,
    /// Ciphertext that the session had no room for.
    unread: Arc<Mutex<Vec<u8>>>,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream, target: &Target) -> Self {
        tcp.set_write_timeout(Some(DEADLINE)).expect("a time-out");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::clone(&target.config), name).expect("a client");
        Self {
            tcp: Arc::new(tcp),
            session: Arc::new(Mutex::new(session)),
            writing: Arc::default(),
            unread: Arc::default(),
        }
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads plaintext. The end of TCP without a `close_notify` is an error.
    pub(crate) fn read(&self, buffer: &mut [u8], time: Option<Duration>) -> io::Result<usize> {
        let until = time.and_then(|time| Instant::now().checked_add(time));
        loop {
            let read = self.session().reader().read(buffer);
            if !matches!(&read, Err(e) if e.kind() == ErrorKind::WouldBlock) {
                return read;
            }
            // Another thread may be writing, to a server that does not read.
            if let Ok(writing) = self.writing.try_lock() {
                // Where nothing can be sent any more, there may still be something to read.
                let _ = self.send(&writing);
            }
            self.receive(until)?;
        }
    }

    /// Reads ciphertext once. Blocks without the lock, so that others can write.
    fn receive(&self, until: Option<Instant>) -> io::Result<()> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        self.tcp.set_read_timeout(left.map(|left| left.max(Duration::from_millis(1))))?;
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if unread.is_empty() {
            unread.resize(4096, 0);
            let read = (&*self.tcp).read(&mut unread);
            unread.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let mut session = self.session();
        let read = session.read_tls(&mut unread.as_slice())?;
        unread.drain(..read);
        session.process_new_packets().map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        Ok(())
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.send(&self.writing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes without the lock of the session, so that others can read.
    fn send(&self, _writing: &MutexGuard<'_, ()>) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.session().wants_write() {
            self.session().write_tls(&mut bytes)?;
        }
        (&*self.tcp).write_all(&bytes)
    }

    /// Ends the handshake.
    pub(crate) fn shake_hands(&self) -> io::Result<()> {
        let until = Instant::now() + DEADLINE;
        while self.session().is_handshaking() {
            self.flush()?;
            self.receive(Some(until))?;
        }
        self.flush()
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.shake_hands()?;
        for part in bytes.chunks(16 * 1024) {
            self.session().writer().write_all(part)?;
            self.flush()?;
        }
        Ok(())
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Read {
            self.session().send_close_notify();
            self.flush()?;
        }
        self.tcp.shutdown(how)
    }
}
