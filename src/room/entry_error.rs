//! Why a client may not join: it is refused with a status before the upgrade, or with a close frame after it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryError {
    TooManyRooms,
    /// No port is left for another program.
    NoPort,
    RoomFull,
    Oneshot,
    /// The program could not be started. The text is fit for clients.
    Start(Arc<str>),
    /// The last program cannot be ended.
    Stuck,
    /// The program failed this many times in a row and is not started for this long.
    Failing(u32, Duration),
    ShuttingDown,
    /// The client hung up while it waited.
    Gone,
}

impl EntryError {
    /// The reason as a sentence, for the body of an answer.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        text
    }
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start(reason) => reason,
            Self::Failing(times, _) => return write!(f, "the program failed {times} times in a row"),
            Self::TooManyRooms => "too many rooms",
            Self::NoPort => "no port left for the program",
            Self::RoomFull => "room is full",
            Self::Oneshot => "only one client is served",
            Self::Stuck => "room is not available: its last program does not end",
            Self::ShuttingDown => "server is shutting down",
            Self::Gone => "hung up while it waited",
        })
    }
}
