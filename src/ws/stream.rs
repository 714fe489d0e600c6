//! Reads the messages of a client with tungstenite: its configuration, its renewal and the meaning of its errors.

use std::io::ErrorKind;

use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Error};

use super::ahead::READ_BUFFER;
use super::close::Leave;
use super::socket_reader::SocketReader;
use crate::framing::heads::Kind;
use crate::room::Member;
use crate::service::Service;

/// The largest control frame, in bytes (RFC 6455 §5.5).
const CONTROL_FRAME: usize = 125;

/// After a larger message the buffer is not kept, even for a busy client.
const MAX_KEPT_BUFFER: usize = 64 * 1024;

/// The close reason if there is no memory map for a large message.
const NO_MAPS: Leave = Leave::Broken(1013, "out of memory maps, try again later");

/// See the module's documentation.
pub(super) struct MessageStream<'a> {
    context: WebSocketContext,
    reader: SocketReader<'a>,
    config: WebSocketConfig,
    /// Messages and control frames that were read.
    items: u64,
    /// Bytes of the largest message since the last renewal.
    largest: usize,
}

/// The result of a read.
pub(super) enum Item {
    Message(Kind, Bytes),
    /// A control frame, or a time-out.
    Nothing,
    End(Leave),
}

impl<'a> MessageStream<'a> {
    /// `rest` is what arrived after the request. Not inlined, to keep the stack frame of the calling loop small.
    #[inline(never)]
    pub(super) fn new(service: &Service, member: &'a Member, rest: Vec<u8>) -> Self {
        let limit = service.config.limits.message;
        // A control frame may be larger than the limit on messages.
        let largest_frame = limit.max(CONTROL_FRAME);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(largest_frame));
        let reader = SocketReader::new(member, rest, largest_frame, service.connections.maps());
        let context = WebSocketContext::new(Role::Server, Some(config));
        Self { context, reader, config, items: 0, largest: 0 }
    }

    /// Whether tungstenite has to be renewed before the next read: its buffer never shrinks.
    pub(super) fn needs_renewal(&self) -> bool {
        let reader = &self.reader;
        let too_much = self.largest > MAX_KEPT_BUFFER || self.largest > READ_BUFFER && !reader.is_busy();
        too_much && reader.is_read_out(self.items) || reader.needs_renewal()
    }

    /// Replaces tungstenite's context by one with a small buffer, after a pending pong was sent. The old one is empty.
    #[inline(never)]
    pub(super) fn renew(&mut self) {
        let _ = self.context.flush(&mut self.reader);
        self.context = WebSocketContext::new(Role::Server, Some(self.config));
        self.reader.renewed();
        self.largest = 0;
    }

    /// Whether another message has arrived completely, so that the next read does not wait.
    pub(super) fn has_more(&self) -> bool {
        self.reader.has_more(self.items)
    }

    pub(super) fn reader(&mut self) -> &mut SocketReader<'a> {
        &mut self.reader
    }

    /// Reads; waits at most for the receive time-out of the socket.
    pub(super) fn read(&mut self) -> Item {
        let read = self.context.read(&mut self.reader);
        self.items += u64::from(read.is_ok());
        let (kind, message) = match read {
            Ok(Message::Text(text)) => (Kind::Text, text.into()),
            Ok(Message::Binary(bytes)) => (Kind::Binary, bytes),
            Ok(Message::Close(frame)) => {
                let code = frame.map(|frame| self.reader.close_code(frame.code.into()));
                return Item::End(Leave::Closed(code));
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => return Item::Nothing,
            Err(Error::Io(e)) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Item::Nothing;
            }
            Err(Error::Io(_)) if self.reader.lacks_maps() => return Item::End(NO_MAPS),
            Err(e) => return Item::End(after_error(&e)),
        };
        self.largest = self.largest.max(message.len());
        Item::Message(kind, message)
    }
}

fn after_error(error: &Error) -> Leave {
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        Error::Protocol(ResetWithoutClosingHandshake) => Leave::Gone,
        Error::Protocol(_) => Leave::Broken(1002, "protocol error"),
        Error::Utf8(_) => Leave::Broken(1007, "text is not UTF-8"),
        Error::Capacity(_) => Leave::Broken(1009, "message too large"),
        _ => Leave::Gone,
    }
}
