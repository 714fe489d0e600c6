//! Parses the values of options. Pure. Errors say what is wrong and what is allowed; the parser adds the option.

use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::process::Signal;

use crate::config::Subprotocols;
use crate::http::subprotocol::is_token;
use crate::recipe::Keep;
use crate::site;

/// The longest time: a year.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The largest message, in bytes: 1 GiB.
pub(super) const MAX_MESSAGE: u64 = 1 << 30;

/// Signals by name, without `SIG`.
const SIGNALS: [(&str, Signal); 10] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ABRT", Signal::ABORT),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("WINCH", Signal::WINCH),
];

/// A range of ports, both ends included.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| whole(text).and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
    text.split_once(':')
        .and_then(|(first, last)| Some(port(first)?..=port(last)?))
        .filter(|ports| !ports.is_empty())
        .ok_or_else(|| {
            "allowed is FIRST:LAST, both from 1 to 65535 and the last not before the first".to_owned()
        })
}

/// Header fields that the server sets itself.
const OWN_FIELDS: [&str; 15] = [
    "accept-ranges",
    "allow",
    "connection",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "retry-after",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// A header field: name and value.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("allowed is NAME: VALUE")?;
    let lower = name.to_ascii_lowercase();
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name) {
        Err(format!("{name:?} cannot be the name of a header field; allowed is NAME: VALUE"))
    } else if OWN_FIELDS.contains(&&*lower) || lower.starts_with("sec-websocket-") {
        Err(format!("the server itself decides on {name}"))
    } else if value.contains(|c: char| c.is_control() && c != '\t') {
        Err("the value must not have control characters".to_owned())
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}

/// The prefix of all paths, without the slash at its end.
pub(super) fn base(text: &str) -> Result<&str, String> {
    let base = text.strip_suffix('/').unwrap_or(text);
    let bad = |c: char| !c.is_ascii_graphic() || "\"\\?#".contains(c);
    let is_path =
        text.starts_with('/') && !base.contains("//") && !base.ends_with('/') && !base.contains(bad);
    if is_path {
        Ok(base)
    } else {
        Err("allowed is a path that begins with a slash, such as /chat".to_owned())
    }
}

/// A time in whole milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    whole(text)
        .filter(|millis| (1..=60_000).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| "allowed are whole milliseconds from 1 to 60000".to_owned())
}

/// The name of one room.
pub(super) fn room(text: &str) -> Result<String, String> {
    if site::RESERVED.contains(&text) {
        return Err(format!("{text} is a reserved name"));
    }
    match rooms(text)?.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err("give the name of one room, without commas".to_owned()),
    }
}

/// Names of rooms.
pub(super) fn rooms(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    // Reserved names are harmless here.
    let bad = |name: &String| {
        let valid = site::check_name(name);
        name.is_empty() || name.contains('/') || !matches!(valid, Ok(()) | Err(site::NoRoom::Reserved))
    };
    match names.iter().find(|name| bad(name)) {
        Some(name) => Err(format!(
            "{name:?} cannot be the name of a room: it is empty or too long, or has a slash, space, quote, backslash or control character"
        )),
        None => Ok(names),
    }
}

/// The value of `--cache`.
pub(super) fn cache(text: &str) -> Result<Keep, String> {
    let (kind, size) = text.split_once(':').unwrap_or(("all", text));
    let size = size.parse().ok().filter(|size| (1..=65_536).contains(size));
    match (kind, size) {
        ("all", Some(size)) => Ok(Keep::All(size)),
        ("tagged", Some(size)) => Ok(Keep::Tagged(size)),
        _ => Err("allowed are SIZE, all:SIZE and tagged:SIZE, with a SIZE from 1 to 65536".to_owned()),
    }
}

/// A number of bytes: a whole number, with `k`, `m` or `g` in powers of 1024; from 1 to `most`.
pub(super) fn bytes(text: &str, most: u64) -> Result<usize, String> {
    let (digits, unit) = match text.bytes().last().map(|byte| byte.to_ascii_lowercase()) {
        Some(b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    whole(digits)
        .and_then(|number| number.checked_mul(unit))
        .filter(|number| (1..=most).contains(number))
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| {
            format!("allowed are 1 to {}g bytes: a whole number, also with k, m or g (512k, 4m)", most >> 30)
        })
}

/// A number of things, at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    whole(text)
        .filter(|&number| number > 0)
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| "allowed is a whole number, at least 1".to_owned())
}

/// A number of digits only; `parse` would also accept a plus sign.
pub(super) fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A time in seconds, decimals allowed.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    // With integers: std's floating point would add 20 KB to the binary.
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let nanos = format!("{:0<9}", fraction.get(..fraction.len().min(9)).unwrap_or_default());
    Some(if whole.is_empty() { "0" } else { whole })
        .filter(|whole| digits(whole) && digits(fraction) && text.len() > usize::from(text.contains('.')))
        .and_then(|whole| Some(Duration::new(whole.parse().ok()?, nanos.parse().ok()?)))
        .filter(|&time| time <= MAX_DURATION)
        .ok_or_else(|| {
            format!(
                "allowed are seconds from 0 to {}, such as 10 or 0.5, without a unit",
                MAX_DURATION.as_secs()
            )
        })
}

/// The same, but more than 0.
pub(super) fn positive_seconds(text: &str) -> Result<Duration, String> {
    let time = seconds(text)?;
    if time.is_zero() { Err("must be more than 0".to_owned()) } else { Ok(time) }
}

/// A set of bytes: characters, and escapes for those that are hard to type in a shell.
pub(super) fn delimiters(text: &str) -> Result<Vec<u8>, String> {
    const ESCAPES: &str = r"allowed are \n, \r, \t, \0, \\ and \xNN";
    let mut set = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let byte = match c {
            '\\' => match rest.next() {
                Some('n') => b'\n',
                Some('r') => b'\r',
                Some('t') => b'\t',
                Some('0') => 0,
                Some('\\') => b'\\',
                Some('x') => {
                    let digits: Option<Vec<u32>> = [rest.next(), rest.next()]
                        .into_iter()
                        .map(|digit| digit.and_then(|digit| digit.to_digit(16)))
                        .collect();
                    match digits.as_deref() {
                        Some(&[high, low]) => (high * 16 + low) as u8,
                        _ => return Err(format!(r"\x takes two hexadecimal digits; {ESCAPES}")),
                    }
                }
                Some(other) => return Err(format!("unknown escape \\{other}; {ESCAPES}")),
                None => return Err(format!("a lone backslash at the end; {ESCAPES}")),
            },
            c if c.is_ascii() => c as u8,
            // Each of its bytes would be a delimiter and split other characters.
            c => return Err(format!("{c} is more than one byte; delimiters are single bytes")),
        };
        if !set.contains(&byte) {
            set.push(byte);
        }
    }
    if set.is_empty() { Err("give at least one character".to_owned()) } else { Ok(set) }
}

/// A comma-separated list of variables, which may be empty.
pub(super) fn variables(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',') {
        if name.is_empty() || name.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control()) {
            return Err(
                "allowed are names separated by commas, without spaces and values: PATH,HOME".to_owned()
            );
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A comma-separated list of subprotocols, which may be empty.
pub(super) fn protocols(text: &str) -> Result<Subprotocols, String> {
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    if text.is_empty() {
        return Ok(Subprotocols::Listed(Vec::new()));
    }
    match names.iter().find(|name| !is_token(name)) {
        Some(name) => Err(format!(
            "{name:?} cannot be a subprotocol; allowed are names separated by commas, without spaces: mcp,chat"
        )),
        None => Ok(Subprotocols::Listed(names)),
    }
}

/// A signal by name, with or without `SIG`, or by number.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|&(_, signal)| signal)
        .or_else(|| {
            // Without real-time signals, which rustix cannot send safely.
            let number = i32::try_from(whole(text)?).ok()?;
            Signal::from_named_raw(number).filter(|&signal| signal != Signal::STOP)
        })
        .map(Signal::as_raw)
        .ok_or_else(|| {
            format!(
                "allowed is one of {}, or a number from 1 to 31 that is not STOP's",
                SIGNALS.map(|(name, _)| name).join(", ")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_suffixes_in_powers_of_1024_within_their_bounds() {
        const MAX_COUNT: u64 = 1 << 30;
        for (text, meant) in [
            ("1", 1),
            ("65536", 65_536),
            ("4k", 4096),
            ("4K", 4096),
            ("1m", 1_048_576),
            ("1G", 1_073_741_824),
            ("007", 7),
        ] {
            assert_eq!(bytes(text, MAX_COUNT), Ok(meant), "{text}");
        }
        for text in [
            "",
            "0",
            "0k",
            "k",
            "-1",
            "+1",
            "1.5m",
            "1kb",
            "1 k",
            "2g",
            "1073741825",
            "99999999999999999999g",
            "1é",
        ] {
            let error = bytes(text, MAX_COUNT).expect_err(text);
            assert!(error.contains("1 to 1g"), "{text}: {error}");
        }
    }

    #[test]
    fn counts_are_whole_and_at_least_one() {
        assert_eq!(count("1"), Ok(1));
        assert_eq!(count("4096"), Ok(4096));
        for text in ["", "0", "-1", "+1", "1.0", "many", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rooms_and_history_are_lists_and_sizes_within_bounds() {
        assert_eq!(rooms("a,b%20c"), Ok(vec!["a".to_owned(), "b%20c".to_owned()]));
        for text in ["", "a,", "a b", "a/b", ",a", "a\"b"] {
            assert!(rooms(text).is_err(), "{text}");
        }
        assert_eq!(ports("9001:9999"), Ok(9001..=9999));
        assert_eq!(ports("80:80"), Ok(80..=80));
        for text in ["", "1", "1:", ":1", "2:1", "0:1", "1:65536", "1:2:3", "a:b", "-1:2"] {
            assert!(ports(text).is_err(), "{text}");
        }
        assert_eq!(cache("5"), Ok(Keep::All(5)));
        assert_eq!(cache("all:65536"), Ok(Keep::All(65_536)));
        assert_eq!(cache("tagged:1"), Ok(Keep::Tagged(1)));
        for text in ["", "0", "65537", "all", "all:", "some:5", "all:-1", "5:all"] {
            assert!(cache(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_seconds_with_decimals_and_nothing_else() {
        for (text, millis) in
            [("0", 0), ("20", 20_000), ("0.5", 500), (".25", 250), ("2.", 2000), ("31536000", 31_536_000_000)]
        {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", ".", "-1", "+1", "1e3", "inf", "NaN", "5s", "1,5", "1.2.3", "31536001", " 1"] {
            let error = seconds(text).expect_err(text);
            assert!(error.contains("seconds from 0 to"), "{text}: {error}");
        }
        assert_eq!(positive_seconds("0.001"), Ok(Duration::from_millis(1)));
        for text in ["0", "0.0", "0.00000000001"] {
            assert_eq!(positive_seconds(text), Err("must be more than 0".to_owned()), "{text}");
        }
    }

    #[test]
    fn delimiters_are_bytes_written_as_they_are_or_escaped() {
        for (text, meant) in [
            (",", b",".as_slice()),
            (",;", b",;"),
            (",,", b","),
            ("\n", b"\n"),
            (r"\n\r\t\0\\", b"\n\r\t\0\\"),
            (r"\x1e\xFF", b"\x1e\xff"),
            (r"\\n", b"\\n"),
            (" ", b" "),
        ] {
            assert_eq!(delimiters(text).as_deref(), Ok(meant), "{text}");
        }
        for (text, reason) in [
            ("", "at least one"),
            ("\\", "lone backslash"),
            (r"\q", r"unknown escape \q"),
            (r"\x1", "two hexadecimal"),
            (r"\x+1", "two hexadecimal"),
            ("é", "more than one byte"),
        ] {
            let error = delimiters(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn variables_are_a_comma_list_of_names() {
        let list = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(variables(""), list(&[]));
        assert_eq!(variables("PATH"), list(&["PATH"]));
        assert_eq!(variables("PATH,HOME,PATH"), list(&["PATH", "HOME"]));
        for text in [",", "PATH,", "PATH, HOME", "A=b", " ", "A\nB"] {
            assert!(variables(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn header_fields_are_a_name_and_a_value_that_the_server_does_not_write_itself() {
        let field = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(header("X-A:  b c "), field("X-A", "b c"));
        assert_eq!(header("X:a:b"), field("X", "a:b"));
        for text in ["", "X", ":v", "X : v", "X Y: v", "X: a\r\nY: b", "X: \0", "\u{fc}: v"] {
            assert!(header(text).is_err(), "{text:?}");
        }
        for text in
            ["Connection: x", "upgrade: x", "Sec-WebSocket-Protocol: x", "CONTENT-LENGTH: 1", "Date: x"]
        {
            assert!(header(text).is_err_and(|reason| reason.contains("server itself")), "{text:?}");
        }
    }

    #[test]
    fn a_base_is_a_path_and_a_default_room_a_name() {
        for (text, meant) in [("/", ""), ("/a", "/a"), ("/a/b/", "/a/b"), ("/%20", "/%20")] {
            assert_eq!(base(text), Ok(meant), "{text}");
        }
        for text in ["", "a", "//", "/a//b", "/a//", "/a b", "/a?b", "/a#b", "/\"", "/\\", "/\u{fc}"] {
            assert!(base(text).is_err(), "{text}");
        }
        assert_eq!(room("lobby"), Ok("lobby".to_owned()));
        for text in ["", "a,b", "a/b", "api", "a b", "a\nb", &"x".repeat(257)] {
            assert!(room(text).is_err(), "{text}");
        }
        assert_eq!(milliseconds("20"), Ok(Duration::from_millis(20)));
        for text in ["", "0", "0.5", "60001", "-1"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals_go_by_name_or_number() {
        for (text, meant) in [
            ("TERM", Signal::TERM),
            ("SIGTERM", Signal::TERM),
            ("sigint", Signal::INT),
            ("hup", Signal::HUP),
            ("QUIT", Signal::QUIT),
            ("KILL", Signal::KILL),
            ("USR1", Signal::USR1),
            ("USR2", Signal::USR2),
            ("15", Signal::TERM),
            ("9", Signal::KILL),
            ("1", Signal::HUP),
        ] {
            assert_eq!(signal(text), Ok(meant.as_raw()), "{text}");
        }
        let stop = Signal::STOP.as_raw().to_string();
        for text in ["", "SIG", "0", "-15", "+15", "65", "34", "STOP", "NOPE", "15 ", "SIG15", &stop] {
            let error = signal(text).expect_err(text);
            assert!(error.contains("TERM"), "{text}: {error}");
        }
    }

    #[test]
    fn subprotocols_are_tokens_with_commas_between() {
        let listed =
            |names: &[&str]| Ok(Subprotocols::Listed(names.iter().map(ToString::to_string).collect()));
        assert_eq!(protocols(""), listed(&[]));
        assert_eq!(protocols("mcp"), listed(&["mcp"]));
        assert_eq!(protocols("v1.chat,MQTT"), listed(&["v1.chat", "MQTT"]));
        for text in [",", "a,", "a, b", "a b", "a/b", "\"a\"", "\u{fc}"] {
            assert!(protocols(text).is_err(), "{text}");
        }
    }
}
