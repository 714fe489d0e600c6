//! Programs that talk over TCP, and other users of the machine who would like to take their place.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::Uid;

use crate::support::ports::{free, option};
use crate::support::process::await_end;
use crate::support::{Scratch, Server, testprog, wait_until};

/// A user whom nothing belongs to.
const STRANGER: u32 = 54_321;

/// Serves a shell line in which `$T` is `testprog tcp`.
fn serve(options: &[&str], ports: &str, script: &str) -> Server {
    Server::with(&["--tcp", ports]).options(options).sh(&format!("T='{} tcp'; {script}", testprog()))
}

/// Whether these tests can act as another user; says so if not.
fn may_be_others(test: &str) -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        eprintln!("{test}: NOT TESTED: only root can act as another user");
    }
    may
}

/// A socket of another user, who listens on a port once it is free.
fn listens_as_stranger(port: u16) -> TcpListener {
    // The user belongs to the thread here, not to the process (setresuid(2), C library/kernel differences).
    let thread = std::thread::spawn(move || {
        let stranger = Uid::from_raw(STRANGER);
        rustix::thread::set_thread_res_uid(stranger, stranger, stranger).expect("become another user");
        let mut listener = None;
        wait_until("the stranger listens", || {
            listener = TcpListener::bind(("127.0.0.1", port)).ok();
            listener.is_some()
        });
        listener.expect("bound")
    });
    let listener = thread.join().expect("it listens");
    listener.set_nonblocking(true).expect("non-blocking");
    listener
}

#[test]
fn a_port_that_is_bound_without_listening_is_skipped() {
    let first = free(2);
    let stranger: OwnedFd =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket");
    sockopt::set_socket_reuseaddr(&stranger, true).expect("an option");
    rustix::net::bind(&stranger, &std::net::SocketAddr::from(([127, 0, 0, 1], first))).expect("bind");
    let server = serve(&[], &option(first, 2), "exec $T listen accept say $PORT: echo");
    let mut client = server.join("/room");
    client.send_text("secret");
    client.expect_text(&format!("{}:secret", first + 1));
    assert_eq!(server.refused("/other", "").status, 503, "nor is it taken for another room");
    drop(stranger);
    let mut other = server.join("/other");
    other.send_text("x");
    other.expect_text(&format!("{first}:x"));
}

#[test]
fn a_port_whose_last_connection_the_program_closed_is_good_for_the_next_one() {
    let ports = option(free(1), 1);
    let server = serve(&[], &ports, "exec $T listen accept line say bye");
    for round in 0..3 {
        let mut client = None;
        wait_until("the port is given back", || {
            client = server.ask_upgrade(&format!("/{round}")).ok();
            client.is_some()
        });
        let mut client = client.expect("let in");
        client.send_text("go");
        client.expect_text("bye");
        client.expect_close(1000);
    }
}

#[test]
fn a_listener_of_another_user_gets_nothing_and_the_server_waits_for_the_program() {
    if !may_be_others("another_user_who_listens_first_hears_nothing") {
        return;
    }
    let scratch = Scratch::new();
    let first = free(1);
    let script = format!("exec $T await {} listen accept echo", scratch.name("go"));
    let server = serve(&["--connecttimeout=60"], &option(first, 1), &script);
    let mut client = server.join("/room");
    client.send_text("secret");
    wait_until("the program runs", || server.children().len() == 1);
    let stranger = listens_as_stranger(first);
    let line = server.wait_for_line(&["WARN", "[room]", "another user listens"]);
    assert!(line.contains(&format!("port={first}")) && line.contains(&format!("uid={STRANGER}")), "{line}");
    assert!(stranger.accept().is_err(), "the other listener got a connection");
    drop(stranger);
    scratch.file("go", "");
    client.expect_text("secret");
}

#[test]
fn a_program_whose_port_another_user_keeps_is_ended_with_1011() {
    if !may_be_others("where_another_user_goes_on_listening") {
        return;
    }
    let first = free(1);
    let server = serve(&["--connecttimeout=2"], &option(first, 1), "echo pid $$; exec sleep 1000");
    let mut client = server.join("/room");
    client.send_text("secret");
    let line = server.wait_for_line(&["output", "pid "]);
    let pid = line.rsplit("pid ").next().and_then(|rest| rest.trim_matches('"').parse().ok()).expect("a pid");
    let stranger = listens_as_stranger(first);
    let reason = client.expect_close(1011);
    assert!(reason.contains(&format!("another user listens on port {first}")), "{reason}");
    assert!(!reason.contains(&STRANGER.to_string()), "{reason}");
    server.wait_for_line(&[&format!("uid={STRANGER}")]);
    server.wait_for_line(&["ERROR", "[room]", "not started", "another user listens"]);
    await_end(pid);
    assert!(stranger.accept().is_err(), "the other listener got a connection");
}

#[test]
fn a_program_that_changed_its_user_is_accepted() {
    if !may_be_others("a_program_that_changed_its_user_is_accepted") {
        return;
    }
    for steps in ["become listen accept", "listen become accept", "become listen accept deafen"] {
        let steps = steps.replace("become", &format!("become {STRANGER}"));
        let server = serve(&["--connecttimeout=60"], &option(free(1), 1), &format!("exec $T {steps} echo"));
        let mut client = server.join("/room");
        client.send_text("hello");
        client.expect_text("hello");
        assert!(server.log.lines().iter().all(|line| !line.contains("another user")), "{steps}");
    }
}
