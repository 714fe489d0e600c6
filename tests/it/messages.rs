//! What is a message, in both directions.

use crate::support::client::handshake;
use crate::support::frame::{self, FIN, masked};
use crate::support::openmetrics::scrape;
use crate::support::{Event, Scratch, Server, wait_until};

/// Writes what comes in to a file, and says nothing.
fn recorder(options: &[&str], scratch: &Scratch) -> Server {
    Server::with(options).program(&["sh", "-c", r#"cat > "$1""#, "sh", &scratch.name("seen")])
}

#[test]
fn a_line_is_a_message_without_its_end() {
    let server = Server::sh(r"printf 'one\ntwo\r\n\n\r\n\r\r\n a \tb\nlast'");
    let seen = server.join("/room").texts_to_close(1000);
    assert_eq!(seen, ["one", "two", "", "", "\r", " a \tb", "last"]);
}

#[test]
fn a_line_that_comes_in_parts_is_one_message() {
    let scratch = Scratch::new();
    let server = Server::sh(&format!(
        r"printf 'par'; while [ ! -e {0} ]; do sleep 0.01; done; printf 'ts\nand'; read -r line; printf ' more\n'; cat",
        scratch.name("go")
    ));
    let mut client = server.join("/room");
    client.expect_alive();
    scratch.file("go", "");
    client.expect_text("parts");
    client.send_text("go on");
    client.expect_text("and more");
}

#[test]
fn a_message_is_a_line_and_nothing_of_it_is_changed() {
    let scratch = Scratch::new();
    let server = recorder(&[], &scratch);
    let mut client = server.join("/room");
    client.send_text("one");
    client.send_text("");
    client.send_text("two\nlines\r\n");
    client.send_binary(b"\x00\xff\xfe");
    client.send_text(" \u{fc} \u{1f600} ");
    let wanted = "one\n\ntwo\nlines\r\n\n".bytes().chain(*b"\x00\xff\xfe\n");
    let wanted: Vec<u8> = wanted.chain(" \u{fc} \u{1f600} \n".bytes()).collect();
    assert_eq!(scratch.await_bytes("seen", wanted.len()), wanted);
}

#[test]
fn delimiters_are_a_set_of_bytes_and_only_the_newline_takes_its_carriage_return() {
    for (options, output, wanted) in [
        (&["--delimiters=;,"] as &[&str], r"a;b,c\nd\r;,e", &["a", "b", "c\nd\r", "", "e"] as &[&str]),
        (&["--delimiters=\\n;"], r"a\r\nb;c", &["a\r", "b", "c"]),
        (&["--delimiters=\\x1e"], r"a\036b\nc\036", &["a", "b\nc"]),
        (&["--delimiters=\\n"], r"a\r\nb\n", &["a", "b"]),
        (&["--null"], r"a\r\000b\nc\000", &["a\r", "b\nc"]),
        (&["--null", "--delimiters=,"], r"a\000b,c\n", &["a", "b", "c\n"]),
    ] {
        let server = Server::with(options).sh(&format!("printf '{output}'"));
        assert_eq!(server.join("/room").texts_to_close(1000), wanted, "{options:?}");
    }
}

#[test]
fn what_ends_a_message_to_the_program_is_a_newline_whatever_ends_its_own() {
    for option in ["--null", "--delimiters=;"] {
        let scratch = Scratch::new();
        let server = recorder(&[option], &scratch);
        let mut client = server.join("/room");
        client.send_text("one");
        client.send_text("two");
        assert_eq!(scratch.await_bytes("seen", 8), b"one\ntwo\n", "{option}");
    }
}

#[test]
fn binary_adds_nothing_and_takes_both_kinds_of_frames() {
    let server = Server::with(&["-b"]).testprog(&["pieces"]);
    let mut client = server.join("/room");
    client.send_binary(b"\x00\r\n\xff");
    client.expect_binary(b"\x00\r\n\xff");
    client.send_text("text");
    client.expect_binary(b"text");
    let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    client.send_binary(&all);
    assert_eq!(client.bytes(all.len()), all);
}

#[test]
fn clients_of_a_program_that_never_reads_are_read_with_input_discard() {
    let server =
        Server::with(&["--input=discard", "--joinmsg=+#ID", "--metrics", "--maxmessage=100k", "--ping=0"])
            .sh("read -r join; echo $join; exec sleep 1000");
    let mut client = server.join("/room");
    client.expect_text("+1");
    let mut other = server.member("/room");
    // More than the pipe, the queue and the sockets hold.
    let payload = vec![b'x'; 50_000];
    for _ in 0..40 {
        client.send_binary(&payload);
        client.expect_alive();
    }
    other.expect_alive();
    let count = |name: &str, label| scrape(&server).get(name, &[label]);
    assert_eq!(count("scalesocket_messages_dropped_total", ("reason", "discarded")), Some(40.0));
    assert_eq!(count("scalesocket_messages_total", ("from", "client")), Some(0.0));
    assert!(!server.log.lines().iter().any(|line| line.contains("dropped:")), "it is what was asked for");
    // The bounds of a message hold all the same.
    client.send_text(&"x".repeat(100 * 1024 + 1));
    client.expect_close(1009);
}

#[test]
fn join_and_leave_messages_are_sent_with_input_discard() {
    let scratch = Scratch::new();
    let server = recorder(&["--input", "discard", "--joinmsg=+#ID", "--leavemsg=-#ID"], &scratch);
    let mut client = server.join("/room");
    client.send_text("hello");
    client.leave();
    server.wait_for_line(&["program ended"]);
    assert_eq!(scratch.await_bytes("seen", 6), b"+1\n-1\n");
}

#[test]
fn join_and_leave_messages_end_as_the_messages_of_clients_do() {
    for (options, wanted) in [
        (&["--binary"] as &[&str], "+1hi-1"),
        (&[], "+1\nhi\n-1\n"),
        (&["--null"], "+1\nhi\n-1\n"),
        (&["--frame=json"], "+1\n{\"_from\":1}\n-1\n"),
    ] {
        let scratch = Scratch::new();
        let server = recorder(&[&["--joinmsg=+#ID", "--leavemsg=-#ID"], options].concat(), &scratch);
        let mut client = server.join("/room");
        client.send_text(if options == ["--frame=json"] { "{}" } else { "hi" });
        client.leave();
        server.wait_for_line(&["program ended"]);
        assert_eq!(
            scratch.await_bytes("seen", wanted.len()).escape_ascii().to_string(),
            wanted.escape_default().to_string(),
            "{options:?}"
        );
    }
}

#[test]
fn a_long_line_is_thrown_away_and_counted_and_the_program_lives() {
    let server = Server::with(&["--maxline", "10"])
        .sh(r"printf '12345678901\n1234567890\n12345678901234567890\r\n1234567890\r\n'; cat");
    let mut client = server.join("/room");
    client.expect_text("1234567890");
    client.expect_text("1234567890");
    client.send_text("still here");
    client.expect_text("still here");
    // How many lines one read gave is the pipe's affair.
    wait_until("both are counted", || {
        let lines = server.log.lines();
        let counts = lines
            .iter()
            .filter(|line| line.contains("oversized line discarded") && line.contains("limit=10"));
        let count = |line: &String| {
            let rest = line.split_once("lines=").expect("a count").1;
            rest.split(' ').next().expect("a number").parse::<u32>().expect("a number")
        };
        counts.map(count).sum::<u32>() == 2
    });
}

#[test]
fn the_bounds_of_clients_and_program_are_each_their_own() {
    for (framing, end) in [("--delimiters=\\n", "\\n"), ("--serverframe=json", "\\n"), ("--null", "\\0")] {
        let server = Server::with(&["--maxmessage=10", "--maxline=20", framing])
            .sh(&format!("read -r go; printf '%020d{end}%021d{end}end{end}' 1 2; cat"));
        let mut client = server.join("/room");
        client.send_text("go");
        client.expect_text(&format!("{:020}", 1));
        client.expect_text("end");
        client.send_text("01234567890");
        client.expect_close(1009);
    }
    // More than a program is allowed by --maxline, and a client by --maxmessage.
    let server = Server::with(&["--maxline=10", "--maxmessage=20"]).sh("read -r line; echo ${#line}; cat");
    let mut client = server.join("/room");
    client.send_text(&"x".repeat(20));
    client.expect_text("20");
}

#[test]
fn a_line_of_16_mib_arrives_by_default_and_one_byte_more_does_not() {
    let server = Server::sh(
        "line() { head -c $1 /dev/zero | tr '\\0' x; echo; }; line 1500000; line 16777216; line 16777217; \
         echo end; cat",
    );
    let mut client = server.join("/room");
    for length in [1_500_000, 16 << 20] {
        let text = client.text();
        assert!(text.len() == length && text.bytes().all(|byte| byte == b'x'), "{} bytes", text.len());
    }
    client.expect_text("end");
    server.wait_for_line(&[
        "WARN",
        "[room]",
        "oversized line discarded",
        "--maxline",
        "lines=1",
        "limit=16777216",
    ]);
}

#[test]
fn a_line_beyond_all_bounds_is_thrown_away_without_being_held() {
    let server = Server::with(&["--maxline", "64k"])
        .sh("echo start; head -c 300000000 /dev/zero | tr '\\0' x; echo; echo end; cat");
    let mut client = server.join("/room");
    client.expect_text("start");
    client.expect_text("end");
    assert!(server.rss() < 100_000, "{} KiB", server.rss());
}

#[test]
fn invalid_utf8_is_replaced_and_the_stream_continues() {
    let server = Server::sh(r"printf 'a\377b\n\303\n\355\240\200\ngood \303\274\n'; cat");
    let mut client = server.join("/room");
    client.expect_text("a\u{fffd}b");
    client.expect_text("\u{fffd}");
    let surrogate = client.text();
    assert!(surrogate.chars().all(|c| c == '\u{fffd}') && !surrogate.is_empty(), "{surrogate:?}");
    client.expect_text("good \u{fc}");
    server.wait_for_line(&["WARN", "[room]", "not UTF-8"]);
    client.send_text("on");
    client.expect_text("on");
}

#[test]
fn a_fragmented_message_is_one_line_also_where_a_character_is_cut() {
    let scratch = Scratch::new();
    let server = recorder(&[], &scratch);
    let mut client = server.join("/room");
    client.send(masked(frame::TEXT, b"he"));
    client.send(masked(frame::CONTINUATION, b""));
    client.send(masked(frame::CONTINUATION, b"ll"));
    client.send(masked(FIN | frame::CONTINUATION, b"o"));
    let umlaut = "\u{fc}".as_bytes();
    client.send(masked(frame::TEXT, &umlaut[..1]));
    client.send(masked(FIN | frame::CONTINUATION, &umlaut[1..]));
    assert_eq!(scratch.await_bytes("seen", 9), "hello\n\u{fc}\n".as_bytes());
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_a_frame() {
    let server = Server::cat();
    let mut client = server.join("/room");
    for byte in [frame::text("slowly"), frame::text(&"x".repeat(200))].concat() {
        client.send([byte]);
    }
    client.expect_text("slowly");
    client.expect_text(&"x".repeat(200));
}

#[test]
fn frames_in_the_packet_of_the_handshake_are_messages() {
    let server = Server::with(&["--joinmsg", "joined"]).cat();
    let mut raw = server.raw();
    let frames = [frame::text("one"), frame::text("two")].concat();
    raw.send([handshake("/room", "").into_bytes(), frames].concat());
    let mut client = crate::support::Client::shake_hands(raw).expect("let in");
    client.expect_text("joined");
    client.expect_text("one");
    client.expect_text("two");
}

#[test]
fn a_handshake_a_message_a_close_and_the_end_in_one_packet_leave_nothing_behind() {
    let server = Server::with(&["--joinmsg", "+#ID", "--leavemsg", "-#ID"]).cat();
    let threads = server.threads();
    let mut watcher = server.join("/watched");
    watcher.expect_text("+1");
    for round in 0..40 {
        let room = if round % 2 == 0 { "/watched" } else { "/alone" };
        let mut raw = server.raw();
        let frames = [frame::text("hello"), frame::close(4001, "bye")].concat();
        raw.send([handshake(room, "").into_bytes(), frames].concat());
        raw.end_sending();
        let mut client = crate::support::Client::shake_hands(raw).expect("let in");
        client.answers = false;
        assert_eq!(client.skip_to_close(4001), "");
        if round % 2 == 0 {
            let id = round + 2;
            for wanted in [format!("+{id}"), "hello".into(), format!("-{id}")] {
                watcher.expect_text(&wanted);
            }
        }
    }
    watcher.leave();
    wait_until("all programs have ended", || server.children().is_empty());
    wait_until("all threads have ended", || server.threads() == threads);
    // The log has a thread of its own.
    wait_until("all joins and leaves are logged", || {
        let count = |what: &str| server.log.times(&[what]).0;
        (count("client joined"), count("client left")) == (41, 41)
    });
}

#[test]
fn a_message_as_large_as_allowed_passes_both_ways() {
    let server = Server::with(&["--maxmessage", "1m"]).cat();
    let mut client = server.join("/room");
    let message = "0123456789abcdef".repeat(65_536);
    client.send_text(&message);
    assert_eq!(client.next(), Event::Text(message));
}

#[test]
fn every_client_of_a_room_gets_every_message_in_its_order() {
    let server = Server::cat();
    let mut clients: Vec<_> = (0..10).map(|_| server.join("/room")).collect();
    for client in &mut clients {
        client.expect_alive();
    }
    let senders: Vec<_> = clients.iter().map(crate::support::Client::sender).collect();
    std::thread::scope(|scope| {
        for (index, sender) in senders.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..100 {
                    sender.send_text(&format!("{index} {number}"));
                }
            });
        }
        for client in &mut clients {
            scope.spawn(move || {
                let mut next = [0; 10];
                for _ in 0..1000 {
                    let text = client.text();
                    let (index, number) = text.split_once(' ').expect("two numbers");
                    let index: usize = index.parse().expect("a number");
                    assert_eq!(number.parse(), Ok(next[index]), "of {index}");
                    next[index] += 1;
                }
            });
        }
    });
}

#[test]
fn messages_that_come_together_are_passed_on_whatever_comes_last() {
    let scratch = Scratch::new();
    let server = recorder(&[], &scratch);
    let messages: Vec<Vec<u8>> = (0..500).map(|n| frame::text(&format!("message {n}"))).collect();
    let half = frame::text("only begun");
    let lasts: [(&str, Vec<u8>); 5] = [
        ("nothing", Vec::new()),
        ("a ping", frame::ping(b"now")),
        ("a part of a message", half[..half.len() - 1].to_vec()),
        ("what is against the protocol", frame::unmasked(FIN | frame::TEXT, b"bad")),
        ("a close", frame::close(1000, "")),
    ];
    let lines = (0..500).map(|n| format!("message {n}\n")).collect::<Vec<_>>().concat();
    for (round, (what, last)) in lasts.iter().enumerate() {
        let mut client = server.join(&format!("/room{round}"));
        client.send([messages.concat(), last.clone()].concat());
        // No more data arrives: what has arrived must not wait for it.
        assert_eq!(scratch.await_bytes("seen", lines.len()), lines.as_bytes(), "{what}");
        client.reset();
        wait_until("the program has ended", || server.children().is_empty());
        scratch.file("seen", "");
    }
}

#[test]
fn messages_of_all_sizes_sent_at_once_come_back_in_order() {
    let server = Server::cat();
    let mut client = server.join("/room");
    // Around what is read at a time, put together at most, passed on alone, and held by a pipe.
    let sizes = [1, 900, 994, 1000, 1006, 4090, 4096, 4100, 16_384, 65_530, 65_536, 200_000, 3];
    let texts: Vec<String> =
        sizes.iter().cycle().take(4 * sizes.len()).map(|&size| "x".repeat(size)).collect();
    let sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let all: Vec<u8> = texts.iter().flat_map(|text| frame::text(text)).collect();
            sender.try_send(&all).expect("sent");
        });
        for text in &texts {
            client.expect_text(text);
        }
    });
}
