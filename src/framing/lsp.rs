//! The framing of the Language Server Protocol: header fields as in HTTP, an empty line, then the message. Pure.
//!
//! ```text
//! Content-Length: 17\r\n
//! \r\n
//! {"jsonrpc":"2.0"}
//! ```

use memchr::memchr;

use super::broken::Broken;
use super::packets;

/// Most bytes of a header, its empty line included.
const MAX_HEADER: usize = 4096;

/// Writes the header of a message.
pub fn write_header(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
}

/// A header of the program. Of its fields only `Content-Length` is used.
#[derive(Debug)]
pub struct Header;

impl packets::Header for Header {
    const MAX: usize = MAX_HEADER;

    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize, u64)>, Broken> {
        let block = &bytes[..bytes.len().min(MAX_HEADER)];
        let (mut at, mut length) = (0, None);
        while let Some(end) = memchr(b'\n', &block[at..]) {
            let line = block[at..at + end].strip_suffix(b"\r").ok_or(Broken::Field)?;
            at += end + 1;
            if line.is_empty() {
                return Ok(Some((Self, at, length.ok_or(Broken::ContentLength)?)));
            }
            if let Some(found) = content_length(line)? {
                if length.is_some_and(|length| length != found) {
                    return Err(Broken::ContentLength);
                }
                length = Some(found);
            }
        }
        if block.len() == MAX_HEADER { Err(Broken::HeaderLength(MAX_HEADER)) } else { Ok(None) }
    }
}

/// The value of the field if it is `Content-Length`.
fn content_length(line: &[u8]) -> Result<Option<u64>, Broken> {
    let colon = memchr(b':', line).ok_or(Broken::Field)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(Broken::Field);
    }
    if !name.eq_ignore_ascii_case(b"Content-Length") {
        return Ok(None);
    }
    let digits = std::str::from_utf8(value.trim_ascii()).map_err(|_| Broken::ContentLength)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Broken::ContentLength);
    }
    digits.parse().map(Some).map_err(|_| Broken::ContentLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packets::Packets;

    /// What comes of a stream that is cut at these places.
    fn read(stream: &[u8], cuts: &[usize]) -> Result<(Vec<Vec<u8>>, usize), Broken> {
        let mut decoder = Packets::<Header>::new(300);
        let (mut got, mut from) = (Vec::new(), 0);
        for &cut in cuts.iter().chain([&stream.len()]) {
            decoder.push(&stream[from..cut], |_, payload| got.push(payload.to_vec()))?;
            from = cut;
        }
        Ok((got, decoder.unfinished()))
    }

    #[test]
    fn messages_are_the_same_however_the_bytes_come() {
        let long = vec![b'x'; 300];
        let messages: [&[u8]; 6] =
            [b"{}", b"", &long, b"\r\n\r\n", b"Content-Length: 1\r\n\r\n", "\u{f6}".as_bytes()];
        let mut stream = Vec::new();
        for (n, message) in messages.iter().enumerate() {
            match n % 3 {
                0 => write_header(message.len(), &mut stream),
                1 => stream.extend_from_slice(
                    format!(
                        "content-length:{}\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n",
                        message.len()
                    )
                    .as_bytes(),
                ),
                _ => stream.extend_from_slice(
                    format!("X-Other: a: b\r\nCONTENT-LENGTH: \t{} \r\n\r\n", message.len()).as_bytes(),
                ),
            }
            stream.extend_from_slice(message);
        }
        let wanted = (messages.map(<[u8]>::to_vec).to_vec(), 0);
        for step in 1..=stream.len() {
            let cuts: Vec<usize> = (step..stream.len()).step_by(step).collect();
            assert_eq!(read(&stream, &cuts).as_ref(), Ok(&wanted), "steps of {step}");
        }
        for first in 0..stream.len() {
            for second in (first..stream.len()).step_by(13) {
                assert_eq!(read(&stream, &[first, second]).as_ref(), Ok(&wanted), "{first} {second}");
            }
        }
        let cut = stream.len() - 1;
        assert_eq!(
            read(&stream[..cut], &[]).expect("good framing").1,
            "Content-Length: \t2 \r\n".len() + "X-Other: a: b\r\n\r\n".len() + 1
        );
    }

    #[test]
    fn a_broken_header_is_told_however_the_bytes_come() {
        let endless = format!("X: {}", "x".repeat(MAX_HEADER));
        for (stream, wanted) in [
            ("Hello, world!\n", Broken::Field),
            ("Hello, world!\r\n", Broken::Field),
            ("{\"jsonrpc\":\"2.0\"}\n", Broken::Field),
            ("{\"jsonrpc\":\"2.0\"}\r\n", Broken::Field),
            ("Content-Length: 2\n\n{}", Broken::Field),
            (": 2\r\n", Broken::Field),
            ("Content Length: 2\r\n", Broken::Field),
            ("\r\n", Broken::ContentLength),
            ("Content-Type: a\r\n\r\n", Broken::ContentLength),
            ("Content-Length: \r\n", Broken::ContentLength),
            ("Content-Length: -1\r\n", Broken::ContentLength),
            ("Content-Length: +1\r\n", Broken::ContentLength),
            ("Content-Length: 0x1\r\n", Broken::ContentLength),
            ("Content-Length: 1 2\r\n", Broken::ContentLength),
            ("Content-Length: 99999999999999999999\r\n", Broken::ContentLength),
            ("Content-Length: 1\r\nContent-Length: 2\r\n", Broken::ContentLength),
            ("Content-Length: 301\r\n\r\n", Broken::Length(301)),
            ("Content-Length: 18446744073709551615\r\n\r\n", Broken::Length(u64::MAX)),
            (&endless, Broken::HeaderLength(MAX_HEADER)),
        ] {
            // As it is, and behind a good message.
            for stream in [stream.to_owned(), format!("Content-Length: 2\r\n\r\n{{}}{stream}")] {
                let step = if stream.len() > 1000 { 97 } else { 1 };
                for cut in (0..stream.len()).step_by(step) {
                    assert_eq!(read(stream.as_bytes(), &[cut]), Err(wanted), "{stream:.40} at {cut}");
                }
            }
        }
        let twice = "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(read(twice.as_bytes(), &[]), Ok((vec![b"{}".to_vec()], 0)));
    }
}
