//! Opens a file beneath a directory, where no symbolic link leads out.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Tries to resolve a path while directories of it are being renamed (`EAGAIN`, openat2(2)).
const TRIES: usize = 8;

/// Reading only; not waiting for the other end of a pipe (open(2)).
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens whatever is at `path`, beneath `root`. Links are followed for as long as they are relative
/// and stay beneath.
pub(super) fn beneath(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    // An empty path would be no file; the caller asks for the directory itself by a name in it.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, FLAGS, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Before Linux 5.6, or hidden by a seccomp filter.
            Err(Errno::NOSYS | Errno::PERM) => return step_by_step(root, path),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// The same without `openat2`: name by name, following no link at all.
fn step_by_step(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let mut names = path.iter().peekable();
    let mut directory: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let at: BorrowedFd<'_> = directory.as_ref().map_or(root.as_fd(), |fd| fd.as_fd());
        let last = names.peek().is_none();
        // `PATH` needs no right to list the directory, as `openat2` needs none.
        let flags = if last { FLAGS } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC };
        let next = rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if last {
            return Ok(next);
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
            (beneath(&root, path).map(drop).err(), step_by_step(&root, path).map(drop).err())
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
}
