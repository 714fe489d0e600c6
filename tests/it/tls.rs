//! TLS: certificates, handshakes, and the same promises as without it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use crate::support::client::handshake;
use crate::support::raw::{Address, Ended, Socket};
use crate::support::server::{Builder, run};
use crate::support::tls::{address, config, file, options};
use crate::support::{Client, Event, Raw, Scratch, Server, wait_until};

fn tls(more: &[&str]) -> Builder {
    let own = options();
    Server::with(&[&own.each_ref().map(String::as_str), more].concat())
}

fn both() -> Arc<ClientConfig> {
    config(&[&TLS13, &TLS12], None)
}

fn session(raw: &Raw) -> &crate::support::tls::Socket {
    let Socket::Tls(socket) = &raw.socket else { panic!("not TLS") };
    socket
}

#[test]
fn messages_of_any_size_come_back_in_both_versions() {
    let server = tls(&["--maxqueue=64m"]).cat();
    for version in [&TLS12, &TLS13] {
        let mut client = Client::connect(&address(&server, &config(&[version], None)), "/room");
        assert_eq!(session(&client.raw).session().protocol_version(), Some(version.version));
        assert_eq!(session(&client.raw).session().alpn_protocol(), Some(&b"http/1.1"[..]));
        for size in [0, 1, 125, 16_383, 16_384, 16_385, 100_000, 1_000_000] {
            let text = "x".repeat(size);
            client.send_text(&text);
            client.expect_text(&text);
        }
        client.leave();
    }
}

#[test]
fn the_announcement_says_that_there_is_tls() {
    let server = tls(&[]).cat();
    let line = server.wait_for_log(|line| line.contains("listening on "));
    assert!(line.ends_with(" tls=on"), "{line}");
}

#[test]
fn all_clients_of_a_room_get_all_messages_in_order() {
    let server = tls(&[]).cat();
    let address = address(&server, &both());
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&address, "/room")).collect();
    for client in &mut clients {
        client.expect_alive();
    }
    let texts: Vec<_> = (0..50).map(|number| format!("{number} {}", "y".repeat(number * 100))).collect();
    let (first, _) = clients.split_first_mut().expect("a client");
    for text in &texts {
        first.send_text(text);
    }
    for client in &mut clients {
        for text in &texts {
            client.expect_text(text);
        }
    }
}

#[test]
fn a_client_that_takes_nothing_is_closed_and_delays_no_other() {
    let server = tls(&["--slow=disconnect", "--maxqueue=64k", "--patience=0.2"]).cat();
    let address = address(&server, &both());
    let slow = Client::connect(&address, "/room");
    let mut fast = Client::connect(&address, "/room");
    fast.expect_alive();
    let text = "z".repeat(100_000);
    let mut sent = 0;
    while !server.log.lines().iter().any(|line| line.contains("too slow")) {
        fast.send_text(&text);
        fast.expect_text(&text);
        sent += 1;
        assert!(sent < 10_000, "a client that reads nothing stays");
    }
    drop(slow);
    fast.expect_alive();
}

#[test]
fn a_slow_reader_gets_everything_that_fits_the_queue_and_then_the_close() {
    let server = tls(&["--maxqueue=64m"]).sh("read _; head -c 3000000 /dev/zero | tr '\\0' a; echo; exit 0");
    let mut client = Client::connect(&address(&server, &both()), "/room");
    client.send_text("go");
    // Read in small pieces: the server's end of the socket is full most of the time.
    match client.next() {
        Event::Text(text) => assert_eq!((text.len(), text.trim_matches('a')), (3_000_000, "")),
        other => panic!("{other:?}"),
    }
    client.expect_close(1000);
}

#[test]
fn a_close_has_its_code_and_tls_its_close_notify() {
    // The client's `read` fails if TCP ends without a close_notify.
    for (script, code) in [("read _; exit 0", 1000), ("read _; exit 3", 1011)] {
        let server = tls(&[]).sh(script);
        let mut client = Client::connect(&address(&server, &both()), "/room");
        client.send_text("go");
        client.expect_close(code);
    }
    let server = tls(&["--idle=0.2"]).cat();
    Client::connect(&address(&server, &both()), "/room").expect_close(1008);
    let server = tls(&["--maxmessage=10"]).cat();
    let mut client = Client::connect(&address(&server, &both()), "/room");
    client.send_text("more than ten bytes");
    client.expect_close(1009);
}

#[test]
fn a_client_that_ends_tls_or_tcp_has_left() {
    let server = tls(&[]).cat();
    let address = address(&server, &both());
    let client = Client::connect(&address, "/notify");
    session(&client.raw).session().send_close_notify();
    session(&client.raw).flush().expect("sent");
    server.wait_for_log(|line| line.contains("[notify 1] client left"));
    let client = Client::connect(&address, "/fin");
    session(&client.raw).tcp.shutdown(std::net::Shutdown::Both).expect("ended");
    server.wait_for_log(|line| line.contains("[fin 2] client left"));
    let client = Client::connect(&address, "/reset");
    client.reset();
    server.wait_for_log(|line| line.contains("[reset 3] client left"));
}

#[test]
fn a_bad_record_gets_an_alert_and_the_log_says_why() {
    let server = tls(&[]).cat();
    let mut client = Client::connect(&address(&server, &both()), "/room");
    client.expect_alive();
    (&*session(&client.raw).tcp)
        .write_all(&[
            0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        ])
        .expect("sent");
    let mut buffer = [0; 16];
    let error = session(&client.raw).read(&mut buffer, Some(Duration::from_secs(20))).expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    let line = server.wait_for_log(|line| line.contains("client left"));
    assert!(line.contains("TLS: cannot decrypt"), "{line}");
}

#[test]
fn a_client_that_stops_in_a_record_times_out_and_its_bytes_are_life() {
    let server = tls(&["--ping=0.3"]).cat();
    let mut client = Client::connect(&address(&server, &both()), "/room");
    client.answers = false;
    client.expect_alive();
    // A byte of a record each 0.1 s, for longer than a silent client may live.
    let tcp = Arc::clone(&session(&client.raw).tcp);
    (&*tcp).write_all(&[0x17, 3, 3, 0x10, 0]).expect("sent");
    for _ in 0..20 {
        (&*tcp).write_all(&[7]).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!server.log.lines().iter().any(|line| line.contains("client left")), "it was alive");
    let line = server.wait_for_log(|line| line.contains("client left"));
    assert!(line.contains("no answer to a ping"), "{line}");
}

#[test]
fn half_a_handshake_times_out() {
    let server = tls(&["--handshaketimeout=0.3", "-v"]).cat();
    let mut raw = Raw::connect(server.address());
    // The head of a ClientHello that does not come.
    raw.send([0x16, 3, 1, 2, 0, 1]);
    raw.rest();
    server.wait_for_log(|line| {
        line.contains("connection without a request") && line.contains("No request in time")
    });
    // After the handshake the request has no more time.
    let mut raw = Raw::connect(&address(&server, &both()));
    session(&raw).shake_hands().expect("a handshake");
    raw.expect_end();
}

#[test]
fn http_on_a_tls_port_is_answered_in_plain_text_and_garbage_with_an_alert() {
    let server = tls(&["-v"]).cat();
    let response = server.ask("GET", "/room", "");
    assert_eq!((response.status, response.text()), (400, "This port speaks TLS: use https:// or wss://\n"));
    let mut raw = server.raw();
    raw.send(b"\x00garbage that is no record at all");
    let (bytes, ended) = raw.rest();
    // An alert (RFC 8446 §6): type, version, length, level fatal, description.
    assert_eq!((&bytes[..6], bytes.len(), ended), (&[0x15, 3, 3, 0, 2, 2][..], 7, Ended::End));
    server.wait_for_log(|line| line.contains("connection without a request") && line.contains("TLS: "));
}

#[test]
fn a_refused_connection_gets_its_answer_through_tls() {
    let server = tls(&["--maxclients=1"]).cat();
    let address = address(&server, &both());
    let mut first = Client::connect(&address, "/room");
    first.expect_alive();
    let refusal = Client::connect_with(&address, "/room", "").expect_err("no room");
    assert_eq!(refusal.status, 503);
    assert!(refusal.field("retry-after").is_some());
}

#[test]
fn files_are_served_over_one_connection() {
    let scratch = Scratch::new();
    let content: String = "0123456789\n".repeat(120_000);
    scratch.file("big.txt", &content);
    scratch.file("small.txt", "small");
    let server = tls(&[&format!("--staticdir={}", scratch.name("")), "-v"]).cat();
    let mut raw = Raw::connect(&address(&server, &both()));
    for _ in 0..3 {
        assert_eq!(raw.ask("GET", "/small.txt", "").text(), "small");
        assert_eq!(raw.ask("GET", "/big.txt", "").text(), content);
    }
    assert_eq!(raw.ask("GET", "/small.txt", "Range: bytes=1-2\r\n").text(), "ma");
    // Several requests in one record.
    raw.send("GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3));
    for _ in 0..3 {
        assert_eq!(raw.response("GET").text(), "small");
    }
    raw.send(handshake("/room", ""));
    assert_eq!(raw.response("GET").status, 101);
}

#[test]
fn the_program_sees_https() {
    let server = tls(&["--cgienv"]).sh("echo \"$HTTPS $SERVER_PORT\"; cat");
    Client::connect(&address(&server, &both()), "/room").expect_text("on 443");
    let server = Server::with(&["--cgienv"]).sh("echo \"${HTTPS-none} $SERVER_PORT\"; cat");
    server.join("/room").expect_text("none 80");
}

#[test]
fn a_client_comes_back_with_its_session() {
    let server = tls(&[]).cat();
    for version in [&TLS12, &TLS13] {
        let address = address(&server, &config(&[version], None));
        for wanted in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = Client::connect(&address, "/room");
            // Behind the tickets, which the client keeps.
            client.expect_alive();
            assert_eq!(session(&client.raw).session().handshake_kind(), Some(wanted));
            client.leave();
        }
    }
}

#[test]
fn a_client_needs_a_certificate_with_tlsca() {
    let ca = format!("--tlsca={}", file("ca.pem"));
    let server = tls(&[&ca, "-v"]).cat();
    for versions in [&[&TLS12], &[&TLS13]] {
        let address_for = |name| address(&server, &config(versions, name));
        let mut known = Client::connect(&address_for(Some("client")), "/room");
        known.send_text("hello");
        known.expect_text("hello");
        known.leave();
        for name in [None, Some("stranger")] {
            let Address::Tls(target) = address_for(name) else { panic!("not TLS") };
            let Ok(Socket::Tls(socket)) = Socket::connect(&Address::Tls(target)) else { panic!("connected") };
            // With TLS 1.3 the client learns it with the first read.
            let refused = socket
                .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                .and_then(|()| socket.read(&mut [0; 100], Some(Duration::from_secs(20))));
            let error = refused.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidData, "an alert: {error}");
        }
    }
    server.wait_for_log(|line| line.contains("peer sent no certificates"));
}

#[test]
fn a_changed_certificate_is_used_from_the_next_handshake_and_a_broken_one_is_not() {
    let scratch = Scratch::new();
    let install = |name: &str| {
        for kind in ["pem", "key"] {
            // As certificate tools do it: a file replaces the other.
            let new = scratch.path("new");
            fs::copy(file(&format!("{name}.{kind}")), &new).expect("copied");
            fs::rename(&new, scratch.path(&format!("it.{kind}"))).expect("renamed");
        }
    };
    install("server");
    let (certificate, key) = (scratch.name("it.pem"), scratch.name("it.key"));
    let server = Server::with(&["--tlscert", &certificate, "--tlskey", &key]).cat();
    // The name in the certificate that a new client gets.
    let name = || {
        let raw = Raw::connect(&address(&server, &both()));
        session(&raw).shake_hands().expect("a handshake");
        let session = session(&raw).session();
        let chain = session.peer_certificates().expect("certificates");
        ["server", "next"].into_iter().find(|name| {
            chain[0]
                .windows(name.len() + 2)
                .any(|part| part == [&[12, name.len() as u8], name.as_bytes()].concat())
        })
    };
    let mut early = Client::connect(&address(&server, &both()), "/room");
    assert_eq!(name(), Some("server"));
    install("next");
    wait_until("the new certificate is used", || name() == Some("next"));
    fs::write(&certificate, "not a certificate").expect("written");
    wait_until("the broken one is noticed", || {
        assert_eq!(name(), Some("next"));
        server.log.lines().iter().any(|line| line.contains("certificate not loaded, the old one stays"))
    });
    // Not said again.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(name(), Some("next"));
    let said = server.log.lines().iter().filter(|line| line.contains("not loaded")).count();
    assert_eq!(said, 1);
    install("server");
    wait_until("the repaired one is used", || name() == Some("server"));
    early.send_text("still here");
    early.expect_text("still here");
}

#[test]
fn a_certificate_that_became_a_fifo_or_a_device_does_not_stop_the_server() {
    let scratch = Scratch::new();
    let (certificate, key) = (scratch.name("it.pem"), scratch.name("it.key"));
    for (kind, path) in [("pem", &certificate), ("key", &key)] {
        fs::copy(file(&format!("server.{kind}")), path).expect("copied");
    }
    let server = Server::with(&["--tlscert", &certificate, "--tlskey", &key]).cat();
    let address = address(&server, &both());
    let fifo = scratch.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).expect("a FIFO");
    symlink("/dev/zero", scratch.path("device")).expect("a link");
    for (path, special, times) in [(&key, fifo, 1), (&certificate, scratch.path("device"), 2)] {
        fs::rename(special, path).expect("renamed");
        wait_until("it is noticed", || {
            Client::connect(&address, "/room").leave();
            let lines = server.log.lines();
            lines.iter().filter(|line| line.contains("it is not a regular file")).count() == times
        });
        fs::copy(file("server.key"), scratch.path("new")).expect("copied");
        fs::rename(scratch.path("new"), &key).expect("renamed");
    }
    Client::connect(&address, "/room").expect_alive();
}

#[test]
fn a_certificate_that_cannot_be_used_is_an_error_at_start() {
    let (good, key) = (file("server.pem"), file("server.key"));
    for (certificate, key, words) in [
        ("/no/such", key.as_str(), "cannot read /no/such: No such file"),
        (&good, "/no/such", "cannot read /no/such: No such file"),
        (&key, &key, "there is no certificate in it"),
        (&good, &good, "there is no private key"),
        (&good, &file("next.key"), "KeyMismatch"),
    ] {
        let output = run(&["--addr=127.0.0.1:0", "--tlscert", certificate, "--tlskey", key, "cat"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(words), "{error}");
    }
    for arguments in
        [&["--tlscert", &good, "cat"][..], &["--tlskey", &key, "cat"], &["--tlsca", &good, "cat"]]
    {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_shutdown_closes_clients_and_half_open_connections() {
    let mut server = tls(&[]).cat();
    let address = address(&server, &both());
    let mut client = Client::connect(&address, "/room");
    client.expect_alive();
    let mut half = Raw::connect(server.address());
    half.send([0x16, 3, 1]);
    server.signal(Signal::TERM);
    client.expect_close(1001);
    half.rest();
    assert_eq!(server.await_exit().code(), Some(0));
}
