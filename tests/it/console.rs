//! `--console`: a page to try the server by hand. How it works in a browser is tested in `tests/system/test_pages.py`.

use crate::support::raw::Response;
use crate::support::{Client, Scratch, Server};

fn is_console(response: &Response) -> bool {
    response.status == 200 && response.text().contains("<title>Websocket console</title>")
}

#[test]
fn the_console_is_at_the_root_and_at_rooms_and_nowhere_else() {
    let server = Server::with(&["--console", "--api", "--metrics"]).cat();
    for target in ["/", "/?q", "/kitchen", "/kitchen/", "/kitchen?token=1", "/ro%20om"] {
        assert!(is_console(&server.ask("GET", target, "")), "{target}");
    }
    for (target, status) in [
        ("/health", 200),
        ("/metrics", 200),
        ("/api/rooms/", 200),
        ("/api/", 404),
        ("/favicon.ico", 404),
        ("/a/b", 404),
        ("//evil.test/x", 404),
        ("*", 404),
    ] {
        let response = server.ask("GET", target, "");
        assert!(!is_console(&response) && response.status == status, "{target}: {response:?}");
    }
    assert_eq!(server.ask("POST", "/kitchen", "").status, 405);
    let mut raw = server.raw();
    let (get, head) = (raw.ask("GET", "/", ""), raw.ask("HEAD", "/", ""));
    assert_eq!((head.status, head.field("content-length")), (200, get.field("content-length")));
    assert_eq!(raw.ask("GET", "/health", "").status, 200, "the connection goes on");

    let listed = Server::with(&["--console", "--rooms=kitchen"]).cat();
    assert!(is_console(&listed.ask("GET", "/kitchen", "")));
    assert_eq!(listed.ask("GET", "/cellar", "").status, 404, "no room");
    let below = Server::with(&["--console", "--base=/chat"]).cat();
    for (target, status) in [("/chat", 200), ("/chat/", 200), ("/chat/kitchen", 200), ("/", 404)] {
        assert_eq!(below.ask("GET", target, "").status, status, "{target}");
    }
    let without = Server::cat();
    for target in ["/", "/kitchen"] {
        assert_eq!(without.ask("GET", target, "").status, 404, "{target}");
    }
}

#[test]
fn files_come_before_the_console() {
    let scratch = Scratch::new();
    scratch.file("kitchen", "a file");
    let server = Server::with(&["--console", "--staticdir", &scratch.name(".")]).cat();
    assert_eq!(server.ask("GET", "/kitchen", "").text(), "a file");
    assert!(is_console(&server.ask("GET", "/", "")));
    scratch.file("index.html", "home");
    assert_eq!(server.ask("GET", "/", "").text(), "home");
    assert!(is_console(&server.ask("GET", "/cellar", "")));
}

#[test]
fn a_room_has_its_console_and_its_websocket_at_one_path() {
    let server = Server::with(&["--console"]).cat();
    let mut raw = server.raw();
    assert!(is_console(&raw.ask("GET", "/kitchen", "")));
    raw.send(crate::support::client::handshake("/kitchen", ""));
    let mut client = Client::shake_hands(raw).expect("let in");
    client.send_text("hello");
    client.expect_text("hello");
    // A handshake whose Upgrade was lost at a proxy is not for a person's eyes.
    let response = server.ask("GET", "/kitchen", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    assert!(response.status == 404 && response.text().contains("a proxy must pass on Upgrade"));
}

#[test]
fn nothing_of_a_request_is_in_the_console() {
    let server = Server::with(&["--console"]).cat();
    let plain = server.ask("GET", "/kitchen", "");
    let fields = |response: &Response| {
        let names = ["content-security-policy", "x-content-type-options", "cache-control", "content-type"];
        names.map(|name| response.field(name).expect("a field").to_owned())
    };
    let [policy, options, cache, kind] = fields(&plain);
    assert_eq!([&*options, &*cache, &*kind], ["nosniff", "no-store", "text/html; charset=utf-8"]);
    for part in ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|other| other == part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    let long = format!("/{}", "x".repeat(250));
    for target in
        ["/<script>alert(1)<script>", "/%3Cscript%3E", "/%22onload=", "/'onload='", "/?\"><script>", &long]
    {
        for host in ["h", "evil.test:80", "[::1]:9000"] {
            let mut raw = server.raw();
            raw.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let response = raw.response("GET");
            assert_eq!((&response.body, fields(&response)), (&plain.body, fields(&plain)), "{target} {host}");
        }
    }
    // The name of a room has no slash.
    assert_eq!(server.ask("GET", "/</script>", "").status, 404);
    for host in ["h\"><script>", "h;script-src", "a b"] {
        let mut raw = server.raw();
        raw.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(raw.response("GET").status, 400, "{host}");
    }
}
