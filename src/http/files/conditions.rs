//! Conditional requests and ranges (RFC 9110 §13 and §14). Pure.

use std::time::SystemTime;

use crate::http::head::Head;

/// The validators of a file.
#[derive(Debug)]
pub(super) struct Validators {
    /// The strong entity tag, with quotes.
    pub(super) tag: String,
    /// The time of modification, in whole seconds.
    pub(super) modified: SystemTime,
}

/// The result of the conditions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// 200, 206 or 416.
    Send(Selected),
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// The part to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selected {
    Whole,
    /// Of at least one byte.
    Part {
        from: u64,
        length: u64,
    },
    /// The range is outside of the file.
    Nothing,
}

/// Evaluates the conditions in the order of RFC 9110 §13.2.2, then the range.
pub(super) fn evaluate(head: &Head, validators: &Validators, size: u64) -> Condition {
    if head.field("if-match").is_some() {
        if !any_tag(head, "if-match", |weak, tag| !weak && tag == validators.tag) {
            return Condition::Failed;
        }
    } else if date(head, "if-unmodified-since").is_some_and(|date| validators.modified > date) {
        return Condition::Failed;
    }
    let reads = matches!(head.method(), "GET" | "HEAD");
    if head.field("if-none-match").is_some() {
        if any_tag(head, "if-none-match", |_, tag| tag == validators.tag) {
            // For other methods than GET and HEAD it is an error (§13.1.2).
            return if reads { Condition::NotModified } else { Condition::Failed };
        }
    } else if reads && date(head, "if-modified-since").is_some_and(|date| validators.modified <= date) {
        return Condition::NotModified;
    }
    // Ranges are not for HEAD (§14.2). Where other methods are served, they are served like GET.
    if head.method() == "HEAD" || !same_as_before(head, validators) {
        return Condition::Send(Selected::Whole);
    }
    // Repeated fields are several ranges.
    let range = head.only("range").map_or(Selected::Whole, |range| select(range, size));
    Condition::Send(range)
}

/// `If-Range` (§13.1.5): a range is useful only if the file has not changed.
fn same_as_before(head: &Head, validators: &Validators) -> bool {
    if head.field("if-range").is_none() {
        return true;
    }
    match head.only("if-range") {
        Some(value) if value.starts_with('"') => value == validators.tag,
        // A date must match exactly; a weak tag never matches.
        Some(value) => httpdate::parse_http_date(value).is_ok_and(|date| date == validators.modified),
        None => false,
    }
}

/// The date in a field; an invalid date is ignored (§13.1.3).
fn date(head: &Head, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(head.only(name)?).ok()
}

/// Whether any entity tag in a list matches; `*` always does (§13.1.1, §8.8.3). The predicate gets whether the tag is weak,
/// and the tag with its quotes.
fn any_tag(head: &Head, name: &str, wanted: impl Fn(bool, &str) -> bool) -> bool {
    head.values(name).filter_map(|value| std::str::from_utf8(value).ok()).any(|value| {
        if value == "*" {
            return true;
        }
        let mut rest = value;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let (weak, tag) = rest.strip_prefix("W/").map_or((false, rest), |tag| (true, tag));
            // The quotes may contain a comma. Anything that is not a tag ends the list.
            let Some(end) = tag.strip_prefix('"').and_then(|tag| tag.find('"')) else { return false };
            let (tag, behind) = tag.split_at(end + 2);
            if wanted(weak, tag) {
                return true;
            }
            rest = behind;
        }
    })
}

/// A range of bytes (§14.1.2). Unknown ranges are ignored (§14.2), and so are several ranges: a multipart response costs
/// more than it saves.
fn select(range: &str, size: u64) -> Selected {
    let Some((unit, range)) = range.split_once('=') else { return Selected::Whole };
    let Some((first, last)) = range.trim_ascii().split_once('-') else { return Selected::Whole };
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !unit.eq_ignore_ascii_case("bytes") || !is_number(first) || !is_number(last) {
        return Selected::Whole;
    }
    // These are digits, so parsing fails only above 64 bits, and no file is that large.
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    let (from, end) = match (first, last) {
        ("", "") => return Selected::Whole,
        ("", last) => match number(last) {
            0 => return Selected::Nothing,
            // A range cannot express the empty part of an empty file.
            _ if size == 0 => return Selected::Whole,
            last => (size.saturating_sub(last), size),
        },
        (first, "") => (number(first), size),
        (first, last) if number(first) > number(last) => return Selected::Whole,
        (first, last) => (number(first), number(last).saturating_add(1).min(size)),
    };
    if from >= size { Selected::Nothing } else { Selected::Part { from, length: end - from } }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn ask(method: &str, fields: &str) -> Condition {
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let (head, _) = Head::parse(text.as_bytes()).expect(fields).expect("complete");
        let modified = UNIX_EPOCH + Duration::from_secs(784_111_777);
        evaluate(&head, &Validators { tag: "\"a,b\"".into(), modified }, 10)
    }

    const WHOLE: Condition = Condition::Send(Selected::Whole);
    const PART: Condition = Condition::Send(Selected::Part { from: 1, length: 2 });

    #[test]
    fn conditions_are_weighed_in_their_order() {
        for (fields, expected) in [
            ("", WHOLE),
            ("If-None-Match: \"a,b\"\r\n", Condition::NotModified),
            ("If-None-Match: W/\"a,b\"\r\n", Condition::NotModified),
            ("If-None-Match: \"x\", , W/\"y\",\"a,b\"\r\n", Condition::NotModified),
            ("If-None-Match: \"x\"\r\nIf-None-Match: \"a,b\"\r\n", Condition::NotModified),
            ("If-None-Match: *\r\n", Condition::NotModified),
            ("If-None-Match: \"a\"\r\n", WHOLE),
            ("If-None-Match: a,b\r\n", WHOLE),
            ("If-None-Match: \"a,b\r\n", WHOLE),
            ("If-None-Match: \"\r\n", WHOLE),
            ("If-None-Match:\r\n", WHOLE),
            ("If-Modified-Since: {NOW}\r\n", Condition::NotModified),
            ("If-Modified-Since: {AFTER}\r\n", Condition::NotModified),
            ("If-Modified-Since: {BEFORE}\r\n", WHOLE),
            ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", Condition::NotModified),
            ("If-Modified-Since: yesterday\r\n", WHOLE),
            ("If-Modified-Since: \r\n", WHOLE),
            // A tag has precedence over a date.
            ("If-None-Match: \"x\"\r\nIf-Modified-Since: {NOW}\r\n", WHOLE),
            ("If-Match: \"a,b\"\r\n", WHOLE),
            ("If-Match: *\r\n", WHOLE),
            ("If-Match: W/\"a,b\"\r\n", Condition::Failed),
            ("If-Match: \"x\"\r\nIf-None-Match: \"a,b\"\r\n", Condition::Failed),
            ("If-Unmodified-Since: {NOW}\r\n", WHOLE),
            ("If-Unmodified-Since: {BEFORE}\r\n", Condition::Failed),
        ] {
            let fields = fields.replace("{NOW}", NOW).replace("{BEFORE}", BEFORE).replace("{AFTER}", AFTER);
            assert_eq!(ask("GET", &fields), expected, "{fields}");
        }
    }

    #[test]
    fn a_range_is_not_for_head_and_only_for_the_file_that_is_meant() {
        for (method, fields, expected) in [
            ("GET", "", PART),
            ("HEAD", "", WHOLE),
            ("POST", "", PART),
            ("POST", "If-None-Match: \"a,b\"\r\n", Condition::Failed),
            ("POST", "If-Modified-Since: {NOW}\r\n", PART),
            ("GET", "If-Range: \"a,b\"\r\n", PART),
            ("GET", "If-Range: W/\"a,b\"\r\n", WHOLE),
            ("GET", "If-Range: \"x\"\r\n", WHOLE),
            ("GET", "If-Range: {NOW}\r\n", PART),
            ("GET", "If-Range: {AFTER}\r\n", WHOLE),
            ("GET", "If-Range: \r\n", WHOLE),
            ("GET", "Range: bytes=4-5\r\n", WHOLE),
            ("GET", "If-None-Match: \"a,b\"\r\n", Condition::NotModified),
        ] {
            let fields = fields.replace("{NOW}", NOW).replace("{AFTER}", AFTER);
            assert_eq!(ask(method, &format!("Range: bytes=1-2\r\n{fields}")), expected, "{method} {fields}");
        }
    }

    #[test]
    fn a_range_is_cut_to_the_file_or_refused_or_not_understood() {
        let part = |from, length| Selected::Part { from, length };
        for (range, size, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=0-9", 10, part(0, 10)),
            ("Bytes=9-9", 10, part(9, 1)),
            ("bytes=5-", 10, part(5, 5)),
            ("bytes=5-99", 10, part(5, 5)),
            ("bytes=0-99999999999999999999", 10, part(0, 10)),
            ("bytes=-3", 10, part(7, 3)),
            ("bytes=-99", 10, part(0, 10)),
            ("bytes= 1-2", 10, part(1, 2)),
            ("bytes=10-", 10, Selected::Nothing),
            ("bytes=99999999999999999999-", 10, Selected::Nothing),
            ("bytes=-0", 10, Selected::Nothing),
            ("bytes=0-", 0, Selected::Nothing),
            ("bytes=-1", 0, Selected::Whole),
            ("bytes=2-1", 10, Selected::Whole),
            ("bytes=0-1,3-4", 10, Selected::Whole),
            ("bytes=-", 10, Selected::Whole),
            ("bytes=", 10, Selected::Whole),
            ("bytes=a-b", 10, Selected::Whole),
            ("bytes=+1-2", 10, Selected::Whole),
            ("bytes=1--2", 10, Selected::Whole),
            ("bytes=0x1-2", 10, Selected::Whole),
            ("lines=1-2", 10, Selected::Whole),
            ("1-2", 10, Selected::Whole),
        ] {
            assert_eq!(select(range, size), expected, "{range} of {size}");
        }
    }
}
