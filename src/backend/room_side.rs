//! What a backend and its room know of each other: the room as the backend sees it, and what all backends of a server
//! share.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::clients::Client;
use crate::counters::Counters;
use crate::framing::batch::Batch;
use crate::framing::output::Decoded;
use crate::log::Log;
use crate::sys::limits::Maps;
use crate::sys::process::{Exit, Processes};

/// What all backends of a server share.
#[derive(Clone)]
pub struct Shared {
    /// The server is shutting down: slow clients are given up early.
    pub ending: Arc<AtomicBool>,
    pub log: Log,
    pub counters: Arc<Counters>,
    /// What its threads take.
    pub maps: Arc<Maps>,
    /// All processes that live.
    pub processes: Arc<Processes>,
    /// How the first program ended.
    pub first_exit: Arc<OnceLock<Exit>>,
}

/// How a backend ended, or that it could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With status 0, or by the end of its connection.
    Done,
    /// It was told to stop.
    Stopped,
    /// With another status, by a signal, or before it ran.
    Failed,
}

/// Clients that were closed because the server shuts down, before the backend knows.
pub struct Departed {
    /// The members: the room has none any more.
    pub members: Vec<Arc<Client>>,
    /// Leave notices that the backend has not got yet, each with its client.
    pub leaves: Vec<(Arc<Client>, Vec<u8>)>,
}

/// A room as its backend sees it.
pub trait RoomSide: Send + Sync {
    /// The room's name.
    fn name(&self) -> &str;
    /// Adds a batch to the history and gives, in the same moment, the members that are to get it: a client that joins
    /// gets it once, either way.
    fn members_for(&self, batch: &Batch, decoded: &Decoded) -> Arc<[Arc<Client>]>;
    /// Metadata of the room, as the backend said it: JSON.
    fn set_metadata(&self, metadata: Vec<u8>);
    /// How many members there are.
    fn member_count(&self) -> usize;
    /// Since when there are neither members nor clients about to join, if that is so.
    fn empty_since(&self) -> Option<Instant>;
    /// The room has been empty since then for as long as `--linger` allows. Says whether that is still so; if it is,
    /// no client joins this backend any more.
    fn end_linger(&self, since: Instant) -> bool;
    /// Whether a backend that is still being started is wanted.
    fn is_wanted(&self) -> bool;
    /// The backend is about to end: no client joins it any more.
    fn backend_ending(&self);
    /// The server shuts down: takes the members off the list, so that they hear nothing more from the backend.
    fn remove_members(&self) -> Departed;
    /// The backend has ended, so long after its start. Gives back its members; the next client gets a new backend.
    fn backend_ended(&self, outcome: Outcome, lived: Duration) -> Vec<Arc<Client>>;
    /// The process cannot be reaped: as [`RoomSide::backend_ended`], but no client gets a new one until it is gone.
    fn backend_stuck(&self) -> Vec<Arc<Client>>;
    /// The reader's thread is done.
    fn reader_ended(&self);
}
