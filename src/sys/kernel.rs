//! Files that the kernel makes up when they are read: under /proc and /sys.

use std::io;

use rustix::fs::{Mode, OFlags, open};

/// All of such a file; what is no UTF-8, in the name of a process, is replaced.
pub fn read(path: &str) -> io::Result<String> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // They say that they are empty, so that std would begin with 32 bytes and read a dozen times.
    let mut piece = [0; 2048];
    let mut bytes = Vec::new();
    loop {
        match rustix::io::read(&file, &mut piece)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
