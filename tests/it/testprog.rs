//! A program to be served, for what a shell cannot be: `testprog COMMAND [ARGUMENT]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that is served speaks on standard output"
)]

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
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
        ["large", length] => large(number(length), false),
        ["large", length, "more"] => large(number(length), true),
        ["history", lines, length] => history(number(lines), number(length)),
        ["pace", lines, length, millis] => pace(number(lines), number(length), number(millis)),
        ["slow-echo", micros] => slow_echo(number(micros)),
        ["account", directory, unit] => account(directory, unit.parse().ok()),
        ["addressed", clients, lines, length] => addressed(number(clients), number(lines), number(length)),
        ["read-nothing"] => sleep_for_ever(),
        ["pieces"] => pieces(),
        ["packets"] => packets(),
        ["trickle", file, step] => trickle(file, number(step)),
        ["count", go] => count(go),
        ["tcp", ..] => tcp(&words[1..]),
        ["exit"] => std::process::exit(1),
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

/// Prints one large line at the first line that comes, with `more` a small one right behind it, and echoes
/// from then on.
fn large(length: usize, more: bool) {
    let mut input = std::io::stdin().lock().lines().map_while(Result::ok);
    input.next().expect("a line");
    let mut line = vec![b'x'; length];
    line.extend_from_slice(if more { b"\nmore\n" } else { b"\n" });
    std::io::stdout().lock().write_all(&line).expect("print a line");
    for line in input {
        say(&line);
    }
}

/// Prints numbered lines as fast as they are taken, and then one with the next number every 10 ms.
fn history(lines: usize, length: usize) {
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    for number in 0.. {
        let text = format!("{number} ");
        let length = if number < lines { length } else { 0 };
        writeln!(out, "{text}{}", "h".repeat(length.saturating_sub(text.len()))).expect("print a line");
        if number >= lines {
            out.flush().expect("flush");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Prints so many numbered lines each time that so many milliseconds have gone by.
fn pace(lines: usize, length: usize, millis: usize) {
    let period = Duration::from_millis(millis as u64);
    let mut batch = Vec::new();
    for number in 0.. {
        let start = batch.len();
        batch.extend_from_slice(format!("{number} ").as_bytes());
        batch.resize(batch.len().max(start + length), b'p');
        batch.push(b'\n');
        if (number + 1) % lines == 0 {
            std::io::stdout().lock().write_all(&batch).expect("print lines");
            batch.clear();
            std::thread::sleep(period);
        }
    }
}

/// Takes so many microseconds for each line, and prints how many it has read and how the line begins.
fn slow_echo(micros: usize) {
    for (line, number) in std::io::stdin().lock().lines().map_while(Result::ok).zip(1..) {
        std::thread::sleep(Duration::from_micros(micros as u64));
        say(&format!("{number} {line:.20}"));
    }
}

/// Writes down how many messages it has read whole, in a file of its own. The room's name says what it does:
/// `HOW-BYTES-…`. Messages end in a newline, or are so many bytes long; lines that begin with `+` or `-` are
/// none. Never reads more than it is to read, so that all the rest is left.
fn account(directory: &str, length: Option<usize>) {
    let room = std::env::var("ROOM").expect("a room");
    let mut words = room.split('-');
    let (how, most) = (words.next().expect("a word"), number(words.next().expect("bytes")));
    if how == "mute" {
        let null = OpenOptions::new().write(true).open("/dev/null").expect("open the null device");
        rustix::stdio::dup2_stdout(&null).expect("close standard output");
    }
    let (mut messages, mut read, mut line, mut is_message) = (0, 0, 0, true);
    let mut buffer = [0; 1000];
    while read < most {
        let left = buffer.len().min(most - read);
        let more = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..left]) {
            Ok(0) => break,
            Ok(more) => more,
            Err(e) => panic!("read: {e}"),
        };
        read += more;
        for &byte in &buffer[..more] {
            if line == 0 {
                is_message = !b"+-".contains(&byte);
            }
            line += 1;
            if length.map_or(byte == b'\n', |length| line == length) {
                messages += usize::from(is_message);
                line = 0;
            }
        }
    }
    let file = format!("{directory}/{room}.{}", std::process::id());
    std::fs::write(file, messages.to_string()).expect("write it down");
    match how {
        "killed" => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .expect("kill this process"),
        "fails" => std::process::exit(3),
        "shut" => {
            let null = std::fs::File::open("/dev/null").expect("open the null device");
            rustix::stdio::dup2_stdin(&null).expect("close standard input");
            sleep_for_ever();
        }
        "deaf" => sleep_for_ever(),
        _ => {}
    }
}

/// Waits for a line of each of so many clients, whose numbers begin with 1, and prints numbered lines: each
/// for one of them in turn, or for all. Then it exits.
fn addressed(clients: usize, lines: usize, length: usize) {
    let mut input = std::io::stdin().lock().lines();
    for _ in 0..clients {
        input.next().expect("a line for each client").expect("a line");
    }
    let mut out = std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout().lock());
    for number in 0..lines {
        let to = match number % (clients + 1) {
            0 => "null".to_owned(),
            client => client.to_string(),
        };
        writeln!(out, r#"{{"n":{number},"_to":{to},"fill":"{}"}}"#, "x".repeat(length))
            .expect("print a line");
    }
    out.flush().expect("flush");
}

/// The process of a room that clients race for: `join WHO`, `say WHO N`, `end WHO N STATUS`, `leave WHO`.
/// It writes down what must not be: another process in its room, a message before its client's join, out
/// of order or after its leave, an end of input while a client is there.
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

/// Speaks gwsocket's packets: says who comes and goes to everybody, and gives each message back to its
/// sender as it came; one that begins with `TO:` goes to the client of that number instead.
fn packets() {
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut head = [0; 12];
    let mut send = |client: u32, kind: u32, payload: &[u8]| {
        let head = [client, kind, payload.len() as u32].map(u32::to_be_bytes).concat();
        out.write_all(&[&head, payload].concat()).and_then(|()| out.flush()).expect("print a packet");
    };
    while input.read_exact(&mut head).is_ok() {
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (client, kind, length) = (word(0), word(4), word(8));
        let mut payload = vec![0; length as usize];
        input.read_exact(&mut payload).expect("a whole packet");
        match kind {
            0x10 => {
                let end = payload.iter().position(|&byte| byte == 0).expect("a NUL behind the address");
                let address = String::from_utf8_lossy(&payload[..end]);
                send(0, 1, format!("open {client} {address}").as_bytes());
            }
            0x08 => send(0, 1, format!("close {client}").as_bytes()),
            _ => {
                let to = payload.iter().take(12).position(|&byte| byte == b':');
                let to = to.and_then(|at| std::str::from_utf8(&payload[..at]).ok()?.parse().ok());
                send(to.unwrap_or(client), kind, &payload);
            }
        }
    }
}

/// Prints a file in so small steps, then waits for the end of its input.
fn trickle(file: &str, step: usize) {
    let content = std::fs::read(file).expect("the file");
    let mut out = std::io::stdout().lock();
    for part in content.chunks(step) {
        out.write_all(part).and_then(|()| out.flush()).expect("print a part");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).expect("read to the end");
}

/// Prints numbers, not faster than they can be sent, until a file is there; then `end`, and it stays.
fn count(go: &str) {
    let mut next = 0u64;
    while !std::path::Path::new(go).exists() {
        let lines: Vec<u8> =
            (next..next + 20).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        std::io::stdout().lock().write_all(&lines).expect("print lines");
        next += 20;
        std::thread::sleep(Duration::from_millis(1));
    }
    say("end");
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).expect("read to the end");
}

/// Talks over TCP on `$PORT`, one step after the other as they are named.
fn tcp(mut steps: &[&str]) {
    let (mut listener, mut stream): (Option<TcpListener>, Option<BufReader<TcpStream>>) = (None, None);
    loop {
        let connection = || -> &TcpStream { stream.as_ref().expect("accepted").get_ref() };
        let taken = match *steps {
            [] => return,
            ["await", file, ..] => {
                await_file(file);
                2
            }
            // Prints so many lines, on both streams.
            ["chatter", lines, ..] => {
                for number in 0..number(lines) {
                    say(&format!("out {number} {}", "x".repeat(1000)));
                    eprintln!("err {number} {}", "x".repeat(1000));
                }
                2
            }
            ["listen", ..] => {
                let port: u16 =
                    std::env::var("PORT").ok().and_then(|port| port.parse().ok()).expect("a port");
                listener = Some(TcpListener::bind(("127.0.0.1", port)).expect("listen"));
                1
            }
            ["accept", ..] => {
                let (accepted, _) = listener.as_ref().expect("a listener").accept().expect("accept");
                stream = Some(BufReader::new(accepted));
                1
            }
            // Gives its rights up.
            ["become", user, ..] => {
                let user = rustix::process::Uid::from_raw(number(user) as u32);
                rustix::thread::set_thread_res_uid(user, user, user).expect("become another user");
                2
            }
            // No other client joins.
            ["deafen", ..] => {
                listener = None;
                1
            }
            ["say", text, ..] => {
                connection().write_all(text.as_bytes()).expect("say");
                2
            }
            ["line", ..] => {
                let mut line = String::new();
                stream.as_mut().expect("accepted").read_line(&mut line).expect("a line");
                1
            }
            // Gives back what comes until the end of the stream.
            ["echo", ..] => {
                let mut out = connection().try_clone().expect("a second handle");
                std::io::copy(stream.as_mut().expect("accepted"), &mut out).expect("echo");
                1
            }
            // Writes down what comes, and `END` at the end of the stream.
            ["record", path, ..] => {
                let mut file = std::fs::File::create(path).expect("create the record");
                std::io::copy(stream.as_mut().expect("accepted"), &mut file).expect("record");
                file.write_all(b"END").expect("record the end");
                2
            }
            ["close", ..] => {
                stream = None;
                1
            }
            ["wait", ..] => sleep_for_ever(),
            ["exit", status, ..] => std::process::exit(status.parse().expect("a status")),
            [other, ..] => panic!("unknown step {other}"),
        };
        steps = &steps[taken..];
    }
}

/// Takes nothing from its standard input.
fn sleep_for_ever() -> ! {
    say("ready");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn say(line: &str) {
    println!("{line}");
}
