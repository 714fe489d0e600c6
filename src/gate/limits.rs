//! How many clients one address may have.

use super::{Refusal, Visit};
use crate::counters::Count;

/// Counts the client as one of its address; the count is given back with the slot, or when it is refused later.
pub(super) fn admit(visit: &mut Visit<'_>) -> Result<(), Refusal> {
    match (visit.config.limits.address_clients, visit.peer) {
        (Some(most), Some(peer)) if !visit.slot.claim_address(peer.ip(), most) => {
            Err(Refusal::new(429, "Too many clients from this address", Count::RefusedLimit))
        }
        _ => Ok(()),
    }
}
