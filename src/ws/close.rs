//! The careful end of a connection (RFC 6455 §7): the close frame out, the answer in, then TCP.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::clients::{CLOSE_TIMEOUT, Client, SHUTDOWN_CLOSE_TIMEOUT, TRY_AGAIN, Uptake};
use crate::sink::{CloseState, WriteResult};
use crate::sys::deadline::Deadline;
use crate::sys::poll::ready;
use crate::sys::socket;

/// How long what a client still sends is read and thrown away, and how much of it beside one message.
const LAST_READ: Duration = Duration::from_secs(2);
const LAST_BYTES: usize = 1024 * 1024;

/// Writes out what the sink still holds, its close frame included; gives up on a client whose kernel takes
/// nothing for five seconds, or less in a shutdown. Says whether all is out.
pub(super) fn write_out(client: &Arc<Client>, shutting_down: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    let mut uptake = Uptake::new(started);
    loop {
        match client.sink.flush() {
            WriteResult::Clear => return client.sink.status().close_state == CloseState::Closed,
            WriteResult::Refused => return false,
            WriteResult::Waits { .. } => {
                let now = Instant::now();
                uptake.observe(client, now);
                let moved = client.sink.status().moved.max(uptake.moved()).max(started);
                let until =
                    if shutting_down() { started + SHUTDOWN_CLOSE_TIMEOUT } else { moved + CLOSE_TIMEOUT };
                let until = until.min(now + TRY_AGAIN);
                if until <= now || ready(client.stream.as_fd(), PollFlags::OUT, Deadline::at(until)).is_err()
                {
                    return false;
                }
            }
        }
    }
}

/// Ends TCP: gently where all is written out, so that the close frame arrives; with a reset otherwise.
/// `message` is `--maxmessage`: the rest of one message that was too large is read away too.
pub(super) fn end(client: &Arc<Client>, written: bool, message: usize, shutting_down: impl Fn() -> bool) {
    if written {
        socket::end_gently(
            client.stream.as_fd(),
            LAST_READ,
            LAST_BYTES.saturating_add(message),
            shutting_down,
        );
    } else {
        client.sink.abandon();
        socket::reset_on_close(client.stream.as_fd());
    }
}
