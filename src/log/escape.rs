//! Escapes untrusted text in log lines: whatever would break the line, be invisible or change how the line reads. Pure.

use std::fmt::{self, Display, Write as _};

/// Whether a character is shown as it is. The standard library knows the unprintable ones: controls, format characters
/// (bidi, zero width, the byte order mark), white space except the space, private use, unassigned. The others here are
/// letters, marks and symbols by category, but blank or of zero width (Unicode, `Default_Ignorable_Code_Point`).
fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // After another character, so that a combining mark is recognised.
    let mut text = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut text[1..]).len();
    let printable =
        std::str::from_utf8(&text[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c));
    printable
        && !matches!(c,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
}

/// Text outside of quotes, with invisible characters escaped.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| if is_visible(c) { f.write_char(c) } else { escape(f, c) })
    }
}

/// As in Rust: `\n`, `\u{202e}`.
fn escape(out: &mut impl fmt::Write, c: char) -> fmt::Result {
    match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c => write!(out, "{}", c.escape_unicode()),
    }
}

/// Quotes and escapes the text from `start` on, unless it is unambiguous as it is.
pub(super) fn quote_text_value(out: &mut String, start: usize) {
    let value = &out[start..];
    let bare =
        !value.is_empty() && value.chars().all(|c| is_visible(c) && !matches!(c, ' ' | '"' | '\\' | '='));
    if bare {
        return;
    }
    let value = out.split_off(start);
    out.push('"');
    for c in value.chars() {
        match c {
            // A single quote stays, so that what it quotes can be copied.
            '"' | '\\' => out.extend(['\\', c]),
            c if is_visible(c) => out.push(c),
            c => {
                let _ = escape(out, c);
            }
        }
    }
    out.push('"');
}

/// Turns the text from `start` on into a JSON string.
pub(super) fn quote_json_string(out: &mut String, start: usize) {
    let value = out.split_off(start);
    push_json_string(out, &value);
}

/// Adds a JSON string. Invisible characters are escaped too: a parser reads the same, and a person is not deceived.
pub(super) fn push_json_string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_visible(c) => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What breaks a line, hides in it or turns it around.
    const DECEIVERS: &[char] = &[
        '\0',
        '\n',
        '\r',
        '\t',
        '\x1b',
        '\x7f',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{a0}',
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{1680}',
        '\u{180e}',
        '\u{2000}',
        '\u{2007}',
        '\u{200a}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202b}',
        '\u{202c}',
        '\u{202d}',
        '\u{202e}',
        '\u{202f}',
        '\u{205f}',
        '\u{2060}',
        '\u{2061}',
        '\u{2066}',
        '\u{2067}',
        '\u{2068}',
        '\u{2069}',
        '\u{206a}',
        '\u{2800}',
        '\u{3000}',
        '\u{3164}',
        '\u{e000}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff9}',
        '\u{ffff}',
        '\u{1d173}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e0100}',
        '\u{f0000}',
        '\u{10ffff}',
        '\u{378}',
    ];

    fn quoted(value: &str) -> String {
        let mut out = format!("key={value}");
        quote_text_value(&mut out, 4);
        out
    }

    fn json(value: &str) -> String {
        let mut out = String::new();
        push_json_string(&mut out, value);
        out
    }

    #[test]
    fn what_deceives_is_escaped_everywhere_and_comes_back_from_json() {
        for &c in DECEIVERS {
            let text = format!("a{c}b");
            for shown in [quoted(&text), Plain(&text).to_string(), json(&text)] {
                assert!(!shown.contains(c), "U+{:04X} in {shown:?}", c as u32);
                assert!(shown.contains('\\'), "U+{:04X} has gone from {shown:?}", c as u32);
            }
            assert_eq!(serde_json::from_str::<String>(&json(&text)).expect("JSON"), text);
        }
    }

    #[test]
    fn what_can_be_read_stays_as_it_is() {
        for text in
            ["plain", "ünï-ço/dé", "日本語", "שלום", "สวัสดี", "हिन्दी", "e\u{301}", "😀", "\u{fffd}", "it's"]
        {
            assert_eq!(quoted(text), format!("key={text}"));
            assert_eq!(Plain(text).to_string(), text);
            assert_eq!(json(text), format!("\"{text}\""));
        }
    }

    #[test]
    fn a_hostile_value_stays_inside_its_quotes() {
        for (value, shown) in [
            ("a\nb \"c\x1b[31m", r#"key="a\nb \"c\u{1b}[31m""#),
            ("", r#"key="""#),
            ("a=b", r#"key="a=b""#),
            ("a\u{202e}b", r#"key="a\u{202e}b""#),
            ("C:\\x", r#"key="C:\\x""#),
            ("only --origin '*' lets it in", r#"key="only --origin '*' lets it in""#),
        ] {
            assert_eq!(quoted(value), shown);
        }
        assert_eq!(json("a\n\"\\\u{202e}\u{e0041}"), r#""a\n\"\\\u202e\udb40\udc41""#);
    }
}
