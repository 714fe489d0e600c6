//! A program to be served, for what a shell cannot be: `testprog COMMAND [ARGUMENT]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that is served speaks on standard output"
)]

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rustix::fs::FlockOperation;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["lock", file] => lock(file),
        ["lock", file, go] => {
            lock(file);
            await_file(go);
        }
        ["flood", lines] => flood(lines.parse().expect("a number of lines"), 100),
        ["flood", lines, size] => {
            flood(lines.parse().expect("a number of lines"), size.parse().expect("bytes a line"));
        }
        ["burst", joins, lines, length] => burst(number(joins), number(lines), number(length), usize::MAX),
        ["burst", joins, lines, length, wave] => {
            burst(number(joins), number(lines), number(length), number(wave));
        }
        ["churn", directory] => churn(directory),
        ["read-nothing"] => sleep_for_ever(),
        ["pieces"] => pieces(),
        _ => {
            eprintln!("testprog: unknown command {arguments:?}");
            std::process::exit(2);
        }
    }
}

/// Holds an exclusive lock on a file for as long as it runs: says `alone` if it got it, `not alone` if
/// another process holds it. Then it echoes.
fn lock(path: &str) {
    let file =
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).expect("open the lock file");
    let alone = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    say(if alone { "alone" } else { "not alone" });
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        say(&line);
    }
}

/// Stays until a file is there.
fn await_file(path: &str) {
    while !std::path::Path::new(path).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Prints numbered lines as fast as they are taken, then `end`, and echoes from then on.
fn flood(lines: u64, size: usize) {
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    for number in 0..lines {
        let text = format!("{number} ");
        writeln!(out, "{text}{}", "x".repeat(size.saturating_sub(text.len()))).expect("print a line");
    }
    writeln!(out, "end").expect("print the last line");
    out.flush().expect("flush");
    drop(out);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        say(&line);
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a number")
}

/// Waits for so many lines (one for each client that joins), prints numbered lines as fast as they are
/// taken, and exits. After each wave it waits for a line; lines end in a letter that goes with their number.
fn burst(joins: usize, lines: usize, length: usize, wave: usize) {
    let mut input = std::io::stdin().lock().lines();
    for _ in 0..joins {
        input.next().expect("a line for each join").expect("a line");
    }
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    for number in 0..lines {
        let mut line = number.to_string().into_bytes();
        line.resize(line.len().max(length), b'a' + (number % 26) as u8);
        line.push(b'\n');
        out.write_all(&line).expect("print a line");
        if (number + 1) % wave == 0 {
            out.flush().expect("flush");
            input.next().expect("a line for each wave").expect("a line");
        }
    }
    out.flush().expect("flush");
}

/// The process of a room that clients race for: `join WHO`, `say WHO N`, `end WHO N STATUS`, `leave WHO`.
/// It writes down what must not be: another process in its room, a message before its client's join, out
/// of order or after its leave, an end of input while somebody is there.
fn churn(directory: &str) {
    let room = std::env::var("ROOM").expect("a room");
    let note = |what: &str| {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(format!("{directory}/violations"))
            .expect("open the list of violations");
        writeln!(file, "room {room}, process {}: {what}", std::process::id()).expect("write it down");
    };
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(format!("{directory}/{room}.lock"))
        .expect("open the lock file");
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        note("another process holds the lock");
        std::process::exit(99);
    }
    // Who is there, and the number of the next message; who has been there.
    let (mut there, mut gone) = (HashMap::new(), HashSet::new());
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        let right = match words[..] {
            ["join", who] => !gone.contains(who) && there.insert(who.to_owned(), 0).is_none(),
            ["leave", who] => there.remove(who).is_some() && gone.insert(who.to_owned()),
            ["say" | "end", who, number, ..] => there.get_mut(who).is_some_and(|next| {
                *next += 1;
                number == (*next - 1).to_string()
            }),
            _ => false,
        };
        if !right {
            note(&line);
        }
        match words[..] {
            ["say", ..] => writeln!(out, "{line}").expect("print a line"),
            ["end", _, _, "killed"] => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                    .expect("kill this process");
            }
            ["end", _, _, status] => std::process::exit(status.parse().expect("a status")),
            _ => {}
        }
    }
    if !there.is_empty() {
        note(&format!("end of input with {there:?} there"));
    }
}

/// Echoes what one read gives, in one write.
fn pieces() {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                rustix::io::write(rustix::stdio::stdout(), &buffer[..read]).expect("write a piece");
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("read: {e}"),
        }
    }
}

/// Takes nothing from its standard input.
fn sleep_for_ever() {
    say("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn say(line: &str) {
    println!("{line}");
}
