//! What a program was given to read, it may read to the end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Scratch, Server, wait_until};

/// A program that takes some time for each line, and writes down what it has read.
fn slow_reader(scratch: &Scratch) -> String {
    let record = scratch.name("read");
    format!("while read -r line; do sleep 0.05; echo \"$line\" >> {record}; done; echo end >> {record}")
}

/// What it has written down, when all processes have ended.
fn read(scratch: &Scratch) -> Vec<String> {
    let text = std::fs::read_to_string(scratch.path("read")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn lines(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("line {number}")).chain(["end".to_owned()]).collect()
}

#[test]
fn a_program_that_still_reads_when_its_last_client_has_left_is_left_alone() {
    let scratch = Scratch::new();
    let server = Server::with(&["--grace", "20", "--inputgrace", "0.8"]).sh(&slow_reader(&scratch));
    let mut client = server.join("/room");
    for line in &lines(40)[..40] {
        client.send_text(line);
    }
    client.leave();
    wait_until("the program has ended", || server.children().is_empty());
    assert_eq!(read(&scratch), lines(40));
}

#[test]
fn a_program_that_still_reads_when_the_server_ends_is_left_alone() {
    let scratch = Scratch::new();
    let mut server = Server::with(&["--grace", "20", "--inputgrace", "0.8"]).sh(&slow_reader(&scratch));
    let mut client = server.join("/room");
    for line in &lines(20)[..20] {
        client.send_text(line);
    }
    client.expect_alive();
    server.signal(Signal::TERM);
    client.skip_to_close(1001);
    assert_eq!(server.await_exit().code(), Some(0));
    assert_eq!(read(&scratch), lines(20));
}

#[test]
fn a_program_that_stops_reading_gets_the_stop_signal_after_its_input_grace() {
    for (options, least) in [(&[] as &[&str], 250), (&["--inputgrace=1"], 1000)] {
        let server = Server::with(options).sh("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        let mut client = server.join("/room");
        client.expect_text("ready");
        client.send_text("unread");
        client.expect_alive();
        let start = Instant::now();
        client.leave();
        wait_until("the program has ended", || server.children().is_empty());
        let time = start.elapsed();
        assert!(time >= Duration::from_millis(least), "{options:?}: {time:?}");
        assert!(time < Duration::from_millis(least + 2000), "{options:?}: {time:?}");
    }
}

#[test]
fn a_program_that_reads_very_slowly_has_its_input_grace_and_its_grace() {
    let options = ["--inputgrace=1", "--grace=1"];
    let server = Server::with(&options).sh("echo ready; while read -r line; do sleep 0.2; done");
    let mut client = server.join("/room");
    client.expect_text("ready");
    for _ in 0..100 {
        client.send_text("one of many");
    }
    let start = Instant::now();
    client.leave();
    wait_until("the program has ended", || server.children().is_empty());
    let time = start.elapsed();
    assert!(time >= Duration::from_secs(1), "{time:?}");
    assert!(time < Duration::from_secs(6), "{time:?}");
}

#[test]
fn a_program_that_reads_on_after_the_stop_signal_sees_the_end_of_its_input() {
    let scratch = Scratch::new();
    let record = scratch.name("read");
    // Each line takes longer than it may read nothing, and the signal does not end it.
    let script = format!(
        "trap 'echo signal >> {record}' TERM; while read -r line; do sleep 0.6; echo \"$line\" >> {record}; done; \
         echo end >> {record}"
    );
    let server = Server::with(&["--grace", "20"]).sh(&script);
    let mut client = server.join("/room");
    for line in ["one", "two"] {
        client.send_text(line);
    }
    client.leave();
    wait_until("the program has ended", || server.children().is_empty());
    let read = read(&scratch);
    assert_eq!(read.last().map(String::as_str), Some("end"), "{read:?}");
    assert!(read.iter().any(|line| line == "signal"), "{read:?}");
}
