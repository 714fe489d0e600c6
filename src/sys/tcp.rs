//! What the kernel knows of a TCP connection and does not tell by socket option without `unsafe`: asked over
//! netlink (sock_diag(7)). One request and one answer, some microseconds; for decisions, not for the hot path.
//!
//! Where netlink cannot be had (a seccomp filter, `RestrictAddressFamilies=`) the answers are `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;

/// `NLM_F_REQUEST`, and `NLM_F_ROOT | NLM_F_MATCH` for all that match (linux/netlink.h).
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;

/// `NLMSG_DONE`.
const DONE: u16 = 3;

/// `AF_INET`, `AF_INET6`, `IPPROTO_TCP`.
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;

/// `TCP_LISTEN` (linux/tcp_states.h).
const LISTEN: u8 = 10;

/// Bytes of `struct nlmsghdr` and `struct inet_diag_msg`.
const HEADER: usize = 16;
const MESSAGE: usize = 72;

/// Bytes that may be read of one answer; a dump of the listeners on one port is far smaller.
const ANSWER: usize = 8 * 1024;

/// Answers that are read for one dump at most.
const ANSWERS: usize = 16;

/// One socket, as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Described {
    state: u8,
    address: IpAddr,
    /// Sent or queued, and not acknowledged.
    unacknowledged: u32,
    user: u32,
}

/// Bytes that were written to this connection and that the peer's kernel has not acknowledged; `None` where
/// that cannot be known: not TCP, not connected any more, no netlink.
pub fn unacknowledged(socket: impl AsFd) -> Option<u64> {
    let local = SocketAddr::try_from(rustix::net::getsockname(&socket).ok()?).ok()?;
    let peer = SocketAddr::try_from(rustix::net::getpeername(&socket).ok()??).ok()?;
    let answer = ask(&request(local, Some(peer), REQUEST), false)?;
    answer.first().map(|socket| u64::from(socket.unacknowledged))
}

/// The users whose sockets listen on a TCP port where a connection to 127.0.0.1 could reach them; `None` where
/// that cannot be known.
pub fn listeners_on_loopback(port: u16) -> Option<Vec<u32>> {
    let mut users = Vec::new();
    for any in [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), (Ipv6Addr::UNSPECIFIED, port).into()] {
        let found = ask(&request(any, None, REQUEST | DUMP), true)?;
        let reachable = |address: IpAddr| {
            let address = address.to_canonical();
            address.is_unspecified() || address == IpAddr::from(Ipv4Addr::LOCALHOST)
        };
        users.extend(
            found
                .iter()
                .filter(|socket| socket.state == LISTEN && reachable(socket.address))
                .map(|socket| socket.user),
        );
    }
    Some(users)
}

/// `struct inet_diag_req_v2` behind its header: one connection, or all sockets that listen on a port.
fn request(local: SocketAddr, peer: Option<SocketAddr>, flags: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 56);
    bytes.extend_from_slice(&((HEADER + 56) as u32).to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port id: one request a socket.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[if local.is_ipv4() { INET } else { INET6 }, TCP, 0, 0]);
    let states = if peer.is_some() { u32::MAX } else { 1 << LISTEN };
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

/// Sends a request, on a socket for it alone, and gives the sockets of its answers; all of them are there when
/// the request was sent. Not in line, and nothing large on the stack: those who may ask are deep in threads with
/// small stacks, of which each page that was touched once stays.
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
        if parse(&buffer[..read.min(buffer.len())], &mut found)? {
            break;
        }
    }
    Some(found)
}

/// Takes the sockets out of one datagram; says whether the answer ends with it, or `None` if it is an error.
fn parse(mut bytes: &[u8], found: &mut Vec<Described>) -> Option<bool> {
    while bytes.len() >= HEADER {
        let length = word(bytes, 0)? as usize;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let message = bytes.get(HEADER..length)?;
        match kind {
            DONE => return Some(true),
            BY_FAMILY if message.len() >= MESSAGE => found.push(Described {
                state: message[1],
                address: address(message)?,
                unacknowledged: word(message, 60)?,
                user: word(message, 64)?,
            }),
            // NLMSG_ERROR: no such socket, or no such kind of request.
            _ => return None,
        }
        // Messages begin at multiples of four.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(false)
}

/// The socket's own address in a `struct inet_diag_msg`.
fn address(message: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    Some(match message[0] {
        INET => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
        _ => Ipv6Addr::from(octets).into(),
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Whether this machine lets us ask at all; where it does not, `None` is the right answer everywhere.
    fn can_ask() -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listeners_on_loopback(listener.local_addr().expect("address").port()).is_some()
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
        assert_eq!(listeners_on_loopback(port), Some(vec![own]));
        drop(listener);
        assert_eq!(listeners_on_loopback(port), Some(vec![]));
    }
}
