//! Who a message is for.

use std::ops::Range;

/// The clients that a message of the program is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// All but these; nobody is left out where the list is empty.
    AllBut(Vec<u64>),
    /// These alone.
    Only(Vec<u64>),
}

impl Address {
    /// Everybody.
    pub const ALL: Self = Self::AllBut(Vec::new());

    /// Whether a client gets the message.
    pub fn includes(&self, id: u64) -> bool {
        match self {
            Self::AllBut(ids) => !ids.contains(&id),
            Self::Only(ids) => ids.contains(&id),
        }
    }
}

/// The addresses of a batch of messages, and which of its bytes each client gets.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Index of a message that is not for everybody, and whom it is for; in order.
    special: Vec<(usize, Address)>,
}

impl Addresses {
    /// Message number `index` of the batch is for these. Call it in order.
    pub fn set(&mut self, index: usize, address: Address) {
        if address != Address::ALL {
            self.special.push((index, address));
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.special.clear();
    }

    /// Whether every message is for everybody.
    pub fn is_plain(&self) -> bool {
        self.special.is_empty()
    }

    /// Whether message number `index` is for whoever comes later too.
    pub fn is_public(&self, index: usize) -> bool {
        let special = self.special.binary_search_by_key(&index, |&(index, _)| index);
        special.is_err() || special.is_ok_and(|at| matches!(self.special[at].1, Address::AllBut(_)))
    }

    /// The parts of the batch for one client, neighbours joined; `ends` says where each message ends.
    pub fn parts(&self, id: u64, ends: &[usize]) -> Vec<Range<usize>> {
        let mut parts = Vec::with_capacity(1);
        let mut from = 0;
        for (index, address) in &self.special {
            if !address.includes(id) {
                let start = index.checked_sub(1).map_or(0, |before| ends[before]);
                if start > from {
                    parts.push(from..start);
                }
                from = ends[*index];
            }
        }
        let all = ends.last().copied().unwrap_or(0);
        if all > from {
            parts.push(from..all);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_its_parts_and_neighbours_are_one() {
        let ends = [10, 20, 30, 40, 50];
        let mut addresses = Addresses::default();
        addresses.set(0, Address::Only(vec![1, 2]));
        addresses.set(1, Address::ALL);
        addresses.set(2, Address::AllBut(vec![1]));
        addresses.set(4, Address::Only(vec![]));
        let parts = |id| -> Vec<(usize, usize)> {
            addresses.parts(id, &ends).into_iter().map(|part| (part.start, part.end)).collect()
        };
        assert_eq!(parts(1), [(0, 20), (30, 40)]);
        assert_eq!(parts(2), [(0, 40)]);
        assert_eq!(parts(3), [(10, 40)]);
        assert!(!addresses.is_plain());
        addresses.clear();
        assert!(addresses.is_plain());
        assert_eq!(addresses.parts(9, &ends).len(), 1);
        assert!(addresses.parts(9, &[]).is_empty());
    }
}
