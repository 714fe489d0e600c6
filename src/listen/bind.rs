//! Creates listening sockets.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::listener::{Announced, ListenError, Listener, SocketFile, announce};
use crate::config::Address;

/// Connections that may wait to be accepted. With std's 128, clients in a burst of a thousand wait a second for the
/// retransmission of their SYN. The system's limit (net.core.somaxconn) applies as well.
const BACKLOG: i32 = 4096;

pub fn bind(address: &Address) -> Result<Listener, ListenError> {
    match address {
        Address::Tcp(address) => {
            tcp(*address, true).map_err(|e| ListenError::Bind(address.to_string(), e.into()))
        }
        Address::Any(port) => {
            let both = tcp((Ipv6Addr::UNSPECIFIED, *port).into(), false);
            // A system without IPv6.
            let listener = match both {
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                    tcp((Ipv4Addr::UNSPECIFIED, *port).into(), true)
                }
                other => other,
            };
            listener.map_err(|e| ListenError::Bind(format!(":{port}"), e.into()))
        }
        Address::Unix { path, mode } => unix(path, *mode),
    }
}

/// A TCP listener with SO_REUSEADDR, so that a restarted server can bind at once.
fn tcp(address: SocketAddr, only_v6: bool) -> Result<Listener, Errno> {
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let announced = announce(socket.as_fd());
    Ok(Listener { socket, announced, redirect: None, _file: None })
}

/// Connects without waiting, to find out whether a process listens.
fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

/// A unix socket. A stale file is replaced; a socket in use is an error.
fn unix(path: &Path, mode: Option<u32>) -> Result<Listener, ListenError> {
    let failed = |e| ListenError::Bind(format!("unix:{}", path.display()), e);
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => match probe(path) {
            // EAGAIN: the backlog of its listener is full.
            Ok(()) | Err(Errno::AGAIN) => return Err(ListenError::InUse(path.to_owned())),
            Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed)?,
            Err(e) => return Err(failed(e.into())),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    // The file must not have more permissions than requested, not even between bind and chmod.
    let before = mode.map(|mode| rustix::process::umask(Mode::from_raw_mode(0o777 & !mode)));
    let bound = UnixListener::bind(path);
    if let Some(before) = before {
        rustix::process::umask(before);
    }
    let listener = bound.map_err(failed)?;
    let file = fs::symlink_metadata(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), device: file.dev(), inode: file.ino() };
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    listener.set_nonblocking(true).map_err(failed)?;
    rustix::net::listen(&listener, BACKLOG).map_err(|e| failed(e.into()))?;
    Ok(Listener {
        socket: OwnedFd::from(listener),
        announced: Announced::Unix(path.to_owned()),
        redirect: None,
        _file: Some(file),
    })
}
