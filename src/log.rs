//! Log lines, text or JSON, on standard error. Nothing else in the program prints.
//!
//! A line is formatted by the thread that has something to say and written by one thread of its
//! own, behind a channel whose bytes are counted and bounded: a standard error that nobody reads
//! drops lines and counts them, and never holds anybody up.

mod escape;

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, unbounded};

use self::escape::{Plain, push_json_string, quote_json_string, quote_text_value};
use crate::config::{Level, LogConfig, LogFormat};
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::threads::thread;

/// Bytes of memory held by lines that may wait for standard error.
const BACKLOG: usize = 1024 * 1024;

/// Bytes of lines handed to one `write`.
const WRITE_MOST: usize = 64 * 1024;

/// How long the log thread rests when it has written all there was: the lines of a burst are written together
/// and wake it once, not each by itself.
const REST: Duration = Duration::from_millis(1);

/// How long the last lines may take at the end of the program.
const LAST_LINES: Duration = Duration::from_secs(1);

enum Line {
    Text(String),
    /// Rung when all lines before it have been written.
    Flush(Arc<Bell>),
}

/// What is on its way to standard error.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// A handle to the log; cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    config: LogConfig,
    colour: bool,
    lines: Sender<Line>,
    waiting: Arc<Waiting>,
}

impl Log {
    /// Starts the log thread. With `silent`, lines go nowhere (standard error is the client).
    pub fn start(config: LogConfig, silent: bool) -> std::io::Result<Self> {
        let (lines, queue) = unbounded();
        let colour = !silent && config.format == LogFormat::Text && std::io::stderr().is_terminal();
        let waiting = Arc::<Waiting>::default();
        thread("log", 64 * 1024, {
            let waiting = Arc::clone(&waiting);
            move || write_lines(&queue, silent, &waiting)
        })?;
        Ok(Self { inner: Arc::new(Inner { config, colour, lines, waiting }) })
    }

    /// Whether a line of this level would be written.
    pub fn shows(&self, level: Level) -> bool {
        level <= self.inner.config.level
    }

    /// A line of the given level; nothing happens before [`Entry::write`].
    #[inline(never)]
    pub fn at<'a>(&'a self, level: Level, message: &'a str) -> Entry<'a> {
        let shown = self.shows(level);
        let body = shown.then(|| {
            let mut body = Body { text: String::with_capacity(256), config: self.inner.config };
            body.begin(level, self.inner.colour);
            body
        });
        let fields = String::with_capacity(if shown { 128 } else { 0 });
        Entry { log: self, body, message, room: None, client: None, fields }
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

    /// Waits, for a bounded time, until all lines so far have been written.
    pub fn flush(&self) {
        let written = Arc::<Bell>::default();
        if self.inner.lines.send(Line::Flush(Arc::clone(&written))).is_ok() {
            written.wait(Deadline::after(LAST_LINES));
        }
    }

    fn push(&self, line: String) {
        let Waiting { bytes, dropped } = &*self.inner.waiting;
        let held = line.capacity();
        if bytes.fetch_add(held, Ordering::Relaxed) + held > BACKLOG {
            bytes.fetch_sub(held, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            // It is received for as long as there is a handle.
            let _ = self.inner.lines.send(Line::Text(line));
        }
    }
}

/// A log line that is being put together.
#[must_use = "nothing is logged before `write`"]
pub struct Entry<'a> {
    log: &'a Log,
    /// The beginning of the line, if it is to be written.
    body: Option<Body>,
    message: &'a str,
    room: Option<&'a str>,
    client: Option<u64>,
    fields: String,
}

impl<'a> Entry<'a> {
    /// The room it is about; an empty name is none.
    pub fn room(mut self, room: &'a str) -> Self {
        self.room = Some(room).filter(|room| !room.is_empty());
        self
    }

    /// The client it is about, by id.
    pub fn client(mut self, id: u64) -> Self {
        self.client = Some(id);
        self
    }

    /// One more thing worth knowing. Keys are plain words; values may be anything, hostile included.
    pub fn field(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, true);
        self
    }

    /// The same for a number: bare in JSON.
    pub fn number(mut self, key: &str, value: impl Display) -> Self {
        self.push(key, &value, false);
        self
    }

    /// Not for each kind of value anew, and not in line: logging is everywhere, and never hot.
    #[inline(never)]
    fn push(&mut self, key: &str, value: &dyn Display, quoted: bool) {
        let Some(body) = &self.body else { return };
        let fields = &mut self.fields;
        let _ = match body.config.format {
            LogFormat::Text => write!(fields, " {key}="),
            LogFormat::Json => write!(fields, ",\"{key}\":"),
        };
        let start = fields.len();
        let _ = write!(fields, "{value}");
        if quoted {
            match body.config.format {
                LogFormat::Text => quote_text_value(fields, start),
                LogFormat::Json => quote_json_string(fields, start),
            }
        }
    }

    /// The same for a time, in seconds, to the millisecond.
    pub fn seconds(self, key: &str, time: Duration) -> Self {
        self.number(key, format_args!("{}.{:03}", time.as_secs(), time.subsec_millis()))
    }

    /// Hands the line over.
    #[inline(never)]
    pub fn write(self) {
        let Some(mut body) = self.body else { return };
        match body.config.format {
            LogFormat::Text => {
                match (self.room, self.client) {
                    (Some(room), Some(id)) => {
                        let _ = write!(body.text, " [{} {id}]", Plain(room));
                    }
                    (Some(room), None) => {
                        let _ = write!(body.text, " [{}]", Plain(room));
                    }
                    (None, Some(id)) => {
                        let _ = write!(body.text, " [{id}]");
                    }
                    (None, None) => {}
                }
                let _ = writeln!(body.text, " {}{}", Plain(self.message), self.fields);
            }
            LogFormat::Json => {
                if let Some(room) = self.room {
                    body.text.push_str(",\"room\":");
                    push_json_string(&mut body.text, room);
                }
                if let Some(id) = self.client {
                    let _ = write!(body.text, ",\"client\":{id}");
                }
                body.text.push_str(",\"message\":");
                push_json_string(&mut body.text, self.message);
                body.text.push_str(&self.fields);
                body.text.push_str("}\n");
            }
        }
        self.log.push(body.text);
    }
}

struct Body {
    text: String,
    config: LogConfig,
}

impl Body {
    fn begin(&mut self, level: Level, colour: bool) {
        let (name, paint) = match level {
            Level::Error => ("ERROR", "31"),
            Level::Warn => ("WARN", "33"),
            Level::Info => ("INFO", "32"),
            Level::Debug => ("DEBUG", "34"),
            Level::Trace => ("TRACE", "35"),
        };
        let time = Timestamp(SystemTime::now());
        let _ = match (self.config.format, colour) {
            (LogFormat::Json, _) => {
                write!(self.text, "{{\"time\":\"{time}\",\"level\":\"{}\"", name.to_ascii_lowercase())
            }
            (LogFormat::Text, true) => write!(self.text, "{time} \x1b[{paint}m{name:5}\x1b[0m"),
            (LogFormat::Text, false) => write!(self.text, "{time} {name:5}"),
        };
    }
}

/// The body of the log thread.
fn write_lines(queue: &Receiver<Line>, silent: bool, waiting: &Waiting) {
    let (mut text, mut answers) = (String::new(), Vec::new());
    // Ends when the last handle is gone.
    while let Ok(first) = queue.recv() {
        let (mut next, mut held) = (Some(first), 0);
        while let Some(line) = next.take() {
            match line {
                Line::Text(line) => {
                    text.push_str(&line);
                    held += line.capacity();
                }
                Line::Flush(written) => answers.push(written),
            }
            if text.len() < WRITE_MOST {
                next = queue.try_recv().ok();
            }
        }
        if !silent {
            let mut stderr = std::io::stderr().lock();
            let _ = stderr.write_all(text.as_bytes());
            let lost = waiting.dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let _ = writeln!(stderr, "{lost} log lines dropped: standard error was not read in time");
            }
        }
        waiting.bytes.fetch_sub(held, Ordering::Relaxed);
        text.clear();
        for written in answers.drain(..) {
            written.ring();
        }
        if queue.is_empty() {
            std::thread::sleep(REST);
        }
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
}
