//! A client's message as the backend gets it. Pure.

use super::heads::Kind;
use super::{gwsocket, json, lsp, relay, scan};

/// How clients' messages are written to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The message and a newline.
    Lines,
    /// The message and a NUL byte.
    Nul,
    /// The message as it is.
    Raw,
    /// JSON objects, one a line, with the client's id in `_from`, and with `room` its room in `_room`.
    Json { room: bool },
    /// JSON values, one a line, with nothing added.
    Jsonl,
    /// gwsocket's packets.
    Gwsocket,
    /// Messages with a `Content-Length` header.
    Lsp,
    /// To the room's other clients; with `json`, as JSON objects with the client's id in `_from`.
    Relay { json: bool },
}

/// The client that sent a message.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub id: u64,
    pub room: &'a str,
}

/// Bytes that the key `_from` with its id and the key `_room` take at most.
const FROM: usize = 48;

impl Input {
    /// What a message has to be, or [`parts`] gives nothing.
    pub fn wants(self) -> &'static str {
        if self == Self::Jsonl { "JSON" } else { "a JSON object" }
    }
}

/// What to write for a message, in two parts; nothing if the framing does not allow the message. `scratch` holds what
/// is made here. A message that contains a delimiter is passed as it is: the client could have sent several messages.
pub fn parts<'a>(
    input: Input,
    sender: Sender<'_>,
    kind: Kind,
    message: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Option<[&'a [u8]; 2]> {
    scratch.clear();
    match input {
        Input::Lines => Some([message, b"\n"]),
        Input::Nul => Some([message, b"\0"]),
        Input::Raw => Some([message, b""]),
        Input::Json { room } => {
            let room = room.then_some(sender.room);
            // Exactly what it takes: a buffer that doubles may become a memory map of its own.
            scratch.reserve_exact(message.len() + FROM + room.map_or(0, str::len));
            json::write_from(message, sender.id, room, scratch).then_some([scratch, b"\n"])
        }
        Input::Jsonl => {
            if !scan::is_value(message) {
                return None;
            }
            if memchr::memchr2(b'\n', b'\r', message).is_none() {
                return Some([message, b"\n"]);
            }
            scratch.extend_from_slice(message);
            json::join_lines(scratch);
            Some([scratch, b"\n"])
        }
        Input::Gwsocket => {
            scratch.extend_from_slice(&gwsocket::message(sender.id, kind, message.len()));
            Some([scratch, message])
        }
        Input::Lsp => {
            lsp::write_header(message.len(), scratch);
            Some([scratch, message])
        }
        Input::Relay { json } => {
            let header = relay::Header { sender: sender.id, kind };
            scratch.reserve_exact(relay::HEADER + if json { message.len() + FROM } else { 0 });
            scratch.extend_from_slice(&header.bytes(message.len()));
            if !json {
                return Some([scratch, message]);
            }
            if !json::write_from(message, sender.id, None, scratch) {
                return None;
            }
            let length = scratch.len() - relay::HEADER;
            scratch[..relay::HEADER].copy_from_slice(&header.bytes(length));
            Some([scratch, b""])
        }
    }
}

/// A join or leave message about a client, as it is written. A relay gets it as a message of that client.
pub(super) fn notice(input: Input, client: u64, message: &str) -> Vec<u8> {
    let header = relay::Header { sender: client, kind: Kind::Text };
    let message = message.as_bytes();
    match input {
        // Nothing is added to what the program reads.
        Input::Raw => message.to_vec(),
        Input::Nul => [message, b"\0"].concat(),
        Input::Lines | Input::Json { .. } | Input::Jsonl | Input::Gwsocket => [message, b"\n"].concat(),
        Input::Lsp => {
            let mut notice = Vec::new();
            lsp::write_header(message.len(), &mut notice);
            notice.extend_from_slice(message);
            notice
        }
        Input::Relay { .. } => [&header.bytes(message.len()), message].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_framing_ends_a_message_its_own_way() {
        let (plain, server) = (Input::Json { room: false }, Input::Json { room: true });
        let relay = |json| Input::Relay { json };
        let cases = [
            (Input::Lines, "a", Some("a\n")),
            (Input::Lines, "", Some("\n")),
            (Input::Lines, "a\nb", Some("a\nb\n")),
            (Input::Nul, "a\nb", Some("a\nb\0")),
            (Input::Nul, "a\0b", Some("a\0b\0")),
            (Input::Raw, "a", Some("a")),
            (plain, "{}", Some("{\"_from\":7}\n")),
            (server, "{\"_room\":1}", Some("{\"_from\":7,\"_room\":\"lobby\"}\n")),
            (plain, "a", None),
            (Input::Jsonl, "{\"_from\": 1}", Some("{\"_from\": 1}\n")),
            (Input::Jsonl, "[1,\r\n2]\n", Some("[1,  2] \n")),
            (Input::Jsonl, "null", Some("null\n")),
            (Input::Jsonl, "a", None),
            (Input::Jsonl, "{} {}", None),
            (Input::Jsonl, "", None),
            (Input::Gwsocket, "a", Some("\0\0\0\x07\0\0\0\x02\0\0\0\x01a")),
            (Input::Lsp, "\u{f6}", Some("Content-Length: 2\r\n\r\n\u{f6}")),
            (relay(false), "a", Some("\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x01\x02a")),
            (relay(true), "{}", Some("\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x0b\x02{\"_from\":7}")),
            (relay(true), "[]", None),
        ];
        for (input, message, wanted) in cases {
            let mut scratch = b"old".to_vec();
            let sender = Sender { id: 7, room: "lobby" };
            let written = parts(input, sender, Kind::Binary, message.as_bytes(), &mut scratch);
            assert_eq!(
                written.map(|parts| parts.concat()).as_deref(),
                wanted.map(str::as_bytes),
                "{input:?}"
            );
        }
    }

    #[test]
    fn notices_end_as_messages_do() {
        for (input, wanted) in [
            (Input::Lines, "hi\n"),
            (Input::Nul, "hi\0"),
            (Input::Raw, "hi"),
            (Input::Json { room: true }, "hi\n"),
            (Input::Jsonl, "hi\n"),
            (Input::Lsp, "Content-Length: 2\r\n\r\nhi"),
            (Input::Relay { json: true }, "\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x02\x01hi"),
        ] {
            assert_eq!(notice(input, 7, "hi"), wanted.as_bytes(), "{input:?}");
        }
    }
}
