//! Parses a command line as Go's package `flag` does: `-x` is `--x`, a value stands after `=` or in the next word, that of
//! a switch after `=` only, the last value counts, and the first word that is not an option is the program.

use std::ffi::{OsStr, OsString};
use std::num::IntErrorKind;
use std::os::unix::ffi::OsStrExt as _;

use super::flag::{Flag, Table, Value};
use super::lookup::{by_name, by_short};
use super::parse::Parsed;

/// Parses the words after the name of the program.
pub(super) fn parse<D>(
    table: &'static Table<D>,
    parsed: &mut Parsed<D>,
    words: impl IntoIterator<Item = OsString>,
) -> Result<(), String> {
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if word == "--" {
            parsed.program = words.next();
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            parsed.program = Some(word);
            break;
        }
        let body = bytes[1..].strip_prefix(b"-").unwrap_or(&bytes[1..]);
        if matches!(body.first(), None | Some(b'-' | b'=')) {
            return Err(format!("bad flag syntax: {}", word.display()));
        }
        let (name, value) = match body.iter().position(|&byte| byte == b'=') {
            Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]))),
            None => (body, None),
        };
        let name = String::from_utf8_lossy(name);
        let Some(flag) = find(table, &name) else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        parsed.given.push(flag.name);
        set(flag, &name, parsed, value, &mut words)?;
        if flag.stops {
            return Ok(());
        }
    }
    parsed.arguments.extend(words);
    Ok(())
}

fn find<D>(table: &'static Table<D>, name: &str) -> Option<&'static Flag<D>> {
    let mut letters = name.chars();
    let short = letters.next().filter(|_| letters.next().is_none());
    by_name(table, name).or_else(|| by_short(table, short?))
}

fn set<D>(
    flag: &Flag<D>,
    name: &str,
    parsed: &mut Parsed<D>,
    value: Option<&OsStr>,
    words: &mut dyn Iterator<Item = OsString>,
) -> Result<(), String> {
    let draft = &mut parsed.draft;
    let next;
    let value = match (&flag.value, value) {
        // As for Go's -help, the value does not matter.
        (Value::Switch(set), _) => {
            set(draft, name);
            return Ok(());
        }
        (Value::On(place), value) => {
            let value = value.unwrap_or(OsStr::new("true"));
            *place(draft) = boolean(value).ok_or_else(|| {
                format!("invalid boolean value {:?} for -{name}: parse error", value.display().to_string())
            })?;
            return Ok(());
        }
        (_, Some(value)) => value,
        (_, None) => {
            next = words.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            &next
        }
    };
    flag.value.apply(draft, value).map_err(|reason| {
        format!("invalid value {:?} for flag -{name}: {reason}", value.display().to_string())
    })
}

fn boolean(text: &OsStr) -> Option<bool> {
    match text.as_bytes() {
        b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Some(false),
        _ => None,
    }
}

/// A number with an optional sign: decimal, or with the prefix `0x`, `0o`, `0` or `0b`.
pub(super) fn integer(text: &str) -> Result<i64, String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&*lower, 10),
    };
    let bad = || Err("parse error".to_owned());
    if digits.starts_with(['-', '+']) {
        return bad();
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).or_else(|error| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => Err("value out of range".to_owned()),
        _ => bad(),
    })
}

/// A number that is not negative.
pub(super) fn unsigned(text: &str) -> Result<i64, String> {
    integer(text).and_then(|number| if number < 0 { Err("parse error".to_owned()) } else { Ok(number) })
}

#[cfg(test)]
mod tests {
    use super::super::flag::Section;
    use super::super::tests::words;
    use super::*;

    #[derive(Debug, Default)]
    struct Draft {
        on: bool,
        number: i64,
        list: Vec<String>,
        help: bool,
    }

    static TABLE: &Table<Draft> = &[Section {
        title: "All",
        flags: &[
            Flag::new("on", Value::On(|draft: &mut Draft| &mut draft.on)),
            Flag::new("n", Value::Text("N", |draft, text| integer(text).map(|number| draft.number = number))),
            Flag::new(
                "list",
                Value::Raw("WORD", |draft: &mut Draft, text| {
                    draft.list.push(text.display().to_string());
                    Ok(())
                }),
            )
            .repeatable(),
            Flag::new("help", Value::Switch(|draft: &mut Draft, _| draft.help = true)).short('h').stops(),
        ],
    }];

    fn parsed(line: &[&str]) -> Result<Parsed<Draft>, String> {
        let mut parsed = Parsed::new(Draft::default());
        parse(TABLE, &mut parsed, words(line)).map(|()| parsed)
    }

    #[test]
    fn options_are_taken_in_every_form_until_the_first_other_word() {
        for (line, on, number, list, program, own) in [
            (&[] as &[&str], false, 0, &[] as &[&str], None, &[] as &[&str]),
            (&["-on", "cat"], true, 0, &[], Some("cat"), &[]),
            (&["--on", "cat", "-n", "1", "--", "-x"], true, 0, &[], Some("cat"), &["-n", "1", "--", "-x"]),
            (&["-on=f", "true"], false, 0, &[], Some("true"), &[]),
            (&["-on", "-on=FALSE", "x"], false, 0, &[], Some("x"), &[]),
            (&["-on", "false"], true, 0, &[], Some("false"), &[]),
            (&["-n=1", "--n=2", "-n", "3", "--n", "-4"], false, -4, &[], None, &[]),
            (&["-n=0x10"], false, 16, &[], None, &[]),
            (&["-list=a=b", "--list", "-on", "-list="], false, 0, &["a=b", "-on", ""], None, &[]),
            (&["-on", "--", "-n", "x"], true, 0, &[], Some("-n"), &["x"]),
            (&["--"], false, 0, &[], None, &[]),
            (&["-", "x"], false, 0, &[], Some("-"), &["x"]),
            (&["", "x"], false, 0, &[], Some(""), &["x"]),
        ] {
            let found = parsed(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert_eq!((found.draft.on, found.draft.number), (on, number), "{line:?}");
            assert_eq!(found.draft.list, list, "{line:?}");
            assert_eq!(found.program, program.map(OsString::from), "{line:?}");
            assert_eq!(found.arguments, words(own), "{line:?}");
        }
    }

    #[test]
    fn errors_have_the_words_of_go() {
        for (line, error) in [
            (&["-x", "cat"] as &[&str], "flag provided but not defined: -x"),
            (&["--x=y"], "flag provided but not defined: -x"),
            (&["-o"], "flag provided but not defined: -o"),
            (&["---on"], "bad flag syntax: ---on"),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["-=x"], "bad flag syntax: -=x"),
            (&["-n"], "flag needs an argument: -n"),
            (&["-n", "abc"], "invalid value \"abc\" for flag -n: parse error"),
            (&["-n="], "invalid value \"\" for flag -n: parse error"),
            (
                &["-n=99999999999999999999"],
                "invalid value \"99999999999999999999\" for flag -n: value out of range",
            ),
            (&["-on=2"], "invalid boolean value \"2\" for -on: parse error"),
            (&["-on="], "invalid boolean value \"\" for -on: parse error"),
            (&["-on=yes"], "invalid boolean value \"yes\" for -on: parse error"),
        ] {
            assert_eq!(parsed(line).expect_err(&line.join(" ")), error);
        }
    }

    #[test]
    fn help_ends_the_parsing_whatever_its_value_is() {
        for line in [&["-h", "-x"] as &[&str], &["--help", "--"], &["-help=false", "-x"], &["-on", "--h"]] {
            assert!(parsed(line).is_ok_and(|found| found.draft.help), "{line:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_go() {
        for (text, meant) in [
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            ("-12", -12),
            ("0x1F", 31),
            ("-0X10", -16),
            ("0o17", 15),
            ("017", 15),
            ("0b101", 5),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(integer(text), Ok(meant), "{text}");
        }
        for text in ["", "-", "+", "--1", "1.5", " 1", "08", "0x", "0x-1", "0-1", "1k", "1e3", "é"] {
            assert_eq!(integer(text), Err("parse error".to_owned()), "{text}");
        }
        assert_eq!(integer("9223372036854775808"), Err("value out of range".to_owned()));
        assert_eq!((unsigned("250"), unsigned("-1")), (Ok(250), Err("parse error".to_owned())));
    }
}
