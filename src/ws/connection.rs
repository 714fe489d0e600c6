//! The thread of one connection: requests, the upgrade, then one blocking read after the other, each
//! message straight to the program. What the program says never passes through here.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tungstenite::Error;
use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

use super::close;
use super::inbound::{Inbound, Waited, still_there};
use super::liveness::{Liveness, Verdict};
use super::socket_reader::{READ_BUFFER, SocketReader};
use crate::clients::{CLOSE_TIMEOUT, Client, Uptake};
use crate::config::Level;
use crate::counters::Count;
use crate::framing::frames::{self, Kind};
use crate::http::head::{Head, HeadError};
use crate::http::plain::{self, KEEP_ALIVE, MAX_REQUESTS};
use crate::http::respond::{Reply, refuse, refuse_for, switching_protocols};
use crate::http::route::{Offers, Route, UpgradeRequest, route};
use crate::http::send::Peer;
use crate::http::{cgi, origin, receive, subprotocol};
use crate::room::{JoinError, Member, ReserveError, Room};
use crate::service::Service;
use crate::sink::{CloseOrder, Stream};
use crate::slots::ConnectionSlot;
use crate::sys::deadline::Deadline;
use crate::sys::poll::ready;
use crate::sys::threads::set_name;

/// The largest control frame, in bytes (RFC 6455 §5.5).
const CONTROL_FRAME: usize = 125;

/// A message of more bytes leaves a buffer behind that is not kept even for a client that sends much.
const MAX_KEPT_BUFFER: usize = 64 * 1024;

/// A client that sent much and then nothing for so long has its buffers taken away.
const LULL: Duration = Duration::from_secs(1);

/// Why a client is closed whose large message there is no memory map for.
const NO_MAPS: &str = "out of memory maps, try again later";

/// Serves one connection to its end. `peer` is missing on a unix socket.
pub fn serve(
    service: &Arc<Service>,
    stream: &Arc<Stream>,
    peer: Option<SocketAddr>,
    connection: &ConnectionSlot,
) {
    let mut rest = Vec::new();
    let offers = Offers { api: service.config.api, metrics: service.config.metrics.is_some() };
    for number in 1..=MAX_REQUESTS {
        // The first request has the handshake's time in all; a later one may keep us waiting first.
        if number > 1
            && rest.is_empty()
            && !ready(stream.as_fd(), PollFlags::IN, Deadline::after(KEEP_ALIVE)).unwrap_or(false)
        {
            return;
        }
        let deadline = Deadline::after(service.config.times.handshake);
        let head = match receive::receive(stream.as_fd(), rest, deadline) {
            Ok((head, behind)) => {
                rest = behind;
                head
            }
            Err(e) => return refuse_head(service, stream, peer, &e),
        };
        connection.has_asked();
        let reply = match route(&head, offers) {
            Ok(Route::Upgrade(request)) => {
                let member = upgrade(service, stream, peer, connection, &head, request);
                // A conversation may last for days and needs nothing of its request.
                drop(head);
                if let Some(member) = member {
                    let ending = converse(service, &member, rest);
                    let client = Arc::clone(member.client());
                    // The room first: it must not wait for the manners that follow.
                    drop(member);
                    see_out(service, &client, ending);
                }
                return;
            }
            Ok(Route::Plain(what)) => super::plain::reply(service, &head, &what),
            Err(refusal) => refusal,
        };
        log_request(service, peer, &head, &reply);
        let http = http_peer(service, stream);
        let last = number == MAX_REQUESTS || http.cutoff.get().is_some();
        match plain::answer(http, &head, reply, last) {
            Ok(plain::Next::KeepAlive) => {}
            Ok(plain::Next::Close) => return,
            Err(e) => return log_unsent(service, peer, &head, &e),
        }
    }
}

fn http_peer<'a>(service: &'a Service, stream: &'a Stream) -> Peer<'a> {
    Peer { socket: stream.as_fd(), cutoff: service.connections.cutoff() }
}

fn refuse_head(service: &Service, stream: &Stream, peer: Option<SocketAddr>, error: &HeadError) {
    if let Some(status) = error.status() {
        log_refusal(service, peer, "", status, &error.to_string());
        // Nobody may be there to read it.
        let _ = plain::answer_and_end(http_peer(service, stream), refuse(status, &error.to_string()));
    } else {
        service
            .log
            .debug("connection without a request")
            .field("address", address(peer))
            .field("error", error)
            .write();
    }
}

/// A request for a room: checked, given a slot, switched over, joined. Not in line, as what comes after it: the
/// deepest of them decides how many pages of its stack each client keeps.
#[inline(never)]
fn upgrade(
    service: &Arc<Service>,
    stream: &Arc<Stream>,
    peer: Option<SocketAddr>,
    connection: &ConnectionSlot,
    head: &Head,
    request: UpgradeRequest,
) -> Option<Member> {
    let refuse_with = |reply: Reply, reason: &dyn Display, count: Count| {
        // First of all: whoever reads the refusal may come again at once.
        connection.give_address_back();
        service.counters.one(count);
        log_refusal(service, peer, &request.room, reply.status, &reason.to_string());
        let _ = plain::answer(http_peer(service, stream), head, reply, true);
        None
    };
    if let Err(refused) = origin::check(&service.config.origin, head) {
        return refuse_with(refuse(403, "Origin not allowed"), &refused, Count::RefusedOrigin);
    }
    if let (Some(most), Some(peer)) = (service.config.limits.address_clients, peer)
        && !connection.claim_address(peer.ip(), most)
    {
        let reason = "Too many clients from this address";
        return refuse_with(refuse(429, reason), &reason, Count::RefusedLimit);
    }
    let slot = match service.table.reserve(&request.room) {
        Ok(slot) => slot,
        Err(e @ ReserveError::NotAllowed) => {
            return refuse_with(refuse(400, &e.to_string()), &e, Count::RefusedBad);
        }
        Err(e) => {
            let reply = match e {
                ReserveError::Failing(_, pause) => refuse_for(&e.to_string(), pause),
                _ => refuse(503, &e.to_string()),
            };
            return refuse_with(reply, &e, Count::RefusedLimit);
        }
    };
    let (address, limits) = (address(peer), &service.config.limits);
    let protocol = subprotocol::choose(&request.protocols, &service.config.protocols);
    let answer = switching_protocols(&request.accept, protocol);
    connection.is_upgraded();
    let client = || {
        let id = service.next_id();
        let client = Client::new(
            id,
            request.room.as_str().into(),
            address,
            request.query,
            Arc::clone(stream),
            service.config.recipe.max_queue,
        );
        // It leaves when the client is on the room's list, so that it misses nothing that is said once it
        // knows that it is in.
        client.sink.queue_handshake(answer);
        Arc::new(client)
    };
    let mut hung_up = None;
    let cgi = || {
        if service.config.recipe.program().is_some_and(|program| program.cgi_environment) {
            cgi::variables(head, peer)
        } else {
            Vec::new()
        }
    };
    let stay = |client: &Arc<Client>, moved| still_there(client, &mut hung_up, moved);
    let (client, joined) = Room::join(slot, client, &cgi, stay);
    let id = client.id;
    let e = match joined {
        Ok(member) => {
            set_name(&format!("conn {id}"));
            return Some(member);
        }
        Err(e) => e,
    };
    let (code, count) = match e {
        JoinError::ShuttingDown => (1001, Count::ClosedShutdown),
        JoinError::Gone => (1011, Count::ClosedGone),
        JoinError::Start(_) | JoinError::Stuck | JoinError::Failing(_) => (1011, Count::ClosedFailure),
    };
    service.counters.one(count);
    let _ = client.close(code, &e.to_string(), CloseOrder::DropQueue);
    let written = close::write_out(&client, || service.table.is_shutting_down());
    service.log.warn("client not admitted").room(&request.room).client(id).field("reason", e).write();
    close::end(&client, written, limits.message, || service.table.is_shutting_down());
    None
}

/// How a conversation came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversation {
    /// A close frame came, with this code if it had one.
    Closed(Option<u16>),
    /// TCP ended without one, or the server's own close went unanswered.
    Gone,
    /// Nothing came for too long, not even an answer to a ping.
    Silent,
    /// Ended by us, in the middle of what cannot be read on.
    Broken(u16, &'static str),
}

/// The loop of a client: a message in, a line to the program.
#[inline(never)]
fn converse(service: &Service, member: &Member, rest: Vec<u8>) -> Conversation {
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
                break Conversation::Silent;
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
                break Conversation::Closed(code);
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Err(Error::Io(e)) if is_timeout(&e) => continue,
            Err(Error::Io(_)) if socket.get_ref().lacks_maps() => break Conversation::Broken(1013, NO_MAPS),
            Err(e) => break after_error(&e),
        };
        largest = largest.max(message.len());
        clock.liveness.message(socket.get_ref().heard());
        if !client.is_open() {
            // The server has said its last word already: what comes now is not for the program.
            inbound.ignore();
            continue;
        }
        client.received.fetch_add(message.len() as u64, Ordering::Relaxed);
        if inbound.take(kind, &message, socket.get_ref().has_more(items)) == Waited::Yes {
            clock.liveness.stood_still(Instant::now());
        }
    };
    let _ = inbound.flush();
    inbound.report();
    ending
}

/// When a client is to be pinged, is gone, or has been idle for too long.
struct Clock {
    liveness: Liveness,
    uptake: Uptake,
    /// A verdict was deferred once, to read what is in the socket first.
    put_off: bool,
    /// The socket's receive time-out.
    timeout: Option<Duration>,
}

impl Clock {
    fn new(service: &Service) -> Self {
        let now = Instant::now();
        let liveness = Liveness::new(&service.config.times, now);
        Self { liveness, uptake: Uptake::new(now), put_off: false, timeout: None }
    }

    /// Looks at the clock before a read and sets the read's time-out; pings where that is due.
    fn look(
        &mut self,
        service: &Service,
        member: &Member,
        stream: &mut SocketReader<'_>,
    ) -> Option<Conversation> {
        let client = member.client();
        self.liveness.lives(stream.heard());
        let wait = loop {
            let now = Instant::now();
            let verdict = self.liveness.judge(now);
            if let Verdict::Wait(wait) = verdict {
                self.put_off = false;
                break wait;
            }
            if !client.is_open() {
                // A close is on its way, and the reader of the room sees to its end.
                self.liveness.stood_still(now);
                break Some(CLOSE_TIMEOUT);
            }
            if matches!(verdict, Verdict::Ping | Verdict::Gone) {
                // Acknowledged data counts as a sign of life; an acknowledged ping alone does not.
                let takes = self.uptake.observe(client, now) > frames::ping().len() as u64;
                if self.liveness.lives(if takes { now } else { client.sink.status().moved }) {
                    continue;
                }
            }
            if verdict == Verdict::Ping {
                member.mind(client.sink.ping(frames::ping()));
                continue;
            }
            // This process may have been stopped until now: what has come meanwhile is looked at first.
            let unread = ready(client.stream.as_fd(), PollFlags::IN, Deadline::after(Duration::ZERO));
            if unread.unwrap_or(false) && !std::mem::replace(&mut self.put_off, true) {
                return None;
            }
            if verdict == Verdict::Gone {
                return Some(Conversation::Silent);
            }
            service
                .log
                .info("client closed: idle for too long")
                .client(client.id)
                .number("code", 1008)
                .write();
            service.counters.one(Count::ClosedIdle);
            let _ = client.close(1008, "idle for too long", CloseOrder::DropQueue);
            member.see_through();
        };
        stream.look_at(wait.and_then(|wait| Instant::now().checked_add(wait)));
        let wait = if stream.is_busy() { Some(wait.map_or(LULL, |wait| wait.min(LULL))) } else { wait };
        // A time-out that strikes early costs one more turn; only one that would strike late, or none
        // where one is due, is worth a system call.
        let early_enough = match (self.timeout, wait) {
            (Some(set), Some(wait)) => set <= wait && set.saturating_mul(4) >= wait,
            (None, None) => true,
            _ => false,
        };
        if !early_enough {
            // Rounded up: the kernel counts in ticks of up to 10 ms and would strike before its time.
            let set = wait.map(|wait| wait.max(Duration::from_millis(1)));
            if set_socket_timeout(&client.stream, Timeout::Recv, set).is_ok() {
                self.timeout = wait;
            }
        }
        None
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn after_error(error: &Error) -> Conversation {
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        Error::Protocol(ResetWithoutClosingHandshake) => Conversation::Gone,
        Error::Protocol(_) => Conversation::Broken(1002, "protocol error"),
        Error::Utf8(_) => Conversation::Broken(1007, "text is not UTF-8"),
        Error::Capacity(_) => Conversation::Broken(1009, "message too large"),
        _ => Conversation::Gone,
    }
}

/// The end of a client that has left its room: close frames, then TCP.
#[inline(never)]
fn see_out(service: &Service, client: &Arc<Client>, ending: Conversation) {
    let log = &service.log;
    if client.is_open() {
        service.counters.one(match ending {
            Conversation::Closed(_) => Count::ClosedByClient,
            Conversation::Gone | Conversation::Silent => Count::ClosedGone,
            Conversation::Broken(1009, _) => Count::ClosedTooLarge,
            Conversation::Broken(1013, _) => Count::ClosedMaps,
            Conversation::Broken(..) => Count::ClosedProtocol,
        });
    }
    let written = match ending {
        Conversation::Closed(code) => {
            let frame = code.map_or_else(frames::close_without_code, |code| frames::close(code, ""));
            let _ = client.sink.close(&frame, CloseOrder::DropQueue);
            close::write_out(client, || service.table.is_shutting_down())
        }
        Conversation::Gone => {
            // It may have ended only its own direction; if nobody is there, nobody minds.
            let _ = client.close(1002, "ended without a close frame", CloseOrder::DropQueue);
            close::write_out(client, || service.table.is_shutting_down())
        }
        Conversation::Silent => {
            log.info("client gone: no answer to a ping").client(client.id).write();
            false
        }
        Conversation::Broken(code, reason) => {
            log.info("client closed").client(client.id).number("code", code).field("reason", reason).write();
            let _ = client.close(code, reason, CloseOrder::DropQueue);
            close::write_out(client, || service.table.is_shutting_down())
        }
    };
    close::end(client, written, service.config.limits.message, || service.table.is_shutting_down());
}

fn address(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix:".to_owned(), |peer| peer.to_string())
}

/// Refusals are worth a look, the rest is for the curious. Queries stay out of the log: there are tokens in them.
fn log_request(service: &Service, peer: Option<SocketAddr>, head: &Head, reply: &Reply) {
    let refused = reply.status >= 400 && head.is_handshake();
    let (level, message) = if refused { (Level::Warn, "refused") } else { (Level::Debug, "request") };
    let line = service.log.at(level, message).field("address", address(peer)).field("method", head.method());
    let line = if refused { line.field("path", head.path()) } else { line.content("path", head.path()) };
    let mut line = line.number("status", reply.status);
    if refused {
        service.counters.one(Count::RefusedBad);
        line = line.field("reason", reply.reason());
    }
    line.write();
}

/// `room` is empty where none is known.
fn log_refusal(service: &Service, peer: Option<SocketAddr>, room: &str, status: u16, reason: &str) {
    let line = service.log.warn("refused");
    let line = if room.is_empty() { line } else { line.room(room) };
    line.field("address", address(peer)).number("status", status).field("reason", reason).write();
}

/// A response that did not reach its end.
fn log_unsent(service: &Service, peer: Option<SocketAddr>, head: &Head, error: &io::Error) {
    let level = if error.kind() == io::ErrorKind::TimedOut {
        service.counters.one(Count::ResponsesCut);
        Level::Info
    } else {
        // The client has gone.
        Level::Debug
    };
    service
        .log
        .at(level, "response cut off")
        .field("address", address(peer))
        .field("path", head.path())
        .field("reason", error)
        .write();
}
