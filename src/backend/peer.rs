//! Who answers on a program's port. Any user of the machine can listen there in the program's place: nothing is
//! written to a connection before it is known that a trusted user has its other end.
//!
//! A socket belongs to the user who created it. Of a connection that has not been accepted, older kernels do
//! not say so (they say 0); then its listener tells. Only one socket can listen for 127.0.0.1 at a time, or
//! several of one user (SO_REUSEPORT, socket(7)), and what a listener has not handed out ends with it. So:
//!
//! - If one socket listened before the connection was made and listens still, the connection is its own.
//! - Otherwise the connection has been accepted, or waits at one that listens now.

use std::net::TcpStream;

use crate::sys::tcp::{Owner, listeners_on_loopback, peer_owner};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerCheck {
    /// A trusted user.
    Trusted,
    /// Another user.
    Stranger(u32),
    /// No socket, or none any more.
    Absent,
    /// The system does not say.
    Unknown,
}

/// The user of a socket of which the kernel does not know the real one.
const UNKNOWN_USER: u32 = 0;

/// What listens on a port.
#[derive(Debug)]
pub(super) struct Listeners(Vec<Owner>);

impl Listeners {
    /// The listeners of now; an error if there are none, or one of another user.
    pub(super) fn now(port: u16, trusts: impl Fn(u32) -> bool) -> Result<Self, PeerCheck> {
        match found(listeners_on_loopback(port), trusts)? {
            listeners if listeners.is_empty() => Err(PeerCheck::Absent),
            listeners => Ok(Self(listeners)),
        }
    }

    /// Checks a connection that was made since.
    pub(super) fn check(&self, stream: &TcpStream, port: u16, trusts: impl Fn(u32) -> bool) -> PeerCheck {
        self.compare(listeners_on_loopback(port), || peer_owner(stream), trusts)
    }

    /// `after` is what listens after the connection was made; its other end is looked up after that.
    fn compare(
        &self,
        after: Option<Vec<Owner>>,
        peer: impl FnOnce() -> Option<Owner>,
        trusts: impl Fn(u32) -> bool,
    ) -> PeerCheck {
        let after = match found(after, &trusts) {
            Ok(after) => after,
            Err(answer) => return answer,
        };
        if self.0.iter().any(|before| after.contains(before)) {
            return PeerCheck::Trusted;
        }
        match peer() {
            Some(peer) if peer.user == UNKNOWN_USER || trusts(peer.user) => PeerCheck::Trusted,
            Some(peer) => PeerCheck::Stranger(peer.user),
            None => PeerCheck::Absent,
        }
    }
}

/// The listeners, if trusted users have all of them.
fn found(listeners: Option<Vec<Owner>>, trusts: impl Fn(u32) -> bool) -> Result<Vec<Owner>, PeerCheck> {
    let listeners = listeners.ok_or(PeerCheck::Unknown)?;
    match listeners.iter().find(|listener| !trusts(listener.user)) {
        Some(stranger) => Err(PeerCheck::Stranger(stranger.user)),
        None => Ok(listeners),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users and sockets: of the listeners before and after, of the other end; and the verdict.
    type Seen<'a> = (&'a [(u32, u32)], Option<&'a [(u32, u32)]>, Option<(u32, u32)>, PeerCheck);

    #[test]
    fn a_connection_is_trusted_if_its_listener_or_its_other_end_is() {
        let owner = |(user, inode)| Owner { user, inode };
        let trusts = |user| user == 1000;
        let cases: &[Seen<'_>] = &[
            // The same one listens still: its user may have become another one since (it dropped its rights).
            (&[(1000, 5)], Some(&[(1000, 5)]), Some((33, 6)), PeerCheck::Trusted),
            (&[(1000, 5)], Some(&[(1000, 5)]), None, PeerCheck::Trusted),
            // It listens no more.
            (&[(1000, 5)], Some(&[]), Some((1000, 6)), PeerCheck::Trusted),
            (&[(1000, 5)], Some(&[]), Some((54_321, 6)), PeerCheck::Stranger(54_321)),
            (&[(1000, 5)], Some(&[]), None, PeerCheck::Absent),
            // Another one of a trusted user listens, at which the connection may wait.
            (&[(1000, 5)], Some(&[(1000, 7)]), Some((UNKNOWN_USER, 0)), PeerCheck::Trusted),
            // A stranger listened in between, accepted and went.
            (&[(1000, 5)], Some(&[(1000, 7)]), Some((54_321, 6)), PeerCheck::Stranger(54_321)),
            // A stranger listens now.
            (&[(1000, 5)], Some(&[(54_321, 7)]), Some((1000, 6)), PeerCheck::Stranger(54_321)),
            (&[(1000, 5)], Some(&[(0, 7)]), None, PeerCheck::Stranger(0)),
            // Neither netlink nor /proc.
            (&[(1000, 5)], None, Some((1000, 6)), PeerCheck::Unknown),
        ];
        for &(before, after, peer, answer) in cases {
            let before = Listeners(before.iter().copied().map(owner).collect());
            let owners = after.map(|after| after.iter().copied().map(owner).collect());
            let judged = before.compare(owners, || peer.map(owner), trusts);
            assert_eq!(judged, answer, "{before:?} {after:?} {peer:?}");
        }
    }

    #[test]
    fn every_listener_must_be_trusted() {
        let owners = |users: &[u32]| users.iter().map(|&user| Owner { user, inode: 9 }).collect();
        let cases: [(Option<&[u32]>, _); 5] = [
            (Some(&[1000, 1001]), Ok(owners(&[1000, 1001]))),
            (Some(&[1000, 33]), Err(PeerCheck::Stranger(33))),
            (Some(&[0]), Err(PeerCheck::Stranger(0))),
            (Some(&[]), Ok(Vec::new())),
            (None, Err(PeerCheck::Unknown)),
        ];
        for (users, wanted) in cases {
            assert_eq!(found(users.map(owners), |user| user >= 1000), wanted, "{users:?}");
        }
    }
}
