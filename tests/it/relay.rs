//! `--relay`: a room without a program.

use crate::support::openmetrics::{await_value, scrape};
use crate::support::{Event, Server, wait_until};

fn relay(options: &[&str]) -> Server {
    Server::with(options).program(&[])
}

#[test]
fn a_message_goes_to_the_others_whole_and_in_its_kind() {
    let server = relay(&["--relay"]);
    let mut members = server.members("/room", 3);
    let mut elsewhere = server.join("/other");
    let [one, two, three] = &mut members[..] else { panic!("three") };
    one.send_text("several\nlines\n");
    one.send_binary(&[0, 0xff, b'\n']);
    for client in [&mut *two, &mut *three] {
        client.expect_text("several\nlines\n");
        client.expect_binary(&[0, 0xff, b'\n']);
    }
    two.send_text("");
    // Nothing of its own came back before this.
    one.expect_text("");
    three.expect_text("");
    elsewhere.expect_alive();
    assert!(server.children().is_empty(), "there is no process");
}

#[test]
fn with_all_the_sender_gets_its_message_too_and_all_see_one_order() {
    let server = relay(&["--relay=all"]);
    let mut members = server.members("/room", 4);
    let senders: Vec<_> = members.iter().map(crate::support::Client::sender).collect();
    let threads: Vec<_> = (0..4)
        .zip(senders)
        .map(|(client, sender)| {
            std::thread::spawn(move || (0..200).for_each(|n| sender.send_text(&format!("{client}:{n}"))))
        })
        .collect();
    let seen: Vec<Vec<String>> =
        members.iter_mut().map(|client| (0..800).map(|_| client.text()).collect()).collect();
    for thread in threads {
        thread.join().expect("sent");
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "one order for all");
    for client in 0..4 {
        let own: Vec<_> = seen[0].iter().filter(|text| text.starts_with(&format!("{client}:"))).collect();
        let wanted: Vec<_> = (0..200).map(|n| format!("{client}:{n}")).collect();
        assert!(own.into_iter().eq(wanted.iter()), "each sender's order");
    }
}

#[test]
fn with_json_the_sender_is_named_and_clients_can_address_each_other() {
    let server = relay(&["--relay", "--frame=json", "--metrics"]);
    let mut members = server.members("/room", 3);
    let [one, two, three] = &mut members[..] else { panic!("three") };
    one.send_text(r#"{"_from":99,"text":"all"}"#);
    two.expect_text(r#"{"_from":1,"text":"all"}"#);
    three.expect_text(r#"{"_from":1,"text":"all"}"#);
    one.send_text(r#"{"_to":3,"text":"private"}"#);
    one.send_text(r#"{"_except":[3],"text":"but one"}"#);
    one.send_text("no json");
    one.send_text(r#"{"_to":"somebody"}"#);
    one.send_text(r#"{"last":true}"#);
    three.expect_text(r#"{"_from":1,"_to":3,"text":"private"}"#);
    three.expect_text(r#"{"_from":1,"last":true}"#);
    two.expect_text(r#"{"_from":1,"_except":[3],"text":"but one"}"#);
    two.expect_text(r#"{"_from":1,"last":true}"#);
    three.send_text(r#"{"_to":1}"#);
    one.expect_text(r#"{"_from":3,"_to":1}"#);
    for reason in ["not json", "malformed header"] {
        await_value(&server, "scalesocket_messages_dropped_total", &[("reason", reason)], 1.0);
    }
}

#[test]
fn those_who_come_later_get_the_history_and_private_messages_stay_private() {
    let server = relay(&["--relay", "--frame=json", "--cache", "10"]);
    let mut members = server.members("/room", 2);
    let [one, two] = &mut members[..] else { panic!("two") };
    one.send_text(r#"{"n":1}"#);
    one.send_text(r#"{"n":2,"_to":2}"#);
    two.expect_text(r#"{"_from":1,"n":1}"#);
    two.expect_text(r#"{"_from":1,"n":2,"_to":2}"#);
    let mut late = server.join("/room");
    late.expect_text(r#"{"_from":1,"n":1}"#);
    late.expect_alive();
}

#[test]
fn a_room_is_gone_with_its_last_client_and_comes_back() {
    let server = relay(&["--relay=all", "--api", "--metrics"]);
    for round in 0..3 {
        let mut client = server.join("/room");
        client.send_text(&round.to_string());
        client.expect_text(&round.to_string());
        assert_eq!(scrape(&server).get("scalesocket_programs", &[]), Some(0.0), "no process");
        client.leave();
        wait_until("the room is gone", || server.ask("GET", "/api/rooms/", "").text().trim() == "[]");
    }
}

#[test]
fn a_message_as_large_as_allowed_passes() {
    let server = relay(&["--relay=all", "--maxmessage", "3m"]);
    let mut client = server.join("/room");
    let large = "x".repeat(3 << 20);
    client.send_text(&large);
    assert!(client.text() == large);
    client.send_text(&"x".repeat((3 << 20) + 1));
    client.expect_close(1009);
}

#[test]
fn a_shutdown_closes_the_clients_of_a_relay() {
    let mut server = relay(&["--relay"]);
    let mut members = server.members("/room", 2);
    members[0].send_text("before");
    assert!(matches!(members[1].next(), Event::Text(_)));
    server.signal(rustix::process::Signal::TERM);
    for client in &mut members {
        client.expect_close(1001);
    }
    assert_eq!(server.await_exit().code(), Some(0));
}

#[test]
fn the_others_get_the_join_and_leave_messages_that_are_asked_for() {
    let server = relay(&["--relay", "--json"]);
    let mut one = server.member("/room");
    // It may still get the join message of the first, if that was not sent yet.
    let mut two = server.join("/room");
    one.expect_text(r#"{"t":"Join","_from":2}"#);
    two.send_text(r#"{"_to":1,"hello":true}"#);
    one.expect_text(r#"{"_from":2,"_to":1,"hello":true}"#);
    two.leave();
    one.expect_text(r#"{"t":"Leave","_from":2}"#);
    let server = relay(&["--relay=all", "--joinmsg", "#ID is here"]);
    let mut alone = server.join("/room");
    alone.expect_text("1 is here");
}
