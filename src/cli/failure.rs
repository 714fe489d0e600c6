//! Why there is nothing to run.

use std::fmt;

use super::help::SYNOPSIS;

/// See the module's documentation. The text says what is wrong, with what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The command line is right, but the system does not have what it names.
    Start(String),
}

impl Failure {
    /// The exit status: 2 for usage, 1 for what cannot start.
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
            Self::Usage(text) => {
                write!(f, "{text}\nusage: {SYNOPSIS}\n-h lists the options, --help explains them")
            }
            Self::Start(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}
