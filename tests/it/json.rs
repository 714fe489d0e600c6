//! JSON framing: who a message is from, whom it is for, and what is no message at all.

use std::fmt::Write as _;

use crate::support::openmetrics::{await_value, scrape};
use crate::support::{Client, Event, Scratch, Server, wait_until};

const DROPPED: &str = "scalesocket_messages_dropped_total";

/// What a client sends is what the program prints, so it can speak for the program.
fn program_is_a_mirror(options: &[&str]) -> Server {
    Server::with(&["--serverframe=json"]).options(options).cat()
}

/// All texts up to this one.
#[track_caller]
fn texts_before(client: &mut Client, mark: &str) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let text = client.text();
        if text == mark {
            return texts;
        }
        texts.push(text);
    }
}

#[test]
fn from_comes_first_and_is_ours_and_all_else_is_kept_byte_for_byte() {
    // Clients see the program's input as it is.
    let server = Server::with(&["--clientframe=json"]).cat();
    let mut client = server.member("/room");
    let mut other = server.member("/room");
    for (message, wanted) in [
        ("{}", r#"{"_from":1}"#),
        ("  { }  ", r#"{"_from":1}"#),
        (r#"{"a":1}"#, r#"{"_from":1,"a":1}"#),
        // A client cannot give the id of another.
        (r#"{"_from":2}"#, r#"{"_from":1}"#),
        (r#"{"a":1,"_from":2,"b":3,"_from":[4]}"#, r#"{"_from":1,"a":1,"b":3}"#),
        (r#"{"\u005ffrom":2,"_fr\u006Fm":{"x":3},"a":1}"#, r#"{"_from":1,"a":1}"#),
        (r#"{"_from" : 2 , "a":1}"#, r#"{"_from":1, "a":1}"#),
        // What is not at the top, or not that name, is the client's own.
        (r#"{"a":{"_from":2},"b":[{"_from":3}]}"#, r#"{"_from":1,"a":{"_from":2},"b":[{"_from":3}]}"#),
        (r#"{"_From":2,"_from2":3,"_fro":4,"":5}"#, r#"{"_from":1,"_From":2,"_from2":3,"_fro":4,"":5}"#),
        // Order, the spelling of numbers, escapes, white space within values.
        (
            r#"{"z":1.50e+05,"a":-0,"m":123456789012345678901234567890,"\u0041\/\uD800":"\u00e4\b ö  x"}"#,
            r#"{"_from":1,"z":1.50e+05,"a":-0,"m":123456789012345678901234567890,"\u0041\/\uD800":"\u00e4\b ö  x"}"#,
        ),
        (r#"{"a": [ 1,  2 ] ,"a":3}"#, r#"{"_from":1,"a": [ 1,  2 ],"a":3}"#),
        // One message is one line.
        ("{\n\t\"a\" :\r\n[1,\n{\"b\"\n:2}]\n}\n", "{\"_from\":1,\"a\" :  [1, {\"b\" :2}]}"),
        (r#"{"a":"\n{\"_from\":9}\n"}"#, r#"{"_from":1,"a":"\n{\"_from\":9}\n"}"#),
    ] {
        client.send_text(message);
        client.expect_text(wanted);
        other.expect_text(wanted);
        // The kind of the frame says nothing here.
        client.send_binary(message.as_bytes());
        client.expect_text(wanted);
        other.expect_text(wanted);
    }
    other.send_text("{\"_from\":1}");
    client.expect_text("{\"_from\":2}");
}

#[test]
fn a_message_that_is_not_a_json_object_is_dropped_and_counted() {
    let server = Server::with(&["--frame=json", "--metrics"]).cat();
    let mut client = server.join("/room");
    let bad = [
        "",
        " ",
        "hello",
        "1",
        "null",
        "[]",
        "[{}]",
        "\"{}\"",
        "{",
        "}",
        "{}{}",
        "{} x",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "\u{feff}{}",
        "{}\0",
    ];
    for message in bad {
        client.send_text(message);
    }
    client.send_binary(b"{\"a\":\"\xff\"}");
    client.send_text(r#"{"still":"here"}"#);
    client.expect_text(r#"{"_from":1,"still":"here"}"#);
    let metrics = scrape(&server);
    assert_eq!(metrics.get(DROPPED, &[("reason", "not json")]), Some(bad.len() as f64 + 1.0));
    assert_eq!(metrics.get("scalesocket_messages_total", &[("from", "client")]), Some(1.0));
    server.wait_for_line(&["WARN", "[room 1]", "message dropped: not a JSON object"]);
}

#[test]
fn a_message_goes_only_to_the_clients_that_it_names() {
    let server = program_is_a_mirror(&[]);
    let mut clients = server.members("/room", 4);
    let mut elsewhere = server.join("/elsewhere");
    for (number, (message, wanted)) in [
        (r#"{"a":1}"#, &[1usize, 2, 3, 4] as &[usize]),
        (r#"{"_to":2}"#, &[2]),
        (r#" {"a":[{}], "_to" : 4 }"#, &[4]),
        (r#"{"_to":[1,3]}"#, &[1, 3]),
        (r#"{"_to":[ 2 , 2 ]}"#, &[2]),
        (r#"{"_to":[]}"#, &[]),
        (r#"{"\u005fto":3}"#, &[3]),
        (r#"{"_to":null}"#, &[1, 2, 3, 4]),
        (r#"{"_except":2}"#, &[1, 3, 4]),
        (r#"{"_except":[1,2,3,4]}"#, &[]),
        (r#"{"_except":[]}"#, &[1, 2, 3, 4]),
        (r#"{"_except":null}"#, &[1, 2, 3, 4]),
        // Both: those named who are not excepted.
        (r#"{"_except":[2,4],"_to":[1,2]}"#, &[1]),
        (r#"{"_to":[1,2],"_except":null}"#, &[1, 2]),
        (r#"{"_to":null,"_except":1}"#, &[2, 3, 4]),
        // Who is not here: also one in another room, and one who never was.
        (r#"{"_to":5}"#, &[]),
        (r#"{"_to":[5,99,3]}"#, &[3]),
        (r#"{"_to":0}"#, &[]),
        (r#"{"_to":18446744073709551615}"#, &[]),
        (r#"{"_except":[77,1]}"#, &[2, 3, 4]),
        // Only the outermost object says whom it is for.
        (r#"{"a":{"_to":2}}"#, &[1, 2, 3, 4]),
        (r#"{"a":"_to","_To":1}"#, &[1, 2, 3, 4]),
    ]
    .into_iter()
    .enumerate()
    {
        clients[number % 4].send_text(message);
        let mark = format!("mark {number}");
        clients[number % 4].send_text(&mark);
        for (index, client) in clients.iter_mut().enumerate() {
            // As the program spelt it, header and all.
            let own: &[&str] = if wanted.contains(&(index + 1)) { &[message] } else { &[] };
            assert_eq!(texts_before(client, &mark), own, "{message} to {}", index + 1);
        }
    }
    elsewhere.send_text("own");
    elsewhere.expect_text("own");
}

#[test]
fn a_malformed_address_is_never_a_broadcast() {
    let server = program_is_a_mirror(&["--metrics", "--cache=all:99"]);
    let mut clients = server.members("/room", 2);
    let bad = [
        r#"{"_to":"2"}"#,
        r#"{"_to":-1}"#,
        r#"{"_to":1.0}"#,
        r#"{"_to":1e0}"#,
        r#"{"_to":true}"#,
        r#"{"_to":{}}"#,
        r#"{"_to":[[1]]}"#,
        r#"{"_to":[1,"2"]}"#,
        r#"{"_to":[null]}"#,
        r#"{"_to":99999999999999999999}"#,
        r#"{"_except":"1"}"#,
        r#"{"_to":1,"_except":[1.5]}"#,
        r#"{"_to":1,"_to":"all"}"#,
        r#"{"_meta":"yes"}"#,
    ];
    for message in bad {
        clients[0].send_text(message);
    }
    clients[0].send_text("mark");
    for client in &mut clients {
        client.expect_text("mark");
    }
    assert_eq!(scrape(&server).get(DROPPED, &[("reason", "malformed header")]), Some(bad.len() as f64));
    server.wait_for_line(&["WARN", "[room]", "discarded", "_to"]);
    // They are not kept in the history either.
    server.join("/room").expect_text("mark");
}

#[test]
fn a_private_message_is_private_however_deep_it_is() {
    let server = program_is_a_mirror(&["--cache=99"]);
    let mut clients = server.members("/room", 2);
    for depth in [1, 100, 126, 127, 128, 129, 200, 10_000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        clients[0].send_text(&format!(r#"{{"_to":1,"a":{open}{close}}}"#));
        clients[0].send_text(&format!(r#"{{"a":{open}{close},"_to":1}}"#));
    }
    clients[0].send_text("mark");
    assert_eq!(texts_before(&mut clients[1], "mark"), [""; 0], "it is for the other one");
    let mine = texts_before(&mut clients[0], "mark");
    assert!(mine.len() >= 6, "{} of 16", mine.len());
    server.join("/room").expect_text("mark");
}

#[test]
fn metadata_is_shown_by_the_api_and_not_sent_to_clients() {
    let server = program_is_a_mirror(&["--api", "--cache=9"]);
    let metadata = || {
        let text = server.ask("GET", "/api/room/metadata", "").text().to_owned();
        let whole: serde_json::Value =
            serde_json::from_str(server.ask("GET", "/api/room/", "").text()).expect("JSON");
        assert_eq!(whole["metadata"], serde_json::from_str::<serde_json::Value>(&text).expect("JSON"));
        text
    };
    let mut client = server.join("/room");
    assert_eq!(metadata(), "null");
    for (meta, shown) in [
        (r#"{"_meta":true,"map":"x"}"#, r#"{"map":"x"}"#),
        (r#" {"n":1.50, "_meta" : true, "_to":1}"#, r#"{"n":1.50, "_to":1}"#),
        (r#"{"\u005fmeta":true}"#, "{}"),
    ] {
        client.send_text(meta);
        client.send_text("mark");
        client.expect_text("mark");
        assert_eq!(metadata(), shown);
    }
    client.send_text(r#"{"_meta":false}"#);
    client.expect_text(r#"{"_meta":false}"#);
    client.leave();
    wait_until("the room is gone", || server.ask("GET", "/api/rooms", "").text() == "[]");
    assert_eq!(server.ask("GET", "/api/room/metadata", "").text(), "null");
    let mut client = server.join("/room");
    client.expect_alive();
    assert_eq!(server.ask("GET", "/api/room/metadata", "").text(), "null", "it was of the room before");
}

#[test]
fn a_line_that_is_no_json_object_is_a_broadcast_as_it_is() {
    let lines = [
        "hello",
        "",
        "1",
        "[1]",
        "\"_to\"",
        "{",
        "{\"_to\":2",
        "{\"_to\":2}x",
        "_to:2",
        "{_to:2}",
        "{\"_to\":2,}",
        "\u{feff}{\"_to\":2}",
    ];
    let scratch = Scratch::new();
    let file = scratch.file("lines", lines.join("\n"));
    let server = Server::with(&["--frame=json"]).sh(&format!("cat {}", file.display()));
    assert_eq!(server.join("/room").texts_to_close(1000), lines);
}

#[test]
fn json_tells_of_joins_and_leaves_and_other_messages_can_be_given() {
    let server = Server::with(&["--json"]).cat();
    let mut stays = server.join("/room");
    stays.expect_text(r#"{"t":"Join","_from":1}"#);
    let mut goes = server.join("/room");
    for client in [&mut stays, &mut goes] {
        client.expect_text(r#"{"t":"Join","_from":2}"#);
    }
    goes.send_text(r#"{"t":"Join","_from":1}"#);
    stays.expect_text(r#"{"_from":2,"t":"Join"}"#);
    // An answer to one of them, as the program would write it.
    goes.send_text(r#"{"_to":2}"#);
    goes.expect_text(r#"{"_from":2,"t":"Join"}"#);
    goes.expect_text(r#"{"_from":2,"_to":2}"#);
    goes.leave();
    stays.expect_text(r#"{"t":"Leave","_from":2}"#);

    let server = Server::with(&["--json", "--joinmsg", r##"{"new":#ID,"name":"#QUERY_NAME"}"##]).cat();
    server.join("/room?name=%22,%22_to%22:9").expect_text(r#"{"new":1,"name":"%22%2C%22_to%22%3A9"}"#);
    // Without --json there are no messages.
    let server = Server::with(&["--frame=json"]).cat();
    let mut client = server.join("/room");
    client.send_text("{}");
    client.expect_text(r#"{"_from":1}"#);
}

#[test]
fn a_join_and_a_leave_of_the_servers_own_cannot_be_forged() {
    let options = ["--joinmsg", r#"{"_join":#ID}"#, "--leavemsg", r#"{"_leave":#ID}"#];
    for framing in [["--json"], ["--clientframe=json"]] {
        let server = Server::with(&options).options(&framing).cat();
        let mut stays = server.join("/room");
        stays.expect_text(r#"{"_join":1}"#);
        let mut forger = server.join("/room");
        for client in [&mut stays, &mut forger] {
            client.expect_text(r#"{"_join":2}"#);
        }
        for (forgery, wanted) in [
            (r#"{"_join":3}"#, r#"{"_from":2}"#),
            (r#"{"_leave":1}"#, r#"{"_from":2}"#),
            (r#"{"_join":3,"a":[],"_join":4,"_leave":{"x":1}}"#, r#"{"_from":2,"a":[]}"#),
            (
                r#"{"\u005fjoin":3,"_l\u0065ave":1,"\u005F\u006c\u0065\u0061\u0076\u0065":1}"#,
                r#"{"_from":2}"#,
            ),
            ("{ \"_join\"\n:\n3 }", r#"{"_from":2}"#),
            (r#"{"a":{"_join":3}}"#, r#"{"_from":2,"a":{"_join":3}}"#),
        ] {
            forger.send_text(forgery);
            stays.expect_text(wanted);
        }
        forger.leave();
        stays.expect_text(r#"{"_leave":2}"#);
    }
}

#[test]
fn clientframe_alone_frames_what_clients_say_and_serverframe_alone_what_the_program_says() {
    let server = Server::with(&["--clientframe=json"]).cat();
    let (mut first, mut second) = (server.member("/room"), server.member("/room"));
    first.send_text("no object");
    first.send_text(r#"{"_to":1,"_meta":true}"#);
    for client in [&mut first, &mut second] {
        client.expect_text(r#"{"_from":1,"_to":1,"_meta":true}"#);
    }

    let server = program_is_a_mirror(&[]);
    let (mut first, mut second) = (server.member("/room"), server.member("/room"));
    first.send_text("no object");
    first.send_text(r#"{"_to":2,"_from":7}"#);
    first.send_text("end");
    second.expect_text("no object");
    second.expect_text(r#"{"_to":2,"_from":7}"#);
    assert_eq!(texts_before(&mut first, "end"), ["no object"]);
}

#[test]
fn nesting_without_end_and_names_without_end_cost_nothing_beyond_the_message() {
    let server = Server::with(&["--frame=json", "--metrics", "--maxmessage=4m"]).cat();
    let mut client = server.join("/room");
    client.expect_alive();
    let before = server.rss();
    for bomb in [
        format!("{{\"a\":{}", "[".repeat(4_000_000)),
        format!("{{\"a\":{}", "{\"a\":".repeat(800_000)),
        format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000)),
        "[".repeat(4_000_000),
    ] {
        client.send_text(&bomb);
    }
    client.send_text("{}");
    client.expect_text(r#"{"_from":1}"#);
    assert_eq!(scrape(&server).get(DROPPED, &[("reason", "not json")]), Some(4.0));
    // A name is not looked at any longer than it can be one of ours.
    let name = "\\u005f".repeat(600_000);
    client.send_text(&format!("{{\"{name}\":1,\"_from\":2}}"));
    assert_eq!(client.next(), Event::Text(format!("{{\"_from\":1,\"{name}\":1}}")));
    let many = (0..100_000).fold(String::new(), |mut text, _| {
        let _ = write!(text, "\"_from\":{{}},");
        text
    });
    client.send_text(&format!("{{{many}\"a\":1}}"));
    client.expect_text(r#"{"_from":1,"a":1}"#);
    assert!(server.rss() < before + 48 * 1024, "{} KiB from {before}", server.rss());
}

#[test]
fn long_lists_of_ids_delay_no_client() {
    let server = Server::with(&["--frame=json", "--maxmessage=4m"]).cat();
    let (mut first, mut second) = (server.member("/room"), server.member("/room"));
    let list =
        |ids: &mut dyn Iterator<Item = u32>| ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    for (to, except) in [
        (list(&mut (0..100_000).map(|_| 7)), list(&mut (0..100_000).map(|_| 8))),
        (list(&mut (0..100_000).rev()), list(&mut (3..100_000))),
    ] {
        first.send_text(&format!(r#"{{"_to":[{to}],"_except":[{except}]}}"#));
        first.send_text(r#"{"next":1}"#);
        if to.starts_with("99999,") {
            for client in [&mut first, &mut second] {
                assert!(client.text().starts_with(r#"{"_from":1,"_to":[99999,"#));
            }
        }
        // Within the patience of a test, and not after minutes.
        first.expect_text(r#"{"_from":1,"next":1}"#);
        second.expect_text(r#"{"_from":1,"next":1}"#);
    }
}

#[test]
fn of_a_burst_each_gets_exactly_its_own_and_in_order() {
    const CLIENTS: usize = 40;
    const MESSAGES: usize = 4000;
    // Some for one, some for several, some for all but one, some for all.
    let message = |number: usize| match number % 5 {
        0 => (format!(r#"{{"n":{number}}}"#), None),
        1 => (format!(r#"{{"_except":{},"n":{number}}}"#, number % CLIENTS + 1), None),
        2 => {
            let ids = [number % CLIENTS + 1, (number / 3) % CLIENTS + 1];
            (format!(r#"{{"n":{number},"_to":[{},{},999]}}"#, ids[0], ids[1]), Some(ids))
        }
        _ => {
            let id = (number * 7) % CLIENTS + 1;
            (format!(r#"{{"_to":{id},"n":{number}}}"#), Some([id, id]))
        }
    };
    let lines: String = (0..MESSAGES).map(|number| message(number).0 + "\n").collect();
    let scratch = Scratch::new();
    let file = scratch.file("lines", lines);
    let server = Server::with(&["--serverframe=json", "--patience=60"])
        .sh(&format!("read -r go; cat {}", file.display()));
    let mut clients = server.members("/room", CLIENTS);
    clients[0].send_text("go");
    std::thread::scope(|scope| {
        for (index, mut client) in clients.into_iter().enumerate() {
            scope.spawn(move || {
                let id = index + 1;
                let wanted: Vec<String> = (0..MESSAGES)
                    .filter_map(|number| {
                        let (text, only) = message(number);
                        let excepted = number % 5 == 1 && number % CLIENTS + 1 == id;
                        (!excepted && only.is_none_or(|ids| ids.contains(&id))).then_some(text)
                    })
                    .collect();
                assert_eq!(client.texts_to_close(1000), wanted, "of {id}");
            });
        }
    });
}

#[test]
fn a_header_holds_with_other_delimiters_too_and_in_text_that_is_mended() {
    let server = Server::with(&["--serverframe=json", "--null", "--metrics"])
        .sh(r#"read -r go; printf '{"_to":2}\0\n{"_to":1,\n"a":1}\0{"_to":1,"a":"\377"}\0end\0'; cat"#);
    let (mut first, mut second) = (server.member("/room"), server.member("/room"));
    first.send_text("go");
    first.expect_text("\n{\"_to\":1,\n\"a\":1}");
    first.expect_text("{\"_to\":1,\"a\":\"\u{fffd}\"}");
    first.expect_text("end");
    second.expect_text(r#"{"_to":2}"#);
    second.expect_text("end");
    await_value(&server, "scalesocket_messages_repaired_total", &[], 1.0);
}
