//! Join and leave messages: text with variables of the client. Pure.

use std::fmt::Write as _;

/// What a template can speak of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The client's number.
    pub id: u64,
    /// Its room.
    pub room: &'a str,
    /// Its address.
    pub address: &'a str,
    /// Its query, raw.
    pub query: &'a str,
}

/// Replaces `#ID`, `#ROOM`, `#REMOTE_ADDR`, `#QUERY_STRING` and `#QUERY_<NAME>`; the longest name that
/// fits wins, and what is unknown stays. One pass: a value can never bring another variable in. The
/// value of `#QUERY_<NAME>` is percent-encoded anew, so it holds letters, digits, `-._~` and `%` only.
pub(super) fn render(template: &str, subject: &Subject<'_>) -> String {
    let parameters: Vec<(String, String)> = subject
        .query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| {
            let name = String::from_utf8_lossy(&decode(name)).to_uppercase();
            (format!("QUERY_{name}"), encode(&decode(value)))
        })
        .collect();
    let id = subject.id.to_string();
    let fixed = [
        ("ID", id.as_str()),
        ("ROOM", subject.room),
        ("REMOTE_ADDR", subject.address),
        ("QUERY_STRING", subject.query),
    ];
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(at) = rest.find('#') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let given = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // Of several with the same name the last one counts, and ours before the client's.
        let best =
            given.chain(fixed).filter(|(name, _)| rest.starts_with(name)).max_by_key(|(name, _)| name.len());
        match best {
            Some((name, value)) => {
                out.push_str(value);
                rest = &rest[name.len()..];
            }
            None => out.push('#'),
        }
    }
    out.push_str(rest);
    out
}

/// `+` and `%XX` undone once (application/x-www-form-urlencoded); what is malformed stays.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|&digit| char::from(digit).to_digit(16));
        match (byte, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

/// All but the unreserved characters of RFC 3986 §2.3 as `%XX`.
fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut out, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once_and_the_longest_name_wins() {
        let query = "a=1&ab=2&name=J%C3%B6rg+X&evil=%23ID%22%0A&a=3&string=no&novalue&=x";
        let subject = Subject { id: 7, room: "ro%20om", address: "127.0.0.1:5", query };
        let cases = [
            (r#"{"t":"Join","_from":#ID}"#, r#"{"t":"Join","_from":7}"#),
            ("#ROOM #REMOTE_ADDR", "ro%20om 127.0.0.1:5"),
            ("#QUERY_A", "3"),
            ("#QUERY_AB", "2"),
            ("#QUERY_ABC", "2C"),
            ("#QUERY_NAME", "J%C3%B6rg%20X"),
            ("#QUERY_EVIL", "%23ID%22%0A"),
            ("#QUERY_STRING", query),
            ("#QUERY_MISSING #PORT ##ID #", "#QUERY_MISSING #PORT #7 #"),
            ("#IDX", "7X"),
            ("", ""),
            ("plain", "plain"),
        ];
        for (template, wanted) in cases {
            assert_eq!(render(template, &subject), wanted, "{template}");
        }
    }

    #[test]
    fn a_value_never_brings_another_variable_in() {
        let subject = Subject { id: 7, room: "#ID", address: "#ROOM", query: "a=#ID" };
        assert_eq!(render("#ROOM #REMOTE_ADDR #QUERY_A", &subject), "#ID #ROOM %23ID");
    }

    #[test]
    fn malformed_escapes_stay_as_they_are() {
        for text in ["%", "%1", "%zz", "%%41"] {
            assert!(decode(text).starts_with(b"%"), "{text}");
        }
        assert_eq!(decode("%41%2f"), b"A/");
    }
}
