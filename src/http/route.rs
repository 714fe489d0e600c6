//! What a request asks for: a websocket or a plain response. Pure.

#[cfg(feature = "websocketd")]
use std::ffi::OsString;
use std::fmt;
#[cfg(feature = "websocketd")]
use std::path::PathBuf;

use super::api::Ask;
use super::head::Head;
use super::subprotocol;
#[cfg(feature = "websocketd")]
use crate::recipe::Variables;
use crate::site;

/// The allowed methods, for `Allow`.
pub const METHODS: &str = "GET, HEAD, OPTIONS";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Upgrade(UpgradeRequest),
    Plain(Plain),
    /// A CGI program answers.
    #[cfg(feature = "websocketd")]
    Program(Box<ProgramCall>),
}

/// The program for a request.
#[cfg(feature = "websocketd")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCall {
    /// An absolute path. The directory of this file is the program's working directory.
    pub file: PathBuf,
    /// Variables that all programs get.
    pub passed: Vec<(OsString, OsString)>,
    /// Variables of the request; they replace those of the same name.
    pub variables: Variables,
    /// What the log has for these programs where it has the room for others.
    pub label: String,
}

/// A valid handshake (RFC 6455 §4.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// The part after `?`, exactly as sent; empty if there is none.
    pub query: String,
    /// The subprotocols offered by the client, in its order of preference.
    pub protocols: Vec<String>,
    /// The value of `Sec-WebSocket-Accept` (RFC 6455 §4.2.2), for [`super::respond::switching_protocols`].
    pub accept: String,
}

/// What a request that is not an upgrade asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    /// The allowed methods. Load balancers use this as a health check.
    Options,
    /// `/health`
    Health,
    /// `/metrics`, with `--metrics`.
    Metrics,
    /// `/api/…`, with `--api`.
    Api(Ask),
    /// Anything else: a file, where there are files.
    File,
    /// The console page, for a face that shows it for every path.
    Console,
    /// The path does not begin with `--base`.
    OutsideBase,
    /// Another place: the value of `Location`.
    Moved(String),
}

/// What is served in addition to rooms and files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offers {
    /// `--api`
    pub api: bool,
    /// `--metrics`
    pub metrics: bool,
}

/// Why a request is refused, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequest {
    Method,
    HandshakeMethod,
    Connection,
    Body,
    Version,
    Key,
    Protocols,
    Query,
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "Only GET, HEAD and OPTIONS",
            Self::HandshakeMethod => "A websocket handshake is a GET",
            Self::Connection => "Upgrade without Connection: Upgrade; a proxy must pass on both",
            Self::Body => "A websocket handshake has no body",
            Self::Version => "Only websocket version 13",
            Self::Key => "Sec-WebSocket-Key must be 16 bytes in base64",
            Self::Protocols => "Sec-WebSocket-Protocol must be a list of tokens",
            Self::Query => "A query has no control characters, spaces, quotes or backslashes",
        })
    }
}

/// Decides what a request asks for. `path` is its path after `--base`, if it begins with that.
pub fn route(head: &Head, path: Option<&str>, offers: Offers) -> Result<Route, BadRequest> {
    if head.asks_upgrade() {
        let request = upgrade(head)?;
        return if site::is_clean(&request.query) {
            Ok(Route::Upgrade(request))
        } else {
            Err(BadRequest::Query)
        };
    }
    match head.method() {
        "GET" | "HEAD" => {}
        "OPTIONS" => return Ok(Route::Plain(Plain::Options)),
        _ => return Err(BadRequest::Method),
    }
    Ok(Route::Plain(match path {
        None => Plain::OutsideBase,
        Some("/health" | "/health/") => Plain::Health,
        Some("/metrics" | "/metrics/") if offers.metrics => Plain::Metrics,
        Some(path) if offers.api => Ask::parse(path).map_or(Plain::File, Plain::Api),
        Some(_) => Plain::File,
    }))
}

/// The URL of a request at another port of the same host; `None` if the request names no host.
pub fn other_port(head: &Head, is_secure: bool, port: u16) -> Option<String> {
    let host = &head.host.as_ref()?.host;
    let (scheme, path) = (if is_secure { "https" } else { "http" }, head.path());
    let (mark, query) = head.query().map_or(("", ""), |query| ("?", query));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some(format!("{scheme}://{host}:{port}{slash}{path}{mark}{query}"))
}

/// Checks a handshake.
pub fn upgrade(head: &Head) -> Result<UpgradeRequest, BadRequest> {
    if head.method() != "GET" {
        return Err(BadRequest::HandshakeMethod);
    }
    if !head.has_token("connection", "upgrade") {
        return Err(BadRequest::Connection);
    }
    if head.has_body {
        return Err(BadRequest::Body);
    }
    if head.only("sec-websocket-version") != Some("13") {
        return Err(BadRequest::Version);
    }
    let key = head.only("sec-websocket-key").filter(|key| is_key(key)).ok_or(BadRequest::Key)?;
    let protocols = subprotocol::offered(head).ok_or(BadRequest::Protocols)?;
    // Extensions are never accepted, so none is named.
    Ok(UpgradeRequest {
        query: head.query().unwrap_or_default().to_owned(),
        protocols,
        accept: tungstenite::handshake::derive_accept_key(key.as_bytes()),
    })
}

/// Whether it is 16 bytes in base64 (RFC 6455 §4.1). The four unused bits of the 22 digits may have any value: some clients
/// use random digits.
fn is_key(key: &str) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    key.strip_suffix("==").is_some_and(|digits| digits.len() == 22 && digits.bytes().all(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn ask(line: &str, fields: &[&str]) -> Result<Route, BadRequest> {
        let text = format!("{line}\r\nHost: h\r\n{}\r\n", fields.concat());
        let (head, _) = Head::parse(text.as_bytes()).expect(line).expect("complete");
        route(&head, Some(head.path()), Offers::default())
    }

    #[test]
    fn another_port_is_one_of_the_same_host_with_the_same_path() {
        for (target, host, secure, wanted) in [
            ("/", "h", false, Some("http://h:8080/")),
            ("/a/%20?b=c?", "h:81", true, Some("https://h:8080/a/%20?b=c?")),
            ("//evil/", "h", false, Some("http://h:8080//evil/")),
            ("*", "[::1]:81", false, Some("http://[::1]:8080/*")),
            ("http://other/x", "h", false, Some("http://other:8080/x")),
            ("/", "", false, None),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let (head, _) = Head::parse(text.as_bytes()).expect(target).expect("complete");
            assert_eq!(other_port(&head, secure, 8080).as_deref(), wanted, "{target}");
        }
    }

    #[test]
    fn a_handshake_gives_query_and_accept_key() {
        let Ok(Route::Upgrade(request)) =
            ask("GET /ro%20om/?a=%22&b='{}|é HTTP/1.1", &[UPGRADE, VERSION, KEY])
        else {
            panic!("an upgrade");
        };
        assert_eq!(request.query, "a=%22&b='{}|é");
        assert_eq!(request.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the example of RFC 6455 §1.3");
        for query in ["b\"", "b\\", "\u{9b}"] {
            let result = ask(&format!("GET /a?{query} HTTP/1.1"), &[UPGRADE, VERSION, KEY]);
            assert_eq!(result, Err(BadRequest::Query), "{query}");
        }
    }

    #[test]
    fn a_bad_handshake_is_refused_with_its_own_reason() {
        let key = |value: &str| format!("Sec-WebSocket-Key: {value}\r\n");
        let (get, version12) = ("GET /r HTTP/1.1", "Sec-WebSocket-Version: 12\r\n");
        for (line, fields, expected) in [
            ("POST /r HTTP/1.1", [UPGRADE, VERSION, KEY], Some(BadRequest::HandshakeMethod)),
            ("HEAD /r HTTP/1.1", [UPGRADE, VERSION, KEY], Some(BadRequest::HandshakeMethod)),
            (get, ["Upgrade: websocket\r\n", VERSION, KEY], Some(BadRequest::Connection)),
            (
                get,
                ["Upgrade: websocket\r\nConnection: upgraded\r\n", VERSION, KEY],
                Some(BadRequest::Connection),
            ),
            (get, [UPGRADE, version12, KEY], Some(BadRequest::Version)),
            (get, [UPGRADE, "", KEY], Some(BadRequest::Version)),
            (get, [UPGRADE, "Sec-WebSocket-Version: 13, 8\r\n", KEY], Some(BadRequest::Version)),
            (
                get,
                [UPGRADE, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n", KEY],
                Some(BadRequest::Version),
            ),
            (get, [UPGRADE, VERSION, ""], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQ=")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQAA")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25j!Q==")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQ===")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("c2hvcnQ==")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQAA==")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZé==")], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &[KEY, KEY].concat()], Some(BadRequest::Key)),
            (get, [UPGRADE, VERSION, &format!("{KEY}Content-Length: 1\r\n")], Some(BadRequest::Body)),
            (
                get,
                [UPGRADE, VERSION, &format!("{KEY}Transfer-Encoding: chunked\r\n")],
                Some(BadRequest::Body),
            ),
            (
                get,
                [UPGRADE, VERSION, &format!("{KEY}Sec-WebSocket-Extensions: permessage-deflate\r\n")],
                None,
            ),
            (get, [UPGRADE, VERSION, &format!("{KEY}Content-Length: 0\r\n")], None),
            (get, [UPGRADE, VERSION, &format!("{KEY}Sec-WebSocket-Protocol: a, b\r\n")], None),
            (
                get,
                [UPGRADE, VERSION, &format!("{KEY}Sec-WebSocket-Protocol: a b\r\n")],
                Some(BadRequest::Protocols),
            ),
        ] {
            assert_eq!(ask(line, &fields).err(), expected, "{line} {fields:?}");
        }
    }

    #[test]
    fn what_is_no_upgrade_is_plain_and_only_read() {
        let file = Ok(Route::Plain(Plain::File));
        let health = Ok(Route::Plain(Plain::Health));
        for (line, fields, expected) in [
            ("GET /room HTTP/1.1", "", &file),
            ("GET / HTTP/1.1", "", &file),
            ("GET /api HTTP/1.1", "", &file),
            ("HEAD /health HTTP/1.1", "", &health),
            ("GET /health/?x HTTP/1.1", "", &health),
            ("GET /health HTTP/1.0", "", &health),
            ("GET /healthy HTTP/1.1", "", &file),
            ("GET /room HTTP/1.1", "Upgrade: h2c\r\nConnection: Upgrade\r\n", &file),
            // RFC 9110 §7.8: ignored in 1.0.
            ("GET /room HTTP/1.0", UPGRADE, &file),
        ] {
            assert_eq!(&ask(line, &[fields, VERSION, KEY]), expected, "{line}");
        }
        for method in ["POST", "PUT", "DELETE", "TRACE", "get", "PROPFIND"] {
            let refused = ask(&format!("{method} /health HTTP/1.1"), &[]);
            assert_eq!(refused, Err(BadRequest::Method), "{method}");
        }
        for line in ["OPTIONS * HTTP/1.1", "OPTIONS / HTTP/1.0", "OPTIONS /health HTTP/1.1"] {
            assert_eq!(ask(line, &[]), Ok(Route::Plain(Plain::Options)), "{line}");
        }
        let handshake = ask("OPTIONS /r HTTP/1.1", &[UPGRADE, VERSION, KEY]);
        assert_eq!(handshake, Err(BadRequest::HandshakeMethod));
        assert_eq!(ask("CONNECT h:80 HTTP/1.1", &[]), Err(BadRequest::Method));
    }
}
