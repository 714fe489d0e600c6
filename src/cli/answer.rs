//! The answer to a command line that starts no server.

/// What is printed, and the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    pub status: u8,
}
