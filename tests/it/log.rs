//! What the server says about itself.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::process::{self, forking};
use crate::support::raw::Address;
use crate::support::server::{BINARY, Log};
use crate::support::{Client, Event, Scratch, Server, wait_until};

/// Names and queries that a client may send, as unpleasant as they can be.
const HOSTILE: [&str; 6] = [
    "/a=b[9]%0aERROR?x=%0d%0a",
    "/'$(reboot)'`;&|<>?{}",
    "/\u{202e}\u{fc}\u{1f600}\u{feff}",
    "/ro}om,message:x?room=evil",
    "/\u{2066}a\u{2028}2026-01-01T00:00:00.000Z\u{a0}ERROR\u{a0}[b]\u{2069}",
    "/\u{200b}\u{3000}\u{e000}\u{ad}'\u{fe0f}",
];

/// Characters that make a line read differently from what it says: no ASCII, not visible.
fn deceives(c: char) -> bool {
    c.is_control()
        || c.is_whitespace() && c != ' '
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// A server whose standard error is the test's own affair. Dropped, it is killed.
struct Bare {
    child: Child,
    address: Address,
    _scratch: Scratch,
}

impl Bare {
    /// Starts it through a shell line that ends in `exec "$@"`.
    fn start(line: &str, stderr: impl Into<Stdio>, script: &str) -> Self {
        let scratch = Scratch::new();
        let socket = scratch.path("socket");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", line, "sh", BINARY, "--addr", &format!("unix:{}", socket.display())])
            .args(["--stderr", "log", "--", "sh", "-c", script])
            .stdin(Stdio::null())
            .stderr(stderr);
        let child = {
            let _alone = forking();
            command.spawn().expect("start the server")
        };
        wait_until("it listens", || UnixStream::connect(&socket).is_ok());
        Self { child, address: Address::Unix(socket), _scratch: scratch }
    }

    fn join(&self, target: &str) -> Client {
        Client::connect(&self.address, target)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn text_lines_say_time_level_room_and_client() {
    let server = Server::cat();
    let mut client = server.join("/room");
    let address = client.address();
    client.send_text("hello");
    client.expect_text("hello");
    client.leave();
    let line = server.wait_for_line(&["INFO", "[room 1] client joined"]);
    assert!(line.ends_with(&format!(" address={address}")), "{line}");
    let (time, rest) = line.split_once(' ').expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    assert!(rest.starts_with("INFO  [room 1] client joined"), "{rest}");
    let line = server.wait_for_line(&["INFO", "[room 1] client left"]);
    let end = " received=1 received_bytes=5 sent=1 sent_bytes=5 dropped=0";
    assert!(line.contains(" code=1000 reason=\"closed by the client\" duration=0."), "{line}");
    assert!(line.ends_with(end), "{line}");
    // The address once.
    let line = server.wait_for_line(&["INFO", "listening on "]);
    assert_eq!(line.matches("127.0.0.1:").count() + line.matches("listening").count(), 2, "{line}");
    server.wait_for_line(&["INFO", "[room] program started", "pid="]);
    server.wait_for_line(&["INFO", "[room] program ended", "exit=\"exit status 0\""]);
}

#[test]
fn json_lines_are_one_object_each_with_numbers_as_numbers() {
    let mut server =
        Server::with(&["--log", "json", "-vv", "--stderr", "log", "--maxmessage=10", "--maxline=10"])
            .sh(r#"echo "oops \"\\ $(printf '\t\033') $ROOM" >&2; echo 12345678901; cat"#);
    for target in HOSTILE {
        let mut client = server.join(target);
        client.send_text("hello");
        client.expect_text("hello");
        client.send_text("far too much for it");
        client.expect_close(1009);
    }
    server.refused("/api", "");
    server.refused("/room", "Origin: http://evil.example\r\n");
    server.ask("GET", "/health?\u{fc}", "");
    server.stop();
    let lines = server.log.all_lines();
    assert_eq!(lines.iter().find(|line| line.contains(deceives)), None);
    let objects: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for object in &objects {
        assert!(object["time"].is_string() && object["message"].is_string(), "{object}");
        assert!(
            ["error", "warn", "info", "debug", "trace"].contains(&object["level"].as_str().expect("a level"))
        );
        for name in [
            "pid",
            "client",
            "messages",
            "code",
            "received",
            "received_bytes",
            "sent",
            "sent_bytes",
            "dropped",
            "status",
            "lines",
        ] {
            let value = &object[name];
            assert!(value.is_null() || value.is_number(), "{name} in {object}");
        }
    }
    for (id, target) in HOSTILE.iter().enumerate() {
        let room = target[1..].split('?').next().expect("a room");
        let joined = |object: &&Value| object["message"] == "client joined" && object["client"] == id + 1;
        let joined = objects.iter().find(joined).expect("a line for each");
        assert_eq!(joined["room"], room);
    }
    assert!(objects.iter().any(|object| object["listening"].is_string()));
}

#[test]
fn one_line_says_why_a_client_left_and_what_went_both_ways() {
    type Act = fn(&mut Client);
    let none = "received=0 received_bytes=0 sent=0 sent_bytes=0";
    let answered = "received=1 received_bytes=8 sent=2 sent_bytes=10";
    let cases: [(&str, &str, Act, &str, &str); 7] = [
        (
            "9",
            "cat",
            |client| client.send_close(4000, "why"),
            "code=4000 reason=\"closed by the client\"",
            none,
        ),
        (
            "9",
            "cat",
            |client| client.raw.end_sending(),
            "reason=\"connection ended without a close frame\"",
            none,
        ),
        ("9", "cat", |client| client.send([0xff; 20]), "code=1002 reason=\"protocol error\"", none),
        ("9", "cat", |client| client.send_text("0123456789"), "code=1009 reason=\"message too large\"", none),
        (
            "9",
            "read -r line; echo \"$line\"; echo 12; exit 3",
            |client| client.send_text("12345678"),
            "code=1011 reason=\"exit status 3\"",
            answered,
        ),
        (
            "9",
            "read -r line; echo \"$line\"; echo 12",
            |client| client.send_text("12345678"),
            "code=1000 reason=\"program ended\"",
            answered,
        ),
        ("0.3", "cat", |_| {}, "code=1008 reason=\"idle for too long\"", none),
    ];
    for (idle, script, act, why, counts) in cases {
        let server = Server::with(&["--maxmessage=9", "--idle", idle]).sh(script);
        let mut client = server.join("/room");
        act(&mut client);
        while !matches!(client.recv(), Event::End | Event::Reset) {}
        let line = server.wait_for_line(&["client left", "[room 1]"]);
        assert!(line.contains(&format!(" {why} duration=")), "{why}: {line}");
        assert!(line.ends_with(&format!(" {counts} dropped=0")), "{why}: {line}");
        for other in ["client closed", "client gone"] {
            assert_eq!(server.log.times(&[other]), (0, 0));
        }
    }
}

#[test]
fn what_is_dropped_is_logged_when_it_happens_and_not_when_the_client_leaves() {
    let mut server = Server::with(&["--frame=json"]).cat();
    let mut client = server.join("/room");
    for message in ["no json", "[1]", "{\"a\":1}"] {
        client.send_text(message);
    }
    client.expect_text("{\"_from\":1,\"a\":1}");
    let dropped = ["WARN", "[room 1] message dropped: not a JSON object"];
    wait_until("two lines", || server.log.times(&dropped) == (2, 2));
    client.leave();
    server.stop();
    assert_eq!(server.log.times(&["dropped: not"]), (2, 2));
}

#[test]
fn a_connection_with_a_request_is_not_logged_as_one_without() {
    let server = Server::with(&["-v"]).cat();
    assert_eq!(server.ask("GET", "/health", "").status, 200);
    drop(server.raw());
    server.wait_for_line(&["connection without a request", "reason=\"Closed before a request\""]);
    assert_eq!(server.log.times(&["connection without a request"]), (1, 1));
}

#[test]
fn a_hostile_name_cannot_break_a_line() {
    let mut server = Server::with(&["-vv"]).cat();
    for target in HOSTILE {
        let mut client = server.join(target);
        client.expect_alive();
        client.leave();
    }
    // Refused, with a response.
    server.ask("GET", "/plain%0aERROR\u{2028}?\u{85}\u{2028}", "User-Agent: x\r\n");
    server.stop();
    for line in server.log.all_lines() {
        assert!(line.len() > 25 && line.as_bytes()[23] == b'Z', "every line begins with its time: {line:?}");
        assert!(!line.chars().any(deceives), "{line:?}");
    }
    let server = Server::cat();
    server.member("/\u{202e}\u{fc}'");
    server.wait_for_line(&["[\\u{202e}\u{fc}' 1] client joined"]);
    // What a line tells to type can be copied.
    server.refused("/room", "Origin: null\r\n");
    server.wait_for_line(&["only --origin '*' lets it in"]);
}

#[test]
fn a_line_about_no_room_names_none() {
    let server = Server::cat();
    let mut raw = server.raw();
    raw.send("nonsense\r\n\r\n");
    assert_eq!(raw.response("GET").status, 400);
    let line = server.wait_for_line(&["WARN", "refused"]);
    assert!(line.contains("WARN  refused address="), "{line}");
}

#[test]
fn a_query_is_in_no_line() {
    for options in
        [&["-vv", "--api", "--metrics", "--cgienv"] as &[&str], &["-vv", "--log=json", "--rooms=room"]]
    {
        let mut server = Server::with(options).cat();
        server.member("/room?token=SECRET");
        for target in
            ["/room?SECRET", "/?SECRET", "/a/b?SECRET", "/metrics?SECRET", "/x y?SECRET", "/other?SECRET"]
        {
            let _ = server.ask_upgrade(target);
            for method in ["GET", "POST"] {
                server.ask(method, target, "Referer: http://h/?SECRET\r\n");
            }
        }
        server.ask("GET", "http://me:SECRET@host/x?SECRET", "");
        server.ask(
            "GET",
            "/room?SECRET",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n",
        );
        server.refused("/room?SECRET", "Origin: http://me:SECRET@evil.example?SECRET\r\n");
        server.stop();
        let lines = server.log.all_lines();
        assert!(lines.iter().any(|line| line.contains("426")), "{lines:#?}");
        assert_eq!(lines.iter().find(|line| line.contains("SECRET")), None);
    }
}

#[test]
fn a_line_that_repeats_is_written_once_a_second_with_its_count() {
    // One that repeats, between lines that are all different.
    let script = "if [ $ROOM = room ]; then yes again | head -n 5000; yes line | head -n 300 | cat -n; fi >&2; \
                  echo done; cat";
    let mut server = Server::with(&["--stderr", "log"]).sh(script);
    let mut client = server.join("/room");
    client.expect_text("done");
    server.wait_for_line(&["[room] stderr", "line=again", " repeated="]);
    server.wait_for_line(&["  300\\tline"]);
    client.leave();
    // Clients are told apart by number, their lines are not.
    for _ in 0..100 {
        let mut client = server.join("/other");
        client.expect_text("done");
        client.leave();
    }
    server.stop();
    let lines = server.log.all_lines();
    assert!(lines.last().is_some_and(|line| line.contains("server ended")), "{lines:#?}");
    let (number, written) = server.log.times(&["line=again"]);
    assert_eq!(number, 5000);
    assert!((11..100).contains(&written), "{written} lines");
    for line in 1..=300 {
        assert_eq!(server.log.times(&[&format!(" {line}\\tline")]), (1, 1), "{line}");
    }
    for message in ["client joined", "client left"] {
        assert_eq!(server.log.times(&["[other ", message]).0, 100, "{lines:#?}");
    }
}

#[test]
fn lines_at_an_ordinary_rate_are_all_written() {
    let mut server = Server::cat();
    for room in ["/a", "/b", "/c"] {
        for _ in 0..10 {
            server.member(room).leave();
        }
    }
    server.stop();
    let lines = server.log.all_lines();
    for room in ["a", "b", "c"] {
        for message in ["client joined", "client left"] {
            assert_eq!(server.log.times(&[&format!("[{room} "), message]), (10, 10), "{lines:#?}");
        }
    }
}

#[test]
fn lines_that_a_shared_standard_error_does_not_take_are_written_later_or_counted() {
    // Programs do this to a pipe that they share (node, for one).
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("a mode");
    let script = "i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done >&2; echo done; cat";
    let bare = Bare::start(r#"exec "$@""#, writer, script);
    let mut client = bare.join("/room");
    // No line has been read yet.
    client.expect_text("done");
    let log = Log::collect(reader);
    // listening, started, joined, and what the program said
    wait_until("every line is there, or counted", || {
        let lines = log.lines();
        let (notices, dropped) = dropped(lines.iter().map(String::as_str));
        lines.len() - notices + dropped == 20_003
    });
    let whole = |line: &String| line.as_bytes().get(23) == Some(&b'Z');
    assert_eq!(log.lines().iter().find(|line| !whole(line)), None, "every line is whole");
}

#[test]
fn a_log_file_that_is_full_does_no_harm_and_what_is_missing_is_counted() {
    let scratch = Scratch::new();
    let file = scratch.file("log", "");
    let line = format!(r#"exec "$@" 2>>{}"#, file.display());
    let bare = Bare::start(&line, Stdio::null(), "while read -r number; do echo \"line $number\" >&2; done");
    let size = |bytes| {
        let pid = rustix::process::Pid::from_raw(bare.child.id().cast_signed());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
        let limit = rustix::process::Rlimit { current: Some(bytes), ..limit };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).expect("set a limit");
    };
    size(4096);
    let mut client = bare.join("/room");
    for number in 0..500 {
        client.send_text(&number.to_string());
    }
    // Beyond it a write fails, and raises XFSZ, whose default ends a process.
    wait_until("the file is full", || std::fs::metadata(&file).expect("the log").len() == 4096);
    client.expect_alive();
    size(1 << 20);
    // listening, started, joined, and what the program said
    wait_until("every line is there, or counted", || {
        let text = std::fs::read(&file).expect("the log");
        let (before, after) = text.split_at(4096);
        let ends = |text: &[u8]| memchr::memchr_iter(b'\n', text).count();
        // A line that was begun when the file was full is not there.
        let torn = usize::from(!before.ends_with(b"\n") && !after.is_empty());
        let after = String::from_utf8_lossy(after);
        let (notices, dropped) = dropped(after.lines());
        ends(before) + ends(after.as_bytes()) - torn - notices + dropped == 503
    });
    let text = std::fs::read_to_string(&file).expect("the log");
    assert!(text.lines().any(|line| line.contains("WARN  log lines dropped lines=")), "{text}");
}

/// How many lines say that lines were dropped, and how many they were.
fn dropped<'a>(lines: impl Iterator<Item = &'a str>) -> (usize, usize) {
    let number = |line: &str| {
        let (_, rest) = line.split_once("log lines dropped lines=")?;
        rest.split(' ').next()?.parse::<usize>().ok()
    };
    let numbers: Vec<_> = lines.filter_map(number).collect();
    (numbers.len(), numbers.iter().sum())
}

#[test]
fn a_standard_error_that_is_not_read_delays_no_client() {
    let mut bare =
        Bare::start(r#"exec "$@""#, Stdio::piped(), "yes | head -n 20000 | cat -n >&2; echo done; cat");
    let mut client = bare.join("/room");
    client.expect_text("done");
    client.send_text("still here");
    client.expect_text("still here");
    client.leave();
    process::signal(bare.child.id(), rustix::process::Signal::TERM);
    process::await_end(bare.child.id());
    assert_eq!(bare.child.wait().expect("wait").code(), Some(0));
}

#[test]
fn verbose_says_more() {
    let quiet = Server::cat();
    let verbose = Server::with(&["-v"]).cat();
    for server in [&quiet, &verbose] {
        server.ask("GET", "/health", "");
        server.join("/room").leave();
        server.wait_for_line(&["program ended"]);
    }
    verbose.wait_for_line(&["DEBUG", "request", "path=/health", "status=200"]);
    assert!(!quiet.log.lines().iter().any(|line| line.contains("DEBUG")));
}
