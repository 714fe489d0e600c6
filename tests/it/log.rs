//! What the server says about itself.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::process::{self, forking};
use crate::support::raw::Address;
use crate::support::server::BINARY;
use crate::support::{Client, Scratch, Server, wait_until};

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
    assert!(line.contains(" received=5"), "{line}");
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
        for name in ["pid", "client", "messages", "code", "received", "sent", "dropped", "status", "lines"] {
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
fn a_hostile_name_cannot_break_a_line() {
    let mut server = Server::with(&["-vv"]).cat();
    for target in HOSTILE {
        let mut client = server.join(target);
        client.expect_alive();
        client.leave();
    }
    // Refused, but told.
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
fn a_standard_error_that_nobody_reads_holds_nobody_up() {
    let scratch = Scratch::new();
    let socket = scratch.path("socket");
    let mut command = Command::new(BINARY);
    command
        .args(["--addr", &format!("unix:{}", socket.display()), "--stderr", "log", "--"])
        .args(["sh", "-c", "yes | head -c 2000000 >&2; echo done; cat"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = {
        let _alone = forking();
        command.spawn().expect("start the server")
    };
    wait_until("it listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let mut client = Client::connect(&Address::Unix(socket.clone()), "/room");
    client.expect_text("done");
    client.send_text("still here");
    client.expect_text("still here");
    client.leave();
    process::signal(child.id(), rustix::process::Signal::TERM);
    process::await_end(child.id());
    assert_eq!(child.wait().expect("wait").code(), Some(0));
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
    verbose.wait_for_line(&["DEBUG", "request", "target=/health", "status=200"]);
    assert!(!quiet.log.lines().iter().any(|line| line.contains("DEBUG")));
}
