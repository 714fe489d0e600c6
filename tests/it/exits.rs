//! Servers that end by themselves: when nothing is served for a while, or with their first program.

use std::time::{Duration, Instant};

use crate::support::Server;

#[test]
fn a_server_without_connections_ends_after_the_time_of_exitidle() {
    let started = Instant::now();
    let mut server = Server::with(&["--exitidle", "0.3"]).cat();
    let mut client = server.join("/room");
    // Longer than the time: it does not run while a client is there.
    while started.elapsed() < Duration::from_secs(1) {
        client.send_text("here");
        client.expect_text("here");
    }
    let left = Instant::now();
    client.leave();
    assert_eq!(server.await_exit().code(), Some(0));
    assert!(left.elapsed() >= Duration::from_millis(300), "{:?}", left.elapsed());
    server.wait_for_line(&["shutting down", "no connection is left"]);
}

#[test]
fn a_server_that_was_never_asked_ends_too() {
    let mut server = Server::with(&["--exitidle", "0.2"]).cat();
    assert_eq!(server.await_exit().code(), Some(0));
}

#[test]
fn with_exitend_the_server_ends_with_its_first_program_and_its_status() {
    for (script, code, status) in [
        ("read line; exit 0", 1000, 0),
        ("read line; exit 7", 1011, 7),
        ("read line; kill -KILL $$", 1011, 128 + 9),
    ] {
        let mut server = Server::with(&["--exitend"]).sh(script);
        let mut other = server.join("/other");
        let mut client = server.join("/room");
        client.send_text("end");
        client.expect_close(code);
        other.expect_close(1001);
        assert_eq!(server.await_exit().code(), Some(status), "{script}");
        server.wait_for_line(&["shutting down", "the program has exited"]);
    }
}

#[test]
fn exitend_does_not_wait_for_clients_that_leave_their_close_unanswered() {
    let mut server = Server::with(&["--exitend"]).sh("read line; exit 7");
    let mut other = server.join("/other");
    let mut silent = server.join("/room");
    silent.send_text("end");
    // The silent one would be given up after 5 seconds; until then the server would go on.
    other.expect_close(1001);
    assert_eq!(server.await_exit().code(), Some(7));
    let lines = server.log.all_lines();
    let line = |parts: &[&str]| lines.iter().position(|line| parts.iter().all(|part| line.contains(part)));
    let (down, left) = (line(&["shutting down"]), line(&["client left", "code=1011"]));
    assert!(down.is_some() && left.is_some() && down < left, "{lines:#?}");
}
