//! The careful end of a client (RFC 6455 §7): the close frame out, the answer in, then TCP.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::clients::{CLOSE_TIMEOUT, Client, SHUTDOWN_CLOSE_TIMEOUT, TRY_AGAIN, Uptake};
use crate::counters::Count;
use crate::framing::heads;
use crate::service::Service;
use crate::sink::{CloseOrder, CloseState, WriteResult};
use crate::sys::deadline::Deadline;
use crate::sys::poll::ready;
use crate::sys::socket;

/// How long what a client still sends is read and thrown away, and how much of it beside one message.
const LAST_READ: Duration = Duration::from_secs(2);
const LAST_BYTES: usize = 1024 * 1024;

/// How a client came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// A close frame came, with this code if it had one.
    Closed(Option<u16>),
    /// TCP ended without one, or the server's own close went unanswered.
    Gone,
    /// Nothing came for too long, not even an answer to a ping.
    Silent,
    /// Ended by the server in the middle of what cannot be read on: code and reason.
    Broken(u16, &'static str),
}

/// The end of a client that has left its room: close frames, then TCP.
#[inline(never)]
pub(super) fn see_out(service: &Service, client: &Arc<Client>, leave: Leave) {
    if client.is_open() {
        service.counters.one(match leave {
            Leave::Closed(_) => Count::ClosedByClient,
            Leave::Gone | Leave::Silent => Count::ClosedGone,
            Leave::Broken(1009, _) => Count::ClosedTooLarge,
            Leave::Broken(1013, _) => Count::ClosedMaps,
            Leave::Broken(..) => Count::ClosedProtocol,
        });
    }
    let _ = match leave {
        Leave::Closed(code) => {
            let frame = code.map_or_else(heads::close_without_code, |code| heads::close(code, ""));
            client.sink.close(&frame, CloseOrder::DropQueue)
        }
        // It may have ended only its own direction.
        Leave::Gone => client.close(1002, "ended without a close frame", CloseOrder::DropQueue),
        Leave::Broken(code, reason) => client.close(code, reason, CloseOrder::DropQueue),
        Leave::Silent => return end(service, client, false),
    };
    finish(service, client);
}

/// The close frame has been queued: it is written out, then TCP ends.
pub(super) fn finish(service: &Service, client: &Arc<Client>) {
    let written = write_out(service, client);
    end(service, client, written);
}

/// Writes out what the sink still holds, its close frame included; gives up on a client whose kernel takes
/// nothing for five seconds, or less in a shutdown. Says whether all is out.
fn write_out(service: &Service, client: &Arc<Client>) -> bool {
    let started = Instant::now();
    let latest = client.close_deadline(started);
    let mut uptake = Uptake::new(started);
    loop {
        match client.sink.flush() {
            WriteResult::Clear => return client.sink.status().close_state == CloseState::Closed,
            WriteResult::Refused => return false,
            WriteResult::Waits { .. } => {
                let now = Instant::now();
                uptake.observe(client, now);
                let moved = client.sink.status().moved.max(uptake.moved()).max(started);
                let until = if service.table.is_shutting_down() {
                    started + SHUTDOWN_CLOSE_TIMEOUT
                } else {
                    (moved + CLOSE_TIMEOUT).min(latest)
                };
                let until = until.min(now + TRY_AGAIN);
                if until <= now || ready(client.stream.as_fd(), PollFlags::OUT, Deadline::at(until)).is_err()
                {
                    return false;
                }
            }
        }
    }
}

/// Ends TCP: gently where all is written out, so that the close frame arrives; with a reset otherwise. The rest of one
/// message that was too large is read away too.
fn end(service: &Service, client: &Arc<Client>, written: bool) {
    if written {
        let bytes = LAST_BYTES.saturating_add(service.config.limits.message);
        client.stream.end_gently(LAST_READ, bytes, || service.table.is_shutting_down());
    } else {
        client.sink.abandon();
        socket::reset_on_close(client.stream.as_fd());
    }
}
