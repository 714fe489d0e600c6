//! `--reverselookup`: the name of an address, from DNS. The system's resolver can take long, so the wait is bounded, and
//! the number of lookups too.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::sys::threads::work;

/// How long a client waits for its name.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Lookups at once, including those for which no client waits any more.
const MAX_LOOKUPS: usize = 16;

/// The resolver of the C library uses buffers on the stack.
const STACK: usize = 256 * 1024;

static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// A lookup that runs.
struct Lookup;

impl Lookup {
    fn begin() -> Option<Self> {
        let add = |running| (running < MAX_LOOKUPS).then_some(running + 1);
        LOOKUPS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).ok().map(|_| Self)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        LOOKUPS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The name of an address; `None` if it has none, or none in time.
pub(super) fn name(address: IpAddr) -> Option<String> {
    let lookup = Lookup::begin()?;
    let (sender, receiver) = sync_channel(1);
    work("lookup", STACK, move || {
        let name = dns_lookup::lookup_addr(&address).ok();
        drop(lookup);
        // Fails if the client no longer waits.
        let _ = sender.send(name);
    })
    .ok()?;
    let name = receiver.recv_timeout(TIMEOUT).ok()??;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    // The owner of the address chooses the name, so it is not trusted.
    name.chars().all(is_name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_bounded_in_number() {
        let lookups: Vec<_> = std::iter::from_fn(Lookup::begin).take(2 * MAX_LOOKUPS).collect();
        assert_eq!(lookups.len(), MAX_LOOKUPS);
        drop(lookups);
        assert!(Lookup::begin().is_some());
    }
}
