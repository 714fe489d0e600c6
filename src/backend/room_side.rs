//! The room as its backend sees it, and what all backends of a server share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::clients::Client;
use crate::counters::Counters;
use crate::framing::batch::Batch;
use crate::framing::output::Decoded;
use crate::log::Log;
use crate::sys::limits::Maps;
use crate::sys::process::{FirstExit, Processes};

/// What all backends of a server share.
#[derive(Clone)]
pub struct Shared {
    /// The server is shutting down.
    pub ending: Arc<AtomicBool>,
    pub log: Log,
    pub counters: Arc<Counters>,
    pub maps: Arc<Maps>,
    /// All processes that run.
    pub processes: Arc<Processes>,
    /// The exit of the first program that ended.
    pub first_exit: Arc<FirstExit>,
}

/// How a backend ended, or that it could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With status 0, or by the end of its connection.
    Done,
    /// It was stopped.
    Stopped,
    /// With another status, by a signal, or before it ran.
    Failed,
}

/// The clients of a room in a shutdown.
pub struct Departed {
    /// All members; the room has none any more.
    pub members: Vec<Arc<Client>>,
    /// Leave notices that are not sent yet, each with its client.
    pub leaves: Vec<(Arc<Client>, Vec<u8>)>,
}

/// A room as its backend sees it.
pub trait RoomSide: Send + Sync {
    fn name(&self) -> &str;
    /// Adds a batch to the history and gives the members, under one lock: a client that joins meanwhile gets the batch
    /// once, as a member or from the history.
    fn members_for(&self, batch: &Batch, decoded: &Decoded) -> Arc<[Arc<Client>]>;
    /// Sets the metadata of the room: JSON.
    fn set_metadata(&self, metadata: Vec<u8>);
    fn member_count(&self) -> usize;
    /// Since when the room has had neither members nor clients about to join, if it has none.
    fn empty_since(&self) -> Option<Instant>;
    /// `--linger` is over. If the room is still empty since then, says yes, and no client joins this backend any more.
    fn end_linger(&self, since: Instant) -> bool;
    /// Whether a backend that is being started is still wanted.
    fn is_wanted(&self) -> bool;
    /// No client joins this backend any more.
    fn backend_ending(&self);
    /// Removes all members in a shutdown: they get no more output.
    fn remove_members(&self) -> Departed;
    /// The backend has ended, after it had run for `lived`. Gives its members; the next client gets a new backend.
    fn backend_ended(&self, outcome: Outcome, lived: Duration) -> Vec<Arc<Client>>;
    /// The process cannot be reaped. Gives its members; the room is refused until the process is gone.
    fn backend_stuck(&self) -> Vec<Arc<Client>>;
    /// The reader's thread ends.
    fn reader_ended(&self);
}
