//! Why the server cannot start.

use std::fmt;

use super::help::SYNOPSIS;

/// The text says what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The command line is correct, but the system lacks what it names.
    Start(String),
}

impl Failure {
    /// The exit status.
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
