//! Values that are addresses or origins. Pure, like `values`.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::values::whole;
use crate::config::{Address, Origin};
use crate::gate::origin;
use crate::recipe::Destination;

/// The longest path of a unix socket, in bytes: `sun_path` without its final NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The end of each error.
const ADDRESS_FORMS: &str =
    "allowed are IP:PORT, localhost:PORT, [IPV6]:PORT, :PORT and unix:PATH[,mode=OCTAL]";

/// An address to listen on.
pub(super) fn address(text: &OsStr) -> Result<Address, String> {
    if let Some(rest) = text.as_bytes().strip_prefix(b"unix:") {
        let (path, mode) = split_mode(rest)?;
        return Ok(Address::Unix { path: socket_path(path, ADDRESS_FORMS)?, mode });
    }
    if let Some(port) = text.to_str().filter(|text| text.parse::<u16>().is_ok()) {
        return Err(format!("a port alone is written :{port}; {ADDRESS_FORMS}"));
    }
    match tcp(text, 0, ADDRESS_FORMS)? {
        Tcp::Address(address) => Ok(Address::Tcp(address)),
        Tcp::Host("", port) => Ok(Address::Any(port)),
        // A name can have several addresses, which can change, and asks the network at start.
        Tcp::Host(..) => Err(format!("names are not looked up, give the address itself; {ADDRESS_FORMS}")),
    }
}

/// An address to connect to.
pub(super) fn destination(text: &OsStr) -> Result<Destination, String> {
    const FORMS: &str = "allowed are IP:PORT, [IPV6]:PORT, HOST:PORT and unix:PATH";
    if let Some(path) = text.as_bytes().strip_prefix(b"unix:") {
        return Ok(Destination::Unix(socket_path(path, FORMS)?));
    }
    match tcp(text, 1, FORMS)? {
        Tcp::Address(address) => Ok(Destination::Tcp(address)),
        Tcp::Host(host, port)
            if !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) =>
        {
            Ok(Destination::Host(host.to_owned(), port))
        }
        Tcp::Host(host, _) => Err(format!("{host:?} is not the name of a host; {FORMS}")),
    }
}

/// A TCP address, or a host that is neither an address nor `localhost`.
enum Tcp<'a> {
    Address(SocketAddr),
    Host(&'a str, u16),
}

/// Reads `HOST:PORT`. `least` is the smallest port that is allowed, `forms` the end of each error.
fn tcp<'a>(text: &'a OsStr, least: u16, forms: &str) -> Result<Tcp<'a>, String> {
    let error = |what: &str| Err(format!("{what}; {forms}"));
    let Some(text) = text.to_str() else { return error("not UTF-8") };
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        return error("no port");
    };
    let address = text.parse::<SocketAddr>().ok();
    if address.is_none() && host.contains([':', '[', ']']) {
        return error("an IPv6 address is written in brackets");
    }
    let port = whole(port).and_then(|port| u16::try_from(port).ok()).filter(|&port| port >= least);
    let Some(port) = port else {
        return error(&format!("the port must be a number from {least} to 65535"));
    };
    Ok(match address {
        Some(address) => Tcp::Address(address),
        None if host.eq_ignore_ascii_case("localhost") => Tcp::Address((Ipv4Addr::LOCALHOST, port).into()),
        None => Tcp::Host(host, port),
    })
}

fn socket_path(path: &[u8], forms: &str) -> Result<PathBuf, String> {
    match path.len() {
        0 => Err(format!("no path after unix:; {forms}")),
        1..=MAX_SOCKET_PATH => Ok(OsStr::from_bytes(path).into()),
        length => Err(format!("the path has {length} bytes, the system takes at most {MAX_SOCKET_PATH}")),
    }
}

/// The path of a unix socket, and the mode behind it.
fn split_mode(rest: &[u8]) -> Result<(&[u8], Option<u32>), String> {
    if let Some(comma) = rest.iter().rposition(|&byte| byte == b',') {
        let setting = &rest[comma + 1..];
        // The path may have a comma. A setting whose name is misspelled must not become part of the path.
        if setting.contains(&b'=') && !setting.contains(&b'/') {
            return Ok((&rest[..comma], Some(socket_mode(setting)?)));
        }
    }
    Ok((rest, None))
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

/// The origins of pages that may connect: a comma list, in lower case afterwards; `*` allows all.
pub(super) fn origins(text: &str) -> Result<Origin, String> {
    let items: Vec<String> = text.split(',').map(str::to_ascii_lowercase).collect();
    if let Some(item) = items.iter().find(|item| *item != "*" && !origin::is_pattern(item)) {
        return Err(format!(
            "{item:?} is not an origin; allowed are host, host:port and scheme://host[:port], separated by commas, or *"
        ));
    }
    Ok(if items.iter().any(|item| item == "*") { Origin::Any } else { Origin::Listed(items) })
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
    fn destinations_are_addresses_hosts_and_unix_sockets() {
        for (text, meant) in [
            ("127.0.0.1:80", Destination::Tcp("127.0.0.1:80".parse().expect("an address"))),
            ("[::1]:80", Destination::Tcp("[::1]:80".parse().expect("an address"))),
            ("localhost:80", Destination::Tcp("127.0.0.1:80".parse().expect("an address"))),
            ("redis.local:6379", Destination::Host("redis.local".to_owned(), 6379)),
            ("unix:/run/x,mode=1", Destination::Unix("/run/x,mode=1".into())),
        ] {
            assert_eq!(destination(OsStr::new(text)), Ok(meant), "{text}");
        }
        for (text, reason) in [
            ("", "no port"),
            ("host", "no port"),
            (":80", "not the name"),
            ("a b:80", "not the name"),
            ("::1:80", "brackets"),
            ("[::1]", "no port"),
            ("host:0", "port must be"),
            ("127.0.0.1:0", "port must be"),
            ("host:http", "port must be"),
            ("unix:", "no path"),
            (&format!("unix:{}", "x".repeat(108)), "at most 107"),
        ] {
            let error = destination(OsStr::new(text)).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
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
            assert!(error.contains("is not an origin"), "{text}: {error}");
        }
    }
}
