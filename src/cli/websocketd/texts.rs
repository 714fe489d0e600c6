//! What websocketd prints: help, version, errors.

use std::time::SystemTime;

use super::super::answer::Answer;
use super::super::help;
use super::table::TABLE;
use crate::config::Level;

/// The usage after an error. `name` is the command, for the lines to type.
fn usage(name: &str) -> String {
    format!(
        "\nUsage:\n\n  \
         Serve one program over websockets:\n    {name} [options] COMMAND [command args]\n\n  \
         Serve a directory of programs, each at its own path:\n    {name} [options] --dir=DIR\n\n  \
         Show all options:\n    {name} --help\n"
    )
}

/// `--help`
pub(super) fn help(name: &str) -> Answer {
    let mut text = usage(name);
    text.replace_range(..1, "");
    help::sections(&mut text, TABLE);
    Answer { err: text, ..Answer::default() }
}

/// Name, version, platform and build, in the order of websocketd.
pub(super) fn version(name: &str) -> String {
    let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{name} {} (scalesocket {system}-{machine}) --\n", env!("CARGO_PKG_VERSION"))
}

/// `--license`
pub(super) fn license(name: &str) -> String {
    version(name)
        + "\nThis is scalesocket, which takes the options of websocketd. It contains no code of websocketd.\n\
           Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
}

/// An error, on standard error.
pub(super) fn error(text: &str) -> Answer {
    Answer { err: format!("{text}\n"), status: 1, ..Answer::default() }
}

/// An error and the usage.
pub(super) fn misuse(text: &str, name: &str) -> Answer {
    Answer { err: format!("{text}\n{}", usage(name)), status: 1, ..Answer::default() }
}

/// An error on standard output, and the usage.
pub(super) fn misuse_on_output(text: &str, name: &str) -> Answer {
    Answer { out: format!("{text}\n"), err: usage(name), status: 1 }
}

/// An error that is in the log.
pub(super) fn fatal(level: Level, text: &str, status: u8) -> Answer {
    let line = || {
        let time = httpdate::fmt_http_date(SystemTime::now()).replace("GMT", "+0000");
        format!("{time} | FATAL  | server     |  | {text}\n")
    };
    let out = if level >= Level::Fatal { line() } else { String::new() };
    Answer { out, status, ..Answer::default() }
}

/// The server cannot start.
pub(super) fn cannot_start(level: Level, reason: &str) -> Answer {
    fatal(level, &format!("Can't start server: {reason}"), 3)
}
