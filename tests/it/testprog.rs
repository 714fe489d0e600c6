//! A program to be served, for what a shell cannot be: `testprog COMMAND [ARGUMENT]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that is served speaks on standard output"
)]

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
        ["flood", lines] => flood(lines.parse().expect("a number of lines"), 100),
        ["flood", lines, size] => {
            flood(lines.parse().expect("a number of lines"), size.parse().expect("bytes a line"));
        }
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
