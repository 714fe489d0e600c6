//! Percent-encoding (RFC 3986 §2.1).

use std::fmt::Write as _;

/// Decodes once. A `%` that two hexadecimal digits do not follow stays as it is; says whether there was none.
pub fn decode(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut decoded = Vec::with_capacity(bytes.len());
    let (mut at, mut well_formed) = (0, true);
    while let Some(&byte) = bytes.get(at) {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|&digit| char::from(digit).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (byte, hex(1), hex(2)) {
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(byte);
            well_formed &= byte != b'%';
            at += 1;
        }
    }
    (decoded, well_formed)
}

/// Encodes all bytes but the unreserved characters (RFC 3986 §2.3).
pub fn encode(bytes: &[u8]) -> String {
    encode_except(bytes, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Encodes all bytes but those that are `kept`.
pub fn encode_except(bytes: &[u8], kept: fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if kept(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_once_and_malformed_parts_stay() {
        for (text, decoded, well_formed) in [
            ("", "", true),
            ("a%20b", "a b", true),
            ("%2541", "%41", true),
            ("%c3%A4", "ä", true),
            ("%", "%", false),
            ("%4", "%4", false),
            ("%4g%41", "%4gA", false),
            ("%%41", "%A", false),
        ] {
            assert_eq!(decode(text.as_bytes()), (decoded.as_bytes().to_vec(), well_formed), "{text}");
        }
    }

    #[test]
    fn encoded_text_decodes_to_the_same_bytes() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(encode(&all).as_bytes()), (all, true));
        assert_eq!(encode("a-b/ä".as_bytes()), "a-b%2F%C3%A4");
    }
}
