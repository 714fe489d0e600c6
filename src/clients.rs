//! One client: a name, a number and a sink.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::framing::heads;
use crate::sink::{CloseOrder, Outbox, Stream, WriteResult};
use crate::sys::progress::end_timeout;
use crate::sys::tcp::unacknowledged;
use crate::sys::{lock, socket};

pub use crate::sys::progress::TRY_AGAIN;

/// How long the end of a stream may take without the client taking anything, and then without its answer.
pub const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The same, for both together, while the server is shutting down.
pub const SHUTDOWN_CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// A client that gave no sign of life for this many ping intervals is gone.
pub const GONE_AFTER: u32 = 3;

/// When a client's kernel last acknowledged something, as far as it was asked: what left our queue long ago may
/// still be on its way.
#[derive(Debug)]
pub struct Uptake {
    acknowledged: Option<i64>,
    /// The kernel could be asked: from then on its word is waited for.
    asked_kernel: bool,
    moved: Instant,
}

impl Uptake {
    /// Nothing is known before the first look.
    pub fn new(now: Instant) -> Self {
        Self { acknowledged: None, asked_kernel: false, moved: now }
    }

    /// Asks the kernel; says how many bytes it has acknowledged since the last time.
    pub fn observe(&mut self, client: &Client, now: Instant) -> u64 {
        let acknowledged = client.sink.acknowledged(self.asked_kernel);
        let Some((acknowledged, asked_kernel)) = acknowledged else { return 0 };
        self.asked_kernel = asked_kernel;
        let more = self.acknowledged.replace(acknowledged).map_or(0, |before| acknowledged - before);
        if more > 0 {
            self.moved = now;
        }
        u64::try_from(more).unwrap_or(0)
    }

    /// When that was last the case, or when the looking began.
    pub fn moved(&self) -> Instant {
        self.moved
    }
}

/// Messages of a client, and bytes of their payload.
#[derive(Debug, Default)]
pub struct Received {
    pub messages: AtomicU64,
    pub bytes: AtomicU64,
}

/// A client that has been upgraded, for as long as anybody knows it.
#[derive(Debug)]
pub struct Client {
    /// From 1, increasing, never reused, across rooms.
    pub id: u64,
    /// The room it asked for.
    pub room: Arc<str>,
    /// `ip:port`, or `unix:`.
    pub address: String,
    /// The query of its request, raw.
    pub query: String,
    /// Header fields of its request that join and leave messages speak of.
    pub headers: Vec<(String, String)>,
    /// When it was upgraded.
    pub since: Instant,
    /// What goes out.
    pub sink: Outbox,
    /// The socket: the connection's thread reads from it.
    pub stream: Arc<Stream>,
    /// Its messages that were for the program, and bytes of them.
    pub received: Received,
    /// Messages for it that were dropped because it was slow.
    pub dropped: AtomicU64,
    /// The close frame that the server has queued: code and reason.
    closed: Mutex<Option<(u16, Box<str>)>>,
    /// Its join has been told to the program.
    joined: AtomicBool,
    /// Its leave has been told to the program.
    left: Mutex<bool>,
    /// Its thread has ended, or is about to.
    finished: AtomicBool,
    /// Its kernel has acknowledged nothing for too long while its messages were not read.
    vanished: AtomicBool,
}

impl Client {
    /// A client on an upgraded socket; `queue` bytes may wait for it.
    pub fn new(
        id: u64,
        room: Arc<str>,
        address: String,
        query: String,
        headers: Vec<(String, String)>,
        stream: Arc<Stream>,
        queue: usize,
    ) -> Self {
        Self {
            id,
            room,
            address,
            query,
            headers,
            since: Instant::now(),
            sink: Outbox::new(Arc::clone(&stream), queue),
            stream,
            received: Received::default(),
            closed: Mutex::default(),
            dropped: AtomicU64::new(0),
            joined: AtomicBool::new(false),
            left: Mutex::new(false),
            finished: AtomicBool::new(false),
            vanished: AtomicBool::new(false),
        }
    }

    /// Its address without the port.
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Queues the close frame (RFC 6455 §7.4); the sink takes nothing more.
    pub fn close(&self, code: u16, reason: &str, ending: CloseOrder) -> WriteResult {
        // Held while the frame is written: the client may answer it at once.
        let mut closed = lock(&self.closed);
        let result = self.sink.close(&heads::close(code, reason), ending);
        if result != WriteResult::Refused {
            *closed = Some((code, reason.into()));
        }
        result
    }

    /// When the end of this client must be over if it begins now: see [`end_timeout`].
    pub fn close_deadline(&self, now: Instant) -> Instant {
        let owed = self.sink.status().left as u64 + unacknowledged(&self.stream).unwrap_or(0);
        now + end_timeout(CLOSE_TIMEOUT, owed)
    }

    /// Code and reason of the close frame that the server has queued, if it has.
    pub fn closed(&self) -> Option<(u16, Box<str>)> {
        lock(&self.closed).clone()
    }

    /// Whether the server still sends to it and listens to it.
    pub fn is_open(&self) -> bool {
        self.sink.is_open()
    }

    /// Ends it without further ado: its thread wakes, and what is unsent is thrown away with a reset.
    pub fn cut(&self) {
        self.sink.abandon();
        socket::reset_on_close(self.stream.as_fd());
        socket::wake_reader(self.stream.as_fd());
    }

    /// Wakes its thread from a read: there is nothing more to come that anybody waits for.
    pub fn wake(&self) {
        socket::wake_reader(self.stream.as_fd());
    }

    /// Notes that its join has been told to the program.
    pub fn mark_joined(&self) {
        self.joined.store(true, Ordering::Release);
    }

    /// Whether its join has been told to the program.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Tells its leave, once, whoever comes first; when this returns it has been told.
    pub fn leave_once(&self, tell: impl FnOnce()) {
        let mut left = lock(&self.left);
        if !std::mem::replace(&mut *left, true) {
            tell();
        }
    }

    /// Notes that its thread is done with it.
    pub fn mark_finished(&self) {
        // Before looking whether the reader minds it: see `Handle::members_changed`.
        self.finished.store(true, Ordering::SeqCst);
    }

    /// Whether its thread is done with it.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// Notes that nobody is there any more.
    pub fn mark_vanished(&self) {
        self.vanished.store(true, Ordering::Relaxed);
    }

    /// Whether that was noted.
    pub fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::Relaxed)
    }
}
