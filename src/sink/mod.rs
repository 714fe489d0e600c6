//! What is written to somebody who may not read: a descriptor, and a bounded queue for what its kernel does not take.
//!
//! - [`outbox`]: frames to a client; [`stdin`]: messages to a program
//! - [`stream`]: the descriptor
//!
//! A sender locks the sink and, if nothing waits, writes at once without blocking. What the kernel does not take is
//! queued, and a thread that polls the descriptor (it *watches* the sink) goes on when the other end has read. The
//! mutex is held over pop, write and put back, so the order of each sender is kept. No call in here blocks, except
//! [`Stdin::push_in_turn`], which is made for it.

mod frame_queue;
mod ledger;
mod outbox;
mod queue;
mod stdin;
mod stream;
mod turns;
mod writer;

pub use self::outbox::{CloseOrder, Outbox, Overflow, Status};
pub use self::stdin::{Messages, Pushed, Stdin};
pub use self::stream::Stream;

/// Parts handed to one `writev`; far below `IOV_MAX` (1024), enough for one buffer's worth.
const MAX_SLICES: usize = 64;

/// How far a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseState {
    /// Takes data.
    Open,
    /// Takes nothing more; what waits is still written.
    Closing,
    /// All is written, the end included.
    Closed,
    /// The other end is gone, or this one gave up: what waited is thrown away.
    Broken,
}

/// The result of handing something to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "where something waits, a thread has to watch the sink"]
pub enum WriteResult {
    /// Nothing waits.
    Clear,
    /// Something waits.
    Waits {
        /// No thread watches this sink. A caller that can wake one calls `claim_watch` and does so.
        needs_watcher: bool,
    },
    /// The sink takes nothing more.
    Refused,
}
