//! The path of a request: decoded, and cleaned as Go's HTTP server cleans it. Pure.

use crate::percent;

/// A decoded path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// It is clean already.
    Clean(Vec<u8>),
    /// Another path is meant, which is this one, encoded again.
    Moved(String),
    /// Malformed.
    Bad,
}

/// Decodes and cleans a path.
pub(super) fn clean(path: &str) -> Path {
    let (decoded, well_formed) = percent::decode(path.as_bytes());
    if !well_formed || decoded.contains(&0) || decoded.first() != Some(&b'/') {
        return Path::Bad;
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for name in decoded.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut cleaned = Vec::with_capacity(decoded.len());
    for name in names {
        cleaned.push(b'/');
        cleaned.extend_from_slice(name);
    }
    if decoded.ends_with(b"/") || cleaned.is_empty() {
        cleaned.push(b'/');
    }
    if cleaned == decoded {
        return Path::Clean(decoded);
    }
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~$&+,:;=@".contains(&byte);
    Path::Moved(percent::encode_except(&cleaned, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_clean_or_leads_to_the_clean_one() {
        for path in ["/", "/a", "/a/", "/a/b%20c", "/s%2esh", "/.a", "/a..", "/...", "/%c3%a4"] {
            let (decoded, _) = percent::decode(path.as_bytes());
            assert_eq!(clean(path), Path::Clean(decoded), "{path}");
        }
        for (path, place) in [
            ("//", "/"),
            ("//x", "/x"),
            ("//x.example/", "/x.example/"),
            ("/a//b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../x", "/x"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a"),
            ("/./a/", "/a/"),
            ("/a/%2e%2e/b%20c%3f", "/b%20c%3F"),
            ("/a%2f%2fb", "/a/b"),
            ("//a%0d%0aX:%20y", "/a%0D%0AX:%20y"),
        ] {
            assert_eq!(clean(path), Path::Moved(place.to_owned()), "{path}");
        }
        for path in ["*", "", "a", "/%", "/%zz", "/%00", "host:80"] {
            assert_eq!(clean(path), Path::Bad, "{path}");
        }
    }
}
