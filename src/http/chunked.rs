//! The body of a request, decoded while it arrives (RFC 9112 §6 and §7.1). Pure, and without a limit on the size of the
//! body: the caller keeps only what it has read and what it has not yet passed on.

use super::head::Head;

/// The longest line with the size of a chunk, in bytes; clients send no extensions.
const MAX_SIZE_LINE: usize = 256;

/// The largest trailer, in bytes. It is dropped.
const MAX_TRAILER: usize = 4096;

/// What is still to come of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// So many bytes.
    Sized(u64),
    /// Chunks.
    Chunked(Chunks),
}

/// What comes next of a body in chunks.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunks {
    /// The line with the size of the next chunk.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// The trailer, of which this many bytes have been read.
    Trailer(usize),
    /// Nothing.
    Complete,
}

/// A transfer coding that is not `chunked` alone (RFC 9112 §6.1: 501).
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownCoding;

/// Not the chunked coding.
#[derive(Debug, PartialEq, Eq)]
pub struct BadChunk;

impl RequestBody {
    /// The body of a request; of no bytes if there is none.
    pub fn of(head: &Head) -> Result<Self, UnknownCoding> {
        if head.field("transfer-encoding").is_none() {
            return Ok(Self::Sized(head.content_length().unwrap_or(0)));
        }
        match head.only("transfer-encoding") {
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => Ok(Self::Chunked(Chunks::Size)),
            _ => Err(UnknownCoding),
        }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Sized(0) | Self::Chunked(Chunks::Complete))
    }

    /// Decodes the beginning of `raw` and appends it to `decoded`. Returns how many bytes of `raw` were used: none if
    /// more are needed, or if the body is complete.
    pub fn decode(&mut self, raw: &[u8], decoded: &mut Vec<u8>) -> Result<usize, BadChunk> {
        let chunks = match self {
            Self::Sized(left) => return Ok(take(raw, left, decoded)),
            Self::Chunked(chunks) => chunks,
        };
        let mut used = 0;
        while *chunks != Chunks::Complete {
            let rest = &raw[used..];
            let bytes = match chunks {
                Chunks::Data(left) => {
                    let bytes = take(rest, left, decoded);
                    if *left == 0 {
                        *chunks = Chunks::DataEnd;
                    }
                    bytes
                }
                Chunks::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        *chunks = Chunks::Size;
                        2
                    }
                    [] | [b'\r'] => 0,
                    _ => return Err(BadChunk),
                },
                Chunks::Size => match line(rest, MAX_SIZE_LINE)? {
                    None => 0,
                    Some(line) => {
                        *chunks = match size(line)? {
                            0 => Chunks::Trailer(0),
                            size => Chunks::Data(size),
                        };
                        line.len() + 2
                    }
                },
                Chunks::Trailer(had) => match line(rest, MAX_TRAILER - *had)? {
                    None => 0,
                    Some([]) => {
                        *chunks = Chunks::Complete;
                        2
                    }
                    Some(line) => {
                        *had += line.len() + 2;
                        line.len() + 2
                    }
                },
                Chunks::Complete => 0,
            };
            if bytes == 0 {
                break;
            }
            used += bytes;
        }
        Ok(used)
    }
}

/// Moves at most `left` bytes.
fn take(raw: &[u8], left: &mut u64, decoded: &mut Vec<u8>) -> usize {
    let bytes = usize::try_from(*left).map_or(raw.len(), |left| raw.len().min(left));
    decoded.extend_from_slice(&raw[..bytes]);
    *left -= bytes as u64;
    bytes
}

/// The first line without its end, once it is there. The end is CR LF and nothing else: where two programs see different
/// ends, one request can be hidden in another (RFC 9112 §11.2).
fn line(raw: &[u8], most: usize) -> Result<Option<&[u8]>, BadChunk> {
    let Some(end) = memchr::memchr(b'\n', &raw[..raw.len().min(most)]) else {
        return if raw.len() < most { Ok(None) } else { Err(BadChunk) };
    };
    match raw[..end].strip_suffix(b"\r") {
        Some(line) if !line.contains(&b'\r') => Ok(Some(line)),
        _ => Err(BadChunk),
    }
}

/// The size of a chunk; an extension is ignored.
fn size(line: &[u8]) -> Result<u64, BadChunk> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    let digits = std::str::from_utf8(&line[..digits]).map_err(|_| BadChunk)?;
    // Empty, or more than 64 bits.
    let size = u64::from_str_radix(digits, 16).map_err(|_| BadChunk)?;
    if rest.is_empty() || rest[0] == b';' { Ok(size) } else { Err(BadChunk) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked() -> RequestBody {
        RequestBody::Chunked(Chunks::Size)
    }

    /// What is decoded of `raw` if it arrives in pieces of `piece` bytes, and what is left of it.
    fn decode(mut body: RequestBody, raw: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, bool), BadChunk> {
        let (mut decoded, mut buffer) = (Vec::new(), Vec::new());
        for bytes in raw.chunks(piece) {
            buffer.extend_from_slice(bytes);
            let used = body.decode(&buffer, &mut decoded)?;
            buffer.drain(..used);
        }
        Ok((decoded, buffer, body.is_complete()))
    }

    #[test]
    fn a_body_is_decoded_however_it_is_cut_and_what_follows_is_left() {
        for (raw, decoded, left, complete) in [
            ("0\r\n\r\n", "", "", true),
            ("5\r\nhello\r\n0\r\n\r\nGET /", "hello", "GET /", true),
            (
                "5\r\nhello\r\nA\r\n0123456789\r\n000\r\nX: y\r\nZ:\r\n\r\n\r\n",
                "hello0123456789",
                "\r\n",
                true,
            ),
            ("1;a=b\r\nx\r\n1 ; c\r\ny\r\n0;z\r\n\r\n", "xy", "", true),
            ("5\r\nhel", "hel", "", false),
            ("5\r\nhello", "hello", "", false),
            ("5\r\nhello\r", "hello", "\r", false),
            ("5", "", "5", false),
            ("5\r", "", "5\r", false),
            ("0\r\nX: y\r\n", "", "", false),
        ] {
            for piece in 1..=raw.len() {
                let expected = Ok((decoded.into(), left.into(), complete));
                assert_eq!(decode(chunked(), raw.as_bytes(), piece), expected, "{raw:?} by {piece}");
            }
        }
        for piece in 1..8 {
            let expected = Ok((b"abc".to_vec(), b"GET".to_vec(), true));
            assert_eq!(decode(RequestBody::Sized(3), b"abcGET", piece), expected);
        }
        assert_eq!(decode(RequestBody::Sized(3), b"ab", 1), Ok((b"ab".to_vec(), Vec::new(), false)));
    }

    #[test]
    fn what_is_not_exactly_chunked_is_refused() {
        let long = format!("5;{}\r\n", "x".repeat(MAX_SIZE_LINE));
        let trailer = format!("0\r\n{}\r\n", "X: y\r\n".repeat(MAX_TRAILER / 6 + 1));
        for raw in [
            "\r\n",
            "\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 1\r\n",
            "1,\r\n",
            "1\nx\r\n",
            "1\r\rx\r\n",
            "5;a\r;b\r\n",
            "10000000000000000\r\n",
            "1\r\nxy\r\n",
            "1\r\nx\n0\r\n\r\n",
            "0\r\n\n",
            &long,
            &trailer,
        ] {
            for piece in [1, 7, raw.len()] {
                assert_eq!(decode(chunked(), raw.as_bytes(), piece), Err(BadChunk), "{raw:?} by {piece}");
            }
        }
        let largest = decode(chunked(), b"ffffffffffffffff\r\nx", 20);
        assert_eq!(largest, Ok((b"x".to_vec(), Vec::new(), false)));
    }

    #[test]
    fn a_request_says_which_body_follows() {
        for (fields, expected) in [
            ("", Ok(RequestBody::Sized(0))),
            ("Content-Length: 5\r\n", Ok(RequestBody::Sized(5))),
            ("Content-Length: 5, 5\r\nContent-Length: 5\r\n", Ok(RequestBody::Sized(5))),
            ("Transfer-Encoding: Chunked\r\n", Ok(chunked())),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(UnknownCoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(UnknownCoding)),
            ("Transfer-Encoding: identity\r\n", Err(UnknownCoding)),
            ("Transfer-Encoding: xchunked\r\n", Err(UnknownCoding)),
            ("Transfer-Encoding:\r\n", Err(UnknownCoding)),
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            let (head, _) = Head::parse(text.as_bytes()).expect(fields).expect("complete");
            assert_eq!(RequestBody::of(&head), expected, "{fields}");
        }
    }
}
