//! Clients that are slow, programs that are deaf, and who else feels it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::load::{
    Crowd, Heard, Holds, Peer, SOON, Wire, ended, forget_peak, number_of, numbered, peak, readable,
};
use crate::support::{Server, frame};

/// What a server may need in memory beside what its options say, in KiB.
const ROOM_TO_MOVE: u64 = 8 * 1024;

/// What wakes a thread late on a machine whose cores are all busy.
const LATE: Duration = Duration::from_secs(2);

/// All numbered lines of a burst, and the close of a program that ended well.
fn lines(count: usize, length: usize) -> std::sync::Arc<Wire> {
    Wire::of((0..count).map(|number| numbered(number, length))).then_close(1000)
}

/// Reads numbered lines without a gap from `next` on; gives what came in place of another one.
fn read_lines(peer: &mut Peer, next: &mut usize, length: usize) -> Heard {
    loop {
        match peer.next(Instant::now() + SOON) {
            Heard::Text(line) => {
                assert_eq!(number_of(&line, length), *next);
                *next += 1;
            }
            other => return other,
        }
    }
}

/// The number in `key=…` of a log line.
fn field(line: &str, key: &str) -> usize {
    let (_, rest) = line.split_once(&format!(" {key}=")).unwrap_or_else(|| panic!("no {key} in {line}"));
    rest.split(' ').next().expect("a word").parse().expect("a number")
}

#[test]
fn a_client_that_never_reads_delays_the_others_once_and_gets_1013() {
    let server = Server::with(&["--joinmsg", "+", "--ping", "0"]).testprog(&["burst", "5", "100000", "1000"]);
    let wire = lines(100_000, 1000);
    let mut stuck = Peer::join_small(&server, "/room");
    let mut crowd = Crowd::new((0..4).map(|_| Peer::join(&server, "/room")), &wire);
    forget_peak(&server);
    let before = server.rss();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server
                .log
                .find(SOON, |line| line.contains("client closed: too slow to keep up"))
                .expect("it is closed");
            let mut next = 0;
            let end = read_lines(&mut stuck, &mut next, 1000);
            assert_eq!(end, Heard::Close(1013, "too slow to keep up".to_owned()));
            stuck.answer_close(1013);
            eprintln!("the stuck client had {next} lines in the kernel");
        });
        crowd.hear_all();
    });
    let grown = peak(&server) - before;
    eprintln!("100 MB beside a stuck client: largest gap {:?}, {grown} KiB more", crowd.gap);
    assert!(crowd.gap < Duration::from_secs(2) + LATE, "held up for {:?}", crowd.gap);
    assert!(crowd.long_gaps() <= 1, "held up {} times", crowd.long_gaps());
    assert!(grown < 4 * 1024 + ROOM_TO_MOVE, "{grown} KiB more, with 4 MiB of --maxqueue");
    let closed =
        server.log.lines().iter().filter(|line| line.contains("client closed: too slow to keep up")).count();
    assert_eq!(closed, 1, "another client was closed");
}

#[test]
fn a_client_that_takes_nothing_for_five_more_seconds_is_cut_off() {
    const LENGTH: usize = 1_000_000;
    let options = ["--joinmsg", "+", "--ping", "0", "--patience", "2"];
    let server = Server::with(&options).testprog(&["burst", "2", "50", "1000000"]);
    let start = Holds::now(&server);
    let mut stuck = Peer::join_small(&server, "/room");
    let mut crowd = Crowd::new([Peer::join(&server, "/room")], &lines(50, LENGTH));
    crowd.hear_all();
    drop(crowd);
    let closed = server.log.find(SOON, |line| line.contains("client closed: too slow to keep up"));
    assert!(closed.is_some(), "it is closed");
    let since = Instant::now();
    // What is left of the message that has been begun is more than its kernel takes: no close fits behind.
    assert!(ended(&stuck.socket, since + SOON), "the server gives it up");
    eprintln!("cut off {:?} after it was closed", since.elapsed());
    assert!(since.elapsed() > Duration::from_secs(4), "it has five seconds to take its close");
    let end = read_lines(&mut stuck, &mut 0, LENGTH);
    assert_eq!(end, Heard::Reset, "what is unsent is not passed off as an orderly end");
    start.comes_back(&server, SOON);
}

#[test]
fn with_drop_no_client_waits_and_the_slow_one_misses_whole_messages() {
    const LINES: usize = 100_000;
    const WAVE: usize = 1000;
    // In waves, so that those who read are never behind, however late they are woken.
    let options = ["--joinmsg", "+", "--ping", "0", "--slow", "drop"];
    let server = Server::with(&options).testprog(&["burst", "4", "100000", "1000", "1000"]);
    let wire = lines(LINES, 1000);
    let mut stuck = Peer::join_small(&server, "/room");
    let mut crowd = Crowd::new((0..3).map(|_| Peer::join(&server, "/room")), &wire);
    let mut pacer = crowd.first().sender();
    forget_peak(&server);
    let before = server.rss();
    for wave in 1..=LINES / WAVE {
        crowd.hear(wave * WAVE * 1004);
        pacer.send(&frame::text("more"));
    }
    crowd.hear_all();
    let grown = peak(&server) - before;
    eprintln!("100 MB with --slow drop: largest gap {:?}, {grown} KiB more", crowd.gap);
    assert!(crowd.gap < LATE, "held up for {:?}", crowd.gap);
    assert!(grown < 4 * 1024 + ROOM_TO_MOVE, "{grown} KiB more, with 4 MiB of --maxqueue");

    let (mut last, mut got) = (None, 0);
    let end = loop {
        match stuck.next(Instant::now() + SOON) {
            Heard::Text(line) => {
                let number = number_of(&line, 1000);
                assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
                last = Some(number);
                got += 1;
            }
            other => break other,
        }
    };
    assert_eq!(end, Heard::Close(1000, String::new()));
    let address = stuck.socket.local_addr().expect("an address").to_string();
    stuck.answer_close(1000);
    let left = server.wait_for_line(&["client left", &address]);
    assert_eq!(field(&left, "dropped"), LINES - got, "what is missing is counted: {left}");
    assert!(got < LINES / 2, "{got} lines fit the queue and the kernel");
}

#[test]
fn with_block_a_client_that_pauses_loses_nothing() {
    let options =
        ["--joinmsg", "+", "--ping", "0", "--slow", "block", "--patience", "0.1", "--maxqueue", "256k"];
    let server = Server::with(&options).testprog(&["burst", "4", "20000", "1000"]);
    let wire = lines(20_000, 1000);
    let mut pausing = Crowd::new([Peer::join_small(&server, "/room")], &wire);
    let mut crowd = Crowd::new((0..3).map(|_| Peer::join(&server, "/room")), &wire);
    let all = crowd.hear_or_quiet(wire.len(), Duration::from_millis(1500));
    assert!(!all, "the room waits for the client that does not read");
    std::thread::scope(|scope| {
        scope.spawn(|| pausing.hear_all());
        crowd.hear_all();
    });
    let closed = server.log.lines().into_iter().find(|line| line.contains("too slow"));
    assert_eq!(closed, None);
}

#[test]
fn a_lone_client_at_one_megabyte_a_second_gets_all_of_a_burst_of_five() {
    const SLICE: usize = 100_000;
    let options = ["--joinmsg", "+", "--ping", "0", "--maxqueue", "256k"];
    let server = Server::with(&options).testprog(&["burst", "1", "5000", "1000"]);
    let wire = lines(5000, 1000);
    let mut peer = Peer::join_small(&server, "/room");
    peer.read_at_most(4096);
    let mut crowd = Crowd::new([peer], &wire);
    let start = Instant::now();
    for slice in 1..=wire.len() / SLICE {
        crowd.hear(slice * SLICE);
        // The pace is what this is about.
        let due = start + Duration::from_millis(100) * slice as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    crowd.hear_all();
    eprintln!("5 MB at 1 MB/s: {:?}", start.elapsed());
}

#[test]
fn a_client_that_takes_a_little_all_the_time_is_not_taken_for_one_that_takes_nothing() {
    const SLICE: usize = 10_000;
    // More than the kernel's buffers hold, and then the end: the close waits behind all of it.
    let options = ["--joinmsg", "+", "--ping", "0"];
    let server = Server::with(&options).testprog(&["burst", "1", "5000", "1000"]);
    let wire = lines(5000, 1000);
    let mut peer = Peer::join_small(&server, "/room");
    peer.read_at_most(4096);
    let mut crowd = Crowd::new([peer], &wire);
    let start = Instant::now();
    // At 100 kB/s the kernel says only every eight seconds that there is room; five are the limit.
    for slice in 1..=80 {
        crowd.hear(slice * SLICE);
        let due = start + Duration::from_millis(100) * slice as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    crowd.hear_all();
}

#[test]
fn pings_and_pongs_go_ahead_of_what_waits() {
    const LINES: usize = 60_000;
    let options = ["--joinmsg", "+", "--ping", "2", "--maxqueue", "32m", "--patience", "60"];
    let server = Server::with(&options).testprog(&["burst", "2", "60000", "1000"]);
    let mut slow = Peer::join_small(&server, "/room");
    let mut reader = Peer::join(&server, "/room");
    let mut next = 0;
    // The reader hears nothing more: the room waits for the slow one, whose queue of 32 MiB is full.
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_secs(1) {
        match reader.next(quiet_since + Duration::from_secs(1)) {
            Heard::Text(line) => {
                assert_eq!(number_of(&line, 1000), next);
                next += 1;
                quiet_since = Instant::now();
            }
            Heard::Ping => reader.send(&frame::masked(frame::FIN | frame::PONG, b"")),
            Heard::Nothing => {}
            other => panic!("in place of a line: {other:?}"),
        }
    }
    assert!(next < LINES, "the room is held up");
    slow.send(&frame::ping(b"are you there"));
    // Long enough for the server to ping as well.
    assert!(!ended(&slow.socket, Instant::now() + Duration::from_millis(2500)), "the client was cut off");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                match read_lines(&mut reader, &mut next, 1000) {
                    Heard::Ping => reader.send(&frame::masked(frame::FIN | frame::PONG, b"")),
                    end => break assert_eq!(end, Heard::Close(1000, String::new())),
                }
            }
            reader.answer_close(1000);
        });
        slow.read_at_most(4096);
        let mut next = 0;
        let mut overtaking = Vec::new();
        let end = loop {
            match read_lines(&mut slow, &mut next, 1000) {
                Heard::Ping => {
                    slow.send(&frame::masked(frame::FIN | frame::PONG, b""));
                    overtaking.push(("ping", next));
                }
                Heard::Pong(payload) => {
                    assert_eq!(payload, b"are you there");
                    overtaking.push(("pong", next));
                }
                end => break end,
            }
        };
        assert_eq!((end, next), (Heard::Close(1000, String::new()), LINES));
        eprintln!("after so many lines came: {overtaking:?}");
        let after = |what: &str| overtaking.iter().find(|(kind, _)| *kind == what).map(|&(_, lines)| lines);
        let (ping, pong) = (after("ping").expect("a ping"), after("pong").expect("a pong"));
        // What the kernel had taken already cannot be overtaken.
        assert!(ping.max(pong) < 8000, "ahead of more than 20,000 lines that wait");
        assert_ne!(ping, pong, "a line goes between two of them");
        slow.answer_close(1000);
    });
}

/// A program that reads nothing in rooms whose name says so, and an echo in others.
const DEAF: &str = "case $ROOM in deaf*) exec sleep 3600;; *) exec cat;; esac";

/// Tells a thread to end.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends until nothing is taken for a second; says how much was.
fn send_until_stuck(peer: &mut Peer) -> usize {
    let message = frame::binary(&vec![b'x'; 100_000]);
    let mut sent = 0;
    while sent < 200 << 20 {
        let deadline = Instant::now() + Duration::from_secs(1);
        match peer.send_some(&message[sent % message.len()..], deadline).expect("the server is there") {
            0 => return sent,
            more => sent += more,
        }
    }
    panic!("the server takes 200 MB for a program that reads nothing");
}

#[test]
fn a_program_that_reads_nothing_slows_down_only_its_senders() {
    let server = Server::with(&["--ping", "0"]).sh(DEAF);
    let start = Holds::now(&server);
    let mut echo = Peer::join(&server, "/echo");
    echo.send(&frame::text("warm"));
    echo.hears("warm");
    forget_peak(&server);
    let before = server.rss();

    let done = AtomicBool::new(false);
    let worst = std::thread::scope(|scope| {
        // Dropped when this ends, well or not.
        let ends = Ends(&done);
        let echo = scope.spawn(|| {
            let mut worst = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let sent = Instant::now();
                echo.send(&frame::text("and you"));
                echo.hears("and you");
                worst = worst.max(sent.elapsed());
                // Often enough, and without taking the cores from everybody else.
                assert!(!readable(&echo.socket, Instant::now() + Duration::from_millis(10)), "said once");
            }
            worst
        });
        // Two ends: a reset, and one that may be of a client that still listens.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sender = Peer::join(&server, "/deaf-reset");
                let sent = send_until_stuck(&mut sender);
                let hung_up = Instant::now();
                sender.reset();
                await_end_of(&server, "deaf-reset", hung_up, SOON);
                let after = hung_up.elapsed();
                eprintln!("{sent} bytes taken, ended {after:?} after the reset");
                assert!(after < Duration::from_secs(1) + 2 * LATE, "ended only {after:?} after its client");
            });
            scope.spawn(|| {
                let mut sender = Peer::join(&server, "/deaf-end");
                // One message that fills the queue, for one always fits, and then some that wait, one by one.
                // They are small, so that the kernel has room for the end behind them, and it is seen.
                sender.send(&frame::binary(&vec![b'x'; 600_000]));
                sender.send(&frame::binary(&[b'x'; 100]).repeat(30));
                let hung_up = Instant::now();
                drop(sender);
                await_end_of(&server, "deaf-end", hung_up, SOON);
                let after = hung_up.elapsed();
                eprintln!("ended {after:?} after the end of TCP");
                assert!(after < Duration::from_secs(10) + 2 * LATE, "ended only {after:?} after its client");
            });
        });
        drop(ends);
        echo.join().expect("the echo goes on")
    });
    let grown = peak(&server) - before;
    eprintln!("worst echo beside deaf programs {worst:?}, {grown} KiB more");
    assert!(worst < LATE, "an echo took {worst:?}");
    assert!(grown < ROOM_TO_MOVE, "{grown} KiB more");
    assert_eq!(echo.close(1000), 1000);
    start.comes_back(&server, SOON);
}

#[test]
fn a_hang_up_behind_unread_data_does_not_keep_a_program_running() {
    let server = Server::with(&["--ping", "1"]).sh(DEAF);
    let start = Holds::now(&server);
    let mut sender = Peer::join(&server, "/deaf");
    let sent = send_until_stuck(&mut sender);
    // The window is shut: the end of TCP stands behind data that the server does not read.
    let hung_up = Instant::now();
    drop(sender);
    await_end_of(&server, "deaf", hung_up, SOON);
    eprintln!("{sent} bytes taken, ended {:?} after the hidden end", hung_up.elapsed());
    start.comes_back(&server, SOON);
}

/// Waits until the program of a room has ended.
fn await_end_of(server: &Server, room: &str, since: Instant, within: Duration) {
    let line = server.log.find(within, |line| line.contains("program ended") && line.contains(room));
    assert!(line.is_some(), "{room}: its program still runs {:?} after its client hung up", since.elapsed());
}
