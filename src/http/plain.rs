//! Answers a request that is not an upgrade, and decides whether the connection stays open.
//!
//! The thread of the connection calls this in a loop, limited in time and number.

use std::io;
use std::time::Duration;

use super::body::Body;
use super::files::FileServer;
use super::head::{Head, Version};
use super::respond::{Reply, SendOptions, refuse, send};
use super::route::{METHODS, Plain};
use super::send::Peer;

/// How long a connection waits for its next request.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The largest number of requests on a connection.
pub const MAX_REQUESTS: usize = 1000;

/// How long data that arrives after the last response is read and discarded.
const LAST_READ: Duration = Duration::from_secs(2);

/// How much of it, in bytes.
const LAST_BYTES: usize = 1024 * 1024;

/// What to do with the connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait for the next request.
    KeepAlive,
    /// Drop it: it was ended.
    Close,
}

/// The response to a request about methods, health or a file.
pub fn reply(head: &Head, plain: &Plain, files: Option<&FileServer>, base: &str) -> Reply {
    match (plain, files) {
        (Plain::Options, _) => Reply::empty(204).with("Allow", METHODS),
        (Plain::Health, _) => {
            Reply::new(200, "application/json", Body::Bytes(br#"{"status":"ok"}"#.to_vec()))
        }
        (Plain::File, Some(files)) => files.reply(head, base),
        (Plain::Moved(place), _) => refuse(301, "Moved Permanently").with("Location", place),
        _ => refuse(404, "Not found"),
    }
}

/// Answers a request. With `last` the connection ends after it: it had enough requests, or the server shuts down.
///
/// # Errors
/// Of the system, or `TimedOut` if the peer takes too little or the server ends: drop the connection.
#[inline(never)]
pub fn answer(peer: Peer<'_>, head: &Head, reply: Reply, last: bool) -> io::Result<Next> {
    let goes_on = !last && head.goes_on();
    let options = SendOptions { version: head.version, goes_on, without_body: head.method() == "HEAD" };
    if send(peer, reply, options)? {
        return Ok(Next::KeepAlive);
    }
    end(peer);
    Ok(Next::Close)
}

/// Answers a request whose head could not be read, and ends the connection.
pub fn answer_and_end(peer: Peer<'_>, reply: Reply) -> io::Result<()> {
    send(peer, reply, SendOptions { version: Version::Http10, goes_on: false, without_body: false })?;
    end(peer);
    Ok(())
}

/// Ends the connection so that the last response arrives.
pub(super) fn end(peer: Peer<'_>) {
    peer.stream.end_gently(LAST_READ, LAST_BYTES, || peer.cutoff.get().is_some());
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::http::files::FileOptions;
    use crate::http::files::testing::Directory;
    use crate::http::head::HeadError;
    use crate::http::receive::receive;
    use crate::http::respond::print;
    use crate::http::route::{BadRequest, Offers, Route, route};
    use crate::sink::Stream;
    use crate::sys::deadline::{Cutoff, Deadline};

    /// A connection's life as its thread lives it: requests until it ends. Upgrades are refused.
    fn connection(stream: &Stream, files: Option<&FileServer>, most: usize) -> io::Result<usize> {
        let mut rest = Vec::new();
        let peer = Peer { stream, cutoff: &Cutoff::new(), more: &[] };
        for number in 1.. {
            let head = match receive(stream, rest, Deadline::after(Duration::from_secs(30))) {
                Ok((head, behind)) => {
                    rest = behind;
                    head
                }
                Err(HeadError::Closed) => return Ok(number - 1),
                Err(error) => {
                    let status = error.status().ok_or(io::ErrorKind::UnexpectedEof)?;
                    answer_and_end(peer, refuse(status, &error.to_string()))?;
                    return Ok(number - 1);
                }
            };
            let reply = match route(&head, Some(head.path()), Offers::default()) {
                Ok(Route::Plain(plain)) => reply(&head, &plain, files, ""),
                Ok(_) => refuse(503, "Full"),
                Err(BadRequest::Version) => refuse(426, "Version"),
                Err(_) => refuse(405, "Method"),
            };
            if answer(peer, &head, reply, number == most)? == Next::Close {
                return Ok(number);
            }
        }
        Ok(0)
    }

    /// What comes back for these bytes, and how many requests were answered; on as small a stack
    /// as a connection's thread has.
    fn talk(request: &[u8], files: Option<FileServer>, most: usize) -> (String, usize) {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        let server = std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || connection(&Stream::Socket(ours.into()), files.as_ref(), most))
            .expect("thread");
        theirs.write_all(request).expect("write");
        theirs.shutdown(Shutdown::Write).expect("shutdown");
        let mut text = Vec::new();
        theirs.read_to_end(&mut text).expect("the end, not a reset");
        let served = server.join().expect("no panic").expect("no error");
        (String::from_utf8(text).expect("text"), served)
    }

    fn statuses(text: &str) -> Vec<&str> {
        text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
    }

    const HOST: &str = "HTTP/1.1\r\nHost: h\r\n";

    #[test]
    fn a_connection_stays_open_as_long_as_both_sides_want() {
        let get = |path: &str| format!("GET {path} {HOST}\r\n");
        let three = [get("/health"), get("/room"), get("/health/")].concat();
        let (text, served) = talk(three.as_bytes(), None, 100);
        assert_eq!((statuses(&text), served), (vec!["200", "404", "200"], 3));
        assert!(text.contains("\r\n\r\n{\"status\":\"ok\"}HTTP/1.1 404"), "{text}");
        assert!(text.contains("Content-Type: application/json\r\n"), "{text}");
        assert_eq!(text.matches("Connection: keep-alive\r\n").count(), 3);

        let (text, served) = talk(three.as_bytes(), None, 2);
        assert_eq!((statuses(&text), served), (vec!["200", "404"], 2), "the last one is the last one");
        assert!(text.contains("Connection: close\r\n"), "{text}");

        for (first, expected) in [
            ("GET /health HTTP/1.0\r\n\r\n".to_owned(), "200"),
            (format!("GET /health {HOST}Connection: close\r\n\r\n"), "200"),
            (format!("POST /health {HOST}Content-Length: 40\r\n\r\n"), "405"),
            (format!("GET /health {HOST}Transfer-Encoding: chunked\r\n\r\n"), "200"),
            (format!("GET /r {HOST}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), "426"),
            ("GET /health HTTP/9.9\r\n\r\n".to_owned(), "505"),
            ("nonsense\r\n\r\n".to_owned(), "400"),
            (format!("GET /{} {HOST}\r\n\r\n", "x".repeat(20_000)), "431"),
        ] {
            // What follows may be a body, or frames: it must not be taken for a request.
            let (text, _) = talk([first.as_str(), &get("/health")].concat().as_bytes(), None, 100);
            assert_eq!(statuses(&text), [expected], "{first}");
            assert!(text.contains("Connection: close"), "{first}");
        }
    }

    #[test]
    fn an_upload_is_answered_although_it_is_not_read() {
        let mut request = format!("POST / {HOST}Content-Length: 900000\r\n\r\n").into_bytes();
        request.resize(request.len() + 900_000, b'x');
        let (text, served) = talk(&request, None, 100);
        assert_eq!((statuses(&text), served), (vec!["405"], 1));
    }

    #[test]
    fn files_are_served_between_other_answers_and_head_stays_in_step() {
        let directory = Directory::new();
        directory.write("index.html", b"<p>home");
        directory.write("health", b"shadow");
        let files = FileServer::open(directory.path(), FileOptions::default()).expect("open");
        let request = format!(
            "HEAD / {HOST}\r\nGET / {HOST}Range: bytes=3-\r\n\r\nGET /health {HOST}\r\n\r\nGET /x {HOST}\r\n"
        );
        let (text, served) = talk(request.as_bytes(), Some(files), 100);
        assert_eq!((statuses(&text), served), (vec!["200", "206", "200", "404"], 4));
        assert!(text.contains("Content-Length: 7\r\n") && !text.contains("<p>"), "{text}");
        assert!(text.contains("\r\n\r\nhomeHTTP/1.1 200"), "{text}");
        assert!(!text.contains("shadow"), "{text}");
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error_and_not_a_signal() {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        drop(theirs);
        let ours = Stream::Socket(ours.into());
        let (head, _) = Head::parse(b"GET / HTTP/1.0\r\n\r\n").expect("good").expect("complete");
        let peer = Peer { stream: &ours, cutoff: &Cutoff::new(), more: &[] };
        assert!(answer(peer, &head, refuse(404, "Not found"), false).is_err());
        assert!(!print(&refuse(503, "Full"), &[]).is_empty());
    }
}
