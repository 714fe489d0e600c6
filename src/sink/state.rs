//! What the parts of a sink have in common: how far it is, and the answer to each call.

use std::io::IoSlice;

use rustix::io::Errno;

/// Parts handed to one `writev`; far below `IOV_MAX` (1024), enough for one buffer's worth.
pub(super) const MAX_SLICES: usize = 64;

/// The error of a read that has received bytes, but none that a caller can have yet: a part of a TLS record.
pub const PARTIAL: Errno = Errno::INPROGRESS;

/// How far a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseState {
    /// Takes data.
    Open,
    /// Takes nothing more; what waits is still written.
    Closing,
    /// Everything is written, the end included.
    Closed,
    /// The peer is gone, or the sink was abandoned. What waited is dropped.
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

/// What waits to be written.
pub(super) trait Pending {
    fn is_empty(&self) -> bool;
    /// Adds what to write next, about `limit` bytes and always some. Call [`Pending::advance`] afterwards.
    fn next<'a>(&'a mut self, limit: usize, slices: &mut Vec<IoSlice<'a>>);
    /// Notes that `written` bytes of what [`Pending::next`] gave are out.
    fn advance(&mut self, written: usize);
    fn clear(&mut self);
}
