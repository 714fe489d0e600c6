//! Refusals: the status, the counter and the texts for client and log. Each check has its own reasons; here they become
//! responses.

use std::time::Duration;

use super::origin::ForeignOrigin;
use crate::counters::Count;
use crate::http::head::HeadError;
use crate::http::respond::{self, Reply};
use crate::http::route::{BadRequest, METHODS};
use crate::room::EntryError;
use crate::site::NoRoom;
use crate::slots::Full;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// One line for the client: sentence case, no full stop.
    pub body: String,
    /// For the log, which may say more than the response.
    pub reason: String,
    pub count: Count,
    /// For `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The limit on rooms is reached.
    pub is_room_limit: bool,
    /// One more field of the response.
    pub field: Option<(&'static str, &'static str)>,
}

impl Refusal {
    pub fn new(status: u16, text: impl Into<String>, count: Count) -> Self {
        let body = text.into();
        Self {
            status,
            reason: body.clone(),
            body,
            count,
            retry_after: None,
            is_room_limit: false,
            field: None,
        }
    }

    /// Temporary: there may be room again at any time.
    fn busy(text: impl Into<String>) -> Self {
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(503, text, Count::RefusedLimit) }
    }

    pub(super) fn address_is_full() -> Self {
        Self::new(429, "Too many clients from this address", Count::RefusedLimit)
    }

    pub fn no_thread() -> Self {
        Self::busy("Out of threads")
    }

    /// For a head that cannot be read; `None` if no response is expected.
    pub fn of_head(error: &HeadError) -> Option<Self> {
        Some(Self::new(error.status()?, error.to_string(), Count::RefusedBad))
    }

    pub fn reply(&self) -> Reply {
        let reply = match self.retry_after {
            Some(time) => respond::refuse_for(self.status, &self.body, time),
            None => respond::refuse(self.status, &self.body),
        };
        self.field.iter().fold(reply, |reply, (name, value)| reply.with(name, *value))
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::busy(full.to_string())
    }
}

impl From<NoRoom> for Refusal {
    fn from(reason: NoRoom) -> Self {
        let status = match reason {
            NoRoom::OutsideBase(_) | NoRoom::NoName { .. } | NoRoom::Segments { .. } => 404,
            NoRoom::TooLong | NoRoom::Unclean | NoRoom::Reserved | NoRoom::NotListed => 400,
        };
        Self::new(status, reason.to_string(), Count::RefusedBad)
    }
}

impl From<BadRequest> for Refusal {
    fn from(error: BadRequest) -> Self {
        let (status, field) = match error {
            BadRequest::Method | BadRequest::HandshakeMethod => (405, Some(("Allow", METHODS))),
            // RFC 6455 §4.4.
            BadRequest::Version => (426, Some(("Sec-WebSocket-Version", "13"))),
            BadRequest::Connection
            | BadRequest::Body
            | BadRequest::Key
            | BadRequest::Protocols
            | BadRequest::Query => (400, None),
        };
        Self { field, ..Self::new(status, error.to_string(), Count::RefusedBad) }
    }
}

impl From<ForeignOrigin> for Refusal {
    fn from(origin: ForeignOrigin) -> Self {
        // The client does not learn which origins are allowed.
        let body = "Origin not allowed".to_owned();
        Self { body, ..Self::new(403, origin.to_string(), Count::RefusedOrigin) }
    }
}

impl From<EntryError> for Refusal {
    fn from(error: EntryError) -> Self {
        let refusal = Self::busy(error.sentence());
        match error {
            EntryError::Failing(_, pause) => Self { retry_after: Some(pause), ..refusal },
            error => Self { is_room_limit: error == EntryError::TooManyRooms, ..refusal },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_status_and_says_why_in_one_style() {
        let base = || "/chat".to_owned();
        let foreign = ForeignOrigin::Origin("https://a.example".to_owned());
        for (refusal, status, body) in [
            (Full.into(), 503, "Too many connections"),
            (Refusal::no_thread(), 503, "Out of threads"),
            (
                NoRoom::OutsideBase(base()).into(),
                404,
                "All paths begin with /chat (--base); the address of a room is such as /chat/kitchen",
            ),
            (
                NoRoom::NoName { base: base() }.into(),
                404,
                "The path names the room, such as /chat/kitchen; --defaultroom NAME gives /chat/ a room",
            ),
            (
                NoRoom::Segments { base: String::new() }.into(),
                404,
                "A room is one path segment, such as /kitchen; does a proxy leave its prefix on? --base PATH takes it off",
            ),
            (NoRoom::TooLong.into(), 400, "The name of a room has at most 256 bytes"),
            (
                NoRoom::Unclean.into(),
                400,
                "The name of a room has no control characters, spaces, quotes or backslashes",
            ),
            (NoRoom::Reserved.into(), 400, "This name is reserved and cannot be a room"),
            (NoRoom::NotListed.into(), 400, "This room is not one of those that --rooms allows"),
            (BadRequest::Method.into(), 405, "Only GET, HEAD and OPTIONS"),
            (BadRequest::Version.into(), 426, "Only websocket version 13"),
            (BadRequest::Key.into(), 400, "Sec-WebSocket-Key must be 16 bytes in base64"),
            (foreign.into(), 403, "Origin not allowed"),
            (EntryError::RoomFull.into(), 503, "Room is full"),
            (
                EntryError::Failing(5, Duration::from_millis(1500)).into(),
                503,
                "The program failed 5 times in a row",
            ),
        ] {
            let refusal: Refusal = refusal;
            assert_eq!((refusal.status, &*refusal.body), (status, body));
            for text in [&refusal.body, &refusal.reason] {
                assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
            }
            assert!(refusal.body.starts_with(|c: char| c.is_ascii_uppercase()), "{body}");
            let reply = refusal.reply();
            assert_eq!((reply.status, reply.reason()), (status, body));
            let field =
                |name| reply.fields.iter().find(|(other, _)| *other == name).map(|(_, value)| &**value);
            let again = field("Retry-After");
            assert_eq!(
                again,
                match status {
                    503 if body.contains('5') => Some("2"),
                    503 => Some("1"),
                    _ => None,
                },
                "{body}"
            );
            assert_eq!(field("Sec-WebSocket-Version").is_some(), status == 426, "{body}");
            assert_eq!(field("Allow").is_some(), status == 405, "{body}");
        }
    }
}
