//! Which room a request is for, and the recipe of that room. The only definition of a room's name. Pure.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::recipe::{Recipe, Share, Variables};

/// The longest room name, in bytes.
pub const MAX_ROOM_NAME: usize = 256;

/// Names that no room can have: paths of the server, and files that browsers and crawlers request from every host.
pub const RESERVED: [&str; 7] = ["api", "metrics", "health", "static", "upload", "robots.txt", "favicon.ico"];

/// The room that a request is for.
#[derive(Debug)]
pub struct Target {
    pub room: Arc<str>,
    /// How the room works if it is opened for this request.
    pub recipe: Arc<Recipe>,
    /// Variables that the face has already made from the request.
    pub variables: Variables,
}

impl Target {
    pub fn new(room: &str, recipe: &Arc<Recipe>) -> Self {
        Self { room: room.into(), recipe: Arc::clone(recipe), variables: Vec::new() }
    }
}

/// Why a request names no room. The text is for the client and for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoom {
    /// The path does not begin with `--base`, which is this.
    OutsideBase(String),
    /// The path has no segment, or an empty one.
    NoName {
        base: String,
    },
    /// The path has more than one segment.
    Segments {
        base: String,
    },
    TooLong,
    Unclean,
    Reserved,
    NotListed,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideBase(base) => {
                write!(
                    f,
                    "All paths begin with {base} (--base); the address of a room is such as {base}/kitchen"
                )
            }
            Self::NoName { base } => write!(
                f,
                "The path names the room, such as {base}/kitchen; --defaultroom NAME gives {base}/ a room"
            ),
            Self::Segments { base } if base.is_empty() => f.write_str(
                "A room is one path segment, such as /kitchen; does a proxy leave its prefix on? --base PATH takes it off",
            ),
            Self::Segments { base } => write!(f, "A room is one path segment, such as {base}/kitchen (--base {base})"),
            Self::TooLong => write!(f, "The name of a room has at most {MAX_ROOM_NAME} bytes"),
            Self::Unclean => {
                f.write_str("The name of a room has no control characters, spaces, quotes or backslashes")
            }
            Self::Reserved => f.write_str("This name is reserved and cannot be a room"),
            Self::NotListed => f.write_str("This room is not one of those that --rooms allows"),
        }
    }
}

/// The rest of a path after `--base`, which may be empty.
pub fn below<'p>(base: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/') || base.is_empty())
}

/// Checks whether a room can have this name.
pub fn check_name(name: &str) -> Result<(), NoRoom> {
    if name.len() > MAX_ROOM_NAME {
        return Err(NoRoom::TooLong);
    }
    if !is_clean(name) {
        return Err(NoRoom::Unclean);
    }
    if RESERVED.contains(&name) {
        return Err(NoRoom::Reserved);
    }
    Ok(())
}

/// The room that a path names: its only segment, exactly as sent, not decoded; a trailing slash is ignored. With
/// `--share=client` or `server` it may be empty.
pub fn room<'p>(config: &'p Config, path: &'p str) -> Result<&'p str, NoRoom> {
    let base = &config.base;
    let Some(path) = below(base, path) else { return Err(NoRoom::OutsideBase(base.clone())) };
    // An asterisk alone (RFC 9112 §3.2.4) is no path.
    let name = match path.strip_prefix('/') {
        Some(name) => name,
        None if path.is_empty() => path,
        None => return Err(NoRoom::Unclean),
    };
    if name.is_empty() {
        return match &config.default_room {
            Some(name) => Ok(name),
            None if config.recipe.share != Share::Room => Ok(""),
            None => Err(NoRoom::NoName { base: base.clone() }),
        };
    }
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.is_empty() {
        return Err(NoRoom::NoName { base: base.clone() });
    }
    if name.contains('/') {
        return Err(NoRoom::Segments { base: base.clone() });
    }
    check_name(name)?;
    Ok(name)
}

/// The room of this name, if `--rooms` allows it.
pub fn target(config: &Config, room: &str) -> Result<Target, NoRoom> {
    if config.rooms.as_ref().is_some_and(|rooms| !rooms.iter().any(|allowed| allowed == room)) {
        return Err(NoRoom::NotListed);
    }
    Ok(Target::new(room, &config.recipe))
}

/// Whether a name or query can be used in a JSON template, a log line and a metrics label without escaping. (It is UTF-8:
/// the parser of the head has checked that.)
pub fn is_clean(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, ' ' | '"' | '\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_clean_short_and_not_reserved() {
        let longest = "r".repeat(MAX_ROOM_NAME);
        let too_long = format!("{longest}r");
        for (name, wanted) in [
            ("r", Ok(())),
            ("r%2fz", Ok(())),
            ("%00", Ok(())),
            (".", Ok(())),
            ("b\u{fc}cher", Ok(())),
            ("API", Ok(())),
            ("%61pi", Ok(())),
            ("a'b<c>`{}|^[]", Ok(())),
            (&longest, Ok(())),
            (&too_long, Err(NoRoom::TooLong)),
            ("a\"b", Err(NoRoom::Unclean)),
            ("a\\b", Err(NoRoom::Unclean)),
            ("a b", Err(NoRoom::Unclean)),
            ("a\u{85}b", Err(NoRoom::Unclean)),
        ] {
            assert_eq!(check_name(name), wanted, "{name}");
        }
        for name in RESERVED {
            assert_eq!(check_name(name), Err(NoRoom::Reserved), "{name}");
        }
    }

    #[test]
    fn a_path_is_below_the_base_segment_by_segment() {
        for (base, path, wanted) in [
            ("", "/a", Some("/a")),
            ("", "/", Some("/")),
            ("", "*", Some("*")),
            ("/a", "/a", Some("")),
            ("/a", "/a/", Some("/")),
            ("/a", "/a/b", Some("/b")),
            ("/a", "/ab", None),
            ("/a", "/", None),
            ("/a", "/b", None),
            ("/a", "/%61/b", None),
            ("/a/b", "/a/b/c", Some("/c")),
            ("/a/b", "/a", None),
        ] {
            assert_eq!(below(base, path), wanted, "{base} {path}");
        }
    }
}
