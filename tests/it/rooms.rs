//! Which clients share a process, when it starts and ends, and what it gets: environment, join and leave messages.

use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, Instant};

use crate::support::client::handshake;
use crate::support::process::{await_end, runs};
use crate::support::{Client, Event, Scratch, Server, testprog, wait_until};

/// Prints its process id, and echoes each line with it.
const WHO: &str = r#"echo "$$"; while read -r line; do echo "$line $$"; done"#;

fn pid(text: &str) -> u32 {
    text.parse().unwrap_or_else(|e| panic!("{text:?} is no process number: {e}"))
}

#[test]
fn clients_of_one_path_share_one_process_and_others_have_their_own() {
    let server = Server::sh(WHO);
    let mut first = server.join("/one");
    let one = first.text();
    let mut second = server.join("/one");
    second.send_text("hello");
    first.expect_text(&format!("hello {one}"));
    second.expect_text(&format!("hello {one}"));
    let mut other = server.join("/other");
    let two = other.text();
    assert_ne!(one, two);

    first.leave();
    second.send_text("alone");
    second.expect_text(&format!("alone {one}"));
    second.leave();
    await_end(pid(&one));
    other.send_text("still here");
    other.expect_text(&format!("still here {two}"));

    let mut again = server.join("/one");
    let three = again.text();
    assert!(three != one && three != two, "a fresh process");
}

#[test]
fn a_client_that_just_vanishes_leaves_too() {
    let server = Server::with(&["--leavemsg", "#ID has left"]).cat();
    let mut stays = server.join("/room");
    stays.expect_alive();
    drop(server.join("/room"));
    stays.expect_text("2 has left");
    server.join("/room").reset();
    stays.expect_text("3 has left");
    drop(stays);
    wait_until("the program has ended", || server.children().is_empty());
}

#[test]
fn a_joiner_during_the_kill_sequence_waits_and_gets_a_fresh_process() {
    let scratch = Scratch::new();
    // It holds a lock for as long as it lives, and takes its time to end, whatever the signal.
    let (lock, go) = (scratch.name("lock"), scratch.name("go"));
    let script = format!("trap '' TERM; exec {} lock {lock} {go}", testprog());
    let server = Server::with(&["--grace", "60", "-v"]).sh(&script);
    let mut first = server.join("/room");
    first.expect_text("alone");
    let old = server.children();
    first.leave();
    server.wait_for_line(&["signal to the process group", "[room]"]);

    let mut joiner = server.join("/room");
    joiner.send_text("hello");
    let mut another = server.join("/room");
    another.send_text("me too");
    assert_eq!(server.children(), old, "never two at once");
    scratch.file("go", "");
    // The line `alone` may be for the first client of the new process only.
    let mut alone = 0;
    for (client, own) in [(&mut joiner, "hello"), (&mut another, "me too")] {
        loop {
            let text = client.text();
            assert_ne!(text, "not alone", "two processes at once");
            alone += usize::from(text == "alone");
            if text == own {
                break;
            }
        }
    }
    assert!(alone > 0, "it is a fresh process");
    let fresh = server.children();
    assert!(fresh.len() == 1 && fresh != old, "{fresh:?} after {old:?}");
}

#[test]
fn rooms_that_come_and_go_at_once_never_have_two_processes() {
    let scratch = Scratch::new();
    let server = Server::with(&[]).testprog(&["lock", &scratch.name("lock")]);
    let address = server.address().clone();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let mut client = Client::connect(&address, "/room");
                    client.send_text("ping");
                    loop {
                        let text = client.text();
                        assert_ne!(text, "not alone", "two processes at once");
                        if text == "ping" {
                            break;
                        }
                    }
                    client.leave();
                }
            });
        }
    });
    wait_until("the last program has ended", || server.children().is_empty());
}

#[test]
fn a_room_is_its_name_as_sent_whatever_stands_behind_it() {
    let server = Server::sh(r#"echo "$$ $ROOM"; while read -r line; do echo "$$ $line"; done"#);
    for (name, targets) in [
        ("room", &["/room", "/room/", "/room?a=b", "/room/?a=b"] as &[&str]),
        ("ro%20om", &["/ro%20om", "/ro%20om/"]),
        ("b\u{fc}cher", &["/b\u{fc}cher"]),
        ("API", &["/API"]),
        (".", &["/."]),
    ] {
        let mut first = server.join(targets[0]);
        let hello = first.text();
        let (one, room) = hello.split_once(' ').expect("two words");
        assert_eq!(room, name);
        for target in targets {
            let mut other = server.join(target);
            other.send_text(target);
            other.expect_text(&format!("{one} {target}"));
            first.expect_text(&format!("{one} {target}"));
        }
    }
    let encoded = server.join("/%72oom").text();
    assert!(encoded.ends_with(" %72oom"), "names are not decoded: {encoded}");
}

#[test]
fn names_and_queries_that_could_deceive_are_refused_and_start_nothing() {
    let server = Server::cat();
    let longest = format!("/{}", "r".repeat(256));
    let too_long = format!("{longest}r");
    for (target, status) in [
        (&b"/a b"[..], 400),
        (b"/a\"b", 400),
        (b"/a\\b", 400),
        (b"/a\x01b", 400),
        (b"/a\x7fb", 400),
        (b"/a\x00b", 400),
        (b"/a\tb", 400),
        (b"/a\xffb", 400),
        (b"/\xc0\xaf", 400),
        (b"/a\xc2\x85b", 400),
        (too_long.as_bytes(), 400),
        (b"/a?b\"c", 400),
        (b"/a?b\\c", 400),
        (b"/a?b\xff", 400),
        (b"/a?\x1b[31m", 400),
        (b"/api", 400),
        (b"/metrics/", 400),
        (b"/health", 400),
        (b"/static", 400),
        (b"/upload", 400),
        (b"/robots.txt", 400),
        (b"/favicon.ico?x", 400),
        (b"/", 404),
        (b"//", 404),
        (b"/a/b", 404),
        (b"/a//", 404),
        (b"/api/rooms", 404),
    ] {
        let mut raw = server.raw();
        let request = handshake("TARGET", "");
        let (before, behind) = request.split_once("TARGET").expect("a place for the target");
        raw.send([before.as_bytes(), target, behind.as_bytes()].concat());
        let response = raw.response("GET");
        assert_eq!(response.status, status, "{}: {response:?}", target.escape_ascii());
        raw.expect_end();
    }
    assert!(server.children().is_empty(), "nothing was started");
    drop(server.join(&longest));
}

#[test]
fn ids_count_up_across_rooms_and_are_never_used_again() {
    let server = Server::with(&["--joinmsg", "#ID"]).cat();
    let mut first = server.join("/one");
    first.expect_text("1");
    let mut second = server.join("/two");
    second.expect_text("2");
    first.leave();
    let mut third = server.join("/one");
    third.expect_text("3");
    let mut fourth = server.join("/two");
    fourth.expect_text("4");
    second.expect_text("4");
}

#[test]
fn a_client_that_comes_back_in_time_finds_its_program_as_it_was() {
    let server = Server::with(&["--linger", "60"]).sh(WHO);
    let mut client = server.join("/room");
    let one = client.text();
    client.leave();
    server.wait_for_line(&["client left"]);
    let mut client = server.join("/room");
    client.send_text("me again");
    client.expect_text(&format!("me again {one}"));
}

#[test]
fn a_program_without_clients_ends_after_its_linger_time_counted_from_the_last_leave() {
    let linger = Duration::from_secs(2);
    let server = Server::with(&["--linger", "2"]).sh(WHO);
    let mut client = server.join("/room");
    let one = pid(&client.text());
    client.leave();
    // Much happens meanwhile, so that the leave is known everywhere.
    let mut elsewhere = server.join("/elsewhere");
    for _ in 0..50 {
        elsewhere.send_text("x");
        elsewhere.text();
    }
    // Within the linger time a client comes, stays for a while and goes.
    let came = Instant::now();
    let mut client = server.join("/room");
    while came.elapsed() < linger / 2 {
        client.send_text("x");
        client.expect_text(&format!("x {one}"));
    }
    let left = Instant::now();
    client.leave();
    await_end(one);
    assert!(left.elapsed() >= linger, "after {:?}", left.elapsed());
}

#[test]
fn join_and_leave_say_who_it_is_and_a_value_brings_no_variable_in() {
    let join = "+#ID|#ROOM|#REMOTE_ADDR|#QUERY_STRING|#QUERY_NAME|#QUERY_NAMES|#QUERY_NONE|#IDX|##";
    let server = Server::with(&["--joinmsg", join, "--leavemsg", "-#ID #QUERY_NAME"]).cat();
    let mut stays = server.join("/room");
    let own = stays.address();
    stays.expect_text(&format!("+1|room|{own}||#QUERY_NAME|#QUERY_NAMES|#QUERY_NONE|1X|##"));
    for (id, (query, name)) in [
        ("name=ann", "ann"),
        ("name=J%C3%B6rg+X", "J%C3%B6rg%20X"),
        ("name=%22%7D%0A-1", "%22%7D%0A-1"),
        ("name=#ID#ROOM#QUERY_STRING", "%23ID%23ROOM%23QUERY_STRING"),
        ("name=%23QUERY_NAMES", "%23QUERY_NAMES"),
        ("name=a&name=b", "b"),
        ("name=", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let id = id + 2;
        let client = server.join(&format!("/room?{query}"));
        let address = client.address();
        stays.expect_text(&format!("+{id}|room|{address}|{query}|{name}|#QUERY_NAMES|#QUERY_NONE|{id}X|##"));
        client.leave();
        stays.expect_text(&format!("-{id} {name}"));
    }
}

#[test]
fn the_longest_name_of_a_variable_wins() {
    let server = Server::with(&["--joinmsg", "#QUERY_A #QUERY_AB #QUERY_STRING"]).cat();
    server.join("/room?a=1&ab=2").expect_text("1 2 a=1&ab=2");
}

#[test]
fn the_names_in_a_query_take_no_other_variables_place() {
    let server =
        Server::with(&["--joinmsg", r##"{"NAME":"#QUERY_NAME","ID":#ID,"AT":"#REMOTE_ADDR"}"##]).cat();
    for (id, query) in [
        "name%22%2C%22id%22%3A%23id%7D=eve",
        "name%22%2C%22id%22%3A%23id=eve",
        "name%22,%22id%22:%23ID,%22at%22:%22%23remote_addr=eve",
        "n=eve&na=eve&nam=eve&=eve",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = server.join(&format!("/room{id}?{query}"));
        let (id, address) = (id + 1, client.address());
        client.expect_text(&format!(r##"{{"NAME":"#QUERY_NAME","ID":{id},"AT":"{address}"}}"##));
    }
}

#[test]
fn join_comes_before_the_first_message_and_leave_after_the_last() {
    let server = Server::with(&["--joinmsg", "+#ID", "--leavemsg", "-#ID"]).cat();
    let mut stays = server.join("/room");
    stays.expect_text("+1");
    for id in 2..30 {
        let mut client = server.join("/room");
        client.send_text("first");
        client.send_text("last");
        client.send_close(1000, "");
        for wanted in [format!("+{id}"), "first".into(), "last".into(), format!("-{id}")] {
            stays.expect_text(&wanted);
        }
    }
}

#[test]
fn the_program_gets_the_join_and_leave_of_its_only_client_too() {
    let scratch = Scratch::new();
    let server = Server::with(&["--joinmsg", "+#ID", "--leavemsg", "-#ID"]).program(&[
        "sh",
        "-c",
        r#"cat > "$1""#,
        "sh",
        &scratch.name("seen"),
    ]);
    let mut client = server.join("/room");
    client.send_text("hello");
    client.leave();
    let seen = scratch.await_bytes("seen", 12);
    assert_eq!(String::from_utf8_lossy(&seen), "+1\nhello\n-1\n");
}

#[test]
fn a_failed_start_closes_with_1011_and_the_next_join_tries_again() {
    let scratch = Scratch::new();
    let program = scratch.script("program", "echo started; cat");
    let server = Server::with(&[]).program(&[&program]);
    std::fs::remove_file(&program).expect("remove the program");
    let reason = server.join("/room").expect_close(1011);
    // Why is for the log alone, and so is where it lies.
    assert_eq!(reason, "cannot start the program");
    server.wait_for_line(&["ERROR", "[room]", "not started", &program, "No such file"]);

    scratch.file("program", "#!/bin/sh\n");
    let reason = server.join("/room").expect_close(1011);
    assert_eq!(reason, "cannot start the program");
    server.wait_for_line(&["ERROR", "[room]", "not started", &program, "ermission denied"]);

    std::fs::remove_file(&program).expect("remove the file");
    scratch.script("program", "echo started; cat");
    server.join("/room").expect_text("started");
}

#[test]
fn the_program_has_exactly_the_variables_that_are_promised() {
    let server = Server::with(&[])
        .env("PATH", "/usr/bin:/bin")
        .env("LD_LIBRARY_PATH", "/nowhere")
        .env("DYLD_LIBRARY_PATH", "/nowhere/else")
        .env("HOME", "/nowhere")
        .env("SECRET", "secret")
        .env("PORT", "1")
        .program(&["env"]);
    let fields = "Proxy: evil\r\nX-Header: evil\r\n";
    let mut client = Client::connect_with(server.address(), "/ro%20om/?a=b&c=%22", fields).expect("let in");
    let address = client.address();
    let mut seen = client.texts_to_close(1000);
    seen.sort();
    let wanted = [
        "DYLD_LIBRARY_PATH=/nowhere/else",
        "LD_LIBRARY_PATH=/nowhere",
        "PATH=/usr/bin:/bin",
        "QUERY_STRING=a=b&c=%22",
        &format!("REMOTE_ADDR={address}"),
        "ROOM=ro%20om",
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn passenv_passes_what_is_named_and_never_in_place_of_the_servers_own() {
    let raw = std::ffi::OsString::from_vec(b"/opt/\xff".to_vec());
    let server = Server::with(&["--passenv", "RAW,EMPTY,MISSING,ROOM,QUERY_STRING", "-b"])
        .env("RAW", raw)
        .env("EMPTY", "")
        .env("OTHER", "other")
        .env("ROOM", "evil")
        .env("QUERY_STRING", "evil")
        .program(&["/usr/bin/env"]);
    let mut client = server.join("/room");
    let address = client.address();
    let mut bytes = Vec::new();
    loop {
        match client.next() {
            Event::Binary(more) => bytes.extend(more),
            Event::Close(1000, _) => break,
            other => panic!("{other:?}"),
        }
    }
    let mut seen: Vec<_> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    seen.sort();
    let remote = format!("REMOTE_ADDR={address}\n");
    let wanted: [&[u8]; 5] =
        [b"EMPTY=\n", b"QUERY_STRING=\n", b"RAW=/opt/\xff\n", remote.as_bytes(), b"ROOM=room\n"];
    assert_eq!(seen, wanted);
}

#[test]
fn passenv_can_pass_nothing() {
    let server = Server::with(&["--passenv="]).env("PATH", "/bin:/usr/bin").program(&["env"]);
    let seen = server.join("/room").texts_to_close(1000);
    let names: Vec<_> = seen.iter().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(names.len(), 3, "{seen:?}");
    assert!(["ROOM", "QUERY_STRING", "REMOTE_ADDR"].iter().all(|name| names.contains(name)), "{seen:?}");
}

#[test]
fn cgienv_gives_the_first_clients_request_without_what_could_deceive() {
    let server =
        Server::with(&["--cgienv", "--passenv", "HTTP_X_ONE"]).env("HTTP_X_ONE", "evil").program(&["env"]);
    let fields =
        "User-Agent: tester\r\nX-One: 1\r\nx-one: 2\r\nX_One: evil\r\nProxy: evil\r\nRoom: other\r\n";
    let mut client = Client::connect_with(server.address(), "/ro%20om?a=b", fields).expect("let in");
    let port = client.address().rsplit(':').next().expect("a port").to_owned();
    let seen = client.texts_to_close(1000);
    for wanted in [
        "GATEWAY_INTERFACE=CGI/1.1",
        "SERVER_PROTOCOL=HTTP/1.1",
        "SERVER_NAME=localhost",
        "REQUEST_URI=/ro%20om?a=b",
        "PATH_INFO=/ro om",
        &format!("REMOTE_PORT={port}"),
        "HTTP_USER_AGENT=tester",
        "HTTP_X_ONE=1, 2",
        "HTTP_HOST=localhost",
        "ROOM=ro%20om",
        "QUERY_STRING=a=b",
    ] {
        assert!(seen.iter().any(|line| line == wanted), "{wanted} is not in {seen:#?}");
    }
    for prefix in ["SERVER_PORT=", "SERVER_SOFTWARE=scalesocket/"] {
        assert!(seen.iter().any(|line| line.starts_with(prefix)), "{prefix} is not in {seen:#?}");
    }
    assert!(!seen.iter().any(|line| line.starts_with("HTTP_PROXY") || line.contains("=evil")), "{seen:#?}");
}

#[test]
fn a_dead_programs_room_starts_anew_for_the_next_client() {
    let server = Server::sh(WHO);
    let mut client = server.join("/room");
    let one = pid(&client.text());
    crate::support::process::signal(one, rustix::process::Signal::KILL);
    assert_eq!(client.expect_close(1011), "killed by signal 9");
    let two = pid(&server.join("/room").text());
    assert_ne!(one, two);
    assert!(!runs(one));
}
