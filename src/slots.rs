//! All open connections: how many there may be, which have not sent a request yet, and how a shutdown ends them.

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::Shutdown;

use crate::sink::Stream;
use crate::sys::bell::Bell;
use crate::sys::deadline::Cutoff;
use crate::sys::limits::{MapGuard, Maps};
use crate::sys::lock;

/// How long a response that is being sent may take in a shutdown.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The connections of a server.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    maps: Arc<Maps>,
    state: Mutex<SlotState>,
    /// When responses to plain requests must be over, once the server shuts down.
    cutoff: Cutoff,
    /// Rung when a connection has ended.
    changed: Arc<Bell>,
}

#[derive(Debug, Default)]
struct SlotState {
    next: u64,
    live: HashMap<u64, Live>,
    /// Connections without a request, oldest first. Some have sent one since, or have ended.
    silent: VecDeque<u64>,
    /// How many of those are still without a request.
    silent_count: usize,
    /// Connections that have ended.
    served: u64,
    /// Clients so far, and clients now.
    upgraded: u64,
    clients: usize,
    /// How many clients each address has.
    by_address: HashMap<IpAddr, usize>,
    shutting_down: bool,
}

/// An open connection.
#[derive(Debug)]
struct Live {
    stream: Arc<Stream>,
    /// It has not sent a request yet.
    silent: bool,
    /// It is a client; its room ends it.
    upgraded: bool,
}

/// No more connections are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Too many connections")
    }
}

/// One connection's slot; given back when dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    id: u64,
    all: Arc<Slots>,
    upgraded: Cell<bool>,
    address: Cell<Option<IpAddr>>,
    _maps: MapGuard,
}

impl Slots {
    /// At most `most` connections at once; `changed` is rung whenever one has ended.
    pub fn new(most: usize, maps: Arc<Maps>, changed: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { most, maps, state: Mutex::default(), cutoff: Cutoff::new(), changed })
    }

    pub fn maps(&self) -> &Arc<Maps> {
        &self.maps
    }

    /// Gives a slot to a new connection. At most half of all slots are for connections without a request: above that, a
    /// new connection ends the oldest of them.
    pub fn admit(self: &Arc<Self>, stream: &Arc<Stream>) -> Result<ConnectionSlot, Full> {
        let mut state = lock(&self.state);
        if state.live.len() >= self.most || state.shutting_down {
            return Err(Full);
        }
        let maps = self.maps.reserve(1).ok_or(Full)?;
        // Only for a connection that gets a slot: the slot of the one that is ended is free too late for it.
        if state.silent_count >= (self.most / 2).max(1) {
            state.end_longest_silent();
        }
        let id = state.next;
        state.next += 1;
        state.live.insert(id, Live { stream: Arc::clone(stream), silent: true, upgraded: false });
        state.silent.push_back(id);
        state.silent_count += 1;
        if state.silent.len() > 2 * state.silent_count + 64 {
            let SlotState { silent, live, .. } = &mut *state;
            silent.retain(|id| live.get(id).is_some_and(|live| live.silent));
        }
        Ok(ConnectionSlot {
            id,
            all: Arc::clone(self),
            upgraded: Cell::new(false),
            address: Cell::new(None),
            _maps: maps,
        })
    }

    pub fn len(&self) -> usize {
        lock(&self.state).live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many connections have ended.
    pub fn served(&self) -> u64 {
        lock(&self.state).served
    }

    /// Whether there have been clients and all have left.
    pub fn all_clients_gone(&self) -> bool {
        let state = lock(&self.state);
        state.upgraded > 0 && state.clients == 0
    }

    pub fn cutoff(&self) -> &Cutoff {
        &self.cutoff
    }

    /// Refuses new connections and wakes all that are not clients, so that they end.
    pub fn shut_down(&self) {
        // A second call does not change it.
        let _ = self.cutoff.set(Instant::now() + ANSWER_TIMEOUT);
        let mut state = lock(&self.state);
        state.shutting_down = true;
        for live in state.live.values().filter(|live| !live.upgraded) {
            let _ = rustix::net::shutdown(live.stream.as_fd(), Shutdown::Read);
        }
    }
}

impl SlotState {
    /// A connection has sent a request, or has ended.
    fn mark_spoken(&mut self, id: u64) {
        if let Some(live) = self.live.get_mut(&id)
            && std::mem::take(&mut live.silent)
        {
            self.silent_count -= 1;
        }
    }

    fn end_longest_silent(&mut self) {
        while let Some(id) = self.silent.pop_front() {
            if let Some(live) = self.live.get(&id).filter(|live| live.silent) {
                // Its thread wakes from its read and ends.
                let _ = rustix::net::shutdown(live.stream.as_fd(), Shutdown::Both);
                self.mark_spoken(id);
                return;
            }
        }
    }
}

impl ConnectionSlot {
    /// The connection has sent a request.
    pub fn mark_asked(&self) {
        lock(&self.all.state).mark_spoken(self.id);
    }

    /// Counts it as a client of this address, if fewer than `most` are counted already.
    pub fn claim_address(&self, address: IpAddr, most: usize) -> bool {
        let address = counted_address(address);
        let mut state = lock(&self.all.state);
        let count = state.by_address.entry(address).or_default();
        let granted = *count < most;
        if granted {
            *count += 1;
            self.address.set(Some(address));
        }
        granted
    }

    /// The client was refused: it does not count for its address any more, however long its connection takes to end.
    pub fn give_address_back(&self) {
        self.release_address(&mut lock(&self.all.state));
    }

    fn release_address(&self, state: &mut SlotState) {
        if let Some(address) = self.address.take()
            && let Entry::Occupied(mut count) = state.by_address.entry(address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// The connection is a client now; its room ends it.
    pub fn mark_upgraded(&self) {
        let mut state = lock(&self.all.state);
        if let Some(live) = state.live.get_mut(&self.id) {
            live.upgraded = true;
        }
        state.upgraded += 1;
        state.clients += 1;
        self.upgraded.set(true);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.all.state);
            state.mark_spoken(self.id);
            state.live.remove(&self.id);
            state.served += 1;
            if self.upgraded.get() {
                state.clients -= 1;
            }
            self.release_address(&mut state);
        }
        self.all.changed.ring();
    }
}

/// What counts as one address: for IPv6 a /64, which one host can have all of.
fn counted_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use crate::sys::deadline::Deadline;

    #[test]
    fn the_longest_silent_goes_for_a_new_one_and_askers_stay() {
        let changed = Arc::new(Bell::default());
        let connections = Slots::new(4, Maps::of(100), Arc::clone(&changed));
        let connect = || {
            let (ours, theirs) = UnixStream::pair().expect("socket pair");
            (Arc::new(Stream::Socket(ours.into())), theirs)
        };
        let (asker, silent, newer, last) = (connect(), connect(), connect(), connect());
        let first = connections.admit(&asker.0).expect("a slot");
        first.mark_asked();
        let second = connections.admit(&silent.0).expect("a slot");
        let _third = connections.admit(&newer.0).expect("a slot");
        let _fourth = connections.admit(&last.0).expect("a slot");
        let mut end = Vec::new();
        (&silent.1).read_to_end(&mut end).expect("the oldest silent one is ended");
        // No connection is ended for one that is refused.
        assert_eq!(connections.admit(&connect().0).expect_err("all places are taken"), Full);
        assert_eq!(lock(&connections.state).silent_count, 2);
        for stays in [&newer.1, &last.1] {
            stays.set_nonblocking(true).expect("a mode");
            let read = (&*stays).read(&mut [0]).expect_err("it is open");
            assert_eq!(read.kind(), std::io::ErrorKind::WouldBlock);
        }
        drop(second);
        assert!(changed.wait(Deadline::after(Duration::ZERO)), "rung");
        connections.admit(&connect().0).expect("a slot again");
    }

    #[test]
    fn an_address_has_so_many_places_and_a_network_of_ipv6_is_one_address() {
        let connections = Slots::new(100, Maps::of(100), Arc::default());
        let slot = || {
            let (ours, _) = UnixStream::pair().expect("socket pair");
            connections.admit(&Arc::new(Stream::Socket(ours.into()))).expect("a slot")
        };
        let address = |text: &str| text.parse().expect("an address");
        let (first, second, third) = (slot(), slot(), slot());
        assert!(first.claim_address(address("2001:db8::1"), 2));
        assert!(second.claim_address(address("2001:db8::ffff:1"), 2));
        assert!(!third.claim_address(address("2001:db8::2"), 2));
        assert!(third.claim_address(address("2001:db8:0:1::2"), 2));
        drop(first);
        assert!(slot().claim_address(address("2001:db8::3"), 2), "given back");
        drop((second, third));
        assert!(lock(&connections.state).by_address.is_empty(), "nothing is left behind");
    }
}
