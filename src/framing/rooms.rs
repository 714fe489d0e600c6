//! Which rooms a message is for, where one backend serves all rooms. Pure.

use super::address::{Address, Addresses, Ids};

/// A set of rooms' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rooms(Vec<String>);

impl Rooms {
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// Bytes of memory that it holds, more or less.
    pub fn memory(&self) -> usize {
        self.0.iter().map(|name| size_of::<String>() + name.len()).sum()
    }
}

impl From<Vec<String>> for Rooms {
    /// In any order, with repetitions.
    fn from(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self(names)
    }
}

/// The addresses of a batch in which each message that names rooms is narrowed to the clients in them. `named` is these
/// messages, in order; `present` is the clients with their rooms, in the order of their ids.
///
/// A message costs the clients that get it and the ids and rooms that it names, not all clients.
pub fn narrowed(addresses: &Addresses, named: &[(usize, Rooms)], present: &[(u64, &str)]) -> Addresses {
    let mut by_room: Vec<(&str, u64)> = present.iter().map(|&(id, room)| (room, id)).collect();
    by_room.sort_unstable();
    let room_of = |id: u64| present.binary_search_by_key(&id, |&(id, _)| id).ok().map(|at| present[at].1);
    let members = |room: &str| {
        let from = by_room.partition_point(|&(other, _)| other < room);
        let length = by_room[from..].partition_point(|&(other, _)| other == room);
        &by_room[from..from + length]
    };
    let mut narrow = Addresses::default();
    let mut given = addresses.iter().peekable();
    for (index, rooms) in named {
        while let Some((before, address)) = given.next_if(|(other, _)| other < index) {
            narrow.set(*before, address.clone());
        }
        let all = || -> Ids {
            let ids = rooms.0.iter().flat_map(|room| members(room)).map(|&(_, id)| id);
            ids.collect::<Vec<_>>().into()
        };
        let ids = match given.next_if(|(other, _)| other == index) {
            None => all(),
            Some((_, Address::AllBut(except))) => all().without(except),
            Some((_, Address::Only(ids))) => {
                ids.filtered(|id| room_of(id).is_some_and(|room| rooms.contains(room)))
            }
        };
        narrow.set(*index, Address::Only(ids));
    }
    for (index, address) in given {
        narrow.set(*index, address.clone());
    }
    narrow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_name_rooms_go_to_the_clients_in_them_alone() {
        let rooms =
            |names: &[&str]| Rooms::from(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let only = |ids: &[u64]| Address::Only(ids.to_vec().into());
        let but = |ids: &[u64]| Address::AllBut(ids.to_vec().into());
        let present = [(1, "a"), (2, "b"), (3, "a"), (4, "c")];
        let mut addresses = Addresses::default();
        for (index, address) in [(0, only(&[1, 2])), (2, but(&[3])), (4, but(&[4])), (6, only(&[1, 4]))] {
            addresses.set(index, address);
        }
        let named = [
            (1, rooms(&["a"])),
            (2, rooms(&["c", "a", "a"])),
            (3, rooms(&[])),
            (5, rooms(&["nowhere"])),
            (6, rooms(&["b", "c"])),
            (7, rooms(&["b"])),
        ];
        let narrow = narrowed(&addresses, &named, &present);
        let got: Vec<_> = narrow.iter().cloned().collect();
        let wanted = [
            (0, only(&[1, 2])),
            (1, only(&[1, 3])),
            (2, only(&[1, 4])),
            (3, only(&[])),
            (4, but(&[4])),
            (5, only(&[])),
            (6, only(&[4])),
            (7, only(&[2])),
        ];
        assert_eq!(got, wanted);
    }
}
