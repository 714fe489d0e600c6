//! gwsocket's packets, byte by byte: a header of three big-endian words, then the payload.

use crate::support::openmetrics::scrape;
use crate::support::process::await_end;
use crate::support::{Client, Event, Scratch, Server, testprog, wait_until};

const TEXT: u32 = 1;
const BINARY: u32 = 2;

fn packet(client: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    [&[client, kind, payload.len() as u32].map(u32::to_be_bytes).concat(), payload].concat()
}

fn open_notice(client: u32) -> Vec<u8> {
    let mut address = b"127.0.0.1".to_vec();
    address.resize(46, 0);
    packet(client, 0x10, &address)
}

/// Prints these packets when it is told to go, and reads on.
fn printer(options: &[&str], scratch: &Scratch, output: &[u8]) -> Server {
    let file = scratch.file("output", output);
    Server::with(&["--serverframe=gwsocket"])
        .options(options)
        .sh(&format!("read -r go; cat {}; cat >/dev/null", file.display()))
}

#[test]
fn the_program_reads_exactly_the_packets_of_gwsocket() {
    let scratch = Scratch::new();
    let server =
        Server::with(&["--frame=gwsocket", "--maxmessage=2m"]).sh(&format!("cat > {}", scratch.name("seen")));
    let mut first = server.join("/room");
    first.send_text("hello");
    first.expect_alive();
    let mut second = server.join("/room");
    second.send_binary(b"\0\n\xff\n");
    second.send_text("");
    second.send_text("two\nlines\0");
    let large: Vec<u8> = (0..1u32 << 20).map(|at| (at % 251) as u8).collect();
    second.send_binary(&large);
    second.leave();
    first.send_binary(b"");
    first.leave();
    let wanted = [
        open_notice(1),
        packet(1, TEXT, b"hello"),
        open_notice(2),
        packet(2, BINARY, b"\0\n\xff\n"),
        packet(2, TEXT, b""),
        packet(2, TEXT, b"two\nlines\0"),
        packet(2, BINARY, &large),
        packet(2, 0x08, b""),
        packet(1, BINARY, b""),
        packet(1, 0x08, b""),
    ]
    .concat();
    let seen = scratch.await_bytes("seen", wanted.len());
    assert_eq!(open_notice(1).len(), 12 + 46);
    assert_eq!(seen[..58 + 17 + 58], wanted[..58 + 17 + 58]);
    assert!(seen == wanted, "{} bytes instead of {}", seen.len(), wanted.len());
    wait_until("the program has ended", || server.children().is_empty());
    assert_eq!(scratch.await_bytes("seen", 0).len(), wanted.len(), "nothing behind it");
}

#[test]
fn the_address_of_an_ipv6_client_has_neither_brackets_nor_port() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: there is no IPv6 here");
        return;
    }
    let server = Server::with(&["--frame=gwsocket"]).address("[::1]:0").testprog(&["packets"]);
    server.join("/room").expect_text("open 1 ::1");
}

#[test]
fn text_stays_text_and_binary_binary_both_ways_whatever_the_size() {
    let server = Server::with(&["--frame=gwsocket", "--maxmessage=2m"]).testprog(&["packets"]);
    let mut client = server.join("/room");
    client.expect_text("open 1 127.0.0.1");
    for length in [0, 1, 125, 126, 4096, 65_535, 65_536, 1 << 20] {
        let text: String = "a\n\u{fc}\0".chars().cycle().take(length).collect();
        client.send_text(&text);
        assert!(client.next() == Event::Text(text), "text of {length} characters");
        let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
        client.send_binary(&bytes);
        assert!(client.next() == Event::Binary(bytes), "{length} bytes");
    }
}

#[test]
fn client_0_means_all_and_other_ids_one_client() {
    let server = Server::with(&["--frame=gwsocket"]).testprog(&["packets"]);
    let mut first = server.join("/room");
    first.expect_text("open 1 127.0.0.1");
    let mut second = server.join("/room");
    for client in [&mut first, &mut second] {
        client.expect_text("open 2 127.0.0.1");
    }
    let mut elsewhere = server.join("/elsewhere");
    elsewhere.expect_text("open 3 127.0.0.1");
    first.send_text("own");
    first.send_text("2:private");
    first.send_binary(b"2:bytes");
    // No client here has these ids.
    first.send_text("3:elsewhere");
    first.send_text("99:nobody");
    first.send_text("0:all");
    first.expect_text("own");
    first.expect_text("0:all");
    second.expect_text("2:private");
    second.expect_binary(b"2:bytes");
    second.expect_text("0:all");
    second.leave();
    first.expect_text("close 2");
    elsewhere.send_text("quiet");
    elsewhere.expect_text("quiet");
    // A number is never another client's.
    let mut third = server.join("/room");
    third.expect_text("open 4 127.0.0.1");
}

#[test]
fn a_packet_may_arrive_in_parts() {
    let mut output = Vec::new();
    for number in 0..60u32 {
        let payload = format!("{number}\n{}", "x".repeat(number as usize % 7));
        output.extend(packet(0, TEXT, payload.as_bytes()));
        output.extend(packet(u32::from(number % 2 == 0), BINARY, &number.to_be_bytes()));
    }
    output.extend(packet(0, TEXT, b"end"));
    for step in [1, 5, 12, 13, 100_000] {
        let scratch = Scratch::new();
        let file = scratch.file("output", &output);
        let server = Server::with(&["--serverframe=gwsocket"]).sh(&format!(
            "read -r go; exec {} trickle {} {step}",
            testprog(),
            file.display()
        ));
        let mut client = server.join("/room");
        client.send_text("go");
        for number in 0..60u32 {
            client.expect_text(&format!("{number}\n{}", "x".repeat(number as usize % 7)));
            client.expect_binary(&number.to_be_bytes());
        }
        client.expect_text("end");
    }
}

#[test]
fn a_broken_framing_ends_only_that_program_with_1011() {
    for (bad, reason) in [
        (packet(0, 3, b"x"), "unknown type 0x3"),
        (packet(0, 0, b""), "unknown type 0x0"),
        (packet(0, 0x10, b""), "unknown type 0x10"),
        // As ScaleSocket 0.2 read it.
        ([1u32, 1, 3].map(u32::to_le_bytes).concat(), "unknown type 0x1000000"),
        (
            packet(0, TEXT, b"x")[..4].iter().chain(&[0, 0, 0, 1, 1, 0, 0, 1]).copied().collect(),
            "16777217 bytes, more than --maxline",
        ),
        ([0, 2, u32::MAX].map(u32::to_be_bytes).concat(), "4294967295 bytes"),
        (b"an ordinary line of text\n".to_vec(), "unknown type"),
    ] {
        let scratch = Scratch::new();
        let file =
            scratch.file("output", [packet(0, TEXT, b"before"), bad, packet(0, TEXT, b"behind")].concat());
        let server = Server::with(&["--frame=gwsocket"]).sh(&format!(
            "case $ROOM in bad) echo $$ > {}; cat {}; exec sleep 1000;; *) exec {} packets;; esac",
            scratch.name("pid"),
            file.display(),
            testprog()
        ));
        let mut good = server.join("/good");
        good.expect_text("open 1 127.0.0.1");
        let rss = server.rss();
        let mut client = server.join("/bad");
        assert_eq!(client.texts_to_close(1011), ["before"]);
        let line = server.wait_for_line(&["ERROR", "[bad]", "broke the framing"]);
        assert!(line.contains(reason), "{line}");
        let pid = String::from_utf8(scratch.await_bytes("pid", 2)).expect("a number");
        await_end(pid.trim().parse().expect("a number"));
        assert!(server.rss() < rss + 16 * 1024, "nothing is allocated for what is only claimed");
        good.send_text("still here");
        good.expect_text("still here");
        assert_eq!(server.join("/bad").texts_to_close(1011), ["before"], "the room starts anew");
    }
}

#[test]
fn a_packet_as_large_as_allowed_passes_and_one_that_never_ends_is_never_sent() {
    let scratch = Scratch::new();
    let largest = vec![b'x'; 1000];
    let unfinished = &packet(0, TEXT, b"unfinished")[..15];
    let file = scratch.file("output", [&packet(0, TEXT, &largest), unfinished].concat());
    let server = Server::with(&["--frame=gwsocket", "--maxline=1000"])
        .program(&["cat", file.to_str().expect("a path")]);
    let mut client = server.join("/room");
    assert_eq!(client.next(), Event::Text("x".repeat(1000)));
    client.expect_close(1000);
}

#[test]
fn invalid_utf8_in_text_is_replaced_and_counted_and_binary_is_unchanged() {
    let scratch = Scratch::new();
    let output = [
        packet(0, TEXT, b"a\xffb"),
        packet(0, BINARY, b"a\xffb"),
        packet(1, TEXT, b"\xc3"),
        packet(0, TEXT, b"good"),
    ];
    let server = printer(&["--metrics"], &scratch, &output.concat());
    let mut client = server.join("/room");
    client.send_text("go");
    client.expect_text("a\u{fffd}b");
    client.expect_binary(b"a\xffb");
    client.expect_text("\u{fffd}");
    client.expect_text("good");
    assert_eq!(scrape(&server).get("scalesocket_messages_repaired_total", &[]), Some(2.0));
    server.wait_for_line(&["WARN", "[room]", "not UTF-8"]);
}

#[test]
fn serverframe_alone_leaves_lines_to_the_program_and_clientframe_alone_lines_to_the_clients() {
    let scratch = Scratch::new();
    let output = [packet(1, TEXT, b"one"), packet(2, BINARY, b"two"), packet(0, TEXT, b"all")].concat();
    let server = printer(&["--joinmsg", "go"], &scratch, &output);
    let mut client = server.join("/room");
    client.expect_text("one");
    client.expect_text("all");

    let server = Server::with(&["--clientframe=gwsocket"]).sh(&format!(
        "head -c 58 >/dev/null; head -c 17 > {0}; wc -c < {0}; printf 'a\\nb'",
        scratch.name("seen")
    ));
    let mut client: Client = server.join("/room");
    client.send_text("hello");
    let texts = client.texts_to_close(1000);
    assert_eq!(texts.iter().map(|text| text.trim()).collect::<Vec<_>>(), ["17", "a", "b"]);
    assert_eq!(scratch.await_bytes("seen", 17), packet(1, TEXT, b"hello"));
}
