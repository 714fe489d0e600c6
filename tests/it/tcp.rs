//! Programs that talk over TCP: found, waited for, given up, told apart from strangers.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::ports::{free, option};
use crate::support::process::{await_end, children, runs};
use crate::support::{Event, Scratch, Server, testprog, wait_until};

const SECOND: Duration = Duration::from_secs(1);

/// Serves `testprog tcp` with these steps, on so many ports.
fn serve(options: &[&str], ports: u16, steps: &[&str]) -> Server {
    let ports = option(free(ports), ports);
    Server::with(&["--tcp", &ports]).options(options).testprog(&[&["tcp"], steps].concat())
}

/// Serves a shell line in which `$T` is `testprog tcp`.
fn serve_sh(options: &[&str], ports: &str, script: &str) -> Server {
    Server::with(&["--tcp", ports]).options(options).sh(&format!("T='{} tcp'; {script}", testprog()))
}

#[test]
fn clients_of_a_room_share_a_program_on_a_port_of_its_own() {
    let first = free(3);
    let server = serve_sh(
        &["--joinmsg=+#ID", "--leavemsg=-#ID"],
        &option(first, 3),
        "echo port $PORT; exec $T listen accept echo",
    );
    let mut one = server.join("/one");
    one.expect_text("+1");
    let mut two = server.join("/one");
    for client in [&mut one, &mut two] {
        client.expect_text("+2");
    }
    let mut other = server.join("/two");
    other.expect_text("+3");
    one.send_text("hello");
    for client in [&mut one, &mut two] {
        client.expect_text("hello");
    }
    other.send_text("elsewhere");
    other.expect_text("elsewhere");
    // What is printed is not for clients.
    server.wait_for_line(&["[one]", "output", &format!("port {first}")]);
    server.wait_for_line(&["[two]", "output", &format!("port {}", first + 1)]);
    two.leave();
    one.expect_text("-2");
    one.leave();
    server.wait_for_line(&["[one]", "program ended", "exit status 0"]);
}

#[test]
fn both_ends_of_the_range_are_ports_and_then_it_is_503_until_one_is_free_again() {
    let first = free(2);
    let server = serve_sh(&[], &option(first, 2), "$T listen accept say $PORT: echo");
    let mut a = server.join("/a");
    a.send_text("x");
    a.expect_text(&format!("{first}:x"));
    let mut b = server.join("/b");
    b.send_text("x");
    b.expect_text(&format!("{}:x", first + 1));
    for _ in 0..3 {
        let refusal = server.refused("/c", "");
        assert_eq!((refusal.status, refusal.text()), (503, "No port left for the program\n"));
        assert!(refusal.field("retry-after").is_some());
    }
    // Rooms that have a port take clients still.
    let mut again = server.join("/a");
    again.send_text("y");
    again.expect_text("y");
    drop(again);
    a.expect_text("y");
    b.leave();
    wait_until("its port is free again", || server.ask_upgrade("/c").is_ok());
    wait_until("the room is gone", || server.children().len() == 1);
    let mut c = server.join("/c");
    c.send_text("x");
    c.expect_text(&format!("{}:x", first + 1));
}

#[test]
fn a_failed_start_gives_its_port_back() {
    let scratch = Scratch::new();
    let ports = option(free(1), 1);
    let server = serve_sh(
        &[],
        &ports,
        &format!("[ -e {} ] || exit 3; exec $T listen accept echo", scratch.name("go")),
    );
    for room in ["/a", "/b", "/c", "/a"] {
        let mut client = server.join(room);
        let reason = client.expect_close(1011);
        assert!(reason.contains("exit status 3"), "{reason}");
    }
    scratch.file("go", "");
    let mut client = server.join("/d");
    client.send_text("hello");
    client.expect_text("hello");
    assert_eq!(server.refused("/e", "").status, 503);
}

#[test]
fn a_program_that_cannot_be_executed_gives_its_port_back() {
    let scratch = Scratch::new();
    let program = scratch.script("program", "exit 0");
    let ports = option(free(1), 1);
    let server = Server::with(&["--tcp", &ports]).program(&[&program]);
    std::fs::remove_file(&program).expect("remove the program");
    for room in ["/a", "/b", "/c"] {
        let reason = server.join(room).expect_close(1011);
        assert_eq!(reason, "cannot start the program");
    }
}

#[test]
fn a_program_that_listens_late_is_waited_for_and_all_messages_come_in_their_order() {
    let scratch = Scratch::new();
    let ports = option(free(1), 1);
    let server = serve_sh(
        &["--joinmsg=+#ID", "--connecttimeout=60"],
        &ports,
        &format!("exec $T chatter 1 await {} listen accept echo", scratch.name("go")),
    );
    // The handshake is over before the program listens.
    let mut first = server.join("/room");
    server.wait_for_line(&["[room]", "output", "out 0"]);
    let mut second = server.join("/room");
    for number in 0..100 {
        first.send_text(&format!("1 {number}"));
        second.send_text(&format!("2 {number}"));
    }
    scratch.file("go", "");
    // Both are members; each sees its own messages behind its own join, all and in order.
    for (id, client) in [(1, &mut first), (2, &mut second)] {
        let join = format!("+{id}");
        let mut next = 0;
        let mut joined = false;
        while next < 100 {
            let text = client.text();
            joined |= text == join;
            if let Some(number) = text.strip_prefix(&format!("{id} ")) {
                assert!(joined, "a message before its join");
                assert_eq!(number.parse(), Ok(next));
                next += 1;
            }
        }
    }
}

#[test]
fn a_program_that_never_listens_is_ended_in_time_with_1011() {
    let server = serve_sh(&["--connecttimeout=0.7"], &option(free(1), 1), "echo pid $$; exec sleep 1000");
    let start = Instant::now();
    let mut first = server.join("/room");
    let mut second = server.join("/room");
    let line = server.wait_for_line(&["output", "pid "]);
    let pid = line.rsplit("pid ").next().and_then(|rest| rest.trim_matches('"').parse().ok()).expect("a pid");
    let reason = first.expect_close(1011);
    assert!(reason.contains("does not listen"), "{reason}");
    let time = start.elapsed();
    assert!(time >= SECOND.mul_f64(0.7) && time < SECOND * 10, "after {time:?}");
    // Who waited with it shares its fate; it is not tried once more.
    second.expect_close(1011);
    await_end(pid);
    wait_until("no process is left", || server.children().is_empty());
    server.wait_for_line(&["ERROR", "[room]", "not started", "does not listen"]);
}

#[test]
fn a_program_that_ends_before_it_listens_fails_at_once_with_its_output_logged() {
    let server = serve(&["--connecttimeout=60"], 1, &["chatter", "200", "exit", "3"]);
    let start = Instant::now();
    let reason = server.join("/room").expect_close(1011);
    assert!(reason.contains("exit status 3") && reason.contains("before it listened"), "{reason}");
    assert!(start.elapsed() < SECOND * 15);
    server.wait_for_line(&["[room]", "output", "out 199"]);
    server.wait_for_line(&["[room]", "output", "err 199"]);
}

#[test]
fn endless_output_after_an_early_exit_delays_no_client() {
    let ports = option(free(1), 1);
    let server = serve_sh(&["--log=json"], &ports, "(while :; do echo again; done) & exit 3");
    let reason = server.join("/room").expect_close(1011);
    assert!(reason.contains("exit status 3"), "{reason}");
}

#[test]
fn output_is_logged_and_never_blocks_the_program() {
    // More than any pipe holds, before it listens and while it runs; fewer lines than the log may be behind.
    let server = serve(&[], 1, &["chatter", "200", "listen", "accept", "chatter", "200", "echo"]);
    let mut client = server.join("/room");
    client.send_text("hello");
    client.expect_text("hello");
    server.wait_for_log(|line| line.contains("out 199"));
    client.leave();
    server.wait_for_line(&["program ended"]);
    let lines = server.log.lines();
    for what in ["out 0 ", "out 199 ", "err 0 ", "err 199 "] {
        assert_eq!(lines.iter().filter(|line| line.contains(what)).count(), 2, "{what}");
    }
}

#[test]
fn a_port_with_another_listener_is_skipped() {
    let first = free(2);
    let stranger = TcpListener::bind(("127.0.0.1", first)).expect("bind");
    stranger.set_nonblocking(true).expect("non-blocking");
    let server = serve_sh(&[], &option(first, 2), "exec $T listen accept say $PORT: echo");
    let mut client = server.join("/room");
    client.send_text("secret");
    client.expect_text(&format!("{}:secret", first + 1));
    assert!(stranger.accept().is_err(), "the other listener got a connection");
    assert_eq!(server.refused("/other", "").status, 503, "nor is it tried for another room");
    drop(stranger);
    let mut other = server.join("/other");
    other.send_text("x");
    other.expect_text(&format!("{first}:x"));
}

/// A room whose program is on its way out and listens no more, until there is a file `go`; meanwhile a
/// stranger has come to listen on the room's port, the first of so many. The next program says where it is.
fn while_a_stranger_takes(first: u16, ports: u16) -> (Server, Scratch, TcpListener) {
    let scratch = Scratch::new();
    let script = format!(
        "[ -e {0} ] && exec $T listen accept say $PORT: echo; : > {0}; trap '' TERM; \
         exec $T listen accept deafen await {1}",
        scratch.name("again"),
        scratch.name("go")
    );
    let server = serve_sh(&["--grace=60", "-v"], &option(first, ports), &script);
    server.member("/room").leave();
    server.wait_for_line(&["[room]", "signal to the process group"]);
    let mut stranger = None;
    wait_until("a stranger listens on the room's port", || {
        stranger = TcpListener::bind(("127.0.0.1", first)).ok();
        stranger.is_some()
    });
    (server, scratch, stranger.expect("bound"))
}

#[test]
fn a_room_whose_port_was_taken_meanwhile_gets_another() {
    let first = free(2);
    let (server, scratch, stranger) = while_a_stranger_takes(first, 2);
    let mut client = server.join("/room");
    client.send_text("secret");
    scratch.file("go", "");
    client.expect_text(&format!("{}:secret", first + 1));
    stranger.set_nonblocking(true).expect("non-blocking");
    assert!(stranger.accept().is_err(), "the other listener got a connection");
    // The port belongs to no room now, and to another one when the stranger is gone.
    assert_eq!(server.refused("/other", "").status, 503);
    drop(stranger);
    let mut other = server.join("/other");
    other.send_text("x");
    other.expect_text(&format!("{first}:x"));
}

#[test]
fn a_room_that_finds_no_port_any_more_fails_its_start_and_the_server_lives() {
    let first = free(1);
    let (server, scratch, stranger) = while_a_stranger_takes(first, 1);
    let mut client = server.join("/room");
    scratch.file("go", "");
    let reason = client.expect_close(1011);
    assert!(reason.contains("no port"), "{reason}");
    drop(stranger);
    for room in ["/room", "/other"] {
        let mut client = None;
        wait_until("there is a port again", || {
            client = server.ask_upgrade(room).ok();
            client.is_some()
        });
        let mut client = client.expect("let in");
        client.send_text("x");
        client.expect_text(&format!("{first}:x"));
        client.leave();
    }
}

#[test]
fn a_program_that_closes_its_connection_and_lives_is_ended_with_1011() {
    let ports = option(free(1), 1);
    let server = serve_sh(&[], &ports, "echo pid $$; exec $T listen accept line say bye close deafen wait");
    let mut client = server.join("/room");
    let line = server.wait_for_line(&["output", "pid "]);
    let pid = line.rsplit("pid ").next().and_then(|rest| rest.trim_matches('"').parse().ok()).expect("a pid");
    client.send_text("go");
    // Its last words had no end of line.
    client.expect_text("bye");
    assert_eq!(client.expect_close(1011), "program closed its connection");
    await_end(pid);
    let mut client = server.join("/room");
    client.send_text("go");
    client.expect_text("bye");
}

#[test]
fn the_exit_status_sets_the_close_code() {
    for (status, code) in [("0", 1000), ("7", 1011)] {
        let server = serve(&[], 1, &["listen", "accept", "line", "say", "last", "exit", status]);
        let mut client = server.join("/room");
        client.send_text("go");
        client.expect_text("last");
        let reason = client.expect_close(code);
        assert_eq!(reason, if code == 1000 { "" } else { "exit status 7" });
    }
}

#[test]
fn a_program_over_tcp_gets_the_end_of_the_stream_then_signals() {
    let scratch = Scratch::new();
    let ports = option(free(1), 1);
    let server = serve_sh(
        &["--leavemsg=-#ID", "--grace=60"],
        &ports,
        &format!("exec $T listen accept record {}", scratch.name("seen")),
    );
    let mut client = server.join("/room");
    client.send_text("hello");
    client.leave();
    assert_eq!(scratch.await_bytes("seen", 12), b"hello\n-1\nEND");
    server.wait_for_line(&["program ended", "exit status 0"]);

    // One that does not end by that gets the signal, and KILL.
    let ports = option(free(1), 1);
    let server = serve_sh(
        &["--grace=0.2", "-v"],
        &ports,
        "trap 'echo asked' TERM; $T listen accept wait & while :; do wait; done",
    );
    let mut client = server.join("/room");
    client.expect_alive();
    client.leave();
    server.wait_for_line(&["[room]", "output", "asked"]);
    server.wait_for_line(&["program ended", "killed by signal 9"]);
    wait_until("no process is left", || server.children().is_empty());
}

#[test]
fn a_shutdown_while_it_starts_ends_at_once_with_1001() {
    let mut server =
        serve_sh(&["--connecttimeout=60"], &option(free(1), 1), "trap '' TERM; echo pid $$; exec sleep 1000");
    let mut first = server.join("/room");
    let mut second = server.join("/room");
    let line = server.wait_for_line(&["output", "pid "]);
    let pid: u32 =
        line.rsplit("pid ").next().and_then(|rest| rest.trim_matches('"').parse().ok()).expect("a pid");
    let reader = std::thread::spawn(move || {
        first.expect_close(1001);
        second.expect_close(1001);
    });
    let (status, time) = server.stop();
    reader.join().expect("both are told");
    assert!(status.success(), "{status}");
    assert!(time < SECOND * 8, "after {time:?}");
    assert!(!runs(pid));
}

#[test]
fn a_delay_is_kept_and_its_program_is_not_waited_for_when_it_ends() {
    let server = serve(&["--delay=0.5"], 1, &["listen", "accept", "echo"]);
    let start = Instant::now();
    let mut client = server.join("/room");
    client.send_text("x");
    client.expect_text("x");
    assert!(start.elapsed() >= SECOND / 2, "after {:?}", start.elapsed());

    for options in [&["--delay=60", "--tcp"] as &[&str], &["--delay=60"]] {
        let start = Instant::now();
        let ports = option(free(1), 1);
        let options: Vec<&str> =
            if options.len() > 1 { vec![options[0], options[1], &ports] } else { options.to_vec() };
        let server = Server::with(&options).sh("exit 3");
        server.join("/room").skip_to_close(1011);
        assert!(start.elapsed() < SECOND * 15);
    }
}

#[test]
fn over_pipes_too_a_delay_is_kept_and_a_shutdown_ends_it() {
    let mut server = Server::with(&["--delay=0.5", "--joinmsg=+#ID"]).cat();
    let start = Instant::now();
    let mut client = server.join("/room");
    client.send_text("x");
    client.expect_text("+1");
    client.expect_text("x");
    assert!(start.elapsed() >= SECOND / 2, "after {:?}", start.elapsed());
    let _ = server.stop();

    let mut server = Server::with(&["--delay=60"]).cat();
    let mut client = server.join("/room");
    wait_until("it is started", || children(server.pid()).len() == 1);
    let reader = std::thread::spawn(move || client.expect_close(1001));
    let (status, time) = server.stop();
    reader.join().expect("it is told");
    assert!(status.success() && time < SECOND * 8, "{status} after {time:?}");
}

#[test]
fn messages_end_over_tcp_as_they_do_over_pipes() {
    let server =
        serve(&["--delimiters=,;"], 1, &["listen", "accept", "line", "say", "a,b;c\n,last", "exit", "0"]);
    let mut client = server.join("/room");
    client.send_text("go");
    assert_eq!(client.texts_to_close(1000), ["a", "b", "c\n", "last"]);

    let server = serve(&["--frame=json"], 1, &["listen", "accept", "echo"]);
    let (mut first, mut second) = (server.member("/room"), server.member("/room"));
    first.send_text("dropped");
    first.send_text(r#"{"_to":2}"#);
    first.send_text("{}");
    second.expect_text(r#"{"_from":1,"_to":2}"#);
    for client in [&mut first, &mut second] {
        client.expect_text(r#"{"_from":1}"#);
    }

    let scratch = Scratch::new();
    let server = serve(&["--binary"], 1, &["listen", "accept", "record", &scratch.name("seen")]);
    let mut client = server.join("/room");
    client.send_binary(b"\0\xff\n");
    client.send_text("text");
    client.leave();
    assert_eq!(scratch.await_bytes("seen", 10), b"\0\xff\ntextEND");
}

#[test]
fn large_messages_pass_both_ways() {
    let server = serve(&["--maxmessage=2m"], 1, &["listen", "accept", "echo"]);
    let mut client = server.join("/room");
    for number in 0..3 {
        let message = format!("{number}{}", "x".repeat(1 << 20));
        client.send_text(&message);
        assert!(client.next() == Event::Text(message), "message {number}");
    }
    let server = serve(&["--binary"], 1, &["listen", "accept", "echo"]);
    let mut client = server.join("/room");
    let message: Vec<u8> = (0..1u32 << 20).map(|at| (at % 251) as u8).collect();
    client.send_binary(&message);
    assert!(client.bytes(message.len()) == message);
}

#[test]
fn many_rooms_over_tcp_come_and_go_and_leave_no_port_behind() {
    const PORTS: u16 = 4;
    let server = serve(&[], PORTS, &["listen", "accept", "echo"]);
    std::thread::scope(|scope| {
        for thread in 0..PORTS {
            let server = &server;
            scope.spawn(move || {
                for round in 0..10 {
                    let text = format!("{thread} {round}");
                    // All ports may still be those of rooms that are stopping. Once one is found, it stays free.
                    let mut client = loop {
                        match server.ask_upgrade(&format!("/{thread}-{round}")) {
                            Ok(client) => break client,
                            Err(refusal) => assert_eq!(refusal.status, 503),
                        }
                    };
                    client.send_text(&text);
                    client.expect_text(&text);
                    client.leave();
                }
            });
        }
    });
    wait_until("all programs have ended", || server.children().is_empty());
    let clients: Vec<_> = (0..PORTS).map(|room| server.join(&format!("/{room}"))).collect();
    assert_eq!(server.refused("/more", "").status, 503);
    drop(clients);
}
