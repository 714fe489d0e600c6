//! What a request asks for: a room, or something plain. Pure.

use super::api::Ask;
use super::head::Head;
use super::respond::{Reply, refuse};
use super::subprotocol;

/// The longest room name, in bytes.
pub const MAX_ROOM_NAME: usize = 256;

/// Names that no room can have: paths of ours, and what browsers and crawlers ask every host for.
pub const RESERVED: [&str; 7] = ["api", "metrics", "health", "static", "upload", "robots.txt", "favicon.ico"];

/// The methods that are answered, for `Allow`.
pub const METHODS: &str = "GET, HEAD, OPTIONS";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A websocket.
    Upgrade(UpgradeRequest),
    /// An answer.
    Plain(Plain),
}

/// A handshake that keeps the rules of RFC 6455 §4.2.1, for a room whose name keeps ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// The room: the path's first segment exactly as sent, not decoded.
    pub room: String,
    /// What is behind `?`, exactly as sent; empty if there is none.
    pub query: String,
    /// The subprotocols that the client offers, in the order of its preference.
    pub protocols: Vec<String>,
    /// The value of `Sec-WebSocket-Accept` (RFC 6455 §4.2.2), for [`super::respond::switching_protocols`].
    pub accept: String,
}

/// What a request that is no upgrade asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    /// Which methods there are; load balancers ask it to see whether a server is up.
    Options,
    /// `/health`
    Health,
    /// `/metrics`, if they are to be had.
    Metrics,
    /// `/api/…`, if it is to be had.
    Api(Ask),
    /// Anything else: a file, where there are files.
    File,
}

/// What can be asked for beside rooms and files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offers {
    /// `--api`
    pub api: bool,
    /// `--metrics`
    pub metrics: bool,
}

/// Says what a request asks for, or how it is refused.
pub fn route(head: &Head, offers: Offers) -> Result<Route, Reply> {
    if head.asks_upgrade() {
        return upgrade(head).map(Route::Upgrade);
    }
    match head.method() {
        "GET" | "HEAD" => {}
        "OPTIONS" => return Ok(Route::Plain(Plain::Options)),
        _ => return Err(refuse(405, "Only GET, HEAD and OPTIONS").with("Allow", METHODS)),
    }
    Ok(Route::Plain(match head.path() {
        "/health" | "/health/" => Plain::Health,
        "/metrics" | "/metrics/" if offers.metrics => Plain::Metrics,
        path if offers.api => Ask::parse(path).map_or(Plain::File, Plain::Api),
        _ => Plain::File,
    }))
}

fn upgrade(head: &Head) -> Result<UpgradeRequest, Reply> {
    if head.method() != "GET" {
        return Err(refuse(405, "A websocket handshake is a GET").with("Allow", METHODS));
    }
    if !head.has_token("connection", "upgrade") {
        let hint = "Upgrade without Connection: Upgrade; a proxy must pass on both";
        return Err(refuse(400, hint));
    }
    if head.has_body() {
        return Err(refuse(400, "A websocket handshake has no body"));
    }
    if head.only("sec-websocket-version") != Some("13") {
        // RFC 6455 §4.4; `Upgrade` because it is a 426 (RFC 9110 §15.5.22).
        return Err(refuse(426, "Only websocket version 13").with("Sec-WebSocket-Version", "13"));
    }
    let key = head.only("sec-websocket-key").filter(|key| is_key(key));
    let Some(key) = key else {
        return Err(refuse(400, "Sec-WebSocket-Key must be 16 bytes in base64"));
    };
    let Some(protocols) = subprotocol::offered(head) else {
        return Err(refuse(400, "Sec-WebSocket-Protocol must be a list of tokens"));
    };
    let room = room(head.path())?;
    let query = head.query().unwrap_or_default();
    if !is_clean(query) {
        return Err(refuse(400, "A query has no control characters, spaces, quotes or backslashes"));
    }
    // No extension is ever accepted; not naming any says so.
    Ok(UpgradeRequest {
        room: room.to_owned(),
        query: query.to_owned(),
        protocols,
        accept: tungstenite::handshake::derive_accept_key(key.as_bytes()),
    })
}

/// The room that a path names.
fn room(path: &str) -> Result<&str, Reply> {
    let name = path.strip_prefix('/').unwrap_or_default();
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.is_empty() {
        return Err(refuse(404, "The path names the room, such as /kitchen"));
    }
    if name.contains('/') {
        let hint = "A room is one path segment, such as /kitchen; does a proxy leave its prefix on?";
        return Err(refuse(404, hint));
    }
    if name.len() > MAX_ROOM_NAME {
        return Err(refuse(400, &format!("A room's name has at most {MAX_ROOM_NAME} bytes")));
    }
    if !is_clean(name) {
        return Err(refuse(400, "A room's name has no control characters, spaces, quotes or backslashes"));
    }
    if RESERVED.contains(&name) {
        return Err(refuse(400, "This name is reserved and cannot be a room"));
    }
    Ok(name)
}

/// The answer where a plain request finds nothing. One that was to be a websocket is told why it is none.
pub fn nothing_here(head: &Head, files: bool) -> Reply {
    if head.is_handshake() || (!files && room(head.path()).is_ok()) {
        let hint = "This is a websocket address; a proxy must pass on Upgrade and Connection, in HTTP/1.1";
        return refuse(404, hint);
    }
    refuse(404, "Not found")
}

/// Whether a name or query can stand in a JSON template, a log line and a metrics label as it is.
/// (That it is UTF-8 was proved when the head was parsed.)
fn is_clean(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, ' ' | '"' | '\\'))
}

/// Whether it is 16 bytes in base64 (RFC 6455 §4.1). The four bits that 22 digits have to spare
/// may be anything: there are clients that make a key of random digits.
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

    fn ask(line: &str, fields: &[&str]) -> Result<Route, Reply> {
        let text = format!("{line}\r\nHost: h\r\n{}\r\n", fields.concat());
        let (head, _) = Head::parse(text.as_bytes()).expect(line).expect("complete");
        route(&head, Offers::default())
    }

    fn status(result: &Result<Route, Reply>) -> u16 {
        result.as_ref().err().map_or(101, |reply| reply.status)
    }

    #[test]
    fn a_handshake_gives_room_query_and_accept_key() {
        let Ok(Route::Upgrade(request)) =
            ask("GET /ro%20om/?a=%22&b='{}|é HTTP/1.1", &[UPGRADE, VERSION, KEY])
        else {
            panic!("an upgrade");
        };
        assert_eq!((request.room.as_str(), request.query.as_str()), ("ro%20om", "a=%22&b='{}|é"));
        assert_eq!(request.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the example of RFC 6455 §1.3");
    }

    #[test]
    fn a_room_is_one_clean_segment_exactly_as_sent() {
        let longest = format!("/{}", "r".repeat(MAX_ROOM_NAME));
        let too_long = format!("{longest}r");
        for (path, expected) in [
            ("/r", 101),
            ("/r/", 101),
            ("/r%2fz", 101),
            ("/%00", 101),
            ("/.", 101),
            ("/bücher", 101),
            ("/API", 101),
            ("/%61pi", 101),
            ("/a'b<c>`{}|^[]", 101),
            ("http://h/r", 101),
            (&longest, 101),
            (&too_long, 400),
            ("/", 404),
            ("//", 404),
            ("///", 404),
            ("//r", 404),
            ("/r//", 404),
            ("/a/b", 404),
            ("/api/rooms", 404),
            ("http://h", 404),
            ("*", 404),
            ("/a\"b", 400),
            ("/a\\b", 400),
            ("/a\u{85}b", 400),
            ("/a?b\"", 400),
            ("/a?b\\", 400),
            ("/a?\u{9b}", 400),
        ] {
            let result = ask(&format!("GET {path} HTTP/1.1"), &[UPGRADE, VERSION, KEY]);
            assert_eq!(status(&result), expected, "{path}");
        }
        for name in RESERVED {
            for path in [format!("/{name}"), format!("/{name}/"), format!("/{name}?q")] {
                let result = ask(&format!("GET {path} HTTP/1.1"), &[UPGRADE, VERSION, KEY]);
                let reserved = refuse(400, "This name is reserved and cannot be a room");
                assert_eq!(result, Err(reserved), "{path}");
            }
        }
    }

    #[test]
    fn a_bad_handshake_is_refused_with_its_own_status() {
        let key = |value: &str| format!("Sec-WebSocket-Key: {value}\r\n");
        let (get, version12) = ("GET /r HTTP/1.1", "Sec-WebSocket-Version: 12\r\n");
        for (line, fields, expected) in [
            ("POST /r HTTP/1.1", [UPGRADE, VERSION, KEY], 405),
            ("HEAD /r HTTP/1.1", [UPGRADE, VERSION, KEY], 405),
            (get, ["Upgrade: websocket\r\n", VERSION, KEY], 400),
            (get, ["Upgrade: websocket\r\nConnection: upgraded\r\n", VERSION, KEY], 400),
            (get, [UPGRADE, version12, KEY], 426),
            (get, [UPGRADE, "", KEY], 426),
            (get, [UPGRADE, "Sec-WebSocket-Version: 13, 8\r\n", KEY], 426),
            (get, [UPGRADE, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n", KEY], 426),
            (get, [UPGRADE, VERSION, ""], 400),
            (get, [UPGRADE, VERSION, &key("")], 400),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQ=")], 400),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQAA")], 400),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25j!Q==")], 400),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQ===")], 400),
            (get, [UPGRADE, VERSION, &key("c2hvcnQ==")], 400),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZQAA==")], 400),
            (get, [UPGRADE, VERSION, &key("dGhlIHNhbXBsZSBub25jZé==")], 400),
            (get, [UPGRADE, VERSION, &[KEY, KEY].concat()], 400),
            (get, [UPGRADE, VERSION, &format!("{KEY}Content-Length: 1\r\n")], 400),
            (get, [UPGRADE, VERSION, &format!("{KEY}Transfer-Encoding: chunked\r\n")], 400),
            (get, [UPGRADE, VERSION, &format!("{KEY}Sec-WebSocket-Extensions: permessage-deflate\r\n")], 101),
            (get, [UPGRADE, VERSION, &format!("{KEY}Content-Length: 0\r\n")], 101),
            (get, [UPGRADE, VERSION, &format!("{KEY}Sec-WebSocket-Protocol: a, b\r\n")], 101),
            (get, [UPGRADE, VERSION, &format!("{KEY}Sec-WebSocket-Protocol: a b\r\n")], 400),
        ] {
            assert_eq!(status(&ask(line, &fields)), expected, "{line} {fields:?}");
        }
        let reply = ask(get, &[UPGRADE, version12, KEY]).expect_err("version 12");
        assert!(reply.fields.contains(&("Sec-WebSocket-Version", "13".into())));
        let reply = ask("PUT /r HTTP/1.1", &[UPGRADE, VERSION, KEY]).expect_err("PUT");
        assert!(reply.fields.contains(&("Allow", "GET, HEAD, OPTIONS".into())));
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
            let reply = ask(&format!("{method} /health HTTP/1.1"), &[]).expect_err(method);
            assert_eq!(reply.status, 405, "{method}");
            assert!(reply.fields.contains(&("Allow", "GET, HEAD, OPTIONS".into())));
        }
        for line in ["OPTIONS * HTTP/1.1", "OPTIONS / HTTP/1.0", "OPTIONS /health HTTP/1.1"] {
            assert_eq!(ask(line, &[]), Ok(Route::Plain(Plain::Options)), "{line}");
        }
        assert_eq!(status(&ask("OPTIONS /r HTTP/1.1", &[UPGRADE, VERSION, KEY])), 405);
        assert_eq!(status(&ask("CONNECT h:80 HTTP/1.1", &[])), 405);
    }
}
