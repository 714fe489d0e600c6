//! The end of a client (RFC 6455 §7): the close frames, then TCP.

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

/// How long, and how many bytes beyond one message, a client's remaining data is read and discarded.
const LAST_READ: Duration = Duration::from_secs(2);
const LAST_BYTES: usize = 1024 * 1024;

/// Why a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// A close frame arrived, with this code if it had one.
    Closed(Option<u16>),
    /// TCP ended without a close frame, or the server's close was not answered.
    Gone,
    /// No ping was answered.
    Silent,
    /// The server cannot read on: code and reason of its close.
    Broken(u16, &'static str),
}

/// Ends a client that has left its room.
#[inline(never)]
pub(super) fn end_client(service: &Service, client: &Arc<Client>, leave: Leave) {
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
        // The client may have closed only its own direction.
        Leave::Gone => client.close(1002, "ended without a close frame", CloseOrder::DropQueue),
        Leave::Broken(code, reason) => client.close(code, reason, CloseOrder::DropQueue),
        Leave::Silent => return end(service, client, false),
    };
    finish(service, client);
}

/// Writes the queued close frame, then ends TCP.
pub(super) fn finish(service: &Service, client: &Arc<Client>) {
    let written = write_out(service, client);
    end(service, client, written);
}

/// Writes what is still queued, including the close frame. Gives up if the client's kernel acknowledges nothing for five
/// seconds, less during a shutdown. Returns whether everything was written.
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

/// Ends TCP. If everything was written, without a reset, so that the close frame arrives; the rest of a message that was
/// too large is read and discarded. Otherwise with a reset.
fn end(service: &Service, client: &Arc<Client>, written: bool) {
    if written {
        let bytes = LAST_BYTES.saturating_add(service.config.limits.message);
        client.stream.end_gently(LAST_READ, bytes, || service.table.is_shutting_down());
    } else {
        client.sink.abandon();
        socket::reset_on_close(client.stream.as_fd());
    }
}
