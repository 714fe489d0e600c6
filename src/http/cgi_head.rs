//! The head of a response that a CGI program writes (RFC 3875 §6.3), read as Go's net/http/cgi does, and printed as HTTP.
//! Pure.

use std::fmt;
use std::time::SystemTime;

use tiny_http::StatusCode;

use super::body::Length;
use super::head::{MAX_FIELDS, MAX_HEAD};

/// Fields that belong to the connection, not to the program.
const OURS: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Debug, PartialEq, Eq)]
pub struct CgiHead {
    pub status: u16,
    /// Names and values, in order, without those of the connection.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The program's `Content-Length`.
    pub length: Option<u64>,
    /// Lines that are not header fields. They are dropped.
    pub bad_lines: usize,
}

/// Why the output of a program is not a response; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgiHeadError {
    TooLarge,
    NoFields,
    Truncated,
    NoType,
    Status,
    Length,
}

impl fmt::Display for CgiHeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => {
                write!(f, "the header is larger than {MAX_HEAD} bytes or {MAX_FIELDS} fields")
            }
            Self::NoFields => f.write_str("the output begins without a header field"),
            Self::Truncated => f.write_str("the output ends before the empty line after the header"),
            Self::NoType => f.write_str("there is neither Content-Type nor Location nor Status"),
            Self::Status => f.write_str("the Status is not a number from 200 to 999"),
            Self::Length => f.write_str("the Content-Length is not a number"),
        }
    }
}

impl CgiHead {
    /// Parses the output of a program: the head and its length in bytes, or `None` if more is needed. `is_all`: there
    /// will not be more.
    pub fn parse(output: &[u8], is_all: bool) -> Result<Option<(Self, usize)>, CgiHeadError> {
        let mut head = Self { status: 0, fields: Vec::new(), length: None, bad_lines: 0 };
        let (mut at, mut lines) = (0, 0);
        loop {
            let Some(end) = memchr::memchr(b'\n', &output[at..]) else {
                return match is_all {
                    _ if output.len() > MAX_HEAD => Err(CgiHeadError::TooLarge),
                    true if lines == 0 => Err(CgiHeadError::NoFields),
                    true => Err(CgiHeadError::Truncated),
                    false => Ok(None),
                };
            };
            let line = &output[at..at + end];
            at += end + 1;
            if at > MAX_HEAD || lines > MAX_FIELDS {
                return Err(CgiHeadError::TooLarge);
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            lines += 1;
            head.take(line)?;
        }
        if head.bad_lines == lines {
            return Err(CgiHeadError::NoFields);
        }
        if head.status == 0 {
            let has = |name: &str| head.fields.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            head.status = match (has("location"), has("content-type")) {
                (true, _) => 302,
                (false, true) => 200,
                (false, false) => return Err(CgiHeadError::NoType),
            };
        }
        Ok(Some((head, at)))
    }

    fn take(&mut self, line: &[u8]) -> Result<(), CgiHeadError> {
        let field = memchr::memchr(b':', line).map(|colon| (&line[..colon], &line[colon + 1..]));
        let Some((name, value)) = field.filter(|(name, _)| is_token(name)) else {
            self.bad_lines += 1;
            return Ok(());
        };
        let value = value.trim_ascii();
        let name = String::from_utf8_lossy(name);
        if name.eq_ignore_ascii_case("status") {
            let digits = value.get(..3).ok_or(CgiHeadError::Status)?;
            let alone = value.get(3).is_none_or(|byte| !byte.is_ascii_digit());
            // 1xx is not the response, and 101 would be another protocol.
            self.status = number(digits)
                .and_then(|status| u16::try_from(status).ok())
                .filter(|&status| status >= 200 && alone)
                .ok_or(CgiHeadError::Status)?;
        } else if name.eq_ignore_ascii_case("content-length") {
            let length = number(value).ok_or(CgiHeadError::Length)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(CgiHeadError::Length);
            }
            self.length = Some(length);
        } else if !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            // A CR or another control character must not end the field.
            let clean = |&byte: &u8| if byte.is_ascii_control() { b' ' } else { byte };
            self.fields.push((name.into_owned(), value.iter().map(clean).collect()));
        }
        Ok(())
    }

    /// Whether a response with this status has a body (RFC 9110 §6.4.1).
    pub fn can_have_body(&self) -> bool {
        !matches!(self.status, 204 | 205 | 304)
    }

    /// The head of the response, including the empty line. A field of `more` replaces the program's own; `length` is
    /// `None` if the response has no body and no length is known.
    pub fn print(&self, more: &[(String, String)], length: Option<Length>, goes_on: bool) -> Vec<u8> {
        let reason = StatusCode(self.status).default_reason_phrase();
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", self.status).into_bytes();
        let mut add = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                text.extend_from_slice(part);
            }
        };
        let is_own = |name: &str| !more.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let has_date = self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("date"));
        if !has_date {
            add("Date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
        }
        for (name, value) in self.fields.iter().filter(|(name, _)| is_own(name)) {
            add(name, value);
        }
        for (name, value) in more {
            add(name, value.as_bytes());
        }
        match length {
            Some(Length::Known(bytes)) => add("Content-Length", bytes.to_string().as_bytes()),
            Some(Length::Chunked) => add("Transfer-Encoding", b"chunked"),
            Some(Length::UntilEnd) | None => {}
        }
        add("Connection", if goes_on { b"keep-alive" } else { b"close" });
        text.extend_from_slice(b"\r\n");
        text
    }
}

/// RFC 9110 §5.6.2.
fn is_token(name: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_letter)
}

fn number(text: &[u8]) -> Option<u64> {
    text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(output: &str) -> Result<(u16, Vec<String>, Option<u64>, usize), CgiHeadError> {
        let (head, length) = CgiHead::parse(output.as_bytes(), true)?.expect("complete");
        assert!(output[..length].ends_with("\n\n") || output[..length].ends_with("\n\r\n"), "{output:?}");
        let fields = head.fields.iter();
        let fields = fields.map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
        Ok((head.status, fields.collect(), head.length, head.bad_lines))
    }

    #[test]
    fn a_head_is_read_as_by_go() {
        let many = "X: y\n".repeat(MAX_FIELDS);
        let kind = "Content-Type: text/plain";
        for (output, status, fields, length, bad_lines) in [
            (format!("{kind}\r\n\r\nhello"), 200, vec!["Content-Type=text/plain"], None, 0),
            (format!("{kind}\n\n\nhello"), 200, vec!["Content-Type=text/plain"], None, 0),
            ("Status: 201 Made It\nX-A:1 \n\nhello".into(), 201, vec!["X-A=1"], None, 0),
            ("status:404\n\n".into(), 404, vec![], None, 0),
            ("Location: /x\n\n".into(), 302, vec!["Location=/x"], None, 0),
            ("Location: /x\nStatus: 307\n\n".into(), 307, vec!["Location=/x"], None, 0),
            (
                "bad line\ncontent-type: a\n Fold: 2\nX Y: 1\n: z\n\n".into(),
                200,
                vec!["content-type=a"],
                None,
                4,
            ),
            (
                format!("{kind}\nContent-Length: 5\ncontent-length: 5\n\n"),
                200,
                vec!["Content-Type=text/plain"],
                Some(5),
                0,
            ),
            (
                "Status: 200\nConnection: close\nTransfer-Encoding: chunked\nTrailer: x\nUpgrade: y\n\n"
                    .into(),
                200,
                vec![],
                None,
                0,
            ),
            (
                "Set-Cookie: a\nSet-Cookie: b\nStatus: 200\n\n".into(),
                200,
                vec!["Set-Cookie=a", "Set-Cookie=b"],
                None,
                0,
            ),
            (
                "Status: 200\nX: a\rY: b\u{0}\u{1}c\td\u{e9}\n\n".into(),
                200,
                vec!["X=a Y: b  c d\u{e9}"],
                None,
                0,
            ),
            (
                format!("{many}\n").replacen("X: y", "Status: 200", 1),
                200,
                vec!["X=y"; MAX_FIELDS - 1],
                None,
                0,
            ),
        ] {
            let fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
            assert_eq!(parse(&output), Ok((status, fields, length, bad_lines)), "{output:?}");
        }
    }

    #[test]
    fn what_is_not_a_response_is_an_error() {
        for (output, expected) in [
            (String::new(), CgiHeadError::NoFields),
            ("\nhello".into(), CgiHeadError::NoFields),
            ("hello".into(), CgiHeadError::NoFields),
            ("nonsense\n\nhello".into(), CgiHeadError::NoFields),
            ("Content-Type: text/plain".into(), CgiHeadError::NoFields),
            ("Content-Type: text/plain\n".into(), CgiHeadError::Truncated),
            ("X-A: 1\n\nhello".into(), CgiHeadError::NoType),
            ("Status: 99x\n\n".into(), CgiHeadError::Status),
            ("Status:\n\n".into(), CgiHeadError::Status),
            ("Status: 101\n\n".into(), CgiHeadError::Status),
            ("Status: 2000\n\n".into(), CgiHeadError::Status),
            ("Status: +20\n\n".into(), CgiHeadError::Status),
            ("Status: 200\nContent-Length: +1\n\n".into(), CgiHeadError::Length),
            ("Status: 200\nContent-Length: 1\nContent-Length: 2\n\n".into(), CgiHeadError::Length),
            ("X: y\n".repeat(MAX_FIELDS + 2), CgiHeadError::TooLarge),
            (format!("X: {}\n\n", "y".repeat(MAX_HEAD)), CgiHeadError::TooLarge),
            ("y".repeat(MAX_HEAD + 1), CgiHeadError::TooLarge),
        ] {
            assert_eq!(parse(&output), Err(expected), "{output:.40?}");
        }
        for incomplete in ["", "Status: 200", "Status: 200\r\n", "Status: 200\r\n\r"] {
            assert_eq!(CgiHead::parse(incomplete.as_bytes(), false), Ok(None), "{incomplete:?}");
        }
    }

    #[test]
    fn a_head_is_printed_with_the_length_and_the_connection_of_the_server() {
        let (head, _) = CgiHead::parse(b"Status: 201\nX-A: \xff\nServer: s\nDate: d\n\n", false)
            .expect("good")
            .expect("complete");
        let more = [("SERVER".to_owned(), "mine".to_owned())];
        for (length, goes_on, end) in [
            (Some(Length::Known(3)), true, "Content-Length: 3\r\nConnection: keep-alive\r\n\r\n"),
            (Some(Length::Chunked), false, "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"),
            (Some(Length::UntilEnd), false, "Connection: close\r\n\r\n"),
            (None, true, "Connection: keep-alive\r\n\r\n"),
        ] {
            let mut expected = b"HTTP/1.1 201 Created\r\nX-A: \xff\r\nDate: d\r\nSERVER: mine\r\n".to_vec();
            expected.extend_from_slice(end.as_bytes());
            assert_eq!(head.print(&more, length, goes_on), expected);
        }
    }
}
