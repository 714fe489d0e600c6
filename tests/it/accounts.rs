//! The counters add up, to the message: what clients sent is what programs read and what was dropped.

use std::time::{Duration, Instant};

use crate::support::load::{Heard, Peer, SOON};
use crate::support::openmetrics::{Metrics, scrape};
use crate::support::{Client, Scratch, Server, frame, ports, testprog, wait_until};

/// Reasons for which messages of programs are dropped; all others are those of clients' messages.
const OF_PROGRAMS: [&str; 4] = ["slow client", "malformed header", "too long", "metadata"];

/// Clients of each room.
const CLIENTS: usize = 3;

/// Messages that each sends.
const MESSAGES: usize = 60;

/// What programs do, and how many bytes they read before.
const ROOMS: [&str; 12] = [
    "ends-99999999-reads-all",
    "ends-0-at-once",
    "ends-30001-in-the-middle",
    "fails-0-at-once",
    "fails-30001-in-the-middle",
    "killed-0-at-once",
    "killed-30001-in-the-middle",
    "shut-30001-closes-its-input-and-lives",
    "shut-0-closes-its-input-at-once-and-lives",
    "mute-99999999-closes-its-output-and-lives",
    "deaf-0-never-reads",
    "deaf-30001-reads-no-more",
];

/// The stop signal is ignored, so that no program is interrupted while it counts; KILL ends the rest.
const LIFE: [&str; 5] = ["--metrics", "--ping=0", "--stopsignal=WINCH", "--grace=1.5", "--slow=drop"];

fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    let value = metrics.get(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"));
    value.to_string().parse().expect("a whole number")
}

/// The counts of client messages.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    received: u64,
    passed_on: u64,
    dropped: u64,
}

impl Account {
    fn of(metrics: &Metrics) -> Self {
        let family = "scalesocket_messages_dropped_total";
        let reasons = metrics.labels(family, "reason");
        let of_clients = reasons.into_iter().filter(|reason| !OF_PROGRAMS.contains(reason));
        Self {
            received: value(metrics, "scalesocket_messages_received_total", &[]),
            passed_on: value(metrics, "scalesocket_messages_total", &[("from", "client")]),
            dropped: of_clients.map(|reason| value(metrics, family, &[("reason", reason)])).sum(),
        }
    }
}

/// Waits until all clients have left; gives the account.
fn settle(server: &Server) -> Account {
    wait_until("all rooms are gone", || {
        let metrics = scrape(server);
        // The one who asks is a connection.
        [("scalesocket_rooms", 0.0), ("scalesocket_programs", 0.0), ("scalesocket_connections", 1.0)]
            .iter()
            .all(|&(name, wanted)| metrics.get(name, &[]) == Some(wanted))
    });
    Account::of(&scrape(server))
}

/// How many messages the programs have read whole.
fn read(scratch: &Scratch) -> u64 {
    let files = std::fs::read_dir(scratch.root()).expect("the scratch directory");
    let counts = files.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("a count"));
    counts.map(|count| count.parse::<u64>().expect("a number")).sum()
}

/// How a client goes.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    Closing,
    Reset,
    /// The end of TCP and nothing else.
    Vanishing,
    /// By a message that is too large.
    TooLarge,
}

const WAYS: [Leaves; 4] = [Leaves::Closing, Leaves::Reset, Leaves::Vanishing, Leaves::TooLarge];

/// Sends messages, each made of its number, and goes; the room may be over before.
fn send_and_leave(mut client: Client, way: Leaves, message: impl Fn(usize) -> Vec<u8>) {
    let sender = client.sender();
    for number in 0..MESSAGES {
        if sender.try_send(&message(number)).is_err() {
            return;
        }
    }
    match way {
        Leaves::Closing => drop(sender.try_send(&frame::close(1000, ""))),
        Leaves::TooLarge => drop(sender.try_send(&frame::text(&"x".repeat(30_000)))),
        Leaves::Vanishing => client.raw.socket.shutdown(std::net::Shutdown::Both),
        Leaves::Reset => return client.reset(),
    }
    // Of one whose messages wait for a program that reads nothing, the close waits too.
    let until = Instant::now() + Duration::from_secs(3);
    let mut scrap = [0; 4096];
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        if matches!(client.raw.socket.read(&mut scrap, left), Ok(0) | Err(_)) {
            break;
        }
    }
    client.reset();
}

/// All rooms with all their clients, at once.
fn all_rooms(server: &Server, message: impl Fn(usize) -> Vec<u8> + Sync) {
    std::thread::scope(|scope| {
        for (index, room) in ROOMS.iter().enumerate() {
            for client in 0..CLIENTS {
                let message = &message;
                scope.spawn(move || {
                    // Its room may be full, or over, when it comes.
                    if let Ok(client_in) = server.ask_upgrade(&format!("/{room}")) {
                        send_and_leave(client_in, WAYS[(index + client) % WAYS.len()], message);
                    }
                });
            }
        }
    });
}

/// What it is called, options, what `testprog account` takes for a message, and the messages' frames.
type Case<'a> = (&'a str, &'a [&'a str], &'a str, &'a (dyn Fn(usize) -> Vec<u8> + Sync));

/// Small ones, and some larger than a pipe's page.
fn length_of(number: usize) -> usize {
    if number % 10 == 9 { 9000 } else { 20 + number % 300 }
}

#[test]
fn every_client_message_is_read_by_the_program_or_counted_as_dropped() {
    let text = |number: usize| frame::text(&format!("{number} {}", "x".repeat(length_of(number))));
    let json = |number: usize| match number % 7 {
        6 => frame::text("no JSON"),
        _ => frame::text(&format!(r#"{{"n":{number},"x":"{}"}}"#, "x".repeat(length_of(number)))),
    };
    let fixed = |_| frame::binary(&[b'b'; 700]);
    let notices = ["--joinmsg=+#ID", "--leavemsg=-#ID"];
    let cases: [Case<'_>; 4] = [
        ("lines", &[], "line", &text),
        ("lines with notices", &notices, "line", &text),
        ("JSON", &["--frame=json"], "line", &json),
        ("binary", &["--binary"], "700", &fixed),
    ];
    std::thread::scope(|scope| {
        for (case, options, unit, message) in cases {
            scope.spawn(move || {
                let scratch = Scratch::new();
                let server = Server::with(&LIFE).options(&["--maxmessage=20k"]).options(options).testprog(&[
                    "account",
                    &scratch.name(""),
                    unit,
                ]);
                all_rooms(&server, message);
                let account = settle(&server);
                assert_eq!(account.passed_on, read(&scratch), "{case}: what programs have read; {account:?}");
                assert_eq!(account.received, account.passed_on + account.dropped, "{case}: {account:?}");
                assert!(account.passed_on > 0 && account.dropped > 0, "{case}: {account:?}");
            });
        }
    });
}

#[test]
fn messages_before_a_close_frame_are_all_received() {
    let scratch = Scratch::new();
    let server = Server::with(&LIFE).testprog(&["account", &scratch.name(""), "line"]);
    let text = |number: usize| frame::text(&format!("{number}"));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                send_and_leave(server.join("/ends-99999999-reads-all"), Leaves::Closing, text);
            });
        }
    });
    let sent = 8 * MESSAGES as u64;
    assert_eq!(settle(&server), Account { received: sent, passed_on: sent, dropped: 0 });
    assert_eq!(read(&scratch), sent);
}

#[test]
fn what_a_program_leaves_unread_is_counted_to_the_message() {
    // Less than a pipe holds; more; more than all queues hold.
    std::thread::scope(|scope| {
        for (messages, length) in [(100, 100), (300, 1000), (1000, 1000), (3, 300_000)] {
            scope.spawn(move || leave_unread(messages, length));
        }
    });
}

/// A program that reads nothing, and a client that sends so many messages of so many bytes.
fn leave_unread(messages: usize, length: usize) {
    let scratch = Scratch::new();
    let server = Server::with(&LIFE).testprog(&["account", &scratch.name(""), "line"]);
    let mut client = server.join("/deaf-0-never-reads");
    client.expect_text("ready");
    let (message, sender) = (frame::text(&"x".repeat(length)), client.sender());
    for _ in 0..messages {
        sender.try_send(&message).expect("the kernel takes it");
    }
    // Its handle would keep the socket.
    drop(sender);
    let fits = messages * length < 64 * 1024;
    if fits {
        client.leave();
    } else {
        // What it has sent may not be read to the end, and so neither would be its close.
        let (mut queued, mut since) = (0.0, Instant::now());
        wait_until("the server takes no more", || {
            let now = scrape(&server).get("scalesocket_queue_bytes", &[("to", "programs")]);
            if now != Some(queued) {
                (queued, since) = (now.expect("the gauge"), Instant::now());
            }
            queued > 0.0 && since.elapsed() > Duration::from_millis(200)
        });
        client.reset();
    }
    let account = settle(&server);
    assert_eq!(account.passed_on, 0, "{messages} of {length} bytes: {account:?}");
    assert_eq!(account.dropped, account.received, "{messages} of {length} bytes: {account:?}");
    assert!(account.received > 0 && (!fits || account.received == messages as u64), "{account:?}");
}

#[test]
fn inputgrace_does_not_change_the_counts() {
    let scratch = Scratch::new();
    let server = Server::with(&["--metrics", "--ping=0", "--inputgrace=0.1", "--grace=0.1"]).testprog(&[
        "account",
        &scratch.name(""),
        "line",
    ]);
    for room in ["deaf-0-never-reads", "deaf-30001-reads-no-more"] {
        let mut client = server.join(&format!("/{room}"));
        for number in 0..MESSAGES {
            client.send_text(&"x".repeat(length_of(number)));
        }
        // It has read what it wanted.
        client.expect_text("ready");
        client.leave();
    }
    let account = settle(&server);
    assert_eq!(account.received, 2 * MESSAGES as u64);
    assert_eq!(account.passed_on, read(&scratch), "{account:?}");
    assert_eq!(account.received, account.passed_on + account.dropped, "{account:?}");
}

#[test]
fn every_message_is_counted_with_a_program_over_tcp() {
    // What it has read of what its socket holds is only known to itself.
    let ports = ports::option(ports::free(8), 8);
    let script = format!(
        "case $ROOM in closes) exec {0} tcp listen accept line close wait;; ends) exec {0} tcp listen accept line \
         line exit 0;; deaf) exec {0} tcp listen accept wait;; esac",
        testprog()
    );
    let server = Server::with(&LIFE).options(&["--tcp", &ports]).sh(&script);
    let text = |number: usize| frame::text(&format!("{number} {}", "x".repeat(length_of(number))));
    std::thread::scope(|scope| {
        for (room, way) in [
            ("closes", Leaves::Closing),
            ("ends", Leaves::Closing),
            ("ends", Leaves::Vanishing),
            ("deaf", Leaves::Reset),
        ] {
            let client = server.join(&format!("/{room}"));
            scope.spawn(move || send_and_leave(client, way, text));
        }
    });
    let account = settle(&server);
    assert_eq!(account.received, account.passed_on + account.dropped, "{account:?}");
    assert!(account.received > 0, "{account:?}");
}

/// The number in `key=…` of a log line.
fn field(line: &str, key: &str) -> usize {
    let (_, rest) = line.split_once(&format!(" {key}=")).unwrap_or_else(|| panic!("no {key} in {line}"));
    rest.split(' ').next().expect("a word").parse().expect("a number")
}

#[test]
fn with_drop_every_message_to_a_client_is_received_or_counted() {
    const PEERS: usize = 4;
    const LINES: usize = 25_000;
    let options = ["--metrics", "--ping=0", "--slow=drop", "--maxqueue=256k", "--serverframe=json"];
    let arguments = ["addressed", &PEERS.to_string(), &LINES.to_string(), "500"];
    let server = Server::with(&options).testprog(&arguments);
    // One reads at once, one begins when all has been said, two go slowly.
    let mut peers: Vec<Peer> = (0..PEERS).map(|_| Peer::join_small(&server, "/room")).collect();
    for peer in &mut peers {
        peer.send(&frame::text("here"));
    }
    let got: Vec<(usize, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = peers
            .into_iter()
            .enumerate()
            .map(|(index, mut peer)| {
                let server = &server;
                scope.spawn(move || {
                    let address = peer.socket.local_addr().expect("an address").to_string();
                    if index == 1 {
                        server.wait_for_line(&["program ended"]);
                    }
                    let mut got = 0;
                    let end = loop {
                        if index > 1 && got % (400 * index) == 0 {
                            // Slower than it is said.
                            std::thread::sleep(Duration::from_millis(20));
                        }
                        match peer.next(Instant::now() + SOON) {
                            Heard::Text(_) => got += 1,
                            other => break other,
                        }
                    };
                    assert_eq!(end, Heard::Close(1000, String::new()));
                    peer.answer_close(1000);
                    (got, address)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it stays")).collect()
    });
    let mut all_dropped = 0;
    for (index, (got, address)) in got.iter().enumerate() {
        // Those for all, and those for one: the ids are in the order of joining.
        let said = (0..LINES).filter(|line| [0, index + 1].contains(&(line % (PEERS + 1)))).count();
        let left = server.wait_for_line(&["client left", address]);
        let dropped = field(&left, "dropped");
        assert_eq!(field(&left, "sent"), *got, "{left}");
        assert_eq!(got + dropped, said, "client {}: {got} came and {dropped} were dropped", index + 1);
        all_dropped += dropped as u64;
    }
    assert!(all_dropped > 0, "no client was too slow");
    let slow = [("reason", "slow client")];
    assert_eq!(value(&scrape(&server), "scalesocket_messages_dropped_total", &slow), all_dropped);
}
