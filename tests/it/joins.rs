//! The order in which a program gets join messages.

use std::sync::Barrier;

use crate::support::client::handshake;
use crate::support::{Client, Raw, Scratch, Server, wait_until};

/// The ids in the join messages that the program of a room got, once there are that many.
fn joined(scratch: &Scratch, room: &str, joins: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    wait_until(&format!("the program gets {joins} join messages"), || {
        let text = std::fs::read_to_string(scratch.path(room)).unwrap_or_default();
        ids = text.split_terminator('\n').map(|line| line.parse().expect("an id")).collect();
        text.ends_with('\n') && ids.len() >= joins
    });
    ids
}

/// A server whose programs write down which ids join, in a file named after the room.
fn serve(scratch: &Scratch) -> Server {
    let script = format!("exec cat > {}/$ROOM", scratch.root().display());
    Server::with(&["--joinmsg", "#ID"]).sh(&script)
}

#[test]
fn join_messages_come_in_the_order_in_which_clients_got_their_101() {
    const CLIENTS: usize = 300;
    const ROUNDS: usize = 8;
    let scratch = Scratch::new();
    let server = serve(&scratch);
    for round in 0..ROUNDS {
        let room = format!("round-{round}");
        // Each waits for its 101 and for nothing else.
        let clients: Vec<Client> = (0..CLIENTS).map(|_| server.join(&format!("/{room}"))).collect();
        let first = (round * CLIENTS) as u64 + 1;
        let wanted: Vec<u64> = (first..first + CLIENTS as u64).collect();
        assert_eq!(joined(&scratch, &room, CLIENTS), wanted, "round {round}");
        drop(clients);
    }
}

#[test]
fn join_messages_come_in_the_order_of_ids_however_many_clients_join_at_once() {
    const THREADS: usize = 8;
    const EACH: usize = 25;
    const ROUNDS: usize = 4;
    let scratch = Scratch::new();
    let server = serve(&scratch);
    for round in 0..ROUNDS {
        let room = format!("round-{round}");
        let ready = Barrier::new(THREADS);
        let clients: Vec<Client> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut sockets: Vec<Raw> = (0..EACH).map(|_| server.raw()).collect();
                        ready.wait();
                        for socket in &mut sockets {
                            socket.send(handshake(&format!("/{room}"), ""));
                        }
                        let upgraded = sockets.into_iter().map(Client::shake_hands);
                        upgraded.map(|client| client.expect("the upgrade is granted")).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("all join")).collect()
        });
        let ids = joined(&scratch, &room, clients.len());
        assert!(ids.is_sorted(), "round {round}: {ids:?}");
        assert_eq!(ids.len(), clients.len(), "each once");
    }
}

#[test]
fn a_join_message_says_what_a_proxy_wrote_into_the_request() {
    let server = Server::with(&["--joinmsg", "#ID #HTTP_X_USER #HTTP_X_GROUPS #HTTP_X_NONE"]).cat();
    // A field with `_` is not the proxy's: a client could send it past one that replaces `X-User`.
    let fields = "x-user: J\u{f6}rg \"#ID\"\r\nX_User: eve\r\nX-Groups: a\r\nX-Groups: b\r\n";
    let mut client = Client::connect_with(server.address(), "/room", fields).expect("let in");
    client.expect_text("1 J%C3%B6rg%20%22%23ID%22 a%2C%20b #HTTP_X_NONE");
}

#[test]
fn a_header_field_of_more_than_4_kib_is_not_kept_for_the_join_message() {
    let server = Server::with(&["--joinmsg", "#ID #HTTP_X_A #HTTP_X_B"]).cat();
    let fields = format!("X-A: {}\r\nX-B: {}\r\n", "a".repeat(4097), "b".repeat(4096));
    let mut client =
        crate::support::Client::connect_with(server.address(), "/room", &fields).expect("let in");
    client.expect_text(&format!("1 #HTTP_X_A {}", "b".repeat(4096)));
    server.wait_for_line(&["WARN", "header field left out of the join message", "name=X_A bytes=4097"]);
}
