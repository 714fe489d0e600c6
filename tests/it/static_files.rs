//! `--staticdir`: the files of one directory, and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::support::raw::{Address, Socket};
use crate::support::{DEADLINE, Raw, Scratch, Server};

/// A directory with all kinds of files; outside of it, a file that must not be served.
fn site() -> (Scratch, Server) {
    let scratch = Scratch::new();
    scratch.file("secret.txt", "secret");
    fs::create_dir_all(scratch.path("site/sub")).expect("create directories");
    fs::create_dir_all(scratch.path("site/.git")).expect("create directories");
    fs::create_dir(scratch.path("site/empty")).expect("create a directory");
    scratch.file("site/index.html", "<h1>home</h1>");
    scratch.file("site/sub/index.html", "<h1>sub</h1>");
    scratch.file("site/app.js", "let a;");
    scratch.file("site/a b.txt", "0123456789");
    scratch.file("site/data.bin", [0, 255, 10, 13]);
    scratch.file("site/.hidden", "hidden");
    scratch.file("site/.git/config", "hidden");
    symlink("../secret.txt", scratch.path("site/out.txt")).expect("a link");
    symlink(scratch.path("secret.txt"), scratch.path("site/absolute.txt")).expect("a link");
    symlink("..", scratch.path("site/up")).expect("a link");
    symlink("app.js", scratch.path("site/link.js")).expect("a link");
    let server = Server::with(&["--staticdir", &scratch.name("site")]).cat();
    (scratch, server)
}

#[test]
fn files_and_indexes_come_with_their_types() {
    let (_scratch, server) = site();
    for (target, kind, body) in [
        ("/", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/?q", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/index.html", "text/html; charset=utf-8", "<h1>home</h1>"),
        ("/sub/", "text/html; charset=utf-8", "<h1>sub</h1>"),
        ("/app.js", "text/javascript; charset=utf-8", "let a;"),
        ("/link.js", "text/javascript; charset=utf-8", "let a;"),
        ("/a%20b.txt", "text/plain; charset=utf-8", "0123456789"),
    ] {
        let response = server.ask("GET", target, "");
        assert_eq!((response.status, response.text()), (200, body), "{target}");
        assert_eq!(response.field("content-type"), Some(kind), "{target}");
        let head = server.ask("HEAD", target, "");
        assert_eq!(head.status, 200);
        for name in ["content-length", "content-type", "etag", "last-modified"] {
            assert!(
                head.field(name).is_some() && head.field(name) == response.field(name),
                "{target} {name}"
            );
        }
    }
    let response = server.ask("GET", "/data.bin", "");
    assert_eq!(response.body, [0, 255, 10, 13]);
    assert_eq!(response.field("content-type"), Some("application/octet-stream"));
    let response = server.ask("GET", "/sub?q", "");
    assert_eq!((response.status, response.field("location")), (301, Some("/sub/?q")));
    let health = server.ask("GET", "/health", "");
    assert_eq!(health.text(), r#"{"status":"ok"}"#);
}

#[test]
fn there_is_no_way_out_no_dotfile_and_no_listing() {
    let (_scratch, server) = site();
    for target in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/sub/..%2f..%2fsecret.txt",
        "/.%2e/secret.txt",
        "/%252e%252e/secret.txt",
        "/..\\secret.txt",
        "//etc/passwd",
        "/out.txt",
        "/absolute.txt",
        "/up/secret.txt",
        "/up/",
        "/.hidden",
        "/%2ehidden",
        "/.git/config",
        "/sub/.",
        "/empty/",
        "/nothing",
        "/app.js/",
        "/app.js/x",
    ] {
        let response = server.ask("GET", target, "");
        assert!(matches!(response.status, 400 | 404), "{target}: {response:?}");
        assert!(!response.text().contains("secret") && !response.text().contains("hidden"), "{target}");
    }
    let response = server.ask("GET", "/a%00b", "");
    assert_eq!(response.status, 400);
}

#[test]
fn ranges_give_a_part() {
    let (_scratch, server) = site();
    for (range, status, place, body) in [
        ("bytes=0-3", 206, Some("bytes 0-3/10"), "0123"),
        ("bytes=7-", 206, Some("bytes 7-9/10"), "789"),
        ("bytes=-2", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=5-100", 206, Some("bytes 5-9/10"), "56789"),
        ("lines=1-2", 200, None, "0123456789"),
    ] {
        let response = server.ask("GET", "/a%20b.txt", &format!("Range: {range}\r\n"));
        assert_eq!((response.status, response.text()), (status, body), "{range}");
        assert_eq!(response.field("content-range"), place, "{range}");
    }
    let response = server.ask("GET", "/a%20b.txt", "Range: bytes=10-\r\n");
    assert_eq!((response.status, response.field("content-range")), (416, Some("bytes */10")));
}

#[test]
fn what_the_client_has_is_not_sent_again_until_it_changes() {
    let (scratch, server) = site();
    let first = server.ask("GET", "/app.js", "");
    let tag = first.field("etag").expect("a tag").to_owned();
    let date = first.field("last-modified").expect("a date").to_owned();
    for fields in [format!("If-None-Match: {tag}\r\n"), format!("If-Modified-Since: {date}\r\n")] {
        let mut raw = server.raw();
        let response = raw.ask("GET", "/app.js", &fields);
        assert_eq!(response.status, 304, "{fields}");
        assert_eq!(response.field("etag"), Some(tag.as_str()));
        // No body comes behind it.
        assert_eq!(raw.ask("GET", "/app.js", "").status, 200);
    }
    scratch.file("site/app.js", "let changed;");
    let response = server.ask("GET", "/app.js", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((response.status, response.text()), (200, "let changed;"));
}

#[test]
fn a_page_and_its_websocket_come_from_one_port() {
    let (_scratch, server) = site();
    let origin = format!("Origin: http://localhost:{}\r\n", server.address().port());
    assert_eq!(server.ask("GET", "/", "").text(), "<h1>home</h1>");
    let mut client = crate::support::Client::connect_with(server.address(), "/sub", &origin).expect("let in");
    client.send_text("hello");
    client.expect_text("hello");
}

#[test]
fn a_large_file_comes_whole_also_while_a_room_is_busy() {
    let (scratch, server) = site();
    let content: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
    scratch.file("site/large.bin", &content);
    let mut client = server.join("/room");
    let mut raw = server.raw();
    raw.send("GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    for _ in 0..100 {
        client.send_text("x");
        client.expect_text("x");
    }
    assert!(raw.response("GET").body == content);
}

/// Reads a little again and again: 40 kB/s, of a link that is no faster.
fn sip(raw: &mut Raw) -> std::io::Result<usize> {
    let mut piece = [0; 2048];
    let read = raw.socket.read(&mut piece, DEADLINE)?;
    raw.buffer.extend_from_slice(&piece[..read]);
    std::thread::sleep(Duration::from_millis(50));
    Ok(read)
}

fn on_a_slow_link(server: &Server) -> Raw {
    let Address::Tcp(address) = server.address() else { panic!("a TCP address") };
    // A program that another test starts meanwhile must not keep it open.
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
    let socket = socket.expect("a socket");
    // Before connecting: the window's scale is agreed on then (tcp(7)).
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 * 1024).expect("a small buffer");
    rustix::net::connect(&socket, address).expect("connect");
    Raw::over(Socket::Tcp(socket.into()))
}

#[test]
fn a_download_over_a_slow_link_arrives_whole() {
    let (scratch, server) = site();
    let content: Vec<u8> = (0..=250).cycle().take(6 << 20).collect();
    scratch.file("site/large.bin", &content);
    let mut raw = on_a_slow_link(&server);
    raw.send("GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    // Longer than a client may take nothing. The kernel, which has megabytes to send, does not call the
    // socket writable in this time.
    let until = Instant::now() + Duration::from_secs(13);
    while Instant::now() < until {
        assert!(sip(&mut raw).expect("more of it") > 0, "cut off after {} bytes", raw.buffer.len());
    }
    assert!(raw.response("GET").body == content);
}

#[test]
fn the_end_of_the_server_waits_a_second_for_a_download() {
    let (scratch, mut server) = site();
    fs::File::create(scratch.path("site/large.bin")).and_then(|file| file.set_len(64 << 20)).expect("a file");
    let mut raw = on_a_slow_link(&server);
    raw.send("GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    sip(&mut raw).expect("the beginning");
    let reader = std::thread::spawn(move || while sip(&mut raw).is_ok_and(|read| read > 0) {});
    let (status, time) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(time < Duration::from_secs(4), "{time:?}");
    let line = server.log.all_lines().into_iter().find(|line| line.contains("response cut off"));
    assert!(line.is_some_and(|line| line.contains("shutting down")), "it is logged");
    drop(reader);
}
