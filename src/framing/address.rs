//! Which clients a message is for.
//!
//! A program may pass on what its clients send, so the lists of ids and the number of addressed messages are hostile
//! input. Nothing in here costs the product of two of them.

use std::ops::Range;

/// A set of clients, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids(Vec<u64>);

impl Ids {
    pub const NONE: Self = Self(Vec::new());

    /// The ids that are not in `other`.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        let mut others = other.0.iter().copied().peekable();
        self.0.retain(|&id| {
            while others.next_if(|&other| other < id).is_some() {}
            others.peek() != Some(&id)
        });
        self
    }

    /// The ids for which `keep` says yes.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(u64) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|&id| keep(id)).collect())
    }

    /// The ids that are also in `present`, which is sorted. Costs the shorter list times the logarithm of the longer.
    fn among<'a>(&'a self, present: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
        let (few, many) =
            if self.0.len() < present.len() { (&self.0[..], present) } else { (present, &self.0[..]) };
        few.iter().copied().filter(|id| many.binary_search(id).is_ok())
    }
}

impl From<Vec<u64>> for Ids {
    /// In any order, with repetitions.
    fn from(mut ids: Vec<u64>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }
}

/// The clients that a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    AllBut(Ids),
    Only(Ids),
}

impl Address {
    pub const ALL: Self = Self::AllBut(Ids::NONE);
}

/// The addresses of a batch of messages.
#[derive(Debug, Default)]
pub struct Addresses {
    /// The messages that are not for all clients, by their index, in order.
    special: Vec<(usize, Address)>,
}

impl Addresses {
    /// Sets the address of message `index` of the batch. To be called in order.
    pub fn set(&mut self, index: usize, address: Address) {
        if address != Address::ALL {
            self.special.push((index, address));
        }
    }

    /// Removes all, and frees the memory of an unusual batch.
    pub fn clear(&mut self) {
        self.special.clear();
        self.special.shrink_to(KEPT);
    }

    /// The messages that are not for all clients, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(usize, Address)> {
        self.special.iter()
    }

    /// Whether every message is for all clients.
    pub fn is_plain(&self) -> bool {
        self.special.is_empty()
    }

    /// Whether message `index` is also for clients that join later.
    pub fn is_public(&self, index: usize) -> bool {
        let special = self.special.binary_search_by_key(&index, |&(index, _)| index);
        special.is_err() || special.is_ok_and(|at| matches!(self.special[at].1, Address::AllBut(_)))
    }

    /// Divides the batch among the clients that are `present`, which is sorted; `ends` says where each message ends.
    pub fn shares<'a>(&self, present: &[u64], ends: &'a [usize]) -> Shares<'a> {
        let mut shares = Shares { ends, common: Vec::new(), own: Vec::new(), withheld: Vec::new() };
        let mut next = 0;
        for (index, address) in &self.special {
            match address {
                Address::Only(ids) => {
                    shares.add_common(next..*index);
                    next = index + 1;
                    shares.own.extend(ids.among(present).map(|id| (id, *index)));
                }
                Address::AllBut(ids) => {
                    shares.withheld.extend(ids.among(present).map(|id| (id, *index)));
                }
            }
        }
        shares.add_common(next..ends.len());
        shares.own.sort_unstable();
        shares.withheld.sort_unstable();
        shares
    }
}

/// Memory for so many entries is kept from one batch to the next.
pub(super) const KEPT: usize = 256;

/// Which messages of a batch each client gets. A client costs the messages that it gets and those that are withheld
/// from it, not the messages for others.
#[derive(Debug)]
pub struct Shares<'a> {
    ends: &'a [usize],
    /// Messages for all clients but those in `withheld`, neighbours joined, in order.
    common: Vec<Range<usize>>,
    /// Client and message, for messages to single clients, sorted.
    own: Vec<(u64, usize)>,
    /// Client and message, for messages in `common` that the client does not get, sorted.
    withheld: Vec<(u64, usize)>,
}

impl Shares<'_> {
    fn add_common(&mut self, messages: Range<usize>) {
        if !messages.is_empty() {
            self.common.push(messages);
        }
    }

    /// Puts into `parts` the bytes for one client, neighbours joined, and says whether there are any.
    pub fn parts(&self, id: u64, parts: &mut Vec<Range<usize>>) -> bool {
        parts.clear();
        let mut own = of(&self.own, id).iter().map(|&(_, index)| index).peekable();
        let mut withheld = of(&self.withheld, id).iter().map(|&(_, index)| index).peekable();
        for common in &self.common {
            while let Some(index) = own.next_if(|&index| index < common.start) {
                self.add(index..index + 1, parts);
            }
            let mut from = common.start;
            while let Some(index) = withheld.next_if(|&index| index < common.end) {
                self.add(from..index, parts);
                from = index + 1;
            }
            self.add(from..common.end, parts);
        }
        for index in own {
            self.add(index..index + 1, parts);
        }
        !parts.is_empty()
    }

    fn add(&self, messages: Range<usize>, parts: &mut Vec<Range<usize>>) {
        if messages.is_empty() {
            return;
        }
        let start = messages.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let end = self.ends[messages.end - 1];
        match parts.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => parts.push(start..end),
        }
    }
}

/// The entries of one client.
fn of(entries: &[(u64, usize)], id: u64) -> &[(u64, usize)] {
    let from = entries.partition_point(|&(other, _)| other < id);
    let length = entries[from..].partition_point(|&(other, _)| other == id);
    &entries[from..from + length]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::cpu_time;

    fn ids(ids: &[u64]) -> Ids {
        ids.to_vec().into()
    }

    fn parts(addresses: &Addresses, present: &[u64], ends: &[usize], id: u64) -> Vec<Range<usize>> {
        let mut parts = vec![1..2, 3..4];
        let any = addresses.shares(present, ends).parts(id, &mut parts);
        assert_eq!(any, !parts.is_empty());
        parts
    }

    #[test]
    fn each_client_gets_its_parts_and_neighbours_are_one() {
        let parts = |addresses: &Addresses, present: &[u64], ends: &[usize], id| -> Vec<(usize, usize)> {
            parts(addresses, present, ends, id).into_iter().map(|part| (part.start, part.end)).collect()
        };
        let ends = [10, 20, 30, 40, 50];
        let mut addresses = Addresses::default();
        addresses.set(0, Address::Only(ids(&[2, 1, 2])));
        addresses.set(1, Address::ALL);
        addresses.set(2, Address::AllBut(ids(&[1])));
        addresses.set(4, Address::Only(Ids::NONE));
        let of = |id| parts(&addresses, &[1, 2, 3], &ends, id);
        assert_eq!(of(1), [(0, 20), (30, 40)]);
        assert_eq!(of(2), [(0, 40)]);
        assert_eq!(of(3), [(10, 40)]);
        assert!(!addresses.is_plain());
        addresses.clear();
        assert!(addresses.is_plain());
        assert_eq!(parts(&addresses, &[9], &ends, 9), [(0, 50)]);
        assert_eq!(parts(&addresses, &[9], &[], 9), []);
    }

    /// Whatever the addresses, the parts are those that asking for each message and client would give.
    #[test]
    fn shares_are_those_of_asking_message_by_message() {
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..2000 {
            let messages = random(8) as usize;
            let ends: Vec<usize> = (1..=messages).map(|n| n * 10).collect();
            let present: Vec<u64> = (1..=random(6)).map(|n| n * 2).collect();
            let mut addresses = Addresses::default();
            let mut wanted = vec![vec![true; messages]; 14];
            for index in 0..messages {
                let named: Vec<u64> = (0..random(12)).map(|_| random(14)).collect();
                let (only, address) = match random(3) {
                    0 => continue,
                    1 => (true, Address::Only(named.clone().into())),
                    _ => (false, Address::AllBut(named.clone().into())),
                };
                addresses.set(index, address);
                for (id, gets) in wanted.iter_mut().enumerate() {
                    gets[index] = named.contains(&(id as u64)) == only;
                }
            }
            for &id in &present {
                let got = parts(&addresses, &present, &ends, id);
                assert!(got.windows(2).all(|two| two[0].end < two[1].start), "joined, in order: {got:?}");
                let got: Vec<bool> =
                    (0..messages).map(|index| got.iter().any(|part| part.contains(&(index * 10)))).collect();
                assert_eq!(got, wanted[id as usize], "client {id} of {present:?}: {addresses:?}");
            }
        }
    }

    #[test]
    fn long_lists_cost_their_lengths_and_not_the_product() {
        // The product is ten thousand million: minutes.
        let cost = cpu_time::of(|| {
            let (to, except): (Vec<u64>, Vec<u64>) =
                ((0..100_000).rev().collect(), (0..100_000).map(|n| n * 2).collect());
            let rest = Ids::from(to).without(&except.into());
            assert_eq!(rest.0.len(), 50_000);
            let twice = Ids::from(vec![7; 100_000]).without(&vec![8; 100_000].into());
            assert_eq!(twice, ids(&[7]));
        });
        assert!(cost < Duration::from_secs(1), "{cost:?}");
    }

    #[test]
    fn many_addressed_messages_for_many_clients_cost_what_they_deliver() {
        // The product is thousands of millions.
        const MESSAGES: usize = 100_000;
        const CLIENTS: u64 = 50_000;
        let cost = cpu_time::of(|| {
            let ends: Vec<usize> = (1..=MESSAGES).map(|n| n * 12).collect();
            let present: Vec<u64> = (1..=CLIENTS).collect();
            let (mut private, mut withheld) = (Addresses::default(), Addresses::default());
            for index in 0..MESSAGES {
                let id = ids(&[1 + index as u64 % (CLIENTS / 2)]);
                private.set(index, Address::Only(id.clone()));
                withheld.set(index, Address::AllBut(id));
            }
            for (addresses, wanted) in [(private, MESSAGES), (withheld, CLIENTS as usize + MESSAGES)] {
                let shares = addresses.shares(&present, &ends);
                let (mut all, mut parts) = (0, Vec::new());
                for &id in &present {
                    shares.parts(id, &mut parts);
                    all += parts.len();
                }
                // The first and the last message leave no gap.
                assert!((wanted - 2..=wanted).contains(&all), "{all} parts");
            }
        });
        assert!(cost < Duration::from_secs(5), "{cost:?}");
    }
}
