//! The program's output as messages: cut, addressed, encoded for the websocket. Pure.

use std::borrow::Cow;

use super::address::{Address, Addresses, KEPT};
use super::batch::Batch;
use super::gwsocket;
use super::heads::{self, Kind};
use super::json::{self, Header};
use super::lines::{Overlong, Splitter};
use super::metadata;

/// How the program's output is cut into messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Each item that ends in one of these bytes is one text message.
    /// `strip_cr` also takes a `\r` before the delimiter away. With `json`, a message that is a JSON object
    /// may say in its members whom it is for.
    Delimited {
        /// The set of bytes that end an item; at least one.
        delimiters: Vec<u8>,
        /// Whether `\r\n` ends an item as `\n` does.
        strip_cr: bool,
        /// Whether messages may have a JSON header.
        json: bool,
    },
    /// Whatever one read gives is one binary message.
    Chunks,
    /// gwsocket's packets.
    Gwsocket,
    /// JSON values, one a line, of which no key is obeyed.
    Jsonl,
    /// Messages behind a `Content-Length` header.
    Lsp,
    /// What clients say to each other; with `to_sender`, to the one who said it too; with `json`, messages may have
    /// a JSON header.
    Relay { to_sender: bool, json: bool },
}

/// What came out of some bytes beside the frames.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Whom the messages are for.
    pub addresses: Addresses,
    /// Which of them are marked for the history, by their index, in order.
    pub tagged: Vec<usize>,
    /// What the program said of its room, the last of it.
    pub metadata: Option<Vec<u8>>,
    /// What it said of its room that cannot be shown.
    pub unfit_metadata: u64,
    /// Messages thrown away because they were too long.
    pub overlong: u64,
    /// Messages whose text was not UTF-8 and had to be mended.
    pub bad_text: u64,
    /// Messages thrown away because their header could not be understood.
    pub malformed: u64,
    /// Bytes of a packet that was never ended.
    pub unfinished: usize,
    /// The framing is broken: nothing more can be understood.
    pub broken: Option<gwsocket::Broken>,
}

impl Decoded {
    /// As it was, for the next bytes.
    pub fn clear(&mut self) {
        self.addresses.clear();
        self.tagged.clear();
        self.tagged.shrink_to(KEPT);
        self.metadata = None;
        (self.overlong, self.bad_text, self.malformed) = (0, 0, 0);
        (self.unfit_metadata, self.unfinished, self.broken) = (0, 0, None);
    }
}

/// Cuts one program's output into messages.
#[derive(Debug)]
pub enum Decoder {
    /// Items that end in a delimiter, with a JSON header perhaps.
    Items(Splitter, bool),
    /// Chunks as they come.
    Chunks,
    /// gwsocket's packets.
    Packets(gwsocket::Packets),
}

impl Decoder {
    /// Messages may have this many bytes.
    pub fn new(output: &Output, limit: usize) -> Self {
        match output {
            Output::Delimited { delimiters, strip_cr, json } => {
                Self::Items(Splitter::new(delimiters, *strip_cr, limit, Overlong::Discard), *json)
            }
            Output::Chunks => Self::Chunks,
            Output::Jsonl | Output::Lsp => {
                Self::Items(Splitter::new(b"\n", true, limit, Overlong::Discard), false)
            }
            Output::Gwsocket | Output::Relay { .. } => Self::Packets(gwsocket::Packets::new(limit)),
        }
    }

    /// Takes the next bytes and adds each message that they complete.
    pub fn push(&mut self, bytes: &[u8], batch: &mut Batch, decoded: &mut Decoded) {
        match self {
            Self::Items(splitter, json) => {
                splitter.push(bytes, |item| add_item(item, *json, batch, decoded));
                decoded.overlong += splitter.take_overlong();
            }
            Self::Chunks => {
                heads::encode(batch, Kind::Binary, bytes);
            }
            Self::Packets(packets) => {
                let result = packets.push(bytes, |packet| {
                    if packet.client != 0 {
                        decoded.addresses.set(batch.ends.len(), Address::Only(vec![packet.client].into()));
                    }
                    decoded.bad_text += u64::from(heads::encode(batch, packet.kind, packet.payload));
                });
                decoded.broken = result.err();
            }
        }
    }

    /// The output has ended: adds the last message, if it was not terminated.
    pub fn finish(&mut self, batch: &mut Batch, decoded: &mut Decoded) {
        match self {
            Self::Items(splitter, json) => {
                splitter.finish(|item| add_item(item, *json, batch, decoded));
                decoded.overlong += splitter.take_overlong();
            }
            Self::Chunks => {}
            Self::Packets(packets) => decoded.unfinished = packets.unfinished(),
        }
    }
}

fn add_item(item: &[u8], json: bool, batch: &mut Batch, decoded: &mut Decoded) {
    if json {
        match json::header(item) {
            Header::Send { to, keep } => {
                decoded.addresses.set(batch.ends.len(), to);
                if keep {
                    decoded.tagged.push(batch.ends.len());
                }
            }
            Header::Meta => {
                let text = heads::text(item);
                decoded.bad_text += u64::from(matches!(text, Cow::Owned(_)));
                match metadata::of(&text) {
                    Some(metadata) => decoded.metadata = Some(metadata),
                    None => decoded.unfit_metadata += 1,
                }
                return;
            }
            Header::Malformed => {
                decoded.malformed += 1;
                return;
            }
        }
    }
    decoded.bad_text += u64::from(heads::encode(batch, Kind::Text, item));
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn payloads(batch: &Batch) -> Vec<&[u8]> {
        (0..batch.ends.len()).map(|index| &batch.bytes[batch.range(index)][2..]).collect()
    }

    fn parts(decoded: &Decoded, batch: &Batch, id: u64) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        decoded.addresses.shares(&[1, 2, 3], &batch.ends).parts(id, &mut parts);
        parts
    }

    #[test]
    fn json_messages_are_addressed_and_metadata_goes_to_nobody() {
        let output = Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true };
        let mut decoder = Decoder::new(&output, 100);
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        let lines = "all\n{\"_to\":2}\n{\"_meta\":true}\n{\"_to\":\"x\"}\n{\"_cache\":true}\n{\"_except\":2}";
        decoder.push(lines.as_bytes(), &mut batch, &mut decoded);
        decoder.finish(&mut batch, &mut decoded);
        let wanted: [&[u8]; 4] = [b"all", b"{\"_to\":2}", b"{\"_cache\":true}", b"{\"_except\":2}"];
        assert_eq!(payloads(&batch), wanted);
        assert_eq!(decoded.metadata.as_deref(), Some(&b"{}"[..]));
        assert_eq!(decoded.tagged, [2]);
        assert_eq!(decoded.malformed, 1);
        let sees = |id| -> usize { parts(&decoded, &batch, id).iter().map(Range::len).sum() };
        let all = batch.bytes.len();
        assert_eq!(sees(1), all - batch.range(1).len());
        assert_eq!(sees(2), all - batch.range(3).len());
        decoded.clear();
        assert!(decoded.addresses.is_plain() && decoded.tagged.is_empty());
    }

    #[test]
    fn what_is_over_the_limit_is_counted_also_when_the_output_ends_in_it() {
        let output = Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true };
        let mut decoder = Decoder::new(&output, 5);
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        decoder.push(b"123456\n12345\n123456", &mut batch, &mut decoded);
        decoder.finish(&mut batch, &mut decoded);
        assert_eq!((payloads(&batch), decoded.overlong), (vec![&b"12345"[..]], 2));
    }

    #[test]
    fn packets_keep_their_kind_and_a_broken_one_is_told() {
        let mut decoder = Decoder::new(&Output::Gwsocket, 100);
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        let mut stream = Vec::new();
        for (client, kind, payload) in [(0, Kind::Text, &b"a\xff"[..]), (3, Kind::Binary, &[0xff])] {
            stream.extend_from_slice(&gwsocket::message(client, kind, payload.len()));
            stream.extend_from_slice(payload);
        }
        stream.extend_from_slice(&[9; 12]);
        decoder.push(&stream, &mut batch, &mut decoded);
        assert_eq!(payloads(&batch), ["a\u{fffd}".as_bytes(), &[0xff]]);
        assert_eq!([batch.bytes[0], batch.bytes[batch.ends[0]]], [0x81, 0x82]);
        assert_eq!(decoded.bad_text, 1);
        assert!(decoded.broken.is_some());
        assert_eq!(parts(&decoded, &batch, 1), [batch.range(0)]);
    }
}
