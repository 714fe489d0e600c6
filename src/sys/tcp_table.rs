//! The TCP sockets of this machine from `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)), for systems without netlink.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::kernel;

/// One socket, as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) state: u8,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Bytes that were sent or queued and are not acknowledged.
    pub(super) unacknowledged: u32,
    pub(super) user: u32,
    /// 0 if no process has a descriptor for it.
    pub(super) inode: u32,
    /// It accepts no connections over IPv4.
    pub(super) only_v6: bool,
}

impl Described {
    pub(super) fn owner(self) -> Owner {
        Owner { user: self.user, inode: self.inode }
    }

    /// Whether a connection to 127.0.0.1 can reach it, if it listens.
    pub(super) fn is_on_loopback(&self) -> bool {
        let address = self.local.ip().to_canonical();
        !self.only_v6 && (address.is_unspecified() || address == IpAddr::from(Ipv4Addr::LOCALHOST))
    }
}

/// A socket and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user that created it. Some kernels show 0 for a connection that is not yet accepted or is closed.
    pub user: u32,
    /// The unique number of the open socket; 0 if no process has a descriptor for it.
    pub inode: u32,
}

/// All sockets; `None` if the table cannot be read.
pub(super) fn read() -> Option<Vec<Described>> {
    let mut found = parse(&kernel::read("/proc/net/tcp").ok()?)?;
    match kernel::read("/proc/net/tcp6") {
        Ok(text) => found.append(&mut parse(&text)?),
        // A kernel without IPv6.
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(_) => return None,
    }
    Some(found)
}

/// A line of titles, then a line for each socket; `None` if a line is not understood.
fn parse(text: &str) -> Option<Vec<Described>> {
    text.lines().skip(1).map(line).collect()
}

fn line(line: &str) -> Option<Described> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    // The others: timer, retransmissions, unanswered probes.
    let &[_, local, peer, state, queues, _, _, user, _, inode, ..] = &*words else { return None };
    Some(Described {
        state: u8::try_from(hex(state)?).ok()?,
        local: address(local)?,
        peer: address(peer)?,
        unacknowledged: hex(queues.split_once(':')?.0)?,
        user: user.parse().ok()?,
        inode: inode.parse().ok()?,
        // The table does not show whether it accepts IPv4 as well: assume that it does.
        only_v6: false,
    })
}

#[inline(never)]
fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

/// An address in words of four bytes in native order, and a port.
fn address(word: &str) -> Option<SocketAddr> {
    let (address, port) = word.split_once(':')?;
    let word = |at: usize| Some(hex(address.get(at * 8..at * 8 + 8)?)?.to_ne_bytes());
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (at, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some((address.to_canonical(), u16::try_from(hex(port)?).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::tcp::LISTEN;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_says_where_in_which_state_and_whose() {
        let titles = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let v4 = "   0: 0100007F:86D7 00000000:0000 0A 00000000:00000000 00:00000000 00000000 54321        0 \
                  2358922 1 000000001bf44f3c 100 0 0 10 0\n";
        let mapped = "  12: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:A1B2 06 \
                      00000010:00000000 03:000001F4 00000000     0        0 0 3 0000000000000000\n";
        let found = parse(&[titles, v4, mapped].concat()).expect("understood");
        let (listener, closed) = (found[0], found[1]);
        assert_eq!((listener.state, listener.user, listener.inode), (LISTEN, 54_321, 2_358_922));
        assert_eq!(listener.local, "127.0.0.1:34519".parse().expect("an address"));
        assert_eq!(closed.local, "127.0.0.1:8080".parse().expect("an address"));
        assert_eq!(closed.peer, "127.0.0.1:41394".parse().expect("an address"));
        assert_eq!((closed.state, closed.inode, closed.unacknowledged), (6, 0, 16));

        for broken in ["   0: 0100007F:86D7", "   0: 01:86D7 0:0 0A 0:0 0:0 0 0 0 1", "   0: x"] {
            assert_eq!(parse(&[titles, broken].concat()), None, "{broken}");
        }
        assert_eq!(parse(titles), Some(Vec::new()));
    }

    #[test]
    fn listeners_are_in_the_table() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let local = listener.local_addr().expect("address");
            let found = read().expect("/proc/net/tcp");
            let found: Vec<_> = found.iter().filter(|socket| socket.local == local).collect();
            assert_eq!(found.len(), 1, "{local}");
            assert_eq!(found[0].user, rustix::process::geteuid().as_raw());
            assert_eq!(found[0].state, LISTEN);
        }
    }
}
