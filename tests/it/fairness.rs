//! One client must not use up what belongs to all: the program's input, and the time of the room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Scratch, Server, frame, wait_until};

#[test]
fn what_several_clients_send_at_once_to_a_slow_program_is_all_read() {
    const CLIENTS: usize = 4;
    const MESSAGES: usize = 10_000;
    // It reads much at a time and seldom: its pipe is full, then empty, again and again.
    let scratch = Scratch::new();
    let script =
        format!("while dd bs=65536 count=1 2>/dev/null >> {}; do sleep 0.002; done", scratch.name("read"));
    let server = Server::with(&["--ping=0", "--grace=20"]).sh(&script);
    let clients = server.members("/room", CLIENTS);
    let batch = frame::text(&"x".repeat(39)).repeat(MESSAGES);
    std::thread::scope(|scope| {
        for client in &clients {
            let (sender, batch) = (client.sender(), &batch);
            scope.spawn(move || sender.try_send(batch).expect("the server takes all of it"));
        }
    });
    wait_until("the program has read all of it", || {
        std::fs::metadata(scratch.path("read"))
            .is_ok_and(|file| file.len() >= (CLIENTS * MESSAGES * 40) as u64)
    });
}

#[test]
fn other_clients_wait_for_one_message_of_a_flooding_client() {
    const POLITE: usize = 20;
    const ROUNDS: usize = 3;
    const LENGTH: usize = 200;
    // What a wide pipe holds cannot be overtaken, and each other client is let in once. First come, first
    // served, there were the server's own queue ahead, which is several times that.
    const BEFORE: usize = 128 * 1024 / LENGTH + POLITE;
    let server = Server::with(&["--slow=drop", "--ping=0"]).testprog(&["slow-echo", "500"]);
    let mut polite = server.members("/room", POLITE);
    let flooder = server.member("/room");
    let sender = flooder.sender();
    let flood = frame::text(&"f".repeat(LENGTH - 1)).repeat(100);
    let done = AtomicBool::new(false);
    let waited: Vec<usize> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if sender.try_send(&flood).is_err() {
                    return;
                }
            }
        });
        let threads: Vec<_> = polite
            .iter_mut()
            .enumerate()
            .map(|(index, client)| {
                scope.spawn(move || {
                    // The flood has filled whatever there is to be filled.
                    let mut read = 0;
                    while read < 4 * BEFORE {
                        read = number(&client.text());
                    }
                    let mut longest = 0;
                    for round in 0..ROUNDS {
                        let own = format!("polite {index} {round}");
                        client.send_text(&own);
                        // In lines that the program has read meanwhile: no clock of a busy machine.
                        let start = read;
                        loop {
                            let text = client.text();
                            read = number(&text);
                            if text.ends_with(&own) {
                                break;
                            }
                        }
                        longest = longest.max(read - start);
                    }
                    longest
                })
            })
            .collect();
        let waited = threads.into_iter().map(|thread| thread.join().expect("each gets its echo")).collect();
        done.store(true, Ordering::Relaxed);
        flooder.reset();
        waited
    });
    let longest = waited.iter().max().expect("somebody");
    assert!(*longest < BEFORE * 3 / 2, "lines that the program read before a polite client's: {waited:?}");
}

/// The number that a line begins with.
fn number(line: &str) -> usize {
    line.split(' ').next().expect("a word").parse().expect("a number")
}

/// What a room delivers to a client that keeps up, for so long: the time in which it was held, as a part of
/// all. The room has up to 10 MB/s to say, in lines that follow each other by 2 ms.
fn held(server: &Server, time: Duration) -> f64 {
    // Shorter silences are those of a busy machine.
    const STEP: Duration = Duration::from_millis(10);
    const HELD: Duration = Duration::from_millis(100);
    let mut client = server.join("/room");
    let (mut silent, mut held) = (Duration::ZERO, Duration::ZERO);
    let mut chunk = vec![0; 64 * 1024];
    let start = Instant::now();
    while start.elapsed() < time {
        match client.raw.socket.read(&mut chunk, STEP) {
            Ok(0) => panic!("a client that keeps up is closed"),
            Ok(_) => {
                if silent >= HELD {
                    held += silent;
                }
                silent = Duration::ZERO;
            }
            // Only the time in which this thread looked and found nothing.
            Err(_) => silent += STEP,
        }
    }
    if silent >= HELD {
        held += silent;
    }
    client.reset();
    held.as_secs_f64() / start.elapsed().as_secs_f64()
}

fn paced_room(scratch: &Scratch) -> Server {
    let socket = format!("unix:{}", scratch.name("socket"));
    Server::with(&["--patience=0.5", "--maxqueue=64k", "--ping=0"])
        .address(&socket)
        .testprog(&["pace", "20", "1000", "2"])
}

/// A tenth of the time, what the first one may take at the beginning, and some for a busy machine.
const MOST_HELD: f64 = 0.35;

/// For how long it is looked at.
const LOOK: Duration = Duration::from_secs(5);

#[test]
fn clients_that_stall_in_turn_delay_a_room_little() {
    let scratch = Scratch::new();
    let server = paced_room(&scratch);
    let done = AtomicBool::new(false);
    let held = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut closed = 0;
            while !done.load(Ordering::Relaxed) {
                // Reads nothing until it is closed, and then another one comes.
                let stalled = server.join("/room");
                closed += 1;
                let is_closed = |line: &str| line.contains("too slow to keep up");
                let until = Instant::now() + DEADLINE;
                while server.log.lines().iter().filter(|line| is_closed(line)).count() < closed {
                    if done.load(Ordering::Relaxed) || Instant::now() > until {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                stalled.reset();
            }
        });
        let held = held(&server, LOOK);
        done.store(true, Ordering::Relaxed);
        held
    });
    assert!(held < MOST_HELD, "the room was held for {:.0} % of the time", held * 100.0);
}

#[test]
fn a_client_that_repeatedly_takes_half_of_its_queue_delays_a_room_little() {
    let scratch = Scratch::new();
    let server = paced_room(&scratch);
    let done = AtomicBool::new(false);
    let held = std::thread::scope(|scope| {
        scope.spawn(|| {
            // When it is closed for that, it comes again.
            while !done.load(Ordering::Relaxed) {
                let mut client = server.join("/room");
                let mut chunk = vec![0; 256 * 1024];
                let mut ended = false;
                while !ended && !done.load(Ordering::Relaxed) {
                    // Just before it were too late.
                    std::thread::sleep(Duration::from_millis(440));
                    ended = matches!(client.raw.socket.read(&mut chunk, DEADLINE), Ok(0) | Err(_));
                }
                client.reset();
            }
        });
        let held = held(&server, LOOK);
        done.store(true, Ordering::Relaxed);
        held
    });
    assert!(held < MOST_HELD, "the room was held for {:.0} % of the time", held * 100.0);
}
