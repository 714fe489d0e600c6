//! What is replayed to those who come later, and for how long it is remembered.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Client, Event, Scratch, Server, wait_until};

/// What a client sends is what the program prints.
fn mirror(options: &[&str]) -> Server {
    Server::with(options).cat()
}

/// Has the program print these, and sees to it that it has.
fn print(client: &mut Client, lines: &[&str]) {
    for line in lines {
        client.send_text(line);
    }
    client.send_text(r#"{"_to":[],"_except":null}"#);
    client.expect_alive();
}

/// What a newcomer sees before what it sends itself.
#[track_caller]
fn replay(server: &Server, target: &str) -> Vec<String> {
    let mut client = server.join(target);
    let own = format!("own of {}", client.address());
    client.send_text(&own);
    let mut texts = Vec::new();
    loop {
        match client.text() {
            text if text == own => break,
            text => texts.push(text),
        }
    }
    client.leave();
    texts
}

#[test]
fn the_last_messages_are_replayed_as_many_as_asked_for() {
    for (option, wanted) in [
        ("--cache=all:3", &["c", "d", "e"] as &[&str]),
        ("--cache=3", &["c", "d", "e"]),
        ("--cache=all:1", &["e"]),
        ("--cache=65536", &["a", "b", "c", "d", "e"]),
    ] {
        let server = mirror(&[option]);
        let mut first = server.join("/room");
        for line in ["a", "b", "c", "d", "e"] {
            first.send_text(line);
            first.expect_text(line);
        }
        assert_eq!(replay(&server, "/room"), wanted, "{option}");
        assert_eq!(replay(&server, "/other"), [""; 0], "of its own room only");
    }
    let server = mirror(&[]);
    let mut first = server.join("/room");
    first.send_text("a");
    first.expect_text("a");
    assert_eq!(replay(&server, "/room"), [""; 0], "nothing unless asked for");
}

#[test]
fn of_tagged_ones_the_last_are_replayed() {
    let server = mirror(&["--cache=tagged:2", "--serverframe=json"]);
    let mut first = server.join("/room");
    for line in [
        r#"{"n":1,"_cache":true}"#,
        r#"{"n":2}"#,
        r#"{"\u005fcache":true,"n":3}"#,
        r#"{"_cache":true,"n":4}"#,
        r#"{"_cache":false,"n":5}"#,
        r#"{"_cache":1,"n":6}"#,
        r#"{"a":{"_cache":true},"n":7}"#,
        r#"{"_cache":true,"_meta":true}"#,
        "plain",
    ] {
        first.send_text(line);
    }
    while first.text() != "plain" {}
    assert_eq!(replay(&server, "/room"), [r#"{"\u005fcache":true,"n":3}"#, r#"{"_cache":true,"n":4}"#]);
}

#[test]
fn private_messages_are_not_replayed_and_messages_for_all_but_some_are() {
    for (option, tag) in [("--cache=all:9", ""), ("--cache=tagged:9", r#","_cache":true"#)] {
        let server = mirror(&[option, "--serverframe=json"]);
        let mut first = server.join("/room");
        let _second = server.join("/room");
        let public = [
            format!(r#"{{"_except":1{tag}}}"#),
            format!(r#"{{"_except":[2,3,4]{tag}}}"#),
            format!(r#"{{"_to":null{tag}}}"#),
        ];
        for line in [
            format!(r#"{{"_to":1{tag}}}"#),
            public[0].clone(),
            format!(r#"{{"_to":[1,2,3,4]{tag}}}"#),
            public[1].clone(),
            format!(r#"{{"_to":"3"{tag}}}"#),
            format!(r#"{{"_to":[3,4],"_except":4{tag}}}"#),
            public[2].clone(),
        ] {
            first.send_text(&line);
        }
        while first.text() != public[2] {}
        // Also not to the client with the number that comes next.
        assert_eq!(replay(&server, "/room"), public, "{option}");
        assert_eq!(replay(&server, "/room").iter().filter(|text| text.contains("_to")).count(), 1);
    }
}

#[test]
fn a_joiner_sees_history_then_live_without_gap_or_double() {
    for (option, whole) in [("--cache=all:65536", true), ("--cache=50", false)] {
        let scratch = Scratch::new();
        let server = Server::with(&[option, "--patience=60"]).testprog(&["count", &scratch.name("go")]);
        let address = server.address().clone();
        // How far the first one is: it joins before the flood, and the others in the middle of it.
        let seen = AtomicU64::new(0);
        let follow = |mut client: Client, seen: &AtomicU64| {
            let mut next: Option<u64> = None;
            loop {
                let text = client.text();
                if text == "end" {
                    break;
                }
                let number: u64 = text.parse().expect("a number");
                assert_eq!(number, next.unwrap_or(if whole { 0 } else { number }), "{option}");
                next = Some(number + 1);
                seen.store(number + 1, Ordering::Relaxed);
            }
            next.unwrap_or(0)
        };
        let ends: Vec<u64> = std::thread::scope(|scope| {
            let first = scope.spawn(|| follow(Client::connect(&address, "/room"), &seen));
            let await_more = || {
                let before = seen.load(Ordering::Relaxed);
                wait_until("the flood goes on", || seen.load(Ordering::Relaxed) > before + 200);
            };
            await_more();
            let joiners: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..8).map(|_| Client::connect(&address, "/room")).collect::<Vec<_>>())
                })
                .collect();
            let clients: Vec<Client> =
                joiners.into_iter().flat_map(|joiner| joiner.join().expect("they join")).collect();
            await_more();
            scratch.file("go", "");
            let followers: Vec<_> = clients
                .into_iter()
                .map(|client| scope.spawn(|| follow(client, &AtomicU64::new(0))))
                .collect();
            followers.into_iter().chain([first]).map(|follower| follower.join().expect("in order")).collect()
        });
        assert!(ends[0] > 0 && ends.iter().all(|&end| end == ends[0]), "{ends:?}");
    }
}

#[test]
fn history_is_bounded_in_bytes_and_the_last_message_always_stays() {
    let server = mirror(&["--cache=65536", "--maxqueue=64k", "--slow=block"]);
    let mut first = server.join("/room");
    let line = |number: usize| format!("{number} {}", "x".repeat(1000));
    for number in 0..300 {
        first.send_text(&line(number));
        assert_eq!(first.text(), line(number));
    }
    let kept = replay(&server, "/room");
    assert!((30..=65).contains(&kept.len()), "{} lines of 1000 bytes in 64 KiB", kept.len());
    // Behind them stands what the one who looked has said.
    let wanted: Vec<_> = (300 - kept.len()..300).map(line).collect();
    assert_eq!(kept, wanted, "the last ones, in order");

    let large = "y".repeat(100_000);
    first.send_text(&large);
    while first.text() != large {}
    assert_eq!(replay(&server, "/room"), [large]);

    // What comes one by one is bounded too: many small ones.
    let server = mirror(&["--cache=65536", "--maxqueue=64k", "--slow=block"]);
    let mut first = server.join("/room");
    for _ in 0..50 {
        first.send_text(&"\n".repeat(999));
        for _ in 0..1000 {
            first.expect_text("");
        }
    }
    let kept = replay(&server, "/room").len();
    assert!((100..=1000).contains(&kept), "{kept} empty messages, which are not free");
}

#[test]
fn history_goes_with_the_program_unless_it_is_to_persist() {
    let script =
        r#"echo "start"; while read -r line; do case $line in exit) exit 0;; *) echo "$line";; esac; done"#;
    for persist in [false, true] {
        let options: &[&str] = if persist { &["--cache=9", "--cachepersist"] } else { &["--cache=9"] };
        let server = Server::with(options).sh(script);
        let mut client = server.join("/room");
        let mut seen = vec!["start".to_owned()];
        client.expect_text("start");
        for line in ["a", "b"] {
            client.send_text(line);
            client.expect_text(line);
            seen.push(line.to_owned());
        }
        // Another client keeps a place open only if it waits, so the room ends with the program.
        client.send_text("exit");
        client.expect_close(1000);
        drop(client);

        // Then the clients go first.
        for round in 0..2 {
            let mut client = server.join("/room");
            if persist {
                for line in &seen {
                    client.expect_text(line);
                }
            }
            client.expect_text("start");
            let line = format!("round {round}");
            client.send_text(&line);
            client.expect_text(&line);
            seen.extend(["start".to_owned(), line]);
            client.leave();
            wait_until("the program has ended", || server.children().is_empty());
        }
        // For no other client.
        server.join("/other").expect_text("start");
    }
}

#[test]
fn a_persistent_history_is_bounded_and_without_private_messages() {
    let server = mirror(&["--cache=2", "--cachepersist", "--serverframe=json"]);
    for round in 0..3 {
        let mut client = server.join("/room");
        let (line, private) = (format!("line {round}"), format!(r#"{{"_to":[1,2,3,4,5,6],"n":{round}}}"#));
        for old in (0..round).rev().take(2).collect::<Vec<_>>().into_iter().rev() {
            client.expect_text(&format!("line {old}"));
        }
        client.send_text(&private);
        client.expect_text(&private);
        print(&mut client, &[]);
        client.send_text(&line);
        client.expect_text(&line);
        client.leave();
        wait_until("the program has ended", || server.children().is_empty());
    }
}

#[test]
fn a_client_that_comes_back_during_the_linger_finds_the_history() {
    let server = mirror(&["--cache=9", "--linger=60"]);
    let mut client = server.join("/room");
    client.send_text("a");
    client.expect_text("a");
    client.leave();
    let mut client = server.join("/room");
    client.expect_text("a");
}

#[test]
fn history_keeps_the_kind_of_each_message() {
    let server = mirror(&["--cache=9", "--binary"]);
    let mut first = server.join("/room");
    first.send_binary(b"\0\xff");
    first.expect_binary(b"\0\xff");
    server.join("/room").expect_binary(b"\0\xff");

    let server = Server::with(&["--cache=9", "--frame=gwsocket"]).testprog(&["packets"]);
    let mut first = server.join("/room");
    first.expect_text("open 1 127.0.0.1");
    first.send_text("private");
    first.expect_text("private");
    first.send_binary(b"0:\xff");
    first.expect_binary(b"0:\xff");
    let mut second = server.join("/room");
    second.expect_text("open 1 127.0.0.1");
    second.expect_binary(b"0:\xff");
    assert_eq!(second.next(), Event::Text("open 2 127.0.0.1".to_owned()));
}
