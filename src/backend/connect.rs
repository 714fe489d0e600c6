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
use crate::sink::{Stdin, Stream};
use crate::sys::deadline::Deadline;
use crate::sys::poll::ready;
use crate::sys::reason;

/// For all addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is asked whether the connection is still wanted.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The first pause before a unix socket whose queue is full is tried again. It doubles up to [`ASK_AGAIN`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);

pub(super) fn start(
    destination: &Destination,
    shared: &Shared,
    context: &StartContext,
    wanted: &dyn Fn() -> bool,
) -> Result<Started, StartError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let stream = match destination {
        Destination::Unix(path) => unix(path, deadline, wanted),
        Destination::Tcp(address) => tcp(*address, deadline, wanted),
        Destination::Host(name, port) => resolve(name, *port)
            .and_then(|addresses| first(&addresses, |address| tcp(address, deadline, wanted))),
    };
    let stream = stream.map_err(StartError::NotConnected)?;
    let output = stream.try_clone().map_err(StartError::Resources)?;
    Ok(Started {
        input: Stdin::new(Stream::Socket(stream), INPUT_BOUND),
        source: Source {
            kind: "connection",
            output: Some(output),
            log_pipe: LogPipe::none(&shared.log, &context.room),
            process: None,
            at_end: AtEnd::Over,
        },
    })
}

/// The error is for clients, too: it does not say the name.
fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> = (name, port)
        .to_socket_addrs()
        .map_err(|e| format!("its name is not found: {}", reason(&e)))?
        .collect();
    if addresses.is_empty() { Err("its name has no address".to_owned()) } else { Ok(addresses) }
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

fn unix(path: &std::path::Path, deadline: Instant, wanted: &dyn Fn() -> bool) -> Result<OwnedFd, String> {
    let address = SocketAddrUnix::new(path).map_err(|e| reason(&e.into()))?;
    let socket = socket(AddressFamily::UNIX)?;
    let mut pause = FIRST_PAUSE;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // The queue of the listener is full (connect(2)). No event says when it is not.
            Err(Errno::AGAIN) => go_on(deadline, wanted)?,
            Err(e) => return Err(reason(&e.into())),
        }
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (2 * pause).min(ASK_AGAIN);
    }
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
        go_on(deadline, wanted)?;
    }
}

/// Whether it makes sense to wait any longer; if not, why.
fn go_on(deadline: Instant, wanted: &dyn Fn() -> bool) -> Result<(), String> {
    if !wanted() {
        return Err("the server is shutting down".to_owned());
    }
    if Instant::now() >= deadline {
        return Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
    }
    Ok(())
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
        assert!(unix(&path, soon, &|| true).is_ok());
        drop(listener);
        assert_eq!(unix(&path, soon, &|| true).expect_err("closed"), "Connection refused");
        std::fs::remove_file(&path).expect("its socket file");
        assert_eq!(unix(&path, soon, &|| true).expect_err("gone"), "No such file or directory");
    }

    #[test]
    fn a_unix_socket_whose_queue_is_full_is_waited_for() {
        let path = std::env::temp_dir().join(format!("scalesocket-full-{}", std::process::id()));
        let listener = socket(AddressFamily::UNIX).expect("a socket");
        let address = SocketAddrUnix::new(&path).expect("an address");
        rustix::net::bind(&listener, &address).expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let now = Instant::now();
        let mut queued = Vec::new();
        let full = loop {
            match unix(&path, now, &|| true) {
                Ok(stream) => queued.push(stream),
                Err(e) => break e,
            }
        };
        assert_eq!(full, "no answer within 10 s");
        let later = now + Duration::from_secs(60);
        assert_eq!(unix(&path, later, &|| false).expect_err("unwanted"), "the server is shutting down");
        let asked = std::cell::Cell::new(0);
        let accept_one = || {
            if asked.replace(asked.get() + 1) == 1 {
                rustix::net::accept(&listener).expect("one that waits");
            }
            true
        };
        assert!(unix(&path, later, &accept_one).is_ok());
        std::fs::remove_file(&path).expect("its socket file");
    }
}
