//! Sockets from another process: socket activation by systemd, and descriptor 0 from inetd.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use listenfd::ListenFd;
use rustix::net::{SocketType, sockopt};

use super::listener::{ListenError, Listener, announce};
use crate::sys::reason;

/// The largest `LISTEN_FDS` that is accepted.
const MAX_SOCKETS: usize = 64;

/// `AF_INET`, `AF_UNIX` and `SOCK_STREAM` (`listenfd` accepts IPv6 for `AF_INET` as well).
const FAMILIES: [i32; 2] = [2, 1];
const STREAM: i32 = 1;

#[derive(Debug)]
pub enum Inherited {
    /// A listening socket.
    Listener(Listener),
    /// One accepted connection.
    Connection(OwnedFd),
}

/// The sockets of `LISTEN_FDS`, if `LISTEN_PID` is this process (`sd_listen_fds`(3)). Must be called before the first
/// thread starts: it removes the variables.
pub fn systemd() -> Result<Vec<Inherited>, ListenError> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // `listenfd` also accepts a count without a process id, which can be meant for the parent process.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0) as usize;
    if count > MAX_SOCKETS {
        return Err(ListenError::Inherited(
            3,
            format!("LISTEN_FDS announces {count}, at most {MAX_SOCKETS} are taken"),
        ));
    }
    let mut handed = ListenFd::from_env();
    (0..count)
        .map(|index| {
            let fd = i32::try_from(index).unwrap_or(0) + 3;
            let taken = FAMILIES
                .into_iter()
                .find_map(|family| {
                    handed.take_custom::<OwnedFd>(index, family, STREAM, "stream socket").ok().flatten()
                })
                .ok_or_else(|| ListenError::Inherited(fd, "not a TCP or unix stream socket".to_owned()))?;
            classify(taken, fd)
        })
        .collect()
}

/// The socket that inetd passes as descriptor 0. It is duplicated, and `/dev/null` replaces 0, and 1 and 2 if they are the
/// same socket. Also returns whether standard error is not that socket.
pub fn inetd() -> Result<(Inherited, bool), ListenError> {
    let failed = |e: std::io::Error| ListenError::Inherited(0, reason(&e));
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(|e| failed(e.into()))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let same = |fd: std::io::Result<OwnedFd>| {
        let identity = |fd: OwnedFd| File::from(fd).metadata().ok().map(|file| (file.dev(), file.ino()));
        let ours = socket.try_clone().ok().and_then(identity);
        ours.is_some() && fd.ok().and_then(identity) == ours
    };
    let stdout_is_client = same(std::io::stdout().as_fd().try_clone_to_owned());
    let stderr_is_client = same(std::io::stderr().as_fd().try_clone_to_owned());
    let replaced = (|| {
        rustix::stdio::dup2_stdin(&null)?;
        if stdout_is_client {
            rustix::stdio::dup2_stdout(&null)?;
        }
        if stderr_is_client {
            rustix::stdio::dup2_stderr(&null)?;
        }
        rustix::io::Result::Ok(())
    })();
    replaced.map_err(|e| failed(e.into()))?;
    Ok((classify(socket, 0)?, !stderr_is_client))
}

fn classify(socket: OwnedFd, fd: i32) -> Result<Inherited, ListenError> {
    let failed = |what: &str| ListenError::Inherited(fd, what.to_owned());
    match sockopt::socket_type(&socket) {
        Ok(SocketType::STREAM) => {}
        Ok(_) => return Err(failed("not a stream socket")),
        Err(_) => return Err(failed("not a socket")),
    }
    if sockopt::socket_acceptconn(&socket).unwrap_or(false) {
        rustix::io::ioctl_fionbio(&socket, true).map_err(|e| failed(&reason(&e.into())))?;
        let announced = announce(socket.as_fd());
        return Ok(Inherited::Listener(Listener { socket, announced, redirect: None, _file: None }));
    }
    // A connection is read with blocking calls.
    rustix::io::ioctl_fionbio(&socket, false).map_err(|e| failed(&reason(&e.into())))?;
    Ok(Inherited::Connection(socket))
}
