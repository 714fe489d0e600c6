//! Reads files of /proc and /sys.

use std::io;

use rustix::fs::{Mode, OFlags, open};

/// The whole file. Bytes that are not UTF-8, as in the name of a process, are replaced.
pub fn read(path: &str) -> io::Result<String> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // The size of these files is shown as 0, so std would begin with 32 bytes and read a dozen times.
    let mut piece = [0; 2048];
    let mut bytes = Vec::new();
    loop {
        match rustix::io::read(&file, &mut piece)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}
