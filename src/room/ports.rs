//! The ports of programs that talk over TCP: one for each room, given back on every path.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// The pool.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    taken: BTreeSet<u16>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, taken: BTreeSet::new() }
    }

    /// The lowest port that neither a room has nor anybody else listens on.
    pub(super) fn take(&mut self) -> Option<u16> {
        let port = self.range.clone().find(|port| !self.taken.contains(port) && is_free(*port))?;
        self.taken.insert(port);
        Some(port)
    }

    /// The room's port if nobody else listens on it; otherwise another one, and it is given up.
    pub(super) fn keep_or_take(&mut self, port: u16) -> Option<u16> {
        if is_free(port) {
            return Some(port);
        }
        let other = self.take();
        self.give_back(port);
        other
    }

    pub(super) fn give_back(&mut self, port: u16) {
        self.taken.remove(&port);
    }
}

/// Whether a program could listen on this port of 127.0.0.1. Nothing listens on it when this returns.
fn is_free(port: u16) -> bool {
    let probe = || -> rustix::io::Result<()> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        // Connections of a program before, in TIME_WAIT, are no obstacle.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    probe().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_port_that_somebody_listens_on_is_skipped() {
        let stranger = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = stranger.local_addr().expect("address").port();
        let mut ports = Ports::new(port..=port);
        assert_eq!(ports.take(), None);
        drop(stranger);
        assert_eq!(ports.take(), Some(port));
        assert_eq!(ports.take(), None, "used up");
        assert_eq!(ports.keep_or_take(port), Some(port));
        let stranger = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        assert_eq!(ports.keep_or_take(port), None);
        drop(stranger);
        assert_eq!(ports.take(), Some(port), "it was given up");
        ports.give_back(port);
        assert_eq!(ports.take(), Some(port));
    }
}
