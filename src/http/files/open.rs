//! Finds and opens a file beneath a directory; symbolic links cannot lead out of it. The file is located first and opened
//! for reading once it is known to be a regular file: to open a pipe or a device can have side effects.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Attempts to resolve a path while its directories are being renamed (`EAGAIN`, openat2(2)).
const TRIES: usize = 8;

/// Locates a file without opening it (open(2)).
const LOCATE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens for reading, without waiting for the other end if the path has become a pipe.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

#[derive(Debug)]
pub(crate) struct Entry<'a> {
    root: &'a OwnedFd,
    path: &'a Path,
    /// Not open for reading.
    place: OwnedFd,
    pub(crate) stat: Stat,
}

impl<'a> Entry<'a> {
    /// Finds `path` beneath `root`. Symbolic links are followed if they are relative and stay beneath it.
    pub(crate) fn find(root: &'a OwnedFd, path: &'a Path) -> Result<Self, Errno> {
        let place = beneath(root, path, LOCATE)?;
        let stat = rustix::fs::fstat(&place)?;
        Ok(Self { root, path, place, stat })
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens it for reading.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        let place = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        match rustix::fs::open(place, READ, Mode::empty()) {
            // No /proc, as in a chroot.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::PERM) => self.open_by_path(),
            result => self.checked(result?),
        }
    }

    fn open_by_path(&self) -> Result<OwnedFd, Errno> {
        self.checked(beneath(self.root, self.path, READ)?)
    }

    /// Checks that it is still the same file.
    fn checked(&self, file: OwnedFd) -> Result<OwnedFd, Errno> {
        let stat = rustix::fs::fstat(&file)?;
        let same = (stat.st_dev, stat.st_ino) == (self.stat.st_dev, self.stat.st_ino);
        if same { Ok(file) } else { Err(Errno::NOENT) }
    }
}

fn beneath(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Before Linux 5.6, or hidden by a seccomp filter.
            Err(Errno::NOSYS | Errno::PERM) => return step_by_step(root, path, flags),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// The same without `openat2`: name by name, without following any link.
fn step_by_step(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut names = path.iter().peekable();
    let mut directory: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let at: BorrowedFd<'_> = directory.as_ref().map_or(root.as_fd(), |fd| fd.as_fd());
        let last = names.peek().is_none();
        // With `PATH`, as with `openat2`, no permission to list the directory is needed.
        let flags = if last { flags } else { LOCATE | OFlags::DIRECTORY };
        let next = rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if last {
            // With `PATH`, a link itself can be opened.
            let is_link = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) == FileType::Symlink;
            return if is_link { Err(Errno::LOOP) } else { Ok(next) };
        }
        directory = Some(next);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::testing::Directory;
    use super::*;

    #[test]
    fn both_ways_find_the_same_files_and_neither_leads_out() {
        let directory = Directory::new();
        directory.write("secret", b"");
        directory.write("www/sub/deep/file", b"");
        let www = directory.path().join("www");
        for (target, name) in [
            ("../secret", "out"),
            ("..", "up"),
            ("/", "root"),
            ("sub/../../secret", "round"),
            ("sub", "within"),
            ("sub/deep/file", "file"),
        ] {
            symlink(target, www.join(name)).expect("symlink");
        }
        let root: OwnedFd = std::fs::File::open(&www).expect("open").into();
        let both = |path: &str| {
            let path = Path::new(path);
            let by = |flags| {
                let (one, other) = (beneath(&root, path, flags), step_by_step(&root, path, flags));
                (one.map(drop).err(), other.map(drop).err())
            };
            let (locate, read) = (by(LOCATE), by(READ));
            assert_eq!((locate.0.is_some(), locate.1.is_some()), (read.0.is_some(), read.1.is_some()));
            read
        };
        for path in ["sub", "sub/deep", "sub/deep/file"] {
            assert_eq!(both(path), (None, None), "{path}");
        }
        for path in [
            "out",
            "up",
            "up/secret",
            "root",
            "root/etc",
            "round",
            "nothing",
            "sub/deep/file/x",
            "sub/no",
            "",
        ] {
            let (one, other) = both(path);
            assert!(one.is_some() && other.is_some(), "{path}: {one:?} {other:?}");
        }
        // Where they differ: without `openat2` no link is followed, not even one that stays.
        for path in ["within/deep/file", "file"] {
            let (one, other) = both(path);
            assert!(one.is_none() && other.is_some(), "{path}: {one:?} {other:?}");
        }
    }

    #[test]
    fn what_was_found_is_what_is_opened_with_and_without_proc() {
        let directory = Directory::new();
        directory.write("file", b"one");
        let root: OwnedFd = std::fs::File::open(directory.path()).expect("open").into();
        let path = Path::new("file");
        let entry = Entry::find(&root, path).expect("found");
        let content = |file: OwnedFd| std::io::read_to_string(std::fs::File::from(file)).expect("text");
        assert_eq!(entry.open().map(content), Ok("one".to_owned()));
        assert_eq!(entry.open_by_path().map(content), Ok("one".to_owned()));
        // Another file takes its place.
        directory.write("other", b"two");
        std::fs::rename(directory.path().join("other"), directory.path().join("file")).expect("rename");
        assert_eq!(entry.open().map(content), Ok("one".to_owned()));
        assert_eq!(entry.open_by_path().map(content), Err(Errno::NOENT));
    }
}
