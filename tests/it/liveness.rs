//! Clients that are there, and those that only seem to be.

use std::time::{Duration, Instant};

use crate::support::{Event, Server};

#[test]
fn a_client_that_answers_no_ping_is_gone_after_three_intervals() {
    let server = Server::with(&["--ping", "1", "--leavemsg", "#ID has left"]).cat();
    let start = Instant::now();
    let mut dead = server.join("/room");
    dead.expect_alive();
    dead.answers = false;
    let mut alive = server.join("/room");
    let mut pings = 0;
    loop {
        match alive.recv() {
            Event::Ping(_) => pings += 1,
            Event::Text(text) => {
                assert_eq!(text, "1 has left");
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(pings < 60, "the other one never goes");
    }
    let time = start.elapsed();
    assert!(time >= Duration::from_secs(3), "gone after {time:?}");
    assert!(pings >= 2, "{pings} pings");
    server.wait_for_line(&["client left", "reason=\"no answer to a ping\""]);
    let mut seen = 0;
    loop {
        match dead.recv() {
            Event::Ping(_) => seen += 1,
            // Its own leave, told while it is still on the list.
            Event::Text(text) => assert_eq!(text, "1 has left"),
            Event::End | Event::Reset => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 2, "pings before it was given up");
    // Three intervals more, and it is still there.
    for _ in 0..3 {
        assert!(matches!(alive.recv(), Event::Ping(_)));
    }
    alive.expect_alive();
}

#[test]
fn any_byte_shows_that_a_client_is_alive() {
    let server = Server::with(&["--ping", "1"]).cat();
    let mut client = server.join("/room");
    client.answers = false;
    // It answers no ping, but says something at each.
    for _ in 0..4 {
        assert!(matches!(client.recv(), Event::Ping(_)));
        client.send_text("x");
        client.expect_text("x");
    }
}

#[test]
fn a_busy_client_is_not_pinged() {
    let server = Server::with(&["--ping", "5"]).cat();
    let mut client = server.join("/room");
    for _ in 0..200 {
        client.send_text("x");
        assert_eq!(client.recv(), Event::Text("x".into()));
    }
}

#[test]
fn ping_0_sends_no_pings() {
    let server = Server::with(&["--ping", "0", "--idle", "1"]).cat();
    let mut client = server.join("/room");
    assert!(matches!(client.recv(), Event::Close(1008, _)), "no ping before");
}

#[test]
fn a_connection_without_a_request_is_closed_and_half_a_request_gets_408() {
    let server = Server::with(&["--handshaketimeout", "0.5"]).cat();
    let start = Instant::now();
    let mut silent = server.raw();
    let mut half = server.raw();
    half.send("GET /room HTTP/1.1\r\nHost: loc");
    let response = half.response("GET");
    assert_eq!(response.status, 408, "{response:?}");
    half.expect_end();
    silent.expect_end();
    assert!(start.elapsed() >= Duration::from_millis(500), "after {:?}", start.elapsed());
    // Who is in a room has all the time in the world.
    let mut client = server.join("/room");
    let mut silent = server.raw();
    silent.expect_end();
    client.send_text("still here");
    client.expect_text("still here");
}

#[test]
fn a_request_that_trickles_in_has_no_more_time_than_any_other() {
    let server = Server::with(&["--handshaketimeout", "0.5"]).cat();
    let mut raw = server.raw();
    raw.send("GET /room HTTP/1.1\r\n");
    // One more field whenever it can be sent, and never an end.
    let mut other = crate::support::raw::Raw::over(raw.socket.try_clone());
    let trickle = std::thread::spawn(move || {
        while other.try_send("X: y\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let response = raw.response("GET");
    assert!(matches!(response.status, 408 | 431), "{response:?}");
    raw.rest();
    drop(raw);
    trickle.join().expect("the connection has ended");
}
