//! JSON framing: which clients a message of the program is for, and which client a message is from. Pure.
//!
//! Messages are scanned, not parsed: no tree is built, nothing recurses, and everything except our keys stays as it
//! was: the order of members, the spelling of numbers, unknown escapes. The scanner follows RFC 8259, so the program
//! gets valid JSON.

use std::io::Write as _;

use super::address::Address;
use super::keys::{Name, Recipients, flag, name, names};
use super::rooms::Rooms;
use super::scan::{Refused, members};

/// The header of a message of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    Send {
        to: Address,
        /// The rooms that it is for, if it names any.
        rooms: Option<Rooms>,
        /// Whether it is marked for the history (`_cache`).
        keep: bool,
    },
    /// Metadata of the room (`_meta`), which is sent to no client.
    Meta,
    /// The header is not valid. The message may be private, so it is sent to no client.
    Malformed,
}

/// Reads the header of a message of the program; `_room` is a key only with `room`. A message that is not a JSON object
/// is for all clients.
pub fn header(message: &[u8], room: bool) -> Header {
    let plain = Header::Send { to: Address::ALL, rooms: None, keep: false };
    // Most messages have none of our keys, not even with escapes.
    let start = message.iter().position(|byte| !byte.is_ascii_whitespace());
    let maybe = start.is_some_and(|at| message[at] == b'{')
        && memchr::memchr2_iter(b'_', b'\\', message)
            .any(|at| message[at] == b'\\' || message[at - 1] == b'"');
    if !maybe {
        return plain;
    }
    let (mut recipients, mut rooms) = (Recipients::default(), Ok(None));
    let (mut meta, mut keep) = (Some(false), false);
    let scanned = members(message, |member| {
        let value = &message[member.value.clone()];
        match name(&message[member.name.clone()]) {
            Some(name @ (Name::To | Name::Except)) => recipients.note(name, value),
            Some(Name::Room) if room => rooms = names(value),
            Some(Name::Meta) => meta = flag(value),
            Some(Name::Cache) => keep = flag(value).unwrap_or(false),
            Some(Name::From | Name::Join | Name::Leave | Name::Room) | None => {}
        }
    });
    match scanned {
        Ok(()) => {}
        // It may be a JSON object, and private.
        Err(Refused::TooDeep) => return Header::Malformed,
        Err(Refused::NoObject) => return plain,
    }
    let (Ok(to), Ok(rooms), Some(meta)) = (recipients.address(None), rooms, meta) else {
        return Header::Malformed;
    };
    if meta { Header::Meta } else { Header::Send { to, rooms, keep } }
}

/// Which clients a relayed message is for: of its keys, only `_to` and `_except` are obeyed. Without `_to`, `but` is
/// left out. `None` if the values are not valid.
pub fn relayed(message: &[u8], but: Option<u64>) -> Option<Address> {
    let mut recipients = Recipients::default();
    let scanned = members(message, |member| {
        if let Some(name) = name(&message[member.name.clone()]) {
            recipients.note(name, &message[member.value.clone()]);
        }
    });
    match scanned {
        Ok(()) => recipients.address(but).ok(),
        Err(Refused::TooDeep) => None,
        Err(Refused::NoObject) => Recipients::default().address(but).ok(),
    }
}

/// Writes a client's message as one line, without the newline. Adds `_from`, and `_room` if there is one; leaves out
/// the client's own `_from`, `_room`, `_join` and `_leave`; turns line breaks between tokens into spaces. Says no, and
/// writes nothing, if the message is not a JSON object.
pub fn write_from(message: &[u8], id: u64, room: Option<&str>, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{{\"_from\":{id}");
    if let Some(room) = room {
        out.extend_from_slice(b",\"_room\":\"");
        escape(room, out);
        out.push(b'"');
    }
    let body = members(message, |member| {
        // A client must not be able to forge these.
        match name(&message[member.name.clone()]) {
            Some(Name::From | Name::Join | Name::Leave) => return,
            Some(Name::Room) if room.is_some() => return,
            _ => {}
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
    join_lines(&mut out[before..]);
    true
}

/// Turns line breaks of valid JSON into spaces. They can only be between tokens: in a string they are not valid.
pub(super) fn join_lines(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// Writes a text as the inside of a JSON string.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0..0x20 => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::DEEPEST;
    use super::*;

    fn from(message: &str) -> Option<String> {
        let mut out = b"before".to_vec();
        let taken = write_from(message.as_bytes(), 7, None, &mut out);
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
        assert!(!write_from(b"{\"a\":\"\xff\"}", 1, None, &mut out) && out.is_empty(), "not UTF-8");
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
        let send = |to| Header::Send { to, rooms: None, keep: false };
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
            (
                r#"{"_cache":true,"_to":1}"#,
                Header::Send { to: Address::Only(vec![1].into()), rooms: None, keep: true },
            ),
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
            assert_eq!(header(message.as_bytes(), false), wanted, "{message}");
        }
    }

    #[test]
    fn the_room_stands_behind_the_sender_and_cannot_be_forged() {
        for (message, room, wanted) in [
            (r#"{"a":1,"_room":"x"}"#, Some("lobby"), r#"{"_from":7,"_room":"lobby","a":1}"#),
            (
                r#"{"\u005froom":["x"],"_room":1}"#,
                Some("r%20\u{f6}"),
                "{\"_from\":7,\"_room\":\"r%20\u{f6}\"}",
            ),
            ("{}", Some("a\"\\\n"), r#"{"_from":7,"_room":"a\"\\\n"}"#),
            (r#"{"_room":"x"}"#, None, r#"{"_from":7,"_room":"x"}"#),
        ] {
            let mut out = Vec::new();
            assert!(write_from(message.as_bytes(), 7, room, &mut out));
            assert_eq!(String::from_utf8_lossy(&out), wanted, "{message}");
        }
    }

    #[test]
    fn a_message_names_the_rooms_that_it_is_for() {
        let rooms =
            |names: &[&str]| Some(Rooms::from(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()));
        for (value, wanted) in [
            (r#""lobby""#, Some(rooms(&["lobby"]))),
            (r#"["b","a" , "b"]"#, Some(rooms(&["a", "b"]))),
            ("[]", Some(rooms(&[]))),
            ("[ ]", Some(rooms(&[]))),
            ("null", Some(None)),
            (r#""\u006c\/\"\\\n\ud83d\ude00""#, Some(rooms(&["l/\"\\\n\u{1f600}"]))),
            (r#"["a,\"]","[\u005d"]"#, Some(rooms(&["a,\"]", "[]"]))),
            ("1", None),
            ("true", None),
            ("{}", None),
            (r#"["a",1]"#, None),
            (r#"[["a"]]"#, None),
            ("[null]", None),
        ] {
            let message = format!(r#"{{"_room":{value},"_to":1}}"#);
            let to = Address::Only(vec![1].into());
            let wanted =
                wanted.map_or(Header::Malformed, |rooms| Header::Send { to: to.clone(), rooms, keep: false });
            assert_eq!(header(message.as_bytes(), true), wanted, "{value}");
            assert_eq!(header(message.as_bytes(), false), Header::Send { to, rooms: None, keep: false });
        }
    }

    #[test]
    fn a_relayed_message_is_for_all_but_its_sender_unless_it_says_whom_for() {
        let (but, only) = (
            |ids: &[u64]| Address::AllBut(ids.to_vec().into()),
            |ids: &[u64]| Address::Only(ids.to_vec().into()),
        );
        for (message, sender, wanted) in [
            ("{}", Some(7), Some(but(&[7]))),
            ("{}", None, Some(Address::ALL)),
            (r#"{"_to":[7,8]}"#, Some(7), Some(only(&[7, 8]))),
            (r#"{"_except":3}"#, Some(7), Some(but(&[3, 7]))),
            (r#"{"_except":3}"#, None, Some(but(&[3]))),
            (r#"{"_to":null,"_meta":true,"_cache":true,"_room":1}"#, Some(7), Some(but(&[7]))),
            (r#"{"_to":"x"}"#, Some(7), None),
            ("a notice", Some(7), Some(but(&[7]))),
        ] {
            assert_eq!(relayed(message.as_bytes(), sender), wanted, "{message}");
        }
    }
}
