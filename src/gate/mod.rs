//! Who may come in: everything that is checked between a request for a room and its 101.
//!
//! A check is a pure file, its reasons in `refusal`, and a line in [`CHECKS`].

pub mod origin;
mod refusal;

use std::net::SocketAddr;

pub use self::refusal::Refusal;
use crate::config::Config;
use crate::http::head::Head;
use crate::slots::ConnectionSlot;

/// A client that asks for a room, as the checks see it.
pub struct Visit<'a> {
    pub config: &'a Config,
    pub head: &'a Head,
    /// None on a unix socket.
    pub peer: Option<SocketAddr>,
    pub slot: &'a ConnectionSlot,
}

/// A check may put right what a later one sees, such as the address of a client behind a proxy.
type Check = fn(&mut Visit<'_>) -> Result<(), Refusal>;

/// In this order: address, proxy, origin, credentials, limits. The limits of rooms come after all of them, with the
/// slot in the room: see [`Table::reserve`](crate::room::Table::reserve).
const CHECKS: [Check; 2] = [|visit| Ok(origin::check(&visit.config.origin, visit.head)?), clients_of_address];

/// Asks all checks.
///
/// # Errors
/// What the first one that refuses says.
pub fn check(visit: &mut Visit<'_>) -> Result<(), Refusal> {
    CHECKS.iter().try_for_each(|check| check(visit))
}

/// Counts the client as one of its address. That is given back with its slot, or when it is refused later.
fn clients_of_address(visit: &mut Visit<'_>) -> Result<(), Refusal> {
    match (visit.config.limits.address_clients, visit.peer) {
        (Some(most), Some(peer)) if !visit.slot.claim_address(peer.ip(), most) => {
            Err(Refusal::address_is_full())
        }
        _ => Ok(()),
    }
}
