//! A scanner for JSON (RFC 8259) that builds no tree and does not recurse. Pure.

use std::ops::Range;

/// How deep a message may be nested. A client's message that is deeper is taken for an attack on the program's parser;
/// a program's message that is deeper has a header that cannot be read.
pub(super) const DEEPEST: usize = 128;

/// Where a member of the outermost object is.
#[derive(Debug)]
pub(super) struct MemberSpan {
    /// From after the brace or comma before it to the end of its value.
    pub(super) all: Range<usize>,
    /// Between the quotes.
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
}

/// Why a message is not taken as a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not a JSON object.
    NoObject,
    /// It is nested deeper than [`DEEPEST`], and was not scanned to the end.
    TooDeep,
}

/// Scans a JSON object and gives each of its members, also those before an error.
pub(super) fn members(bytes: &[u8], each: impl FnMut(&MemberSpan)) -> Result<(), Refused> {
    let mut scan = Scan { bytes, at: 0, too_deep: false };
    let scanned = scan.object(each);
    scanned.ok_or(if scan.too_deep { Refused::TooDeep } else { Refused::NoObject })
}

/// Whether this is one JSON value and nothing else.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    let mut scan = Scan { bytes, at: 0, too_deep: false };
    scan.space();
    let scanned = scan.value(0);
    scan.space();
    scanned.is_some() && scan.at == bytes.len() && std::str::from_utf8(bytes).is_ok()
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    too_deep: bool,
}

impl Scan<'_> {
    /// An object and nothing else.
    fn object(&mut self, mut each: impl FnMut(&MemberSpan)) -> Option<()> {
        self.space();
        self.expect(b'{')?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            let mut from = self.at;
            loop {
                self.space();
                let name = self.string()?;
                self.space();
                self.expect(b':')?;
                self.space();
                let start = self.at;
                self.value(1)?;
                let end = self.at;
                each(&MemberSpan { all: from..end, name, value: start..end });
                self.space();
                match self.next()? {
                    b',' => from = self.at,
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        self.space();
        (self.at == self.bytes.len()).then_some(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A string; gives the range between its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let from = self.at;
        loop {
            match self.next()? {
                b'"' => return Some(from..self.at - 1),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.next()?.is_ascii_hexdigit().then_some(())?;
                        }
                    }
                    _ => return None,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// A value of any kind, inside `outer` others. Open objects and lists are kept as one bit a level, so nothing
    /// recurses.
    fn value(&mut self, outer: usize) -> Option<()> {
        // A set bit is an object, a clear one a list.
        let (mut open, mut depth) = (0u128, outer);
        loop {
            // A value begins here.
            match self.peek()? {
                opening @ (b'{' | b'[') => {
                    self.at += 1;
                    if depth >= DEEPEST {
                        self.too_deep = true;
                        return None;
                    }
                    depth += 1;
                    open = open << 1 | u128::from(opening == b'{');
                    self.space();
                    if self.peek()? == opening + 2 {
                        self.at += 1;
                        depth -= 1;
                        open >>= 1;
                    } else {
                        if opening == b'{' {
                            self.member_name()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value has ended: so may those around it.
            loop {
                if depth == outer {
                    return Some(());
                }
                self.space();
                let object = open & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.space();
                        if object {
                            self.member_name()?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ => return None,
                }
                depth -= 1;
                open >>= 1;
            }
        }
    }

    fn member_name(&mut self) -> Option<()> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_any_kind_is_one_and_nothing_else_is() {
        for value in ["1", " -0.5e3 ", "null", "true", "\"a\"", "[]", "{}", "[1,{\"a\":[]}]", "\n[\n1\n]\n"] {
            assert!(is_value(value.as_bytes()), "{value}");
        }
        for other in [
            "",
            " ",
            "a",
            "1 2",
            "{} {}",
            "[",
            "]",
            "[1,]",
            "nul",
            "'a'",
            "\"a",
            "{\"a\":\"\n\"}",
            "\u{feff}1",
        ] {
            assert!(!is_value(other.as_bytes()), "{other}");
        }
        assert!(!is_value(b"\"\xff\""), "not UTF-8");
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_value(nested(DEEPEST).as_bytes()));
        assert!(!is_value(nested(DEEPEST + 1).as_bytes()));
        assert!(!is_value("[".repeat(1_000_000).as_bytes()));
    }
}
