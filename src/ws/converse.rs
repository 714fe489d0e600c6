//! What a client does, once it is in: each message that it sends goes straight to the program, one blocking read
//! after the other. What the program says never passes through here.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tungstenite::Error;
use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

use super::ahead::READ_BUFFER;
use super::close::Leave;
use super::inbound::{Inbound, Waited};
use super::liveness::Clock;
use super::socket_reader::SocketReader;
use crate::framing::heads::Kind;
use crate::room::Member;
use crate::service::Service;

/// The largest control frame, in bytes (RFC 6455 §5.5).
const CONTROL_FRAME: usize = 125;

/// A message of more bytes leaves a buffer behind that is not kept even for a client that sends much.
const MAX_KEPT_BUFFER: usize = 64 * 1024;

/// Why a client is closed whose large message there is no memory map for.
const NO_MAPS: &str = "out of memory maps, try again later";

/// The loop of a client: a message in, a line to the program.
///
/// Not inlined: it may run for days, and the stack above it decides how much memory an idle client takes.
#[inline(never)]
pub(super) fn converse(service: &Service, member: &Member, rest: Vec<u8>) -> Leave {
    let client = member.client();
    let limits = &service.config.limits;
    // A control frame is no message: one may be larger than those may be.
    let largest_frame = limits.message.max(CONTROL_FRAME);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(largest_frame));
    let stream = SocketReader::new(member, rest, largest_frame, service.connections.maps());
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    let mut inbound = Inbound::new(service, member);
    let (mut items, mut largest) = (0u64, 0);
    let mut clock = Clock::new(service);
    let ending = loop {
        let too_much = largest > MAX_KEPT_BUFFER || largest > READ_BUFFER && !socket.get_ref().is_busy();
        if too_much && socket.get_ref().is_read_out(items) || socket.get_ref().needs_renewal() {
            // tungstenite keeps its buffer as large as the largest message made it, for good. One that holds
            // nothing can be had anew. A pong that it still owes goes first.
            let _ = socket.flush();
            socket = WebSocket::from_raw_socket(socket.into_inner(), Role::Server, Some(config));
            socket.get_mut().renewed();
            largest = 0;
        }
        // What has come already is read without waiting.
        if !socket.get_ref().has_more(items) {
            if inbound.flush() == Waited::Yes {
                clock.liveness.stood_still(Instant::now());
            }
            if !socket.get_ref().is_busy() {
                inbound.shrink();
                socket.get_mut().give_back_maps();
            }
            if client.has_vanished() {
                break Leave::Silent;
            }
            if let Some(ending) = clock.look(service, member, socket.get_mut()) {
                break ending;
            }
        }
        let read = socket.read();
        items += u64::from(read.is_ok());
        let (kind, message) = match read {
            Ok(Message::Text(text)) => (Kind::Text, text.into()),
            Ok(Message::Binary(bytes)) => (Kind::Binary, bytes),
            Ok(Message::Close(frame)) => {
                let code = frame.map(|frame| socket.get_ref().close_code(frame.code.into()));
                break Leave::Closed(code);
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Err(Error::Io(e)) if is_timeout(&e) => continue,
            Err(Error::Io(_)) if socket.get_ref().lacks_maps() => break Leave::Broken(1013, NO_MAPS),
            Err(e) => break after_error(&e),
        };
        largest = largest.max(message.len());
        clock.liveness.message(socket.get_ref().heard());
        if !client.is_open() {
            // The server has said its last word already: what comes now is not for the program.
            inbound.ignore();
            continue;
        }
        client.received.messages.fetch_add(1, Ordering::Relaxed);
        client.received.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
        if inbound.take(kind, &message, socket.get_ref().has_more(items)) == Waited::Yes {
            clock.liveness.stood_still(Instant::now());
        }
    };
    let _ = inbound.flush();
    ending
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
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
