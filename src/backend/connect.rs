//! A connection to a given address, without a process.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::ending::AtEnd;
use super::log_pipe::LogPipe;
use super::room_side::Shared;
use super::started::{INPUT_BOUND, Source, StartContext, StartError, Started};
use crate::recipe::Destination;
use crate::sink::Stdin;
use crate::sys::deadline::Deadline;
use crate::sys::poll::ready;
use crate::sys::reason;

/// For all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is asked whether the connection is still wanted.
const ASK_AGAIN: Duration = Duration::from_millis(200);

pub(super) fn start(
    destination: &Destination,
    shared: &Shared,
    context: &StartContext,
    wanted: &dyn Fn() -> bool,
) -> Result<Started, StartError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let stream = match destination {
        Destination::Unix(path) => unix(path),
        Destination::Tcp(address) => tcp(*address, deadline, wanted),
        Destination::Host(name, port) => resolve(name, *port)
            .and_then(|addresses| first(&addresses, |address| tcp(address, deadline, wanted))),
    };
    let stream = stream.map_err(StartError::NotConnected)?;
    let output = stream.try_clone().map_err(StartError::Resources)?;
    Ok(Started {
        input: Stdin::to_socket(stream, INPUT_BOUND),
        source: Source {
            kind: "connection",
            output: Some(output),
            log_pipe: LogPipe::none(&shared.log, &context.room),
            process: None,
            at_end: AtEnd::Over,
        },
    })
}

fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> =
        (name, port).to_socket_addrs().map_err(|e| format!("{name} is not found: {}", reason(&e)))?.collect();
    if addresses.is_empty() { Err(format!("{name} has no address")) } else { Ok(addresses) }
}

/// The first of the addresses that answers; otherwise why the last one does not.
fn first(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> Result<OwnedFd, String>,
) -> Result<OwnedFd, String> {
    let mut failure = String::new();
    for &address in addresses {
        match connect(address) {
            Ok(stream) => return Ok(stream),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

fn tcp(address: SocketAddr, deadline: Instant, wanted: &dyn Fn() -> bool) -> Result<OwnedFd, String> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => wait(&socket, deadline, wanted)?,
        Err(e) => return Err(reason(&e.into())),
    }
    // Where no socket listens on the port, a connection can connect to itself (RFC 9293 §3.5).
    let own = rustix::net::getsockname(&socket).ok().and_then(|own| SocketAddr::try_from(own).ok());
    if own == Some(address) {
        return Err(reason(&Errno::CONNREFUSED.into()));
    }
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    Ok(socket)
}

fn unix(path: &std::path::Path) -> Result<OwnedFd, String> {
    let address = SocketAddrUnix::new(path).map_err(|e| reason(&e.into()))?;
    let socket = socket(AddressFamily::UNIX)?;
    // Never in progress: it succeeds at once, or the backlog is full (EAGAIN).
    rustix::net::connect(&socket, &address).map_err(|e| reason(&e.into()))?;
    Ok(socket)
}

fn socket(family: AddressFamily) -> Result<OwnedFd, String> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(|e| reason(&e.into()))
}

/// Waits until a connection is made, or fails.
fn wait(socket: &OwnedFd, deadline: Instant, wanted: &dyn Fn() -> bool) -> Result<(), String> {
    loop {
        let until = deadline.min(Instant::now() + ASK_AGAIN);
        let made = ready(socket.as_fd(), PollFlags::OUT, Deadline::at(until)).map_err(|e| reason(&e))?;
        if made {
            return match sockopt::socket_error(socket) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) | Err(e) => Err(reason(&e.into())),
            };
        }
        if !wanted() {
            return Err("the server is shutting down".to_owned());
        }
        if Instant::now() >= deadline {
            return Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_listens_is_reached_and_what_does_not_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let soon = Instant::now() + Duration::from_secs(5);
        assert!(tcp(address, soon, &|| true).is_ok());
        let names = resolve("localhost", address.port()).expect("a name that is always there");
        assert!(first(&names, |address| tcp(address, soon, &|| true)).is_ok());
        drop(listener);
        assert_eq!(tcp(address, soon, &|| true).expect_err("closed"), "Connection refused");
        let path = std::env::temp_dir().join(format!("scalesocket-connect-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bind");
        assert!(unix(&path).is_ok());
        drop(listener);
        assert_eq!(unix(&path).expect_err("closed"), "Connection refused");
        std::fs::remove_file(&path).expect("its socket file");
        assert_eq!(unix(&path).expect_err("gone"), "No such file or directory");
    }
}
