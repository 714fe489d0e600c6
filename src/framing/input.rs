//! A client's message as the program gets it. Pure.

use super::heads::Kind;
use super::{gwsocket, json};

/// How clients' messages are written to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The message and a newline.
    Lines,
    /// The message as it is.
    Raw,
    /// JSON objects, one a line, with the client's number in `_from`.
    Json,
    /// gwsocket's packets.
    Gwsocket,
    /// The message and a NUL byte.
    Nul,
    /// JSON values, one a line, with nothing added.
    Jsonl,
    /// Messages behind a `Content-Length` header.
    Lsp,
    /// To the room's other clients; with `json`, as JSON objects with the client's number in `_from`.
    Relay { json: bool },
}

/// What `_from` and its id take at most, in bytes.
const FROM: usize = 32;

/// Gives the parts of what is written for a message, or nothing if it is none by the framing's rules.
/// `scratch` holds what has to be put together.
pub fn parts<'a>(
    input: Input,
    client: u64,
    kind: Kind,
    message: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Option<[&'a [u8]; 2]> {
    match input {
        Input::Lines | Input::Jsonl | Input::Lsp => Some([message, b"\n"]),
        Input::Nul => Some([message, b"\0"]),
        Input::Raw => Some([message, b""]),
        Input::Json => {
            scratch.clear();
            // As much as it takes: what doubles may become a memory map of its own.
            scratch.reserve_exact(message.len() + FROM);
            json::write_from(message, client, scratch).then_some([scratch, b"\n"])
        }
        Input::Gwsocket | Input::Relay { .. } => {
            scratch.clear();
            scratch.extend_from_slice(&gwsocket::message(client, kind, message.len()));
            Some([scratch, message])
        }
    }
}

/// A join or leave message as it is written.
pub(super) fn notice(input: Input, message: &str) -> Vec<u8> {
    match input {
        // Nothing is added to what the program reads.
        Input::Raw => message.as_bytes().to_vec(),
        Input::Nul => [message.as_bytes(), b"\0"].concat(),
        _ => [message.as_bytes(), b"\n"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_framing_ends_a_message_its_own_way() {
        let cases = [
            (Input::Lines, "a", Some("a\n")),
            (Input::Lines, "", Some("\n")),
            (Input::Raw, "a", Some("a")),
            (Input::Json, "{}", Some("{\"_from\":7}\n")),
            (Input::Json, "a", None),
            (Input::Gwsocket, "a", Some("\0\0\0\x07\0\0\0\x02\0\0\0\x01a")),
        ];
        for (input, message, wanted) in cases {
            let mut scratch = b"old".to_vec();
            let written = parts(input, 7, Kind::Binary, message.as_bytes(), &mut scratch);
            assert_eq!(
                written.map(|parts| parts.concat()).as_deref(),
                wanted.map(str::as_bytes),
                "{input:?}"
            );
        }
    }
}
