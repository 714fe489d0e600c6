//! A request as CGI variables (RFC 3875 §4.1), for `--cgienv`. Pure.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt as _;

use super::head::Head;
use crate::percent;
use crate::recipe::Variables;

/// The variables of an upgrade request. `peer` is `None` on a unix socket; `is_secure` is TLS.
///
/// `Proxy` is left out: programs use `HTTP_PROXY` as their own setting ("httpoxy", CVE-2016-5385).
pub fn variables(head: &Head, peer: Option<SocketAddr>, is_secure: bool) -> Variables {
    let host = head.host.as_ref();
    let name = host.map(|host| host.host.to_string()).unwrap_or_default();
    let port = host.and_then(|host| host.port).unwrap_or(if is_secure { 443 } else { 80 });
    let fixed = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", concat!("scalesocket/", env!("CARGO_PKG_VERSION"))),
        ("SERVER_NAME", &name),
        ("SERVER_PORT", &port.to_string()),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_METHOD", head.method()),
        ("REQUEST_URI", head.target()),
    ];
    let mut variables: Vec<_> = fixed.map(|(name, value)| (name.to_owned(), OsString::from(value))).into();
    let (mut path, _) = percent::decode(head.path().as_bytes());
    if path.iter().any(u8::is_ascii_control) {
        path = head.path().into();
    }
    variables.push(("PATH_INFO".to_owned(), OsString::from_vec(path)));
    if is_secure {
        variables.push(("HTTPS".to_owned(), OsString::from("on")));
    }
    if let Some(peer) = peer {
        variables.push(("REMOTE_PORT".to_owned(), OsString::from(peer.port().to_string())));
    }
    variables.extend(
        fields(head, |name| name != "PROXY").into_iter().map(|(name, value)| (format!("HTTP_{name}"), value)),
    );
    // With a NUL in a variable the program could not be started.
    variables.retain(|(_, value)| !value.as_encoded_bytes().contains(&0));
    variables
}

/// The header fields that are wanted, with names in upper case and `_` for `-`. Repeated fields become a list.
///
/// Fields with `_` in their name are left out: a client could send `X_User` past a proxy that sets `X-User`.
pub fn fields(head: &Head, is_wanted: impl Fn(&str) -> bool) -> Vec<(String, OsString)> {
    let mut fields: Vec<(String, OsString)> = Vec::new();
    for (name, value) in head.fields().filter(|(name, _)| !name.contains('_')) {
        let name = name.to_ascii_uppercase().replace('-', "_");
        if !is_wanted(&name) {
            continue;
        }
        let value = OsString::from_vec(value.to_vec());
        if let Some((_, known)) = fields.iter_mut().find(|(known, _)| *known == name) {
            // RFC 9110 §5.3; cookies are separated by semicolons.
            known.push(if name == "COOKIE" { "; " } else { ", " });
            known.push(value);
        } else {
            fields.push((name, value));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(request: &str, name: &str) -> Option<String> {
        let (head, _) = Head::parse(request.as_bytes()).expect("well-formed").expect("complete");
        let peer = "192.0.2.1:99".parse().expect("an address");
        let found: Vec<_> =
            variables(&head, Some(peer), false).into_iter().filter(|(known, _)| known == name).collect();
        assert!(found.len() <= 1, "{name} stands once");
        found.into_iter().next().map(|(_, value)| value.into_string().expect("text"))
    }

    #[test]
    fn a_request_becomes_the_cgi_set_without_what_could_deceive() {
        let request = "GET /ro%20om%2f?a=b HTTP/1.1\r\nHost: [::1]:8080\r\nX-Foo: 1\r\nX_Foo: evil\r\n\
                       x-foo: 2\r\nProxy: http://evil\r\nCookie: a\r\nCookie: b\r\nUser-Agent: t\r\n\r\n";
        let cases = [
            ("GATEWAY_INTERFACE", Some("CGI/1.1")),
            ("SERVER_PORT", Some("8080")),
            ("SERVER_PROTOCOL", Some("HTTP/1.1")),
            ("REQUEST_METHOD", Some("GET")),
            ("REQUEST_URI", Some("/ro%20om%2f?a=b")),
            ("PATH_INFO", Some("/ro om/")),
            ("REMOTE_PORT", Some("99")),
            ("HTTP_X_FOO", Some("1, 2")),
            ("HTTP_COOKIE", Some("a; b")),
            ("HTTP_USER_AGENT", Some("t")),
            ("HTTP_HOST", Some("[::1]:8080")),
            ("HTTP_PROXY", None),
        ];
        for (name, wanted) in cases {
            assert_eq!(lookup(request, name).as_deref(), wanted, "{name}");
        }
        let hostile = "GET /a%00b%0a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(lookup(hostile, "PATH_INFO").as_deref(), Some("/a%00b%0a"));
        assert_eq!(lookup(hostile, "SERVER_PORT").as_deref(), Some("80"));
    }
}
