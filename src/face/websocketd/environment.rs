//! The environment of a program, as websocketd sets it. Pure.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::super::Request;
use super::origin::split;
use crate::http::cgi;
use crate::http::head::Head;
use crate::recipe::Variables;

/// `SERVER_SOFTWARE`: the version of websocketd that is meant, and what this is.
pub(super) const SOFTWARE: &str = concat!("websocketd/0.5.0 (scalesocket ", env!("CARGO_PKG_VERSION"), ")");

/// What the face has found out about a request.
pub(super) struct Session<'a> {
    /// The decoded path, and how many bytes of it name the script; `None` where all paths have the same program.
    pub(super) path: &'a [u8],
    pub(super) script: Option<usize>,
    pub(super) id: u64,
    /// The name of the client's address, or the address again.
    pub(super) remote_host: &'a str,
}

/// The variables in the order of websocketd. Those that are passed on from the server's own environment come from the
/// recipe.
pub(super) fn variables(request: &Request<'_>, session: &Session<'_>) -> Variables {
    let Request { head, peer, is_secure } = *request;
    let host = host(head);
    let (name, port) = split(&host, is_secure).unwrap_or_default();
    let (script_name, path_info) = match session.script {
        Some(length) => session.path.split_at(length),
        None => (&b"/"[..], session.path),
    };
    let mut variables = Vec::with_capacity(40);
    let mut set = |name: &str, value: &[u8]| variables.push((name.to_owned(), one_line(value)));
    set("SERVER_SOFTWARE", SOFTWARE.as_bytes());
    set("REMOTE_ADDR", remote(request).as_bytes());
    set("REMOTE_HOST", session.remote_host.as_bytes());
    set("SERVER_NAME", name.as_bytes());
    set("SERVER_PORT", port.as_bytes());
    set("SERVER_PROTOCOL", b"HTTP/1.1");
    set("GATEWAY_INTERFACE", b"CGI/1.1");
    set("REQUEST_METHOD", head.method().as_bytes());
    set("SCRIPT_NAME", script_name);
    set("PATH_INFO", path_info);
    set("PATH_TRANSLATED", session.path);
    set("QUERY_STRING", head.query().unwrap_or_default().as_bytes());
    for name in ["AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "REMOTE_IDENT", "REMOTE_USER"] {
        set(name, b"");
    }
    set("UNIQUE_ID", session.id.to_string().as_bytes());
    set("REMOTE_PORT", peer.map_or(String::new(), |peer| peer.port().to_string()).as_bytes());
    set("REQUEST_URI", uri(head).as_bytes());
    if is_secure {
        set("HTTPS", b"on");
    }
    // Programs use HTTP_PROXY as their own setting ("httpoxy", CVE-2016-5385).
    for (name, value) in cgi::fields(head, |name| !matches!(name, "PROXY" | "COOKIE")) {
        set(&format!("HTTP_{name}"), value.as_encoded_bytes());
    }
    // Joined like all other fields.
    let cookies: Vec<_> = head.values("cookie").collect();
    if !cookies.is_empty() {
        set("HTTP_COOKIE", &cookies.join(&b", "[..]));
    }
    variables
}

/// The host as the client wrote it, with its port.
pub(super) fn host(head: &Head) -> Cow<'_, str> {
    let field = if head.target().starts_with('/') { head.only("host") } else { None };
    match (field, &head.host) {
        (Some(host), _) => host.into(),
        (None, Some(host)) => host.to_string().into(),
        (None, None) => "".into(),
    }
}

/// Path and query as they were sent.
pub(super) fn uri(head: &Head) -> Cow<'_, str> {
    match head.query() {
        Some(query) => format!("{}?{query}", head.path()).into(),
        None => head.path().into(),
    }
}

/// The address of the client.
pub(super) fn remote(request: &Request<'_>) -> String {
    request.peer.map_or_else(|| "unix-socket".to_owned(), |peer| peer.ip().to_string())
}

/// With spaces for line ends, and without white space at its ends.
fn one_line(value: &[u8]) -> OsString {
    let value: Vec<u8> = value.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }).collect();
    OsString::from_vec(value.trim_ascii().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(request: &str, script: Option<usize>, path: &str, is_secure: bool) -> Vec<String> {
        let (head, _) = Head::parse(request.as_bytes()).expect("well-formed").expect("complete");
        let peer = Some("192.0.2.1:99".parse().expect("an address"));
        let request = Request { head: &head, peer, is_secure };
        let session = Session { path: path.as_bytes(), script, id: 17, remote_host: "name" };
        let text = |(name, value): (String, OsString)| format!("{name}={}", value.to_string_lossy());
        variables(&request, &session).into_iter().map(text).collect()
    }

    #[test]
    fn all_variables_are_set_in_the_order_of_websocketd() {
        let request = "GET /d/s%2esh/a%20b/?x=%201 HTTP/1.1\r\nHost: [::1]:8080\r\nX-Foo: 1\r\nX_Foo: evil\r\n\
                       x-foo: 2\r\nCookie: a\r\nCookie: b\r\nProxy: http://evil\r\nEmpty:\r\n\r\n";
        let software = format!("SERVER_SOFTWARE={SOFTWARE}");
        assert_eq!(
            of(request, Some(7), "/d/s.sh/a b/", true),
            [
                &*software,
                "REMOTE_ADDR=192.0.2.1",
                "REMOTE_HOST=name",
                "SERVER_NAME=::1",
                "SERVER_PORT=8080",
                "SERVER_PROTOCOL=HTTP/1.1",
                "GATEWAY_INTERFACE=CGI/1.1",
                "REQUEST_METHOD=GET",
                "SCRIPT_NAME=/d/s.sh",
                "PATH_INFO=/a b/",
                "PATH_TRANSLATED=/d/s.sh/a b/",
                "QUERY_STRING=x=%201",
                "AUTH_TYPE=",
                "CONTENT_LENGTH=",
                "CONTENT_TYPE=",
                "REMOTE_IDENT=",
                "REMOTE_USER=",
                "UNIQUE_ID=17",
                "REMOTE_PORT=99",
                "REQUEST_URI=/d/s%2esh/a%20b/?x=%201",
                "HTTPS=on",
                "HTTP_HOST=[::1]:8080",
                "HTTP_X_FOO=1, 2",
                "HTTP_EMPTY=",
                "HTTP_COOKIE=a, b",
            ]
        );
    }

    #[test]
    fn name_and_port_are_those_that_the_client_asked_for() {
        for (line, fields, is_secure, name, port) in [
            ("/ HTTP/1.1", "Host: Example.COM", false, "Example.COM", "80"),
            ("/ HTTP/1.1", "Host: h", true, "h", "443"),
            ("/ HTTP/1.1", "Host: h:", false, "h", ""),
            ("/ HTTP/1.1", "Host: [::1]", false, "::1", "80"),
            ("http://other:81/ HTTP/1.1", "Host: h", false, "other", "81"),
            ("/ HTTP/1.0", "X: y", false, "", "80"),
        ] {
            let found = of(&format!("GET {line}\r\n{fields}\r\n\r\n"), None, "/", is_secure);
            assert_eq!(found[3..5], [format!("SERVER_NAME={name}"), format!("SERVER_PORT={port}")], "{line}");
            assert_eq!(found[8..10], ["SCRIPT_NAME=/", "PATH_INFO=/"]);
            assert_eq!(found.iter().any(|set| set == "HTTPS=on"), is_secure);
        }
    }

    #[test]
    fn a_value_is_one_line() {
        let found = of("GET /a%0ab%0d%20 HTTP/1.1\r\nHost: h\r\n\r\n", None, "/a\nb\r ", false);
        assert_eq!(found[9], "PATH_INFO=/a b");
    }
}
