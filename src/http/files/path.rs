//! Which file a request's path asks for: decoded once, then only plain names. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::percent;

/// The names along a path, decoded; none is empty, begins with a dot or holds `/` or NUL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    names: Vec<Vec<u8>>,
    directory: bool,
}

/// Why a path asks for nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Not percent-encoding, or a NUL.
    Malformed,
    /// `.`, `..`, a dotfile, an empty name, a `/` in a name: there is no such file, by definition.
    Hidden,
}

impl Wanted {
    /// Reads a path as it was sent.
    pub(super) fn parse(path: &str) -> Result<Self, Bad> {
        let path = path.strip_prefix('/').ok_or(Bad::Hidden)?;
        if path.is_empty() {
            return Ok(Self { names: Vec::new(), directory: true });
        }
        let (path, directory) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        // No name may be empty: `//host` in a redirect would be another host (RFC 3986 §4.2).
        let names: Vec<Vec<u8>> = path.split('/').map(decode).collect::<Result<_, _>>()?;
        if names.iter().any(|name| name.is_empty() || name[0] == b'.' || name.contains(&b'/')) {
            return Err(Bad::Hidden);
        }
        Ok(Self { names, directory })
    }

    /// Whether the path ends in a slash.
    pub(super) fn is_directory(&self) -> bool {
        self.directory
    }

    /// The file, relative to the directory that is served; empty for that directory itself.
    pub(super) fn path(&self) -> PathBuf {
        self.names.iter().map(|name| OsStr::from_bytes(name)).collect()
    }

    /// The same as a path in a URL, without a slash at its end.
    pub(super) fn encoded(&self) -> String {
        let names = self.names.iter().map(|name| percent::encode(name));
        names.fold(String::new(), |path, name| path + "/" + &name)
    }
}

/// A query as it may stand in a URL; what is encoded already stays (RFC 3986 §2.1, §3.4).
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
            let wanted = Wanted::parse(path).expect(path);
            assert_eq!((wanted.path().to_str(), wanted.is_directory()), (Some(file), directory), "{path}");
        }
        for path in
            ["", "a", "*", "//", "//a", "/a//", "/a//b", "/.", "/..", "/a/..", "/.a", "/%2e", "/a/%2E%2e"]
        {
            assert_eq!(Wanted::parse(path), Err(Bad::Hidden), "{path}");
        }
        for path in ["/%2f", "/a%2Fb", "/%2f%2e%2e", "/a/..%2f"] {
            assert_eq!(Wanted::parse(path), Err(Bad::Hidden), "{path}");
        }
        for path in ["/%", "/%4", "/%g0", "/%00", "/a%00b", "/%-1", "/%é"] {
            assert_eq!(Wanted::parse(path), Err(Bad::Malformed), "{path}");
        }
    }
}
