//! Limits: what is refused, how, and that every place is given back.

use std::time::{Duration, Instant};

use crate::support::openmetrics::{await_value, scrape};
use crate::support::raw::Response;
use crate::support::{Client, Scratch, Server, testprog, wait_until};

/// A refusal for now: 503, one line, and when to come again.
#[track_caller]
fn expect_503(refusal: &Response, text: &str) {
    assert_eq!((refusal.status, refusal.text()), (503, format!("{text}\n").as_str()));
    let again: u32 =
        refusal.field("retry-after").and_then(|time| time.parse().ok()).expect("when to try again");
    assert!((1..=60).contains(&again));
    assert_eq!(refusal.field("connection"), Some("close"));
}

/// Lets a client in as soon as there is a place.
#[track_caller]
fn join_soon(server: &Server, target: &str) -> Client {
    let mut found = None;
    wait_until("a place is free again", || {
        found = server.ask_upgrade(target).ok();
        found.is_some()
    });
    found.expect("found")
}

#[test]
fn one_room_more_than_maxrooms_is_refused_until_one_is_gone() {
    for option in ["--maxrooms=2", "--maxforks=2"] {
        let server = Server::with(&[option]).cat();
        let (a, mut b) = (server.join("/a"), server.join("/b"));
        for _ in 0..3 {
            expect_503(&server.refused("/c", ""), "Too many rooms");
        }
        // Rooms that are there take more clients.
        drop((server.join("/a"), server.join("/b/")));
        a.leave();
        let mut c = join_soon(&server, "/c");
        expect_503(&server.refused("/a", ""), "Too many rooms");
        for client in [&mut b, &mut c] {
            client.expect_alive();
        }
        assert_eq!(server.children().len(), 2);
    }
}

#[test]
fn a_room_that_is_on_its_way_out_counts() {
    let scratch = Scratch::new();
    let script =
        format!("trap '' TERM; exec {} lock {} {}", testprog(), scratch.name("lock"), scratch.name("go"));
    let server = Server::with(&["--maxrooms=1", "--grace=60", "-v"]).sh(&script);
    let mut client = server.join("/a");
    client.expect_text("alone");
    client.leave();
    server.wait_for_line(&["signal to the process group", "[a]"]);
    expect_503(&server.refused("/b", ""), "Too many rooms");
    scratch.file("go", "");
    join_soon(&server, "/b").expect_text("alone");
}

#[test]
fn failed_starts_leave_no_room_behind() {
    let scratch = Scratch::new();
    let program = scratch.script("program", "cat");
    let server =
        Server::with(&["--maxrooms=1", "--maxroomclients=1", "--maxaddrclients=1"]).program(&[&program]);
    std::fs::remove_file(&program).expect("remove the program");
    for room in ["/a", "/b", "/b", "/c"] {
        let mut client = join_soon(&server, room);
        client.expect_close(1011);
    }
    scratch.script("program", "exec cat");
    let mut client = join_soon(&server, "/d");
    client.send_text("x");
    client.expect_text("x");
}

#[test]
fn one_client_more_than_maxroomclients_is_refused_in_that_room_until_one_left() {
    let server = Server::with(&["--maxroomclients=2", "--metrics"]).cat();
    let first = server.join("/room");
    let second = server.join("/room");
    let _other = server.join("/other");
    for _ in 0..3 {
        expect_503(&server.refused("/room", ""), "Room is full");
    }
    await_value(&server, "scalesocket_refusals_total", &[("reason", "limit")], 3.0);
    // Its place is free by the time it knows that it has left.
    first.leave();
    let third = server.join("/room");
    expect_503(&server.refused("/room", ""), "Room is full");
    second.reset();
    let _fourth = join_soon(&server, "/room");
    expect_503(&server.refused("/room", ""), "Room is full");
    drop(third);
}

#[test]
fn one_client_more_than_maxaddrclients_is_refused_with_429() {
    let server = Server::with(&["--maxaddrclients=2"]).address("127.0.0.1:0").address("[::1]:0");
    let server = if std::net::TcpListener::bind("[::1]:0").is_ok() {
        server.cat()
    } else {
        eprintln!("only half of it: there is no IPv6 here");
        Server::with(&["--maxaddrclients=2"]).cat()
    };
    let (first, _second) = (server.join("/a"), server.join("/b"));
    for _ in 0..3 {
        let refusal = server.refused("/c", "");
        assert_eq!((refusal.status, refusal.text()), (429, "Too many clients from this address\n"));
    }
    // A plain request is not a client.
    assert_eq!(server.ask("GET", "/health", "").status, 200);
    // Another address is another one.
    if let Some(address) = server.addresses().get(1) {
        drop(Client::connect(address, "/a"));
    }
    first.leave();
    let _third = join_soon(&server, "/c");
    assert_eq!(server.refused("/a", "").status, 429);
}

#[test]
fn who_was_refused_holds_no_place_however_long_it_stays() {
    let server = Server::with(&["--maxaddrclients=1", "--rooms=good"]).cat();
    let mut refused = Vec::new();
    for room in ["/bad", "/worse"] {
        // It does not end its connection when it is told.
        let mut raw = server.raw();
        raw.send(crate::support::client::handshake(room, ""));
        assert_eq!(raw.response("GET").status, 400);
        refused.push(raw);
    }
    let mut client = server.join("/good");
    client.expect_alive();
}

#[test]
fn only_the_rooms_that_are_listed_may_be() {
    let server = Server::with(&["--rooms=one,ro%20om,api,Two"]).cat();
    for room in ["/one", "/one/?x", "/ro%20om", "/Two"] {
        let mut client = server.join(room);
        client.send_text("x");
        client.expect_text("x");
    }
    for room in ["/two", "/On", "/one2", "/ro om", "/ro%20Om", "/api", "/metrics", "/health"] {
        let refusal = server.refused(room, "");
        assert_eq!(refusal.status, 400, "{room}");
        assert_eq!(refusal.field("retry-after"), None, "it is no use to come again");
    }
    assert!(server.refused("/three", "").text().contains("--rooms"));
    assert!(server.refused("/api", "").text().contains("reserved"), "listed, and reserved still");
}

#[test]
fn oneshot_ends_with_its_client_and_plain_requests_do_not_count() {
    let mut server = Server::with(&["--oneshot", "--api", "--metrics", "--rooms=room"]).cat();
    for target in ["/health", "/metrics", "/api/rooms/", "/room"] {
        server.ask("GET", target, "");
    }
    assert_eq!(server.refused("/bad", "").status, 400, "nor does who was refused");
    let mut client = server.join("/room");
    client.send_text("x");
    client.expect_text("x");
    for _ in 0..3 {
        expect_503(&server.refused("/room", ""), "Only one client is served");
    }
    assert_eq!(server.ask("GET", "/health", "").status, 200);
    client.leave();
    assert_eq!(server.await_exit().code(), Some(0));
    server.wait_for_line(&["program ended"]);
}

#[test]
fn oneshot_ends_with_status_0_whatever_the_programs_end() {
    for (script, code) in [("exit 0", 1000), ("read -r go; exit 7", 1011), ("kill -9 $$", 1011)] {
        let mut server = Server::with(&["--oneshot"]).sh(script);
        let mut client = server.join("/room");
        // It may be over already.
        let _ = client.sender().try_send(&crate::support::frame::text("go"));
        client.expect_close(code);
        assert_eq!(server.await_exit().code(), Some(0), "{script}");
    }
    // Also one that vanishes, and one whose program takes its time.
    let mut server =
        Server::with(&["--oneshot", "--grace=0.1"]).sh("trap '' TERM; while :; do sleep 0.1; done");
    drop(server.join("/room"));
    assert_eq!(server.await_exit().code(), Some(0));
    server.wait_for_line(&["program ended", "signal 9"]);
}

#[test]
fn oneshot_is_over_when_the_start_has_failed() {
    let scratch = Scratch::new();
    let program = scratch.script("program", "cat");
    let mut server = Server::with(&["--oneshot"]).program(&[&program]);
    std::fs::remove_file(&program).expect("remove the program");
    // It takes its time to say goodbye; that makes no place for another one.
    let mut first = server.join("/room");
    first.answers = false;
    assert!(matches!(first.next(), crate::support::Event::Close(1011, _)));
    expect_503(&server.refused("/room", ""), "Only one client is served");
    drop(first);
    assert_eq!(server.await_exit().code(), Some(0));
}

#[test]
fn places_are_given_back_however_a_client_goes() {
    let server =
        Server::with(&["--maxrooms=1", "--maxroomclients=1", "--maxaddrclients=1", "--metrics"]).cat();
    let start = Instant::now();
    for round in 0..30 {
        let mut client = join_soon(&server, &format!("/{round}"));
        match round % 5 {
            0 => client.leave(),
            1 => drop(client),
            2 => client.reset(),
            3 => {
                // It breaks the protocol.
                client.send([0xff]);
                client.send([0; 10]);
                client.skip_to_close(1002);
            }
            _ => {
                client.raw.end_sending();
                client.skip_to_close(1002);
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60));
    wait_until("all programs have ended", || server.children().is_empty());
    let metrics = scrape(&server);
    assert_eq!(metrics.get("scalesocket_clients_joined_total", &[]), Some(30.0));
}

#[test]
fn a_system_that_holds_only_few_connections_is_said_at_start() {
    let through = |options: &[&str]| Server::with(options).through_shell("ulimit -n 64 && exec \"$@\"").cat();
    let warning =
        ["WARN", "only few connections are possible", "connections=", "limit=\"open files (ulimit -n)\""];
    through(&[]).wait_for_line(&warning);
    let server = through(&["--maxclients=10"]);
    drop(server.join("/room"));
    assert_eq!(server.log.times(&[warning[1]]), (0, 0), "that was meant");
}
