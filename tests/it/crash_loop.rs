//! A program that fails at once, and clients that come again at once.

use std::time::{Duration, Instant};

use crate::support::{Client, Event, Scratch, Server, wait_until};

/// Fails, unless the file is there; lives for as long as the first message says.
fn fails_until(scratch: &Scratch) -> String {
    format!("test -e {} || exit 3; read -r seconds; sleep \"$seconds\"; exit 3", scratch.name("mended"))
}

/// The result of an attempt to join.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// A program that failed.
    Failure,
    /// 503, with so many seconds until it is worth trying again.
    Refusal(u64),
}

fn try_once(server: &Server, target: &str) -> Met {
    match server.ask_upgrade(target) {
        Ok(mut client) => {
            let reason = client.expect_close(1011);
            assert_eq!(reason, "exit status 3");
            Met::Failure
        }
        Err(refusal) => {
            assert_eq!(refusal.status, 503, "{refusal:?}");
            let seconds = refusal.field("retry-after").expect("when to try again").parse().expect("seconds");
            Met::Refusal(seconds)
        }
    }
}

#[test]
fn a_program_that_fails_at_once_five_times_is_started_more_and_more_slowly() {
    let server = Server::sh("exit 3");
    for failure in 0..5 {
        assert_eq!(try_once(&server, "/room"), Met::Failure, "failure {failure}");
    }
    // From 0.1 s on, doubling.
    for millis in [100, 200, 400, 800, 1600] {
        let failed = Instant::now();
        let mut refused = 0;
        loop {
            match try_once(&server, "/room") {
                Met::Failure => break,
                Met::Refusal(seconds) => {
                    assert!((1..=10).contains(&seconds), "to be tried again after {seconds} s");
                    refused += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let waited = failed.elapsed();
        // On a busy machine the client hears of the end when some of that time is over.
        if millis >= 400 {
            assert!(refused > 0, "refused for {millis} ms");
            assert!(waited >= Duration::from_millis(millis / 2), "{waited:?} in place of {millis} ms");
        }
        assert!(waited < Duration::from_millis(millis + 1500), "{waited:?} in place of {millis} ms");
    }
    // Other rooms have done nothing wrong.
    assert_eq!(try_once(&server, "/other"), Met::Failure);
    assert!(matches!(try_once(&server, "/room"), Met::Refusal(_)));
}

#[test]
fn clients_that_come_again_at_once_cost_few_starts_and_few_lines_of_log() {
    const TIME: Duration = Duration::from_secs(3);
    let server = Server::sh("exit 3");
    let start = Instant::now();
    let tries: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut tries = 0;
                    while start.elapsed() < TIME {
                        match server.ask_upgrade("/room") {
                            // Who is let in while a program ends may be told something else.
                            Ok(mut client) => while matches!(client.next(), Event::Text(_)) {},
                            Err(refusal) => assert_eq!(refusal.status, 503, "{refusal:?}"),
                        }
                        tries += 1;
                    }
                    tries
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });
    let time = start.elapsed();
    let lines = server.log.lines();
    let starts = lines.iter().filter(|line| line.contains("program started")).count();
    // Five, and then one after 0.1 s, 0.3 s, 0.7 s, ...
    let (mut most, mut delay, mut next) = (6, Duration::from_millis(100), Duration::from_millis(100));
    while next < time {
        most += 1;
        delay *= 2;
        next += delay;
    }
    assert!(starts <= most, "{starts} starts in {time:?}, for {tries} tries");
    // Ten a second of each kind, of which there are about ten.
    let most = 100 * (time.as_secs() as usize + 1);
    assert!(lines.len() <= most, "{} lines in {time:?}, for {tries} tries", lines.len());
    let refused: Vec<_> = lines.iter().filter(|line| line.contains("refused")).collect();
    assert!(refused.len() <= 11 * (time.as_secs() as usize + 1), "{} lines of refusals", refused.len());
}

#[test]
fn a_program_that_exits_at_once_with_status_0_is_not_slowed_down() {
    let server = Server::sh("echo hello");
    for _ in 0..30 {
        let mut client = server.join("/room");
        client.expect_text("hello");
        client.expect_close(1000);
    }
}

#[test]
fn a_program_that_has_lived_for_ten_seconds_may_fail_again_at_once() {
    let scratch = Scratch::new();
    let server = Server::sh(&fails_until(&scratch));
    for _ in 0..5 {
        assert_eq!(try_once(&server, "/room"), Met::Failure);
    }
    assert!(matches!(try_once(&server, "/room"), Met::Refusal(_)));
    scratch.file("mended", "");
    let come_in = || {
        let mut client = None;
        wait_until("the room is open again", || {
            client = server.ask_upgrade("/room").ok();
            client.is_some()
        });
        client.expect("a client")
    };
    let mut client: Client = come_in();
    client.send_text("10.2");
    client.expect_close(1011);
    std::fs::remove_file(scratch.path("mended")).expect("broken again");
    for failure in 0..5 {
        assert_eq!(try_once(&server, "/room"), Met::Failure, "failure {failure} after a long life");
    }
    assert!(matches!(try_once(&server, "/room"), Met::Refusal(_)));
}
