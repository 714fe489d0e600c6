//! Why nothing more can be understood of a program's output.

use std::fmt;

/// A break of the framing, which the program does not survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A gwsocket packet of an unknown type.
    Type(u32),
    /// A message longer than allowed, in bytes.
    Length(u64),
    /// A line in a header that is no field, or no end of a line.
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
