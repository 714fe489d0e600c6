//! Log lines, text or JSON, on standard error. Nothing else in the program prints.
//!
//! A line is formatted by the thread that has something to say and written by one thread of its
//! own, behind a bounded queue: a standard error that nobody reads drops lines and counts them,
//! and never holds anybody up.

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Level, LogConfig, LogFormat};
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::lock;
use crate::sys::process::thread;

/// Lines that may wait for standard error.
const BACKLOG: usize = 1024;

/// How long the last lines may take at the end of the program.
const LAST_LINES: Duration = Duration::from_secs(1);

enum Line {
    Text(String),
    /// Rung when all lines before it have been written.
    Flush(Arc<Bell>),
    /// The last handle is gone.
    End,
}

/// What is on its way to standard error.
#[derive(Default)]
struct Queue {
    lines: Mutex<VecDeque<Line>>,
    /// Rung when there is something to write.
    filled: Bell,
    dropped: AtomicU64,
}

impl Queue {
    fn push(&self, line: Line) {
        let mut lines = lock(&self.lines);
        if lines.len() >= BACKLOG && matches!(line, Line::Text(_)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.push_back(line);
        drop(lines);
        self.filled.ring();
    }

    /// Waits without a deadline for [`Queue::push`].
    fn pop(&self) -> Line {
        loop {
            if let Some(line) = lock(&self.lines).pop_front() {
                return line;
            }
            self.filled.wait(Deadline::NEVER);
        }
    }
}

/// A handle to the log; cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    config: LogConfig,
    colour: bool,
    queue: Arc<Queue>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.push(Line::End);
    }
}

impl Log {
    /// Starts the log thread. With `silent`, lines go nowhere (standard error is the client).
    pub fn start(config: LogConfig, silent: bool) -> std::io::Result<Self> {
        let colour = !silent && config.format == LogFormat::Text && std::io::stderr().is_terminal();
        let queue = Arc::<Queue>::default();
        thread("log", 64 * 1024, {
            let queue = Arc::clone(&queue);
            move || write_lines(&queue, silent)
        })?;
        Ok(Self { inner: Arc::new(Inner { config, colour, queue }) })
    }

    /// Whether a line of this level would be written.
    pub fn shows(&self, level: Level) -> bool {
        level <= self.inner.config.level
    }

    /// A line of the given level; nothing happens before [`Entry::write`].
    #[inline(never)]
    pub fn at(&self, level: Level, message: &str) -> Entry<'_> {
        let body = self.shows(level).then(|| {
            let mut body = Body { text: String::with_capacity(160), config: self.inner.config };
            body.begin(level, self.inner.colour);
            (body, message.to_owned())
        });
        Entry { log: self, body, room: None, client: None, fields: String::new() }
    }

    /// Something failed that somebody has to mend.
    pub fn error(&self, message: &str) -> Entry<'_> {
        self.at(Level::Error, message)
    }

    /// Something was refused, dropped or given up.
    pub fn warn(&self, message: &str) -> Entry<'_> {
        self.at(Level::Warn, message)
    }

    /// Joins, leaves, starts, exits.
    pub fn info(&self, message: &str) -> Entry<'_> {
        self.at(Level::Info, message)
    }

    /// Plain requests, signals, decisions.
    pub fn debug(&self, message: &str) -> Entry<'_> {
        self.at(Level::Debug, message)
    }

    /// Waits, for a bounded time, until all lines so far have been written.
    pub fn flush(&self) {
        let written = Arc::<Bell>::default();
        self.inner.queue.push(Line::Flush(Arc::clone(&written)));
        written.wait(Deadline::after(LAST_LINES));
    }
}

/// A log line that is being put together.
#[must_use = "nothing is logged before `write`"]
pub struct Entry<'a> {
    log: &'a Log,
    body: Option<(Body, String)>,
    room: Option<String>,
    client: Option<u64>,
    fields: String,
}

impl Entry<'_> {
    /// The room it is about.
    #[inline(never)]
    pub fn room(mut self, room: &str) -> Self {
        if self.body.is_some() {
            self.room = Some(room.to_owned());
        }
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
        let Some((body, _)) = &self.body else { return };
        let fields = &mut self.fields;
        let _ = match (body.config.format, quoted) {
            (LogFormat::Text, true) => {
                write!(fields, " {key}=").map(|()| push_text_value(fields, &value.to_string()))
            }
            (LogFormat::Json, true) => {
                write!(fields, ",\"{key}\":").map(|()| push_json_string(fields, &value.to_string()))
            }
            (LogFormat::Text, false) => write!(fields, " {key}={value}"),
            (LogFormat::Json, false) => write!(fields, ",\"{key}\":{value}"),
        };
    }

    /// The same for a time, in seconds, to the millisecond.
    pub fn seconds(self, key: &str, time: Duration) -> Self {
        self.number(key, format_args!("{}.{:03}", time.as_secs(), time.subsec_millis()))
    }

    /// Hands the line over.
    #[inline(never)]
    pub fn write(self) {
        let Some((mut body, message)) = self.body else { return };
        match body.config.format {
            LogFormat::Text => {
                match (self.room, self.client) {
                    (Some(room), Some(id)) => {
                        let _ = write!(body.text, " [{} {id}]", Plain(&room));
                    }
                    (Some(room), None) => {
                        let _ = write!(body.text, " [{}]", Plain(&room));
                    }
                    (None, Some(id)) => {
                        let _ = write!(body.text, " [{id}]");
                    }
                    (None, None) => {}
                }
                let _ = write!(body.text, " {}{}", Plain(&message), self.fields);
                body.text.push('\n');
            }
            LogFormat::Json => {
                if let Some(room) = self.room {
                    body.text.push_str(",\"room\":");
                    push_json_string(&mut body.text, &room);
                }
                if let Some(id) = self.client {
                    let _ = write!(body.text, ",\"client\":{id}");
                }
                body.text.push_str(",\"message\":");
                push_json_string(&mut body.text, &message);
                body.text.push_str(&self.fields);
                body.text.push_str("}\n");
            }
        }
        self.log.inner.queue.push(Line::Text(body.text));
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
        let time = timestamp(SystemTime::now());
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
fn write_lines(queue: &Queue, silent: bool) {
    loop {
        match queue.pop() {
            Line::Text(_) if silent => {}
            Line::Text(line) => {
                let mut stderr = std::io::stderr().lock();
                let _ = stderr.write_all(line.as_bytes());
                let lost = queue.dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(stderr, "{lost} log lines dropped: standard error was not read in time");
                }
            }
            Line::Flush(written) => written.ring(),
            Line::End => return,
        }
    }
}

/// Text with control characters made visible, so that a log line stays one line.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Bare where it reads unmistakably, quoted and escaped otherwise.
fn push_text_value(out: &mut String, value: &str) {
    let bare =
        !value.is_empty() && value.chars().all(|c| !c.is_control() && !matches!(c, ' ' | '"' | '\\' | '='));
    if bare {
        out.push_str(value);
    } else {
        let _ = write!(out, "\"{}\"", value.escape_debug());
    }
}

fn push_json_string(out: &mut String, value: &str) {
    // A string always serialises.
    out.push_str(&serde_json::to_string(value).unwrap_or_default());
}

/// `2026-11-23T01:10:20.123Z`: RFC 3339, UTC, milliseconds.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to civil date in the proleptic Gregorian calendar, counted from 0000-03-01 so that the
    // leap day is a year's last.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_utc_dates_leap_years_included() {
        let at = |seconds, millis| {
            timestamp(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis))
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399, 999), "2000-02-28T23:59:59.999Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199, 1), "2024-02-29T23:59:59.001Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z", "2100 is no leap year");
    }

    #[test]
    fn a_hostile_value_stays_inside_its_quotes() {
        let mut out = String::new();
        push_text_value(&mut out, "a\nb \"c\x1b[31m");
        assert_eq!(out, "\"a\\nb \\\"c\\u{1b}[31m\"");
        out.clear();
        push_text_value(&mut out, "plain");
        assert_eq!(out, "plain");
        out.clear();
        push_json_string(&mut out, "a\n\"");
        assert_eq!(out, "\"a\\n\\\"\"");
    }
}
