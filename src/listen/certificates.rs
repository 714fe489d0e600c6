//! The certificate of the server, with its key: read at start, and again when a file has changed.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::config::TlsFiles;
use crate::log::Log;
use crate::sink::Stream;
use crate::sys::{lock, reason};

/// How often it is checked whether the files have changed.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub struct Certificates {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    versions: Vec<Version>,
    checked: Instant,
}

/// What shows that a file has changed: device, inode, size and time; `None` if it is not there.
type Version = Option<(u64, u64, u64, i64, i64)>;

impl Certificates {
    /// # Errors
    /// Which file is wrong, and why.
    pub fn load(files: &TlsFiles) -> Result<Self, String> {
        // Before the files are read: a change after that is noticed later.
        let (versions, checked) = (versions(files), Instant::now());
        let config = read(files, |path| fs::read(path))?;
        Ok(Self { files: files.clone(), current: Mutex::new(Current { config, versions, checked }) })
    }

    /// The stream of a new connection.
    ///
    /// # Errors
    /// Of rustls, if it cannot use its settings; none is known.
    pub fn secure(&self, socket: OwnedFd, log: &Log) -> io::Result<Stream> {
        Stream::secure(socket, &self.current(log)).map_err(io::Error::other)
    }

    fn current(&self, log: &Log) -> Arc<ServerConfig> {
        let mut current = lock(&self.current);
        if current.checked.elapsed() >= CHECK_EVERY {
            current.checked = Instant::now();
            let versions = versions(&self.files);
            if versions != current.versions {
                current.versions = versions;
                match read(&self.files, regular_file) {
                    Ok(config) => {
                        current.config = config;
                        log.info("certificate loaded")
                            .field("file", self.files.certificate.display())
                            .write();
                    }
                    Err(e) => {
                        // Once for each change, as the version is remembered.
                        log.error("certificate not loaded, the old one stays").field("reason", e).write();
                    }
                }
            }
        }
        Arc::clone(&current.config)
    }
}

fn paths(files: &TlsFiles) -> impl Iterator<Item = &Path> {
    let TlsFiles { certificate, key, client_ca } = files;
    [Some(certificate), Some(key), client_ca.as_ref()].into_iter().flatten().map(PathBuf::as_path)
}

fn versions(files: &TlsFiles) -> Vec<Version> {
    let version = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    };
    paths(files).map(version).collect()
}

/// How the content of a file is read.
type Contents = fn(&Path) -> io::Result<Vec<u8>>;

/// Reads a file unless it is a FIFO or a device, which could take for ever: the thread that accepts connections reads.
/// At start such a file is read: a shell makes one for `<(command)`.
fn regular_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn read(files: &TlsFiles, contents: Contents) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&files.certificate, contents)?;
    let key = PrivateKeyDer::from_pem_slice(&content(&files.key, contents)?)
        .map_err(|e| unusable("key", &files.key, &no_item(&e, "private key that is not encrypted")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let bad = |e: &dyn Display| unusable("certificate", path, e);
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, contents)? {
                roots.add(certificate).map_err(|e| bad(&e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|e| bad(&e))?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|e| unusable("certificate", &files.certificate, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A client keeps what it needs to resume. New files have new tickets, so that each client is checked again.
    config.ticketer = ring::Ticketer::new().map_err(|e| e.to_string())?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The certificates in a file, at least one.
fn certificates(path: &Path, contents: Contents) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = content(path, contents)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable("certificate", path, &no_item(&PemError::NoItemsFound, "certificate"))),
        Err(e) => Err(unusable("certificate", path, &no_item(&e, "certificate"))),
    }
}

fn content(path: &Path, contents: Contents) -> Result<Vec<u8>, String> {
    contents(path).map_err(|e| format!("cannot read {}: {}", path.display(), reason(&e)))
}

fn no_item(error: &PemError, what: &str) -> String {
    match error {
        PemError::NoItemsFound => format!("there is no {what} in it, in PEM format"),
        error => error.to_string(),
    }
}

fn unusable(what: &str, path: &Path, why: &dyn Display) -> String {
    format!("cannot use the {what} in {}: {why}", path.display())
}
