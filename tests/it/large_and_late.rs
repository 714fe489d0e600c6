//! Messages larger than the queue, and clients that join a room with a long history: a client that reads as fast as
//! it can is not closed, and no other client waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::process::status_number;
use crate::support::{Client, DEADLINE, Event, Scratch, Server, frame};

/// What a slow client reads at a time.
const SLICE: usize = 20_000;

/// Reads at this pace, in bytes a second, until `done` says that it was enough; gives that many bytes of
/// frames that came. So does the end of the connection, or the deadline.
fn read_slowly(client: &mut Client, pace: usize, mut done: impl FnMut(&[u8]) -> bool) {
    let start = Instant::now();
    let (mut read, mut slice) = (0, vec![0; SLICE]);
    while !done(&client.raw.buffer) && start.elapsed() < DEADLINE {
        // The pace is what this is about.
        let due = start + Duration::from_secs_f64(read as f64 / pace as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        match client.raw.socket.read(&mut slice, DEADLINE) {
            Ok(0) | Err(_) => return,
            Ok(more) => {
                read += more;
                client.raw.buffer.extend_from_slice(&slice[..more]);
            }
        }
    }
}

/// Two slow clients of a room get a message of four times `--maxqueue`, which takes them longer than
/// `--patience`; `more` is what comes behind it.
fn large_message(more: &[&str]) {
    const LENGTH: usize = 4 << 20;
    const PACE: usize = 1_500_000;
    let scratch = Scratch::new();
    // A unix socket holds little by itself.
    let socket = format!("unix:{}", scratch.name("socket"));
    let arguments = [&["large", "4194304"], more].concat();
    let server = Server::with(&["--maxqueue=1m", "--patience=1", "--maxmessage=16m"])
        .address(&socket)
        .testprog(&arguments);
    let mut clients = server.members("/room", 2);
    clients[0].send_text("go");
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(move || {
                let whole = frame::unmasked(frame::FIN | frame::TEXT, &vec![b'x'; LENGTH]);
                read_slowly(client, PACE, |got| got.len() >= whole.len());
                let got = client.raw.buffer.len();
                assert!(client.raw.buffer.starts_with(&whole), "{got} of {} bytes", whole.len());
                client.raw.buffer.drain(..whole.len());
                for line in more {
                    client.expect_text(line);
                }
            });
        }
    });
    // They are still there.
    clients[0].send_text("after");
    for client in &mut clients {
        client.expect_text("after");
    }
}

#[test]
fn one_message_always_fits_however_long_its_clients_take_for_it() {
    large_message(&[]);
}

#[test]
fn one_message_always_fits_also_when_a_small_one_follows() {
    large_message(&["more"]);
}

/// The number that a line begins with.
fn number(event: &Event) -> usize {
    match event {
        Event::Text(text) => text.split(' ').next().expect("a word").parse().expect("a number"),
        other => panic!("{other:?} in place of a line"),
    }
}

/// A room with nearly `--maxqueue` of history, and some who join and take longer for it than `--patience`.
/// They get all of it, and what comes afterwards; gives the longest time for which somebody who was there
/// before got nothing.
fn slow_joiners() -> Duration {
    const LINES: usize = 1300;
    const LENGTH: usize = 700;
    const PACE: usize = 300_000;
    const JOINERS: usize = 3;
    // Short, so that a time of waiting shows up as several of them and a late wake-up as one.
    const STEP: Duration = Duration::from_millis(10);
    let scratch = Scratch::new();
    let socket = format!("unix:{}", scratch.name("socket"));
    let server = Server::with(&["--cache=65536", "--maxqueue=1m", "--patience=1"])
        .address(&socket)
        .testprog(&["history", &LINES.to_string(), &LENGTH.to_string()]);
    let mut first = server.join("/room");
    for wanted in 0..=LINES {
        assert_eq!(number(&first.next()), wanted);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut next, mut longest, mut silent) = (LINES + 1, Duration::ZERO, Duration::ZERO);
            let mut chunk = [0; 4096];
            while !done.load(Ordering::Relaxed) {
                match first.raw.socket.read(&mut chunk, STEP) {
                    Ok(0) => panic!("the connection has ended"),
                    Ok(read) => {
                        first.raw.buffer.extend_from_slice(&chunk[..read]);
                        silent = Duration::ZERO;
                    }
                    // Only the time in which this thread looked and found nothing.
                    Err(_) => silent += STEP,
                }
                longest = longest.max(silent);
                while let Some((frame, length)) = frame::parse(&first.raw.buffer) {
                    first.raw.buffer.drain(..length);
                    if frame.opcode == frame::TEXT {
                        let text = String::from_utf8(frame.payload).expect("text");
                        assert_eq!(number(&Event::Text(text)), next);
                        next += 1;
                    }
                }
            }
            longest
        });
        let joiners: Vec<_> = (0..JOINERS)
            .map(|_| {
                let mut joiner = server.join("/room");
                scope.spawn(move || {
                    let start = number(&joiner.next());
                    assert!(start < LINES / 10, "the history begins with line {start}");
                    read_slowly(&mut joiner, PACE, |got| got.len() >= (LINES - start) * LENGTH);
                    // Without a gap, over the end of the history and beyond what is live.
                    for wanted in start + 1..LINES + 400 {
                        assert_eq!(number(&joiner.next()), wanted);
                    }
                })
            })
            .collect();
        let joined: Vec<_> = joiners.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        let longest = watcher.join().expect("the first client stays");
        for joiner in joined {
            joiner.expect("a joiner gets everything and stays");
        }
        longest
    })
}

#[test]
fn a_slow_client_gets_the_whole_history_and_delays_no_other() {
    let mut shortest = Duration::MAX;
    // A thread may wake late on a busy machine, but not three times.
    for _ in 0..3 {
        shortest = shortest.min(slow_joiners());
        if shortest < Duration::from_millis(200) {
            return;
        }
    }
    panic!("a client that was there got nothing for {shortest:?} while others joined");
}

#[test]
fn a_message_takes_memory_as_it_comes_not_as_its_frame_announces() {
    const ANNOUNCED: u64 = 1 << 30;
    const CLIENTS: usize = 8;
    let server = Server::with(&["--maxmessage=1g"]).cat();
    let peak = || status_number(server.pid(), "VmPeak");
    let mut clients = server.members("/room", CLIENTS);
    let before = peak();
    for (number, client) in clients.iter_mut().enumerate() {
        // A frame of its own, one that others are to follow, one that follows another.
        if number % 3 == 2 {
            client.send(frame::masked(frame::TEXT, b"begin"));
        }
        let first = [frame::FIN | frame::BINARY, frame::TEXT, frame::FIN | frame::CONTINUATION][number % 3];
        client.send(frame::head(first, ANNOUNCED, true));
        client.send([b'x'; 100]);
        // The answer to the end of the stream says that all before it has been looked at.
        client.raw.end_sending();
        client.skip_to_close(1002);
    }
    let grown = peak() - before;
    assert!(grown < ANNOUNCED / 1024 / 2, "{grown} KiB more for frames that never came");
}

#[test]
fn a_frame_over_maxmessage_is_refused_by_its_header() {
    let server = Server::with(&["--maxmessage=1m"]).cat();
    for first in [frame::FIN | frame::BINARY, frame::TEXT] {
        let mut client = server.member("/room");
        client.send(frame::head(first, (1 << 20) + 1, true));
        client.skip_to_close(1009);
    }
}
