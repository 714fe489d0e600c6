//! A websocket client with a deadline on everything.

use std::net::Shutdown;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::DEADLINE;
use super::frame;
use super::raw::{Address, Ended, Raw, Response, Socket};

/// The key of every handshake, and what the server must make of it (the example of RFC 6455 §1.3).
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The code of a close frame that has none (RFC 6455 §7.1.5).
pub(crate) const NO_CODE: u16 = 1005;

/// What a client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// TCP has ended in order.
    End,
    Reset,
}

/// The request of a handshake; `fields` are further lines, each with its CRLF.
pub(crate) fn handshake(target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

/// A client in a room.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) raw: Raw,
    sender: Sender,
    /// Pings are answered by pongs, a close by a close and the end of TCP by its end, as every client
    /// does it. Off for one that is rude or dead.
    pub(crate) answers: bool,
    /// A close frame has been sent.
    closing: bool,
}

/// The sending half of a client, for another thread.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Arc<Mutex<Socket>>);

impl Sender {
    /// Sends a frame, or anything else.
    pub(crate) fn try_send(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }

    pub(crate) fn send_text(&self, message: &str) {
        self.try_send(&frame::text(message)).expect("the server takes a message");
    }
}

impl Client {
    /// Joins; `target` is `/room?query`.
    pub(crate) fn connect(address: &Address, target: &str) -> Self {
        Self::connect_with(address, target, "")
            .unwrap_or_else(|refusal| panic!("{target} was refused: {refusal:?}"))
    }

    /// Joins with further header lines, or is refused.
    pub(crate) fn connect_with(address: &Address, target: &str, fields: &str) -> Result<Self, Response> {
        let mut raw = Raw::connect(address);
        raw.send(handshake(target, fields));
        Self::shake_hands(raw)
    }

    /// Reads the answer to a handshake that was sent.
    pub(crate) fn shake_hands(mut raw: Raw) -> Result<Self, Response> {
        let response = raw.response("GET");
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(response.field("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(response.field("upgrade"), Some("websocket"));
        assert!(response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
        let sender = Sender(Arc::new(Mutex::new(raw.socket.try_clone())));
        Ok(Self { raw, sender, answers: true, closing: false })
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The client's address, as the server sees it.
    pub(crate) fn address(&self) -> String {
        self.raw.socket.local_address()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.sender.try_send(bytes.as_ref()).expect("the server takes what is sent");
    }

    pub(crate) fn send_text(&mut self, message: &str) {
        self.send(frame::text(message));
    }

    pub(crate) fn send_binary(&mut self, message: &[u8]) {
        self.send(frame::binary(message));
    }

    pub(crate) fn ping(&mut self, payload: &[u8]) {
        self.send(frame::ping(payload));
    }

    /// Begins to close.
    pub(crate) fn send_close(&mut self, code: u16, reason: &str) {
        self.closing = true;
        self.send(frame::close(code, reason));
    }

    /// What comes next; panics when nothing does.
    pub(crate) fn recv(&mut self) -> Event {
        self.recv_within(DEADLINE)
    }

    pub(crate) fn recv_within(&mut self, time: Duration) -> Event {
        let until = Instant::now() + time;
        let frame = loop {
            if let Some((frame, length)) = frame::parse(&self.raw.buffer) {
                self.raw.buffer.drain(..length);
                break frame;
            }
            match self.raw.fill(until) {
                None => {}
                Some(Ended::End) => {
                    assert!(self.raw.buffer.is_empty(), "ended in a frame: {:?}", self.raw.buffer);
                    if self.answers {
                        self.raw.socket.shutdown(Shutdown::Both);
                    }
                    return Event::End;
                }
                Some(Ended::Reset) => return Event::Reset,
            }
        };
        match frame.opcode {
            frame::TEXT => Event::Text(String::from_utf8(frame.payload).expect("text is UTF-8")),
            frame::BINARY => Event::Binary(frame.payload),
            frame::PING => {
                if self.answers {
                    // Who has gone meanwhile needs no answer.
                    let _ = self.sender.try_send(&frame::masked(frame::FIN | frame::PONG, &frame.payload));
                }
                Event::Ping(frame.payload)
            }
            frame::PONG => Event::Pong(frame.payload),
            _ => {
                if self.answers && !self.closing {
                    self.closing = true;
                    let _ = self.sender.try_send(&frame::masked(frame::FIN | frame::CLOSE, &frame.payload));
                }
                let (code, reason) = match frame.payload.split_first_chunk() {
                    Some((code, reason)) => (u16::from_be_bytes(*code), reason),
                    None => (NO_CODE, &[][..]),
                };
                Event::Close(code, String::from_utf8(reason.to_vec()).expect("a reason is UTF-8"))
            }
        }
    }

    /// What comes next that is no ping.
    pub(crate) fn next(&mut self) -> Event {
        loop {
            match self.recv() {
                Event::Ping(_) => {}
                event => return event,
            }
        }
    }

    /// The next message, which is text.
    pub(crate) fn text(&mut self) -> String {
        match self.next() {
            Event::Text(text) => text,
            other => panic!("{other:?} instead of text"),
        }
    }

    /// Exactly this text comes next.
    #[track_caller]
    pub(crate) fn expect_text(&mut self, wanted: &str) {
        assert_eq!(self.next(), Event::Text(wanted.to_owned()));
    }

    #[track_caller]
    pub(crate) fn expect_binary(&mut self, wanted: &[u8]) {
        assert_eq!(self.next(), Event::Binary(wanted.to_vec()));
    }

    /// A close with this code comes next, and then the orderly end; gives the reason.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, wanted: u16) -> String {
        match self.next() {
            Event::Close(code, reason) if code == wanted => {
                assert_eq!(self.next(), Event::End, "after close {code}");
                reason
            }
            other => panic!("{other:?} instead of close {wanted}"),
        }
    }

    /// Skips messages until the close; expects what [`Client::expect_close`] does.
    #[track_caller]
    pub(crate) fn skip_to_close(&mut self, wanted: u16) -> String {
        loop {
            match self.next() {
                Event::Text(_) | Event::Binary(_) | Event::Pong(_) => {}
                Event::Close(code, reason) if code == wanted => {
                    assert_eq!(self.next(), Event::End, "after close {code}");
                    return reason;
                }
                other => panic!("{other:?} instead of close {wanted}"),
            }
        }
    }

    /// All messages up to the close, which has this code; expects what [`Client::expect_close`] does.
    #[track_caller]
    pub(crate) fn texts_to_close(&mut self, wanted: u16) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            match self.next() {
                Event::Text(text) => texts.push(text),
                Event::Close(code, _) if code == wanted => {
                    assert_eq!(self.next(), Event::End, "after close {code}");
                    return texts;
                }
                other => panic!("{other:?} instead of text or close {wanted}"),
            }
        }
    }

    /// The payloads of binary messages, one after the other, until there are that many bytes.
    #[track_caller]
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            match self.next() {
                Event::Binary(more) => bytes.extend_from_slice(&more),
                other => panic!("{other:?} instead of bytes"),
            }
        }
        bytes
    }

    /// Pings, and waits for the pong: what was sent before has been taken, and the client is still there.
    #[track_caller]
    pub(crate) fn expect_alive(&mut self) {
        self.ping(b"alive?");
        assert_eq!(self.next(), Event::Pong(b"alive?".to_vec()));
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.raw.reset();
    }

    /// Leaves in good manners: close, its answer, the end. Messages on the way are skipped.
    pub(crate) fn leave(mut self) {
        self.send_close(1000, "");
        self.skip_to_close(1000);
    }
}
