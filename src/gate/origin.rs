//! Which web pages may connect: the check of `Origin` (RFC 6454, RFC 6455 §10.2). Pure.
//!
//! A browser lets any page open a websocket to any host, with the user's cookies and from inside the user's network. Only
//! the server can refuse it.

use std::fmt;

use crate::config::Origin;
use crate::http::authority::Authority;
use crate::http::head::Head;

/// Why a page may not connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignOrigin {
    /// This origin is not allowed; written as `--origin` takes it.
    Origin(String),
    /// `Origin: null`: a page from a file, a sandbox or a data URL. Every attacker can make one.
    Null,
    /// More than one `Origin`, or one that is malformed.
    Unreadable,
}

/// For the log: what happened and what to do. Safe to copy into a shell.
impl fmt::Display for ForeignOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(origin) => write!(f, "origin refused; --origin {origin} lets it in"),
            Self::Null => write!(f, "origin null refused; only --origin '*' lets it in"),
            Self::Unreadable => write!(f, "unreadable origin refused; only --origin '*' lets it in"),
        }
    }
}

/// Whether the page that sent the request may connect.
pub fn check(allowed: &Origin, head: &Head) -> Result<(), ForeignOrigin> {
    if *allowed == Origin::Any || head.field("origin").is_none() {
        return Ok(());
    }
    let text = head.only("origin").ok_or(ForeignOrigin::Unreadable)?;
    if text == "null" {
        return Err(ForeignOrigin::Null);
    }
    let origin =
        Pattern::parse(text).filter(|origin| origin.scheme.is_some()).ok_or(ForeignOrigin::Unreadable)?;
    let is_allowed = match allowed {
        Origin::Any => true,
        Origin::SameHost => head.host.as_ref().is_some_and(|host| host.host == origin.authority.host),
        Origin::Listed(list) => {
            list.iter().filter_map(|entry| Pattern::parse(entry)).any(|entry| entry.admits(&origin))
        }
    };
    if is_allowed { Ok(()) } else { Err(ForeignOrigin::Origin(origin.to_string())) }
}

/// Whether `--origin` takes it as an entry of its list.
pub fn is_pattern(text: &str) -> bool {
    // Only in the origin of a page these characters and an empty port are accepted.
    !text.contains(['%', '~'])
        && !text.ends_with(':')
        && Pattern::parse(text).is_some_and(|pattern| pattern.authority.port != Some(0))
}

/// An origin, or an entry of `--origin`: a host, optionally with port and scheme.
struct Pattern {
    scheme: Option<String>,
    authority: Authority,
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = match text.split_once("://") {
            Some((scheme, authority)) => (Some(scheme), authority),
            None => (None, text),
        };
        // RFC 3986 §3.1.
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        };
        if scheme.is_some_and(|scheme| !is_scheme(scheme)) {
            return None;
        }
        Some(Self { scheme: scheme.map(str::to_ascii_lowercase), authority: Authority::parse(authority)? })
    }

    /// Whether this entry allows an origin.
    fn admits(&self, origin: &Self) -> bool {
        (self.scheme.is_none() || self.scheme == origin.scheme)
            && (self.authority.port.is_none() || self.authority.port == origin.port())
            && self.authority.host == origin.authority.host
    }

    /// The port; a browser leaves out the default one (RFC 6454 §6.1).
    fn port(&self) -> Option<u16> {
        self.authority.port.or(match self.scheme.as_deref() {
            Some("http" | "ws") => Some(80),
            Some("https" | "wss") => Some(443),
            _ => None,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(host: &str, origins: &[&[u8]]) -> Head {
        let mut text = format!("GET /r HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
        for origin in origins {
            text.extend([b"Origin: ", *origin, b"\r\n"].concat());
        }
        text.extend(b"\r\n");
        Head::parse(&text).expect("a good head").expect("complete").0
    }

    #[test]
    fn by_default_a_page_may_connect_to_its_own_host_on_any_port() {
        for (host, origin, welcome) in [
            ("example.com", "https://example.com", true),
            ("example.com:9000", "http://example.com", true),
            ("example.com", "http://EXAMPLE.com:3000", true),
            ("Example.com.:1", "http://example.com.", true),
            ("192.0.2.1:9000", "http://192.0.2.1:8080", true),
            ("[2001:db8::1]:9000", "http://[2001:DB8:0:0::1]", true),
            ("[::ffff:192.0.2.1]", "http://192.0.2.1", true),
            ("localhost:9000", "http://127.0.0.1:3000", true),
            ("127.0.0.5", "http://[::1]", true),
            ("[::1]:9000", "http://LocalHost:3000", true),
            ("example.com", "chrome-extension://example.com", true),
            ("example.com", "https://evil.example", false),
            ("example.com", "https://example.com.evil.example", false),
            ("example.com", "https://evil-example.com", false),
            ("example.com", "https://www.example.com", false),
            ("www.example.com", "https://example.com", false),
            ("localhost", "http://localhost.evil.example", false),
            ("127.0.0.1", "http://127.0.0.1.evil.example", false),
            ("[::1]", "http://[::2]", false),
            ("", "http://example.com", false),
        ] {
            let result = check(&Origin::SameHost, &head(host, &[origin.as_bytes()]));
            assert_eq!(result.is_ok(), welcome, "{host} {origin}: {result:?}");
        }
    }

    #[test]
    fn who_sends_no_origin_is_no_page() {
        let list = Origin::Listed(vec!["example.com".into()]);
        for allowed in [Origin::SameHost, Origin::Any, list] {
            assert_eq!(check(&allowed, &head("h", &[])), Ok(()));
        }
    }

    #[test]
    fn what_is_not_exactly_one_origin_is_refused_unless_all_are_let_in() {
        let hostile: [&[&[u8]]; 17] = [
            &[b"null"],
            &[b""],
            &[b"h"],
            &[b"//h"],
            &[b"://h"],
            &[b"http:h"],
            &[b"http://"],
            &[b"http://h/"],
            &[b"http://h/path"],
            &[b"http://h?"],
            &[b"http://evil@h"],
            &[b"http://h:80:80"],
            &[b"http://h http://h"],
            &[b"http://h, http://h"],
            &[b"http://h\\.evil"],
            &[b"http://h\xff"],
            &[b"http://h", b"http://h"],
        ];
        let list = Origin::Listed(["h", "null", "", "http://h"].map(String::from).to_vec());
        for origins in hostile {
            for allowed in [&Origin::SameHost, &list] {
                assert!(check(allowed, &head("h", origins)).is_err(), "{origins:?} {allowed:?}");
            }
            assert_eq!(check(&Origin::Any, &head("h", origins)), Ok(()));
        }
    }

    #[test]
    fn an_entry_says_as_much_as_it_says() {
        for (entry, origin, welcome) in [
            ("a.example", "https://a.example", true),
            ("a.example", "http://a.example:81", true),
            ("A.Example", "http://a.example", true),
            ("a.example", "http://b.a.example", false),
            ("a.example:81", "http://a.example:81", true),
            ("a.example:81", "http://a.example", false),
            ("a.example:80", "http://a.example", true),
            ("a.example:443", "https://a.example", true),
            ("a.example:80", "https://a.example", false),
            ("a.example:80", "app://a.example", false),
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://a.example:8443", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example:8443", "https://a.example:8443", true),
            ("https://a.example:8443", "https://a.example", false),
            ("https://a.example:443", "https://a.example", true),
            ("[::1]:3000", "http://localhost:3000", true),
            ("", "http://a.example", false),
            ("*.example", "http://a.example", false),
            ("https://", "https://a.example", false),
        ] {
            let list = Origin::Listed(vec!["other.example".into(), entry.into()]);
            let result = check(&list, &head("a.example", &[origin.as_bytes()]));
            assert_eq!(result.is_ok(), welcome, "{entry} {origin}");
        }
        // A list takes the place of the default.
        let list = Origin::Listed(vec!["other.example".into()]);
        assert!(check(&list, &head("a.example", &[b"http://a.example"])).is_err());
    }

    #[test]
    fn a_refusal_names_the_option_that_would_mend_it() {
        for (origin, expected) in [
            ("https://Evil.example", "origin refused; --origin https://evil.example lets it in"),
            ("http://[::2]:81", "origin refused; --origin http://[::2]:81 lets it in"),
            ("null", "origin null refused; only --origin '*' lets it in"),
            ("http://$(id)", "unreadable origin refused; only --origin '*' lets it in"),
            ("http://a;id", "unreadable origin refused; only --origin '*' lets it in"),
        ] {
            let refused = check(&Origin::SameHost, &head("h", &[origin.as_bytes()])).expect_err(origin);
            assert_eq!(refused.to_string(), expected);
            if let ForeignOrigin::Origin(entry) = refused {
                let list = Origin::Listed(vec![entry]);
                assert_eq!(check(&list, &head("h", &[origin.as_bytes()])), Ok(()), "the advice works");
            }
        }
    }
}
