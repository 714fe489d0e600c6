//! Metadata of a room, which a program sends with `_meta`. Pure.
//!
//! A program may pass on what its clients send, and the metadata of all rooms is shown in one JSON document: nothing in
//! it may make that document invalid for a usual parser.

use super::keys::{Name, name};
use super::scan::members;

/// Most bytes of a room's metadata.
pub const MAX_METADATA: usize = 64 * 1024;

/// How deep it may be nested. The list of rooms adds two levels; there are parsers that read 64 by default (.NET).
const DEEPEST: usize = 60;

/// Most decimal digits before the point of a number, exponent applied: what a double can hold.
const DIGITS: usize = 308;

/// The message, which is a JSON object, without its member `_meta`; `None` if it is not fit to be shown.
pub fn of(message: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"{".to_vec();
    let mut fits = true;
    let scanned = members(message, |member| {
        if name(&message[member.name.clone()]) == Some(Name::Meta) {
            return;
        }
        let comma: &[u8] = if out.len() > 1 { b"," } else { b"" };
        // The brace at the end counts, too.
        fits &= out.len() + comma.len() + member.all.len() < MAX_METADATA;
        if fits {
            out.extend_from_slice(comma);
            out.extend_from_slice(&message[member.all.clone()]);
        }
    });
    out.push(b'}');
    (scanned.is_ok() && fits && is_portable(&out)).then_some(out)
}

/// Whether valid JSON is within the limits of usual parsers: on depth, on the size of numbers, and on escapes that are
/// not a character (RFC 8259 §8.2, §9).
fn is_portable(json: &[u8]) -> bool {
    let (mut depth, mut at) = (0, 0);
    while let Some(&byte) = json.get(at) {
        let length = match byte {
            b'"' => string(&json[at..]),
            b'-' | b'0'..=b'9' => number(&json[at..]),
            b'{' | b'[' => {
                depth += 1;
                (depth <= DEEPEST).then_some(1)
            }
            b'}' | b']' => {
                depth -= 1;
                Some(1)
            }
            _ => Some(1),
        };
        let Some(length) = length else { return false };
        at += length;
    }
    true
}

/// The length of the string at the start, with its quotes; `None` if it has half of a surrogate pair.
fn string(json: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match unit(&json[at..]) {
                None => 2,
                Some(0xd800..=0xdbff) => {
                    unit(&json[at + 6..]).filter(|low| (0xdc00..=0xdfff).contains(low))?;
                    12
                }
                Some(0xdc00..=0xdfff) => return None,
                Some(_) => 6,
            },
            _ => 1,
        }
    }
}

/// The UTF-16 unit of the escape `\uXXXX` at the start, if there is one.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The length of the number at the start; `None` if a double cannot hold it.
fn number(json: &[u8]) -> Option<usize> {
    let part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let length = json.iter().position(|byte| !part(byte)).unwrap_or(json.len());
    let text = std::str::from_utf8(&json[..length]).ok()?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let digits = mantissa.trim_start_matches('-').split('.').next()?.len();
    let exponent = match exponent.strip_prefix('-') {
        Some(_) => 0,
        None => exponent.trim_start_matches('+').parse::<usize>().ok()?,
    };
    (digits.saturating_add(exponent) <= DIGITS).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str) -> Option<String> {
        let text = String::from_utf8(of(message.as_bytes())?).expect("UTF-8");
        let list = format!(r#"[{{"metadata":{text}}}]"#);
        serde_json::from_str::<serde_json::Value>(&list).unwrap_or_else(|e| panic!("{e}: {text}"));
        Some(text)
    }

    #[test]
    fn all_but_the_mark_is_kept_as_it_is() {
        for (message, wanted) in [
            (r#"{"_meta":true}"#, "{}"),
            (r#" { "_meta" : true } "#, "{}"),
            (r#"{"_meta":true,"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1,"_meta":true}"#, r#"{"a":1}"#),
            (r#"{"z":1.50, "_meta" : true, "_to":1}"#, r#"{"z":1.50, "_to":1}"#),
            (r#"{"_meta":false,"\u005fme\u0074a":true,"a":{"_meta":true}}"#, r#"{"a":{"_meta":true}}"#),
            (
                "{\n\"a\" : [ ] ,\n\"_meta\":true,\n\"b\":\"\\u00e4\\/\u{e4}\"}",
                "{\"a\" : [ ],\n\"b\":\"\\u00e4\\/\u{e4}\"}",
            ),
        ] {
            assert_eq!(shown(message).as_deref(), Some(wanted), "{message}");
        }
    }

    #[test]
    fn sixty_four_kib_are_shown_and_a_byte_more_is_not() {
        let of_length = |length: usize| format!(r#"{{"_meta":true,"a":"{}"}}"#, "x".repeat(length - 8));
        assert_eq!(shown(&of_length(MAX_METADATA)).map(|text| text.len()), Some(MAX_METADATA));
        assert_eq!(shown(&of_length(MAX_METADATA + 1)), None);
        // The mark and the space around it are not kept, and do not count.
        let wide = format!(r#"{{{}"_meta":true,"a":1}}"#, " ".repeat(MAX_METADATA));
        assert_eq!(shown(&wide).as_deref(), Some(r#"{"a":1}"#));
        let many = format!(r#"{{"_meta":true{}}}"#, r#","a":1"#.repeat(100_000));
        assert_eq!(shown(&many), None);
    }

    #[test]
    fn what_usual_parsers_refuse_is_not_shown() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (value, fits) in [
            (nested(DEEPEST - 1), true),
            (nested(DEEPEST), false),
            (format!("[{}]", "{},".repeat(1000) + "[]"), true),
            (format!(r#""{}""#, "[".repeat(1000)), true),
            (r#""\ud83d\ude00 \\ud800 \"""#.to_owned(), true),
            (r#""\ud800""#.to_owned(), false),
            (r#""\ud800\n""#.to_owned(), false),
            (r#""\ud800\ud800""#.to_owned(), false),
            (r#""\uDE00\uD83D""#.to_owned(), false),
            (r#"{"\udfff":1}"#.to_owned(), false),
            ("[-0.5e+3,1E300,1e-999,123456789012345678901234567890]".to_owned(), true),
            ("9".repeat(DIGITS), true),
            ("9".repeat(DIGITS + 1), false),
            ("1e309".to_owned(), false),
            ("-1E+999999999999999999999999".to_owned(), false),
            ("1e-999999999999999999999999".to_owned(), true),
        ] {
            let message = format!(r#"{{"_meta":true,"a":{value}}}"#);
            assert_eq!(shown(&message).is_some(), fits, "{value}");
        }
    }
}
