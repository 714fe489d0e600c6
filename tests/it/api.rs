//! Rooms as JSON under `/api/`: reading tells what is, and creates nothing.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::openmetrics::scrape;
use crate::support::{DEADLINE, Server, wait_until};

/// The body of a GET, which is JSON.
#[track_caller]
fn get(server: &Server, target: &str) -> Value {
    let response = server.ask("GET", target, "");
    assert_eq!(
        (response.status, response.field("content-type")),
        (200, Some("application/json")),
        "{target}"
    );
    serde_json::from_str(response.text()).unwrap_or_else(|e| panic!("{target}: {e}: {}", response.text()))
}

/// The list of all rooms.
fn rooms(server: &Server) -> Value {
    get(server, "/api/rooms/")
}

#[test]
fn the_api_shows_rooms_with_clients_and_metadata() {
    let server = Server::with(&["--api", "--serverframe=json"]).cat();
    assert_eq!(server.ask("GET", "/api/rooms/", "").text(), "[]");
    let mut first = server.member("/one");
    let second = server.member("/one");
    let _third = server.member("/ro%20om'<>&");
    first.send_text(r#"{"_meta":true,"players":[1,2]}"#);
    first.expect_alive();
    // It has passed through the program when the next thing has.
    first.send_text("mark");
    first.expect_text("mark");
    let meta = json!({"players": [1, 2]});
    let one = json!({"connections": 2, "metadata": meta, "name": "one"});
    let other = json!({"connections": 1, "metadata": null, "name": "ro%20om'<>&"});
    assert_eq!(rooms(&server), json!([one, other]));
    assert_eq!(get(&server, "/api/rooms"), get(&server, "/api/rooms/"));
    for (target, wanted) in [
        ("/api/one/", one.clone()),
        ("/api/one", one.clone()),
        ("/api/one?x=y", one.clone()),
        ("/api/one/anything", one),
        ("/api/one/connections", json!(2)),
        ("/api/one/connections/", json!(2)),
        ("/api/one/metadata", meta.clone()),
        ("/api/one/metadata/", meta),
        ("/api/ro%20om'<>&/connections", json!(1)),
        ("/api/nobody", json!({"connections": 0, "metadata": null, "name": "nobody"})),
        ("/api/nobody/connections", json!(0)),
        ("/api/nobody/metadata", Value::Null),
    ] {
        assert_eq!(get(&server, target), wanted, "{target}");
    }
    for target in ["/api", "/api/", "/api//", "/api/one/two/three", "/apis/one"] {
        assert_eq!(server.ask("GET", target, "").status, 404, "{target}");
    }
    second.leave();
    assert_eq!(get(&server, "/api/one/connections"), json!(1), "who knows that it has left has left");
    first.leave();
    wait_until("the room is gone", || rooms(&server).as_array().is_some_and(|rooms| rooms.len() == 1));
    assert_eq!(get(&server, "/api/one"), json!({"connections": 0, "metadata": null, "name": "one"}));
}

#[test]
fn hostile_metadata_leaves_the_list_of_rooms_small_and_valid() {
    let server = Server::with(&["--api", "--metrics", "--serverframe=json"]).cat();
    let mut hostile = server.member("/hostile");
    let mut honest = server.member("/honest");
    honest.send_text(r#"{"_meta":true,"players":3}"#);
    honest.send_text("mark");
    honest.expect_text("mark");
    // The last one that was fit stays.
    hostile.send_text(r#"{"_meta":true,"first":1}"#);
    let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let unfit = [
        format!(r#"{{"_meta":true,"a":"{}"}}"#, "x".repeat(64 * 1024)),
        format!(r#"{{"_meta":true{}}}"#, r#","a":1"#.repeat(50_000)),
        format!(r#"{{"_meta":true,"a":{nested}}}"#),
        r#"{"_meta":true,"a":"\ud800"}"#.to_owned(),
        r#"{"_meta":true,"a":1e999}"#.to_owned(),
    ];
    for metadata in &unfit {
        hostile.send_text(metadata);
    }
    // No metadata at all, for it is nested even deeper or no JSON.
    hostile.send_text(&format!(r#"{{"_meta":true,"a":{}{}}}"#, "[".repeat(128), "]".repeat(128)));
    hostile.send_text("mark");
    hostile.expect_text("mark");
    let wanted = |metadata: Value, name: &str| json!({"connections": 1, "metadata": metadata, "name": name});
    let honest_room = wanted(json!({"players": 3}), "honest");
    assert_eq!(rooms(&server), json!([honest_room, wanted(json!({"first": 1}), "hostile")]));
    let dropped = |reason| scrape(&server).get("scalesocket_messages_dropped_total", &[("reason", reason)]);
    assert_eq!(dropped("metadata"), Some(unfit.len() as f64));
    assert_eq!(dropped("malformed header"), Some(1.0));
    server.wait_for_line(&["WARN", "[hostile]", "metadata of the program discarded"]);
    // As much as is allowed, and bytes that are no text.
    let most = "x".repeat(64 * 1024 - 8);
    hostile.send_text(&format!(r#"{{"_meta":true,"a":"{most}"}}"#));
    hostile.send_text("mark");
    hostile.expect_text("mark");
    assert_eq!(get(&server, "/api/hostile/metadata"), json!({"a": most}));
    hostile.send_binary(b"{\"_meta\":true,\"a\":\"\xff\"}");
    hostile.send_text("mark");
    hostile.expect_text("mark");
    assert_eq!(get(&server, "/api/hostile/metadata"), json!({"a": "\u{fffd}"}));
}

#[test]
fn reading_creates_nothing() {
    let server = Server::with(&["--api", "--metrics"]).cat();
    let client = server.member("/room");
    let (listing, before) = (rooms(&server), scrape(&server));
    let mut raw = server.raw();
    for number in 0..200 {
        let target = match number % 4 {
            0 => format!("/api/new{number}/connections"),
            1 => format!("/api/new{number}"),
            2 => format!("/api/new{number}/metadata"),
            _ => format!("/new{number}"),
        };
        if number % 100 == 50 {
            raw = server.raw();
        }
        let status = raw.ask("GET", &target, "").status;
        assert_eq!(status, if number % 4 == 3 { 404 } else { 200 }, "{target}");
    }
    assert_eq!(rooms(&server), listing);
    let after = scrape(&server);
    assert_eq!(after.len(), before.len(), "no series more");
    assert_eq!(after.labels("scalesocket_websocket_connections_total", "room"), ["room"]);
    assert_eq!(server.children().len(), 1);
    drop(client);
}

#[test]
fn pages_that_may_connect_may_read() {
    let allowed = |server: &Server, fields: &str| {
        let response = server.ask("GET", "/api/rooms/", fields);
        assert_eq!(response.status, 200, "who is no browser reads anyway");
        assert!(
            response.field("access-control-allow-origin") == Some("*")
                || response.field("vary") == Some("Origin"),
            "a cache must not mix them up: {response:?}"
        );
        response.field("access-control-allow-origin").map(str::to_owned)
    };
    let server = Server::with(&["--api"]).cat();
    for (origin, wanted) in [
        ("http://localhost", true),
        ("http://localhost:8080", true),
        ("https://evil.example", false),
        ("null", false),
        ("http://localhost.evil.example", false),
    ] {
        let granted = allowed(&server, &format!("Origin: {origin}\r\n"));
        assert_eq!(granted.as_deref(), wanted.then_some(origin));
    }
    assert_eq!(allowed(&server, ""), None);
    let server = Server::with(&["--api", "--origin=https://game.example"]).cat();
    for (origin, wanted) in [("https://game.example", true), ("http://localhost", false)] {
        let granted = allowed(&server, &format!("Origin: {origin}\r\n"));
        assert_eq!(granted.as_deref(), wanted.then_some(origin));
    }
    let server = Server::with(&["--api", "--origin=*"]).cat();
    assert_eq!(allowed(&server, "Origin: https://evil.example\r\n").as_deref(), Some("*"));
    assert_eq!(allowed(&server, "").as_deref(), Some("*"));
}

#[test]
fn head_has_the_fields_of_get_and_nothing_is_stored() {
    let server = Server::with(&["--api", "--metrics"]).cat();
    for target in ["/api/rooms/", "/api/room/", "/api/room/connections", "/api/room/metadata"] {
        let (get, head) = (server.ask("GET", target, ""), server.ask("HEAD", target, ""));
        assert_eq!(head.status, 200);
        for name in ["content-length", "content-type", "cache-control", "vary"] {
            assert_eq!(get.field(name), head.field(name), "{name} of {target}");
        }
        assert_eq!(get.field("cache-control"), Some("no-store"));
        assert!(head.body.is_empty());
    }
    assert_eq!(server.ask("HEAD", "/metrics", "").status, 200);
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(server.ask(method, "/api/rooms/", "Content-Length: 0\r\n").status, 405, "{method}");
    }
}

#[test]
fn neither_api_nor_metrics_are_there_unless_asked_for() {
    for (options, api, metrics) in [
        (&[] as &[&str], 404, 404),
        (&["--api"], 200, 404),
        (&["--metrics"], 404, 200),
        (&["--metrics=global"], 404, 200),
    ] {
        let server = Server::with(options).cat();
        let _client = server.join("/room");
        for target in ["/api/rooms/", "/api/rooms", "/api/room", "/api/room/connections"] {
            assert_eq!(server.ask("GET", target, "").status, api, "{target} with {options:?}");
        }
        for target in ["/metrics", "/metrics/"] {
            assert_eq!(server.ask("GET", target, "").status, metrics, "{target} with {options:?}");
        }
    }
}

#[test]
fn rooms_are_listed_in_the_order_of_their_names() {
    let server = Server::with(&["--api"]).cat();
    let names = ["b", "a", "B", "ab", "\u{e9}", "a%20b", "z", "10", "9"];
    let _clients: Vec<_> = names.iter().map(|name| server.member(&format!("/{name}"))).collect();
    let listed = rooms(&server);
    let listed: Vec<_> =
        listed.as_array().expect("a list").iter().map(|room| room["name"].as_str()).collect();
    assert_eq!(listed, ["10", "9", "B", "a", "a%20b", "ab", "b", "z", "\u{e9}"].map(Some));
}

/// Metadata of so many bytes, as its program says it.
fn large_metadata(bytes: usize) -> String {
    format!(r#"{{"_meta":true,"x":"{}"}}"#, "x".repeat(bytes))
}

#[test]
fn a_list_that_is_not_read_holds_no_copy_of_the_rooms() {
    let server = Server::with(&["--api", "--serverframe=json"]).cat();
    let metadata = large_metadata(60_000);
    // More than the kernel's buffers of a connection take.
    let clients: Vec<_> = (0..150)
        .map(|room| {
            let mut client = server.member(&format!("/{room:03}"));
            client.send_text(&metadata);
            client.send_text("mark");
            client.expect_text("mark");
            client
        })
        .collect();
    let list = server.ask("GET", "/api/rooms/", "");
    assert!(list.body.len() > 150 * 60_000);
    let listed: Value = serde_json::from_slice(&list.body).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(150));
    assert!(listed.as_array().is_some_and(|rooms| rooms.iter().all(|room| room["connections"] == 1)));

    let before = server.rss();
    let idle: Vec<_> = (0..40)
        .map(|_| {
            let mut raw = server.raw();
            raw.send("GET /api/rooms/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
            // It is being answered.
            while raw.buffer.len() < 1000 {
                assert_eq!(raw.fill(Instant::now() + DEADLINE), None);
            }
            raw
        })
        .collect();
    // 40 lists are 360 MB.
    let more = server.rss().saturating_sub(before);
    assert!(more < 64 * 1024, "{more} KiB more");
    drop(idle);

    // An old client, which knows no chunks, is told the end by the end of the connection.
    let mut raw = server.raw();
    raw.send("GET /api/rooms/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (bytes, _) = raw.rest();
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("Connection: close") && !head.contains("Transfer-Encoding"), "{head}");
    assert_eq!(body.as_bytes(), list.body);
    // After chunks the connection goes on.
    let mut raw = server.raw();
    for _ in 0..2 {
        assert_eq!(raw.ask("GET", "/api/rooms/", "").body, list.body);
        assert_eq!(raw.ask("HEAD", "/api/rooms/", "").field("transfer-encoding"), Some("chunked"));
    }
    drop(clients);
}
