//! Log lines, text or JSON, on standard error. Nothing else in the program prints.
//!
//! A line is formatted by the thread that has something to say and written by one thread of its
//! own, behind a channel whose bytes are counted and bounded: a standard error that nobody reads
//! drops lines and counts them, and never holds anybody up. Lines that repeat are held back: `repeats`.

mod escape;
mod repeats;
mod writer;

use std::fmt::{Display, Write as _};
use std::io::IsTerminal as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, unbounded};

use self::escape::{Plain, push_json_string, quote_json_string, quote_text_value};
use self::repeats::{Kind, Repeat, Repeats};
use crate::config::{Level, LogConfig, LogFormat};
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::lock;
use crate::sys::threads::thread;

/// Bytes of memory held by lines that may wait for standard error.
const BACKLOG: usize = 1024 * 1024;

/// How long the last lines may take at the end of the program.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What is sent to the log thread.
enum Line {
    Text(String),
    /// There is something to tell, now or in a while.
    Look,
    /// Rung when all lines before it have been written.
    Flush(Arc<Bell>),
}

/// What the handles and the log thread share.
#[derive(Default)]
struct Shared {
    /// MapGuard by lines that are not written yet.
    bytes: AtomicUsize,
    /// Lines that were lost, and not told of yet.
    dropped: AtomicU64,
    repeats: Mutex<Repeats>,
}

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
    /// Starts the log thread. With `silent`, lines go nowhere (standard error is the client).
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

    /// A line of the given level; nothing happens before [`Entry::write`].
    #[inline(never)]
    pub fn at<'a>(&'a self, level: Level, message: &'a str) -> Entry<'a> {
        Entry { log: self, draft: self.shows(level).then(|| self.inner.shape.draft(level, message)) }
    }

    /// Something failed that somebody has to mend.
    pub fn error<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(Level::Error, message)
    }

    /// Something was refused, dropped or given up.
    pub fn warn<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(Level::Warn, message)
    }

    /// Joins, leaves, starts, exits.
    pub fn info<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(Level::Info, message)
    }

    /// Plain requests, signals, decisions.
    pub fn debug<'a>(&'a self, message: &'a str) -> Entry<'a> {
        self.at(Level::Debug, message)
    }

    /// Hands over what was held back because it repeats: before a last line, which is to come last.
    pub fn settle(&self) {
        let Inner { shape, lines, shared, .. } = &*self.inner;
        let mut told = Vec::new();
        lock(&shared.repeats).due(Instant::now(), true, |line, lines| told.push((line, lines)));
        told.sort_unstable();
        for line in told {
            let held = line.0.capacity();
            let line = shape.repeated(&[line]);
            shared.bytes.fetch_add(line.capacity(), Ordering::Relaxed);
            shared.bytes.fetch_sub(held, Ordering::Relaxed);
            let _ = lines.send(Line::Text(line));
        }
    }

    /// Waits, for a bounded time, until all lines so far have been written.
    pub fn flush(&self) {
        self.settle();
        let written = Arc::<Bell>::default();
        if self.inner.lines.send(Line::Flush(Arc::clone(&written))).is_ok() {
            written.wait(Deadline::after(LAST_LINES));
        }
    }

    fn push(&self, kind: &Kind<'_>, line: String) {
        let Shared { bytes, dropped, repeats } = &*self.inner.shared;
        let held = line.capacity();
        // It is received for as long as there is a handle.
        let send = |line| drop(self.inner.lines.send(line));
        if bytes.fetch_add(held, Ordering::Relaxed) + held > BACKLOG {
            bytes.fetch_sub(held, Ordering::Relaxed);
            if dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                send(Line::Look);
            }
            return;
        }
        let verdict = lock(repeats).line(kind, line, Instant::now());
        match verdict {
            Repeat::Write(line) => send(Line::Text(line)),
            Repeat::Kept { instead, begins } => {
                bytes.fetch_sub(instead.map_or(0, |line| line.capacity()), Ordering::Relaxed);
                if begins {
                    send(Line::Look);
                }
            }
        }
    }
}

/// A log line that is being put together.
#[must_use = "nothing is logged before `write`"]
pub struct Entry<'a> {
    log: &'a Log,
    /// If it is to be written.
    draft: Option<Draft<'a>>,
}

impl<'a> Entry<'a> {
    /// The room it is about; an empty name is none.
    pub fn room(mut self, room: &'a str) -> Self {
        if let Some(draft) = &mut self.draft {
            draft.room = Some(room).filter(|room| !room.is_empty());
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

    /// One more thing worth knowing. Keys are plain words; values may be anything, hostile included.
    pub fn field(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, true);
        self
    }

    /// The same for what sets lines of one message apart: only those that agree in it are repeated.
    pub fn content(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, true);
        if let Some(draft) = &mut self.draft {
            draft.content = draft.last.clone();
        }
        self
    }

    /// The same for a number: bare in JSON.
    pub fn number(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, false);
        self
    }

    /// The same for a time, in seconds, to the millisecond.
    pub fn seconds(self, key: &str, time: Duration) -> Self {
        self.number(key, format_args!("{}.{:03}", time.as_secs(), time.subsec_millis()))
    }

    /// A field of JSON lines alone, whose value stands in the message already.
    pub fn json_field(self, key: &str, value: impl Display) -> Self {
        match self.log.inner.shape.format {
            LogFormat::Json => self.field(key, value),
            LogFormat::Text => self,
        }
    }

    fn push(&mut self, key: &str, value: &dyn Display, quoted: bool) {
        if let Some(draft) = &mut self.draft {
            draft.push(key, value, quoted);
        }
    }

    /// Hands the line over.
    #[inline(never)]
    pub fn write(self) {
        let Some(mut draft) = self.draft else { return };
        let line = draft.finish();
        let kind = Kind {
            level: draft.level,
            message: draft.message,
            room: draft.room.unwrap_or_default(),
            content: &draft.fields[draft.content],
        };
        self.log.push(&kind, line);
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy)]
struct Shape {
    format: LogFormat,
    colour: bool,
}

/// The parts of a line.
struct Draft<'a> {
    shape: Shape,
    /// Its beginning: time and level.
    text: String,
    level: Level,
    message: &'a str,
    room: Option<&'a str>,
    client: Option<u64>,
    fields: String,
    /// Where in the fields the last value stands, and the one that sets it apart.
    last: Range<usize>,
    content: Range<usize>,
}

impl Shape {
    fn draft(self, level: Level, message: &str) -> Draft<'_> {
        let mut draft = Draft {
            shape: self,
            text: String::with_capacity(256),
            level,
            message,
            room: None,
            client: None,
            fields: String::with_capacity(128),
            last: 0..0,
            content: 0..0,
        };
        draft.begin();
        draft
    }

    /// Lines that were not written when they came, each with how many it stands for.
    fn repeated(self, told: &[(String, u64)]) -> String {
        let (end, key) = match self.format {
            LogFormat::Text => ("\n", " repeated="),
            LogFormat::Json => ("}\n", ",\"repeated\":"),
        };
        let mut text = String::new();
        for (line, lines) in told {
            let _ = write!(text, "{}{key}{lines}{end}", line.strip_suffix(end).unwrap_or(line));
        }
        text
    }
}

impl Draft<'_> {
    fn begin(&mut self) {
        let (name, paint) = match self.level {
            Level::Error => ("ERROR", "31"),
            Level::Warn => ("WARN", "33"),
            Level::Info => ("INFO", "32"),
            Level::Debug => ("DEBUG", "34"),
            Level::Trace => ("TRACE", "35"),
        };
        let time = Timestamp(SystemTime::now());
        let _ = match (self.shape.format, self.shape.colour) {
            (LogFormat::Json, _) => {
                write!(self.text, "{{\"time\":\"{time}\",\"level\":\"{}\"", name.to_ascii_lowercase())
            }
            (LogFormat::Text, true) => write!(self.text, "{time} \x1b[{paint}m{name:5}\x1b[0m"),
            (LogFormat::Text, false) => write!(self.text, "{time} {name:5}"),
        };
    }

    /// Not for each kind of value anew, and not in line: logging is everywhere, and never hot.
    #[inline(never)]
    fn push(&mut self, key: &str, value: &dyn Display, quoted: bool) {
        let fields = &mut self.fields;
        let _ = match self.shape.format {
            LogFormat::Text => write!(fields, " {key}="),
            LogFormat::Json => write!(fields, ",\"{key}\":"),
        };
        let start = fields.len();
        let _ = write!(fields, "{value}");
        if quoted {
            match self.shape.format {
                LogFormat::Text => quote_text_value(fields, start),
                LogFormat::Json => quote_json_string(fields, start),
            }
        }
        self.last = start..fields.len();
    }

    /// The whole line; call it once.
    fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.text);
        match self.shape.format {
            LogFormat::Text => {
                let _ = match (self.room, self.client) {
                    (Some(room), Some(id)) => write!(text, " [{} {id}]", Plain(room)),
                    (Some(room), None) => write!(text, " [{}]", Plain(room)),
                    (None, Some(id)) => write!(text, " [{id}]"),
                    (None, None) => Ok(()),
                };
                let _ = writeln!(text, " {}{}", Plain(self.message), self.fields);
            }
            LogFormat::Json => {
                if let Some(room) = self.room {
                    text.push_str(",\"room\":");
                    push_json_string(&mut text, room);
                }
                if let Some(id) = self.client {
                    let _ = write!(text, ",\"client\":{id}");
                }
                text.push_str(",\"message\":");
                push_json_string(&mut text, self.message);
                text.push_str(&self.fields);
                text.push_str("}\n");
            }
        }
        text
    }
}

/// `2026-11-23T01:10:20.123Z`: RFC 3339, UTC, milliseconds.
struct Timestamp(SystemTime);

impl Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Days to civil date in the proleptic Gregorian calendar, counted from 0000-03-01 so that the
        // leap day is a year's last.
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            since.subsec_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_utc_dates_leap_years_included() {
        let at = |seconds, millis| {
            Timestamp(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis)).to_string()
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399, 999), "2000-02-28T23:59:59.999Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199, 1), "2024-02-29T23:59:59.001Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z", "2100 is no leap year");
    }

    #[test]
    fn a_line_that_stands_for_many_says_so_behind_all_else() {
        for (format, beginning, end) in [
            (LogFormat::Text, " [r 7] left", " left n=1 repeated=12\n"),
            (LogFormat::Json, ",\"room\":\"r\",\"client\":7", "\"n\":1,\"repeated\":12}\n"),
        ] {
            let shape = Shape { format, colour: false };
            let mut draft = shape.draft(Level::Info, "left");
            (draft.room, draft.client) = (Some("r"), Some(7));
            draft.push("n", &1, false);
            let text = shape.repeated(&[(draft.finish(), 12)]);
            assert!(text.contains(beginning) && text.ends_with(end), "{text}");
        }
    }
}
