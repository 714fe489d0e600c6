//! The end of the server.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::process::{await_end, runs};
use crate::support::raw::Socket;
use crate::support::{Event, Scratch, Server};

/// A signal that comes sooner than this is the first one still: there is no event to wait for.
const ANOTHER: Duration = Duration::from_millis(100);

fn pid(text: &str) -> u32 {
    text.trim().parse().unwrap_or_else(|e| panic!("{text:?} is no process number: {e}"))
}

#[test]
fn each_signal_shuts_down_cleanly() {
    for (signal, name) in
        [(Signal::INT, "INT"), (Signal::TERM, "TERM"), (Signal::QUIT, "QUIT"), (Signal::HUP, "HUP")]
    {
        if signal == Signal::HUP && ignored_here() & 1 == 1 {
            eprintln!("skipped: HUP is ignored here");
            continue;
        }
        let scratch = Scratch::new();
        let record = scratch.name("input");
        let mut server = Server::with(&["--leavemsg", "#ID has left"]).sh(&format!(
            "echo $$; while read -r line; do echo \"$line\" >> {record}; done; echo 'last words'"
        ));
        let mut one = server.join("/one");
        let mut programs = vec![pid(&one.text())];
        let mut two = server.join("/two");
        programs.push(pid(&two.text()));
        let mut three = server.join("/two");
        three.expect_alive();
        let plain = server.raw();

        server.signal(signal);
        for client in [&mut one, &mut two, &mut three] {
            assert_eq!(client.texts_to_close(1001), [""; 0], "nothing is said behind the end");
        }
        let status = server.await_exit();
        let told = std::fs::read_to_string(scratch.path("input")).expect("what the programs have read");
        let mut told: Vec<_> = told.lines().collect();
        told.sort_unstable();
        assert_eq!(told, ["1 has left", "2 has left", "3 has left"], "each program gets its leave message");
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(programs.iter().all(|&program| !runs(program)), "no program outlives the server");
        drop(plain);
        let lines = server.log.all_lines();
        let told = format!("shutting down signal={name}");
        assert!(lines.iter().any(|line| line.contains("INFO") && line.ends_with(&told)), "{lines:?}");
        assert!(lines.last().is_some_and(|line| line.contains("INFO  server ended")), "{lines:?}");
    }
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_and_signals_for_others_have_no_effect() {
    let mut server = Server::with(&[]).through_shell(r#"trap '' HUP; exec "$@""#).cat();
    let mut client = server.member("/room");
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::XFSZ] {
        server.signal(signal);
        client.send_text("still here");
        client.expect_text("still here");
        server.member("/room");
    }
    assert_eq!(server.stop().0.code(), Some(0));
    server.wait_for_line(&["shutting down signal=TERM"]);
}

#[test]
fn programs_are_started_with_the_signals_that_the_server_was_started_with() {
    // Signals that the server catches are at their default in a program, whatever they were at its start (a shell
    // ignores INT and QUIT for what runs in its background); HUP, and any other that was ignored, stays so.
    let caught = [Signal::INT, Signal::TERM, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::XFSZ]
        .iter()
        .fold(0, |caught, signal| caught | 1 << (signal.as_raw() - 1));
    for (line, added) in [("", 0), ("trap '' HUP; ", 1)] {
        let server = Server::with(&[])
            .through_shell(&format!(r#"{line}exec "$@""#))
            .sh("grep SigIgn: /proc/self/status; cat");
        let ignored = server.join("/room").text();
        assert_eq!(mask(&ignored), ignored_here() & !caught | added, "{line}");
    }
}

/// The signals that this process was started with ignored, and so a server under test too.
fn ignored_here() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|line| line.starts_with("SigIgn:")).expect("the mask of ignored signals");
    // Rust ignores PIPE itself, and gives it back to those that it starts.
    mask(line) & !(1 << (Signal::PIPE.as_raw() - 1))
}

fn mask(line: &str) -> u64 {
    let digits = line.trim_start_matches("SigIgn:").trim();
    let mask = u64::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("{line:?} is no mask: {e}"));
    // From 32 on they belong to the C library.
    mask & 0x7fff_ffff
}

#[test]
fn a_server_without_clients_ends_at_once() {
    let mut server = Server::cat();
    let (status, time) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(time < Duration::from_secs(5), "{time:?}");
}

#[test]
fn programs_that_ignore_the_stop_signal_are_killed_in_time() {
    let mut server = Server::with(&["--grace", "0.5"])
        .sh("trap '' TERM INT HUP; sleep 1000 & echo $! $$; while :; do sleep 1; done");
    let mut clients: Vec<_> = ["/one", "/two", "/three"].map(|room| server.join(room)).into();
    let mut processes = Vec::new();
    for client in &mut clients {
        processes.extend(client.text().split(' ').map(pid));
    }
    assert_eq!(processes.len(), 6);
    let start = Instant::now();
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_close(1001);
    }
    assert_eq!(server.await_exit().code(), Some(0));
    // The promise is --grace and 6.25 s; each room has all of that at the same time.
    assert!(start.elapsed() < Duration::from_millis(2 * 6750), "{:?}", start.elapsed());
    for process in processes {
        await_end(process);
    }
}

#[test]
fn a_client_that_answers_nothing_does_not_delay_the_shutdown() {
    let mut server = Server::with(&["--grace", "0.5"])
        .sh("echo ready; cat; head -c 30000000 /dev/zero | tr '\\0\\100' 'x\\n'");
    let mut client = server.join("/room");
    client.expect_text("ready");
    client.answers = false;
    let mut half = server.raw();
    half.send("GET /room HT");
    let (status, time) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(time < Duration::from_millis(2 * 6750), "{time:?}");
}

#[test]
fn no_client_is_accepted_after_the_first_signal() {
    let mut server =
        Server::with(&["--grace", "60", "-v"]).sh("trap '' TERM; echo $$; while :; do sleep 1; done");
    let mut client = server.join("/room");
    let program = pid(&client.text());
    let mut open = server.raw();
    server.signal(Signal::TERM);
    server.wait_for_line(&["signal to the process group"]);
    let refused = Socket::connect(server.address()).expect_err("the listener is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // A connection without a request has ended, or asks in vain.
    let _ = open.try_send(crate::support::client::handshake("/room", ""));
    let (bytes, _) = open.rest();
    assert!(!bytes.starts_with(b"HTTP/1.1 101"), "{}", bytes.escape_ascii());
    assert!(runs(program), "it has its grace");
    std::thread::sleep(ANOTHER);
    server.signal(Signal::INT);
    assert_eq!(server.await_exit().code(), Some(1));
}

#[test]
fn a_second_signal_ends_it_at_once_with_status_1() {
    let mut fastest = Duration::MAX;
    // What takes no time takes some on a busy machine, but not three times.
    for _ in 0..3 {
        let mut server = Server::with(&["--grace", "600", "-v"])
            .sh("trap '' TERM INT HUP; sleep 1000 & echo $! $$; while :; do sleep 1; done");
        let mut client = server.join("/room");
        let processes: Vec<_> = client.text().split(' ').map(pid).collect();
        server.signal(Signal::TERM);
        server.wait_for_line(&["shutting down"]);
        std::thread::sleep(ANOTHER);
        let start = Instant::now();
        server.signal(Signal::TERM);
        // The client takes no notice until the server is gone.
        assert_eq!(server.await_exit().code(), Some(1));
        fastest = fastest.min(start.elapsed());
        for process in processes {
            await_end(process);
        }
        loop {
            match client.next() {
                Event::End | Event::Reset => break,
                Event::Close(code, _) => assert_eq!(code, 1001),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
}

#[test]
fn messages_before_the_signal_reach_the_program_before_the_end() {
    let count = "trap '' TERM; echo \"read $(wc -l) lines\" >&2";
    let mut server = Server::with(&["--leavemsg", "left", "--stderr", "log"]).sh(count);
    let mut client = server.join("/room");
    for number in 0..1000 {
        client.send_text(&number.to_string());
    }
    client.ping(b"");
    assert!(matches!(client.next(), Event::Pong(_)), "all of them have been taken");
    server.signal(Signal::TERM);
    assert!(client.texts_to_close(1001).is_empty());
    server.wait_for_line(&["read 1001 lines"]);
    assert_eq!(server.await_exit().code(), Some(0));
}

#[test]
fn a_program_that_lingers_alone_ends_with_the_server() {
    let mut server = Server::with(&["--linger", "600"]).sh("echo $$; cat");
    let mut client = server.join("/room");
    let program = pid(&client.text());
    client.leave();
    server.wait_for_line(&["client left"]);
    let (status, _) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!runs(program));
}
