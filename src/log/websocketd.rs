//! The line format of websocketd: `time | level | category | scope | message`, where the scope is `key:'value'` pairs.

use std::fmt::{self, Display, Write as _};
use std::ops::Range;
use std::time::SystemTime;

use super::escape::Plain;
use crate::config::Level;

/// A value in single quotes. Quotes and backslashes in it are escaped, or a client could forge pairs or hide them.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('\'')?;
        for part in self.0.split_inclusive(['\'', '\\']) {
            match part.strip_suffix(['\'', '\\']) {
                Some(text) => write!(f, "{}\\{}", Plain(text), &part[text.len()..])?,
                None => write!(f, "{}", Plain(part))?,
            }
        }
        f.write_char('\'')
    }
}

/// A whole line.
pub(super) fn line(level: &str, category: &str, scope: &str, message: &str) -> String {
    // RFC 1123 with a numeric zone. Always UTC.
    let date = httpdate::fmt_http_date(SystemTime::now());
    let date = date.trim_end_matches("GMT");
    let mut line = format!("{date}+0000 | {level:<6} | {category:<10} | {scope} | ");
    // Tabs stay: programs indent with them.
    for (number, part) in message.split('\t').enumerate() {
        let _ = write!(line, "{}{}", if number > 0 { "\t" } else { "" }, Plain(part));
    }
    line.push('\n');
    line
}

/// Adds a field. A `line` of a program is raw, as it takes the place of the message; an `error` goes to `behind`, which
/// follows the message. Returns where the value is in `fields`.
pub(super) fn push(fields: &mut String, behind: &mut String, key: &str, value: &dyn Display) -> Range<usize> {
    let start = fields.len();
    let value = value.to_string();
    let _ = match key {
        "line" => fields.write_str(&value),
        "error" => write!(behind, " ({value})"),
        _ => write!(fields, " {key}:{}", Quoted(&value)),
    };
    start..fields.len()
}

/// The parts of a line.
pub(super) struct Parts<'a> {
    pub(super) level: Level,
    pub(super) category: Option<&'static str>,
    pub(super) room: Option<&'a str>,
    pub(super) fields: &'a str,
    /// Where in the fields the line of a program is, if there is one.
    pub(super) content: Range<usize>,
    pub(super) message: &'a str,
    /// Follows the message.
    pub(super) behind: &'a str,
}

/// The line that these parts make.
pub(super) fn finish(parts: &Parts<'_>) -> String {
    let level = match parts.level {
        Level::Info => "INFO",
        Level::Access => "ACCESS",
        Level::Debug => "TRACE",
        Level::Trace => "DEBUG",
        // A failure that is fatal is not logged here.
        _ => "ERROR",
    };
    // Only a program's line has content: it was printed on the stream that the message names.
    let (category, fields, message) = if parts.content.end == 0 {
        let category = if parts.room.is_some() { "process" } else { "server" };
        (category, parts.fields, parts.message)
    } else {
        (parts.message, &parts.fields[..parts.content.start], &parts.fields[parts.content.clone()])
    };
    // Scripts that read the log look for these words.
    let message = if message == "program not started" { "Could not launch process" } else { message };
    let scope = format!("{}{fields}", Plain(parts.room.unwrap_or_default()));
    let message = [message, parts.behind].concat();
    line(level, parts.category.unwrap_or(category), scope.trim_start(), &message)
}

#[cfg(test)]
mod tests {
    use super::super::line::Shape;
    use super::*;
    use crate::config::LogFormat;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn printed(level: Level, message: &str, room: Option<&str>, fields: Fields<'_>) -> String {
        let mut draft = Shape { format: LogFormat::Websocketd, colour: false }.draft(level, message);
        draft.room = room;
        for (key, value) in fields {
            draft.push(key, value, true);
            if *key == "line" {
                draft.content = draft.last.clone();
            }
        }
        let line = draft.finish();
        let (date, rest) = line.split_once(" | ").expect("a date");
        let date = date.strip_suffix(" +0000").expect("a zone");
        assert!(httpdate::parse_http_date(&format!("{date} GMT")).is_ok(), "{line}");
        rest.to_owned()
    }

    #[test]
    fn a_line_is_as_websocketd_prints_it() {
        let scope = Some("url:'http://h/' id:'1'");
        for (level, message, room, fields, wanted) in [
            (Level::Info, "Serving", None, &[] as Fields<'_>, "INFO   | server     |  | Serving\n"),
            (
                Level::Error,
                "stderr",
                scope,
                &[("pid", "7"), ("line", "it's\tbad")],
                "ERROR  | stderr     | url:'http://h/' id:'1' pid:'7' | it's\tbad\n",
            ),
            (
                Level::Error,
                "program not started",
                scope,
                &[("error", "no such file")],
                "ERROR  | process    | url:'http://h/' id:'1' | Could not launch process (no such file)\n",
            ),
            (
                Level::Warn,
                "x",
                None,
                &[("a", "b c"), ("d", "e")],
                "ERROR  | server     | a:'b c' d:'e' | x\n",
            ),
            (Level::Debug, "x", scope, &[], "TRACE  | process    | url:'http://h/' id:'1' | x\n"),
            (Level::Trace, "x", None, &[], "DEBUG  | server     |  | x\n"),
            (
                Level::Access,
                "x",
                None,
                &[("a", "b' c:'d\n")],
                "ACCESS | server     | a:'b\\' c:\\'d\\n' | x\n",
            ),
            (
                Level::Access,
                "x",
                None,
                &[("a", "\\' b:'\\"), ("c", "")],
                "ACCESS | server     | a:'\\\\\\' b:\\'\\\\' c:'' | x\n",
            ),
        ] {
            assert_eq!(printed(level, message, room, fields), wanted);
        }
    }
}
