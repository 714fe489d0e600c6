//! The program's output as messages: cut, addressed, encoded for the websocket. Pure.

use std::borrow::Cow;

use super::address::{Address, Addresses, KEPT};
use super::batch::Batch;
use super::broken::Broken;
use super::heads::{self, Kind};
use super::json::{self, Header};
use super::lines::{Overlong, Splitter};
use super::packets::Packets;
use super::rooms::{self, Rooms};
use super::{gwsocket, lsp, metadata, relay};

/// How a backend's output is cut into messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Each item that ends in one of these bytes is a text message. `strip_cr` also removes a `\r` before the
    /// delimiter. With `json`, the members of a JSON object may name the clients that it is for; with `room`, rooms,
    /// too.
    Delimited {
        /// The set of bytes that end an item; at least one.
        delimiters: Vec<u8>,
        strip_cr: bool,
        json: bool,
        room: bool,
    },
    /// Lines of the stream with this name. Each is sent as a JSON object that holds the name and the line.
    Named(&'static str),
    /// What one read gives is a binary message.
    Chunks,
    /// gwsocket's packets.
    Gwsocket,
    /// JSON values, one a line, of which no key is obeyed. A line that is not JSON is sent as it is.
    Jsonl,
    /// Messages with a `Content-Length` header.
    Lsp,
    /// Messages between clients; with `to_sender`, to the sender, too; with `json`, `_to` and `_except` are obeyed.
    Relay { to_sender: bool, json: bool },
}

/// What was decoded besides the frames.
#[derive(Debug, Default)]
pub struct Decoded {
    pub addresses: Addresses,
    /// The messages that name rooms, by their index, in order.
    pub rooms: Vec<(usize, Rooms)>,
    /// The messages that are marked for the history, by their index, in order.
    pub tagged: Vec<usize>,
    /// The last metadata of the room.
    pub metadata: Option<Vec<u8>>,
    /// How many times metadata was not fit to be shown.
    pub unfit_metadata: u64,
    /// Messages dropped because they were too long.
    pub overlong: u64,
    /// Messages whose text was not UTF-8 and was repaired.
    pub bad_text: u64,
    /// Messages dropped because their header is not valid.
    pub malformed: u64,
    /// Bytes of a packet without its end.
    pub unfinished: usize,
    /// The framing is broken: nothing more can be decoded.
    pub broken: Option<Broken>,
}

impl Decoded {
    pub fn clear(&mut self) {
        self.addresses.clear();
        self.rooms.clear();
        self.rooms.shrink_to(KEPT);
        self.tagged.clear();
        self.tagged.shrink_to(KEPT);
        self.metadata = None;
        (self.overlong, self.bad_text, self.malformed) = (0, 0, 0);
        (self.unfit_metadata, self.unfinished, self.broken) = (0, 0, None);
    }

    /// Narrows the messages that name rooms to the clients in them. `present` is all clients with their rooms, in the
    /// order of their ids. Only for delivery: the history keeps the rooms for clients that join later.
    pub fn narrow(&mut self, present: &[(u64, &str)]) {
        if !self.rooms.is_empty() {
            self.addresses = rooms::narrowed(&self.addresses, &self.rooms, present);
            self.rooms.clear();
        }
    }
}

/// The format of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    /// A line in a JSON object that holds the stream's name, too.
    Named(&'static str),
    /// JSON, of which no key is obeyed.
    JsonLine,
    /// Text, or a JSON object with all keys but `_room`.
    Json,
    /// Text, or a JSON object with all keys.
    JsonWithRoom,
}

/// Cuts the output of one backend into messages.
#[derive(Debug)]
pub struct Decoder(Cutter);

#[derive(Debug)]
enum Cutter {
    /// Items that end in a delimiter.
    Items(Splitter, Format),
    Chunks,
    Gwsocket(Packets<gwsocket::Header>),
    Lsp(Packets<lsp::Header>),
    Relay {
        packets: Packets<relay::Header>,
        to_sender: bool,
        json: bool,
    },
}

impl Decoder {
    /// `limit` is the largest message in bytes. A relay has none: clients' messages have passed theirs already.
    pub fn new(output: &Output, limit: usize) -> Self {
        let splitter = |set: &[u8], strip_cr| Splitter::new(set, strip_cr, limit, Overlong::Discard);
        Self(match *output {
            Output::Delimited { ref delimiters, strip_cr, json, room } => {
                let format = match (json, room) {
                    (false, _) => Format::Text,
                    (true, false) => Format::Json,
                    (true, true) => Format::JsonWithRoom,
                };
                Cutter::Items(splitter(delimiters, strip_cr), format)
            }
            Output::Named(stream) => Cutter::Items(splitter(b"\n", true), Format::Named(stream)),
            Output::Jsonl => Cutter::Items(splitter(b"\n", true), Format::JsonLine),
            Output::Chunks => Cutter::Chunks,
            Output::Gwsocket => Cutter::Gwsocket(Packets::new(limit)),
            Output::Lsp => Cutter::Lsp(Packets::new(limit)),
            Output::Relay { to_sender, json } => {
                Cutter::Relay { packets: Packets::new(usize::MAX), to_sender, json }
            }
        })
    }

    /// Takes the next bytes and adds each message that they complete.
    pub fn push(&mut self, bytes: &[u8], batch: &mut Batch, decoded: &mut Decoded) {
        let result = match &mut self.0 {
            Cutter::Items(splitter, format) => {
                splitter.push(bytes, |item| add_item(item, *format, batch, decoded));
                decoded.overlong += splitter.take_overlong();
                return;
            }
            Cutter::Chunks => {
                heads::encode(batch, Kind::Binary, bytes);
                return;
            }
            Cutter::Gwsocket(packets) => packets.push(bytes, |header, payload| {
                if header.client != 0 {
                    decoded.addresses.set(batch.ends.len(), Address::Only(vec![header.client].into()));
                }
                decoded.bad_text += u64::from(heads::encode(batch, header.kind, payload));
            }),
            Cutter::Lsp(packets) => packets.push(bytes, |_, payload| {
                decoded.bad_text += u64::from(heads::encode(batch, Kind::Text, payload));
            }),
            Cutter::Relay { packets, to_sender, json } => packets.push(bytes, |header, payload| {
                let but = (!*to_sender).then_some(header.sender);
                let address = if *json {
                    json::relayed(payload, but)
                } else {
                    Some(Address::AllBut(but.into_iter().collect::<Vec<_>>().into()))
                };
                match address {
                    Some(address) => {
                        decoded.addresses.set(batch.ends.len(), address);
                        decoded.bad_text += u64::from(heads::encode(batch, header.kind, payload));
                    }
                    None => decoded.malformed += 1,
                }
            }),
        };
        decoded.broken = result.err();
    }

    /// Whether [`Decoder::flush_partial`] would add a message.
    ///
    /// The beginning of a JSON object is never sent where keys are obeyed: the message may be private. Nor is a part of
    /// a message whose length is known.
    pub fn has_partial(&self) -> bool {
        let Cutter::Items(splitter, format) = &self.0 else { return false };
        let partial = splitter.partial();
        match format {
            Format::Text => !partial.is_empty(),
            Format::JsonLine | Format::Named(_) => false,
            Format::Json | Format::JsonWithRoom => {
                partial.trim_ascii_start().first().is_some_and(|&first| first != b'{')
            }
        }
    }

    /// Adds output without an end as a text message for all clients.
    pub fn flush_partial(&mut self, batch: &mut Batch, decoded: &mut Decoded) {
        if self.has_partial()
            && let Cutter::Items(splitter, _) = &mut self.0
        {
            splitter.flush(|item| decoded.bad_text += u64::from(heads::encode(batch, Kind::Text, item)));
        }
    }

    /// The output has ended: adds a last message without an end.
    pub fn finish(&mut self, batch: &mut Batch, decoded: &mut Decoded) {
        match &mut self.0 {
            Cutter::Items(splitter, format) => {
                splitter.finish(|item| add_item(item, *format, batch, decoded));
                decoded.overlong += splitter.take_overlong();
            }
            Cutter::Chunks => {}
            Cutter::Gwsocket(packets) => decoded.unfinished = packets.unfinished(),
            Cutter::Lsp(packets) => decoded.unfinished = packets.unfinished(),
            Cutter::Relay { packets, .. } => decoded.unfinished = packets.unfinished(),
        }
    }
}

fn add_item(item: &[u8], format: Format, batch: &mut Batch, decoded: &mut Decoded) {
    if let Format::Named(stream) = format {
        let line = String::from_utf8_lossy(item);
        decoded.bad_text += u64::from(matches!(line, Cow::Owned(_)));
        let mut object = Vec::with_capacity(line.len() + 40);
        for part in ["{\"stream\":\"", stream, "\",\"data\":\""] {
            object.extend_from_slice(part.as_bytes());
        }
        json::escape(&line, &mut object);
        object.extend_from_slice(b"\"}");
        heads::encode(batch, Kind::Text, &object);
        return;
    }
    if matches!(format, Format::Json | Format::JsonWithRoom) {
        match json::header(item, format == Format::JsonWithRoom) {
            Header::Send { to, rooms, keep } => {
                decoded.addresses.set(batch.ends.len(), to);
                decoded.rooms.extend(rooms.map(|rooms| (batch.ends.len(), rooms)));
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

    use super::super::input::{self, Input};
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
    fn json_messages_are_addressed_and_metadata_goes_to_no_client() {
        let output =
            Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true, room: false };
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
        let output =
            Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true, room: false };
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

    #[test]
    fn relayed_messages_keep_their_kind_and_go_to_all_but_their_sender_whatever_the_steps() {
        let ten = "x".repeat(10);
        let messages: [(u64, Kind, &[u8]); 4] = [
            (2, Kind::Text, b"hello\n"),
            (1, Kind::Binary, &[0xff, 0]),
            (u64::MAX, Kind::Text, b""),
            (3, Kind::Text, ten.as_bytes()),
        ];
        let (mut stream, mut scratch) = (Vec::new(), Vec::new());
        for (id, kind, message) in messages {
            let sender = input::Sender { id, room: "r" };
            let parts = input::parts(Input::Relay { json: false }, sender, kind, message, &mut scratch);
            stream.extend(parts.expect("any message will do").concat());
        }
        for to_sender in [false, true] {
            for step in 1..=stream.len() {
                // The limit of a program's messages is not that of a client's.
                let mut decoder = Decoder::new(&Output::Relay { to_sender, json: false }, 5);
                let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
                for chunk in stream.chunks(step) {
                    decoder.push(chunk, &mut batch, &mut decoded);
                }
                assert_eq!(payloads(&batch), messages.map(|(_, _, message)| message), "steps of {step}");
                let heads: Vec<u8> = (0..4).map(|index| batch.bytes[batch.range(index).start]).collect();
                assert_eq!(heads, [0x81, 0x82, 0x81, 0x81]);
                for (id, missed) in [(1, 1), (2, 0), (3, 3)] {
                    let seen: usize = parts(&decoded, &batch, id).iter().map(Range::len).sum();
                    let missed = if to_sender { 0 } else { batch.range(missed).len() };
                    assert_eq!(seen, batch.bytes.len() - missed, "client {id}");
                }
            }
        }
    }

    #[test]
    fn relayed_json_is_addressed_by_the_client_and_does_nothing_else() {
        let (mut stream, mut scratch) = (Vec::new(), Vec::new());
        let messages = [
            r#"{"a":1,"_from":9}"#,
            r#"{"_to":[1,2]}"#,
            r#"{"_except":3}"#,
            r#"{"_meta":true,"_cache":true,"_join":5,"b":2}"#,
            r#"{"_to":"x"}"#,
        ];
        let relay = Input::Relay { json: true };
        for message in messages {
            let sender = input::Sender { id: 2, room: "r" };
            let parts = input::parts(relay, sender, Kind::Text, message.as_bytes(), &mut scratch);
            stream.extend(parts.expect("an object").concat());
        }
        let mut decoder = Decoder::new(&Output::Relay { to_sender: false, json: true }, 5);
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        decoder.push(&stream, &mut batch, &mut decoded);
        let wanted = [
            r#"{"_from":2,"a":1}"#,
            r#"{"_from":2,"_to":[1,2]}"#,
            r#"{"_from":2,"_except":3}"#,
            r#"{"_from":2,"_meta":true,"_cache":true,"b":2}"#,
        ];
        assert_eq!(payloads(&batch), wanted.map(str::as_bytes));
        assert_eq!((decoded.malformed, decoded.metadata.as_deref(), decoded.tagged.len()), (1, None, 0));
        let sees = |id| -> usize { parts(&decoded, &batch, id).iter().map(Range::len).sum() };
        assert_eq!(sees(1), batch.bytes.len());
        assert_eq!(sees(2), batch.range(1).len(), "what it sends to itself alone");
        assert_eq!(sees(3), batch.range(0).len() + batch.range(3).len());
    }

    #[test]
    fn json_lines_are_sent_as_they_are_and_no_key_is_obeyed() {
        let mut decoder = Decoder::new(&Output::Jsonl, 100);
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        decoder.push(b"{\"_to\":2}\r\nno JSON\n[1]\n{\"_meta\":true}\n", &mut batch, &mut decoded);
        let wanted: [&[u8]; 4] = [b"{\"_to\":2}", b"no JSON", b"[1]", b"{\"_meta\":true}"];
        assert_eq!(payloads(&batch), wanted);
        assert!(decoded.addresses.is_plain() && decoded.metadata.is_none());
    }

    #[test]
    fn a_line_of_a_named_stream_is_a_json_object_with_both() {
        let mut decoder = Decoder::new(&Output::Named("stderr"), 20);
        for (printed, line, json) in [
            ("plain\n", "plain", "plain"),
            ("\n", "", ""),
            ("a\r\n", "a", "a"),
            ("\"\\\t\r<&>/\n", "\"\\\t\r<&>/", r#"\"\\\t\r<&>/"#),
            ("\0\u{1b}\u{7f}\u{8}\n", "\0\u{1b}\u{7f}\u{8}", "\\u0000\\u001b\u{7f}\\u0008"),
            ("\u{fc}\u{1f600}\u{2028}\n", "\u{fc}\u{1f600}\u{2028}", "\u{fc}\u{1f600}\u{2028}"),
            ("the last", "the last", "the last"),
        ] {
            let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
            decoder.push(printed.as_bytes(), &mut batch, &mut decoded);
            assert!(!decoder.has_partial());
            decoder.finish(&mut batch, &mut decoded);
            let wanted = format!("{{\"stream\":\"stderr\",\"data\":\"{json}\"}}");
            assert_eq!(payloads(&batch), [wanted.as_bytes()]);
            let read: serde_json::Value = serde_json::from_str(&wanted).expect("JSON");
            assert_eq!(read, serde_json::json!({"stream": "stderr", "data": line}));
        }
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        decoder.push(b"a line over the limit\n", &mut batch, &mut decoded);
        assert_eq!((batch.ends.len(), decoded.overlong), (0, 1));
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        decoder.push(b"a\xff\xfeb\n", &mut batch, &mut decoded);
        let wanted = "{\"stream\":\"stderr\",\"data\":\"a\u{fffd}\u{fffd}b\"}";
        assert_eq!((payloads(&batch), decoded.bad_text), (vec![wanted.as_bytes()], 1));
    }

    #[test]
    fn a_message_of_a_language_server_is_text_without_its_header() {
        let mut decoder = Decoder::new(&Output::Lsp, 100);
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        decoder.push(b"Content-Length: 3\r\n\r\n{}\xffContent-Length: 9\r\n\r\n{", &mut batch, &mut decoded);
        assert_eq!(payloads(&batch), ["{}\u{fffd}".as_bytes()]);
        decoder.finish(&mut batch, &mut decoded);
        assert_eq!((decoded.bad_text, decoded.unfinished, decoded.broken), (1, 22, None));
        decoder.push(b"12345678Hello\n", &mut batch, &mut decoded);
        assert_eq!(decoded.broken, Some(Broken::Field));
    }

    #[test]
    fn a_message_that_names_rooms_is_narrowed_to_them() {
        let output = Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true, room: true };
        let mut decoder = Decoder::new(&output, 100);
        let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
        decoder.push(b"all\n{\"_room\":\"a\"}\n{\"_room\":5}\n", &mut batch, &mut decoded);
        assert_eq!((decoded.malformed, &decoded.rooms[..]), (1, &[(1, vec!["a".to_owned()].into())][..]));
        decoded.narrow(&[(1, "a"), (2, "b"), (3, "a")]);
        let sees = |id| -> usize { parts(&decoded, &batch, id).iter().map(Range::len).sum() };
        assert_eq!([sees(1), sees(2), sees(3)], [batch.bytes.len(), batch.range(0).len(), batch.bytes.len()]);
    }

    #[test]
    fn what_has_no_end_is_sent_when_asked_unless_it_may_be_private() {
        let delimited =
            |json| Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json, room: false };
        for (output, printed, wanted) in [
            (delimited(false), "a\nName: ", &["a", "Name: "] as &[&str]),
            (delimited(false), "a\n", &["a"]),
            (delimited(false), "{\"_to\":", &["{\"_to\":"]),
            (delimited(false), "123456789", &[]),
            (delimited(true), "Name: ", &["Name: "]),
            (delimited(true), " \t", &[]),
            (delimited(true), " {\"_to\":", &[]),
            (delimited(true), "[{", &["[{"]),
            (Output::Jsonl, "[1,", &[]),
            (Output::Gwsocket, "\0\0", &[]),
            (Output::Lsp, "Con", &[]),
        ] {
            let mut decoder = Decoder::new(&output, 8);
            let (mut batch, mut decoded) = (Batch::default(), Decoded::default());
            decoder.push(printed.as_bytes(), &mut batch, &mut decoded);
            let ended = batch.ends.len();
            let has_partial = decoder.has_partial();
            decoder.flush_partial(&mut batch, &mut decoded);
            assert_eq!(
                payloads(&batch),
                wanted.iter().map(|text| text.as_bytes()).collect::<Vec<_>>(),
                "{printed}"
            );
            assert_eq!(has_partial, batch.ends.len() > ended, "{printed}");
            assert!(!decoder.has_partial());
        }
    }
}
