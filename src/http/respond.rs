//! A response: as data, printed, sent. All but the 101 are printed by `tiny_http`; [`print_head`] corrects its output.

use std::io;
use std::time::Duration;

use tiny_http::{HTTPVersion, Header, Response, StatusCode};

use super::body::{Body, Length};
use super::head::Version;
use super::send::{Peer, Sender};

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Without `Date`, `Content-Length` and `Connection`, which are added.
    pub fields: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: Body) -> Self {
        Self { status, fields: vec![("Content-Type", content_type.to_owned())], body }
    }

    /// A response without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    /// The text in the body of a refusal, for the log.
    pub fn reason(&self) -> &str {
        match &self.body {
            Body::Bytes(bytes) if self.status >= 400 => {
                std::str::from_utf8(bytes).unwrap_or_default().trim_end()
            }
            _ => "",
        }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// Responses with parts of files are never equal.
impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        let same_body = match (&self.body, &other.body) {
            (Body::Bytes(a), Body::Bytes(b)) => a == b,
            _ => false,
        };
        self.status == other.status && self.fields == other.fields && same_body
    }
}

/// A response with a line of text: sentence case, no full stop.
pub fn refuse(status: u16, text: &str) -> Reply {
    match status {
        // There may be room again at any time.
        503 => refuse_for(503, text, Duration::from_secs(1)),
        _ => plain_text(status, text),
    }
}

/// The same with `Retry-After` (RFC 9110 §10.2.3), in whole seconds.
pub fn refuse_for(status: u16, text: &str, time: Duration) -> Reply {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    plain_text(status, text).with("Retry-After", seconds.max(1).to_string())
}

fn plain_text(status: u16, text: &str) -> Reply {
    let body = Body::Bytes(format!("{text}\n").into_bytes());
    Reply::new(status, "text/plain; charset=utf-8", body)
}

/// A whole response for a peer whose request was not read. The caller closes the connection.
pub fn print(reply: &Reply, more: &[(String, String)]) -> Vec<u8> {
    let mut bytes = print_head(reply, more, reply.body.length(true), false);
    if let Body::Bytes(body) = &reply.body {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// The response to a handshake (RFC 6455 §4.2.2), with the chosen subprotocol and `more` fields, without extensions.
pub fn switching_protocols(accept: &str, protocol: Option<&str>, more: &[(String, String)]) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(protocol) = protocol {
        head.extend(["Sec-WebSocket-Protocol: ", protocol, "\r\n"]);
    }
    for (name, value) in more {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// How a response is sent.
#[derive(Debug, Clone, Copy)]
pub struct SendOptions {
    /// The version of the request.
    pub version: Version,
    /// The connection stays open, if the peer can see the end of the response without its close.
    pub goes_on: bool,
    /// For HEAD.
    pub without_body: bool,
}

/// Sends a response; returns whether the connection stays open.
pub fn send(peer: Peer<'_>, reply: Reply, options: SendOptions) -> io::Result<bool> {
    let length = reply.body.length(options.version == Version::Http11);
    let goes_on = options.goes_on && length != Length::UntilEnd;
    let head = print_head(&reply, peer.more, length, goes_on);
    let mut sender = Sender::new(peer);
    if options.without_body {
        sender.send_all(&head)?;
    } else {
        reply.body.send(&mut sender, head, length)?;
    }
    Ok(goes_on)
}

/// The head of a response, including the empty line. It is HTTP/1.1 for an HTTP/1.0 request as well (RFC 9110 §2.5) and
/// always has `Connection`. A field of `more` replaces the reply's own.
fn print_head(reply: &Reply, more: &[(String, String)], length: Length, goes_on: bool) -> Vec<u8> {
    let own = reply.fields.iter().map(|(name, value)| (*name, value));
    let own = own.filter(|(name, _)| !more.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
    let more = more.iter().map(|(name, value)| (name.as_str(), value));
    let headers = own.chain(more).filter_map(|(name, value)| header(name, value)).collect();
    let response = Response::new(StatusCode(reply.status), headers, io::empty(), Some(0), None);
    let mut printed = Vec::with_capacity(512);
    // Writing to a vector cannot fail.
    let _ = response.with_chunked_threshold(usize::MAX).raw_print(
        &mut printed,
        HTTPVersion(1, 1),
        &[],
        true,
        None,
    );

    let mut head = Vec::with_capacity(printed.len() + 64);
    for line in printed.split_inclusive(|&b| b == b'\n') {
        // Without `Server`, which names tiny_http, and without its length and empty line, which are added below.
        if !line.starts_with(b"Server:") && !line.starts_with(b"Content-Length:") && line != b"\r\n" {
            head.extend_from_slice(line);
        }
    }
    match length {
        // RFC 9110 §8.6: never in a 204; in a 304 it would be the length of the 200.
        _ if matches!(reply.status, 204 | 304) => {}
        Length::Known(bytes) => head.extend_from_slice(format!("Content-Length: {bytes}\r\n").as_bytes()),
        Length::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Length::UntilEnd => {}
    }
    let connection = if goes_on { "keep-alive" } else { "close" };
    head.extend_from_slice(b"Connection: ");
    head.extend_from_slice(connection.as_bytes());
    if reply.status == 426 {
        // RFC 9110 §15.5.22, §7.8: it needs both fields.
        head.extend_from_slice(b", Upgrade\r\nUpgrade: websocket");
    }
    head.extend_from_slice(b"\r\n\r\n");
    head
}

/// A field for `tiny_http`, which does not check values: a CR or LF could add a field or end the head. Control characters
/// become spaces (RFC 9110 §5.5), other non-ASCII characters question marks.
fn header(name: &str, value: &str) -> Option<Header> {
    let clean = |c: char| match c {
        c if c.is_ascii_control() => b' ',
        c if c.is_ascii() => c as u8,
        _ => b'?',
    };
    let value: Vec<u8> = value.chars().map(clean).collect();
    Header::from_bytes(name.as_bytes(), value).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sink::Stream;
    use crate::sys::deadline::Cutoff;

    /// The head as text, its date replaced by `-`.
    fn printed(reply: &Reply, goes_on: bool) -> String {
        let head = String::from_utf8(print_head(reply, &[], reply.body.length(true), goes_on)).expect("text");
        let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).expect("a date");
        assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
        head.replace(date, "-")
    }

    fn sent(reply: Reply, without_body: bool) -> String {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        let ours = Stream::Socket(ours.into());
        let peer = Peer { stream: &ours, cutoff: &Cutoff::new(), more: &[] };
        let options = SendOptions { version: Version::Http11, goes_on: true, without_body };
        assert!(send(peer, reply, options).expect("sent"));
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).expect("read");
        text
    }

    #[test]
    fn a_refusal_is_one_line_of_text_with_its_length() {
        assert_eq!(
            printed(&refuse(404, "Not found"), true),
            "HTTP/1.1 404 Not Found\r\nDate: -\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 10\r\nConnection: keep-alive\r\n\r\n"
        );
        let text = sent(refuse(404, "Not found"), false);
        assert!(text.ends_with("\r\n\r\nNot found\n"), "{text}");
    }

    #[test]
    fn head_has_the_length_but_not_the_body() {
        let text = sent(refuse(404, "Not found"), true);
        assert!(text.contains("Content-Length: 10\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_426_names_what_to_upgrade_to() {
        let head = printed(&refuse(426, "x").with("Sec-WebSocket-Version", "13"), false);
        for line in ["Upgrade: websocket", "Connection: close, Upgrade", "Sec-WebSocket-Version: 13"] {
            assert_eq!(head.lines().filter(|&other| other == line).count(), 1, "{head}");
        }
    }

    #[test]
    fn what_has_no_body_has_no_length_and_a_large_body_is_never_chunked() {
        for status in [204, 304] {
            let head = printed(&Reply::empty(status), true);
            assert!(!head.contains("Content-Length") && !head.contains("Transfer-Encoding"), "{head}");
        }
        let large = Reply::new(200, "text/plain", Body::Bytes(vec![b'x'; 40_000]));
        let head = printed(&large, true);
        assert!(head.contains("Content-Length: 40000\r\n") && !head.contains("chunked"), "{head}");
        assert!(!head.contains("Server"), "{head}");
    }

    #[test]
    fn a_value_cannot_break_out_of_its_field() {
        let reply = refuse(301, "x").with("Location", "/a\r\nSet-Cookie: b\n\n<script>\u{0}é");
        let head = printed(&reply, true);
        assert!(head.contains("Location: /a  Set-Cookie: b  <script> ?\r\n"), "{head}");
        assert_eq!(head.matches("\r\n\r\n").count(), 1);
    }

    #[test]
    fn a_503_says_when_to_come_back_even_before_a_request() {
        let bytes = String::from_utf8(print(&refuse(503, "Too many connections"), &[])).expect("text");
        assert!(bytes.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{bytes}");
        assert!(bytes.contains("Retry-After: 1\r\n") && bytes.contains("Connection: close\r\n"), "{bytes}");
        assert!(bytes.ends_with("\r\n\r\nToo many connections\n"), "{bytes}");
    }

    #[test]
    fn the_101_is_exact() {
        for (protocol, line) in [(None, ""), (Some("mcp"), "Sec-WebSocket-Protocol: mcp\r\n")] {
            let head = switching_protocols("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", protocol, &[]);
            assert_eq!(
                String::from_utf8(head).expect("text"),
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{line}\r\n"
                )
            );
        }
    }
}
