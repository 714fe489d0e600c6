//! What clients hear of the end of the server.

use rustix::process::Signal;

use crate::support::{Scratch, Server};

/// An echo that writes down what it reads, and says something at its end.
fn echo(scratch: &Scratch) -> String {
    let record = scratch.name("input");
    format!("while read -r line; do echo \"$line\" >> {record}; echo \"$line\"; done; echo 'last words'")
}

/// What the program has read, once the server has ended.
fn input(scratch: &Scratch) -> Vec<String> {
    let text = std::fs::read_to_string(scratch.path("input")).expect("the program's record");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_only_client_of_a_room_is_not_told_of_its_own_leave_when_the_server_ends() {
    let scratch = Scratch::new();
    let mut server = Server::with(&["--joinmsg", "#ID joined", "--leavemsg", "#ID left"]).sh(&echo(&scratch));
    let mut client = server.join("/room");
    client.expect_text("1 joined");
    client.send_text("hello");
    client.expect_text("hello");
    server.signal(Signal::TERM);
    assert_eq!(client.texts_to_close(1001), [""; 0]);
    assert_eq!(server.await_exit().code(), Some(0));
    assert_eq!(input(&scratch), ["1 joined", "hello", "1 left"], "the program is told");
}

#[test]
fn what_a_program_says_of_the_leaves_at_the_end_of_the_server_goes_to_nobody() {
    let scratch = Scratch::new();
    let mut server = Server::with(&["--leavemsg", "#ID left"]).sh(&echo(&scratch));
    let mut clients = server.members("/room", 3);
    server.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.texts_to_close(1001), [""; 0]);
    }
    assert_eq!(server.await_exit().code(), Some(0));
    let mut input = input(&scratch);
    input.sort();
    assert_eq!(input, ["1 left", "2 left", "3 left"], "the program is told");
}

#[test]
fn what_was_said_before_the_end_of_the_server_is_delivered_before_its_1001() {
    const LINES: usize = 3000;
    let mut server = Server::with(&["--leavemsg", "left", "-v"]).testprog(&[
        "burst",
        "1",
        &LINES.to_string(),
        "1000",
        &LINES.to_string(),
    ]);
    // One who reads, and so knows that all of it has been said; one who does not yet.
    let (mut reader, mut late) = (server.member("/room"), server.member("/room"));
    reader.send_text("go");
    for _ in 0..LINES {
        reader.text();
    }
    server.signal(Signal::TERM);
    server.wait_for_line(&["shutting down"]);
    assert_eq!(late.texts_to_close(1001).len(), LINES);
    assert_eq!(reader.texts_to_close(1001), [""; 0]);
    assert_eq!(server.await_exit().code(), Some(0));
}
