//! A stream of bytes cut into items, each ended by one byte of a set.

use memchr::{memchr, memchr2, memchr3};

/// The set of bytes that end an item.
#[derive(Debug, Clone)]
enum Delimiters {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    Many(Box<[bool; 256]>),
}

impl Delimiters {
    fn new(set: &[u8]) -> Self {
        match *set {
            [a] => Self::One(a),
            [a, b] => Self::Two(a, b),
            [a, b, c] => Self::Three(a, b, c),
            _ => {
                let mut table = Box::new([false; 256]);
                for &byte in set {
                    table[usize::from(byte)] = true;
                }
                Self::Many(table)
            }
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::One(a) => memchr(*a, bytes),
            Self::Two(a, b) => memchr2(*a, *b, bytes),
            Self::Three(a, b, c) => memchr3(*a, *b, *c, bytes),
            Self::Many(table) => bytes.iter().position(|&byte| table[usize::from(byte)]),
        }
    }
}

/// What is done with an item over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlong {
    /// It is dropped.
    Discard,
    /// Its beginning is given, the rest is dropped.
    Cut,
}

/// Cuts a stream into items, also those that come in parts.
#[derive(Debug)]
pub struct Splitter {
    delimiters: Delimiters,
    strip_cr: bool,
    /// Largest item, in bytes, without its delimiter.
    limit: usize,
    policy: Overlong,
    /// The beginning of an item whose end has not come yet.
    partial: Vec<u8>,
    /// The item is over the limit: it is dropped up to its delimiter.
    discarding: bool,
    /// The beginning of this item has been given already: see [`Splitter::flush`].
    flushed: bool,
    overlong: u64,
}

impl Splitter {
    /// Items end in one byte of `set`; with `strip_cr`, a `\r` before it belongs to the end. Items of more than `limit`
    /// bytes are counted, and treated as `policy` says.
    pub fn new(set: &[u8], strip_cr: bool, limit: usize, policy: Overlong) -> Self {
        Self {
            delimiters: Delimiters::new(set),
            strip_cr,
            limit,
            policy,
            partial: Vec::new(),
            discarding: false,
            flushed: false,
            overlong: 0,
        }
    }

    /// Takes the next bytes and gives each item that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut item: impl FnMut(&[u8])) {
        while let Some(end) = self.delimiters.find(bytes) {
            let (head, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.discarding {
                self.discarding = false;
            } else if self.partial.is_empty() {
                self.give(head, &mut item);
            } else if self.keep(head, &mut item) {
                let whole = std::mem::take(&mut self.partial);
                self.give(&whole, &mut item);
                // A buffer of the usual size is used again; that of a long item is not kept.
                if whole.capacity() <= 64 * 1024 {
                    self.partial = whole;
                    self.partial.clear();
                }
            } else {
                self.discarding = false;
            }
            bytes = rest;
        }
        if !self.discarding && !bytes.is_empty() {
            self.keep(bytes, &mut item);
        }
    }

    /// The stream has ended: gives a last item without an end.
    pub fn finish(&mut self, mut item: impl FnMut(&[u8])) {
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.give(&rest, &mut item);
        }
        self.discarding = false;
    }

    /// The part of an item that [`Splitter::flush`] would give: up to the last whole character, and without a `\r` that
    /// may belong to the end.
    pub fn partial(&self) -> &[u8] {
        let whole = &self.partial[..self.partial.len() - unfinished_character(&self.partial)];
        let whole = self.without_cr(whole);
        // One byte more than allowed, which is not the `\r` that there was room for.
        if whole.len() > self.limit { &[] } else { whole }
    }

    /// Gives the part of an item that has come so far. The rest is an item of its own; if it is empty, it is not given.
    pub fn flush(&mut self, mut item: impl FnMut(&[u8])) {
        if self.partial().is_empty() {
            return;
        }
        let rest = self.partial.split_off(self.partial.len() - unfinished_character(&self.partial));
        let whole = std::mem::replace(&mut self.partial, rest);
        self.give(&whole, &mut item);
        self.flushed = true;
    }

    /// How many items were over the limit since the last call.
    pub fn take_overlong(&mut self) -> u64 {
        std::mem::take(&mut self.overlong)
    }

    fn give(&mut self, bytes: &[u8], item: &mut impl FnMut(&[u8])) {
        let bytes = self.without_cr(bytes);
        if std::mem::take(&mut self.flushed) && bytes.is_empty() {
            return;
        }
        if bytes.len() > self.limit {
            self.overlong += 1;
            if self.policy == Overlong::Cut {
                item(&bytes[..self.limit]);
            }
        } else {
            item(bytes);
        }
    }

    fn without_cr<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        match bytes {
            [head @ .., b'\r'] if self.strip_cr => head,
            whole => whole,
        }
    }

    /// Adds to the partial item, or gives it up when it is too long. A `\r` that may belong to the
    /// delimiter does not count.
    fn keep(&mut self, bytes: &[u8], item: &mut impl FnMut(&[u8])) -> bool {
        if self.partial.len() + bytes.len() > self.limit + usize::from(self.strip_cr) {
            let mut beginning = std::mem::take(&mut self.partial);
            if self.policy == Overlong::Cut {
                beginning.extend_from_slice(&bytes[..self.limit.saturating_sub(beginning.len())]);
                beginning.truncate(self.limit);
                item(&beginning);
            }
            self.discarding = true;
            self.overlong += 1;
            return false;
        }
        self.partial.extend_from_slice(bytes);
        true
    }
}

/// How many bytes at the end belong to a UTF-8 character that is not complete.
fn unfinished_character(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate().map(|(index, byte)| (index + 1, byte)) {
        let length = match byte {
            0x80..0xc0 => continue,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf8 => 4,
            _ => 1,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(set: &[u8], strip_cr: bool, limit: usize, input: &[u8], step: usize) -> (Vec<String>, u64) {
        split_as(set, strip_cr, limit, Overlong::Discard, input, step)
    }

    fn split_as(
        set: &[u8],
        strip_cr: bool,
        limit: usize,
        policy: Overlong,
        input: &[u8],
        step: usize,
    ) -> (Vec<String>, u64) {
        let mut splitter = Splitter::new(set, strip_cr, limit, policy);
        let mut items = Vec::new();
        let mut take = |item: &[u8]| items.push(String::from_utf8_lossy(item).into_owned());
        for chunk in input.chunks(step) {
            splitter.push(chunk, &mut take);
        }
        splitter.finish(&mut take);
        let overlong = splitter.take_overlong();
        (items, overlong)
    }

    #[test]
    fn items_are_the_same_however_the_bytes_come() {
        let cases: [(&[u8], bool, &str, &[&str]); 9] = [
            (b"\n", true, "a\nb\r\n\nc", &["a", "b", "", "c"]),
            (b"\n", true, "", &[]),
            (b"\n", true, "\n", &[""]),
            (b"\n", true, "x\r", &["x"]),
            (b"\n", true, "\r\r\n", &["\r"]),
            (b"\0", false, "a\r\0b\nc\0", &["a\r", "b\nc"]),
            (b",;", false, "a,b;c\n", &["a", "b", "c\n"]),
            (b",;|", false, "a,b;|c", &["a", "b", "", "c"]),
            (b",;|/", false, "a,b;|c/", &["a", "b", "", "c"]),
        ];
        for (set, strip_cr, input, wanted) in cases {
            for step in 1..=input.len().max(1) {
                let (items, overlong) = split(set, strip_cr, 100, input.as_bytes(), step);
                assert_eq!(items, wanted, "{input:?} in steps of {step}");
                assert_eq!(overlong, 0);
            }
        }
    }

    #[test]
    fn an_item_over_the_limit_is_thrown_away_to_its_end_and_counted() {
        let input = b"12345\n123456\n1\n1234567890\r\n12345\r\n123456";
        for step in 1..=input.len() {
            let (items, overlong) = split(b"\n", true, 5, input, step);
            assert_eq!(items, ["12345", "1", "12345"], "steps of {step}");
            assert_eq!(overlong, 3, "steps of {step}");
        }
    }

    #[test]
    fn an_item_over_the_limit_can_be_cut_instead() {
        let input = b"12345\n1234567\n1\n1234567890\r\n12345\r\n1234567";
        for step in 1..=input.len() {
            let (items, overlong) = split_as(b"\n", true, 5, Overlong::Cut, input, step);
            assert_eq!(items, ["12345", "12345", "1", "12345", "12345", "12345"], "steps of {step}");
            assert_eq!(overlong, 3, "steps of {step}");
        }
    }

    #[test]
    fn a_flushed_beginning_is_an_item_and_its_end_alone_is_none() {
        // A `|` flushes.
        for (input, strip_cr, wanted) in [
            ("Name: |Bob\nnext\n", true, &["Name: ", "Bob", "next"] as &[&str]),
            ("Name: |\nnext\n", true, &["Name: ", "next"]),
            ("Name: |\r\n\nnext", true, &["Name: ", "", "next"]),
            ("10%\r|20%\r|\n", true, &["10%", "20%"]),
            ("10%\r|\n", false, &["10%\r"]),
            ("|a\n||b||c", true, &["a", "b", "c"]),
            ("\r|\n", true, &[""]),
            ("a|\r", true, &["a"]),
        ] {
            let mut splitter = Splitter::new(b"\n", strip_cr, 100, Overlong::Discard);
            let mut items = Vec::new();
            let mut take = |item: &[u8]| items.push(String::from_utf8_lossy(item).into_owned());
            for byte in input.bytes() {
                if byte == b'|' {
                    splitter.flush(&mut take);
                    assert!(splitter.partial().is_empty(), "nothing is given twice");
                } else {
                    splitter.push(&[byte], &mut take);
                }
            }
            splitter.finish(&mut take);
            assert_eq!(items, wanted, "{input:?}");
        }
    }

    #[test]
    fn a_flush_does_not_cut_a_character() {
        for text in ["a\u{fc}", "a\u{20ac}", "a\u{1f600}", "a\u{fc}b"] {
            for cut in 1..=text.len() {
                let mut splitter = Splitter::new(b"\n", true, 100, Overlong::Discard);
                let mut items = Vec::new();
                let mut take =
                    |item: &[u8]| items.push(String::from_utf8(item.to_vec()).expect("whole characters"));
                splitter.push(&text.as_bytes()[..cut], &mut take);
                splitter.flush(&mut take);
                splitter.push(&text.as_bytes()[cut..], &mut take);
                splitter.push(b"\n", &mut take);
                assert_eq!(items.concat(), text, "cut at {cut}");
            }
        }
        for (bytes, unfinished) in
            [(&b""[..], 0), (b"\x80\x80\x80\x80", 0), (b"a\xff", 0), (b"\xf0\x9f\x98", 3), (b"\xc3", 1)]
        {
            assert_eq!(unfinished_character(bytes), unfinished, "{bytes:?}");
        }
    }

    #[test]
    fn the_limit_counts_the_bytes_of_the_item_and_not_what_ends_it() {
        for (input, fits) in [
            ("12345\n", true),
            ("12345\r\n", true),
            ("12345", true),
            ("12345\r", true),
            ("1234\r\r\n", true),
            ("123456\n", false),
            ("12345\r\r\n", false),
            ("123456", false),
            ("12345\0", true),
            ("12345\r\0", false),
        ] {
            let set: &[u8] = if input.ends_with('\0') { b"\0" } else { b"\n" };
            for step in 1..=input.len() {
                let (items, overlong) = split(set, set == b"\n", 5, input.as_bytes(), step);
                assert_eq!(
                    (items.len(), overlong == 0),
                    (usize::from(fits), fits),
                    "{input:?} in steps of {step}"
                );
            }
        }
    }

    #[test]
    fn memory_follows_what_has_come_and_no_long_item_leaves_a_large_buffer() {
        const LIMIT: usize = 16 << 20;
        for policy in [Overlong::Discard, Overlong::Cut] {
            let mut splitter = Splitter::new(b"\n", true, LIMIT, policy);
            let (mut come, mut given) = (0, 0);
            let chunk = vec![b'x'; 64 * 1024];
            while come < LIMIT {
                splitter.push(&chunk, |_| given += 1);
                come += chunk.len();
                assert!(splitter.partial.capacity() <= 2 * come, "{} of {come}", splitter.partial.capacity());
            }
            splitter.push(b"\nx", |item| given += item.len());
            assert_eq!(given, LIMIT);
            assert!(splitter.partial.capacity() <= 64 * 1024, "after a long item");
            for _ in 0..LIMIT / chunk.len() + 10 {
                splitter.push(&chunk, |_| ());
            }
            assert_eq!(
                (splitter.partial.capacity(), splitter.take_overlong()),
                (0, 1),
                "while it is discarded"
            );
        }
    }
}
