//! Why the output of a program cannot be decoded any more.

use std::fmt;

/// A break of the framing: the program is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A gwsocket packet of an unknown type.
    Type(u32),
    /// A message longer than allowed, in bytes.
    Length(u64),
    /// A header line that is not a field, or does not end in CR LF.
    Field,
    /// A header without one valid `Content-Length`.
    ContentLength,
    /// A header that does not end within so many bytes.
    HeaderLength(usize),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "a packet of the unknown type {kind:#x} (1 is text, 2 binary)"),
            Self::Length(length) => write!(f, "a message of {length} bytes, more than --maxline"),
            Self::Field => f.write_str("a header line that is not 'NAME: VALUE' and CR LF"),
            Self::ContentLength => f.write_str("a header without a valid Content-Length"),
            Self::HeaderLength(most) => write!(f, "a header of more than {most} bytes"),
        }
    }
}
