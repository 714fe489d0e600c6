//! Information about TCP connections that no socket option gives without `unsafe`: from netlink (sock_diag(7)). A
//! request takes some microseconds, so not for the hot path.
//!
//! Without netlink (a seccomp filter, `RestrictAddressFamilies=`) the owner of a socket is read from `/proc/net/tcp`. If
//! that is not readable either, the answers are `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

pub use super::tcp_table::Owner;
use super::tcp_table::{self, Described};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;

/// `NLM_F_REQUEST`, and `NLM_F_ROOT | NLM_F_MATCH` for all matches (linux/netlink.h).
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;

/// `NLMSG_DONE`.
const DONE: u16 = 3;

/// `AF_INET`, `AF_INET6`, `IPPROTO_TCP`.
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;

/// `TCP_LISTEN` (linux/tcp_states.h).
pub(super) const LISTEN: u8 = 10;

/// `INET_DIAG_SKV6ONLY` (linux/inet_diag.h).
const V6_ONLY: u16 = 11;

/// Bytes of `struct nlmsghdr` and `struct inet_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 72;

/// The largest answer in bytes; a dump of the listeners on one port is far smaller.
const ANSWER: usize = 8 * 1024;

/// The largest number of answers in a dump.
const ANSWERS: usize = 16;

/// Bytes written to this connection that the peer's kernel has not acknowledged; `None` if unknown: not TCP, no longer
/// connected, no netlink.
pub fn unacknowledged(socket: impl AsFd) -> Option<u64> {
    let local = SocketAddr::try_from(rustix::net::getsockname(&socket).ok()?).ok()?;
    let peer = SocketAddr::try_from(rustix::net::getpeername(&socket).ok()??).ok()?;
    let answer = ask(&request(local, Some(peer), 0), false)?;
    // If the connection is gone, the kernel describes the listener.
    answer.first().filter(|socket| socket.state != LISTEN).map(|socket| u64::from(socket.unacknowledged))
}

/// The sockets that listen on a TCP port and that a connection to 127.0.0.1 can reach; `None` if unknown.
pub fn listeners_on_loopback(port: u16) -> Option<Vec<Owner>> {
    let listen = |socket: &&Described| socket.state == LISTEN;
    Some(on_loopback(port, 1 << LISTEN)?.iter().filter(listen).map(|socket| socket.owner()).collect())
}

/// Whether this port of 127.0.0.1 is in use only by connections without a process, such as those in TIME_WAIT; `None` if
/// unknown. Linux lists sockets that are bound but neither listen nor are connected since version 6.8, and only over
/// netlink.
pub fn only_closed_connections(port: u16) -> Option<bool> {
    let found = on_loopback(port, u32::MAX)?;
    Some(!found.is_empty() && found.iter().all(|socket| socket.inode == 0 && socket.state != LISTEN))
}

/// The owner of the other end of a connection within this machine; `None` if it is gone.
pub fn peer_owner(socket: impl AsFd) -> Option<Owner> {
    let local = SocketAddr::try_from(rustix::net::getsockname(&socket).ok()?).ok()?;
    let peer = SocketAddr::try_from(rustix::net::getpeername(&socket).ok()??).ok()?;
    let found = match ask(&request(peer, Some(local), 0), false) {
        Some(found) => found,
        // No such socket, or no netlink.
        None => tcp_table::read()?,
    };
    let other_end =
        |socket: &&Described| socket.state != LISTEN && socket.local == peer && socket.peer == local;
    found.iter().find(other_end).map(|socket| socket.owner())
}

/// The sockets in these states on a port that prevent a program from using it on 127.0.0.1.
fn on_loopback(port: u16, states: u32) -> Option<Vec<Described>> {
    let dump = |any: IpAddr| ask(&request((any, port).into(), None, states), true);
    let dumped = dump(Ipv4Addr::UNSPECIFIED.into())
        .and_then(|v4| Some([v4, dump(Ipv6Addr::UNSPECIFIED.into())?].concat()));
    let mut found = dumped.or_else(tcp_table::read)?;
    found.retain(|socket| socket.local.port() == port && socket.is_on_loopback());
    Some(found)
}

/// Header and `struct inet_diag_req_v2`: for one connection, or for all sockets on a port in these states.
fn request(local: SocketAddr, peer: Option<SocketAddr>, states: u32) -> Vec<u8> {
    let flags = if peer.is_some() { REQUEST } else { REQUEST | DUMP };
    let mut bytes = Vec::with_capacity(HEADER + 56);
    bytes.extend_from_slice(&((HEADER + 56) as u32).to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port id: 0, as each socket sends one request.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[if local.is_ipv4() { INET } else { INET6 }, TCP, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&peer.map_or(0, |peer| peer.port()).to_be_bytes());
    for address in [Some(local), peer] {
        let octets = match address.map(|address| address.ip()) {
            Some(IpAddr::V4(v4)) => [&v4.octets()[..], &[0; 12]].concat(),
            Some(IpAddr::V6(v6)) => v6.octets().to_vec(),
            None => vec![0; 16],
        };
        bytes.extend_from_slice(&octets);
    }
    // Any interface, no cookie.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0xff; 8]);
    bytes
}

/// Sends a request on a new socket and returns the sockets in the answers, which are there when the request was sent.
/// Not inlined, and the buffer is on the heap: callers run on small stacks, and a page touched once stays resident.
#[inline(never)]
fn ask(request: &[u8], dump: bool) -> Option<Vec<Described>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG)).ok()?;
    rustix::net::sendto(&socket, request, SendFlags::DONTWAIT, &SocketAddrNetlink::new(0, 0)).ok()?;
    let mut buffer = vec![0; if dump { ANSWER } else { 512 }];
    let mut found = Vec::new();
    for _ in 0..if dump { ANSWERS } else { 1 } {
        let read = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?.1;
        if parse(&buffer[..read.min(buffer.len())], &mut found)? || !dump {
            return Some(found);
        }
    }
    // More answers than are read: the list would be incomplete.
    None
}

/// Reads the sockets of one datagram. Returns whether it is the last one, or `None` for an error.
fn parse(mut bytes: &[u8], found: &mut Vec<Described>) -> Option<bool> {
    while bytes.len() >= HEADER {
        let length = word(bytes, 0)? as usize;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let message = bytes.get(HEADER..length)?;
        match kind {
            // It contains the error, for example of a kernel without tcp_diag.
            DONE => return (word(message, 0)? == 0).then_some(true),
            BY_FAMILY if message.len() >= MESSAGE => found.push(Described {
                state: message[1],
                local: address(message, 4, 8)?,
                peer: address(message, 6, 24)?,
                unacknowledged: word(message, 60)?,
                user: word(message, 64)?,
                inode: word(message, 68)?,
                only_v6: has_flag(&message[MESSAGE..], V6_ONLY),
            }),
            // NLMSG_ERROR: no such socket, or an unknown request.
            _ => return None,
        }
        // Messages are aligned to four bytes.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

/// An address in a `struct inet_diag_msg`, with the offsets of port and address.
fn address(message: &[u8], port: usize, at: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(message.get(port..port + 2)?.try_into().ok()?);
    let octets: [u8; 16] = message.get(at..at + 16)?.try_into().ok()?;
    let address: IpAddr = match message[0] {
        INET => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
        _ => Ipv6Addr::from(octets).into(),
    };
    Some((address.to_canonical(), port).into())
}

/// Whether there is an attribute of this kind whose one byte is not 0 (`struct nlattr`).
fn has_flag(mut attributes: &[u8], kind: u16) -> bool {
    while let [l0, l1, k0, k1, value, ..] = *attributes {
        if u16::from_ne_bytes([k0, k1]) == kind {
            return value != 0;
        }
        let length = usize::from(u16::from_ne_bytes([l0, l1])).max(4).next_multiple_of(4);
        attributes = attributes.get(length..).unwrap_or_default();
    }
    false
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use rustix::net::sockopt;

    use super::*;

    /// Whether this machine lets us ask at all; where it does not, `None` is the right answer everywhere.
    fn can_ask() -> bool {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1));
        ask(&request(any, None, 1 << LISTEN), true).is_some()
    }

    #[test]
    fn bytes_are_unacknowledged_until_the_peers_kernel_has_them() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().expect("address").port();
            let host = if address.starts_with("127") || address == "[::]:0" { "127.0.0.1" } else { "::1" };
            let mut theirs = TcpStream::connect((host, port)).expect("connect");
            let (mut ours, _) = listener.accept().expect("accept");
            if unacknowledged(&ours).is_none() {
                assert!(!can_ask(), "{address}");
                continue;
            }
            assert_eq!(unacknowledged(&ours), Some(0));
            ours.set_nonblocking(true).expect("mode");
            let mut written = 0;
            while let Ok(more) = ours.write(&vec![0; 65536]) {
                written += more;
            }
            let waiting = unacknowledged(&ours).expect("connected");
            assert!(waiting > 0 && waiting <= written as u64, "{waiting} of {written}");
            theirs.read_exact(&mut vec![0; written]).expect("all of it");
            super::super::tests_wait(|| unacknowledged(&ours) == Some(0));
            drop(theirs);
        }
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("socket pair");
        assert_eq!(unacknowledged(&one), None, "not TCP");
    }

    #[test]
    fn listeners_of_a_port_are_known_by_their_users() {
        if !can_ask() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let own = rustix::process::geteuid().as_raw();
        let users = || -> Vec<u32> {
            listeners_on_loopback(port).expect("we can ask").iter().map(|owner| owner.user).collect()
        };
        assert_eq!(users(), [own]);
        drop(listener);
        assert_eq!(users(), [0; 0]);
        // Only what 127.0.0.1 reaches.
        let elsewhere = TcpListener::bind(("127.0.0.2", port)).expect("bind");
        assert_eq!(users(), [0; 0]);
        drop(elsewhere);
        for (only_v6, expected) in [(true, &[] as &[u32]), (false, &[own])] {
            let Ok(listener) = socket(AddressFamily::INET6) else { continue };
            sockopt::set_ipv6_v6only(&listener, only_v6).expect("an option");
            if rustix::net::bind(&listener, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).is_err() {
                continue;
            }
            rustix::net::listen(&listener, 1).expect("listen");
            assert_eq!(users(), expected, "IPv6 only: {only_v6}");
        }
    }

    fn socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
        rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
    }

    #[test]
    fn the_other_end_of_a_connection_is_known_before_and_after_it_is_accepted() {
        if !can_ask() {
            return;
        }
        for address in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().expect("address").port();
            let ours = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            let waiting = peer_owner(&ours).expect("it waits");
            assert_eq!(waiting.inode, 0, "no process has it");
            let (theirs, _) = listener.accept().expect("accept");
            drop(listener);
            let accepted = peer_owner(&ours).expect("it is accepted");
            assert_eq!(accepted.user, rustix::process::geteuid().as_raw());
            assert_ne!(accepted.inode, 0);
            let table = tcp_table::read().expect("/proc/net/tcp");
            let same = |socket: &Described| socket.owner() == accepted;
            assert!(table.into_iter().any(|socket| same(&socket)), "the table says the same");
            rustix::net::sockopt::set_socket_linger(&ours, Some(std::time::Duration::ZERO)).expect("reset");
            drop(ours);
            super::super::tests_wait(|| peer_owner(&theirs).is_none());
        }
    }

    #[test]
    fn a_port_is_taken_by_open_sockets_and_by_connections_that_are_closed() {
        if !can_ask() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        assert_eq!(only_closed_connections(port), Some(false), "a listener");
        let theirs = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        let (ours, _) = listener.accept().expect("accept");
        drop(listener);
        assert_eq!(only_closed_connections(port), Some(false), "a connection");
        drop(ours);
        assert_eq!(only_closed_connections(port), Some(true), "FIN_WAIT2");
        drop(theirs);
        assert_eq!(only_closed_connections(port), Some(true), "TIME_WAIT");
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "std sets SO_REUSEADDR");

        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        assert_eq!(only_closed_connections(port), Some(false), "nothing");
    }

    #[test]
    fn an_answer_that_ends_in_an_error_is_no_answer() {
        let done = |error: i32| {
            let mut bytes = 20u32.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&DONE.to_ne_bytes());
            bytes.extend_from_slice(&[0; 10]);
            bytes.extend_from_slice(&error.to_ne_bytes());
            parse(&bytes, &mut Vec::new())
        };
        assert_eq!(done(0), Some(true));
        assert_eq!(done(-2), None, "ENOENT: no tcp_diag");
    }
}
