//! Which file the path of a request names. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::percent;

/// The decoded names of a path; none is empty, `.` or `..`, or contains `/` or NUL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    names: Vec<Vec<u8>>,
    directory: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Invalid percent-encoding, or a NUL.
    Malformed,
    /// `.`, `..`, an empty name or a `/` in a name, which are never served; or a dotfile.
    Hidden,
}

impl Wanted {
    /// Parses a path as it was sent.
    pub(super) fn parse(path: &str, dotfiles: bool) -> Result<Self, Bad> {
        let path = path.strip_prefix('/').ok_or(Bad::Hidden)?;
        if path.is_empty() {
            return Ok(Self { names: Vec::new(), directory: true });
        }
        let (path, directory) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        // With an empty name, a redirect to `//host` would lead to another host (RFC 3986 §4.2).
        let names: Vec<Vec<u8>> = path.split('/').map(decode).collect::<Result<_, _>>()?;
        let is_hidden = |name: &Vec<u8>| match name.as_slice() {
            b"" | b"." | b".." => true,
            name => name[0] == b'.' && !dotfiles || name.contains(&b'/'),
        };
        if names.iter().any(is_hidden) {
            return Err(Bad::Hidden);
        }
        Ok(Self { names, directory })
    }

    /// Whether the path ends in a slash.
    pub(super) fn is_directory(&self) -> bool {
        self.directory
    }

    /// The path relative to the served directory; empty for the directory itself.
    pub(super) fn path(&self) -> PathBuf {
        self.names.iter().map(|name| OsStr::from_bytes(name)).collect()
    }

    /// The last name in a URL; `None` for the directory itself.
    pub(super) fn last(&self) -> Option<String> {
        self.names.last().map(|name| percent::encode(name))
    }

    /// The path in a URL, without a slash at its end.
    pub(super) fn encoded(&self) -> String {
        let names = self.names.iter().map(|name| percent::encode(name));
        names.fold(String::new(), |path, name| path + "/" + &name)
    }
}

/// Encodes a query for a URL; what is encoded already stays (RFC 3986 §2.1, §3.4).
pub(super) fn encode(query: &str) -> String {
    percent::encode_except(query.as_bytes(), |byte| byte.is_ascii_graphic())
}

fn decode(text: &str) -> Result<Vec<u8>, Bad> {
    let (decoded, well_formed) = percent::decode(text.as_bytes());
    if well_formed && !decoded.contains(&0) { Ok(decoded) } else { Err(Bad::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once_and_names_stay_names() {
        for (path, file, directory) in [
            ("/", "", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("/a/b%20c.txt", "a/b c.txt", false),
            ("/%2561", "%61", false),
            ("/a..b", "a..b", false),
            ("/a.", "a.", false),
            ("/é", "é", false),
        ] {
            let wanted = Wanted::parse(path, false).expect(path);
            assert_eq!((wanted.path().to_str(), wanted.is_directory()), (Some(file), directory), "{path}");
        }
        for path in
            ["", "a", "*", "//", "//a", "/a//", "/a//b", "/.", "/..", "/a/..", "/.a", "/%2e", "/a/%2E%2e"]
        {
            assert_eq!(Wanted::parse(path, false), Err(Bad::Hidden), "{path}");
        }
        for path in ["/%2f", "/a%2Fb", "/%2f%2e%2e", "/a/..%2f"] {
            assert_eq!(Wanted::parse(path, false), Err(Bad::Hidden), "{path}");
        }
        for path in ["/.a", "/a/.b", "/...", "/a/..b/"] {
            assert!(Wanted::parse(path, true).is_ok(), "{path}");
        }
        for path in ["//", "/.", "/..", "/a/../b", "/./", "/%2e%2e/a", "/a/%2e", "/%2f", "/..%2f", "/.a/.%2e"]
        {
            assert_eq!(Wanted::parse(path, true), Err(Bad::Hidden), "{path}");
        }
        for path in ["/%", "/%4", "/%g0", "/%00", "/a%00b", "/%-1", "/%é"] {
            assert_eq!(Wanted::parse(path, false), Err(Bad::Malformed), "{path}");
        }
    }
}
