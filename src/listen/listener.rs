//! A listening socket, its address, and errors.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::sys::reason;

/// A listening socket, in non-blocking mode, close-on-exec.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: OwnedFd,
    pub announced: Announced,
    /// All requests are redirected to this port.
    pub redirect: Option<u16>,
    /// Removes the socket file when dropped.
    pub(super) _file: Option<SocketFile>,
}

/// The address of a listener, as logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announced {
    /// With the real port, even if port 0 was given.
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// Another kind of inherited stream socket.
    Unnamed,
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Unnamed => f.write_str("an inherited socket"),
        }
    }
}

#[derive(Debug)]
pub enum ListenError {
    Bind(String, io::Error),
    NotASocket(PathBuf),
    /// Another process listens on this unix socket.
    InUse(PathBuf),
    /// An inherited descriptor, and what is wrong with it.
    Inherited(i32, String),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, e) => write!(f, "cannot listen on {address}: {}", why(address, e)),
            Self::NotASocket(path) => {
                write!(f, "cannot listen on unix:{}: the file is there and is not a socket", path.display())
            }
            Self::InUse(path) => {
                write!(f, "cannot listen on unix:{}: another server listens on it", path.display())
            }
            Self::Inherited(fd, what) => write!(f, "cannot use inherited descriptor {fd}: {what}"),
        }
    }
}

/// The reason, and what to do about it if known.
fn why(address: &str, error: &io::Error) -> String {
    let Some(path) = address.strip_prefix("unix:") else {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        return match (error.kind(), port) {
            (io::ErrorKind::AddrInUse, _) => "address already in use by another program".to_owned(),
            (io::ErrorKind::AddrNotAvailable, _) => "this machine does not have that address".to_owned(),
            (io::ErrorKind::PermissionDenied, Some(..1024)) => {
                "ports below 1024 need root or systemd socket activation".to_owned()
            }
            _ => reason(error),
        };
    };
    let directory = Path::new(path).parent().filter(|directory| !directory.as_os_str().is_empty());
    match (error.kind(), directory) {
        (io::ErrorKind::NotFound, Some(directory)) if !directory.exists() => {
            format!("the directory {} is not there", directory.display())
        }
        (io::ErrorKind::PermissionDenied, Some(directory)) if !Path::new(path).exists() => {
            format!("this user may not make a file in {}", directory.display())
        }
        _ => reason(error),
    }
}

impl std::error::Error for ListenError {}

/// The file of a unix socket. It is removed on drop, if it is still the same file.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn announce(socket: BorrowedFd<'_>) -> Announced {
    let Ok(name) = rustix::net::getsockname(socket) else { return Announced::Unnamed };
    if let Ok(address) = SocketAddr::try_from(name.clone()) {
        return Announced::Tcp(address);
    }
    let path = rustix::net::SocketAddrUnix::try_from(name).ok().and_then(|unix| {
        unix.path_bytes().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())))
    });
    path.map_or(Announced::Unnamed, Announced::Unix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listened_on_is_told_with_the_mend() {
        use rustix::io::Errno;
        for (address, error, text) in [
            ("0.0.0.0:9000", Errno::ADDRINUSE, "address already in use by another program"),
            (":9000", Errno::ADDRINUSE, "address already in use by another program"),
            ("192.0.2.1:9000", Errno::ADDRNOTAVAIL, "this machine does not have that address"),
            ("[::]:80", Errno::ACCESS, "ports below 1024 need root or systemd socket activation"),
            (":1023", Errno::ACCESS, "ports below 1024 need root or systemd socket activation"),
            (":1024", Errno::ACCESS, "Permission denied"),
            ("unix:/no/such/socket", Errno::NOENT, "the directory /no/such is not there"),
            ("unix:/etc/no such/socket", Errno::NOENT, "the directory /etc/no such is not there"),
            ("unix:/etc/no-such-socket", Errno::ACCESS, "this user may not make a file in /etc"),
            ("unix:/dev/null", Errno::ACCESS, "Permission denied"),
            ("unix:socket", Errno::NOENT, "No such file or directory"),
        ] {
            let told = ListenError::Bind(address.to_owned(), error.into()).to_string();
            assert_eq!(told, format!("cannot listen on {address}: {text}"));
        }
    }
}
