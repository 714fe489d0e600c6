//! `--connect`: an address in place of a program.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;
use std::time::Duration;

use crate::support::{DEADLINE, Event, Scratch, Server};

/// A service on a port of its own: each connection is handed to `serve` in a thread of its own.
fn service(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
            spawn(move || serve(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut reading = stream.try_clone().expect("another descriptor");
    let _ = std::io::copy(&mut reading, &mut stream);
}

fn connect(address: &str, options: &[&str]) -> Server {
    Server::with(&["--connect", address]).options(options).program(&[])
}

#[test]
fn each_client_has_a_connection_of_its_own() {
    let server = connect(&service(echo), &[]);
    let (mut one, mut other) = (server.join("/room"), server.join("/room"));
    one.send_text("of one");
    one.expect_text("of one");
    other.send_text("of the other");
    other.expect_text("of the other");
    assert!(server.children().is_empty(), "there is no process");
}

#[test]
fn a_room_shares_one_connection_where_that_is_asked_for() {
    let server = connect(&service(echo), &["--share", "room"]);
    let (mut one, mut other) = (server.join("/room"), server.join("/room"));
    one.send_text("for both");
    one.expect_text("for both");
    other.expect_text("for both");
}

#[test]
fn names_and_unix_sockets_are_addresses_too() {
    let address = service(echo);
    let named = address.replace("127.0.0.1", "localhost");
    let server = connect(&named, &[]);
    let mut client = server.join("/room");
    client.send_text("by name");
    client.expect_text("by name");
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut reading = stream.try_clone().expect("another descriptor");
        let _ = std::io::copy(&mut reading, &mut stream);
    });
    let server = connect(&format!("unix:{}", path.display()), &[]);
    let mut client = server.join("/room");
    client.send_text("over a file");
    client.expect_text("over a file");
}

#[test]
fn bytes_pass_unchanged_in_both_directions() {
    let server = connect(&service(echo), &["--binary"]);
    let mut client = server.join("/room");
    let sent: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sender = client.sender();
    let bytes = sent.clone();
    let sending = spawn(move || {
        for chunk in bytes.chunks(65_536) {
            sender.try_send(&crate::support::frame::binary(chunk)).expect("sent");
        }
    });
    assert!(client.bytes(sent.len()) == sent, "a megabyte both ways");
    sending.join().expect("sent");
}

#[test]
fn a_client_whose_connection_fails_gets_1011_with_the_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let server = connect(&closed.to_string(), &[]);
    let mut client = server.join("/room");
    assert_eq!(client.expect_close(1011), "cannot connect: Connection refused");
    server.wait_for_line(&["ERROR", "[room]", "Connection refused"]);
}

#[test]
fn the_end_of_the_connection_closes_behind_what_was_said() {
    let address = service(|mut stream| {
        let _ = stream.write_all(b"hello\nand goodbye");
    });
    let server = connect(&address, &[]);
    let mut client = server.join("/room");
    assert_eq!(client.texts_to_close(1000), ["hello", "and goodbye"]);
}

#[test]
fn a_connection_that_breaks_closes_with_1011() {
    let address = service(|mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a byte");
        // What is unread makes the end a reset.
        drop(stream);
    });
    let server = connect(&address, &[]);
    let mut client = server.join("/room");
    client.send_text(&"x".repeat(100_000));
    assert_eq!(client.skip_to_close(1011), "connection lost");
}

/// A service that says when a connection has ended on our side.
fn watched() -> (String, Receiver<Vec<u8>>) {
    let (tell, told) = channel();
    let address = service(move |mut stream| {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("the end");
        tell.send(said).expect("the test waits");
        // Kept open: the other direction ends when we are done with it, not before.
        let _ = stream.read(&mut [0]);
    });
    (address, told)
}

#[test]
fn the_end_of_a_client_is_the_end_of_its_direction() {
    let (address, told) = watched();
    let server = connect(&address, &["--grace", "0.1"]);
    let mut client = server.join("/room");
    client.send_text("last words");
    client.leave();
    assert_eq!(told.recv_timeout(DEADLINE).expect("the end is seen"), b"last words\n");
    server.wait_for_line(&["[room]", "connection ended"]);
}

#[test]
fn the_service_has_its_last_word_after_the_client_has_left() {
    let (tell, told) = channel();
    let address = service(move |mut stream| {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("the end");
        let late = stream.write_all(b"late\n").and_then(|()| stream.shutdown(Shutdown::Both));
        tell.send(late.is_ok()).expect("the test waits");
    });
    let server = connect(&address, &[]);
    server.join("/room").leave();
    assert!(told.recv_timeout(DEADLINE).expect("the end is seen"));
    server.wait_for_line(&["[room]", "connection ended"]);
}

#[test]
fn a_shutdown_closes_clients_and_connections() {
    let (address, told) = watched();
    let mut server = connect(&address, &["--grace", "0.1"]);
    let mut client = server.join("/room");
    client.send_text("one");
    client.ping(b"");
    assert!(matches!(client.next(), Event::Pong(_)));
    let (status, time) = {
        server.signal(rustix::process::Signal::TERM);
        client.skip_to_close(1001);
        server.stop()
    };
    assert_eq!(status.code(), Some(0));
    assert!(time < Duration::from_secs(5), "{time:?}");
    assert_eq!(told.recv_timeout(DEADLINE).expect("the end is seen"), b"one\n");
}
