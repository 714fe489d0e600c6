//! Requests that are no websocket, and handshakes that are none.

use std::time::{Duration, Instant};

use crate::support::client::{KEY, handshake};
use crate::support::frame;
use crate::support::raw::Ended;
use crate::support::{Client, Scratch, Server};

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

#[test]
fn health_says_ok_in_json() {
    let server = Server::cat();
    for target in ["/health", "/health/", "/health?x"] {
        let response = server.ask("GET", target, "");
        assert_eq!((response.status, response.text()), (200, r#"{"status":"ok"}"#), "{target}");
        assert_eq!(response.field("content-type"), Some("application/json"));
        assert!(response.field("date").is_some_and(|date| date.ends_with(" GMT")));
        assert_eq!(response.field("server"), None, "the response names another server");
    }
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let server = Server::cat();
    let mut raw = server.raw();
    let get = raw.ask("GET", "/health", "");
    let head = raw.ask("HEAD", "/health", "");
    assert_eq!(head.status, 200);
    for name in ["content-length", "content-type", "connection"] {
        assert_eq!(head.field(name), get.field(name), "{name}");
    }
    // What comes next is an answer, and no body.
    assert_eq!(raw.ask("GET", "/nothing", "").status, 404);
}

#[test]
fn a_connection_is_kept_for_a_thousand_requests_and_the_last_answer_says_so() {
    let server = Server::cat();
    let mut raw = server.raw();
    let mut wanted = ["keep-alive"; 1000];
    wanted[999] = "close";
    for (number, wanted) in wanted.iter().enumerate() {
        let response = raw.ask("GET", "/health", "");
        assert_eq!((response.status, response.field("connection")), (200, Some(*wanted)), "{number}");
    }
    raw.expect_end();
    // The same where all of them, and more, are sent ahead.
    let mut raw = server.raw();
    raw.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1100));
    for (number, wanted) in wanted.iter().enumerate() {
        assert_eq!(raw.response("GET").field("connection"), Some(*wanted), "{number}");
    }
    raw.expect_end();
}

#[test]
fn requests_in_one_packet_are_answered_in_their_order() {
    let server = Server::cat();
    let mut raw = server.raw();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    raw.send([get("/health"), get("/nothing"), get("/health"), handshake("/room", "")].concat());
    for status in [200, 404, 200] {
        assert_eq!(raw.response("GET").status, status);
    }
    let mut client = Client::shake_hands(raw).expect("let in at last");
    client.send_text("hello");
    client.expect_text("hello");
}

#[test]
fn a_connection_closes_when_the_request_says_so() {
    let server = Server::cat();
    let mut raw = server.raw();
    let response = raw.ask("GET", "/health", "Connection: close\r\n");
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    raw.expect_end();
}

#[test]
fn http_1_0_is_answered_and_closed_unless_it_asks_otherwise() {
    let server = Server::cat();
    let mut raw = server.raw();
    raw.send("GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(raw.response("GET").text(), r#"{"status":"ok"}"#);
    raw.expect_end();
    let mut raw = server.raw();
    raw.send("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(raw.response("GET").field("connection"), Some("keep-alive"));
    assert_eq!(raw.ask("GET", "/health", "").status, 200);
    // An upgrade needs 1.1.
    let mut raw = server.raw();
    raw.send(handshake("/room", "").replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(raw.response("GET").status, 404);
}

#[test]
fn other_methods_are_405_and_say_which_are_not() {
    let server = Server::cat();
    let allow = Some("GET, HEAD, OPTIONS");
    for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH", "get"] {
        let response = server.ask(method, "/health", "");
        assert_eq!((response.status, response.field("allow")), (405, allow), "{method}");
    }
    let fields = format!("{UPGRADE}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n");
    let response = server.ask("POST", "/room", &fields);
    assert_eq!((response.status, response.field("allow")), (405, allow));
}

#[test]
fn options_returns_the_allowed_methods() {
    let server = Server::with(&["--api", "--metrics"]).cat();
    for target in ["/", "/health", "*", "/room", "/api/rooms/", "/metrics"] {
        let mut raw = server.raw();
        let response = raw.ask("OPTIONS", target, "");
        assert_eq!((response.status, response.field("allow")), (204, Some("GET, HEAD, OPTIONS")), "{target}");
        assert_eq!(raw.ask("GET", "/health", "").status, 200, "the connection goes on");
    }
    // HAProxy's check.
    let mut raw = server.raw();
    raw.send("OPTIONS / HTTP/1.0\r\n\r\n");
    assert_eq!(raw.response("OPTIONS").status, 204);
    raw.expect_end();
    assert!(server.children().is_empty(), "nothing was started");
}

#[test]
fn a_handshake_that_is_none_is_refused_with_its_reason() {
    let server = Server::cat();
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (fields, status) in [
        (format!("{UPGRADE}{key}Sec-WebSocket-Version: 8\r\n"), 426),
        (format!("{UPGRADE}{key}"), 426),
        (format!("{UPGRADE}{version}"), 400),
        (format!("{UPGRADE}{version}Sec-WebSocket-Key: c2hvcnQ=\r\n"), 400),
        (format!("{UPGRADE}{version}{key}{key}"), 400),
        (format!("Upgrade: websocket\r\n{version}{key}"), 400),
        (format!("{UPGRADE}{version}{key}Content-Length: 1\r\n"), 400),
    ] {
        let mut raw = server.raw();
        let response = raw.ask("GET", "/room", &fields);
        assert_eq!(response.status, status, "{fields}");
        let wanted = (status == 426).then_some("13");
        assert_eq!(response.field("sec-websocket-version"), wanted, "{fields}");
        // Frames may have been sent ahead, so the start of the next request is unknown.
        raw.expect_end();
    }
    assert!(server.children().is_empty(), "nothing was started");
}

/// A handshake for that target with these fields, or some of its own missing.
fn refusal(server: &Server, request: &str) -> (u16, String) {
    let mut raw = server.raw();
    raw.send(request);
    let response = raw.response("GET");
    (response.status, response.text().to_owned())
}

#[test]
fn every_refusal_says_why_in_its_body_and_in_the_log() {
    let scratch = Scratch::new();
    scratch.file("index.html", "home");
    let files = ["--staticdir", scratch.root().to_str().expect("text")];
    let plain = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let good = handshake("/room", "");
    // What nginx makes of a handshake unless it is told otherwise.
    let proxied = good.replace("HTTP/1.1", "HTTP/1.0").replace("Upgrade: websocket\r\n", "");
    let proxied = proxied.replace("Connection: Upgrade", "Connection: close");
    let a_room = "names the room, such as /kitchen";
    let one_segment = "one path segment";
    let pass_on = "a proxy must pass on Upgrade and Connection";
    let clean = "no control characters, spaces, quotes or backslashes";
    for (options, request, status, reason) in [
        (&[][..], handshake("/", ""), 404, a_room),
        (&[], handshake("/?token=secret", ""), 404, a_room),
        (&files, handshake("/", ""), 404, a_room),
        (&[], handshake("/", ""), 404, "--defaultroom NAME"),
        (&[], handshake("/app/room", ""), 404, "does a proxy leave its prefix on? --base PATH"),
        (&["--base=/app"], handshake("/room", ""), 404, "such as /app/kitchen"),
        (&["--base=/app"], handshake("/app", ""), 404, "such as /app/kitchen; --defaultroom"),
        (&["--base=/app"], handshake("/app/a/b", ""), 404, "such as /app/kitchen (--base /app)"),
        (&[], handshake("//room", ""), 404, one_segment),
        (&[], handshake("/api", ""), 400, "reserved"),
        (&[], handshake("/favicon.ico?token=secret", ""), 400, "reserved"),
        (&[], handshake("/a\"b", ""), 400, clean),
        (&[], handshake("/room?token=secret\"", ""), 400, clean),
        (&[], handshake(&format!("/{}", "x".repeat(257)), ""), 400, "at most 256 bytes"),
        (&["--rooms=one"], handshake("/two", ""), 400, "--rooms"),
        (&[], proxied.clone(), 404, pass_on),
        (&files, proxied, 404, pass_on),
        (&[], good.replace("Version: 13", "Version: 8"), 426, "Only websocket version 13"),
        (&[], good.replace(KEY, "x"), 400, "Sec-WebSocket-Key must be 16 bytes"),
        (&[], good.replace("Connection: Upgrade", "Connection: close"), 400, "a proxy must pass on both"),
        (&[], good.replace("GET", "POST"), 405, "A websocket handshake is a GET"),
        (&[], good.replace("Host:", "Most:"), 400, "no Host field"),
    ] {
        let server = Server::with(options).cat();
        let (seen, text) = refusal(&server, &request);
        assert!(seen == status && text.contains(reason), "{request}: {seen} {text}");
        assert!(text.starts_with(char::is_uppercase) && text.find('\n') == Some(text.len() - 1), "{text:?}");
        let line = server.wait_for_line(&["WARN", "refused", &format!("status={status}"), reason]);
        assert!(line.contains("reason=\"") && !line.contains("secret") && !line.contains("[]"), "{line}");
    }
    // Who is no client that went astray is told nothing about rooms, and is not worth a line.
    let server = Server::with(&files).cat();
    assert_eq!(refusal(&server, &plain("/nothing")), (404, "Not found\n".to_owned()));
    let server = Server::cat();
    assert_eq!(refusal(&server, &plain("/")), (404, "Not found\n".to_owned()));
    assert_eq!(refusal(&server, &plain("/favicon.ico")), (404, "Not found\n".to_owned()));
    let server = Server::with(&["-v"]).cat();
    let (status, text) = refusal(&server, &plain("/room"));
    assert!(status == 404 && text.contains(pass_on), "{text}");
    server.wait_for_line(&["DEBUG", "request", "path=/room status=404", pass_on]);
    assert!(!server.log.lines().iter().any(|line| line.contains("refused")));
}

#[test]
fn no_extension_is_agreed_on() {
    let server = Server::cat();
    let mut raw = server.raw();
    raw.send(handshake("/room", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    let response = raw.response("GET");
    assert_eq!((response.status, response.field("sec-websocket-extensions")), (101, None));
}

#[test]
fn a_subprotocol_that_the_client_offers_is_named_if_it_may_be() {
    // One field a line.
    let check = |options: &[&str], cases: &[(&str, Option<&str>)]| {
        let server = Server::with(options).cat();
        for (offered, wanted) in cases {
            let fields: Vec<_> =
                offered.lines().map(|list| format!("Sec-WebSocket-Protocol: {list}\r\n")).collect();
            let mut raw = server.raw();
            raw.send(handshake("/room", &fields.concat()));
            let response = raw.response("GET");
            assert_eq!(
                (response.status, response.field("sec-websocket-protocol")),
                (101, *wanted),
                "{offered}"
            );
            assert_eq!(response.fields.len(), 3 + usize::from(wanted.is_some()), "{response:?}");
        }
    };
    let long = "x".repeat(10_000);
    check(
        &[],
        &[
            ("", None),
            ("mcp", Some("mcp")),
            ("mcp, chat\nmqtt", Some("mcp")),
            ("bearer.secret, chat", Some("chat")),
            ("bearer.secret", Some("bearer.secret")),
            (&long, Some(&long)),
        ],
    );
    check(
        &["--protocol", "chat,mcp"],
        &[("", None), ("graphql\nmcp , chat", Some("mcp")), ("graphql", None), ("Chat", None)],
    );
    check(&["--protocol="], &[("mcp", None), ("bearer.secret", None)]);
}

#[test]
fn a_subprotocol_that_is_no_token_is_refused_and_never_repeated() {
    let server = Server::cat();
    for value in ["", ",", "a b", "a\"", "a, b;c", "a\rb", "a\u{e4}", "<script>", "a\tSet-Cookie: b"] {
        let response = server.refused("/room", &format!("Sec-WebSocket-Protocol: {value}\r\n"));
        assert_eq!(response.status, 400, "{value:?}");
        assert!(response.field("sec-websocket-protocol").is_none() && !response.text().contains("script"));
    }
    assert!(server.children().is_empty(), "nothing was started");
}

#[test]
fn what_is_no_http_is_400() {
    let server = Server::cat();
    for bytes in [
        &b"GET /\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nBad name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x01b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
        b"hello\r\n\r\n",
    ] {
        let mut raw = server.raw();
        raw.send(bytes);
        let response = raw.response("GET");
        assert_eq!(response.status, 400, "{}: {}", bytes.escape_ascii(), response.text());
        raw.expect_end();
    }
    let mut raw = server.raw();
    raw.send("GET / HTTP/2.0\r\nHost: h\r\n\r\n");
    assert_eq!(raw.response("GET").status, 505);
}

#[test]
fn a_head_above_the_limit_is_431_and_one_at_the_limit_is_accepted() {
    let server = Server::cat();
    let field = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    let many = |number: usize| "X: x\r\n".repeat(number);
    for (fields, status) in [
        (field(15 * 1024), 200),
        (field(17 * 1024), 431),
        (field(10 * 1024 * 1024), 431),
        // One more is `Host`.
        (many(99), 200),
        (many(100), 431),
    ] {
        let mut raw = server.raw();
        let request = format!("GET /health HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut sender = crate::support::Raw::over(raw.socket.try_clone());
        let sending = std::thread::spawn(move || {
            // Beyond a mebibyte it is not taken any more.
            let _ = sender.try_send(request);
        });
        assert_eq!(raw.response("GET").status, status, "{} bytes", fields.len());
        if status == 431 && fields.len() < 1024 * 1024 {
            raw.expect_end();
        }
        raw.socket.shutdown(std::net::Shutdown::Both);
        sending.join().expect("sent");
    }
}

#[test]
fn a_request_with_a_body_is_answered_and_the_connection_closed() {
    let server = Server::cat();
    for (method, status) in [("GET", 200), ("POST", 405)] {
        let mut raw = server.raw();
        let body = "x".repeat(500_000);
        raw.send(format!(
            "{method} /health HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let response = raw.response(method);
        assert_eq!((response.status, response.field("connection")), (status, Some("close")));
        assert_eq!(raw.rest(), (Vec::new(), Ended::End), "no reset may eat the answer");
    }
}

#[test]
fn a_plain_get_on_a_room_is_404_and_starts_nothing() {
    let server = Server::cat();
    for target in ["/room", "/", "/a/b", "/api/rooms", "/metrics"] {
        assert_eq!(server.ask("GET", target, "").status, 404, "{target}");
    }
    assert!(server.children().is_empty(), "nothing was started");
}

#[test]
fn by_default_only_pages_of_the_same_host_may_connect() {
    let server = Server::cat();
    for (origin, welcome) in [
        (None, true),
        (Some("http://localhost"), true),
        (Some("https://localhost:3000"), true),
        (Some("http://127.0.0.1:8080"), true),
        (Some("http://[::1]"), true),
        (Some("http://evil.example"), false),
        (Some("http://localhost.evil.example"), false),
        (Some("null"), false),
        (Some("evil"), false),
    ] {
        let field = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let joined = Client::connect_with(server.address(), "/room", &field);
        assert_eq!(
            joined.as_ref().err().map(|response| response.status),
            (!welcome).then_some(403),
            "{origin:?}"
        );
    }
    server.wait_for_line(&["WARN", "--origin http://evil.example"]);
}

#[test]
fn origin_names_who_may_connect_instead() {
    let server = Server::with(&["--origin", "https://example.com,other.example:8080"]).cat();
    for (origin, welcome) in [
        ("https://example.com", true),
        ("http://example.com", false),
        ("http://other.example:8080", true),
        ("http://other.example", false),
        ("http://localhost", false),
    ] {
        let joined = Client::connect_with(server.address(), "/room", &format!("Origin: {origin}\r\n"));
        assert_eq!(joined.is_ok(), welcome, "{origin}");
    }
    let server = Server::with(&["--origin", "*"]).cat();
    for origin in ["http://evil.example", "null"] {
        let joined = Client::connect_with(server.address(), "/room", &format!("Origin: {origin}\r\n"));
        assert!(joined.is_ok(), "{origin}");
    }
}

#[test]
fn a_response_that_is_not_read_does_not_delay_others() {
    let server = Server::cat();
    let mut deaf = server.raw();
    let request = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100);
    deaf.send(&request);
    let start = Instant::now();
    assert_eq!(server.ask("GET", "/health", "").status, 200);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_request_of_a_handshake_may_come_byte_by_byte() {
    let server = Server::cat();
    let mut raw = server.raw();
    for byte in [handshake("/room", "").as_bytes(), &frame::text("hello")].concat() {
        raw.send([byte]);
    }
    Client::shake_hands(raw).expect("let in").expect_text("hello");
}

#[test]
fn every_path_begins_with_the_base_and_a_404_names_it() {
    let scratch = Scratch::new();
    scratch.file("index.html", "home");
    std::fs::create_dir(scratch.path("sub")).expect("a directory");
    let files =
        ["--base=/app/x/", "--api", "--metrics", "--staticdir", scratch.root().to_str().expect("text")];
    let server = Server::with(&files).sh("echo \"$ROOM\"; cat");
    let mut client = server.join("/app/x/room");
    client.expect_text("room");
    for (target, text) in [
        ("/app/x/health", "{\"status\":\"ok\"}"),
        ("/app/x/api/rooms/", "[{\"connections\":1,\"metadata\":null,\"name\":\"room\"}]"),
        ("/app/x/api/room/connections", "1"),
        ("/app/x/", "home"),
    ] {
        let response = server.ask("GET", target, "");
        assert_eq!((response.status, response.text()), (200, text), "{target}");
    }
    assert!(server.ask("GET", "/app/x/metrics", "").text().ends_with("# EOF\n"));
    for (target, location) in
        [("/app/x", "/app/x/"), ("/app/x?q", "/app/x/?q"), ("/app/x/sub", "/app/x/sub/")]
    {
        let response = server.ask("GET", target, "");
        assert_eq!((response.status, response.field("location")), (301, Some(location)), "{target}");
    }
    for target in
        ["/health", "/metrics", "/api/rooms/", "/", "/app", "/app/xroom", "/app/y/health", "/index.html"]
    {
        let response = server.ask("GET", target, "");
        assert!(
            response.status == 404 && response.text().contains("/app/x"),
            "{target}: {}",
            response.text()
        );
    }
    // Load balancers ask for these without knowing more.
    assert_eq!(server.ask("OPTIONS", "/", "").status, 204);
}

#[test]
fn the_path_without_a_name_is_the_default_room() {
    let server = Server::with(&["--defaultroom=lobby"]).sh("echo \"$ROOM\"; cat");
    let mut first = server.join("/");
    first.expect_text("lobby");
    let mut second = server.join("/lobby");
    let mut third = server.join("/?query");
    third.send_text("hello");
    for client in [&mut first, &mut second, &mut third] {
        client.expect_text("hello");
    }
    assert_eq!(server.refused("//", "").status, 404);
    let server = Server::with(&["--base=/app", "--defaultroom=lobby"]).sh("echo \"$ROOM\"; cat");
    for target in ["/app", "/app/"] {
        let mut client = server.join(target);
        client.expect_text("lobby");
        // The next one is to find a program of its own.
        client.leave();
    }
}

#[test]
fn a_process_for_each_client_needs_no_name_of_a_room() {
    for share in ["client", "server"] {
        let server = Server::with(&["--share", share]).cat();
        for target in ["/", "/?query"] {
            let mut client = server.join(target);
            client.send_text("hello");
            client.expect_text("hello");
            client.leave();
        }
        assert_eq!(server.refused("/a/b", "").status, 404);
    }
}

#[test]
fn header_fields_are_on_every_response_of_their_kind() {
    let options = ["--header=X-All: a, b", "--header-http=X-Http: h", "--header-ws=X-Ws: w"];
    let files = ["--header=Cache-Control: private", "--api"];
    let server = Server::with(&[&options[..], &files].concat()).cat();
    let fields = |response: &crate::support::raw::Response| {
        ["x-all", "x-http", "x-ws"].map(|name| response.field(name).map(str::to_owned))
    };
    let of = |values: [Option<&str>; 3]| values.map(|value| value.map(str::to_owned));
    let (http, ws) = (of([Some("a, b"), Some("h"), None]), of([Some("a, b"), None, Some("w")]));
    let mut raw = server.raw();
    for (target, status) in [("/health", 200), ("/nothing/at/all", 404), ("/api/rooms/", 200)] {
        let response = raw.ask("GET", target, "");
        assert_eq!((response.status, fields(&response)), (status, http.clone()), "{target}");
    }
    let response = raw.ask("GET", "/api/rooms/", "");
    assert_eq!(response.field("cache-control"), Some("private"), "in place of the server's own");
    raw.send(handshake("/room", ""));
    let response = raw.response("GET");
    assert_eq!((response.status, fields(&response)), (101, ws));
    let refused = server.refused("/api", "");
    assert_eq!((refused.status, fields(&refused)), (400, http.clone()));
    let mut bad = server.raw();
    bad.send("nonsense\r\n\r\n");
    assert_eq!(fields(&bad.response("GET")), http);
    // A connection that is refused before it is read.
    let server = Server::with(&[&options[..], &["--maxclients=1"]].concat()).cat();
    let _client = server.join("/room");
    let response = server.ask("GET", "/health", "");
    assert_eq!((response.status, fields(&response)), (503, http));
}
