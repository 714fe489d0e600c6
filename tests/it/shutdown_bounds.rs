//! What clients hear of the end of the server, how long they may hold it up, and what outlives it.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::openmetrics::scrape;
use crate::support::process::{self, runs};
use crate::support::{Client, DEADLINE, Event, Raw, Scratch, Server, wait_until};

/// A signal that comes sooner than this is the first one still: there is no event to wait for.
const ANOTHER: Duration = Duration::from_millis(100);

fn pid(text: &str) -> u32 {
    text.trim().parse().unwrap_or_else(|e| panic!("{text:?} is no process number: {e}"))
}

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
fn a_shutdown_sends_the_only_client_of_a_room_no_leave_message() {
    let scratch = Scratch::new();
    let mut server = Server::with(&["--joinmsg", "#ID joined", "--leavemsg", "#ID left"]).sh(&echo(&scratch));
    let mut client = server.join("/room");
    client.expect_text("1 joined");
    client.send_text("hello");
    client.expect_text("hello");
    server.signal(Signal::TERM);
    assert_eq!(client.texts_to_close(1001), [""; 0]);
    assert_eq!(server.await_exit().code(), Some(0));
    assert_eq!(input(&scratch), ["1 joined", "hello", "1 left"], "the program gets these messages");
}

#[test]
fn a_shutdown_sends_no_output_about_leaves_to_clients() {
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
    assert_eq!(input, ["1 left", "2 left", "3 left"], "the program gets these messages");
}

#[test]
fn output_before_a_shutdown_is_delivered_before_1001() {
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

/// What clients may add to the end of the server: their second, and some time for a busy machine.
const CLIENTS: Duration = Duration::from_millis(1000 + 1500);

#[test]
fn a_client_that_does_not_answer_the_close_has_a_second_at_the_end_of_the_server() {
    let mut server = Server::cat();
    let mut client = server.member("/room");
    client.answers = false;
    let (status, time) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(time < CLIENTS, "{time:?}");
    assert!(matches!(client.next(), Event::Close(1001, _)), "it got a close frame");
}

#[test]
fn a_client_that_takes_nothing_has_a_second_at_the_end_of_the_server() {
    let scratch = Scratch::new();
    let mut server = Server::with(&["--metrics", "--ping=0"])
        .address("127.0.0.1:0")
        .address(&format!("unix:{}", scratch.name("socket")))
        .sh("head -c 30000000 /dev/zero | tr '\\0\\100' 'x\\n' | fold -w 1000; cat");
    let clients: Vec<_> =
        server.addresses().iter().map(|address| Client::connect(address, "/room")).collect();
    // Its close stands behind all that.
    wait_until("something waits for each", || {
        let queued = scrape(&server).get("scalesocket_queue_bytes", &[("to", "clients")]);
        queued.is_some_and(|queued| queued > 4_000_000.0)
    });
    let (status, time) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(time < CLIENTS, "{time:?}");
    drop(clients);
}

#[test]
fn a_download_in_progress_has_a_second_at_the_end_of_the_server() {
    let scratch = Scratch::new();
    scratch.file("big", vec![b'x'; 20_000_000]);
    let mut server = Server::with(&["--staticdir", &scratch.name("")]).cat();
    let mut slow = Raw::connect_small(server.address());
    slow.send("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut read = 0;
    let mut socket = slow.socket.try_clone();
    let reader = std::thread::spawn(move || {
        // A little all the time.
        let mut chunk = [0; 1000];
        while let Ok(more @ 1..) = socket.read(&mut chunk, DEADLINE) {
            read += more;
            std::thread::sleep(Duration::from_millis(20));
        }
        read
    });
    let (status, time) = server.stop();
    slow.socket.shutdown(std::net::Shutdown::Both);
    let read = reader.join().expect("the reader ends");
    assert_eq!(status.code(), Some(0));
    assert!(read < 20_000_000);
    assert!(time < CLIENTS, "{time:?}, with {read} bytes read");
}

#[test]
fn a_client_that_does_not_answer_adds_a_second_to_a_program_that_resists() {
    let mut server =
        Server::with(&["--grace", "0.5"]).sh("trap '' TERM; echo ready; while :; do sleep 1; done");
    let mut client = server.join("/room");
    client.expect_text("ready");
    client.answers = false;
    let (status, time) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(time < Duration::from_millis(250 + 500) + CLIENTS, "{time:?}");
}

/// A message with two long lists of ids that are in no room: much work for who delivers it.
fn hard_work() -> String {
    let list = |first: u32| (first..first + 60_000).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    format!(r#"{{"_to":[{}],"_except":[{}]}}"#, list(10_000), list(100_000))
}

#[test]
fn no_program_outlives_the_server_also_when_its_room_is_busy() {
    for second_signal in [false, true] {
        let mut server = Server::with(&["--frame=json", "--grace", "0.5", "--maxmessage=4m"])
            .sh("trap '' TERM; sleep 1000 & echo $! $$; cat; while :; do sleep 1; done");
        let mut client = server.join("/room");
        let processes: Vec<_> = client.text().split(' ').map(pid).collect();
        // Its answer to the ping comes before the message has come back from the program.
        client.send_text(&hard_work());
        client.expect_alive();
        server.signal(Signal::TERM);
        if second_signal {
            server.wait_for_line(&["shutting down"]);
            std::thread::sleep(ANOTHER);
            server.signal(Signal::TERM);
        }
        let status = server.await_exit_within(Duration::from_secs(60));
        let left: Vec<_> = processes.into_iter().filter(|&process| runs(process)).collect();
        for &process in &left {
            process::signal(process, Signal::KILL);
        }
        assert_eq!(left, [0; 0], "processes that outlived the server, whose status is {status}");
        // Not in order, if it had to be killed by the server's last act.
        let in_order = server.log.all_lines().iter().any(|line| line.contains("program ended"));
        assert_eq!(status.code(), Some(i32::from(second_signal || !in_order)));
    }
}
