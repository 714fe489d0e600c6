//! `host[:port]` as it stands in `Host`, in an absolute target and in `Origin` (RFC 3986 §3.2).
//!
//! Stricter than the grammar: no user, no sub-delimiters. So a host is safe in a log line and on a command line that is
//! copied from it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name in DNS (RFC 1035 §2.3.4), in bytes.
const MAX_NAME: usize = 255;

/// A host. Names are compared without case, addresses as numbers.
#[derive(Debug, Clone)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// An address; an IPv4-mapped one is IPv4.
    Address(IpAddr),
}

impl Host {
    /// Reads `name`, `192.0.2.1` or `[2001:db8::1]`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.to_canonical()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%');
        let fits = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(plain);
        fits.then(|| Self::Name(text.to_ascii_lowercase()))
    }

    /// Whether it is this machine, in any spelling.
    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Address(address) => address.is_loopback(),
        }
    }
}

/// `localhost`, 127.0.0.0/8 and `[::1]` are the same host.
impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            _ if self.is_loopback() => other.is_loopback(),
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Address(a), Self::Address(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Host {}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A host and an optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub host: Host,
    /// `None` if it was not given or is empty (`host:`, RFC 3986 §3.2.3).
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host[:port]`.
    pub fn parse(text: &str) -> Option<Self> {
        // The colons of an IPv6 literal are inside its brackets.
        let after_host = text.rfind(']').unwrap_or(0);
        let (host, port) = match text[after_host..].find(':') {
            Some(colon) => (&text[..after_host + colon], &text[after_host + colon + 1..]),
            None => (text, ""),
        };
        // `u16` would accept a sign.
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
        Some(Self { host: Host::parse(host)?, port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port_and_nothing_else() {
        for (text, printed) in [
            ("Example.COM", "example.com"),
            ("example.com:8080", "example.com:8080"),
            ("example.com:", "example.com"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[2001:DB8:0::1]:80", "[2001:db8::1]:80"),
            ("[::ffff:192.0.2.1]", "192.0.2.1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            let parsed = Authority::parse(text).map(|authority| authority.to_string());
            assert_eq!(parsed.as_deref(), Some(printed), "{text}");
        }
        let long = "a".repeat(256);
        for text in [
            "",
            ":80",
            "a:b",
            "a:+1",
            "a:65536",
            "a:1:2",
            "user@a",
            "a/b",
            "a b",
            "a,b",
            "a;id",
            "$(id)",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "é",
            "a\u{0}",
            "a\\b",
            &long,
        ] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_machine_has_many_spellings_but_is_one_host() {
        let host = |text| Host::parse(text).expect("a host");
        for text in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_eq!(host(text), host("localhost"), "{text}");
            assert_eq!(host("127.0.0.1"), host(text), "{text}");
        }
        for text in ["localhost.evil.example", "128.0.0.1", "[::2]", "127.0.0.1.evil.example", "localhost."] {
            assert_ne!(host(text), host("localhost"), "{text}");
            assert_ne!(host("localhost"), host(text), "{text}");
        }
    }
}
