//! What a flag is, and how one is found by what was typed. The flags themselves are in `table`.

use std::ffi::OsStr;
use std::fmt::Write as _;

use super::arguments::Arguments;
use super::table::FLAGS;

/// One option of the command line. Everything that is known of it stands in its entry.
#[derive(Debug)]
pub(super) struct Flag {
    /// Long name, without the dashes.
    pub(super) name: &'static str,
    /// Short name.
    pub(super) short: Option<char>,
    /// Other long names that mean the same.
    pub(super) aliases: &'static [&'static str],
    /// What it takes, and how that gets into the arguments.
    pub(super) value: Value,
    /// Whether the value must follow an `=`.
    pub(super) equals_only: bool,
    /// What it stands for without a value, where that is allowed.
    pub(super) bare: Option<&'static str>,
    /// Whether it may be given more than once.
    pub(super) repeatable: bool,
    /// What holds when it is not given.
    pub(super) default: Default,
    /// Names of flags that cannot be given with it. One side of the pair says so.
    pub(super) conflicts: &'static [&'static str],
    /// Names of flags without which it cannot be given.
    pub(super) needs: &'static [&'static str],
    /// The heading that it stands under.
    pub(super) category: Category,
    /// One line without a full stop, for everywhere.
    pub(super) summary: &'static str,
    /// What else a user has to know, for `--help` and the man page: whole sentences, literals in
    /// backticks, each sentence followed by one space.
    pub(super) details: &'static str,
}

/// What a flag takes. A setter's error says what is wrong and what is allowed; the parser puts the
/// flag and the value in front of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// Nothing.
    Switch(fn(&mut Arguments)),
    /// UTF-8 text, under this name in the help.
    Text(&'static str, fn(&mut Arguments, &str) -> Result<(), String>),
    /// One of these words.
    Choice(&'static [&'static str], fn(&mut Arguments, &str) -> Result<(), String>),
    /// Text that may hold a path, so not always UTF-8.
    Raw(&'static str, fn(&mut Arguments, &OsStr) -> Result<(), String>),
    /// A directory.
    Directory(&'static str, fn(&mut Arguments, &OsStr) -> Result<(), String>),
}

impl Value {
    /// What stands for it in help and man page; none for a switch.
    pub(super) fn placeholder(self) -> Option<String> {
        match self {
            Self::Switch(_) => None,
            Self::Text(name, _) | Self::Raw(name, _) | Self::Directory(name, _) => Some(name.to_owned()),
            Self::Choice(words, _) => Some(words.join("|")),
        }
    }
}

impl Flag {
    /// All that is to be said of it, literals in backticks.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}.", self.summary);
        if !self.details.is_empty() {
            text = format!("{text} {}", self.details);
        }
        if let [first, rest @ ..] = self.conflicts {
            let _ = write!(text, " Cannot be given with `--{first}`");
            for other in rest {
                let _ = write!(text, " or `--{other}`");
            }
            text.push('.');
        }
        for other in self.needs {
            let _ = write!(text, " Needs `--{other}`.");
        }
        match self.default {
            Default::Off => text,
            Default::Value(value) => format!("{text} The default is `{value}`."),
            Default::Words(words) => format!("{text} The default is {words}."),
        }
    }
}

/// What holds when a flag is not given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Default {
    /// The same as without it.
    Off,
    /// The same as if this value had been given.
    Value(&'static str),
    /// Something that no value says; for the reader.
    Words(&'static str),
}

/// Headings of the help, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    Listening,
    Messages,
    Program,
    Clients,
    Files,
    Log,
    Other,
}

impl Category {
    pub(super) const ALL: [Self; 7] =
        [Self::Listening, Self::Messages, Self::Program, Self::Clients, Self::Files, Self::Log, Self::Other];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Messages => "Messages",
            Self::Program => "Program",
            Self::Clients => "Clients",
            Self::Files => "Files",
            Self::Log => "Log",
            Self::Other => "Other",
        }
    }

    /// Its flags, in the table's order.
    pub(super) fn flags(self) -> impl Iterator<Item = &'static Flag> {
        FLAGS.iter().filter(move |flag| flag.category == self)
    }
}

/// The flag with this long name or alias.
pub(super) fn by_name(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name || flag.aliases.contains(&name))
}

/// The flag with this short name.
pub(super) fn by_short(short: char) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.short == Some(short))
}

/// The long name that was probably meant by a word that is none.
pub(super) fn nearest(typed: &str) -> Option<&'static str> {
    let typed = typed.trim_start_matches('-').to_ascii_lowercase();
    let names =
        || FLAGS.iter().flat_map(|flag| std::iter::once(flag.name).chain(flag.aliases.iter().copied()));
    // A beginning is a better guess than a word that looks alike.
    if let Some(name) = names().find(|name| typed.len() >= 3 && name.starts_with(&typed)) {
        return Some(name);
    }
    // One slip in three letters; more is another word.
    let (distance, name) = names().map(|name| (edit_distance(&typed, name), name)).min()?;
    (distance <= name.len() / 3).then_some(name)
}

/// Letters to add, drop, change or swap with their neighbour to get from one word to the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let changed = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_complete_and_every_name_is_its_own() {
        let mut names = Vec::new();
        let mut shorts = Vec::new();
        for flag in FLAGS {
            names.push(flag.name);
            names.extend(flag.aliases);
            shorts.extend(flag.short);
            assert!(!flag.name.is_empty() && !flag.name.starts_with('-'), "{flag:?}");
            assert!(!flag.summary.is_empty() && !flag.summary.ends_with('.'), "{}", flag.name);
            assert!(flag.details.is_empty() || flag.details.ends_with(['.', ':']), "{}", flag.name);
            assert_eq!(flag.details.matches('`').count() % 2, 0, "{}: open backtick", flag.name);
            assert!(!flag.details.contains("  "), "{}: two spaces", flag.name);
            for other in flag.conflicts.iter().chain(flag.needs) {
                assert!(by_name(other).is_some(), "{} names unknown {other}", flag.name);
            }
            assert!(Category::ALL.contains(&flag.category), "{}", flag.name);
            assert!(flag.value.placeholder().is_some() || !flag.equals_only, "{}", flag.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a long name stands twice");
        let count = shorts.len();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!(shorts.len(), count, "a short name stands twice");
    }

    #[test]
    fn every_choice_and_every_default_is_taken_by_its_own_setter() {
        for flag in FLAGS {
            let set = |text: &str| match flag.value {
                Value::Switch(_) => Err("takes nothing".to_owned()),
                Value::Text(_, set) | Value::Choice(_, set) => set(&mut Arguments::default(), text),
                Value::Raw(_, set) | Value::Directory(_, set) => {
                    set(&mut Arguments::default(), OsStr::new(text))
                }
            };
            if let Value::Choice(choices, _) = flag.value {
                for choice in choices {
                    assert_eq!(set(choice), Ok(()), "--{}={choice}", flag.name);
                }
                assert!(set("no such word").is_err(), "--{}", flag.name);
            }
            if let Default::Value(text) = flag.default {
                assert_eq!(set(text), Ok(()), "--{}={text}", flag.name);
            }
        }
    }

    #[test]
    fn the_hint_is_the_name_that_was_meant_or_none() {
        for (typed, meant) in [
            ("--bianry", Some("binary")),
            ("--binray", Some("binary")),
            ("-addr", Some("addr")),
            ("--Addr", Some("addr")),
            ("--adr", Some("addr")),
            ("--delim", Some("delimiters")),
            ("--max", Some("maxmessage")),
            ("--stopsignals", Some("stopsignal")),
            ("--ip", None),
            ("--pings", Some("ping")),
            ("--static-dir", Some("staticdir")),
            ("--zzz", None),
            ("-x", None),
            ("--", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }
}
