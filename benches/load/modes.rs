//! The modes: what the clients do, and what is counted. Every message that comes back is looked at.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, epoll};

use crate::events::{Events, LONGEST, poll_for};
use crate::figures::Outcome;
use crate::server::{Server, number};
use crate::wire::{Client, Messages, Order, PATIENCE, is_timeout, nanoseconds};

/// Bytes of one read where much comes.
const READ: usize = 256 * 1024;

/// Bytes handed to one write.
const WRITE: usize = 256 * 1024;

/// One message in flight a client, each client in a room of its own.
pub(crate) fn echo(server: &Server, clients: usize, size: usize, time: Duration) -> io::Result<Outcome> {
    let messages = Messages::new(size, server.stream);
    let mut all = Vec::with_capacity(clients);
    for index in 0..clients {
        let mut client = server.connect(&format!("/room{index}"), messages.room())?;
        // Its program runs from here on.
        echo_once(&mut client, &messages, 0)?;
        all.push(client);
    }
    let mut outcome = Outcome::default();
    let cpu = server.cpu();
    let began = Instant::now();
    if let [client] = all.as_mut_slice() {
        let mut number = 0;
        while began.elapsed() < time {
            number += 1;
            let sent = Instant::now();
            echo_once(client, &messages, number)?;
            outcome.latencies.push(nanoseconds(sent));
        }
        outcome.done = number;
    } else {
        echo_many(&mut all, &messages, began + time, &mut outcome)?;
    }
    outcome.time = began.elapsed();
    outcome.cpu = server.cpu().saturating_sub(cpu);
    Ok(outcome)
}

fn echo_once(client: &mut Client, messages: &Messages, number: u64) -> io::Result<()> {
    client.send(&messages.one(number))?;
    loop {
        while let Some(frame) = client.inbox.next() {
            if frame.is_data() {
                let came = messages.number(frame.payload)?;
                return if came == number { Ok(()) } else { Err(out_of_turn(came, number)) };
            }
        }
        client.fill()?;
    }
}

fn out_of_turn(came: u64, awaited: u64) -> io::Error {
    io::Error::other(format!("message {came} came where {awaited} was due"))
}

fn echo_many(
    clients: &mut [Client],
    messages: &Messages,
    until: Instant,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let poll = Events::new()?;
    let mut sent = Vec::with_capacity(clients.len());
    let mut numbers = vec![1; clients.len()];
    for (index, client) in clients.iter_mut().enumerate() {
        poll.add(&client.stream, index, epoll::EventFlags::IN)?;
        client.send(&messages.one(1))?;
        sent.push(Instant::now());
    }
    let mut flying = clients.len();
    let mut ready = Vec::with_capacity(256);
    while flying > 0 {
        poll.wait(&mut ready)?;
        for event in &ready {
            let index = event.data.u64() as usize;
            let client = &mut clients[index];
            client.fill()?;
            while let Some(frame) = client.inbox.next() {
                if !frame.is_data() {
                    continue;
                }
                let came = messages.number(frame.payload)?;
                if came != numbers[index] {
                    return Err(out_of_turn(came, numbers[index]));
                }
                outcome.latencies.push(nanoseconds(sent[index]));
                outcome.done += 1;
                if Instant::now() >= until {
                    flying -= 1;
                } else {
                    numbers[index] += 1;
                    sent[index] = Instant::now();
                    client.stream.write_all(&messages.one(numbers[index]))?;
                }
            }
        }
    }
    Ok(())
}

/// One room: its first client sends `window` messages, and more when all have them. Every client checks
/// the order and that nothing is missing. What is counted are deliveries to clients.
pub(crate) fn fan_out(
    server: &Server,
    clients: usize,
    size: usize,
    window: u64,
    time: Duration,
) -> io::Result<Outcome> {
    let messages = Messages::new(size, server.stream);
    let room = messages.room() * (window as usize + 1);
    let mut all = Vec::with_capacity(clients);
    for _ in 0..clients {
        all.push(server.connect("/room", room)?);
    }
    // Not every server sends a message back to its sender.
    let first = usize::from(!hears_itself(&mut all, &messages)?);
    let mut orders = vec![Order { next: 1, lost: 0 }; clients];
    let mut outcome = Outcome::default();
    let (mut next, mut batch, mut broken) = (1, Vec::new(), false);
    let cpu = server.cpu();
    let began = Instant::now();
    while began.elapsed() < time && !broken {
        batch.clear();
        for number in next..next + window {
            messages.put(number, &mut batch);
        }
        next += window;
        all[0].send(&batch)?;
        let sent = Instant::now();
        for (client, order) in all.iter_mut().zip(&mut orders).skip(first) {
            if broken {
                // What has not come to the others by now is lost; no more time-outs.
                client.stream.set_nonblocking(true)?;
            }
            hear(client, order, &messages, next)?;
            outcome.latencies.push(nanoseconds(sent));
            broken |= order.next < next;
        }
        outcome.done += window * (clients - first) as u64;
    }
    outcome.time = began.elapsed();
    outcome.cpu = server.cpu().saturating_sub(cpu);
    let heard = orders.iter().skip(first);
    outcome.lost = heard.map(|order| order.lost + (next - order.next)).sum();
    outcome.done -= outcome.lost.min(outcome.done);
    outcome.bytes = outcome.done * messages.size() as u64;
    Ok(outcome)
}

/// Sends message 0 and waits until the others have it; returns whether the sender gets it, too.
fn hears_itself(clients: &mut [Client], messages: &Messages) -> io::Result<bool> {
    clients[0].send(&messages.one(0))?;
    for client in &mut clients[1..] {
        hear(client, &mut Order::default(), messages, 1)?;
    }
    let mut order = Order::default();
    clients[0].stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    hear(&mut clients[0], &mut order, messages, 1)?;
    clients[0].stream.set_read_timeout(Some(PATIENCE))?;
    Ok(order.next == 1)
}

/// Reads up to message `end`, or until nothing comes any more.
fn hear(client: &mut Client, order: &mut Order, messages: &Messages, end: u64) -> io::Result<()> {
    loop {
        while let Some(frame) = client.inbox.next() {
            if frame.is_data() {
                order.take(messages.number(frame.payload)?)?;
            }
        }
        if order.next >= end {
            return Ok(());
        }
        match client.fill() {
            Err(e) if is_timeout(&e) => return Ok(()),
            result => result?,
        };
    }
}

/// One client with so many messages in flight. Where their borders are lost, what comes is cut anew.
pub(crate) fn pipeline(server: &Server, size: usize, window: u64, time: Duration) -> io::Result<Outcome> {
    let messages = Messages::new(size, server.stream);
    let mut client = server.connect("/room", READ.max(2 * messages.room()))?;
    // Without borders only a small one surely comes back in one piece.
    let first = if server.stream { &Messages::new(64, true) } else { &messages };
    echo_once(&mut client, first, 0)?;
    client.stream.set_nonblocking(true)?;
    let Client { stream, mut inbox, .. } = client;
    let mut outcome = Outcome::default();
    let (mut out, mut written) = (Vec::with_capacity(2 * WRITE), 0);
    let (mut next, mut order) = (1, Order { next: 1, lost: 0 });
    let mut sent: VecDeque<(u64, Instant)> = VecDeque::new();
    let (mut last, mut part) = (Instant::now(), Vec::new());
    let cpu = server.cpu();
    let began = Instant::now();
    let until = began + time;
    loop {
        let now = Instant::now();
        if written == out.len() && now < until && next - order.next < window {
            out.clear();
            written = 0;
            while next - order.next < window && out.len() < WRITE {
                messages.put(next, &mut out);
                next += 1;
            }
            sent.push_back((next, now));
        }
        if order.next == next && now >= until {
            break;
        }
        let mut moved = false;
        if written < out.len() {
            match (&stream).write(&out[written..]) {
                Ok(count) => (written, moved) = (written + count, true),
                Err(e) if is_timeout(&e) => {}
                Err(e) => return Err(e),
            }
        }
        match inbox.fill(&stream) {
            Ok(_) => moved = true,
            Err(e) if is_timeout(&e) => {}
            Err(e) => return Err(e),
        }
        while let Some(frame) = inbox.next() {
            if !frame.is_data() {
                continue;
            }
            let mut take = |payload: &[u8]| -> io::Result<()> {
                order.take(messages.number(payload)?)?;
                if let Some(&(end, at)) = sent.front() {
                    if outcome.latencies.len() < 1 << 20 {
                        outcome.latencies.push(nanoseconds(at));
                    }
                    if order.next >= end {
                        sent.pop_front();
                    }
                }
                Ok(())
            };
            if server.stream {
                part.extend_from_slice(frame.payload);
                part.chunks_exact(messages.size()).try_for_each(take)?;
                part.drain(..part.len() - part.len() % messages.size());
            } else {
                take(frame.payload)?;
            }
        }
        if moved {
            last = now;
        } else if last.elapsed() > PATIENCE {
            break;
        } else {
            let more = if written < out.len() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            poll_for(&mut [PollFd::new(&stream, more)], PATIENCE)?;
        }
    }
    outcome.time = began.elapsed();
    outcome.cpu = server.cpu().saturating_sub(cpu);
    outcome.lost = order.lost + (next - order.next);
    outcome.done = next - 1 - outcome.lost;
    outcome.bytes = outcome.done * messages.size() as u64;
    Ok(outcome)
}

/// A program that prints `1` to `lines`, a line each; the client gets them all.
pub(crate) fn flood(server: &Server, lines: u64) -> io::Result<Outcome> {
    let mut client = server.connect("/room", READ)?;
    let mut outcome = Outcome::default();
    let mut awaited = b"1".to_vec();
    let cpu = server.cpu();
    let began = Instant::now();
    client.send(&Messages::new(16, server.stream).one(0))?;
    'all: while outcome.done + outcome.lost < lines {
        while let Some(frame) = client.inbox.next() {
            if !frame.is_data() {
                if frame.opcode == 8 {
                    break 'all;
                }
                continue;
            }
            // A server that takes output for a stream puts many lines in one message.
            for line in frame.payload.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                if line != awaited {
                    let text = std::str::from_utf8(line).ok().and_then(|line| line.parse::<u64>().ok());
                    let due = outcome.done + outcome.lost + 1;
                    let number = text.filter(|&number| number > due && number <= lines);
                    let number = number.ok_or_else(|| {
                        io::Error::other(format!("{:?} where {due} was due", String::from_utf8_lossy(line)))
                    })?;
                    outcome.lost += number - due;
                    awaited = line.to_vec();
                }
                outcome.done += 1;
                outcome.bytes += line.len() as u64;
                count_up(&mut awaited);
            }
        }
        if outcome.done + outcome.lost == lines || began.elapsed() > LONGEST {
            break;
        }
        // An end of any kind: what has not come by then is lost.
        if client.fill().is_err() {
            break;
        }
    }
    outcome.time = began.elapsed();
    outcome.cpu = server.cpu().saturating_sub(cpu);
    outcome.lost = lines - outcome.done;
    Ok(outcome)
}

/// The next number in decimal.
fn count_up(number: &mut Vec<u8>) {
    for digit in number.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    number.insert(0, b'1');
}

/// `count` clients in one room that say nothing: resident bytes of the server for each, then what the whole
/// system holds for them. One message to all of them shows that they are there.
pub(crate) fn idle(server: &Server, count: usize) -> io::Result<Outcome> {
    let messages = Messages::new(64, server.stream);
    let mut first = server.connect("/room", messages.room())?;
    let mut second = server.connect("/room", messages.room())?;
    first.send(&messages.one(0))?;
    hear(&mut second, &mut Order::default(), &messages, 1)?;
    let (rss, system, threads) = (server.rss(), kernel_bytes()?, server.threads());
    let mut all = Vec::with_capacity(count);
    let began = Instant::now();
    for _ in 0..count {
        all.push(server.connect("/room", 512)?);
    }
    let mut outcome = Outcome { done: count as u64, time: began.elapsed(), ..Outcome::default() };
    first.send(&messages.one(1))?;
    for client in &mut all {
        if outcome.lost > 0 {
            // No more time-outs.
            client.stream.set_nonblocking(true)?;
        }
        let mut order = Order { next: 1, lost: 0 };
        hear(client, &mut order, &messages, 2)?;
        outcome.lost += 2 - order.next;
    }
    let each = |bytes: u64| bytes as f64 / count as f64 / 1e3;
    outcome.figure = Some(each(server.rss().saturating_sub(rss)));
    outcome.remarks = vec![
        ("kB RSS before", rss as f64 / 1e3),
        ("kB of kernel memory each, both ends", each(kernel_bytes()?.saturating_sub(system))),
        ("threads", (server.threads() - threads) as f64),
    ];
    Ok(outcome)
}

/// What the kernel holds for all processes: structures, stacks, page tables, sockets.
fn kernel_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(["Slab:", "KernelStack:", "PageTables:"].iter().map(|name| 1024 * number(&text, name)).sum())
}

/// From the start of the process to the first connection accepted, in milliseconds.
pub(crate) fn start(server: &Server, size: u64) -> Outcome {
    Outcome {
        done: 1,
        figure: Some(server.start.as_secs_f64() * 1e3),
        remarks: vec![("kB of binary", size as f64 / 1e3), ("kB RSS", server.rss() as f64 / 1e3)],
        ..Outcome::default()
    }
}
