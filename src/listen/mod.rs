//! Where connections come from: TCP and unix sockets, sockets inherited from systemd or inetd, and the
//! loop that accepts.

pub mod accept;
mod bind;
mod inherited;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use self::inherited::{Inherited, inetd, systemd};
use crate::config::Address;

/// A listening socket, in non-blocking mode, close-on-exec.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    announced: Announced,
    /// The socket file that is ours to remove: kept for its drop.
    _file: Option<bind::SocketFile>,
}

/// The address of a listener, as it is told to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announced {
    /// An address and the real port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
    /// Some other kind of stream socket that was handed over.
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

/// Why there is nothing to listen on.
#[derive(Debug)]
pub enum ListenError {
    /// An address could not be had.
    Bind(String, io::Error),
    /// The file at the path of a unix socket is not a socket.
    NotASocket(PathBuf),
    /// Somebody listens on that unix socket.
    InUse(PathBuf),
    /// What was handed over is not what it should be; says which descriptor, and what is wrong.
    Inherited(i32, String),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, e) => write!(f, "cannot listen on {address}: {e}"),
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

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, e) => Some(e),
            Self::NotASocket(_) | Self::InUse(_) | Self::Inherited(..) => None,
        }
    }
}

/// Begins to listen on an address.
pub fn bind(address: &Address) -> Result<Listener, ListenError> {
    bind::bind(address)
}

impl Listener {
    /// The address as it is told to the world.
    pub fn announced(&self) -> &Announced {
        &self.announced
    }
}
