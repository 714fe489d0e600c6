//! One client: its id, its room's name, its outbox and its socket.

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

/// How long a client that is closed may take nothing, and then how long it may leave the close frame unanswered.
pub const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The same for both together in a shutdown.
pub const SHUTDOWN_CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// A client from which nothing came for this many ping intervals is gone.
pub const GONE_AFTER: u32 = 3;

/// When a client's kernel last acknowledged something: what has left our queue may still be on its way.
#[derive(Debug)]
pub struct Uptake {
    acknowledged: Option<i64>,
    /// Our kernel has given the number once: from then on only its answers count.
    asked_kernel: bool,
    moved: Instant,
}

impl Uptake {
    pub fn new(now: Instant) -> Self {
        Self { acknowledged: None, asked_kernel: false, moved: now }
    }

    /// Asks our kernel; says how many bytes more are acknowledged than at the last time.
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

    /// When the number last grew, or the time given to `new`.
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

/// A client that has been upgraded.
#[derive(Debug)]
pub struct Client {
    /// From 1, increasing, never reused, unique across rooms.
    pub id: u64,
    /// The room it asked for.
    pub room: Arc<str>,
    /// `ip:port`, or `unix:`.
    pub address: String,
    /// The query of its request, raw.
    pub query: String,
    /// Header fields of its request that join and leave messages name.
    pub headers: Vec<(String, String)>,
    /// When it was upgraded.
    pub since: Instant,
    pub sink: Outbox,
    /// The socket; the connection's thread reads it.
    pub stream: Arc<Stream>,
    /// Its messages to the backend.
    pub received: Received,
    /// Messages for it that were dropped because it was slow.
    pub dropped: AtomicU64,
    /// The close frame that the server has queued: code and reason.
    closed: Mutex<Option<(u16, Box<str>)>>,
    /// Its join has been sent to the backend.
    joined: AtomicBool,
    /// Its leave has been sent to the backend.
    left: Mutex<bool>,
    /// Its thread has ended, or is about to.
    finished: AtomicBool,
    /// Its kernel has acknowledged nothing for too long while it waited for its turn.
    vanished: AtomicBool,
}

impl Client {
    /// `queue` is how many bytes may wait for the client.
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

    /// Queues the close frame (RFC 6455 §7.4); the sink takes nothing more.
    pub fn close(&self, code: u16, reason: &str, ending: CloseOrder) -> WriteResult {
        // Locked while the frame is written: the client may answer it at once.
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

    /// Code and reason of the close frame that the server has queued.
    pub fn closed(&self) -> Option<(u16, Box<str>)> {
        lock(&self.closed).clone()
    }

    /// Whether the server still sends to it and listens to it.
    pub fn is_open(&self) -> bool {
        self.sink.is_open()
    }

    /// Ends the connection at once: its thread wakes, and the socket is closed with a reset, without what is unsent.
    pub fn cut(&self) {
        self.sink.abandon();
        socket::reset_on_close(self.stream.as_fd());
        socket::wake_reader(self.stream.as_fd());
    }

    /// Wakes its thread from a read: nothing more is read from the client.
    pub fn wake(&self) {
        socket::wake_reader(self.stream.as_fd());
    }

    /// Notes that its join has been sent to the backend.
    pub fn mark_joined(&self) {
        self.joined.store(true, Ordering::Release);
    }

    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Calls `send` unless the leave has been sent. When this returns, it has been, here or by another thread.
    pub fn leave_once(&self, send: impl FnOnce()) {
        let mut left = lock(&self.left);
        if !std::mem::replace(&mut *left, true) {
            send();
        }
    }

    /// Notes that its thread is done with it. To be called before [`Handle::members_changed`].
    ///
    /// [`Handle::members_changed`]: crate::backend::Handle::members_changed
    pub fn mark_finished(&self) {
        self.finished.store(true, Ordering::SeqCst);
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// Notes that the client is gone without a close.
    pub fn mark_vanished(&self) {
        self.vanished.store(true, Ordering::Relaxed);
    }

    pub fn has_vanished(&self) -> bool {
        self.vanished.load(Ordering::Relaxed)
    }
}
