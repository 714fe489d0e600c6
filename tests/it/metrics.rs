//! Metrics: in the format, true, and bounded.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::openmetrics::{Metrics, await_value, scrape};
use crate::support::{Client, Scratch, Server, wait_until};

const JOINED: &str = "scalesocket_websocket_connections_total";
const OPEN: &str = "scalesocket_websocket_connections_open";

fn counter(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    let value = metrics.get(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"));
    value.to_string().parse().expect("a whole number")
}

#[test]
fn the_text_is_openmetrics() {
    let server = Server::with(&["--metrics"]).cat();
    for clients in 0..3 {
        let response = server.ask("GET", "/metrics", "");
        assert_eq!(
            response.field("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        let metrics = Metrics::parse(response.text());
        assert!(metrics.families.len() > 15);
        if clients > 0 {
            // With a room there is a series of each.
            let kind = |name: &str| metrics.families.get(name).map(String::as_str);
            assert_eq!(kind("scalesocket_websocket_connections"), Some("counter"));
            assert!(matches!(kind(OPEN), None | Some("gauge")));
        }
        for (name, kind) in [
            ("scalesocket_clients_joined", "counter"),
            ("scalesocket_rooms", "gauge"),
            ("scalesocket_queue_bytes", "gauge"),
            ("process_cpu_seconds", "counter"),
            ("process_resident_memory_bytes", "gauge"),
        ] {
            assert_eq!(metrics.families.get(name).map(String::as_str), Some(kind), "{name}");
        }
        assert!(metrics.get("process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 100_000.0));
        server.join(&format!("/{clients}")).leave();
    }
}

#[test]
fn open_descriptors_are_counted_as_the_system_counts_them() {
    let server = Server::with(&["--metrics"]).cat();
    let _clients = server.members("/room", 20);
    let mut raw = server.raw();
    // The connections of those who asked before may still be closing.
    wait_until("the numbers agree", || {
        let metrics = Metrics::parse(raw.ask("GET", "/metrics", "").text());
        let (shown, open) = (counter(&metrics, "process_open_fds", &[]), server.descriptors() as u64);
        // One more where it has to open a directory to count them.
        open > 20 && (shown == open || shown == open + 1)
    });
}

#[test]
fn clients_rooms_messages_and_their_ends_are_counted() {
    let server = Server::with(&["--metrics", "--maxmessage=1k", "--maxline=1k", "--idle=0"]).sh(
        "case $ROOM in fails) read -r go; exit 3;; ends) read -r go; exit 0;; dies) read -r go; kill -9 $$;; \
         long) head -c 2000 /dev/zero | tr '\\0' x; echo; echo short; cat;; *) exec cat;; esac",
    );
    let start = scrape(&server);
    assert_eq!(counter(&start, "scalesocket_clients_joined_total", &[]), 0);
    assert_eq!(start.get(OPEN, &[("room", "echo")]), None);

    let mut first = server.member("/echo");
    let mut second = server.member("/echo");
    first.send_text("12345");
    first.send_binary(b"678");
    for client in [&mut first, &mut second] {
        client.expect_text("12345");
        client.expect_text("678");
    }
    let metrics = scrape(&server);
    for (name, labels, wanted) in [
        ("scalesocket_clients_joined_total", &[] as &[(&str, &str)], 2),
        (JOINED, &[("room", "echo")], 2),
        (OPEN, &[("room", "echo")], 2),
        ("scalesocket_rooms", &[], 1),
        ("scalesocket_programs", &[], 1),
        ("scalesocket_program_starts_total", &[], 1),
        ("scalesocket_messages_total", &[("from", "client")], 2),
        ("scalesocket_message_bytes_total", &[("from", "client")], 8),
        // Once each, however many get them; with the heads of their frames.
        ("scalesocket_messages_total", &[("from", "program")], 2),
        ("scalesocket_message_bytes_total", &[("from", "program")], 8 + 4),
        // Two clients and the one that asks.
        ("scalesocket_connections", &[], 3),
    ] {
        assert_eq!(counter(&metrics, name, labels), wanted, "{name} {labels:?}");
    }
    first.leave();
    await_value(&server, OPEN, &[("room", "echo")], 1.0);

    // Each way to go.
    let closes = |reason: &str| counter(&scrape(&server), "scalesocket_closes_total", &[("reason", reason)]);
    assert_eq!(closes("client"), 1);
    drop(second);
    wait_until("it is gone", || closes("gone") == 1);
    for (room, code, reason, kind) in [
        ("/ends", 1000, "program ended", "success"),
        ("/fails", 1011, "program failed", "status"),
        ("/dies", 1011, "program failed", "signal"),
    ] {
        let before = closes(reason);
        let mut client = server.join(room);
        client.send_text("go");
        client.expect_close(code);
        wait_until(reason, || closes(reason) == before + 1);
        await_value(
            &server,
            "scalesocket_program_exits_total",
            &[("kind", kind)],
            if kind == "success" { 2.0 } else { 1.0 },
        );
    }
    let mut client = server.join("/echo");
    client.send([0xff, 0x80, 0, 0, 0, 0]);
    client.expect_close(1002);
    wait_until("counted", || closes("protocol") == 1);
    let mut client = server.join("/echo");
    client.send_text(&"x".repeat(2000));
    client.skip_to_close(1009);
    wait_until("counted", || closes("too large") == 1);
    let mut client = server.join("/long");
    client.expect_text("short");
    let metrics = scrape(&server);
    assert_eq!(counter(&metrics, "scalesocket_messages_dropped_total", &[("reason", "too long")]), 1);
    // Everybody who came has gone or is there.
    let sum: u64 = metrics
        .labels("scalesocket_closes_total", "reason")
        .iter()
        .map(|reason| counter(&metrics, "scalesocket_closes_total", &[("reason", reason)]))
        .sum();
    assert_eq!(counter(&metrics, "scalesocket_clients_joined_total", &[]), sum + 1);
}

#[test]
fn refusals_and_failed_starts_are_counted() {
    let scratch = Scratch::new();
    let program = scratch.script("program", "cat");
    let server = Server::with(&["--metrics", "--rooms=room", "--maxroomclients=1"]).program(&[&program]);
    let client = server.join("/room");
    let refusals =
        |reason: &str| counter(&scrape(&server), "scalesocket_refusals_total", &[("reason", reason)]);
    server.refused("/room", "");
    server.refused("/other", "");
    server.refused("/room", "Origin: https://evil.example\r\n");
    server.ask("GET", "/room", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 12\r\n");
    assert_eq!((refusals("limit"), refusals("bad request"), refusals("origin")), (1, 2, 1));
    client.leave();
    wait_until("the program has ended", || server.children().is_empty());
    std::fs::remove_file(&program).expect("remove the program");
    server.join("/room").expect_close(1011);
    let metrics = scrape(&server);
    assert_eq!(counter(&metrics, "scalesocket_program_start_failures_total", &[]), 1);
    assert_eq!(counter(&metrics, "scalesocket_program_starts_total", &[]), 1);
    // Who found no program has not joined, whichever way it is counted.
    assert_eq!(counter(&metrics, "scalesocket_clients_joined_total", &[]), 1);
    wait_until("the room is gone", || scrape(&server).get("scalesocket_rooms", &[]) == Some(0.0));
    assert_eq!(counter(&scrape(&server), JOINED, &[("room", "room")]), 1);
}

#[test]
fn messages_that_the_program_does_not_read_are_counted() {
    let server = Server::with(&["--metrics"]).sh("exec <&-; echo closed; while :; do sleep 1; done");
    let mut client = server.join("/room");
    client.expect_text("closed");
    for _ in 0..3 {
        client.send_text("nobody hears this");
    }
    client.expect_alive();
    let labels = [("reason", "program reads no more")];
    assert_eq!(scrape(&server).get("scalesocket_messages_dropped_total", &labels), Some(3.0));
}

#[test]
fn gauges_die_with_the_room_and_its_counter_goes_on_when_it_comes_back() {
    let server = Server::with(&["--metrics"]).cat();
    let room = [("room", "room")];
    for round in 1..4u8 {
        let client = server.member("/room");
        let metrics = scrape(&server);
        assert_eq!(metrics.get(JOINED, &room), Some(f64::from(round)));
        assert_eq!(metrics.get(OPEN, &room), Some(1.0));
        client.leave();
        wait_until("the room is gone", || scrape(&server).get("scalesocket_rooms", &[]) == Some(0.0));
        let metrics = scrape(&server);
        assert_eq!(metrics.get(JOINED, &room), Some(f64::from(round)), "the counter stays");
        assert_eq!(metrics.labels(OPEN, "room"), [""; 0], "the gauge does not");
    }
}

#[test]
fn global_shows_no_room() {
    let server = Server::with(&["--metrics=global"]).cat();
    let _client = server.member("/secret-room");
    server.member("/another").leave();
    let response = server.ask("GET", "/metrics", "");
    let metrics = Metrics::parse(response.text());
    assert!(!response.text().contains("secret-room") && !response.text().contains("another"));
    assert_eq!(counter(&metrics, "scalesocket_clients_joined_total", &[]), 2);
    assert!(metrics.get("scalesocket_rooms", &[]).is_some_and(|rooms| rooms >= 1.0));
}

#[test]
fn names_cannot_break_out_of_their_label() {
    let server = Server::with(&["--metrics"]).cat();
    let names = ["a'}1", "{room=,", "#HELP", "a%22%0A", "b\u{fc}cher", "a=b,c={d}", "\u{2028}"];
    let clients: Vec<_> = names.iter().map(|name| server.member(&format!("/{name}"))).collect();
    let metrics = scrape(&server);
    let seen: BTreeSet<_> = metrics.labels(OPEN, "room").into_iter().collect();
    assert_eq!(seen, names.into_iter().collect());
    drop(clients);
}

#[test]
fn of_rooms_that_are_gone_only_the_last_1024_have_a_series() {
    // A program of the lightest kind, and room for only a few at once.
    let server = Server::with(&["--metrics", "--patience=60"]).testprog(&["exit"]);
    let address = server.address().clone();
    let mut stays = server.join("/stays");
    stays.skip_to_close(1011);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let address = &address;
            scope.spawn(move || {
                for room in 0..500 {
                    let mut client = Client::connect(address, &format!("/{thread}-{room}"));
                    client.skip_to_close(1011);
                }
            });
        }
    });
    wait_until("all rooms are gone", || scrape(&server).get("scalesocket_rooms", &[]) == Some(0.0));
    let metrics = scrape(&server);
    assert_eq!(counter(&metrics, "scalesocket_clients_joined_total", &[]), 2001);
    let rooms: BTreeSet<_> = metrics.labels(JOINED, "room").into_iter().collect();
    assert_eq!(rooms.len(), 1024);
    assert!(rooms.iter().all(|room| metrics.get(JOINED, &[("room", room)]) == Some(1.0)), "each once");
    assert!(!rooms.contains("stays"), "the longest gone are forgotten");
    assert!((0..4).all(|thread| rooms.contains(format!("{thread}-499").as_str())), "not the last");
    assert_eq!(metrics.labels(OPEN, "room"), [""; 0]);
}

#[test]
fn a_room_that_ends_during_a_response_is_shown_once() {
    let server = Server::with(&["--metrics"]).sh("exit 0");
    let address = server.address().clone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut busy = Vec::new();
        for thread in 0..3 {
            let address = &address;
            busy.push(scope.spawn(move || {
                for _ in 0..60 {
                    Client::connect(address, &format!("/{thread}")).skip_to_close(1000);
                }
            }));
        }
        scope.spawn(|| {
            let mut raw = server.raw();
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                if asked % 90 == 89 {
                    raw = server.raw();
                }
                asked += 1;
                // The parser minds a series that is there twice.
                Metrics::parse(raw.ask("GET", "/metrics", "").text());
            }
        });
        for thread in busy {
            thread.join().expect("a client that comes and goes");
        }
        done.store(true, Ordering::Relaxed);
    });
}
