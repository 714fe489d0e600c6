//! The keys of JSON framing and their values. Pure; the JSON is valid already.

use super::address::{Address, Ids};
use super::rooms::Rooms;

/// A key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    From,
    Join,
    Leave,
    To,
    Except,
    Meta,
    Cache,
    Room,
}

/// Which key of ours the name of a member is, escapes decoded; `raw` is the text between the quotes.
pub(super) fn name(raw: &[u8]) -> Option<Name> {
    const NAMES: [(&[u8], Name); 8] = [
        (b"_from", Name::From),
        (b"_join", Name::Join),
        (b"_leave", Name::Leave),
        (b"_to", Name::To),
        (b"_except", Name::Except),
        (b"_meta", Name::Meta),
        (b"_cache", Name::Cache),
        (b"_room", Name::Room),
    ];
    // The longest key with each letter as \uXXXX; a longer name is none of ours.
    if raw.len() > 7 * 6 || !matches!(raw.first(), Some(b'_' | b'\\')) {
        return None;
    }
    NAMES.iter().find(|(name, _)| same_text(raw, name)).map(|&(_, name)| name)
}

/// Whether a JSON string with its escapes is this ASCII text.
fn same_text(mut raw: &[u8], text: &[u8]) -> bool {
    for &wanted in text {
        let (byte, length) = match raw {
            [b'\\', b'u', a, b, c, d, ..] => {
                let digits = [*a, *b, *c, *d];
                let code =
                    std::str::from_utf8(&digits).ok().and_then(|hex| u32::from_str_radix(hex, 16).ok());
                (code, 6)
            }
            [b'\\', ..] | [] => return false,
            [byte, ..] => (Some(u32::from(*byte)), 1),
        };
        if byte != Some(u32::from(wanted)) {
            return false;
        }
        raw = &raw[length..];
    }
    raw.is_empty()
}

/// `true` or `false`; `null` is `false`; `None` for anything else.
pub(super) fn flag(value: &[u8]) -> Option<bool> {
    match value {
        b"true" => Some(true),
        b"false" | b"null" => Some(false),
        _ => None,
    }
}

/// A value that is not valid for its key.
#[derive(Debug)]
pub(super) struct Misfit;

/// An id or a list of ids; `null` counts as absent.
fn ids(value: &[u8]) -> Result<Option<Vec<u64>>, Misfit> {
    if value == b"null" {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).map_err(|_| Misfit)?;
    let id = |text: &str| {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits).ok_or(Misfit)
    };
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        None => Ok(Some(vec![id(text)?])),
        Some(list) if list.bytes().all(|byte| byte.is_ascii_whitespace()) => Ok(Some(Vec::new())),
        Some(list) => list.split(',').map(id).collect::<Result<_, _>>().map(Some),
    }
}

/// A name or a list of names; `null` counts as absent.
pub(super) fn names(value: &[u8]) -> Result<Option<Rooms>, Misfit> {
    let text = std::str::from_utf8(value).map_err(|_| Misfit)?;
    if text == "null" {
        return Ok(None);
    }
    let mut names = Vec::new();
    let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        let (name, rest) = string(text).ok_or(Misfit)?;
        return if rest.is_empty() { Ok(Some(vec![name].into())) } else { Err(Misfit) };
    };
    let space = [' ', '\t', '\n', '\r'];
    let mut list = list.trim_matches(space);
    while !list.is_empty() {
        let (name, rest) = string(list).ok_or(Misfit)?;
        names.push(name);
        let rest = rest.trim_start_matches(space);
        list = rest.strip_prefix(',').unwrap_or(rest).trim_start_matches(space);
    }
    Ok(Some(names.into()))
}

/// The string at the start of valid JSON, escapes decoded, and what follows it. Half of a surrogate pair gives U+FFFD.
fn string(json: &str) -> Option<(String, &str)> {
    let mut rest = json.strip_prefix('"')?;
    let mut out = String::new();
    loop {
        let at = rest.find(['"', '\\'])?;
        out.push_str(&rest[..at]);
        let escape = rest[at..].strip_prefix('\\');
        rest = &rest[at + 1..];
        if escape.is_none() {
            return Some((out, rest));
        }
        let kind = rest.chars().next()?;
        if kind == 'u' {
            let mut units = Vec::new();
            rest = &rest[1..];
            loop {
                units.push(u16::from_str_radix(rest.get(..4)?, 16).ok()?);
                rest = &rest[4..];
                match rest.strip_prefix("\\u") {
                    Some(more) => rest = more,
                    None => break,
                }
            }
            out.push_str(&String::from_utf16_lossy(&units));
        } else {
            out.push(match kind {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            });
            rest = &rest[kind.len_utf8()..];
        }
    }
}

/// `_to` and `_except`; if a key is repeated, the last one counts.
pub(super) struct Recipients {
    to: Result<Option<Vec<u64>>, Misfit>,
    except: Result<Option<Vec<u64>>, Misfit>,
}

impl Default for Recipients {
    fn default() -> Self {
        Self { to: Ok(None), except: Ok(None) }
    }
}

impl Recipients {
    pub(super) fn note(&mut self, name: Name, value: &[u8]) {
        match name {
            Name::To => self.to = ids(value),
            Name::Except => self.except = ids(value),
            _ => {}
        }
    }

    /// The clients that they name; without `_to`, all except `but`.
    pub(super) fn address(self, but: Option<u64>) -> Result<Address, Misfit> {
        // Sorted only here: a message may repeat the keys many times.
        let mut except = self.except?.unwrap_or_default();
        if let Some(to) = self.to? {
            return Ok(Address::Only(Ids::from(to).without(&except.into())));
        }
        except.extend(but);
        Ok(Address::AllBut(except.into()))
    }
}
