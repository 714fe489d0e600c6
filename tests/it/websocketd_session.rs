//! Sessions of the face of websocketd: how they end, what becomes a message, and slow clients.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::process::{await_end, children, forking, runs, signal_group, status_number};
use crate::support::raw::Address;
use crate::support::server::BINARY;
use crate::support::{Client, Event, Scratch, testprog, wait_until};

/// A server on a unix socket. Dropped, it is killed, and so are its programs.
struct Websocketd {
    child: Child,
    address: Address,
    scratch: Scratch,
}

impl Websocketd {
    /// `command`: options, then the program and its arguments.
    fn start(command: &[&str]) -> Self {
        let scratch = Scratch::new();
        let socket = scratch.path("socket");
        let mut server = Command::new(BINARY);
        server.arg("--websocketd").arg("--unixsocket").arg(&socket).args(command);
        server.env_remove("LISTEN_FDS").env_remove("LISTEN_PID").env("OUT", scratch.root());
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = {
            let _alone = forking();
            server.spawn().expect("start the binary")
        };
        let address = Address::Unix(socket.clone());
        wait_until("the server listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        Self { child, address, scratch }
    }

    fn sh(options: &[&str], script: &str) -> Self {
        Self::start(&[options, &["--passenv=PATH,OUT", "sh", "-c", script]].concat())
    }

    fn join(&self) -> Client {
        Client::connect(&self.address, "/room")
    }

    /// The program of the only session.
    fn program(&self) -> u32 {
        let mut found = Vec::new();
        wait_until("there is one program", || {
            found = children(self.child.id());
            found.len() == 1
        });
        found[0]
    }
}

impl Drop for Websocketd {
    fn drop(&mut self) {
        for pid in children(self.child.id()) {
            signal_group(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_end_of_the_output_ends_the_session_with_1000_behind_what_was_printed() {
    for script in ["echo a; printf b", "echo a; printf b; exit 3", "echo a; printf b; exec >&-; sleep 60"] {
        let server = Websocketd::sh(&[], script);
        assert_eq!(server.join().texts_to_close(1000), ["a", "b"], "{script}");
        wait_until("the program has ended", || children(server.child.id()).is_empty());
    }
}

#[test]
fn messages_of_the_other_kind_are_ignored() {
    let server = Websocketd::start(&["cat"]);
    let mut client = server.join();
    client.send_binary(b"binary");
    client.send_text("text\nof two lines");
    client.send_text("");
    for wanted in ["text", "of two lines", ""] {
        client.expect_text(wanted);
    }
    let server = Websocketd::start(&["--binary", "cat"]);
    let mut client = server.join();
    client.send_text("text");
    client.send_binary(b"\xff\0\n");
    client.expect_binary(b"\xff\0\n");
}

#[test]
fn both_streams_are_messages_that_name_their_stream() {
    let script = r#"echo '"out" <1>'; exec >&-; printf 'err\377\tor\nlast' >&2"#;
    let server = Websocketd::sh(&["--passstderr"], script);
    let texts = server.join().texts_to_close(1000);
    let of = |stream: &str| {
        let wanted = format!("{{\"stream\":\"{stream}\"");
        texts.iter().filter(|text| text.starts_with(&wanted)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("stdout"), [r#"{"stream":"stdout","data":"\"out\" <1>"}"#]);
    assert_eq!(
        of("stderr"),
        [
            "{\"stream\":\"stderr\",\"data\":\"err\u{fffd}\\tor\"}",
            "{\"stream\":\"stderr\",\"data\":\"last\"}"
        ]
    );
    assert_eq!(texts.len(), 3);
}

#[test]
fn a_client_that_answers_no_ping_is_cut_after_two_intervals() {
    let server = Websocketd::start(&["--pingms=500", "cat"]);
    let start = Instant::now();
    let mut dead = server.join();
    dead.answers = false;
    assert!(matches!(dead.recv(), Event::Ping(_)));
    assert!(matches!(dead.recv(), Event::End | Event::Reset), "without a close frame");
    let time = start.elapsed();
    assert!(time >= Duration::from_secs(1), "gone after {time:?}");
    let mut alive = server.join();
    for _ in 0..4 {
        assert!(matches!(alive.recv(), Event::Ping(_)));
    }
    alive.expect_alive();
}

#[test]
fn a_program_that_stays_gets_int_then_term_then_kill() {
    // Its waits are short, so that each signal is noted before the next one comes.
    let script = "for name in INT TERM; do trap \"echo $name >> $OUT/signals\" $name; done
        echo ready; while :; do sleep 0.02; done";
    for (options, waits) in [(&[] as &[&str], 850), (&["--closems=300"], 1750)] {
        let server = Websocketd::sh(options, script);
        let mut client = server.join();
        client.expect_text("ready");
        let program = server.program();
        let start = Instant::now();
        client.leave();
        await_end(program);
        let time = start.elapsed();
        assert!(time >= Duration::from_millis(waits), "ended after {time:?}");
        assert_eq!(server.scratch.await_bytes("signals", 9), b"INT\nTERM\n");
    }
}

#[test]
fn a_client_that_reads_nothing_stops_its_program_and_loses_nothing() {
    const LINES: usize = 200_000;
    let server = Websocketd::start(&[&testprog(), "flood", &LINES.to_string()]);
    let mut client = server.join();
    let program = server.program();
    // The number of bytes that it has written stands still.
    let written = || {
        let text = std::fs::read_to_string(format!("/proc/{program}/io")).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("bytes written");
        line.parse::<u64>().expect("a number")
    };
    let (mut last, mut since) = (0, Instant::now());
    wait_until("the program stands still", || {
        let now = written();
        if now != last || last == 0 {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    assert!(last < 100 * LINES as u64 / 2, "{last} bytes were written");
    let resident = status_number(server.child.id(), "VmRSS");
    assert!(resident < 32 * 1024, "{resident} KiB for what waits");
    for number in 0..LINES {
        let text = client.text();
        assert!(text.starts_with(&format!("{number} ")) && text.len() == 100, "{number}: {text}");
    }
    client.expect_text("end");
    client.send_text("still here");
    client.expect_text("still here");
    assert!(runs(program));
}
