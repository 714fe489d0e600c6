//! The list of the files of a directory, as Go's `FileServer` prints it.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

use super::{Body, Reply};
use crate::percent;

/// The largest number of names in a list.
const MAX_NAMES: usize = 10_000;

/// The list of an open directory.
pub(super) fn reply(directory: &OwnedFd, dotfiles: bool) -> Result<Reply, Errno> {
    let mut names = Vec::new();
    let mut is_cut = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || name[0] == b'.' && !dotfiles {
            continue;
        }
        is_cut = names.len() == MAX_NAMES;
        if is_cut {
            break;
        }
        let mut name = name.to_vec();
        // Some file systems do not tell.
        let is_directory = match entry.file_type() {
            FileType::Unknown => statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            kind => kind == FileType::Directory,
        };
        if is_directory {
            name.push(b'/');
        }
        names.push(name);
    }
    names.sort_unstable();
    let mut page = String::from("<pre>\n");
    for name in &names {
        add_line(&mut page, name);
    }
    page.push_str("</pre>\n");
    if is_cut {
        page.push_str("This list is not complete.\n");
    }
    let body = Body::Bytes(page.into_bytes());
    Ok(Reply::new(200, "text/html; charset=utf-8", body).with("X-Content-Type-Options", "nosniff"))
}

/// A directory has a slash at its end.
fn add_line(page: &mut String, name: &[u8]) {
    // Without a colon, a name is no scheme, so no `./` is needed before it (RFC 3986 §4.2).
    let (bare, slash) = name.strip_suffix(b"/").map_or((name, ""), |bare| (bare, "/"));
    page.extend(["<a href=\"", &percent::encode(bare), slash, "\">"]);
    for char in String::from_utf8_lossy(name).chars() {
        match char {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&#34;"),
            '\'' => page.push_str("&#39;"),
            char => page.push(char),
        }
    }
    page.push_str("</a>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_text_in_the_page_and_one_segment_in_the_link() {
        for (name, line) in [
            (&b"a.txt"[..], "<a href=\"a.txt\">a.txt</a>\n"),
            (b"sub/", "<a href=\"sub/\">sub/</a>\n"),
            (b"a b&<.txt", "<a href=\"a%20b%26%3C.txt\">a b&amp;&lt;.txt</a>\n"),
            (b"\"'><script>", "<a href=\"%22%27%3E%3Cscript%3E\">&#34;&#39;&gt;&lt;script&gt;</a>\n"),
            (b"javascript:x", "<a href=\"javascript%3Ax\">javascript:x</a>\n"),
            (b"%41?#", "<a href=\"%2541%3F%23\">%41?#</a>\n"),
            (b"\xff", "<a href=\"%FF\">\u{fffd}</a>\n"),
        ] {
            let mut page = String::new();
            add_line(&mut page, name);
            assert_eq!(page, line);
        }
    }
}
