//! Log lines: text or JSON on standard error, or as websocketd writes them on standard output. Nothing else in the
//! program prints.
//!
//! The thread that logs formats the line; the log thread writes it. Between them is a channel with a limit in bytes:
//! if the stream is not read, lines are dropped and counted, and no thread waits. Lines that repeat are held back,
//! see `repeats`.

mod escape;
mod line;
mod repeats;
#[cfg(feature = "websocketd")]
mod websocketd;
mod writer;

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

use self::line::{Draft, Line, Shape, Shared};
use self::repeats::{Kind, Repeat};
#[cfg(feature = "websocketd")]
pub(crate) use self::websocketd::Quoted;
use crate::config::{Level, LogConfig, LogFormat};
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::lock;
use crate::sys::threads::thread;

/// The largest number of bytes queued for the stream.
const BACKLOG: usize = 1024 * 1024;

/// How long the program waits for the last lines at its end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A handle to the log; cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shape: Shape,
    level: Level,
    lines: Sender<Line>,
    shared: Arc<Shared>,
}

impl Log {
    /// Starts the log thread. With `silent`, lines are discarded (standard error is the client).
    pub fn start(config: LogConfig, silent: bool) -> std::io::Result<Self> {
        let (lines, queue) = unbounded();
        let colour = !silent && config.format == LogFormat::Text && std::io::stderr().is_terminal();
        let shape = Shape { format: config.format, colour };
        let shared = Arc::<Shared>::default();
        thread("log", 64 * 1024, {
            let shared = Arc::clone(&shared);
            move || writer::run(&queue, shape, silent, &shared)
        })?;
        Ok(Self { inner: Arc::new(Inner { shape, level: config.level, lines, shared }) })
    }

    /// Whether a line of this level would be written.
    pub fn shows(&self, level: Level) -> bool {
        level <= self.inner.level
    }

    /// Begins a line; [`Entry::write`] logs it.
    #[inline(never)]
    pub fn at<'a>(&'a self, level: Level, message: &'a str) -> Entry<'a> {
        Entry {
            log: self,
            draft: self.shows(level).then(|| Box::new(self.inner.shape.draft(level, message))),
        }
    }

    /// Something failed that the operator has to fix.
    pub fn error<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(Level::Error, message)
    }

    /// Something was refused, dropped or given up.
    pub fn warn<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(Level::Warn, message)
    }

    /// Joins, leaves, starts, exits. Below the usual level in the log of websocketd, which has other lines for them.
    pub fn info<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(if self.is_websocketd() { Level::Debug } else { Level::Info }, message)
    }

    /// A line that a program printed on a stream.
    pub fn output<'a>(&'a self, stream: &'a str) -> Entry<'a> {
        self.at(if self.is_websocketd() { Level::Error } else { Level::Info }, stream)
    }

    /// Plain requests, signals, decisions.
    pub fn debug<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(Level::Debug, message)
    }

    /// Writes the lines that were held back because they repeat; called before the last line.
    pub fn settle(&self) {
        let Inner { shape, lines, shared, .. } = &*self.inner;
        let repeated = lock(&shared.repeats).due(Instant::now(), true);
        for line in repeated {
            let held = line.0.capacity();
            let line = shape.repeated(&[line]);
            shared.bytes.fetch_add(line.capacity(), Ordering::Relaxed);
            shared.bytes.fetch_sub(held, Ordering::Relaxed);
            let _ = lines.send(Line::Text(line));
        }
    }

    /// Waits until all lines so far have been written, at most [`LAST_LINES`].
    pub fn flush(&self) {
        self.settle();
        let written = Arc::<Bell>::default();
        if self.inner.lines.send(Line::Flush(Arc::clone(&written))).is_ok() {
            written.wait(Deadline::after(LAST_LINES));
        }
    }

    fn is_websocketd(&self) -> bool {
        #[cfg(feature = "websocketd")]
        return self.inner.shape.format == LogFormat::Websocketd;
        #[cfg(not(feature = "websocketd"))]
        false
    }

    fn push(&self, kind: &Kind<'_>, line: String) {
        let Shared { bytes, dropped, repeats } = &*self.inner.shared;
        let held = line.capacity();
        // It cannot fail: the log thread receives as long as there is a `Log`.
        let send = |line| drop(self.inner.lines.send(line));
        if bytes.fetch_add(held, Ordering::Relaxed) + held > BACKLOG {
            bytes.fetch_sub(held, Ordering::Relaxed);
            if dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                send(Line::Wake);
            }
            return;
        }
        if self.is_websocketd() && kind.level == Level::Access {
            // Monitoring counts these lines.
            return send(Line::Text(line));
        }
        let verdict = lock(repeats).line(kind, line, Instant::now());
        match verdict {
            Repeat::Write(line) => send(Line::Text(line)),
            Repeat::Kept { instead, begins } => {
                bytes.fetch_sub(instead.map_or(0, |line| line.capacity()), Ordering::Relaxed);
                if begins {
                    send(Line::Wake);
                }
            }
        }
    }
}

/// A log line that is not yet written.
#[must_use = "nothing is logged before `write`"]
pub struct Entry<'a> {
    log: &'a Log,
    /// `None` if the level is not shown.
    /// In a box, so that the methods move little.
    draft: Option<Box<Draft<'a>>>,
}

impl<'a> Entry<'a> {
    /// The room it is about; an empty name is none.
    pub fn room(mut self, room: &'a str) -> Self {
        if let Some(draft) = &mut self.draft {
            draft.room = Some(room).filter(|room| !room.is_empty());
        }
        self
    }

    /// The part of the server that it is about, in the log of websocketd.
    pub fn category(mut self, category: &'static str) -> Self {
        if let Some(draft) = &mut self.draft {
            draft.category = Some(category);
        }
        self
    }

    /// The process it is about, if there is one.
    pub fn pid(self, pid: Option<i32>) -> Self {
        match pid {
            Some(pid) => self.number("pid", pid),
            None => self,
        }
    }

    /// The client it is about, by id.
    pub fn client(mut self, id: u64) -> Self {
        if let Some(draft) = &mut self.draft {
            draft.client = Some(id);
        }
        self
    }

    /// Adds a field. The key is a plain word; the value is quoted and may be hostile.
    pub fn field(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, true);
        self
    }

    /// Adds a field; lines that differ in it are not repeats of each other.
    pub fn content(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, true);
        if let Some(draft) = &mut self.draft {
            draft.content = draft.last.clone();
        }
        self
    }

    /// Adds a field with a number, which is not quoted.
    pub fn number(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, false);
        self
    }

    /// Adds a field with a time in seconds, to the millisecond.
    pub fn seconds(self, key: &str, time: Duration) -> Self {
        self.number(key, format_args!("{}.{:03}", time.as_secs(), time.subsec_millis()))
    }

    /// Adds a field to JSON lines only: the message contains the value already.
    pub fn json_field(self, key: &str, value: impl Display) -> Self {
        match self.log.inner.shape.format {
            LogFormat::Json => self.field(key, value),
            _ => self,
        }
    }

    #[inline(never)]
    fn push(&mut self, key: &str, value: &dyn Display, quoted: bool) {
        if let Some(draft) = &mut self.draft {
            draft.push(key, value, quoted);
        }
    }

    /// Sends the line to the log thread.
    #[inline(never)]
    pub fn write(self) {
        let Some(mut draft) = self.draft else { return };
        let line = draft.finish();
        let kind = Kind {
            level: draft.level,
            message: draft.message,
            room: draft.room.unwrap_or_default(),
            content: &draft.fields[draft.content.clone()],
        };
        self.log.push(&kind, line);
    }
}
