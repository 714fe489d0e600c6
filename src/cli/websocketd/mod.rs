//! The command line of websocketd: its options, what it prints and its exit statuses.

mod options;
mod resolve;
pub(super) mod table;
mod texts;

use std::ffi::OsString;

pub(super) use self::options::Options;

use super::answer::Answer;
use super::draft::Draft;
use super::environment::Environment;
use super::parse::{Parsed, apply_defaults};
use super::{go_flags, man};
use crate::config::{Config, Level};
use crate::packed::packed;

/// The name that makes the binary websocketd; the option `--websocketd` does so too.
pub(super) const NAME: &str = "websocketd";

/// The man page in mdoc(7), with a placeholder for the options.
pub(super) const PAGE: &[u8] = packed!("websocketd.mdoc");

/// Parses the words after the name of the program. `name` is the one that it was started by.
pub(super) fn parse(
    name: &str,
    words: Vec<OsString>,
    environment: &Environment,
) -> Result<Box<Config>, Answer> {
    let command = if name == NAME { name } else { "scalesocket --websocketd" };
    let is_empty = words.is_empty();
    let mut parsed = Parsed::new(Draft::new());
    // What has no option here is as in the other face.
    let defaults = apply_defaults(super::table::TABLE, &mut parsed);
    parsed.draft.addresses.clear();
    defaults
        .and_then(|()| go_flags::parse(table::TABLE, &mut parsed, words))
        .and_then(|()| apply_defaults(table::TABLE, &mut parsed))
        .map_err(|text| Answer { status: 2, ..texts::misuse(&text, command) })?;
    let options = &parsed.draft.websocketd;
    if options.help {
        return Err(texts::help(command));
    }
    let Some(level) = resolve::level(&options.level) else {
        let text = format!("Incorrect loglevel flag '{}'. Use --help to see allowed values.", options.level);
        return Err(texts::misuse_on_output(&text, command));
    };
    if is_empty {
        return Err(texts::misuse_on_output("Command line arguments are missing.", command));
    }
    let print = |out| Err(Answer { out, ..Answer::default() });
    if options.man {
        return print(man::render(PAGE, table::TABLE));
    }
    if options.version {
        return print(texts::version(name));
    }
    if options.license {
        return print(texts::license(name));
    }
    resolve::complete(&mut parsed, level, command, environment)?;
    Ok(Box::new(parsed.draft.config))
}

/// The server could not start.
pub(super) fn cannot_start(level: Level, reason: &str) -> Answer {
    texts::cannot_start(level, reason)
}
