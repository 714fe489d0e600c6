//! An option of a command line: an entry in a table. `D` is what the options set, such as [`super::draft::Draft`].

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::values;

/// All options, in the order of help and man page.
pub(super) type Table<D> = [Section<D>];

/// Options under one heading.
#[derive(Debug)]
pub(super) struct Section<D: 'static> {
    pub(super) title: &'static str,
    pub(super) flags: &'static [Flag<D>],
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Flag<D> {
    /// Long name, without the dashes.
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    /// Other long names.
    pub(super) aliases: &'static [&'static str],
    pub(super) value: Value<D>,
    /// Whether the value must follow an `=`.
    pub(super) equals_only: bool,
    /// The value when the option is given without one, where that is allowed.
    pub(super) bare: Option<&'static str>,
    pub(super) repeatable: bool,
    /// Whether the parser stops after it.
    pub(super) stops: bool,
    /// The value when the option is not given.
    pub(super) default: Option<&'static str>,
    /// The default in words, if it is not a value.
    pub(super) otherwise: Option<&'static str>,
    /// Options that cannot be given with it. Listed for one of the two.
    pub(super) conflicts: &'static [&'static str],
    /// Options that it requires.
    pub(super) needs: &'static [&'static str],
    /// Complete sentences with literals in backticks. The first sentence is the summary.
    pub(super) text: &'static str,
}

/// Methods that change one field of an entry.
macro_rules! setters {
    ($($name:ident($($argument:ident: $type:ty)?) = $value:expr;)*) => {
        $(pub(super) const fn $name(mut self $(, $argument: $type)?) -> Self {
            self.$name = $value;
            self
        })*
    };
}

impl<D> Flag<D> {
    pub(super) const fn new(name: &'static str, value: Value<D>) -> Self {
        Self {
            name,
            short: None,
            aliases: &[],
            value,
            equals_only: false,
            bare: None,
            repeatable: false,
            stops: false,
            default: None,
            otherwise: None,
            conflicts: &[],
            needs: &[],
            text: "",
        }
    }

    setters! {
        short(short: char) = Some(short);
        aliases(names: &'static [&'static str]) = names;
        equals_only() = true;
        bare(value: &'static str) = Some(value);
        repeatable() = true;
        stops() = true;
        default(value: &'static str) = Some(value);
        otherwise(words: &'static str) = Some(words);
        conflicts(names: &'static [&'static str]) = names;
        needs(names: &'static [&'static str]) = names;
        text(text: &'static str) = text;
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<D> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// The first sentence of its text, without the full stop and the backticks.
    pub(super) fn summary(&self) -> String {
        let text = self.text.split_once(". ").map_or(self.text, |(summary, _)| summary);
        text.trim_end_matches('.').replace('`', "")
    }

    /// Its text with conflicts and default.
    pub(super) fn full_text(&self) -> String {
        let mut text = self.text.to_owned();
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
        if let Some(value) = self.default {
            let _ = write!(text, " The default is `{value}`.");
        }
        if let Some(words) = self.otherwise {
            let _ = write!(text, " The default is {words}.");
        }
        text
    }
}

/// The value of an option, and where it is stored. Errors say what is wrong and what is allowed; the parser adds the
/// option and the value.
#[derive(Debug)]
pub(super) enum Value<D> {
    /// No value: sets this to true.
    On(fn(&mut D) -> &mut bool),
    /// No value: calls this with the option as it was typed.
    Switch(fn(&mut D, &str)),
    /// A time in seconds.
    Seconds(fn(&mut D) -> &mut Duration),
    /// A time in seconds that is more than 0.
    Timeout(fn(&mut D) -> &mut Duration),
    /// A time in seconds; 0 is off.
    SecondsOrOff(fn(&mut D) -> &mut Option<Duration>),
    /// A number of bytes, up to this number.
    Bytes(u64, fn(&mut D) -> &mut usize),
    /// A number from 1.
    Count(fn(&mut D) -> &mut Option<usize>),
    /// One of these words. The function returns whether it knows the word.
    Words(&'static [&'static str], fn(&mut D, &str) -> bool),
    /// UTF-8 text; in the help, it has this name.
    Text(&'static str, fn(&mut D, &str) -> Result<(), String>),
    /// Text that may contain a path, so it may not be UTF-8.
    Raw(&'static str, fn(&mut D, &OsStr) -> Result<(), String>),
    Directory(fn(&mut D) -> &mut Option<PathBuf>),
}

/// A [`Value::Words`] that assigns what each word stands for.
macro_rules! words {
    (|$draft:ident| $place:expr, $($word:literal => $meaning:expr),+ $(,)?) => {
        $crate::cli::flag::Value::Words(&[$($word),+], |$draft, word| {
            $place = match word {
                $($word => $meaning,)+
                _ => return false,
            };
            true
        })
    };
}
pub(super) use words;

impl<D> Value<D> {
    /// The name of the value in the help; `None` if there is no value.
    pub(super) fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::On(_) | Self::Switch(_) => return None,
            Self::Seconds(_) | Self::Timeout(_) | Self::SecondsOrOff(_) => "SECS",
            Self::Bytes(..) => "BYTES",
            Self::Count(_) => "N",
            Self::Words(..) => "WORD",
            Self::Text(name, _) | Self::Raw(name, _) => name,
            Self::Directory(_) => "DIR",
        })
    }

    /// The words to choose from; empty for other values.
    pub(super) fn words(&self) -> &'static [&'static str] {
        if let Self::Words(words, _) = self { words } else { &[] }
    }

    /// The name, or the words to choose from.
    pub(super) fn placeholder(&self) -> Option<String> {
        match self {
            Self::Words(words, _) => Some(words.join("|")),
            _ => self.name().map(str::to_owned),
        }
    }

    /// Stores a value in the draft.
    pub(super) fn apply(&self, draft: &mut D, raw: &OsStr) -> Result<(), String> {
        match self {
            Self::Raw(_, set) => return set(draft, raw),
            Self::Directory(place) => *place(draft) = Some(raw.into()),
            _ => {}
        }
        let text = raw.to_str().ok_or("it must be UTF-8")?;
        match self {
            Self::On(place) => *place(draft) = true,
            Self::Switch(set) => set(draft, text),
            Self::Seconds(place) => *place(draft) = values::seconds(text)?,
            Self::Timeout(place) => *place(draft) = values::positive_seconds(text)?,
            Self::SecondsOrOff(place) => {
                *place(draft) = Some(values::seconds(text)?).filter(|time| !time.is_zero());
            }
            Self::Bytes(most, place) => *place(draft) = values::bytes(text, *most)?,
            Self::Count(place) => *place(draft) = Some(values::count(text)?),
            Self::Words(words, set) => {
                if !set(draft, text) {
                    return Err(format!("allowed is one of {}", words.join(", ")));
                }
            }
            Self::Text(_, set) => return set(draft, text),
            Self::Raw(..) | Self::Directory(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::draft::Draft;
    use super::super::lookup::{by_name, flags};
    use super::super::table::TABLE;
    use super::*;

    fn tables() -> Vec<&'static Table<Draft>> {
        vec![
            TABLE,
            #[cfg(feature = "websocketd")]
            super::super::websocketd::table::TABLE,
        ]
    }

    #[test]
    fn every_entry_is_complete_and_every_name_is_unique() {
        tables().into_iter().for_each(check);
    }

    fn check(table: &'static Table<Draft>) {
        let mut names = Vec::new();
        let mut shorts = Vec::new();
        for flag in flags(table) {
            names.extend(flag.names());
            shorts.extend(flag.short);
            assert!(!flag.name.is_empty() && !flag.name.starts_with('-'), "{flag:?}");
            assert!(flag.text.ends_with('.'), "{}", flag.name);
            assert!(!flag.summary().is_empty() && !flag.summary().ends_with('.'), "{}", flag.name);
            assert_eq!(flag.text.matches('`').count() % 2, 0, "{}: open backtick", flag.name);
            assert!(!flag.text.contains("  "), "{}: two spaces", flag.name);
            for other in flag.conflicts.iter().chain(flag.needs) {
                assert!(by_name(table, other).is_some(), "{} names unknown {other}", flag.name);
            }
            assert!(flag.value.name().is_some() || !flag.equals_only, "{}", flag.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a long name is repeated");
        let count = shorts.len();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!(shorts.len(), count, "a short name is repeated");
    }

    #[test]
    fn every_option_accepts_its_words_and_its_default() {
        for flag in tables().into_iter().flat_map(flags) {
            let set = |text: &str| flag.value.apply(&mut Draft::new(), OsStr::new(text));
            for word in flag.value.words() {
                assert_eq!(set(word), Ok(()), "--{}={word}", flag.name);
            }
            if let [first, ..] = flag.value.words() {
                let error = set("no such word").expect_err(flag.name);
                assert!(error.starts_with(&format!("allowed is one of {first}, ")), "{error}");
                assert!(set("").is_err() && set(&first.to_uppercase()).is_err(), "--{}", flag.name);
            }
            for text in flag.default.iter().chain(&flag.bare) {
                assert_eq!(set(text), Ok(()), "--{}={text}", flag.name);
            }
        }
    }
}
