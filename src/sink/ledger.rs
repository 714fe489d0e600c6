//! The lengths of messages that a program may not have read yet, to count the unread ones. Pure.

use std::collections::VecDeque;

/// Entries for which room is made at first.
const FEW: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Lengths in bytes, shifted by one; the lowest bit is set for a client's message, and not for a notice.
    entries: VecDeque<u32>,
    bytes: usize,
}

impl Ledger {
    /// Adds messages of clients, or a notice: `ends` says where each ends, `from` where the first begins. `unread` says
    /// how many bytes of the earlier ones the program has not read; it is called before more memory is needed.
    pub(super) fn push(
        &mut self,
        ends: &[usize],
        mut from: usize,
        are_messages: bool,
        unread: impl FnOnce() -> usize,
    ) {
        if self.entries.capacity() - self.entries.len() < ends.len() {
            self.forget_read(unread());
            if self.entries.len() + ends.len() > self.entries.capacity() / 2 {
                self.entries.reserve((self.entries.len() + ends.len()).max(FEW));
            }
        }
        for &end in ends {
            // An empty message counts as read with the one before it, so that any number of them costs nothing.
            if end > from {
                self.entries.push_back(((end - from) as u32) << 1 | u32::from(are_messages));
                self.bytes += end - from;
            }
            from = end;
        }
    }

    fn forget_read(&mut self, unread: usize) {
        while let Some(&oldest) = self.entries.front() {
            let length = (oldest >> 1) as usize;
            if self.bytes - length < unread {
                break;
            }
            self.entries.pop_front();
            self.bytes -= length;
        }
    }

    pub(super) fn clear(&mut self) {
        (self.entries, self.bytes) = (VecDeque::new(), 0);
    }

    /// How many messages the last `unread` bytes belong to.
    pub(super) fn messages_in(&self, unread: usize) -> u64 {
        let (mut left, mut messages) = (unread, 0);
        for &entry in self.entries.iter().rev() {
            if left == 0 {
                break;
            }
            messages += u64::from(entry & 1);
            left = left.saturating_sub((entry >> 1) as usize);
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_which_a_byte_is_unread_is_unread() {
        let mut ledger = Ledger::default();
        for (length, is_message) in [(10, true), (5, false), (3, true), (7, true)] {
            ledger.push(&[length], 0, is_message, || 25);
        }
        for (unread, messages) in
            [(0, 0), (1, 1), (7, 1), (8, 2), (10, 2), (11, 2), (15, 2), (16, 3), (99, 3)]
        {
            assert_eq!(ledger.messages_in(unread), messages, "{unread} bytes");
        }
    }

    #[test]
    fn what_was_read_is_forgotten_and_nothing_else() {
        let mut ledger = Ledger::default();
        for _ in 0..400_000 {
            ledger.push(&[7, 107, 107], 7, true, || 1 << 20);
        }
        assert!(ledger.entries.capacity() < 50_000, "{}", ledger.entries.capacity());
        assert_eq!(ledger.messages_in(1 << 20), (1u64 << 20).div_ceil(100));
    }
}
