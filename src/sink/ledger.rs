//! Where messages end in a stream of bytes to a program, for as long as the program may not have read them: so
//! that what it never reads can be counted, to the message. Pure.

use std::collections::VecDeque;

/// Entries that are kept before old ones are looked for.
const FEW: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ledger {
    /// What the kernel may hold of what was written, in bytes.
    kernel: usize,
    /// Lengths in bytes, shifted by one; the lowest bit says that it is a client's message, not a notice.
    entries: VecDeque<u32>,
    bytes: usize,
}

impl Ledger {
    /// The kernel holds at most so many bytes that were written and not read.
    pub(super) fn new(kernel: usize) -> Self {
        Self { kernel, entries: VecDeque::new(), bytes: 0 }
    }

    /// So many bytes were handed over: one message of a client, or a notice.
    pub(super) fn push(&mut self, length: usize, is_message: bool, unwritten: usize) {
        if length == 0 && !is_message {
            return;
        }
        if self.entries.len() == self.entries.capacity() && self.entries.len() >= FEW {
            self.forget_read(unwritten);
        }
        self.entries.push_back((length as u32) << 1 | u32::from(is_message));
        self.bytes += length;
    }

    /// Forgets what the program has read for sure.
    fn forget_read(&mut self, unwritten: usize) {
        while let Some(&oldest) = self.entries.front() {
            let length = (oldest >> 1) as usize;
            if self.bytes - length < unwritten + self.kernel {
                break;
            }
            self.entries.pop_front();
            self.bytes -= length;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.entries, self.bytes) = (VecDeque::new(), 0);
    }

    /// Messages of which some of the last `unread` bytes are, and empty ones between those.
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
        let mut ledger = Ledger::new(1 << 20);
        for (length, is_message) in [(10, true), (5, false), (3, true), (7, true)] {
            ledger.push(length, is_message, 0);
        }
        for (unread, messages) in
            [(0, 0), (1, 1), (7, 1), (8, 2), (10, 2), (11, 2), (15, 2), (16, 3), (99, 3)]
        {
            assert_eq!(ledger.messages_in(unread), messages, "{unread} bytes");
        }
    }

    #[test]
    fn what_must_have_been_read_is_forgotten_and_nothing_else() {
        let mut ledger = Ledger::new(1 << 20);
        for _ in 0..400_000 {
            ledger.push(100, true, 0);
        }
        assert!(ledger.bytes < 3 << 20, "{}", ledger.bytes);
        assert_eq!(ledger.messages_in(1 << 20), (1u64 << 20).div_ceil(100));
    }
}
