//! The format of a line, and the data shared with the log thread.

use std::fmt::{Display, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use super::escape::{Plain, push_json_string, quote_json_string, quote_text_value};
use super::repeats::Repeats;
#[cfg(feature = "websocketd")]
use super::websocketd;
use crate::config::{Level, LogFormat};
use crate::sys::bell::Bell;

/// What is sent to the log thread.
pub(super) enum Line {
    Text(String),
    /// Lines were held back or dropped, which has to be reported.
    Wake,
    /// To ring when all lines before it have been written.
    Flush(Arc<Bell>),
}

/// Shared by all logging threads and the log thread.
#[derive(Default)]
pub(super) struct Shared {
    /// Bytes of memory of lines that are not written yet.
    pub(super) bytes: AtomicUsize,
    /// Lines that were lost and are not reported yet.
    pub(super) dropped: AtomicU64,
    pub(super) repeats: Mutex<Repeats>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) format: LogFormat,
    pub(super) colour: bool,
}

/// The parts of a line.
pub(super) struct Draft<'a> {
    shape: Shape,
    /// Time and level.
    text: String,
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) room: Option<&'a str>,
    pub(super) client: Option<u64>,
    /// Only websocketd's log has it.
    pub(super) category: Option<&'static str>,
    pub(super) fields: String,
    /// Where in the fields the last value is, and the value that tells repeats apart.
    pub(super) last: Range<usize>,
    pub(super) content: Range<usize>,
}

impl Shape {
    pub(super) fn draft(self, level: Level, message: &str) -> Draft<'_> {
        let mut draft = Draft {
            shape: self,
            text: String::with_capacity(256),
            level,
            message,
            room: None,
            client: None,
            category: None,
            fields: String::with_capacity(128),
            last: 0..0,
            content: 0..0,
        };
        draft.begin();
        draft
    }

    /// Lines that were held back, each with the number of lines that it stands for.
    pub(super) fn repeated(self, lines: &[(String, u64)]) -> String {
        let (end, key) = match self.format {
            LogFormat::Json => ("}\n", ",\"repeated\":"),
            _ => ("\n", " repeated="),
        };
        let mut text = String::new();
        for (line, number) in lines {
            let _ = write!(text, "{}{key}{number}{end}", line.strip_suffix(end).unwrap_or(line));
        }
        text
    }
}

impl Draft<'_> {
    fn begin(&mut self) {
        let (name, paint) = match self.level {
            Level::Off | Level::Fatal => ("FATAL", "31"),
            Level::Error => ("ERROR", "31"),
            Level::Warn => ("WARN", "33"),
            Level::Info => ("INFO", "32"),
            Level::Access => ("ACCESS", "32"),
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
            // The time is added to the whole line.
            #[cfg(feature = "websocketd")]
            (LogFormat::Websocketd, _) => Ok(()),
        };
    }

    /// Neither generic nor inlined: it is used everywhere and never hot.
    #[inline(never)]
    pub(super) fn push(&mut self, key: &str, value: &dyn Display, quoted: bool) {
        let fields = &mut self.fields;
        let _ = match self.shape.format {
            LogFormat::Text => write!(fields, " {key}="),
            LogFormat::Json => write!(fields, ",\"{key}\":"),
            #[cfg(feature = "websocketd")]
            LogFormat::Websocketd => {
                self.last = websocketd::push(fields, &mut self.text, key, value);
                return;
            }
        };
        let start = fields.len();
        let _ = write!(fields, "{value}");
        if quoted {
            match self.shape.format {
                LogFormat::Json => quote_json_string(fields, start),
                _ => quote_text_value(fields, start),
            }
        }
        self.last = start..fields.len();
    }

    /// The whole line. To be called once.
    pub(super) fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.text);
        match self.shape.format {
            #[cfg(feature = "websocketd")]
            LogFormat::Websocketd => {
                return websocketd::finish(&websocketd::Parts {
                    level: self.level,
                    category: self.category,
                    room: self.room,
                    fields: &self.fields,
                    content: self.content.clone(),
                    message: self.message,
                    behind: &text,
                });
            }
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
    use std::time::Duration;

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
