//! Values of options: from text to what it says. Pure; an error says what is wrong and what is
//! allowed, without naming the option, which the parser does.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::config::{Address, Origin};

/// Longest time that can be asked for: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Longest path of a unix socket, in bytes: `sun_path` less its final NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// What a refused address is told.
const ADDRESS_FORMS: &str =
    "allowed are IP:PORT, localhost:PORT, [IPV6]:PORT, :PORT and unix:PATH[,mode=OCTAL]";

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

/// The words of a list of choices, so that table and parser share one list.
pub(super) const fn words<T: Copy, const N: usize>(choices: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut i = 0;
    while i < N {
        words[i] = choices[i].0;
        i += 1;
    }
    words
}

/// The meaning of one of the words of a list of choices.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(word, _)| *word == text).map(|&(_, meaning)| meaning).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
        format!("allowed is one of {}", words.join(", "))
    })
}

/// An address to listen on.
pub(super) fn address(text: &OsStr) -> Result<Address, String> {
    if let Some(rest) = text.as_bytes().strip_prefix(b"unix:") {
        return unix_address(rest);
    }
    let text = text.to_str().ok_or_else(|| format!("not UTF-8; {ADDRESS_FORMS}"))?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Address::Tcp(address));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        return Err(if text.parse::<u16>().is_ok() {
            format!("a port alone is written :{text}; {ADDRESS_FORMS}")
        } else {
            format!("no port; {ADDRESS_FORMS}")
        });
    };
    if host.contains(':') || host.starts_with('[') {
        return Err(format!("an IPv6 address stands in brackets; {ADDRESS_FORMS}"));
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = match port.parse() {
        Ok(port) if digits => port,
        _ => return Err(format!("the port must be a number from 0 to 65535; {ADDRESS_FORMS}")),
    };
    if host.is_empty() {
        Ok(Address::Any(port))
    } else if host.eq_ignore_ascii_case("localhost") {
        Ok(Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)))
    } else {
        // A name can mean several addresses, other ones tomorrow, and asks the network at start.
        Err(format!("names are not looked up, give the address itself; {ADDRESS_FORMS}"))
    }
}

fn unix_address(rest: &[u8]) -> Result<Address, String> {
    let mut path = rest;
    let mut mode = None;
    if let Some(comma) = rest.iter().rposition(|&byte| byte == b',') {
        let setting = &rest[comma + 1..];
        // A comma in the path is fine. A setting with a slip in its name must not become a path.
        if setting.contains(&b'=') && !setting.contains(&b'/') {
            mode = Some(socket_mode(setting)?);
            path = &rest[..comma];
        }
    }
    if path.is_empty() {
        return Err(format!("no path after unix:; {ADDRESS_FORMS}"));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "the path has {} bytes, the system takes at most {LONGEST_SOCKET_PATH}",
            path.len()
        ));
    }
    Ok(Address::Unix { path: PathBuf::from(OsString::from_vec(path.to_vec())), mode })
}

fn socket_mode(setting: &[u8]) -> Result<u32, String> {
    let digits = setting.strip_prefix(b"mode=").ok_or("the only setting after a path is mode=OCTAL")?;
    std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|&mode| mode <= 0o777)
        .ok_or_else(|| "the mode must be an octal number from 0 to 777, such as 0660".to_owned())
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

/// Digits only: `parse` alone would also take a plus sign.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A time in seconds, decimals allowed.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    // `parse` alone would also take `inf`, `NaN`, `1e9` and signs.
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
        .and_then(|text| text.parse::<f64>().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|&time| time <= LONGEST)
        .ok_or_else(|| {
            format!("allowed are seconds from 0 to {}, such as 10 or 0.5, without a unit", LONGEST.as_secs())
        })
}

/// The same, but it must be longer than nothing.
pub(super) fn some_seconds(text: &str) -> Result<Duration, String> {
    seconds(text)?
        .checked_sub(Duration::from_nanos(1))
        .map(|less| less + Duration::from_nanos(1))
        .ok_or_else(|| "must be more than 0".to_owned())
}

/// A set of bytes that end an item: characters as they are, and escapes, since a shell makes it
/// hard to type a newline.
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
            // Its bytes would each be a delimiter and cut other letters in two.
            c => return Err(format!("{c} is more than one byte; delimiters are single bytes")),
        };
        if !set.contains(&byte) {
            set.push(byte);
        }
    }
    if set.is_empty() { Err("give at least one character".to_owned()) } else { Ok(set) }
}

/// A comma list of names of variables; the empty list is empty.
pub(super) fn variables(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',') {
        if name.is_empty() || name.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control()) {
            return Err(
                "allowed are names with commas between, no spaces and no values: PATH,HOME".to_owned()
            );
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
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
            // Real-time signals have no name, and without a name no safe way to be sent.
            let number = i32::try_from(whole(text)?).ok()?;
            Signal::from_named_raw(number).filter(|&signal| signal != Signal::STOP)
        })
        .map(Signal::as_raw)
        .ok_or_else(|| {
            format!(
                "allowed is one of {}, or a number from 1 to 31 that is not STOP's",
                words(&SIGNALS).join(", ")
            )
        })
}

/// Which pages may connect: a comma list, in lower case afterwards; `*` opens it.
pub(super) fn origins(text: &str) -> Result<Origin, String> {
    let items: Vec<String> = text.split(',').map(str::to_ascii_lowercase).collect();
    if let Some(item) = items.iter().find(|item| *item != "*" && !is_origin(item)) {
        return Err(format!(
            "{item:?} is no origin; allowed are host, host:port and scheme://host[:port], with commas between, or *"
        ));
    }
    Ok(if items.iter().any(|item| item == "*") { Origin::Any } else { Origin::Listed(items) })
}

/// `host`, `host:port` or `scheme://host[:port]`, in lower case (RFC 6454 §6.1).
fn is_origin(item: &str) -> bool {
    let authority = match item.split_once("://") {
        Some((scheme, rest)) => {
            let named = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
            if !named || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return false;
            }
            rest
        }
        None => item,
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else { return false };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return false,
            }
        }
        None => {
            let (host, port) =
                authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
                return false;
            }
            (host, port)
        }
    };
    let port_is_one = port.is_none_or(|port| whole(port).is_some_and(|port| (1..=65_535).contains(&port)));
    !host.is_empty() && port_is_one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().expect("an address"))
    }

    fn unix(path: &str, mode: Option<u32>) -> Address {
        Address::Unix { path: path.into(), mode }
    }

    #[test]
    fn addresses_are_taken_in_each_form() {
        for (text, meant) in [
            ("0.0.0.0:9000", tcp("0.0.0.0:9000")),
            ("127.0.0.1:0", tcp("127.0.0.1:0")),
            ("localhost:80", tcp("127.0.0.1:80")),
            ("LOCALHOST:80", tcp("127.0.0.1:80")),
            ("[::1]:9000", tcp("[::1]:9000")),
            ("[::]:65535", tcp("[::]:65535")),
            (":9000", Address::Any(9000)),
            (":0", Address::Any(0)),
            ("unix:/run/a.sock", unix("/run/a.sock", None)),
            ("unix:a b,c", unix("a b,c", None)),
            ("unix:/run/a.sock,mode=0660", unix("/run/a.sock", Some(0o660))),
            ("unix:a,mode=600", unix("a", Some(0o600))),
            ("unix:a,b=/c", unix("a,b=/c", None)),
            ("unix:a,mode=666,mode=600", unix("a,mode=666", Some(0o600))),
        ] {
            assert_eq!(address(OsStr::new(text)), Ok(meant), "{text}");
        }
        let raw = OsStr::from_bytes(b"unix:/tmp/\xff");
        assert_eq!(
            address(raw),
            Ok(Address::Unix { path: OsStr::from_bytes(b"/tmp/\xff").into(), mode: None })
        );
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_the_reason() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, reason) in [
            ("", "no port"),
            ("9000", "written :9000"),
            ("localhost", "no port"),
            ("1.2.3.4", "no port"),
            ("example.com:80", "names are not looked up"),
            ("256.0.0.1:80", "names are not looked up"),
            ("::1", "brackets"),
            ("::1:9000", "brackets"),
            ("[::1]", "no port"),
            ("[::1:9000", "brackets"),
            (":", "port must be"),
            (":65536", "port must be"),
            (":+1", "port must be"),
            (":-1", "port must be"),
            ("localhost:http", "port must be"),
            ("unix:", "no path"),
            ("unix:,mode=0660", "no path"),
            ("unix:a,mode=0888", "octal"),
            ("unix:a,mode=", "octal"),
            ("unix:a,mode=+7", "octal"),
            ("unix:a,mode=1777", "octal"),
            ("unix:a,mod=0660", "only setting"),
            (&long, "at most 107"),
        ] {
            let error = address(OsStr::new(text)).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(address(OsStr::from_bytes(b"\xff:80")).expect_err("not UTF-8").contains("UTF-8"));
    }

    #[test]
    fn sizes_take_suffixes_in_powers_of_1024_within_their_bounds() {
        const MOST: u64 = 1 << 30;
        for (text, meant) in [
            ("1", 1),
            ("65536", 65_536),
            ("4k", 4096),
            ("4K", 4096),
            ("1m", 1_048_576),
            ("1G", 1_073_741_824),
            ("007", 7),
        ] {
            assert_eq!(bytes(text, MOST), Ok(meant), "{text}");
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
            let error = bytes(text, MOST).expect_err(text);
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
        assert_eq!(some_seconds("0.001"), Ok(Duration::from_millis(1)));
        for text in ["0", "0.0", "0.00000000001"] {
            assert_eq!(some_seconds(text), Err("must be more than 0".to_owned()), "{text}");
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
    fn origins_are_hosts_with_or_without_scheme_and_port() {
        for text in [
            "example.com",
            "example.com:8080",
            "https://example.com",
            "https://example.com:8443",
            "[::1]",
            "[::1]:80",
            "http://[::1]:80",
            "127.0.0.1",
            "null",
            "chrome-extension://abcdef",
            "a_b.local",
        ] {
            assert_eq!(origins(text), Ok(Origin::Listed(vec![text.to_owned()])), "{text}");
        }
        assert_eq!(
            origins("Example.COM,HTTPS://b.example"),
            Ok(Origin::Listed(vec!["example.com".to_owned(), "https://b.example".to_owned()]))
        );
        assert_eq!(origins("*"), Ok(Origin::Any));
        assert_eq!(origins("a.example,*"), Ok(Origin::Any));
        for text in [
            "",
            ",",
            "a.example,",
            "a.example, b.example",
            "*.example.com",
            "https://",
            "://a",
            "https://a/",
            "a/b",
            "a:0",
            "a:65536",
            "a:",
            "a:x",
            ":80",
            "::1",
            "[::1",
            "[x]",
            "[::1]80",
            "user@a",
            "bücher.example",
        ] {
            let error = origins(text).expect_err(text);
            assert!(error.contains("is no origin"), "{text}: {error}");
        }
    }

    #[test]
    fn a_choice_that_is_none_is_told_the_choices() {
        const CHOICES: [(&str, u8); 2] = [("one", 1), ("two", 2)];
        assert_eq!(words(&CHOICES), ["one", "two"]);
        assert_eq!(choice("two", &CHOICES), Ok(2));
        assert_eq!(choice("three", &CHOICES), Err("allowed is one of one, two".to_owned()));
        assert!(choice("", &CHOICES).is_err());
        assert!(choice("One", &CHOICES).is_err());
    }
}
