//! Much data, nothing lost.

use std::time::{Duration, Instant};

use crate::support::Server;
use crate::support::frame;
use crate::support::load::{Crowd, Heard, Peer, SOON, Wire, numbered, peak, raise_descriptors};

/// Waits for so many joins, says `ready`, echoes from then on.
fn echo_after(joins: usize) -> String {
    format!("n=0; while [ $n -lt {joins} ]; do read -r join; n=$((n+1)); done; echo ready; exec cat")
}

#[test]
fn a_thousand_clients_get_a_thousand_messages_whole_and_in_order() {
    const CLIENTS: usize = 1000;
    raise_descriptors();
    let server = Server::with(&["--joinmsg", "+", "--ping", "0"]).sh(&echo_after(CLIENTS));
    let payloads: Vec<_> = (0..1000).map(|number| numbered(number, 100)).collect();
    let sent = |payload: &Vec<u8>| frame::masked(frame::FIN | frame::TEXT, payload);
    let wire = Wire::of([b"ready".to_vec()].into_iter().chain(payloads.clone()));
    let wire = wire.then_close(1000);
    let mut crowd = Crowd::new((0..CLIENTS).map(|_| Peer::join(&server, "/room")), &wire);
    crowd.hear(7);
    let start = Instant::now();
    let mut sender = crowd.first().sender();
    // One by one at first, each to everybody before the next is sent; then all at once.
    let (first, rest) = payloads.split_at(100);
    let mut due = 7;
    for payload in first {
        sender.send(&sent(payload));
        due += 2 + payload.len();
        crowd.hear(due);
    }
    std::thread::scope(|scope| {
        scope.spawn(move || rest.iter().for_each(|payload| sender.send(&sent(payload))));
        // All but the close, which does not come: `cat` goes on.
        crowd.hear(wire.len() - 4);
    });
    eprintln!("1000 clients, 1000 messages: {:?}, peak {} KiB", start.elapsed(), peak(&server));
}

#[test]
fn two_hundred_clients_get_all_of_a_burst() {
    raise_descriptors();
    let server = Server::with(&["--joinmsg", "+", "--ping", "0"]).testprog(&["burst", "200", "20000", "50"]);
    let wire = Wire::of((0..20_000).map(|number| numbered(number, 50))).then_close(1000);
    let start = Instant::now();
    let mut crowd = Crowd::new((0..200).map(|_| Peer::join(&server, "/room")), &wire);
    crowd.hear_all();
    eprintln!("200 clients, 20,000 lines: {:?}, peak {} KiB", start.elapsed(), peak(&server));
}

#[test]
fn a_million_lines_of_a_program_that_exits_all_arrive_and_then_1000() {
    let server = Server::with(&["--joinmsg", "+", "--ping", "0"]).testprog(&["burst", "1", "1000000", "0"]);
    let wire = Wire::of((0..1_000_000).map(|number| numbered(number, 0))).then_close(1000);
    let start = Instant::now();
    Crowd::new([Peer::join(&server, "/room")], &wire).hear_all();
    eprintln!("1,000,000 lines: {:?}, peak {} KiB", start.elapsed(), peak(&server));
}

#[test]
fn a_message_of_16_mib_comes_back_whole() {
    const SIZE: usize = 16 << 20;
    let server = Server::with(&["--maxmessage", "16m", "--ping", "0"]).cat();
    let mut message = Vec::with_capacity(SIZE + 16);
    while message.len() < SIZE {
        let number = message.len();
        message.extend_from_slice(format!("{number},").as_bytes());
    }
    message.truncate(SIZE);
    let mut peer = Peer::join(&server, "/room");
    let sent = frame::masked(frame::FIN | frame::TEXT, &message);
    let start = Instant::now();
    peer.send(&sent);
    match peer.next(Instant::now() + SOON) {
        Heard::Text(text) => assert!(text == message, "{} bytes came back otherwise", text.len()),
        other => panic!("in place of the message: {other:?}"),
    }
    eprintln!("16 MiB there and back: {:?}, peak {} KiB", start.elapsed(), peak(&server));
    assert_eq!(peer.close(1000), 1000);
}

/// Small messages, as sent in one stretch and as they come back.
fn small_messages() -> (Vec<u8>, std::sync::Arc<Wire>) {
    let payload = |number: usize| number.to_string().into_bytes();
    let sent = (0..100_000).flat_map(|number| frame::masked(frame::FIN | frame::TEXT, &payload(number)));
    (sent.collect(), Wire::of((0..100_000).map(payload)).then_close(1000))
}

#[test]
fn a_hundred_thousand_small_messages_come_back_while_they_are_sent() {
    let server = Server::with(&["--ping", "0"]).cat();
    let (sent, wire) = small_messages();
    let peer = Peer::join(&server, "/room");
    let mut sender = peer.sender();
    let mut crowd = Crowd::new([peer], &wire);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(&sent));
        crowd.hear(wire.len() - 4);
    });
    eprintln!("100,000 small messages: {:?}, peak {} KiB", start.elapsed(), peak(&server));
}

#[test]
fn a_client_that_sends_everything_before_it_reads_gets_all_that_its_queue_holds() {
    let server = Server::with(&["--ping", "0"]).cat();
    let (sent, wire) = small_messages();
    let mut peer = Peer::join(&server, "/room");
    let start = Instant::now();
    peer.send(&sent);
    eprintln!("100,000 small messages are taken in {:?}", start.elapsed());
    let mut crowd = Crowd::new([peer], &wire);
    crowd.hear(wire.len() - 4);
    eprintln!("and have come back after {:?}, peak {} KiB", start.elapsed(), peak(&server));
}

#[test]
fn an_echo_that_is_not_read_is_a_slow_client_and_not_a_deadlock() {
    let server = Server::with(&["--ping", "0", "--maxqueue", "64k"]).cat();
    let mut peer = Peer::join_small(&server, "/room");
    let mut other = Peer::join(&server, "/other");
    let message = frame::masked(frame::FIN | frame::TEXT, &numbered(0, 60_000));
    let start = Instant::now();
    // Sends until nothing is taken any more: the program is held up by the client, the client by the program.
    let mut sent = 0;
    while let Ok(1..) = peer
        .send_some(&message[sent % message.len()..], Instant::now() + Duration::from_secs(1))
        .inspect(|more| sent += more)
    {
        assert!(sent < 100 << 20, "the server takes {sent} bytes of a client that reads none");
    }
    other.send(&frame::text("are you there"));
    other.hears("are you there");
    let line = server.log.find(SOON, |line| line.contains("too slow to keep up"));
    eprintln!("{sent} bytes taken; given up after {:?}", start.elapsed());
    assert!(line.is_some(), "the client that reads nothing is closed");
    loop {
        match peer.next(Instant::now() + SOON) {
            Heard::Text(text) => assert_eq!(text, numbered(0, 60_000)),
            Heard::Close(code, _) => break assert_eq!(code, 1013),
            other => panic!("in place of the close: {other:?}"),
        }
    }
    other.send(&frame::text("still there"));
    other.hears("still there");
}
