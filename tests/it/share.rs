//! `--share`: each client has a process of its own, or all clients of the server have one together.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::load::Holds;
use crate::support::openmetrics::{await_value, scrape};
use crate::support::process::{await_end, runs};
use crate::support::{Client, Scratch, Server, wait_until};

/// Says which process it is and in which room, and echoes behind its number.
const WHO: &str = r#"echo "$$ ${ROOM-none}"; while read -r line; do echo "$$ $line"; done"#;

/// The process number and the room that a client's program says first.
fn hello(client: &mut Client) -> (u32, String) {
    let text = client.text();
    let (pid, room) = text.split_once(' ').expect("two words");
    (pid.parse().expect("a process number"), room.to_owned())
}

fn rooms(server: &Server) -> Value {
    serde_json::from_str(server.ask("GET", "/api/rooms/", "").text()).expect("JSON")
}

#[test]
fn with_client_each_client_has_its_own_process_and_hears_that_one_alone() {
    let server = Server::with(&["--share", "client", "--api"]).sh(WHO);
    let (mut one, mut two) = (server.join("/room"), server.join("/room"));
    let ((first, room), (second, other)) = (hello(&mut one), hello(&mut two));
    assert_ne!(first, second);
    assert_eq!([&*room, &*other], ["room"; 2], "ROOM is set");
    let mut elsewhere = server.join("/elsewhere");
    assert_eq!(hello(&mut elsewhere).1, "elsewhere");
    for (client, pid) in [(&mut one, first), (&mut two, second)] {
        client.send_text("hello");
        client.expect_text(&format!("{pid} hello"));
    }
    let listed = |name: &str, clients| json!({"connections": clients, "metadata": null, "name": name});
    assert_eq!(rooms(&server), json!([listed("elsewhere", 1), listed("room", 2)]));

    one.leave();
    await_end(first);
    assert!(runs(second), "a program ends with its own client");
    wait_until("the room has one client", || {
        rooms(&server) == json!([listed("elsewhere", 1), listed("room", 1)])
    });
    two.send_text("still here");
    two.expect_text(&format!("{second} still here"));
    two.leave();
    await_end(second);
    wait_until("the room is gone", || rooms(&server) == json!([listed("elsewhere", 1)]));
}

#[test]
fn with_client_the_exit_status_closes_that_client_alone() {
    let server = Server::with(&["--share", "client"]).sh("read -r status; exit $status");
    let (mut good, mut bad, mut stays) = (server.join("/room"), server.join("/room"), server.join("/room"));
    good.send_text("0");
    good.expect_close(1000);
    bad.send_text("3");
    assert_eq!(bad.expect_close(1011), "exit status 3");
    stays.expect_alive();
}

#[test]
fn with_client_no_client_waits_for_a_stopping_process() {
    let server = Server::with(&["--share", "client", "--grace", "60", "-v"])
        .sh(&format!("trap '' TERM; {WHO}; sleep 600"));
    let mut first = server.join("/room");
    let (old, _) = hello(&mut first);
    first.leave();
    server.wait_for_line(&["signal to the process group", "[room]"]);
    let (new, _) = hello(&mut server.join("/room"));
    assert!(new != old && runs(old), "the old one still ends");
}

#[test]
fn with_client_a_linger_time_keeps_no_process_that_no_client_can_come_back_to() {
    let server = Server::with(&["--share", "client", "--linger", "600"]).sh(WHO);
    let mut client = server.join("/room");
    let (pid, _) = hello(&mut client);
    client.leave();
    await_end(pid);
}

#[test]
fn with_client_the_clients_of_a_room_are_limited_by_its_name_and_processes_altogether() {
    let server = Server::with(&["--share", "client", "--maxroomclients", "2", "--maxrooms", "3"]).cat();
    let one = server.member("/room");
    let _two = server.member("/room");
    let refusal = server.refused("/room", "");
    assert_eq!((refusal.status, refusal.text().trim_end()), (503, "Room is full"));
    let _three = server.member("/other");
    let refusal = server.refused("/another", "");
    assert_eq!((refusal.status, refusal.text().trim_end()), (503, "Too many rooms"));
    one.leave();
    wait_until("a slot and a process are free", || server.ask_upgrade("/room").is_ok());
}

#[test]
fn with_client_a_program_that_fails_again_and_again_is_started_slowly_for_all_of_its_name() {
    let server = Server::with(&["--share", "client"]).sh("exit 3");
    for _ in 0..5 {
        assert_eq!(server.join("/room").expect_close(1011), "exit status 3");
    }
    // The first pause is short: more failures make it long enough to be seen on any machine.
    let refused = (0..1000).find_map(|_| match server.ask_upgrade("/room") {
        Ok(mut client) => {
            client.expect_close(1011);
            None
        }
        Err(refusal) => Some(refusal),
    });
    let refusal = refused.expect("a refusal before a thousand starts");
    assert_eq!(refusal.status, 503);
    assert!(refusal.text().contains("times in a row"), "{refusal:?}");
    assert!(refusal.field("retry-after").is_some());
    assert_eq!(server.join("/other").expect_close(1011), "exit status 3", "other names have not failed");
}

#[test]
fn with_client_a_hundred_that_come_and_go_leave_nothing_behind() {
    let server = Server::with(&["--share", "client", "--metrics"]).cat();
    let before = Holds::now(&server);
    for round in 0..2 {
        let mut clients: Vec<Client> = (0..50).map(|n| server.join(&format!("/room{}", n % 3))).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send_text(&format!("{round} {n}"));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            client.expect_text(&format!("{round} {n}"));
        }
        assert_eq!(server.children().len(), 50);
        let metrics = scrape(&server);
        assert_eq!(metrics.get("scalesocket_rooms", &[]), Some(3.0));
    }
    wait_until("all programs have ended", || server.children().is_empty());
    await_value(&server, "scalesocket_rooms", &[], 0.0);
    before.comes_back(&server, Duration::from_secs(20));
}

#[test]
fn with_server_all_rooms_share_one_process_until_the_last_client_leaves() {
    let server =
        Server::with(&["--share", "server", "--api", "--joinmsg", "+#ID #ROOM", "--leavemsg", "-#ID #ROOM"])
            .sh(WHO);
    let mut one = server.join("/one");
    let (pid, room) = hello(&mut one);
    assert_eq!(room, "none", "ROOM is not set");
    one.expect_text(&format!("{pid} +1 one"));
    let mut two = server.join("/two");
    for client in [&mut one, &mut two] {
        client.expect_text(&format!("{pid} +2 two"));
    }
    two.send_text("hello");
    for client in [&mut one, &mut two] {
        client.expect_text(&format!("{pid} hello"));
    }
    assert_eq!(server.children(), [pid]);
    let listed = |name: &str| json!({"connections": 1, "metadata": null, "name": name});
    assert_eq!(rooms(&server), json!([listed("one"), listed("two")]));

    one.leave();
    two.expect_text(&format!("{pid} -1 one"));
    wait_until("a room without clients is gone", || rooms(&server) == json!([listed("two")]));
    two.leave();
    await_end(pid);
    wait_until("no room is left", || rooms(&server) == json!([]));
    let (next, _) = hello(&mut server.join("/one"));
    assert_ne!(next, pid);
}

#[test]
fn with_server_a_room_of_the_environment_is_not_passed_on() {
    let server = Server::with(&["--share", "server", "--passenv", "ROOM,KEPT"])
        .env("ROOM", "evil")
        .env("KEPT", "kept")
        .program(&["/usr/bin/env"]);
    let seen = server.join("/room").texts_to_close(1000);
    assert!(seen.iter().any(|line| line == "KEPT=kept"), "{seen:?}");
    assert!(!seen.iter().any(|line| line.starts_with("ROOM=")), "{seen:?}");
}

#[test]
fn with_server_an_exit_closes_the_clients_of_all_rooms_and_the_next_gets_a_new_process() {
    let server = Server::with(&["--share", "server", "--maxrooms", "1", "--maxroomclients", "1"])
        .sh("while read -r status; do exit $status; done");
    let (mut one, mut two) = (server.join("/one"), server.join("/two"));
    let refusal = server.refused("/one", "");
    assert_eq!((refusal.status, refusal.text().trim_end()), (503, "Room is full"), "counted by name");
    one.send_text("3");
    for client in [&mut one, &mut two] {
        assert_eq!(client.expect_close(1011), "exit status 3");
    }
    let (mut one, mut two) = (server.join("/one"), server.join("/two"));
    two.send_text("0");
    one.expect_close(1000);
    two.expect_close(1000);
}

#[test]
fn with_server_rooms_that_come_and_go_at_once_never_have_two_processes() {
    let scratch = Scratch::new();
    let server = Server::with(&["--share", "server", "--metrics"]).testprog(&["lock", &scratch.name("lock")]);
    let address = server.address().clone();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let address = &address;
            scope.spawn(move || {
                for round in 0..20 {
                    let mut client = Client::connect(address, &format!("/room-{thread}-{round}"));
                    let own = format!("{thread} {round}");
                    client.send_text(&own);
                    loop {
                        let text = client.text();
                        assert_ne!(text, "not alone", "two processes at once");
                        if text == own {
                            break;
                        }
                    }
                    client.leave();
                }
            });
        }
    });
    wait_until("the last program has ended", || server.children().is_empty());
    await_value(&server, "scalesocket_rooms", &[], 0.0);
}

#[test]
fn with_server_and_json_a_message_that_names_its_room_stays_there_also_when_it_is_replayed() {
    let server = Server::with(&["--share", "server", "--frame=json", "--cache=9"]).cat();
    let (mut one, mut two) = (server.member("/one"), server.member("/two"));
    // `cat` says it in the room of the client that sent it: clients cannot name another.
    one.send_text(r#"{"_room":"two","n":1}"#);
    one.expect_text(r#"{"_from":1,"_room":"one","n":1}"#);
    two.send_text(r#"{"n":2}"#);
    two.expect_text(r#"{"_from":2,"_room":"two","n":2}"#);
    one.send_text(r#"{"n":3}"#);
    one.expect_text(r#"{"_from":1,"_room":"one","n":3}"#);
    two.expect_alive();

    let mut later = server.join("/two");
    later.expect_text(r#"{"_from":2,"_room":"two","n":2}"#);
    later.send_text(r#"{"n":4}"#);
    for client in [&mut later, &mut two] {
        client.expect_text(r#"{"_from":3,"_room":"two","n":4}"#);
    }
    server.join("/three").expect_alive();
}

#[test]
fn a_shutdown_closes_the_clients_of_private_and_of_shared_processes() {
    for share in ["client", "server"] {
        let mut server = Server::with(&["--share", share]).cat();
        let mut clients = [server.member("/one"), server.member("/one"), server.member("/two")];
        server.signal(rustix::process::Signal::TERM);
        for client in &mut clients {
            client.skip_to_close(1001);
        }
        assert_eq!(server.await_exit().code(), Some(0), "{share}");
    }
}

#[test]
fn with_server_the_program_names_the_rooms_that_a_message_is_for() {
    // What a client sends is what the program prints, so it can speak for the program.
    let options = ["--share", "server", "--serverframe=json", "--cache", "10", "--metrics"];
    let server = Server::with(&options).cat();
    let (mut one, mut two, mut three) = (server.member("/a"), server.member("/b"), server.member("/a"));
    let to_a = r#"{"_room":"a","n":1}"#;
    let to_both = r#"{"_room":["b","a","nowhere"],"_except":3}"#;
    let to_two = r#"{"_room":["b"],"_to":[1,2,3]}"#;
    let to_none = r#"{"_room":[]}"#;
    for message in [to_a, to_both, to_two, to_none, r#"{"_room":5}"#, "for all"] {
        two.send_text(message);
    }
    for (client, wanted) in [
        (&mut one, &[to_a, to_both, "for all"] as &[&str]),
        (&mut two, &[to_both, to_two, "for all"]),
        (&mut three, &[to_a, "for all"]),
    ] {
        for message in wanted {
            client.expect_text(message);
        }
    }
    await_value(&server, "scalesocket_messages_dropped_total", &[("reason", "malformed header")], 1.0);
    let mut late = server.join("/a");
    for message in [to_a, to_both, "for all"] {
        late.expect_text(message);
    }
}
