//! Cuts large frames of a client into fragments before tungstenite reads them. tungstenite allocates memory for the
//! whole payload when it has read the header of a frame; this way, memory grows with the data that has arrived, not with
//! what a header announces. Pure. Messages, and whether they are valid, do not change.
//!
//! It also keeps tungstenite's buffers below the size at which musl's allocator gives each a memory map of its own
//! (131,052 bytes; below that, seven or more share one), because the number of maps is limited: see
//! [`Maps`](crate::sys::limits::Maps). Only a large message that is assembled from pieces takes more; for that, maps are
//! reserved first.

use std::ops::Range;

/// The payload of a piece. A multiple of the length of the masking key, so that the key is valid for each piece.
const PIECE: u64 = 32 * 1024;

/// A message in a single frame of up to this size passes unchanged, without a copy.
const WHOLE: u64 = 120 * 1024;

/// The largest message that tungstenite can assemble from several frames below musl's limit: its buffer doubles as it
/// grows.
const LIGHT: u64 = 63 * 1024;

/// The largest payload of a control frame (RFC 6455 §5.5).
const CONTROL: u64 = 125;

/// The longest header of a frame (RFC 6455 §5.2).
const HEADER: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const CONTROLS: u8 = 0x08;
const MASK: u8 = 0x80;

/// The length of a frame's header, as far as this part shows it.
pub(super) fn header_length(part: &[u8]) -> usize {
    let Some(&second) = part.get(1) else { return 2 };
    let mask = if second & MASK == 0 { 0 } else { 4 };
    mask + match second & !MASK {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// The length of the payload, from a complete header.
pub(super) fn payload_length(header: &[u8]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    match header[1] & !MASK {
        126 => number(&header[2..4]),
        127 => number(&header[2..10]),
        length => u64::from(length),
    }
}

/// What has to be done before the next frame can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// tungstenite has to be renewed: its buffer would double instead of growing by the size of the frame.
    NewBuffer,
    /// Memory maps have to be reserved for a large message. See [`Pieces::grant`].
    Maps,
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Pass it unchanged.
    Pass,
    /// Cut it into pieces.
    Cut,
    /// A control frame that is too long: pass enough for tungstenite to reject it.
    Truncate,
    Wait(Need),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pieces {
    /// The largest frame that is allowed. A larger one passes unchanged; tungstenite rejects it by its header.
    limit: u64,
    piece: u64,
    whole: u64,
    light: u64,
    /// The header of the next frame, as far as it has arrived, or of the frame that is being cut.
    header: [u8; HEADER],
    have: usize,
    /// A header for tungstenite, and the part of it that was not given yet.
    out: [u8; HEADER],
    owed: Range<usize>,
    /// The payload of the current piece or frame, and how much of it is missing.
    size: u64,
    left: u64,
    /// Payload of the frame after this piece.
    behind: u64,
    /// Between the fragments of a message.
    inside: bool,
    /// Bytes of the message that is being assembled, including the current piece.
    together: u64,
    /// The largest frame that fits into tungstenite's buffer as it is.
    room: u64,
    /// The largest message that arrived in pieces since memory maps were granted. Further ones of up to this size pass
    /// unchanged, which saves copies.
    proven: u64,
    /// Nothing has passed since tungstenite was renewed.
    fresh: bool,
    granted: bool,
    need: Option<Need>,
}

impl Pieces {
    /// For frames of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit as u64,
            piece: PIECE,
            whole: WHOLE,
            light: LIGHT,
            header: [0; HEADER],
            have: 0,
            out: [0; HEADER],
            owed: 0..0,
            size: 0,
            left: 0,
            behind: 0,
            inside: false,
            together: 0,
            room: 0,
            proven: 0,
            fresh: true,
            granted: false,
            need: None,
        }
    }

    /// What has to be done before more can pass.
    pub(super) fn need(&self) -> Option<Need> {
        self.need
    }

    /// tungstenite was renewed and has a small buffer.
    pub(super) fn renew(&mut self) {
        (self.fresh, self.room) = (true, 0);
        self.need = self.need.filter(|&need| need != Need::NewBuffer);
    }

    /// Memory maps for a large message were reserved.
    pub(super) fn grant(&mut self) {
        self.granted = true;
        self.need = self.need.filter(|&need| need != Need::Maps);
    }

    /// They were released.
    pub(super) fn revoke(&mut self) {
        (self.granted, self.proven) = (false, 0);
    }

    /// Whether tungstenite may have a buffer with a memory map of its own.
    pub(super) fn is_large(&self) -> bool {
        let goes_on = self.inside || self.left > 0 || self.behind > 0 || !self.owed.is_empty();
        self.room > self.whole || self.together > self.light && goes_on
    }

    /// Whether something can be given although no more data has arrived.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty() || self.behind == 0 && self.is_header_here()
    }

    /// Returns how many of the next bytes pass unchanged. They count as given; the bytes after them must go through
    /// [`Pieces::pass`].
    pub(super) fn unchanged(&mut self, bytes: &[u8]) -> usize {
        if self.have > 0 || !self.owed.is_empty() {
            return 0;
        }
        let mut at = 0;
        loop {
            at += self.payload(bytes.len() - at);
            let rest = &bytes[at..];
            let length = header_length(rest);
            if self.left > 0 || rest.len() < length || self.plan(&rest[..length]) != Plan::Pass {
                return at;
            }
            self.begin(&rest[..length]);
            at += length;
            if self.starts_long() {
                return at;
            }
        }
    }

    /// Gives what it can of the next bytes, `from`. Returns how many it has taken, and how many it has written to `into`.
    /// If it gives nothing and needs nothing, more data must arrive first.
    pub(super) fn pass(&mut self, from: &[u8], into: &mut [u8]) -> (usize, usize) {
        let (mut taken, mut given, mut wanted) = (0, 0, None);
        while given < into.len() && !(given > 0 && self.starts_long()) {
            let (from, into) = (&from[taken..], &mut into[given..]);
            if !self.owed.is_empty() {
                let step = self.owed.len().min(into.len());
                into[..step].copy_from_slice(&self.out[self.owed.start..][..step]);
                self.owed.start += step;
                given += step;
            } else if self.left > 0 || self.have == 0 {
                let most = from.len().min(into.len());
                let step = if self.have == 0 { self.unchanged(&from[..most]) } else { self.payload(most) };
                into[..step].copy_from_slice(&from[..step]);
                taken += step;
                given += step;
                if step == 0 && !self.take_byte(from, &mut taken) {
                    break;
                }
            } else if self.behind > 0 {
                if from.is_empty() {
                    break;
                }
                if self.needs_maps(self.behind.min(self.piece)) {
                    wanted = Some(Need::Maps);
                    break;
                }
                self.next_piece(false);
            } else if !self.is_header_here() {
                if !self.take_byte(from, &mut taken) {
                    break;
                }
            } else {
                wanted = self.begin_from_header();
                if wanted.is_some() {
                    break;
                }
            }
        }
        // Only after tungstenite has read everything before.
        self.need = wanted.filter(|_| given == 0);
        (taken, given)
    }

    fn take_byte(&mut self, from: &[u8], taken: &mut usize) -> bool {
        let Some(&byte) = from.first() else { return false };
        if self.left > 0 {
            return false;
        }
        self.header[self.have] = byte;
        self.have += 1;
        *taken += 1;
        true
    }

    /// Counts up to `most` bytes of the current payload as given.
    fn payload(&mut self, most: usize) -> usize {
        let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        self.left -= step as u64;
        step
    }

    fn is_header_here(&self) -> bool {
        self.have >= header_length(&self.header[..self.have])
    }

    /// A long payload begins. The read ends here, so that tungstenite's buffer is empty when it grows.
    fn starts_long(&self) -> bool {
        self.left > self.piece && self.left == self.size && self.owed.is_empty()
    }

    /// Begins the next frame: its header is complete and the payload before it was given.
    fn begin_from_header(&mut self) -> Option<Need> {
        let (header, length) = (self.header, self.have);
        match self.plan(&header[..length]) {
            Plan::Pass => {
                self.begin(&header[..length]);
                (self.out, self.owed) = (header, 0..length);
                self.have = 0;
            }
            Plan::Cut => {
                self.behind = payload_length(&header[..length]);
                self.next_piece(true);
            }
            Plan::Truncate => {
                self.size = CONTROL + 1;
                self.left = self.size;
                self.write_header(header[0]);
                self.have = 0;
            }
            Plan::Wait(need) => return Some(need),
        }
        None
    }

    fn plan(&self, header: &[u8]) -> Plan {
        let (first, length) = (header[0], payload_length(header));
        if length > self.limit {
            return Plan::Pass;
        }
        if first & CONTROLS != 0 {
            return if length > CONTROL { Plan::Truncate } else { Plan::Pass };
        }
        let alone = first & FIN != 0 && first & OPCODE != 0 && !self.inside;
        if alone && length <= self.whole.max(self.proven) {
            return if length <= self.piece || length <= self.room || self.fresh {
                Plan::Pass
            } else {
                Plan::Wait(Need::NewBuffer)
            };
        }
        if self.needs_maps(length.min(self.piece)) {
            Plan::Wait(Need::Maps)
        } else if length > self.piece {
            Plan::Cut
        } else {
            Plan::Pass
        }
    }

    /// Whether this many more bytes make the assembled message a large one.
    fn needs_maps(&self, more: u64) -> bool {
        let before = if self.inside { self.together } else { 0 };
        !self.granted && before + more > self.light
    }

    /// Begins a frame that passes unchanged.
    fn begin(&mut self, header: &[u8]) {
        let (first, length) = (header[0], payload_length(header));
        (self.size, self.left) = (length, length);
        if first & CONTROLS == 0 {
            self.count(length, first & FIN != 0);
            if length > self.piece {
                self.room = self.room.max(length);
            }
        }
        self.fresh = false;
    }

    /// Counts a piece of a message, or its only frame.
    fn count(&mut self, length: u64, last: bool) {
        let goes_on = self.inside || !last;
        let before = if self.inside { self.together } else { 0 };
        self.together = if goes_on { before + length } else { 0 };
        if last && self.granted {
            self.proven = self.proven.max(self.together);
        }
        self.inside = !last;
    }

    /// Begins the next piece of the frame that is being cut.
    fn next_piece(&mut self, is_first: bool) {
        let length = self.behind.min(self.piece);
        self.behind -= length;
        (self.size, self.left) = (length, length);
        let original = self.header[0];
        let last = self.behind == 0 && original & FIN != 0;
        let opcode = if is_first { original & OPCODE } else { 0 };
        self.count(length, last);
        self.write_header(if last { FIN } else { 0 } | original & RESERVED | opcode);
        self.fresh = false;
        if self.behind == 0 {
            self.have = 0;
        }
    }

    /// Prepares the header of a piece of `size` bytes, with the masking key of the frame.
    fn write_header(&mut self, first: u8) {
        let masked = self.header[1] & MASK;
        let length = self.size.to_be_bytes();
        let (second, length) = match self.size {
            0..126 => (self.size as u8, &length[8..]),
            126..65_536 => (126, &length[6..]),
            _ => (127, &length[..]),
        };
        let key = if masked == 0 { &[][..] } else { &self.header[self.have - 4..self.have] };
        let end = 2 + length.len();
        self.out[..2].copy_from_slice(&[first, masked | second]);
        self.out[2..end].copy_from_slice(length);
        self.out[end..end + key.len()].copy_from_slice(key);
        self.owed = 0..end + key.len();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

    use super::super::ahead::READ_BUFFER;
    use super::super::ahead::{Filled, Given, Inlet};
    use super::*;

    /// A simple generator (xorshift64), so that each run is the same.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }

        fn one_in(&mut self, many: usize) -> bool {
            self.below(many) == 0
        }
    }

    fn frame(first: u8, masked: bool, payload: &[u8], announced: u64) -> Vec<u8> {
        let mask = if masked { MASK } else { 0 };
        let mut bytes = vec![first];
        match announced {
            0..126 => bytes.push(mask | announced as u8),
            126..65_536 => {
                bytes.push(mask + 126);
                bytes.extend_from_slice(&(announced as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask + 127);
                bytes.extend_from_slice(&announced.to_be_bytes());
            }
        }
        let key = if masked { [1, 0x82, 0x43, 0xc4] } else { [0; 4] };
        bytes.extend_from_slice(&key[..if masked { 4 } else { 0 }]);
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// A stream of up to eight frames, most of them sound, with a limit on messages of `limit`.
    fn frames(numbers: &mut Numbers, limit: usize) -> Vec<u8> {
        let (mut bytes, mut inside) = (Vec::new(), false);
        for _ in 0..=numbers.below(8) {
            if numbers.one_in(4) {
                let first = FIN | [0x08, 0x09, 0x0a, 0x09][numbers.below(4)];
                let length = if numbers.one_in(8) { numbers.below(300) } else { numbers.below(126) };
                let mut payload = vec![b'c'; length];
                // The code of a close.
                payload.iter_mut().zip([3, 0xe8]).for_each(|(byte, code)| *byte = code);
                bytes.extend(frame(first, true, &payload, length as u64));
                continue;
            }
            let last = numbers.one_in(2);
            let opcode = if inside { 0 } else { 1 + numbers.below(2) as u8 };
            let mut first = if last { FIN } else { 0 } | opcode;
            inside = !last;
            if numbers.one_in(20) {
                // Another opcode, reserved bits, a control frame in fragments.
                first = numbers.below(256) as u8;
            }
            let most = [8, 40, 130, 400, limit + 2][numbers.below(5)];
            let length = numbers.below(most);
            // Characters of two, three and four bytes, so that pieces and reads end inside of them.
            let text = "aé€😀".as_bytes();
            let mut payload: Vec<u8> = text.iter().copied().cycle().take(length / 10 * 10).collect();
            if numbers.one_in(20) {
                payload.resize(length, 0xff);
            }
            let announced = if numbers.one_in(20) { length as u64 + 100_000 } else { payload.len() as u64 };
            bytes.extend(frame(first, !numbers.one_in(40), &payload, announced));
        }
        bytes
    }

    /// What comes of a socket in reads of all sizes.
    struct Socket<'a> {
        bytes: &'a [u8],
        numbers: Numbers,
        /// The largest read.
        most: usize,
        inlet: Option<Inlet>,
    }

    impl Socket<'_> {
        fn come(bytes: &mut &[u8], numbers: &mut Numbers, most: usize, into: &mut [u8]) -> usize {
            let step = (1 + numbers.below(most)).min(into.len()).min(bytes.len());
            into[..step].copy_from_slice(&bytes[..step]);
            *bytes = &bytes[step..];
            step
        }
    }

    impl Read for Socket<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Self { bytes, numbers, most, inlet } = self;
            let Some(inlet) = inlet else { return Ok(Self::come(bytes, numbers, *most, buffer)) };
            loop {
                match inlet.give(buffer) {
                    Given::Bytes(given) => return Ok(given),
                    Given::Nothing(Some(Need::NewBuffer)) => return Err(io::ErrorKind::WouldBlock.into()),
                    Given::Nothing(Some(Need::Maps)) => inlet.pieces.grant(),
                    Given::Nothing(None) => {
                        let read = |into: &mut [u8]| Ok(Self::come(bytes, numbers, *most, into));
                        match inlet.ahead.fill(buffer, read)? {
                            Filled::Bytes(0) | Filled::Ahead(0) => return Ok(0),
                            Filled::Ahead(_) => {}
                            Filled::Bytes(read) => match inlet.pass_unchanged(&buffer[..read]) {
                                0 => {}
                                unchanged => return Ok(unchanged),
                            },
                        }
                    }
                }
            }
        }
    }

    impl Write for Socket<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What tungstenite makes of it: messages, and how it ends.
    fn read_all(socket: Socket<'_>, buffer: usize, limit: usize) -> (Vec<Message>, String) {
        let config = WebSocketConfig::default()
            .read_buffer_size(buffer)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit.max(125)));
        let mut messages = Vec::new();
        let mut socket = WebSocket::from_raw_socket(socket, Role::Server, Some(config));
        loop {
            if let Some(inlet) = &mut socket.get_mut().inlet
                && inlet.pieces.need() == Some(Need::NewBuffer)
            {
                inlet.pieces.renew();
                socket = WebSocket::from_raw_socket(socket.into_inner(), Role::Server, Some(config));
            }
            match socket.read() {
                Ok(message) => messages.push(message),
                Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(tungstenite::Error::Utf8(_)) => return (messages, "not UTF-8".to_owned()),
                Err(tungstenite::Error::Capacity(_)) => return (messages, "too large".to_owned()),
                Err(e) => return (messages, e.to_string()),
            }
        }
    }

    fn small(limit: usize) -> Pieces {
        Pieces { piece: 16, whole: 60, light: 100, ..Pieces::new(limit.max(125)) }
    }

    #[test]
    fn what_is_read_in_pieces_is_what_was_sent() {
        let mut numbers = Numbers(0x5eed);
        let (mut messages, mut ends) = (0, std::collections::BTreeSet::new());
        for round in 0..6000 {
            let limit = [50, 300, 1000][numbers.below(3)];
            let (most, buffer) = ([1, 7, 40, 1500][numbers.below(4)], [64, READ_BUFFER][numbers.below(2)]);
            let bytes = frames(&mut numbers, limit);
            let behind_request = numbers.below(bytes.len() + 1) * numbers.below(2);
            let socket = |inlet: Option<Inlet>| Socket {
                bytes: if inlet.is_some() { &bytes[behind_request..] } else { &bytes },
                numbers: Numbers(round + 1),
                most,
                inlet,
            };
            let wanted = read_all(socket(None), buffer, limit);
            let mut inlet = Inlet::new(bytes[..behind_request].to_vec(), limit);
            inlet.pieces = small(limit);
            let mut got = read_all(socket(Some(inlet)), buffer, limit);
            // A text that is no UTF-8 and grows too large as well: what is seen first.
            if wanted.1 == "too large" && got.1 == "not UTF-8" {
                got.1.clone_from(&wanted.1);
            }
            assert_eq!(got, wanted, "round {round}, {bytes:x?}");
            messages += wanted.0.len();
            ends.insert(wanted.1);
        }
        assert!(messages > 6000 && ends.len() > 8, "{messages} messages, {ends:?}");
    }

    /// What is handed out of a stream, with what was needed on the way.
    fn cut(pieces: &mut Pieces, mut bytes: &[u8]) -> (Vec<u8>, Vec<Need>) {
        let (mut out, mut needs) = (Vec::new(), Vec::new());
        let mut into = [0; 1000];
        loop {
            let (taken, given) = pieces.pass(bytes, &mut into);
            bytes = &bytes[taken..];
            out.extend_from_slice(&into[..given]);
            if let Some(need) = pieces.need() {
                assert_eq!(given, 0, "a read was cut although more was not requested");
                needs.push(need);
                pieces.renew();
                pieces.grant();
            } else if given == 0 {
                return (out, needs);
            }
        }
    }

    #[test]
    fn a_large_frame_comes_out_as_frames_of_a_bounded_size() {
        let payload = [0; 40];
        let piece = |first: u8, length: usize| frame(first, true, &payload[..length], length as u64);
        let header = |first: u8, announced: u64| frame(first, true, b"", announced);
        for (whole, pieces) in [
            // As it is.
            (piece(0x81, 16), vec![piece(0x81, 16)]),
            (piece(0x81, 17), vec![piece(0x81, 17)]),
            // Cut: opcode and reserved bits on the first one, the end on the last.
            (header(0x82, 70), vec![header(0x02, 16)]),
            (header(0xc1, 70), vec![header(0x41, 16)]),
            (piece(0x02, 40), vec![piece(0x02, 16), piece(0x00, 16), piece(0x00, 8)]),
            (piece(0x80, 40), vec![piece(0x00, 16), piece(0x00, 16), piece(0x80, 8)]),
            // Refused by its header, which comes through at once.
            (header(0x82, 1001), vec![header(0x82, 1001)]),
            (header(0x82, u64::MAX), vec![header(0x82, u64::MAX)]),
            // No control frame is as long as that.
            (header(0x89, 1000), vec![header(0x89, 126)]),
        ] {
            let (out, _) = cut(&mut small(1000), &whole);
            assert_eq!(out, pieces.concat(), "{whole:x?}");
        }
    }

    #[test]
    fn memory_maps_are_asked_for_before_a_message_in_pieces_grows_large() {
        use Need::{Maps, NewBuffer};
        let part = |first: u8, length: usize| frame(first, true, &vec![0; length], length as u64);
        for (frames, needs, large) in [
            (vec![part(0x82, 60), part(0x82, 50)], vec![], false),
            (vec![part(0x82, 9), part(0x82, 50), part(0x82, 50), part(0x82, 51)], vec![NewBuffer; 2], false),
            (vec![part(0x02, 50), part(0x00, 50)], vec![], false),
            (vec![part(0x02, 50), part(0x00, 50), part(0x00, 1)], vec![Maps], true),
            (vec![part(0x02, 50), part(0x00, 50), part(0x89, 9), part(0x00, 1)], vec![Maps], true),
            (vec![part(0x02, 50), part(0x80, 50), part(0x02, 50)], vec![], false),
            (vec![part(0x82, 100)], vec![], false),
            (vec![part(0x82, 101)], vec![Maps], false),
            // The second as large as the first comes whole, a larger one does not.
            (vec![part(0x82, 101), part(0x82, 101)], vec![Maps, NewBuffer], true),
            (vec![part(0x82, 101), part(0x82, 102)], vec![Maps], false),
            // As much as has come, not what is announced.
            (vec![frame(0x82, true, &[0; 90], 900)], vec![], false),
            (vec![frame(0x82, true, &[0; 100], 900)], vec![Maps], true),
        ] {
            let mut pieces = small(1000);
            let (_, needed) = cut(&mut pieces, &frames.concat());
            assert_eq!((&needed, pieces.is_large()), (&needs, large), "{frames:x?}");
        }
    }
}
