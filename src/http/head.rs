//! The head of a request, parsed and checked. Without I/O, which is in [`super::receive`].

use std::fmt;
use std::io;
use std::ops::Range;

use super::authority::Authority;
use crate::sys::reason;

/// The largest head, in bytes, including the empty line.
pub const MAX_HEAD: usize = 16 * 1024;

/// The largest number of fields in a head.
pub const MAX_FIELDS: usize = 100;

/// A few more than a browser sends.
const USUAL_FIELDS: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// The head of a request that is valid by RFC 9112.
#[derive(Debug, Clone)]
pub struct Head {
    /// The whole head as sent; the fields below are ranges of it.
    bytes: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    /// Where the path begins in the target.
    path_at: usize,
    pub version: Version,
    fields: Vec<(Range<usize>, Range<usize>)>,
    /// The requested host; `None` in HTTP/1.0 without `Host`, or if it is empty.
    pub host: Option<Authority>,
    /// Only a CGI program gets it. Otherwise it is not read, and the connection closes after the response.
    pub has_body: bool,
}

#[derive(Debug)]
pub enum HeadError {
    /// The peer closed before it sent anything, the usual end of a connection.
    Closed,
    /// The peer closed in the middle.
    Truncated,
    /// The deadline passed before anything arrived.
    Idle,
    /// The deadline passed in the middle.
    TimedOut,
    /// More than [`MAX_HEAD`].
    TooLarge,
    /// More than [`MAX_FIELDS`].
    TooManyFields,
    /// Not HTTP, or not valid; the reason is for the peer.
    Malformed(&'static str),
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// HTTP on a port for TLS.
    NotTls,
    Io(io::Error),
}

impl HeadError {
    /// The status of the response; `None` if the peer is gone or sent no request.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Closed | Self::Truncated | Self::Idle | Self::Io(_) => None,
            Self::TimedOut => Some(408),
            Self::TooLarge | Self::TooManyFields => Some(431),
            Self::Malformed(_) | Self::NotTls => Some(400),
            Self::Version => Some(505),
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "Closed before a request"),
            Self::Truncated => write!(f, "Closed in the middle of a request"),
            Self::Idle => write!(f, "No request in time"),
            Self::TimedOut => write!(f, "The request was not complete in time"),
            Self::TooLarge => write!(f, "The request's head is larger than {MAX_HEAD} bytes"),
            Self::TooManyFields => write!(f, "The request has more than {MAX_FIELDS} header fields"),
            Self::Malformed(reason) => write!(f, "Bad request: {reason}"),
            Self::Version => write!(f, "The HTTP version is neither 1.0 nor 1.1"),
            Self::NotTls => write!(f, "This port speaks TLS: use https:// or wss://"),
            Self::Io(error) => write!(f, "Cannot read the request: {}", reason(error)),
        }
    }
}

impl std::error::Error for HeadError {}

impl Head {
    /// Parses what has arrived: the head and its length in bytes, or `None` if more is needed.
    #[inline(never)]
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        match Self::parse_with(bytes, &mut [httparse::EMPTY_HEADER; USUAL_FIELDS]) {
            // On the heap: these are 3 KiB, and the stack of a connection is small.
            Err(HeadError::TooManyFields) => {
                Self::parse_with(bytes, &mut vec![httparse::EMPTY_HEADER; MAX_FIELDS])
            }
            result => result,
        }
    }

    fn parse_with<'a>(
        bytes: &'a [u8],
        fields: &mut [httparse::Header<'a>],
    ) -> Result<Option<(Self, usize)>, HeadError> {
        let mut request = httparse::Request::new(fields);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete(length)) => length,
            Err(error) => return Err(explain(error, bytes)),
        };
        if length > MAX_HEAD {
            return Err(HeadError::TooLarge);
        }
        // A complete parse has all three.
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Ok(None);
        };
        let (authority, path_at) = split_target(method, target)?;
        let place = |part: &[u8]| place(bytes, part);
        let fields = request.headers.iter().map(|field| (place(field.name.as_bytes()), place(field.value)));
        let mut head = Self {
            bytes: bytes[..length].to_vec(),
            method: place(method.as_bytes()),
            target: place(target.as_bytes()),
            path_at,
            version: if version == 0 { Version::Http10 } else { Version::Http11 },
            fields: fields.collect(),
            host: None,
            has_body: false,
        };
        // The host in an absolute target has precedence (RFC 9112 §3.2.2), but the field must be valid as well.
        let host = head.check_host()?;
        head.host = authority.or(host);
        head.has_body = head.check_body()?;
        Ok(Some((head, length)))
    }

    /// A part that the parser has accepted as text.
    fn text(&self, place: &Range<usize>) -> &str {
        std::str::from_utf8(&self.bytes[place.clone()]).unwrap_or_default()
    }

    /// As sent; methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.text(&self.method)
    }

    pub fn target(&self) -> &str {
        self.text(&self.target)
    }

    /// The path, as sent, not decoded; it begins with `/` (or is `*`, or CONNECT's authority).
    pub fn path(&self) -> &str {
        let path = self.target()[self.path_at..].split('?').next().unwrap_or_default();
        if path.is_empty() { "/" } else { path }
    }

    /// The part after the first `?`, as sent, not decoded.
    pub fn query(&self) -> Option<&str> {
        self.target()[self.path_at..].split_once('?').map(|(_, query)| query)
    }

    /// All fields in order: name as sent, value without surrounding white space.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (self.text(name), &self.bytes[value.clone()]))
    }

    /// The values of a field, in order. Case does not matter in names.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let same =
            move |other: &Range<usize>| self.bytes[other.clone()].eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(move |(other, _)| same(other)).map(|(_, value)| &self.bytes[value.clone()])
    }

    /// The first value of a field.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The value of a field that is given exactly once, if it is ASCII.
    pub fn only<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut values = self.values(name);
        let value = values.next()?;
        let alone = values.next().is_none() && value.is_ascii();
        alone.then(|| std::str::from_utf8(value).ok()).flatten()
    }

    /// Whether the lists in all fields of this name contain a token, without case (RFC 9110 §5.6.1, §7.6.1, §7.8).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|&b| b == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether it asks for a websocket. In HTTP/1.0 `Upgrade` is ignored (RFC 9110 §7.8).
    pub fn asks_upgrade(&self) -> bool {
        self.version == Version::Http11 && self.has_token("upgrade", "websocket")
    }

    /// Whether it asks for a websocket, or did before a proxy removed `Upgrade` and left the key.
    pub fn is_handshake(&self) -> bool {
        self.asks_upgrade() || self.field("sec-websocket-key").is_some()
    }

    /// Whether the peer wants to keep the connection open and that is possible: after a body that is not read, or frames
    /// sent before an upgrade was refused, the start of the next request is unknown.
    pub fn goes_on(&self) -> bool {
        self.wants_to_stay() && !self.has_body && !self.asks_upgrade()
    }

    /// Whether the peer wants to keep the connection open (RFC 9112 §9.3).
    pub fn wants_to_stay(&self) -> bool {
        match self.version {
            Version::Http11 => !self.has_token("connection", "close"),
            Version::Http10 => {
                self.has_token("connection", "keep-alive") && !self.has_token("connection", "close")
            }
        }
    }

    /// The number in `Content-Length`; if it is repeated, all are the same.
    pub fn content_length(&self) -> Option<u64> {
        digits(self.field("content-length")?.split(|&b| b == b',').next()?.trim_ascii())
    }

    /// Exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112 §3.2).
    fn check_host(&self) -> Result<Option<Authority>, HeadError> {
        let mut values = self.values("host");
        let value = match (values.next(), values.next()) {
            (Some(value), None) => value,
            (None, _) if self.version == Version::Http10 => return Ok(None),
            (None, _) => return Err(HeadError::Malformed("no Host field")),
            (Some(_), Some(_)) => return Err(HeadError::Malformed("more than one Host field")),
        };
        if value.is_empty() {
            return Ok(None);
        }
        let host = std::str::from_utf8(value).ok().and_then(Authority::parse);
        host.map(Some).ok_or(HeadError::Malformed("the Host field is not a host"))
    }

    /// Whether a body follows (RFC 9112 §6.3). Ambiguous lengths are refused: they allow request smuggling (§11.2).
    fn check_body(&self) -> Result<bool, HeadError> {
        let chunked = self.field("transfer-encoding").is_some();
        if chunked && self.version == Version::Http10 {
            return Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        let mut length = None;
        for value in self.values("content-length").flat_map(|value| value.split(|&b| b == b',')) {
            let value = digits(value.trim_ascii()).ok_or(HeadError::Malformed("bad Content-Length"))?;
            if length.is_some_and(|other| other != value) {
                return Err(HeadError::Malformed("contradictory Content-Length"));
            }
            length = Some(value);
        }
        if chunked && length.is_some() {
            return Err(HeadError::Malformed("both Transfer-Encoding and Content-Length"));
        }
        Ok(chunked || length.is_some_and(|length| length > 0))
    }
}

/// The range of a part within `whole`.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    // An empty part may point anywhere.
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start + part.len()
}

/// A decimal number without sign, as HTTP writes lengths.
fn digits(text: &[u8]) -> Option<u64> {
    // `u64` would accept a `+`.
    text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// The host in an absolute target, and where the path begins (RFC 9112 §3.2).
fn split_target(method: &str, target: &str) -> Result<(Option<Authority>, usize), HeadError> {
    if target.starts_with('/') || target == "*" || method == "CONNECT" {
        return Ok((None, 0));
    }
    let bad = HeadError::Malformed("the target is neither a path nor an http URL");
    let Some((scheme, rest)) = target.split_once("://") else { return Err(bad) };
    if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(bad);
    }
    let length = rest.find(['/', '?']).unwrap_or(rest.len());
    match Authority::parse(&rest[..length]) {
        Some(authority) => Ok((Some(authority), scheme.len() + 3 + length)),
        None => Err(HeadError::Malformed("the target's host is not a host")),
    }
}

/// What is wrong with a request, for the peer.
fn explain(error: httparse::Error, bytes: &[u8]) -> HeadError {
    // The first byte of a TLS handshake record (RFC 8446 §5.1).
    if bytes.first() == Some(&0x16) {
        return HeadError::Malformed("this is TLS, and this port speaks plain HTTP");
    }
    HeadError::Malformed(match error {
        httparse::Error::TooManyHeaders => return HeadError::TooManyFields,
        httparse::Error::Version => {
            let third = bytes.splitn(3, |&b| b == b' ').nth(2).unwrap_or_default();
            if matches!(third, [b'H', b'T', b'T', b'P', b'/', digit, ..] if digit.is_ascii_digit()) {
                return HeadError::Version;
            }
            "the request line is not method, target and version"
        }
        httparse::Error::HeaderName => "bad header field name",
        httparse::Error::HeaderValue => "bad header field value",
        httparse::Error::NewLine => "bad line end",
        httparse::Error::Token | httparse::Error::Status => "bad request line",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Head, HeadError> {
        let (head, length) = Head::parse(text)?.expect("a complete head");
        assert_eq!(length, text.len());
        Ok(head)
    }

    #[test]
    fn a_head_is_split_into_its_parts_as_they_were_sent() {
        let head = parse(b"GET /ro%20om/?a=1&b=?2 HTTP/1.1\r\nhOsT: h:80\r\nX:  a \r\nx:b\xff\r\nE:\r\n\r\n")
            .expect("a good head");
        assert_eq!((head.method(), head.path(), head.query()), ("GET", "/ro%20om/", Some("a=1&b=?2")));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.field("x"), Some(&b"a"[..]));
        assert_eq!(head.values("X").collect::<Vec<_>>(), [&b"a"[..], b"b\xff"]);
        assert_eq!(head.field("e"), Some(&b""[..]));
        assert_eq!(head.field("nothing"), None);
        assert_eq!(head.only("host"), Some("h:80"));
        assert_eq!(head.only("x"), None, "twice");
        assert_eq!(
            head.fields().map(|(name, _)| name).collect::<Vec<_>>(),
            ["hOsT", "X", "x", "E"],
            "in order"
        );
    }

    #[test]
    fn tokens_are_found_across_fields_and_cases_but_never_in_parts() {
        let head = parse(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive , Upgrade\r\nconnection: TE\r\nUpgrade: websocket2, h2c\r\n\r\n")
            .expect("a good head");
        assert!(head.has_token("Connection", "upgrade"));
        assert!(head.has_token("connection", "KEEP-ALIVE"));
        assert!(head.has_token("connection", "te"));
        assert!(!head.has_token("upgrade", "websocket"));
        assert!(!head.has_token("connection", "keep"));
        assert!(!head.asks_upgrade());
    }

    #[test]
    fn an_absolute_target_names_host_and_path() {
        for (target, host, path, query) in [
            ("http://h/x", "h", "/x", None),
            ("HTTP://h:81/x/y?z", "h:81", "/x/y", Some("z")),
            ("ws://h", "h", "/", None),
            ("wss://[::1]:1?a/b", "[::1]:1", "/", Some("a/b")),
            ("/x?http://h/y", "other", "/x", Some("http://h/y")),
        ] {
            let head = parse(format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n").as_bytes());
            let head = head.expect("a good head");
            assert_eq!(head.host.as_ref().map(ToString::to_string).as_deref(), Some(host), "{target}");
            assert_eq!((head.path(), head.query()), (path, query), "{target}");
            assert_eq!(head.target(), target);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (head, status) in [
            // Request lines.
            (&b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"[..], 400),
            (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET / http/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
            (b"PRI * HTTP/2.0\r\n\r\n", 505),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
            // Fields: CR alone, folding, space before the colon, NUL, no colon.
            (b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", 400),
            (b"GET / HTTP/1.1\rHost: h\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: h\r\nX\xff: y\r\n\r\n", 400),
            // Host.
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (b"GET http://h/ HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", 400),
            // The body's length.
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\nContent-Length: 0\r\n\r\n", 400),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 6\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ] {
            let shown = String::from_utf8_lossy(head);
            let error = Head::parse(head).expect_err(&shown);
            assert_eq!(error.status(), Some(status), "{shown}: {error}");
        }
    }

    #[test]
    fn a_body_ends_the_connection_and_so_does_the_peers_wish() {
        for (rest, body, goes_on) in [
            ("1.1\r\nHost: h", false, true),
            ("1.1\r\nHost:", false, true),
            ("1.1\r\nHost: h\r\nConnection: Close", false, false),
            ("1.1\r\nHost: h\r\nConnection: x, close", false, false),
            ("1.1\r\nHost: h\r\nContent-Length: 0", false, true),
            ("1.1\r\nHost: h\r\nContent-Length: 3, 3", true, false),
            ("1.1\r\nHost: h\r\nTransfer-Encoding: chunked", true, false),
            ("1.1\r\nHost: h\r\nUpgrade: websocket", false, false),
            ("1.0", false, false),
            ("1.0\r\nConnection: keep-alive", false, true),
            ("1.0\r\nConnection: keep-alive, close", false, false),
        ] {
            let head = parse(format!("GET / HTTP/{rest}\r\n\r\n").as_bytes()).expect(rest);
            assert_eq!((head.has_body, head.goes_on()), (body, goes_on), "{rest}");
        }
    }

    #[test]
    fn a_hundred_fields_pass_and_one_more_does_not() {
        let with = |fields: usize| {
            let mut text = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
            text.extend(b"a: b\r\n".repeat(fields - 1));
            text.extend(b"\r\n");
            text
        };
        assert!(parse(&with(MAX_FIELDS)).is_ok());
        assert_eq!(parse(&with(MAX_FIELDS + 1)).expect_err("too many").status(), Some(431));
    }
}
