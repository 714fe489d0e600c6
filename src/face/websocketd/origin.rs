//! Which pages may connect, by the rules of websocketd for `--sameorigin` and `--origin`. Pure.
//!
//! The rules are not those of the first face: a missing `Origin` counts as `file:`, hosts are compared with case, and an
//! entry of the list without a port, or a URL without one, stands for all ports.

use std::borrow::Cow;

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) same_origin: bool,
    pub(super) origins: Option<&'a [String]>,
}

/// Checks the value of `Origin`, if there is one, for a request to `host`.
///
/// # Errors
/// The reason, in the words of websocketd.
pub(super) fn check(
    rules: Rules<'_>,
    origin: Option<&[u8]>,
    host: &str,
    is_secure: bool,
) -> Result<(), &'static str> {
    let origin = effective(rules, origin);
    let (scheme, authority) = parse(&origin).ok_or("Origin parsing error")?;
    if !rules.same_origin && rules.origins.is_none() {
        return Ok(());
    }
    let origin = split(authority, scheme == "https").ok_or("Origin hostname parsing error")?;
    if rules.same_origin {
        let own = split(host, is_secure).ok_or("Request hostname parsing error")?;
        if own != origin {
            return Err("Same origin policy mismatch");
        }
    }
    if rules.origins.is_some_and(|list| !list.iter().any(|entry| admits(entry, &scheme, origin))) {
        return Err("Origin is not listed in allowed list");
    }
    Ok(())
}

/// The origin that is checked and logged.
pub(super) fn effective<'o>(rules: Rules<'_>, origin: Option<&'o [u8]>) -> Cow<'o, str> {
    match origin {
        None | Some(b"") => "file:".into(),
        Some(b"null") if rules.origins.is_none() => "file:".into(),
        Some(origin) => String::from_utf8_lossy(origin),
    }
}

/// Whether an entry of `--origin` admits an origin.
fn admits(entry: &str, scheme: &str, (host, port): (&str, &str)) -> bool {
    let allowed = match entry.split_once("://") {
        None | Some(("", _)) => entry,
        Some(_) => match parse(entry) {
            Some((allowed, authority)) if allowed == scheme => authority,
            _ => return false,
        },
    };
    let Some((allowed_host, allowed_port)) = split(allowed, false) else { return false };
    let any_port = allowed_port == "80" && !allowed.ends_with(":80");
    allowed_host == host && (any_port || allowed_port == port)
}

/// The scheme, in lower case, and the authority without user; the authority is empty if there is none.
fn parse(url: &str) -> Option<(Cow<'_, str>, &str)> {
    if url.contains(|c: char| c.is_ascii_control()) {
        return None;
    }
    if url.starts_with('/') {
        return Some(("".into(), ""));
    }
    let (scheme, rest) = url.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_scheme {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase().into();
    let Some(rest) = rest.strip_prefix("//") else { return Some((scheme, "")) };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_host = |c: char| c.is_alphanumeric() || !c.is_ascii() || "-_.~!$&'()*+,;=:[]<>\"".contains(c);
    let port = authority[authority.rfind(']').unwrap_or(0)..].rsplit_once(':').map_or("", |(_, port)| port);
    (authority.chars().all(is_host) && port.bytes().all(|b| b.is_ascii_digit()))
        .then_some((scheme, authority))
}

/// Host, without the brackets of an IPv6 address, and port; 80 or 443 if there is none.
pub(super) fn split(authority: &str, is_secure: bool) -> Option<(&str, &str)> {
    let default = if is_secure { "443" } else { "80" };
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (host, behind) = inner.split_once(']')?;
        match behind.strip_prefix(':') {
            Some(port) => (host, port),
            None if behind.is_empty() => (host, default),
            None => return None,
        }
    } else {
        authority.split_once(':').unwrap_or((authority, default))
    };
    (!port.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(same_origin: bool, list: &[&str], origin: &str, host: &str, is_secure: bool) -> &'static str {
        let list: Vec<String> = list.iter().map(|&entry| entry.to_owned()).collect();
        let origins = (!list.is_empty()).then_some(&*list);
        let origin = (origin != "-").then_some(origin.as_bytes());
        match check(Rules { same_origin, origins }, origin, host, is_secure) {
            Ok(()) => "",
            Err(reason) => reason,
        }
    }

    #[test]
    fn without_a_rule_every_url_and_no_origin_may_connect() {
        for (origin, wanted) in [
            ("-", ""),
            ("", ""),
            ("null", ""),
            ("http://a.example", ""),
            ("chrome-extension://abc", ""),
            ("http://user@a.example/path?x", ""),
            ("bad origin", "Origin parsing error"),
            ("http://a b", "Origin parsing error"),
            ("http://a:x", "Origin parsing error"),
            ("http://a\u{1}", "Origin parsing error"),
            ("a.example", "Origin parsing error"),
            ("1http://a", "Origin parsing error"),
        ] {
            assert_eq!(answer(false, &[], origin, "h", false), wanted, "{origin}");
        }
    }

    #[test]
    fn the_same_origin_has_host_and_port_of_the_request() {
        let no = "Same origin policy mismatch";
        for (origin, host, is_secure, wanted) in [
            ("-", "h:8080", false, no),
            ("null", "h:8080", false, no),
            ("http://h:8080", "h:8080", false, ""),
            ("https://h:8080", "h:8080", false, ""),
            ("http://h", "h", false, ""),
            ("http://h", "h:80", false, ""),
            ("http://h", "h:8080", false, no),
            ("http://H:8080", "h:8080", false, no),
            ("https://h", "h", false, no),
            ("https://h", "h", true, ""),
            ("https://h", "h:443", false, ""),
            ("http://h", "h", true, no),
            ("http://[::1]:8080", "[::1]:8080", false, ""),
            ("http://[::1]", "[::1]:80", false, ""),
            ("http://[::1", "h", false, "Origin hostname parsing error"),
            ("http://h", "a:b:c", false, "Request hostname parsing error"),
        ] {
            assert_eq!(answer(true, &[], origin, host, is_secure), wanted, "{origin} {host}");
        }
    }

    #[test]
    fn an_entry_is_a_host_perhaps_with_port_and_scheme() {
        let no = "Origin is not listed in allowed list";
        for (list, origin, wanted) in [
            (&["foo.com"] as &[&str], "http://foo.com", ""),
            (&["foo.com"], "https://foo.com:444", ""),
            (&["foo.com"], "http://Foo.com", no),
            (&["foo.com"], "http://a.foo.com", no),
            (&["foo.com:8080"], "http://foo.com:8080", ""),
            (&["foo.com:8080"], "http://foo.com", no),
            (&["foo.com:80"], "http://foo.com", ""),
            (&["foo.com:80"], "http://foo.com:81", no),
            (&["https://bar.com"], "https://bar.com", ""),
            (&["https://bar.com"], "https://bar.com:444", ""),
            (&["https://bar.com"], "http://bar.com", no),
            (&["https://bar.com:444"], "https://bar.com:444", ""),
            (&["https://bar.com:444"], "https://bar.com", no),
            (&["a", " foo.com"], "http://foo.com", no),
            (&["a", "foo.com"], "http://foo.com", ""),
            (&["*"], "http://foo.com", no),
            (&["x"], "http://x", ""),
            (&["foo.com"], "-", no),
            (&["null"], "null", "Origin parsing error"),
            (&["foo.com"], "null", "Origin parsing error"),
            (&["http://b d", "foo.com"], "http://foo.com", ""),
        ] {
            assert_eq!(answer(false, list, origin, "h", false), wanted, "{list:?} {origin}");
        }
    }

    #[test]
    fn both_rules_must_be_met() {
        for (origin, wanted) in [
            ("http://h:1", ""),
            ("http://a:1", "Same origin policy mismatch"),
            ("http://h:2", "Same origin policy mismatch"),
        ] {
            assert_eq!(answer(true, &["h", "a"], origin, "h:1", false), wanted, "{origin}");
        }
        assert_eq!(answer(true, &["a"], "http://h:1", "h:1", false), "Origin is not listed in allowed list");
    }
}
