//! Parses the words of a command line with a table: which are options, which is the program, which are its arguments.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use super::flag::{Flag, Table};
use super::lookup::{by_name, by_short, flags, nearest};

/// The parsed command line, before anything is checked with the system.
#[derive(Debug)]
pub(super) struct Parsed<D> {
    pub(super) draft: D,
    /// Long names of the options that were given.
    pub(super) given: Vec<&'static str>,
    pub(super) program: Option<OsString>,
    /// The program's arguments.
    pub(super) arguments: Vec<OsString>,
}

impl<D> Parsed<D> {
    pub(super) fn new(draft: D) -> Self {
        Self { draft, given: Vec::new(), program: None, arguments: Vec::new() }
    }

    /// Whether the option was given explicitly.
    pub(super) fn gave(&self, name: &str) -> bool {
        self.given.contains(&name)
    }
}

/// Parses the words after the name of the program.
pub(super) fn parse<D>(
    table: &'static Table<D>,
    draft: D,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Parsed<D>, String> {
    let parsed = Parsed::new(draft);
    let words = Words(pico_args::Arguments::from_vec(words.into_iter().collect()));
    let mut parser = Parser { table, words, parsed };
    while let Some(word) = parser.words.next() {
        if word == "--" {
            parser.parsed.program = parser.parsed.program.take().or_else(|| parser.words.next());
            break;
        }
        // A single dash is not an option; by convention it means standard input.
        if word.as_bytes().starts_with(b"-") && word != "-" {
            if parser.option(&word)? {
                return Ok(parser.parsed);
            }
        } else if parser.parsed.program.is_none() {
            parser.parsed.program = Some(word);
        } else {
            parser.parsed.arguments.push(word);
            break;
        }
    }
    let Parser { words, mut parsed, .. } = parser;
    parsed.arguments.append(&mut words.0.finish());
    for flag in flags(table) {
        check(flag, &parsed)?;
    }
    apply_defaults(table, &mut parsed)?;
    Ok(parsed)
}

/// Sets the defaults of the options that were not given.
pub(super) fn apply_defaults<D>(table: &'static Table<D>, parsed: &mut Parsed<D>) -> Result<(), String> {
    for flag in flags(table) {
        if let Some(value) = flag.default
            && !parsed.gave(flag.name)
        {
            flag.value.apply(&mut parsed.draft, OsStr::new(value))?;
        }
    }
    Ok(())
}

fn check<D>(flag: &Flag<D>, parsed: &Parsed<D>) -> Result<(), String> {
    let name = flag.name;
    if !parsed.gave(name) {
        return Ok(());
    }
    if let Some(other) = flag.conflicts.iter().find(|other| parsed.gave(other)) {
        return Err(format!("--{name} and --{other} cannot be given together"));
    }
    match flag.needs.iter().find(|other| !parsed.gave(other)) {
        Some(other) => Err(format!("--{name} needs --{other}")),
        None => Ok(()),
    }
}

/// The remaining words. pico-args keeps the list; its parsing of `--option=value` is not used, as it strips quotes and
/// accepts neither an empty value (`--passenv=`) nor one that is not UTF-8.
#[derive(Clone)]
struct Words(pico_args::Arguments);

impl Words {
    fn next(&mut self) -> Option<OsString> {
        let word: Result<_, pico_args::Error> =
            self.0.opt_free_from_os_str(|word| Ok::<_, Infallible>(word.to_owned()));
        word.ok().flatten()
    }
}

struct Parser<D: 'static> {
    table: &'static Table<D>,
    words: Words,
    parsed: Parsed<D>,
}

impl<D> Parser<D> {
    /// Applies an option, or a cluster of short options, with its value. Returns whether to stop parsing.
    fn option(&mut self, word: &OsStr) -> Result<bool, String> {
        let bytes = word.as_bytes();
        let (name, attached) = match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
            None => (bytes, None),
        };
        let name = OsStr::from_bytes(name);
        let Some(typed) = name.to_str() else { return Err(self.unknown(word, name)) };
        if let Some(long) = typed.strip_prefix("--") {
            return match by_name(self.table, long) {
                Some(flag) => self.set(flag, typed, attached),
                None => Err(self.unknown(word, name)),
            };
        }
        let cluster: Option<Vec<_>> =
            typed.chars().skip(1).map(|short| by_short(self.table, short)).collect();
        let Some(cluster) = cluster else { return Err(self.unknown(word, name)) };
        // The program may have the same short options.
        if let Some(program) = &self.parsed.program {
            let (word, program) = (word.display(), program.display());
            return Err(format!(
                "{word} follows {program}, where short options of scalesocket are not accepted{}\n\
                 if it is meant for scalesocket, put it first: scalesocket {word} {program}",
                self.meant_for_the_program(&word)
            ));
        }
        // In a cluster it is not clear which option a value belongs to.
        let takes_value = attached.is_some() || cluster.iter().any(|flag| flag.value.name().is_some());
        if cluster.len() > 1 && takes_value {
            return Err(self.unknown(word, name));
        }
        for flag in cluster {
            if self.set(flag, typed, attached)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn unknown(&self, word: &OsStr, name: &OsStr) -> String {
        let mut text = format!("unknown option {}", word.display());
        if let Some(meant) = name.to_str().and_then(|name| nearest(self.table, name)) {
            let _ = write!(text, ", did you mean --{meant}?");
        }
        text + &self.meant_for_the_program(&word.display())
    }

    fn meant_for_the_program(&self, word: &dyn std::fmt::Display) -> String {
        let program = self.parsed.program.as_ref().map(|program| program.display());
        program.map_or_else(String::new, |program| {
            format!("\nif it is meant for {program}, put -- before it: scalesocket {program} -- {word}")
        })
    }

    /// Applies an option. `typed` is the option as typed, for errors.
    fn set(&mut self, flag: &Flag<D>, typed: &str, attached: Option<&OsStr>) -> Result<bool, String> {
        if self.parsed.gave(flag.name) && !flag.repeatable {
            return Err(format!("{typed} is given twice"));
        }
        self.parsed.given.push(flag.name);
        let value = match (attached, flag.value.placeholder()) {
            (Some(_), None) => return Err(format!("{typed} takes no value")),
            (None, None) => typed.into(),
            (Some(value), _) => value.to_owned(),
            (None, Some(placeholder)) => self.value(flag, typed, &placeholder)?,
        };
        let draft = &mut self.parsed.draft;
        flag.value
            .apply(draft, &value)
            .map_err(|reason| format!("{typed}: bad value {:?}: {reason}", value.display().to_string()))?;
        Ok(flag.stops)
    }

    /// The value of an option without an attached one.
    fn value(&mut self, flag: &Flag<D>, typed: &str, placeholder: &str) -> Result<OsString, String> {
        let equals_sign =
            |value| Err(format!("{typed} takes its value with an equals sign: {typed}={value}"));
        if let Some(bare) = flag.bare {
            // Otherwise the next word would become the program.
            let next = self.words.clone().next();
            let meant = next
                .as_ref()
                .and_then(|word| word.to_str())
                .filter(|word| self.parsed.program.is_none() && flag.value.words().contains(word));
            return meant.map_or(Ok(bare.into()), equals_sign);
        }
        if flag.equals_only {
            return equals_sign(placeholder);
        }
        // Any word is accepted as a value, even with a leading dash.
        self.words.next().ok_or_else(|| format!("{typed} needs a value: {typed} {placeholder}"))
    }
}
