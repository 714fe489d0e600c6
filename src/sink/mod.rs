//! Writing to a peer that may not read: a descriptor, and a bounded queue for what its kernel does not take.
//!
//! - [`outbox`]: frames to a client; [`stdin`]: messages to a program
//! - [`stream`]: the descriptor; [`tls`]: the same, encrypted
//!
//! A sender locks the sink and, if nothing waits, writes at once without blocking. What the kernel does not take is
//! queued. A thread that polls the descriptor (it *watches* the sink) writes the rest when the peer has read. The
//! lock is held from taking bytes off the queue until they are written, so each sender's order is kept. No call
//! blocks except [`Stdin::push_in_turn`], which waits for a turn.

mod frame_queue;
mod ledger;
mod outbox;
mod queue;
mod state;
mod stdin;
mod stream;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod turns;
mod writer;

pub use self::outbox::{CloseOrder, Outbox, Overflow, Status};
pub use self::state::{CloseState, PARTIAL, WriteResult};
pub use self::stdin::{Messages, Pushed, Stdin};
pub use self::stream::Stream;
