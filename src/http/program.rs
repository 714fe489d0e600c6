//! Runs a CGI program (RFC 3875) for one request, in the thread of the connection.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use super::body::Length;
use super::chunked::RequestBody;
use super::exchange::{Exchange, Failure};
use super::head::Head;
use super::plain::{Next, answer, end};
use super::respond::{Reply, refuse};
use super::route::ProgramCall;
use super::send::Peer;
use crate::backend::{LogPipe, Shared, StartContext, Wiring, spawn_program};
use crate::counters::Count;
use crate::log::Entry;
use crate::recipe::{Program, Stderr};
use crate::sys::deadline::Deadline;
use crate::sys::pipe::PIPE;
use crate::sys::poll::{poll, ready};
use crate::sys::process::{Exit, Process};
use crate::sys::socket::reset_on_close;

/// How long a program may run after the end of its output, and after TERM.
const GRACE: Duration = Duration::from_secs(1);

/// The same while the server shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// How long to wait for a process after KILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a program may neither read its input nor write output.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Answers a request with the output of a program. `rest` was read after the head of the request. If the connection stays
/// open, returns what was read after the request; with `last` it does not. The program may neither read nor write for
/// `silence`.
///
/// # Errors
/// Of the system, or `TimedOut` if the client takes too little or the server ends: drop the connection.
#[inline(never)]
pub fn run(
    peer: Peer<'_>,
    head: &Head,
    rest: Vec<u8>,
    call: &ProgramCall,
    shared: &Shared,
    last: bool,
    silence: Duration,
) -> io::Result<Option<Vec<u8>>> {
    let Ok(body) = RequestBody::of(head) else {
        answer(peer, head, refuse(501, "Unknown Transfer-Encoding"), true)?;
        return Ok(None);
    };
    let program = Program {
        name: call.file.clone().into(),
        path: call.file.clone(),
        passed: call.passed.clone(),
        stderr: Stderr::Log,
        ..Program::default()
    };
    let context = StartContext { room: call.label.clone(), port: None, variables: call.variables.clone() };
    let directory = call.file.parent().unwrap_or(Path::new("/"));
    let spawned = match spawn_program(&program, &context, Wiring::StdioIn(directory), &shared.processes) {
        Ok(spawned) => spawned,
        Err(e) => {
            shared.log.error(e.what()).room(&call.label).field("reason", &e).write();
            // Without a text: what the program is, is none of the client's business.
            let reply = if e.is_of_the_program() { Reply::empty(500) } else { refuse(503, "Too busy") };
            return Ok((answer(peer, head, reply, last)? == Next::KeepAlive).then_some(rest));
        }
    };
    shared.counters.one(Count::Started);
    let process = spawned.process;
    let mut log_pipe = LogPipe::new(spawned.log, "stderr", &shared.log, &call.label, process.id());

    let mut exchange = Exchange::new(peer, head, body, rest, (spawned.stdin, spawned.stdout), last);
    let result = exchange.run(&process, &mut log_pipe, silence);
    let outcome = exchange.finish();
    // A program whose response is invalid may be about to say why on its standard error.
    let may_finish = matches!(result, Ok(()) | Err(Failure::Program(500, _)));
    let exit = terminate(peer, &process, &mut log_pipe, may_finish);

    match (result, outcome.announced) {
        (Ok(()), _) => {
            if exit.is_some_and(|exit| !exit.success()) {
                with_exit(log_pipe.warn("program failed"), exit).write();
            }
            if outcome.goes_on {
                return Ok(Some(outcome.rest));
            }
            end(peer);
            Ok(None)
        }
        (Err(Failure::Unsent(e)), _) => Err(e),
        (Err(Failure::Client(status, text)), None) => {
            answer(peer, head, refuse(status, text), true)?;
            Ok(None)
        }
        (Err(Failure::Program(status, reason)), None) => {
            with_exit(log_pipe.warn("invalid response from program").field("reason", reason), exit).write();
            let reply = Reply::empty(status);
            Ok((answer(peer, head, reply, last)? == Next::KeepAlive).then_some(outcome.rest))
        }
        (Err(failure), Some(length)) => {
            let reason = match failure {
                Failure::Program(_, reason) => reason,
                Failure::Client(_, text) => text.to_owned(),
                Failure::Unsent(e) => return Err(e),
            };
            with_exit(log_pipe.warn("response from program cut off").field("reason", reason), exit).write();
            if length == Length::UntilEnd {
                // Otherwise the response would look complete.
                reset_on_close(peer.stream.as_fd());
            } else {
                end(peer);
            }
            Ok(None)
        }
    }
}

fn with_exit(line: Entry<'_>, exit: Option<Exit>) -> Entry<'_> {
    match exit {
        Some(exit) => line.field("exit", exit),
        None => line,
    }
}

/// Waits for the end of a program, or ends it; ends the rest of its process group, and reaps it. Says how it ended if it
/// was not ended.
fn terminate(peer: Peer<'_>, process: &Process, log_pipe: &mut LogPipe, may_finish: bool) -> Option<Exit> {
    let grace = || if peer.cutoff.get().is_some() { SHUTDOWN_GRACE } else { GRACE };
    let by_itself = has_ended(process, log_pipe, if may_finish { grace() } else { Duration::ZERO });
    if !by_itself {
        process.signal_group(Signal::TERM);
        has_ended(process, log_pipe, grace());
    }
    // Also those that it has started.
    process.signal_group(Signal::KILL);
    has_ended(process, log_pipe, KILL_TIMEOUT);
    let exit = process.reap();
    if exit.is_none() {
        log_pipe.warn("program does not end").write();
    }
    exit.filter(|_| by_itself)
}

/// Waits until the process has ended, and logs what it still prints.
fn has_ended(process: &Process, log_pipe: &mut LogPipe, time: Duration) -> bool {
    let deadline = Deadline::after(time);
    loop {
        let has_ended = process.exited().is_some();
        log_waiting(log_pipe);
        if has_ended || deadline.passed() {
            return has_ended;
        }
        let mut fds = vec![PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        fds.extend(log_pipe.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        if poll(&mut fds, deadline).is_err() {
            return false;
        }
    }
}

/// Logs what is in the pipe, and no more than that: other processes may write on.
fn log_waiting(log_pipe: &mut LogPipe) {
    let mut buffer = [0; 1024];
    for _ in 0..=PIPE / buffer.len() {
        let now = Deadline::after(Duration::ZERO);
        if !log_pipe.fd().is_some_and(|fd| ready(fd, PollFlags::IN, now).unwrap_or(false)) {
            return;
        }
        log_pipe.read(&mut buffer);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread::JoinHandle;

    use super::*;
    use crate::backend::panics::shared;
    use crate::http::files::testing::Directory;
    use crate::http::receive::receive;
    use crate::sink::Stream;
    use crate::sys::deadline::Cutoff;

    type Served = JoinHandle<io::Result<usize>>;

    /// A directory with a program that is this script.
    fn program(script: &str) -> (Directory, ProgramCall) {
        let directory = Directory::new();
        directory.write("source", format!("#!/bin/sh\n{script}\n").as_bytes());
        // Written by another process: as long as any process has a file open for writing, it cannot be executed, and
        // each program that other tests start has copies of our descriptors for a moment.
        let file = directory.path().join("program");
        let source = directory.path().join("source");
        assert!(Command::new("cp").arg(source).arg(&file).status().expect("cp").success());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&file, mode).expect("chmod");
        let passed = vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
        let call = ProgramCall { file, passed, variables: Vec::new(), label: "program".to_owned() };
        (directory, call)
    }

    /// Serves all requests of a connection with a program, on as small a stack as a connection has. Returns how many
    /// there were.
    fn serve(call: ProgramCall) -> (UnixStream, Served) {
        serve_within(call, SILENCE)
    }

    fn serve_within(call: ProgramCall, silence: Duration) -> (UnixStream, Served) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        theirs.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        let server = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            let (stream, cutoff, shared) = (Stream::Socket(ours.into()), Cutoff::new(), shared());
            let peer = Peer { stream: &stream, cutoff: &cutoff, more: &[] };
            let (mut rest, mut number) = (Vec::new(), 0);
            while let Ok((head, behind)) = receive(&stream, rest, Deadline::after(Duration::from_secs(30))) {
                number += 1;
                match run(peer, &head, behind, &call, &shared, false, silence)? {
                    Some(behind) => rest = behind,
                    None => break,
                }
            }
            assert_eq!(shared.processes.count(), 0, "all are reaped");
            Ok(number)
        });
        (theirs, server.expect("a thread"))
    }

    /// What comes back for these requests, without dates, and how many were answered.
    fn talk(script: &str, requests: &str) -> (String, usize) {
        let (_directory, call) = program(script);
        let (mut client, server) = serve(call);
        client.write_all(requests.as_bytes()).expect("write");
        client.shutdown(Shutdown::Write).expect("shutdown");
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).expect("the end, not a reset");
        let text = String::from_utf8(bytes).expect("text");
        let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("Date: "));
        (lines.collect::<String>().replace('\r', ""), server.join().expect("no panic").expect("no error"))
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const OK: &str = "printf 'Content-Type: a/b\\n\\n'";

    fn post(fields: &str, body: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
    }

    #[test]
    fn a_connection_stays_open_between_requests_with_and_without_a_body() {
        let requests = [
            post("Content-Length: 5\r\n", "hello"),
            GET.to_owned(),
            post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nX: y\r\n\r\n"),
            post("Content-Length: 0\r\n", ""),
        ];
        let (text, served) =
            talk(&format!("input=$(cat; echo .); {OK}; echo \"<${{input%.}}>\""), &requests.concat());
        let answer = |body: &str| {
            let length = body.len() + 3;
            format!(
                "HTTP/1.1 200 OK\nContent-Type: a/b\nTransfer-Encoding: chunked\nConnection: keep-alive\n\n\
                 {length:x}\n<{body}>\n\n0\n\n"
            )
        };
        assert_eq!(text, ["hello", "", "abcdefg", ""].map(answer).concat());
        assert_eq!(served, 4);
    }

    #[test]
    fn a_response_ends_as_its_version_its_method_and_its_length_say() {
        let sized = "printf 'Status: 201 Made\\nContent-Length: 5\\n\\nhello'";
        let plain = &format!("{OK}; printf hello");
        let chunked =
            "HTTP/1.1 200 OK\nContent-Type: a/b\nTransfer-Encoding: chunked\nConnection: keep-alive\n\n";
        let created = "HTTP/1.1 201 Created\nContent-Length: 5\nConnection: keep-alive\n\n";
        let head = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
        for (script, requests, expected) in [
            (plain.as_str(), [GET, head].concat(), format!("{chunked}5\nhello\n0\n\n{chunked}")),
            (plain, "GET / HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.1 200 OK\nContent-Type: a/b\nConnection: close\n\nhello".to_owned()),
            (sized, [GET, head].concat(), format!("{created}hello{created}")),
            (sized, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".repeat(2), format!("{created}hello").repeat(2)),
            // More than its length is dropped.
            (&format!("{sized}; printf more"), GET.repeat(2), format!("{created}hello").repeat(2)),
            (
                "printf 'Status: 204\\n\\nhello'",
                GET.repeat(2),
                "HTTP/1.1 204 No Content\nConnection: keep-alive\n\n".repeat(2),
            ),
            (
                "printf 'Location: /x\\nTransfer-Encoding: y\\n\\n'",
                GET.to_owned(),
                "HTTP/1.1 302 Found\nLocation: /x\nTransfer-Encoding: chunked\nConnection: keep-alive\n\n0\n\n".to_owned(),
            ),
        ] {
            let requested = requests.matches(" HTTP/").count();
            assert_eq!(talk(script, &requests), (expected, requested), "{script}");
        }
    }

    #[test]
    fn a_program_that_gives_no_response_is_a_500_without_a_text() {
        let failed = "HTTP/1.1 500 Internal Server Error\nContent-Length: 0\nConnection: keep-alive\n\n";
        for script in [
            "exit 1",
            "echo nonsense; echo; echo hello",
            "printf 'Content-Type: a/b\\n'",
            "while printf 'X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\\n'; do :; done",
            "exec yes",
        ] {
            assert_eq!(talk(script, &GET.repeat(2)), (failed.repeat(2), 2), "{script}");
        }
        let (directory, call) = program("");
        let call = ProgramCall { file: directory.path().join("source"), ..call };
        let (mut client, server) = serve(call);
        client.write_all(GET.as_bytes()).expect("write");
        client.shutdown(Shutdown::Write).expect("shutdown");
        let mut text = String::new();
        client.read_to_string(&mut text).expect("read");
        assert!(text.starts_with("HTTP/1.1 500 ") && text.ends_with("\r\n\r\n"), "not executable: {text}");
        assert_eq!(server.join().expect("no panic").expect("no error"), 1);
    }

    #[test]
    fn a_response_that_is_too_short_is_cut_off() {
        let (text, served) = talk("printf 'Status: 200\\nContent-Length: 9\\n\\nhello'", &GET.repeat(2));
        assert_eq!(served, 1);
        assert!(text.ends_with("\n\nhello"), "{text}");
    }

    #[test]
    fn a_body_that_is_not_read_to_its_end_closes_the_connection() {
        let large = post("Content-Length: 900000\r\n", &"x".repeat(900_000));
        for script in [OK, &format!("{OK}; head -c 10")] {
            let (text, served) = talk(script, &[&large, GET].concat());
            assert_eq!((text.matches("HTTP/1.1 200").count(), served), (1, 1), "{script} {text}");
            assert!(text.contains("Connection: close\n"), "{script} {text}");
        }
        // It may have been read and dropped before the response began.
        let (text, served) = talk(&format!("exec <&-; {OK}"), &[&large, GET].concat());
        assert_eq!(text.matches("HTTP/1.1 200").count(), served, "{text}");
    }

    #[test]
    fn bodies_without_a_valid_end_are_refused() {
        for (request, status) in [
            (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501"),
            (post("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"), "400"),
            (post("Transfer-Encoding: chunked\r\n", "5\r\nhel"), "400"),
            (post("Content-Length: 5\r\n", "hel"), "400"),
        ] {
            let (text, served) = talk(&format!("cat >/dev/null; {OK}"), &request);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request} {text}");
            assert!(text.contains("Connection: close\n"), "{request} {text}");
            assert_eq!(served, 1);
        }
    }

    #[test]
    fn both_directions_move_at_the_same_time_and_100_continue_comes_first() {
        let (_directory, call) = program(&format!("{OK}; exec cat"));
        let (client, server) = serve(call);
        let size = 4 << 20;
        let fields = format!("Expect: 100-continue\r\nContent-Length: {size}\r\nConnection: close\r\n");
        (&client).write_all(post(&fields, "").as_bytes()).expect("write");
        let mut first = [0; 25];
        (&client).read_exact(&mut first).expect("100");
        assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
        // Far more than pipes and sockets hold: the sender would wait for ever if nothing came back.
        let mut text = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| (&client).write_all(&vec![b'x'; size]).expect("write"));
            (&client).read_to_end(&mut text).expect("read");
        });
        assert_eq!(memchr::memchr_iter(b'x', &text).count(), size);
        assert!(text.ends_with(b"\r\n0\r\n\r\n"));
        assert_eq!(server.join().expect("no panic").expect("no error"), 1);
    }

    #[test]
    fn a_program_ends_with_its_client_and_when_it_ignores_that() {
        // The first line shows that it runs; the second one is written after the client is gone.
        for script in [
            format!("{OK}; echo 1; while :; do echo 2; done"),
            format!("trap '' PIPE TERM; {OK}; echo 1; while :; do echo 2; done 2>/dev/null"),
            format!("{OK}; echo 1; exec sleep 1000"),
        ] {
            let (_directory, call) = program(&script);
            let (mut client, server) = serve(call);
            client.write_all(GET.as_bytes()).expect("write");
            let mut seen = Vec::new();
            while !seen.ends_with(b"1\n\r\n") && !seen.ends_with(b"2\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("a byte");
                seen.extend(byte);
            }
            drop(client);
            let error = server.join().expect("no panic").expect_err("the client is gone");
            assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{script}");
        }
    }

    #[test]
    fn nothing_that_follows_a_handshake_is_a_request() {
        let upgrade = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let (text, served) = talk(OK, &[upgrade, GET].concat());
        assert!(text.contains("Connection: close\n"), "{text}");
        assert_eq!(served, 1);
    }

    #[test]
    fn a_silent_program_is_ended() {
        for (script, status) in
            [("sleep 1000", "504"), (&format!("{OK}; echo hello; exec sleep 1000"), "200")]
        {
            let (_directory, call) = program(script);
            let (mut client, server) = serve_within(call, Duration::from_millis(200));
            client.write_all(GET.as_bytes()).expect("write");
            client.shutdown(Shutdown::Write).expect("shutdown");
            let mut text = String::new();
            client.read_to_string(&mut text).expect("read");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{script} {text}");
            assert!(!text.ends_with("\r\n0\r\n\r\n"), "the response does not look complete: {text}");
            assert_eq!(server.join().expect("no panic").expect("no error"), 1);
        }
    }

    #[test]
    fn a_client_that_stops_in_the_middle_of_its_body_gets_a_408() {
        let (_directory, call) = program("exec cat");
        let (mut client, server) = serve(call);
        client.write_all(post("Content-Length: 5\r\n", "hel").as_bytes()).expect("write");
        let mut status = [0; 13];
        client.read_exact(&mut status).expect("read");
        assert_eq!(&status, b"HTTP/1.1 408 ");
        drop(client);
        assert_eq!(server.join().expect("no panic").expect("no error"), 1);
    }

    #[test]
    fn what_a_program_leaves_behind_does_not_hold_the_response() {
        let (text, served) = talk(&format!("{OK}; sleep 1000 & echo $!"), &GET.repeat(2));
        assert_eq!((text.matches("\n0\n\n").count(), served), (2, 2), "{text}");
    }
}
