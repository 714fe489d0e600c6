//! What this machine can do at all: the same work by the shortest code that does it, with nothing checked,
//! nobody minded and nothing bounded. Each runs as a process of its own, as a server does.

use std::error::Error;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketType, ipproto};

use crate::wire::{answer, frame, unmask_whole};

/// Nobody is to be left behind by a run that was killed.
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
        "sends" => sends(&listener, rest.first().ok_or("how many clients?")?.parse()?)?,
        "relay" => relay(&listener, rest)?,
        "accepts" => accepts(&listener)?,
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

/// The ready frames of whatever the first client sent with one read, to everybody, with one send each.
fn sends(listener: &TcpListener, clients: usize) -> io::Result<()> {
    let mut streams = Vec::with_capacity(clients);
    while streams.len() < clients {
        let (mut stream, _) = listener.accept()?;
        // Somebody only looks whether it listens.
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
        for stream in &streams {
            // A socket that is full would want a queue, which is what a real server has to have.
            if rustix::net::send(stream, &out, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)? < out.len() {
                return Err(io::Error::other("a socket was full"));
            }
        }
    }
}

/// A program for each connection and three threads: one reads the socket and writes the program's input, one
/// reads its output and writes the socket, one does nothing.
fn relay(listener: &TcpListener, program: &[String]) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        let program = program.to_vec();
        thread::Builder::new().stack_size(64 * 1024).spawn(move || serve(stream, &program))?;
    }
}

fn serve(mut stream: TcpStream, program: &[String]) -> io::Result<()> {
    shake(&mut stream)?;
    let mut child =
        Command::new(&program[0]).args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let (hold, held) = mpsc::channel::<()>();
    let small = || thread::Builder::new().stack_size(64 * 1024);
    let idle = small().spawn(move || held.recv())?;
    let out = stream.try_clone()?;
    let reader = small().spawn(move || -> io::Result<()> {
        let (mut bytes, mut have, mut frames) = (vec![0; READ], 0, Vec::new());
        loop {
            if have == bytes.len() {
                bytes.resize(2 * have, 0);
            }
            let read = stdout.read(&mut bytes[have..])?;
            if read == 0 {
                return Ok(());
            }
            have += read;
            frames.clear();
            let mut at = 0;
            while let Some(length) = memchr::memchr(b'\n', &bytes[at..have]) {
                frame(&bytes[at..at + length], &mut frames);
                at += length + 1;
            }
            bytes.copy_within(at..have, 0);
            have -= at;
            send_all(&out, &frames)?;
        }
    })?;
    let (mut bytes, mut have, mut lines) = (vec![0; READ], 0, Vec::new());
    loop {
        if have == bytes.len() {
            bytes.resize(2 * have, 0);
        }
        let read = stream.read(&mut bytes[have..]).unwrap_or(0);
        if read == 0 {
            break;
        }
        have += read;
        lines.clear();
        let whole = unmask_whole(&mut bytes[..have], |payload| {
            lines.extend_from_slice(payload);
            lines.push(b'\n');
        });
        stdin.write_all(&lines)?;
        if bytes[whole..have].first().is_some_and(|first| first & 15 == 8) {
            break;
        }
        bytes.copy_within(whole..have, 0);
        have -= whole;
    }
    drop((stdin, hold));
    let _ = (reader.join(), idle.join());
    child.wait()?;
    Ok(())
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

/// The ready answer to whoever comes, by one thread.
fn accepts(listener: &TcpListener) -> io::Result<()> {
    let mut streams = Vec::new();
    loop {
        let (mut stream, _) = listener.accept()?;
        // Somebody who hangs up at once is not missed.
        if shake(&mut stream).is_ok() {
            streams.push(stream);
        }
    }
}

/// What comes goes back, over plain TCP: the other end of a proxy.
fn tcp(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        thread::Builder::new().stack_size(64 * 1024).spawn(move || -> io::Result<()> {
            let mut bytes = vec![0; 16 * 1024];
            loop {
                match stream.read(&mut bytes)? {
                    0 => return Ok(()),
                    read => stream.write_all(&bytes[..read])?,
                }
            }
        })?;
    }
}
