//! What every connection of a server shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;
use crate::counters::Counters;
use crate::http::files::FileServer;
use crate::log::Log;
use crate::room::Table;
use crate::slots::Slots;

/// One server's shared state: built at start, only read from then on, but for what is inside its parts.
pub struct Service {
    /// What it was asked to do.
    pub config: Config,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Where it logs.
    pub log: Log,
    /// Its rooms.
    pub table: Arc<Table>,
    /// Its connections.
    pub connections: Arc<Slots>,
    /// Its static files, if any.
    pub files: Option<FileServer>,
    ids: AtomicU64,
}

impl Service {
    /// Puts the parts together.
    pub fn new(
        config: Config,
        counters: Arc<Counters>,
        log: Log,
        table: Arc<Table>,
        connections: Arc<Slots>,
        files: Option<FileServer>,
    ) -> Arc<Self> {
        Arc::new(Self { config, counters, log, table, connections, files, ids: AtomicU64::new(0) })
    }

    /// The next client's number: from 1, never reused.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }
}
