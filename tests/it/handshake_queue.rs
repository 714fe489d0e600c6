//! A client whose socket is full when it is upgraded.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::client::handshake;
use crate::support::openmetrics::scrape;
use crate::support::raw::{Address, Socket};
use crate::support::{Client, DEADLINE, Event, Raw, Scratch, Server, wait_until};

/// Larger than any socket's buffer.
const FILE: usize = 9_900_000;

/// How far below a full socket the body of a response ends: the 101 fits not at all, in part, or whole. What
/// a socket takes depends on how the kernel cuts the bytes up.
const ROOM_LEFT: [usize; 7] = [0, 1, 2, 60, 120, 500, 2000];

/// The time in which an upgrade happens on an idle machine.
const MOMENT: Duration = Duration::from_millis(300);

fn request(length: usize) -> String {
    format!("GET /big HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-{}\r\n\r\n", length - 1)
}

/// Bytes that the kernel holds between server and client.
fn in_the_kernel(raw: &Raw) -> usize {
    let received = rustix::io::ioctl_fionread(&raw.socket).expect("FIONREAD") as usize;
    // Of TCP, what the client's kernel has not acknowledged is in the server's (proc_net_tcp.txt).
    let Socket::Tcp(socket) = &raw.socket else { return received };
    let port = |address: std::io::Result<SocketAddr>| format!(":{:04X}", address.expect("an address").port());
    let (client, server) = (port(socket.local_addr()), port(socket.peer_addr()));
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's list of connections");
    let unacknowledged = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&server) && fields.get(2)?.ends_with(&client);
        is_it.then(|| usize::from_str_radix(fields[4].split(':').next().expect("a queue"), 16).expect("hex"))
    });
    received + unacknowledged.unwrap_or(0)
}

/// What a socket takes of a file when it is not read, the response's head included.
fn capacity(address: &Address) -> usize {
    let mut raw = Raw::connect_small(address);
    raw.send(request(FILE));
    let (mut held, mut since) = (0, Instant::now());
    wait_until("the socket is full", || {
        let now = in_the_kernel(&raw);
        if now != held {
            (held, since) = (now, Instant::now());
        }
        held > 0 && since.elapsed() > MOMENT
    });
    held
}

/// The length of a response's head for the first so many bytes of the file.
fn head_length(address: &Address, length: usize) -> usize {
    let mut raw = Raw::connect_small(address);
    raw.send(request(length));
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(at) = raw.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return at + 4;
        }
        assert!(raw.fill(until).is_none(), "no response");
    }
}

/// A room for each connection: no other client gets the output of its program.
fn room(address: &Address, left: usize) -> String {
    let kind = if matches!(address, Address::Tcp(_)) { "tcp" } else { "unix" };
    format!("{kind}-{left:04}")
}

/// Connections that ask for a file of about what their socket takes and for a room in one write, and read
/// nothing; with the bytes of the file's response. They are in their rooms now, but for those whose response
/// does not fit.
fn full_sockets(server: &Server, address: &Address) -> Vec<(Raw, usize)> {
    let capacity = capacity(address);
    let sockets: Vec<_> = ROOM_LEFT
        .iter()
        .map(|left| {
            let response = capacity - left;
            // The head says how long the body is.
            let guess = response - head_length(address, response);
            let body = response - head_length(address, guess);
            let mut raw = Raw::connect_small(address);
            raw.send(request(body) + &handshake(&format!("/{}", room(address, *left)), ""));
            (raw, response)
        })
        .collect();
    for left in ROOM_LEFT {
        let room = room(address, left);
        server.log.find(MOMENT, |line| line.contains("client joined") && line.contains(&room));
    }
    sockets
}

/// Reads the response and the 101.
fn read_on(mut raw: Raw, response: usize) -> Client {
    let until = Instant::now() + DEADLINE;
    while raw.buffer.len() < response {
        assert_eq!(raw.fill(until), None, "after {} of {response} bytes", raw.buffer.len());
    }
    raw.buffer.drain(..response);
    Client::shake_hands(raw).expect("the upgrade is granted")
}

fn serve(options: &[&str], scratch: &Scratch, program: &[&str]) -> Server {
    scratch.file("big", vec![0; FILE]);
    let site = scratch.name("");
    let socket = format!("unix:{}", scratch.name("socket"));
    Server::with(&["--staticdir", &site])
        .options(options)
        .address("127.0.0.1:0")
        .address(&socket)
        .testprog(program)
}

#[test]
fn a_client_whose_socket_is_full_gets_its_101_and_all_that_follows_as_it_reads() {
    let scratch = Scratch::new();
    let server = serve(&[], &scratch, &["flood", "3"]);
    for address in server.addresses() {
        for (raw, response) in full_sockets(&server, address) {
            let mut client = read_on(raw, response);
            for number in 0..3 {
                assert!(client.text().starts_with(&format!("{number} ")), "{address:?}");
            }
            client.expect_text("end");
            client.send_text("an echo");
            client.expect_text("an echo");
        }
    }
}

#[test]
fn the_queue_of_a_client_whose_socket_is_full_is_bounded() {
    const LINES: usize = 4_000;
    const LENGTH: usize = 1000;
    /// `--maxqueue`, and what one read of a program's output may add.
    const BOUND: usize = (64 + 192) * 1024;
    let scratch = Scratch::new();
    let options = ["--metrics", "--maxqueue=64k"];
    let server = serve(&options, &scratch, &["flood", &LINES.to_string(), &LENGTH.to_string()]);
    for address in server.addresses() {
        let sockets = full_sockets(&server, address);
        // A program prints all of it in less time.
        let until = Instant::now() + MOMENT * 3;
        let mut largest = 0.0_f64;
        while Instant::now() < until {
            let queued = scrape(&server).get("scalesocket_queue_bytes", &[("to", "clients")]);
            largest = largest.max(queued.expect("the gauge"));
            let bound = (BOUND * ROOM_LEFT.len()) as f64;
            assert!(largest <= bound, "{address:?}: {largest} bytes wait, {bound} are the bound");
        }
        assert!(largest > 0.0, "{address:?}: somebody's socket is full");
        for (raw, response) in sockets {
            let mut client = read_on(raw, response);
            for number in 0..LINES {
                let line = client.text();
                assert!(line.starts_with(&format!("{number} ")), "{address:?}: {line} is not {number}");
                assert_eq!(line.len(), LENGTH);
            }
            assert_eq!(client.next(), Event::Text("end".to_owned()));
        }
    }
}
