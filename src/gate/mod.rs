//! The checks between a request for a room and its 101.
//!
//! A check is a pure file, a status and reason in `refusal`, and an entry in [`CHECKS`].

pub mod origin;
mod refusal;

use std::net::SocketAddr;

pub use self::refusal::Refusal;
use crate::config::Config;
use crate::http::head::Head;
use crate::slots::ConnectionSlot;

/// The request that is checked.
pub struct Visit<'a> {
    pub config: &'a Config,
    pub head: &'a Head,
    /// None on a unix socket.
    pub peer: Option<SocketAddr>,
    pub slot: &'a ConnectionSlot,
}

/// A check may correct what later checks use, such as the address of a client behind a proxy.
type Check = fn(&mut Visit<'_>) -> Result<(), Refusal>;

/// In the order address, proxy, origin, credentials, limits. The limits of rooms are checked last, with the slot in the
/// room: see [`Table::reserve`](crate::room::Table::reserve).
const CHECKS: [Check; 2] = [|visit| Ok(origin::check(&visit.config.origin, visit.head)?), clients_of_address];

/// Runs the checks; the first refusal counts.
pub fn check(visit: &mut Visit<'_>) -> Result<(), Refusal> {
    CHECKS.iter().try_for_each(|check| check(visit))
}

/// Counts the client for its address, until its slot is dropped or a later check refuses it.
fn clients_of_address(visit: &mut Visit<'_>) -> Result<(), Refusal> {
    match (visit.config.limits.address_clients, visit.peer) {
        (Some(most), Some(peer)) if !visit.slot.claim_address(peer.ip(), most) => {
            Err(Refusal::address_is_full())
        }
        _ => Ok(()),
    }
}
