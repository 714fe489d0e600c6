//! The baseline: the same work by a plain loop, one thread for each direction, with nothing checked, queued or
//! bounded. It handles what one read gave with one write and gathers no more than that, so it is no upper
//! bound. Each runs as a process of its own, as a server does.

use std::error::Error;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketType, ipproto};

use crate::wire::{answer, frame, unmask_whole};

/// A run that was killed leaves no process behind for longer than this.
const LIFETIME: Duration = Duration::from_secs(300);

/// Bytes of one read.
const READ: usize = 256 * 1024;

/// `KIND ADDRESS ARGUMENT…`
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        std::process::exit(0);
    });
    let [kind, address, rest @ ..] = arguments else { return Err("KIND ADDRESS".into()) };
    let listener = listen(address.parse()?)?;
    match kind.as_str() {
        "sends" => {
            let [clients, first] = rest else { return Err("CLIENTS FIRST".into()) };
            sends(&listener, clients.parse()?, first.parse()?)?;
        }
        "programs" => programs(&listener, rest)?,
        "accepts" => accepts(&listener)?,
        "proxy" => proxy(&listener, rest.first().ok_or("TARGET")?.parse()?)?,
        "tcp" => tcp(&listener)?,
        _ => return Err(format!("unknown: {kind}").into()),
    }
    Ok(())
}

/// With a backlog that takes a burst; std's is 128.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP))?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 4096)?;
    Ok(socket.into())
}

/// Reads a request and gives the ready answer.
fn shake(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut have) = ([0; 1024], 0);
    while !head[..have].ends_with(b"\r\n\r\n") {
        match stream.read(&mut head[have..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => have += read,
        }
    }
    stream.write_all(&answer())
}

/// Frames what the first client sent with one read and sends it with one call to each client from `first` on:
/// 1 leaves the sender out.
fn sends(listener: &TcpListener, clients: usize, first: usize) -> io::Result<()> {
    let mut streams = Vec::with_capacity(clients);
    while streams.len() < clients {
        let (mut stream, _) = listener.accept()?;
        // The probe whether it listens ends without a request.
        if shake(&mut stream).is_ok() {
            streams.push(stream);
        }
    }
    let (mut bytes, mut have, mut out) = (vec![0; READ], 0, Vec::new());
    loop {
        match streams[0].read(&mut bytes[have..])? {
            0 => return Ok(()),
            read => have += read,
        }
        out.clear();
        let whole = unmask_whole(&mut bytes[..have], |payload| frame(payload, &mut out));
        bytes.copy_within(whole..have, 0);
        have -= whole;
        for stream in &streams[first..] {
            // A real server needs a queue for a socket that is full.
            if rustix::net::send(stream, &out, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)? < out.len() {
                return Err(io::Error::other("a socket was full"));
            }
        }
    }
}

fn small() -> thread::Builder {
    thread::Builder::new().stack_size(64 * 1024)
}

/// A program for each connection and three threads: one reads the socket and writes the program's input, one
/// reads its output and writes the socket, one does nothing.
fn programs(listener: &TcpListener, program: &[String]) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        let program = program.to_vec();
        small().spawn(move || serve(stream, &program))?;
    }
}

fn serve(mut stream: TcpStream, program: &[String]) -> io::Result<()> {
    shake(&mut stream)?;
    let mut child =
        Command::new(&program[0]).args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let (hold, held) = mpsc::channel::<()>();
    let idle = small().spawn(move || held.recv())?;
    let out = stream.try_clone()?;
    let reader = small().spawn(move || to_client(stdout, &out, true))?;
    let result = from_client(stream, &mut stdin, true);
    drop((stdin, hold));
    let _ = (reader.join(), idle.join());
    child.wait()?;
    result
}

/// A connection to `target` for each connection and two threads, one for each direction.
fn proxy(listener: &TcpListener, target: SocketAddr) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        small().spawn(move || connect(stream, target))?;
    }
}

fn connect(mut stream: TcpStream, target: SocketAddr) -> io::Result<()> {
    shake(&mut stream)?;
    let target = TcpStream::connect(target)?;
    target.set_nodelay(true)?;
    let (from, out) = (target.try_clone()?, stream.try_clone()?);
    let reader = small().spawn(move || to_client(from, &out, false))?;
    let result = from_client(stream, &mut &target, false);
    target.shutdown(Shutdown::Both)?;
    let _ = reader.join();
    result
}

/// Frames what was read, each line or each read a message, and sends it with one call.
fn to_client(mut from: impl Read, client: &TcpStream, lines: bool) -> io::Result<()> {
    let (mut bytes, mut have, mut frames) = (vec![0; READ], 0, Vec::new());
    loop {
        if have == bytes.len() {
            bytes.resize(2 * have, 0);
        }
        let read = from.read(&mut bytes[have..])?;
        if read == 0 {
            return Ok(());
        }
        have += read;
        frames.clear();
        let mut at = 0;
        if lines {
            while let Some(length) = memchr::memchr(b'\n', &bytes[at..have]) {
                frame(&bytes[at..at + length], &mut frames);
                at += length + 1;
            }
        } else {
            frame(&bytes[..have], &mut frames);
            at = have;
        }
        bytes.copy_within(at..have, 0);
        have -= at;
        send_all(client, &frames)?;
    }
}

/// Writes the messages that were read with one call, each with a line's end if there are lines.
fn from_client(mut client: TcpStream, to: &mut impl Write, lines: bool) -> io::Result<()> {
    let (mut bytes, mut have, mut out) = (vec![0; READ], 0, Vec::new());
    loop {
        if have == bytes.len() {
            bytes.resize(2 * have, 0);
        }
        let read = client.read(&mut bytes[have..]).unwrap_or(0);
        if read == 0 {
            return Ok(());
        }
        have += read;
        out.clear();
        let whole = unmask_whole(&mut bytes[..have], |payload| {
            out.extend_from_slice(payload);
            if lines {
                out.push(b'\n');
            }
        });
        to.write_all(&out)?;
        if bytes[whole..have].first().is_some_and(|first| first & 15 == 8) {
            return Ok(());
        }
        bytes.copy_within(whole..have, 0);
        have -= whole;
    }
}

fn send_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let slices = [IoSlice::new(bytes)];
        let mut none = SendAncillaryBuffer::default();
        let sent = rustix::net::sendmsg(stream.as_fd(), &slices, &mut none, SendFlags::NOSIGNAL)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// One thread answers every request.
fn accepts(listener: &TcpListener) -> io::Result<()> {
    let mut streams = Vec::new();
    loop {
        let (mut stream, _) = listener.accept()?;
        // The probe whether it listens ends without a request.
        if shake(&mut stream).is_ok() {
            streams.push(stream);
        }
    }
}

/// Sends back what comes, over plain TCP: what stands behind a proxy.
fn tcp(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        small().spawn(move || -> io::Result<()> {
            let mut bytes = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut bytes)? {
                    0 => return Ok(()),
                    read => stream.write_all(&bytes[..read])?,
                }
            }
        })?;
    }
}
