//! Clients and rooms that come and go, in numbers.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::support::load::{Heard, Holds, Peer, SOON, raise_descriptors, readable};
use crate::support::raw::Address;
use crate::support::{Scratch, Server, frame, wait_until};

/// Rooms that are raced for.
const ROOMS: usize = 5;

/// A small generator of numbers that look random (xorshift64), the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What came of the clients of a race.
#[derive(Default)]
struct Tally {
    joined: AtomicUsize,
    /// Heard their last message back.
    answered: AtomicUsize,
    /// Closed by the server: the program ended well, failed, the server shut down.
    closed: [AtomicUsize; 3],
    /// Not let in, because the server was shutting down.
    refused: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn churning(directory: &Scratch, options: &[&str]) -> Server {
    Server::with(&["--joinmsg", "join #QUERY_U", "--leavemsg", "leave #QUERY_U", "--ping", "0"])
        .options(options)
        .testprog(&["churn", directory.root().to_str().expect("a path in UTF-8")])
}

/// One client's life: joins, says some messages, perhaps ends the program, and goes in one of many ways.
fn live(address: &Address, dice: &mut Dice, who: &str, tally: &Tally, stopping: &AtomicBool) {
    let room = dice.roll(ROOMS as u64);
    let mut joined = None;
    // Five programs that failed in a row close the room for a moment.
    wait_until(&format!("{who} is let in"), || {
        joined = match Peer::try_join(address, &format!("/room{room}?u={who}")) {
            Err(e) if e.to_string().contains("failed") => None,
            joined => Some(joined),
        };
        joined.is_some()
    });
    let mut peer = match joined {
        Some(Ok(peer)) => peer,
        _ if stopping.load(Ordering::SeqCst) => return count(&tally.refused),
        joined => panic!("{who} is not let in: {:?}", joined.map(|joined| joined.map(drop))),
    };
    count(&tally.joined);
    let messages = dice.roll(4);
    let mut sent: Vec<u8> =
        (0..messages).flat_map(|number| frame::text(&format!("say {who} {number}"))).collect();
    let mut last = (messages > 0).then(|| format!("say {who} {}", messages - 1));
    let ends = dice.roll(8) == 0;
    if ends {
        let how = ["0", "0", "3", "killed"][dice.roll(4) as usize];
        sent.extend(frame::text(&format!("end {who} {messages} {how}")));
        // Its program may be gone before it could answer, so that only the close is sure to come.
        last = Some("the close".to_owned());
    }
    let mut rest = sent.as_slice();
    while !rest.is_empty() {
        match peer.send_some(rest, Instant::now() + SOON) {
            Ok(0) => panic!("{who}: nothing is taken for {SOON:?}"),
            Ok(taken) => rest = &rest[taken..],
            // Another client has ended the program, and the server is done with this one.
            Err(_) => break,
        }
    }
    match dice.roll(8) {
        0 => return peer.reset(),
        1 => return drop(peer),
        2 => last = None,
        _ => {}
    }
    while let Some(last) = &last {
        match peer.next(Instant::now() + SOON) {
            Heard::Text(text) if text == last.as_bytes() => {
                count(&tally.answered);
                break;
            }
            Heard::Text(text) => assert!(text.starts_with(b"say "), "{}", String::from_utf8_lossy(&text)),
            Heard::Close(code, reason) => {
                let kind = match (code, reason.as_str()) {
                    (1000, "") => 0,
                    (1011, "exit status 3" | "killed by signal 9") => 1,
                    (1001, _) if stopping.load(Ordering::SeqCst) => 2,
                    _ => panic!("{who} is closed with {code} {reason:?}"),
                };
                count(&tally.closed[kind]);
                return peer.answer_close(code);
            }
            other => panic!("{who} waits for {last:?}, joined: {other:?}"),
        }
    }
    let code = peer.close(1000);
    assert!(matches!(code, 1000 | 1001 | 1011), "{who}: its close is answered with {code}");
}

/// What the programs of a race wrote down must be nothing.
fn nothing_wrong(directory: &Scratch) {
    if let Ok(violations) = std::fs::read_to_string(directory.path("violations")) {
        let lines: Vec<_> = violations.lines().collect();
        panic!("{} violations, the first ones: {:#?}", lines.len(), &lines[..lines.len().min(10)]);
    }
}

#[test]
fn joins_leaves_and_exits_that_race_break_no_promise() {
    const WORKERS: u64 = 8;
    const LIVES: usize = 500;
    let directory = Scratch::new();
    let mut server = churning(&directory, &[]);
    let start = Holds::now(&server);
    let (tally, stopping, began) = (Tally::default(), AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let (server, tally, stopping) = (&server, &tally, &stopping);
            scope.spawn(move || {
                let mut dice = Dice(worker.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                for life in 0..LIVES {
                    live(server.address(), &mut dice, &format!("{worker}.{life}"), tally, stopping);
                }
            });
        }
    });
    let lasted = began.elapsed();
    start.comes_back(&server, SOON);
    nothing_wrong(&directory);
    let number = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    eprintln!(
        "{} clients in {lasted:?}: {} answered, closed by the program's end {}, by its failure {}; \
         all is as before after {:?}",
        number(&tally.joined),
        number(&tally.answered),
        number(&tally.closed[0]),
        number(&tally.closed[1]),
        began.elapsed()
    );
    // Each client that joined has left, once, as the log says, unless the log could not be read in time.
    server.stop();
    let log = server.log.all_lines();
    if log.iter().any(|line| line.contains("log lines dropped")) {
        return eprintln!("the log is not complete and not looked at");
    }
    for what in ["] client joined ", "] client left "] {
        assert_eq!(server.log.times(&[what]).0, WORKERS * LIVES as u64, "{what}: as many as came");
        // Lines that stand for many name the last one.
        let id = |line: &String| line.split_once(what)?.0.rsplit_once(' ').map(|(_, id)| id.to_owned());
        let mut ids: Vec<_> = log.iter().filter_map(id).collect();
        let written = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), written, "{what}: no id twice");
    }
}

#[test]
fn rooms_that_come_and_go_leave_nothing_behind() {
    const WORKERS: usize = 4;
    const ROUNDS: usize = 500;
    let server = Server::with(&["--ping", "0"]).cat();
    let start = Holds::now(&server);
    let rounds = |from: usize, to: usize| {
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let server = &server;
                scope.spawn(move || {
                    for round in from..to {
                        let mut peer = Peer::join(server, &format!("/room-{worker}-{round}"));
                        let message = format!("message {worker} {round}");
                        peer.send(&frame::text(&message));
                        peer.hears(&message);
                        assert_eq!(peer.close(1000), 1000);
                    }
                });
            }
        });
        start.comes_back(&server, SOON);
    };
    rounds(0, 100);
    let (warm, began) = (server.rss(), Instant::now());
    rounds(100, ROUNDS);
    let grown = server.rss().saturating_sub(warm);
    eprintln!(
        "{} rooms came and went in {:?}: {warm} KiB, then {grown} KiB more",
        WORKERS * (ROUNDS - 100),
        began.elapsed()
    );
    assert!(grown < 2 * 1024, "{grown} KiB more after {} rooms", WORKERS * (ROUNDS - 100));
}

#[test]
fn thousands_of_silent_connections_do_not_keep_clients_out() {
    // Each takes a descriptor here and one there, of limits that both have in common; half of what the
    // server can hold may be silent.
    let most = raise_descriptors().saturating_sub(1000) / 2;
    let count = usize::try_from(most).expect("a number").min(5000);
    let server = Server::with(&["--handshaketimeout", "6", "--ping", "0"]).cat();
    let start = Holds::now(&server);
    let began = Instant::now();
    let mut silent: Vec<_> = (0..count).map(|_| Peer::connected(server.address())).collect();
    let connected = began.elapsed();
    let held = server.threads();
    let asked = Instant::now();
    let mut peer = Peer::join(&server, "/room");
    peer.send(&frame::text("hello"));
    peer.hears("hello");
    let answered = asked.elapsed();
    let rss = server.rss();
    for socket in &mut silent {
        let mut byte = [0];
        assert!(readable(socket, Instant::now() + SOON), "a silent client is still there");
        match socket.read(&mut byte) {
            Ok(0) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("a silent client heard {other:?}"),
        }
    }
    eprintln!(
        "{count} silent clients connected in {connected:?} ({held} threads, {rss} KiB), another was \
         answered in {answered:?}, they were gone after {:?}",
        began.elapsed()
    );
    // Thousands of threads end at once, on cores that may be busy: that is not for the clock of one client.
    assert!(began.elapsed() < connected + Duration::from_secs(6 + 20), "they are gone in time");
    drop(silent);
    peer.send(&frame::text("still here"));
    peer.hears("still here");
    assert_eq!(peer.close(1000), 1000);
    start.comes_back(&server, SOON);
}

#[test]
fn term_under_load_ends_everything_in_time() {
    const WORKERS: u64 = 8;
    let directory = Scratch::new();
    let mut server = churning(&directory, &["--grace", "1"]);
    let address = server.address().clone();
    let (tally, stopping) = (Tally::default(), AtomicBool::new(false));
    let silent: Vec<_> = (0..100).map(|_| Peer::connected(&address)).collect();
    let waiting: Vec<_> = (0..20)
        .map(|number| {
            let mut peer = Peer::join(&server, &format!("/quiet{}?u={number}", number % 4));
            peer.send(&frame::text(&format!("say {number} 0")));
            peer
        })
        .collect();
    let mut elapsed = Duration::ZERO;
    std::thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let (address, tally, stopping) = (&address, &tally, &stopping);
            scope.spawn(move || {
                let mut dice = Dice(worker.wrapping_mul(0x2545_f491_4f6c_dd1d));
                for life in 0.. {
                    live(address, &mut dice, &format!("{worker}.{life}"), tally, stopping);
                    if stopping.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
        }
        for mut peer in waiting {
            scope.spawn(move || {
                let mut end = peer.next(Instant::now() + SOON);
                while let Heard::Text(_) = end {
                    end = peer.next(Instant::now() + SOON);
                }
                assert!(matches!(end, Heard::Close(1001, _)), "a client that waits heard {end:?}");
                peer.answer_close(1001);
            });
        }
        let deadline = Instant::now() + SOON;
        while tally.joined.load(Ordering::Relaxed) < 1000 {
            assert!(Instant::now() < deadline, "the clients come and go");
            std::thread::sleep(Duration::from_millis(1));
        }
        stopping.store(true, Ordering::SeqCst);
        let (status, took) = server.stop();
        assert_eq!(status.code(), Some(0));
        elapsed = took;
    });
    drop(silent);
    eprintln!(
        "TERM after {:?} clients: ended in {elapsed:?}, {:?} told so, {:?} refused",
        tally.joined, tally.closed[2], tally.refused
    );
    // The end of input 0.25 s, the grace 1 s, the last output 1 s, the closes 5 s.
    assert!(elapsed < Duration::from_millis(7250) + Duration::from_secs(2), "ended only after {elapsed:?}");
    nothing_wrong(&directory);
    for entry in std::fs::read_dir(directory.root()).expect("the directory of the locks") {
        let path = entry.expect("an entry").path();
        let lock = std::fs::File::open(&path).expect("open a lock file");
        let free = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
        assert!(free.is_ok(), "the program that holds {} outlives the server", path.display());
    }
}
