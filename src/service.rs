//! What every connection of a server shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;
use crate::counters::Counters;
use crate::face::Face;
use crate::log::Log;
use crate::room::Table;
use crate::slots::Slots;

/// The shared state of one server, built at start. Only its parts change.
pub struct Service {
    pub config: Arc<Config>,
    pub counters: Arc<Counters>,
    pub log: Log,
    pub table: Arc<Table>,
    pub connections: Arc<Slots>,
    pub face: Box<dyn Face>,
    ids: AtomicU64,
}

impl Service {
    pub fn new(
        config: Arc<Config>,
        counters: Arc<Counters>,
        log: Log,
        table: Arc<Table>,
        connections: Arc<Slots>,
        face: Box<dyn Face>,
    ) -> Arc<Self> {
        Arc::new(Self { config, counters, log, table, connections, face, ids: AtomicU64::new(0) })
    }

    /// The next client's id: from 1, never reused.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }
}
