//! JSON framing: whom a message of the program is for, who a message of a client is from. Pure.
//!
//! Messages are scanned, not parsed: no tree is built, nothing recurses, and every byte that is not a
//! header of ours stays as it was: the order of members, the spelling of numbers, unknown escapes. The
//! scanner holds to RFC 8259, so that what the program gets is JSON whatever the client sent.

use std::io::Write as _;
use std::ops::Range;

use super::address::{Address, Ids};

/// How deep a message may be nested. More is no message but an attack on the program's parser; and one of the
/// program whose header is out of reach.
pub const DEEPEST: usize = 128;

/// What a message of the program says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// It is to be sent. `keep`: it is marked for the history (`_cache`).
    Send {
        /// Whom it is for.
        to: Address,
        /// Whether it is marked for the history.
        keep: bool,
    },
    /// It describes the room (`_meta`) and is sent to nobody.
    Meta,
    /// Its header cannot be understood: it is sent to nobody, for it may be private.
    Malformed,
}

/// Reads the header of a message of the program. What is no JSON object has none: it is for everybody.
pub fn header(message: &[u8]) -> Header {
    let plain = Header::Send { to: Address::ALL, keep: false };
    // Most messages hold no name of ours, not even an escaped one.
    let start = message.iter().position(|byte| !byte.is_ascii_whitespace());
    let maybe = start.is_some_and(|at| message[at] == b'{')
        && (memchr::memmem::find(message, b"\"_").is_some() || memchr::memchr(b'\\', message).is_some());
    if !maybe {
        return plain;
    }
    let (mut to, mut except, mut meta, mut keep) = (Ok(None), Ok(None), Some(false), false);
    let scanned = members(message, |member| {
        let value = &message[member.value.clone()];
        match name(&message[member.name.clone()]) {
            Some(Name::To) => to = ids(value),
            Some(Name::Except) => except = ids(value),
            Some(Name::Meta) => meta = flag(value),
            Some(Name::Cache) => keep = flag(value).unwrap_or(false),
            Some(Name::From | Name::Join | Name::Leave) | None => {}
        }
    });
    match scanned {
        Ok(()) => {}
        // It may be JSON, and private.
        Err(Refused::TooDeep) => return Header::Malformed,
        Err(Refused::NoObject) => return plain,
    }
    let (Ok(to), Ok(except), Some(meta)) = (to, except, meta) else {
        return Header::Malformed;
    };
    if meta {
        return Header::Meta;
    }
    // Sorted once, here: a message may have many of these members, of which the last one counts.
    let except = Ids::from(except.unwrap_or_default());
    let to = match to {
        Some(to) => Address::Only(Ids::from(to).without(&except)),
        None => Address::AllBut(except),
    };
    Header::Send { to, keep }
}

/// Writes a client's message as one line, without its end: `_from` first, any `_from`, `_join` and `_leave` of
/// the client's own left out, line breaks between tokens as spaces. Says no, and writes nothing, if it is no
/// JSON object.
pub fn write_from(message: &[u8], id: u64, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{{\"_from\":{id}");
    let body = members(message, |member| {
        // What tells who is speaking, who came and who left is only ever the server's word.
        if let Some(Name::From | Name::Join | Name::Leave) = name(&message[member.name.clone()]) {
            return;
        }
        out.push(b',');
        // The white space before a member goes with it.
        out.extend_from_slice(&message[member.all.clone()]);
    });
    if body.is_err() || std::str::from_utf8(message).is_err() {
        out.truncate(before);
        return false;
    }
    out.push(b'}');
    for byte in &mut out[before..] {
        // Between tokens only: a string that holds one is no JSON.
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    From,
    Join,
    Leave,
    To,
    Except,
    Meta,
    Cache,
}

/// Which of our names a member's name is, escapes undone; `raw` is what stands between the quotes.
pub(super) fn name(raw: &[u8]) -> Option<Name> {
    const NAMES: [(&[u8], Name); 7] = [
        (b"_from", Name::From),
        (b"_join", Name::Join),
        (b"_leave", Name::Leave),
        (b"_to", Name::To),
        (b"_except", Name::Except),
        (b"_meta", Name::Meta),
        (b"_cache", Name::Cache),
    ];
    // The longest of them with each letter as \uXXXX; a longer name is none of ours.
    if raw.len() > 7 * 6 || !matches!(raw.first(), Some(b'_' | b'\\')) {
        return None;
    }
    NAMES.iter().find(|(name, _)| same_text(raw, name)).map(|&(_, name)| name)
}

/// Whether a JSON string with its escapes is this ASCII text.
fn same_text(mut raw: &[u8], text: &[u8]) -> bool {
    for &wanted in text {
        let (byte, length) = match raw {
            [b'\\', b'u', a, b, c, d, ..] => {
                let digits = [*a, *b, *c, *d];
                let code =
                    std::str::from_utf8(&digits).ok().and_then(|hex| u32::from_str_radix(hex, 16).ok());
                (code, 6)
            }
            [b'\\', ..] | [] => return false,
            [byte, ..] => (Some(u32::from(*byte)), 1),
        };
        if byte != Some(u32::from(wanted)) {
            return false;
        }
        raw = &raw[length..];
    }
    raw.is_empty()
}

/// `true` and `false`; `null` is as if absent; `None` for anything else.
fn flag(value: &[u8]) -> Option<bool> {
    match value {
        b"true" => Some(true),
        b"false" | b"null" => Some(false),
        _ => None,
    }
}

/// A value that is neither an id nor a list of ids.
struct NoIds;

/// An id or a list of ids; `null` is as if absent.
fn ids(value: &[u8]) -> Result<Option<Vec<u64>>, NoIds> {
    if value == b"null" {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).map_err(|_| NoIds)?;
    let id = |text: &str| {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits).ok_or(NoIds)
    };
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        None => Ok(Some(vec![id(text)?])),
        Some(list) if list.bytes().all(|byte| byte.is_ascii_whitespace()) => Ok(Some(Vec::new())),
        Some(list) => list.split(',').map(id).collect::<Result<_, _>>().map(Some),
    }
}

/// Where a member of the outermost object stands.
#[derive(Debug)]
pub(super) struct MemberSpan {
    /// From behind the brace or comma before it to the end of its value.
    pub(super) all: Range<usize>,
    /// Its name, between the quotes.
    pub(super) name: Range<usize>,
    /// Its value.
    pub(super) value: Range<usize>,
}

/// Why a message is not taken for a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is none.
    NoObject,
    /// It is nested deeper than [`DEEPEST`]; whether it is one was not looked into.
    TooDeep,
}

/// Scans a JSON object and gives each of its members, until it turns out to be none.
pub(super) fn members(bytes: &[u8], each: impl FnMut(&MemberSpan)) -> Result<(), Refused> {
    let mut scan = Scan { bytes, at: 0, too_deep: false };
    let scanned = scan.object(each);
    scanned.ok_or(if scan.too_deep { Refused::TooDeep } else { Refused::NoObject })
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    too_deep: bool,
}

impl Scan<'_> {
    /// All of it: an object and nothing else.
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
                self.value()?;
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

    /// A string; gives what stands between its quotes.
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

    /// A value of any kind. What is open is kept as one bit a level, so nothing recurses.
    fn value(&mut self) -> Option<()> {
        // A set bit is an object, a clear one a list.
        let (mut open, mut depth) = (0u128, 0usize);
        loop {
            // A value begins here.
            match self.peek()? {
                opening @ (b'{' | b'[') => {
                    self.at += 1;
                    // The outermost object counts too.
                    if depth + 1 >= DEEPEST {
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
                if depth == 0 {
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

    fn from(message: &str) -> Option<String> {
        let mut out = b"before".to_vec();
        let taken = write_from(message.as_bytes(), 7, &mut out);
        let text = String::from_utf8(out).expect("UTF-8").strip_prefix("before").expect("kept").to_owned();
        assert_eq!(taken, !text.is_empty(), "nothing is written of what is refused");
        taken.then_some(text)
    }

    #[test]
    fn from_is_ours_and_all_else_is_kept() {
        let cases = [
            ("{}", "{\"_from\":7}"),
            (" { } ", "{\"_from\":7}"),
            (r#"{"a":1}"#, r#"{"_from":7,"a":1}"#),
            (r#"{"_from":1}"#, r#"{"_from":7}"#),
            (r#"{"z":1.50e+05,"a":"\u00e4\/ö"}"#, r#"{"_from":7,"z":1.50e+05,"a":"\u00e4\/ö"}"#),
            (r#"{"a":1,"_from":2,"b":3,"_from":4}"#, r#"{"_from":7,"a":1,"b":3}"#),
            (r#"{"_from":2,"a":1}"#, r#"{"_from":7,"a":1}"#),
            (r#"{"\u005ffrom":2,"_fr\u006Fm":3,"a":{"_from":4}}"#, r#"{"_from":7,"a":{"_from":4}}"#),
            (r#"{"_join":7,"a":1,"_leave":[8],"_join":{}}"#, r#"{"_from":7,"a":1}"#),
            (r#"{"\u005f\u006a\u006F\u0069\u006e":7,"_le\u0061ve":1}"#, r#"{"_from":7}"#),
            (
                r#"{"a":{"_join":1},"_joins":2,"_Join":3,"join":4,"_leav":5}"#,
                r#"{"_from":7,"a":{"_join":1},"_joins":2,"_Join":3,"join":4,"_leav":5}"#,
            ),
            (r#"{"_from2":2,"_fro":1,"_From":3}"#, r#"{"_from":7,"_from2":2,"_fro":1,"_From":3}"#),
            ("{\n  \"a\" : [1,\r\n 2] ,\n \"b\":{} }\n", "{\"_from\":7,\"a\" : [1,   2],  \"b\":{}}"),
            (r#"{"a":[[],{},[{}],""],"b":null}"#, r#"{"_from":7,"a":[[],{},[{}],""],"b":null}"#),
        ];
        for (message, wanted) in cases {
            let line = from(message);
            assert_eq!(line.as_deref(), Some(wanted), "{message}");
            let parsed: serde_json::Value = serde_json::from_str(wanted).expect("still JSON");
            assert_eq!(parsed["_from"], 7);
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        let cases = [
            "",
            " ",
            "1",
            "[]",
            "null",
            "\"a\"",
            "{",
            "}",
            "{]",
            "{}x",
            "{} {}",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":tru}",
            "{\"a\":NaN}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"",
            "{\"a\":[1,]}",
            "{\"a\":[1 2]}",
            "{\"a\":[}]",
            "{\"a\":{\"b\"}}",
            "{\"a\":{\"b\":1,}}",
            "\u{feff}{}",
            "{\"a\":1}\0",
            "{\"a\" 1}",
        ];
        for message in cases {
            assert_eq!(from(message), None, "{message:?}");
        }
        let mut out = Vec::new();
        assert!(!write_from(b"{\"a\":\"\xff\"}", 1, &mut out) && out.is_empty(), "not UTF-8");
    }

    /// The scanner takes what `serde_json` takes, on every mangling of a message that uses all of JSON.
    #[test]
    fn the_scanner_agrees_with_a_parser_on_mangled_messages() {
        let seed =
            r#" {"a":[1,-0.5e+3,{"b":[true,false,null,""]}],"_from":"x\"\\\u0041", "c" : {} , "d":[[]]} "#;
        let mut checked = 0;
        for at in 0..seed.len() {
            for replacement in [""; 1].into_iter().chain([
                "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "0", "1", "-", ".", "e", "t", "n", "\n", "u",
            ]) {
                for remove in 0..2 {
                    let mangled = format!("{}{replacement}{}", &seed[..at], &seed[at + remove..]);
                    let parsed = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&mangled);
                    assert_eq!(from(&mangled).is_some(), parsed.is_ok(), "{mangled:?}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 3000);
    }

    #[test]
    fn depth_is_bounded_and_nothing_recurses() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(from(&nested(DEEPEST - 1)).is_some());
        assert!(from(&nested(DEEPEST)).is_none());
        assert!(from(&format!("{{\"a\":{}", "[{\"a\":".repeat(200_000))).is_none());
        assert!(from(&format!("{{\"{}\":1}}", "_from".repeat(100_000))).is_some(), "a huge name is a name");
    }

    #[test]
    fn the_header_says_whom_a_message_is_for() {
        let send = |to| Header::Send { to, keep: false };
        let all = || send(Address::ALL);
        let cases = [
            ("hello", all()),
            ("{}", all()),
            (r#"{"a":"_to"}"#, all()),
            (r#"{"_to":2}"#, send(Address::Only(vec![2].into()))),
            (r#" {"a":1,"_to": [1, 2 ,3]}"#, send(Address::Only(vec![1, 2, 3].into()))),
            (r#"{"_to":[]}"#, send(Address::Only(vec![].into()))),
            (r#"{"_to":null}"#, all()),
            (r#"{"\u005fto":2}"#, send(Address::Only(vec![2].into()))),
            (r#"{"_except":2}"#, send(Address::AllBut(vec![2].into()))),
            (r#"{"_except":[2,3],"_to":[1,2]}"#, send(Address::Only(vec![1].into()))),
            (r#"{"a":{"_to":2}}"#, all()),
            (r#"{"_meta":true,"x":1}"#, Header::Meta),
            (r#"{"_meta":false}"#, all()),
            (r#"{"_cache":true,"_to":1}"#, Header::Send { to: Address::Only(vec![1].into()), keep: true }),
            (r#"{"_cache":1}"#, all()),
            (r#"{"_to":"2"}"#, Header::Malformed),
            (r#"{"_to":-1}"#, Header::Malformed),
            (r#"{"_to":1.0}"#, Header::Malformed),
            (r#"{"_to":1e1}"#, Header::Malformed),
            (r#"{"_to":[1,"2"]}"#, Header::Malformed),
            (r#"{"_to":[[1]]}"#, Header::Malformed),
            (r#"{"_to":{}}"#, Header::Malformed),
            (r#"{"_to":true}"#, Header::Malformed),
            (r#"{"_to":99999999999999999999}"#, Header::Malformed),
            (r#"{"_except":"x"}"#, Header::Malformed),
            (r#"{"_meta":1}"#, Header::Malformed),
            // No JSON: then it has no header.
            (r#"{"_to":2"#, all()),
            (r#"{"_to":2} x"#, all()),
        ];
        for (message, wanted) in cases {
            assert_eq!(header(message.as_bytes()), wanted, "{message}");
        }
    }
}
