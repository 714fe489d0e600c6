//! Join and leave messages: text with variables of the client. Pure.
//!
//! The variables are found once, at start, and only in the template. The values that a client sends are not searched
//! for variables.

use std::fmt::Write as _;

use crate::percent;

/// The client that a message is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub id: u64,
    pub room: &'a str,
    pub address: &'a str,
    /// Raw.
    pub query: &'a str,
    /// Those in [`Template::header_names`].
    pub headers: &'a [(String, String)],
}

/// A join or leave message, split at its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    /// The query parameters that it has variables for, in upper case, sorted.
    parameters: Vec<String>,
    /// The header fields that it has variables for, likewise.
    headers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    Id,
    Room,
    Address,
    Query,
    /// `#QUERY_<NAME>`: the name as it is in the template.
    Parameter(String),
    /// `#HTTP_<NAME>`: likewise.
    Header(String),
}

/// The variables with a fixed name.
const FIXED: [(&str, Segment); 4] = [
    ("ID", Segment::Id),
    ("ROOM", Segment::Room),
    ("REMOTE_ADDR", Segment::Address),
    ("QUERY_STRING", Segment::Query),
];

const PARAMETER: &str = "QUERY_";
const HEADER: &str = "HTTP_";

impl Template {
    /// Finds `#ID`, `#ROOM`, `#REMOTE_ADDR`, `#QUERY_STRING`, `#QUERY_<NAME>` and `#HTTP_<NAME>`. A name is all ASCII
    /// letters, digits and underscores that follow. The longest variable that fits wins.
    pub fn parse(template: &str) -> Self {
        let (mut segments, mut text, mut rest) = (Vec::new(), String::new(), template);
        while let Some(at) = rest.find('#') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some((length, segment)) = variable(rest) {
                if !text.is_empty() {
                    segments.push(Segment::Text(std::mem::take(&mut text)));
                }
                segments.push(segment);
                rest = &rest[length..];
            } else {
                text.push('#');
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            segments.push(Segment::Text(text));
        }
        let names = |name: fn(&Segment) -> Option<&String>| {
            let names = segments.iter().filter_map(name).map(|name| name.to_ascii_uppercase());
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let parameters = names(|segment| match segment {
            Segment::Parameter(name) => Some(name),
            _ => None,
        });
        let headers = names(|segment| match segment {
            Segment::Header(name) => Some(name),
            _ => None,
        });
        Self { segments, parameters, headers }
    }

    /// The header fields that it has variables for, in upper case with `_` for `-`.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(String::as_str)
    }

    /// The message about a client. The values of parameters and header fields are percent-encoded, so they contain only
    /// letters, digits, `-._~` and `%`. A variable for which the client sent no value stays as it is.
    pub(super) fn render(&self, subject: &Subject<'_>) -> String {
        let values = self.values(subject.query);
        let mut out = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => out.push_str(text),
                Segment::Id => {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "{}", subject.id);
                }
                Segment::Room => out.push_str(subject.room),
                Segment::Address => out.push_str(subject.address),
                Segment::Query => out.push_str(subject.query),
                Segment::Parameter(name) => {
                    match self.find(name.as_bytes()).and_then(|at| values[at].as_ref()) {
                        Some(value) => out.push_str(value),
                        None => out.extend(["#", PARAMETER, name]),
                    }
                }
                Segment::Header(name) => {
                    match subject.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                        Some((_, value)) => out.push_str(&percent::encode(value.as_bytes())),
                        None => out.extend(["#", HEADER, name]),
                    }
                }
            }
        }
        out
    }

    /// The values of the parameters; if a name is repeated, the last one counts.
    fn values(&self, query: &str) -> Vec<Option<String>> {
        let mut sent = vec![None; self.parameters.len()];
        if !sent.is_empty() {
            for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                if let Some(at) = self.find(&decode(name)) {
                    sent[at] = Some(value);
                }
            }
        }
        sent.into_iter().map(|value| Some(percent::encode(&decode(value?)))).collect()
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        let name = name.to_ascii_uppercase();
        self.parameters.binary_search_by(|known| known.as_bytes().cmp(&name)).ok()
    }
}

/// The variable that `text` begins with, after its `#`, and the length of its name.
fn variable(text: &str) -> Option<(usize, Segment)> {
    let named = |prefix: &str, segment: fn(String) -> Segment| {
        let rest = text.strip_prefix(prefix)?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        (end > 0).then(|| (prefix.len() + end, segment(rest[..end].to_owned())))
    };
    let parameter = named(PARAMETER, Segment::Parameter).or_else(|| named(HEADER, Segment::Header));
    let fixed = FIXED.into_iter().filter(|(name, _)| text.starts_with(name));
    // Of two of the same length the last one counts, so `#QUERY_STRING` is not a parameter.
    parameter
        .into_iter()
        .chain(fixed.map(|(name, segment)| (name.len(), segment)))
        .max_by_key(|&(length, _)| length)
}

/// Decodes application/x-www-form-urlencoded once; malformed parts stay.
fn decode(text: &str) -> Vec<u8> {
    percent::decode(text.replace('+', " ").as_bytes()).0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::cpu_time;

    fn render(template: &str, subject: &Subject<'_>) -> String {
        Template::parse(template).render(subject)
    }

    #[test]
    fn variables_are_replaced_once_and_the_longest_name_wins() {
        let query =
            "a=1&ab=2&name=J%C3%B6rg+X&evil=%23ID%22%0A&a=3&string=no&novalue&=x&Mixed_1=%2b&%6doved=4";
        let subject = Subject { id: 7, room: "ro%20om", address: "127.0.0.1:5", query, headers: &[] };
        let cases = [
            (r#"{"t":"Join","_from":#ID}"#, r#"{"t":"Join","_from":7}"#),
            ("#ROOM #REMOTE_ADDR", "ro%20om 127.0.0.1:5"),
            ("#QUERY_A", "3"),
            ("#QUERY_AB", "2"),
            ("#QUERY_ABC", "#QUERY_ABC"),
            ("#QUERY_A-#QUERY_AB.#QUERY_A\u{e9}", "3-2.3\u{e9}"),
            ("#QUERY_NAME", "J%C3%B6rg%20X"),
            ("#QUERY_name#QUERY_Name", "J%C3%B6rg%20XJ%C3%B6rg%20X"),
            ("#QUERY_EVIL", "%23ID%22%0A"),
            ("#QUERY_MIXED_1 #QUERY_MOVED", "%2B 4"),
            ("#QUERY_STRING", query),
            ("#QUERY_string #QUERY_STRINGS", "no #QUERY_STRINGS"),
            (
                "#QUERY_MISSING #QUERY_NOVALUE #QUERY_ #PORT ##ID #",
                "#QUERY_MISSING #QUERY_NOVALUE #QUERY_ #PORT #7 #",
            ),
            ("#IDX #ROOMS #id #REMOTE_ADDRESS", "7X ro%20omS #id 127.0.0.1:5ESS"),
            ("", ""),
            ("plain", "plain"),
        ];
        for (template, wanted) in cases {
            assert_eq!(render(template, &subject), wanted, "{template}");
        }
    }

    #[test]
    fn neither_a_value_nor_a_name_of_a_client_brings_another_variable_in_or_takes_one_away() {
        let subject = Subject { id: 7, room: "#ID", address: "#ROOM", query: "a=#ID", headers: &[] };
        assert_eq!(render("#ROOM #REMOTE_ADDR #QUERY_A", &subject), "#ID #ROOM %23ID");
        for (template, name, wanted) in [
            ("#QUERY_NAME-#ID", "name-#id", "#QUERY_NAME-7"),
            ("JOIN #QUERY_USER #ID #REMOTE_ADDR", "user #id #remote_addr", "JOIN #QUERY_USER 7 a"),
            (
                r##"{"NAME":"#QUERY_NAME","ID":#ID}"##,
                r#"name","id":#id}"#,
                r##"{"NAME":"#QUERY_NAME","ID":7}"##,
            ),
            ("#QUERY_NAME #ID", "na", "#QUERY_NAME 7"),
            ("#ID", "", "7"),
        ] {
            let query = format!("{}=eve", percent::encode(name.as_bytes()));
            let subject = Subject { id: 7, room: "r", address: "a", query: &query, headers: &[] };
            assert_eq!(render(template, &subject), wanted, "{query}");
        }
    }

    #[test]
    fn header_fields_are_named_without_case_and_their_values_encoded() {
        let template = "#HTTP_X_USER #http_x_user #HTTP_x_User. #HTTP_X_USERS #HTTP_ #HTTP_X-USER #ID#HTTP_A";
        let parsed = Template::parse(template);
        assert_eq!(parsed.header_names().collect::<Vec<_>>(), ["A", "X", "X_USER", "X_USERS"]);
        let headers = [("X_USER", "J\u{f6}rg \"#ID\""), ("A", "")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let subject = Subject { id: 7, room: "r", address: "a", query: "http_x_users=1", headers: &headers };
        let value = "J%C3%B6rg%20%22%23ID%22";
        let wanted = format!("{value} #http_x_user {value}. #HTTP_X_USERS #HTTP_ #HTTP_X-USER 7");
        assert_eq!(parsed.render(&subject), wanted);
    }

    #[test]
    fn many_parameters_and_a_long_template_cost_their_lengths_and_not_the_product() {
        // Each `#` would be compared with each parameter: four thousand million comparisons.
        let many = |text: fn(u32) -> String| (0..64_000).map(text).collect::<Vec<_>>().concat();
        let (query, template) = (many(|n| format!("p{n}=1&")), many(|n| format!("#QUERY_Q{n}#")));
        let subject = Subject { id: 7, room: "r", address: "a", query: &query, headers: &[] };
        let cost = cpu_time::of(|| assert_eq!(render(&template, &subject), template));
        assert!(cost < Duration::from_secs(5), "{cost:?}");
    }

    #[test]
    fn malformed_escapes_stay_as_they_are() {
        for text in ["%", "%1", "%zz", "%%41"] {
            assert!(decode(text).starts_with(b"%"), "{text}");
        }
        assert_eq!(decode("%41%2f"), b"A/");
    }
}
