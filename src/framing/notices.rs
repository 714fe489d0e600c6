//! The messages to a backend that a client has joined or left. Pure.

use super::gwsocket;
use super::input::{self, Input};
use super::template::{Subject, Template};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notices {
    /// Templates, framed as clients' messages are.
    Templates { join: Option<Template>, leave: Option<Template>, input: Input },
    /// gwsocket's packets.
    Gwsocket,
}

impl Notices {
    /// Whether there are notices of either kind.
    pub fn any(&self) -> bool {
        match self {
            Self::Templates { join, leave, .. } => join.is_some() || leave.is_some(),
            Self::Gwsocket => true,
        }
    }

    /// The header fields that they have variables for, in upper case with `_` for `-`.
    pub fn header_names(&self) -> impl Iterator<Item = &str> {
        let templates = match self {
            Self::Templates { join, leave, .. } => [join.as_ref(), leave.as_ref()],
            Self::Gwsocket => [None, None],
        };
        templates.into_iter().flatten().flat_map(Template::header_names)
    }

    /// The notice that a client has come, as it is written.
    pub fn join(&self, subject: &Subject<'_>) -> Option<Vec<u8>> {
        match self {
            Self::Templates { join, input, .. } => from_template(join.as_ref(), *input, subject),
            Self::Gwsocket => Some(gwsocket::open(subject.id, host(subject.address))),
        }
    }

    /// The notice that it leaves.
    pub fn leave(&self, subject: &Subject<'_>) -> Option<Vec<u8>> {
        match self {
            Self::Templates { leave, input, .. } => from_template(leave.as_ref(), *input, subject),
            Self::Gwsocket => Some(gwsocket::close(subject.id)),
        }
    }
}

fn from_template(template: Option<&Template>, input: Input, subject: &Subject<'_>) -> Option<Vec<u8>> {
    Some(input::notice(input, subject.id, &template?.render(subject)))
}

/// An address without its port.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}
