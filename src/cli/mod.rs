//! The command line: from words to a [`Config`], or to text for standard output.
//!
//! [`table`] is the one list of flags; parser, help, man page and completions are renderings of it.
//! Nothing here prints, exits or looks at the process's own environment: the caller does.

mod addresses;
mod arguments;
mod completions;
mod flags;
mod help;
mod man;
mod parse;
mod program;
mod resolve;
mod table;
mod values;

use std::ffi::{OsStr, OsString};
use std::fmt;

pub use parse::parse;

use crate::config::Config;

/// What the command line asks for.
#[derive(Debug)]
pub enum Action {
    /// Serve.
    Run(Box<Config>),
    /// Print this on standard output and be done. Ends in a newline.
    Print(String),
}

/// Why there is nothing to run. The text says what is wrong, with what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The command line is right, but the system does not have what it names.
    Start(String),
}

impl Failure {
    /// The exit status that goes with it: 2 for usage, 1 for what cannot start.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Start(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Start(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

/// The variables that the server was started with.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Takes them from `std::env::vars_os`, or from a test.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { variables: variables.into_iter().collect() }
    }

    /// A variable's value. Of two with one name the first counts, as for getenv(3).
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        self.variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_os_str())
    }
}
