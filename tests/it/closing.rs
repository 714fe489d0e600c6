//! How a websocket ends, and what is said about it.

use std::time::{Duration, Instant};

use crate::support::client::NO_CODE;
use crate::support::frame::{self, FIN, masked, unmasked};
use crate::support::{Event, Scratch, Server};

const RSV1: u8 = 0x40;

#[test]
fn the_close_code_shows_how_the_program_ended() {
    for (script, code, reason) in [
        ("echo bye", 1000, ""),
        ("echo bye; exit 3", 1011, "exit status 3"),
        ("echo bye; exit 255", 1011, "exit status 255"),
        ("echo bye; kill -9 $$", 1011, "killed by signal 9"),
        ("echo bye; kill -TERM $$", 1011, "killed by signal 15"),
    ] {
        let server = Server::sh(script);
        let mut client = server.join("/room");
        client.expect_text("bye");
        assert_eq!(client.expect_close(code), reason, "{script}");
    }
}

#[test]
fn all_that_a_program_said_comes_before_its_close() {
    let server = Server::with(&[]).sh("i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done; exit 7");
    let seen = server.join("/room").texts_to_close(1011);
    assert!(seen.iter().map(|text| text.parse()).eq((0..5000).map(Ok)), "{} lines", seen.len());
}

#[test]
fn a_protocol_error_closes_with_its_code_after_complete_messages_were_passed_on() {
    let server = Server::with(&["--leavemsg", "left", "--maxmessage", "200"]).cat();
    let mut watcher = server.join("/room");
    let part = masked(frame::TEXT, b"part");
    for (what, bytes, code) in [
        ("unmasked", unmasked(FIN | frame::TEXT, b"x"), 1002),
        ("unmasked close", unmasked(FIN | frame::CLOSE, b""), 1002),
        ("a reserved bit", masked(FIN | RSV1 | frame::TEXT, b"x"), 1002),
        ("a reserved bit in a ping", masked(FIN | RSV1 | frame::PING, b"x"), 1002),
        ("reserved data opcode", masked(FIN | 0x3, b"x"), 1002),
        ("reserved control opcode", masked(FIN | 0xb, b"x"), 1002),
        ("fragmented ping", masked(frame::PING, b"x"), 1002),
        ("fragmented close", masked(frame::CLOSE, b""), 1002),
        ("a ping of 126 bytes", masked(FIN | frame::PING, &[b'x'; 126]), 1002),
        ("a continuation of nothing", masked(FIN | frame::CONTINUATION, b"x"), 1002),
        ("a message within a message", [part.clone(), frame::text("x")].concat(), 1002),
        ("text that is not UTF-8", masked(FIN | frame::TEXT, b"a\xffb"), 1007),
        ("half a character", masked(FIN | frame::TEXT, b"\xc3"), 1007),
        ("a surrogate", masked(FIN | frame::TEXT, b"\xed\xa0\x80"), 1007),
        (
            "not UTF-8 in the second part",
            [part.clone(), masked(FIN | frame::CONTINUATION, b"\xff")].concat(),
            1007,
        ),
        ("too large", frame::text(&"x".repeat(201)), 1009),
        ("too large in parts", [part, masked(FIN | frame::CONTINUATION, &[b'x'; 197])].concat(), 1009),
        ("announced far too large", frame::head(FIN | frame::TEXT, 1 << 62, true), 1009),
        ("announced as large as can be", frame::head(FIN | frame::BINARY, (1 << 63) - 1, true), 1009),
        ("a close code that is never sent", frame::close(1005, ""), 1002),
        ("another one", frame::close(1006, ""), 1002),
        ("a close code of TLS", frame::close(1015, ""), 1002),
        ("a close code below all", frame::close(999, ""), 1002),
        ("a close code of 0", frame::close(0, ""), 1002),
        ("a close code that is not assigned", frame::close(1016, ""), 1002),
        ("a close code beyond all", frame::close(5000, ""), 1002),
        ("half a close code", masked(FIN | frame::CLOSE, b"\x03"), 1002),
        ("a close reason that is not UTF-8", masked(FIN | frame::CLOSE, b"\x03\xe8\xff"), 1007),
    ] {
        let mut client = server.join("/room");
        client.send([frame::text(what), bytes].concat());
        // Its own message and its leave come back to it if it is still there by then.
        let seen = loop {
            match client.next() {
                Event::Text(text) => assert!(text == what || text == "left", "{what}: {text}"),
                Event::Close(code, _) => break code,
                other => panic!("{what}: {other:?}"),
            }
        };
        assert_eq!(seen, code, "{what}");
        assert_eq!(client.next(), Event::End, "{what}");
        watcher.expect_text(what);
        watcher.expect_text("left");
    }
    assert!(server.rss() < 100_000, "{} KiB", server.rss());
}

#[test]
fn a_message_too_large_is_refused_also_while_it_still_comes() {
    let server = Server::cat();
    let mut client = server.join("/room");
    let sender = client.sender();
    let flood = std::thread::spawn(move || {
        let head = frame::head(FIN | frame::BINARY, 8 << 20, true);
        // It is cut off at some point, and must not stop at an earlier one.
        let _ = sender.try_send(&[head, vec![0; 8 << 20]].concat());
    });
    let Event::Close(1009, _) = client.next() else { panic!("no close") };
    flood.join().expect("the flood ends");
    server.wait_for_line(&["client left", "[room 1]"]);
}

#[test]
fn one_message_less_than_the_bound_in_many_parts_passes() {
    let server = Server::with(&["--maxmessage", "100"]).cat();
    let mut client = server.join("/room");
    client.send(masked(frame::TEXT, b"x"));
    for _ in 0..98 {
        client.send(masked(frame::CONTINUATION, b"x"));
    }
    client.send(masked(FIN | frame::CONTINUATION, b"x"));
    client.expect_text(&"x".repeat(100));
}

#[test]
fn a_clients_close_is_answered_with_its_own_code() {
    let server = Server::cat();
    let mut stays = server.join("/room");
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4000, 4999] {
        let mut client = server.join("/room");
        client.send_close(code, "a reason");
        client.expect_close(code);
    }
    let mut client = server.join("/room");
    client.answers = false;
    client.send(frame::close_without_code());
    client.expect_close(NO_CODE);
    stays.send_text("still here");
    stays.expect_text("still here");
}

#[test]
fn what_comes_after_a_close_frame_is_not_for_the_program() {
    let server = Server::with(&["--leavemsg", "left"]).cat();
    let mut watcher = server.join("/room");
    let mut client = server.join("/room");
    client.answers = false;
    client.send([frame::text("before"), frame::close(1000, ""), frame::text("after")].concat());
    watcher.expect_text("before");
    watcher.expect_text("left");
    watcher.send_text("end");
    watcher.expect_text("end");
}

#[test]
fn a_client_that_ends_without_a_close_frame_gets_1002() {
    let server = Server::cat();
    let mut client = server.join("/room");
    client.expect_alive();
    client.raw.end_sending();
    client.answers = false;
    client.expect_close(1002);
}

#[test]
fn a_client_that_sends_no_message_for_too_long_is_closed_with_1008() {
    let server = Server::with(&["--idle", "1", "--ping", "0.2"]).cat();
    let mut busy = server.join("/room");
    let mut idle = server.join("/other");
    let start = Instant::now();
    let sender = busy.sender();
    std::thread::scope(|scope| {
        let idle = scope.spawn(move || {
            // Pings and pongs are no messages.
            let mut pings = 0;
            loop {
                match idle.recv() {
                    Event::Ping(_) => pings += 1,
                    Event::Close(1008, reason) => {
                        assert!(reason.contains("idle"), "{reason}");
                        assert_eq!(idle.next(), Event::End);
                        return (pings, start.elapsed());
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        // Each message is echoed before the next: as slow as that goes, and never for a second.
        while !idle.is_finished() {
            sender.send_text("x");
            busy.expect_text("x");
        }
        let (pings, time) = idle.join().expect("closed");
        assert!(pings > 0 && time >= Duration::from_secs(1), "{pings} pings in {time:?}");
    });
    server.wait_for_line(&["idle", "code=1008"]);
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let server = Server::cat();
    let mut client = server.join("/room");
    for payload in [&b""[..], b"hello", &[0xff; 125]] {
        client.ping(payload);
        assert_eq!(client.next(), Event::Pong(payload.to_vec()));
    }
}

#[test]
fn control_frames_are_no_messages_and_may_be_larger() {
    let server = Server::with(&["--maxmessage", "10"]).cat();
    let mut client = server.join("/room");
    client.ping(&[b'x'; 125]);
    assert_eq!(client.next(), Event::Pong(vec![b'x'; 125]));
    client.send_close(1000, "a reason of more than ten bytes");
    client.expect_close(1000);
    let mut client = server.join("/room");
    client.send_text("eleven byte");
    client.expect_close(1009);
}

#[test]
fn control_frames_within_a_message_do_no_harm_and_are_not_for_the_program() {
    let scratch = Scratch::new();
    let server = Server::with(&[]).program(&["tee", &scratch.name("seen")]);
    let mut client = server.join("/room");
    client.send(masked(FIN | frame::PONG, b"nobody asked"));
    client.send(masked(frame::TEXT, b"one "));
    client.ping(b"now");
    assert_eq!(client.next(), Event::Pong(b"now".to_vec()));
    client.send(masked(FIN | frame::PONG, b"again"));
    client.send(masked(FIN | frame::CONTINUATION, b"message"));
    client.expect_text("one message");
    assert_eq!(scratch.await_bytes("seen", 12), b"one message\n");
}

#[test]
fn a_ping_behind_a_large_message_is_answered() {
    let server = Server::cat();
    let mut client = server.join("/room");
    let large = "x".repeat(100_000);
    let parts = [masked(frame::TEXT, &[b'a'; 600]), masked(FIN | frame::CONTINUATION, &[b'b'; 600])];
    let fragmented = ["a".repeat(600), "b".repeat(600)].concat();
    for (first, rest, text) in [
        (Vec::new(), frame::text(&large), &large),
        (parts[0].clone(), parts[1].clone(), &fragmented),
        (frame::text("before"), frame::text(&large), &large),
    ] {
        client.send(&first);
        client.ping(b"first");
        client.send([rest, frame::ping(b"second")].concat());
        let mut heard = Vec::new();
        while heard.len() < 3 || !heard.contains(&Event::Pong(b"second".to_vec())) {
            match client.next() {
                Event::Text(other) if other == "before" => {}
                event => heard.push(event),
            }
        }
        assert!(heard.contains(&Event::Text(text.clone())), "the message itself came back");
    }
}

#[test]
fn many_pings_at_once_are_answered_in_the_end_and_cost_nothing() {
    let server = Server::cat();
    let mut client = server.join("/room");
    let sender = client.sender();
    let pings: Vec<u8> = (0..10_000).flat_map(|_| frame::ping(&[b'x'; 100])).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sender.try_send(&pings).expect("pings are read");
            sender.try_send(&frame::ping(b"last")).expect("and the last one");
            sender.send_text("end");
        });
        // The latest pong may stand for those before it (RFC 6455 §5.5.3).
        let mut last = Vec::new();
        loop {
            match client.next() {
                Event::Pong(payload) => last = payload,
                Event::Text(text) => {
                    assert_eq!(text, "end");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        if last != b"last" {
            assert_eq!(client.next(), Event::Pong(b"last".to_vec()));
        }
    });
    assert!(server.rss() < 100_000, "{} KiB", server.rss());
}
