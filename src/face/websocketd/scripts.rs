//! `--dir`: which program of a directory a path names. The kernel sees to it that no symbolic link leads out.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::http::files::open::Entry;

#[derive(Debug)]
pub(super) struct Scripts {
    root: OwnedFd,
    directory: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The file to execute.
    pub(super) path: PathBuf,
    /// How many bytes of the path name it; the rest is for the script.
    pub(super) length: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoScript {
    NotFound,
    /// It is not a file that may be executed.
    Forbidden,
}

impl Scripts {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty())?;
        Ok(Self { root, directory: directory.to_owned() })
    }

    /// The script of a decoded, clean path: its first part that is not a directory.
    pub(super) fn find(&self, path: &[u8]) -> Result<Script, NoScript> {
        let mut length = 0;
        loop {
            // From one slash to the next. After the last one nothing is left: it names a directory.
            let name = path.get(length + 1..).filter(|rest| !rest.is_empty()).ok_or(NoScript::NotFound)?;
            length += 1 + name.iter().position(|&byte| byte == b'/').unwrap_or(name.len());
            let relative = Path::new(OsStr::from_bytes(&path[1..length]));
            let kind = Entry::find(&self.root, relative).map_err(|_: Errno| NoScript::NotFound)?.kind();
            if kind == FileType::Directory {
                continue;
            }
            let path = self.directory.join(relative);
            let may_run = kind == FileType::RegularFile && rustix::fs::access(&path, Access::EXEC_OK).is_ok();
            return if may_run { Ok(Script { path, length }) } else { Err(NoScript::Forbidden) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::http::files::testing::Directory;

    #[test]
    fn the_first_part_of_a_path_that_is_no_directory_is_the_script() {
        let directory = Directory::new();
        let root = directory.path().join("dir");
        for name in ["dir/s.sh", "dir/sub/t.sh", "dir/.hidden", "dir/nox", "outside"] {
            directory.write(name, b"#!/bin/sh\n");
            let mode = if name.ends_with("nox") { 0o644 } else { 0o755 };
            let file = directory.path().join(name);
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        symlink("../outside", root.join("link")).expect("symlink");
        symlink("..", root.join("up")).expect("symlink");
        symlink("sub/t.sh", root.join("within")).expect("symlink");
        let fifo = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), fifo, Mode::from(0o700), 0).expect("mkfifo");
        let scripts = Scripts::open(&root).expect("open");
        for (path, file, rest) in [
            ("/s.sh", "s.sh", ""),
            ("/s.sh/", "s.sh", "/"),
            ("/s.sh/a/b", "s.sh", "/a/b"),
            ("/sub/t.sh", "sub/t.sh", ""),
            ("/sub/t.sh/z", "sub/t.sh", "/z"),
            ("/.hidden", ".hidden", ""),
            ("/within/x", "within", "/x"),
        ] {
            let script = scripts.find(path.as_bytes()).expect(path);
            assert_eq!((script.path, &path[script.length..]), (root.join(file), rest), "{path}");
        }
        for path in ["/", "/sub", "/sub/", "/none", "/none/x", "/link", "/up/outside", "/sub/none", "/s.sH"] {
            assert_eq!(scripts.find(path.as_bytes()), Err(NoScript::NotFound), "{path}");
        }
        for path in ["/nox", "/nox/x", "/fifo"] {
            assert_eq!(scripts.find(path.as_bytes()), Err(NoScript::Forbidden), "{path}");
        }
    }
}
