//! The size of a pipe.

use std::os::fd::AsFd;

/// What a pipe holds, in bytes, when it is new (pipe(7)).
pub const PIPE: usize = 64 * 1024;

/// What one holds that has been widened.
pub const PIPE_WIDE: usize = 128 * 1024;

/// Has a pipe hold more. For one that was full: a message of [`PIPE`] bytes does not fit into a new one with
/// its line's end, and costs each side twice the calls. Not before, for what a user's pipes may hold in all is
/// limited: where that is used up (EPERM), and where this is no pipe, all stays as it is.
pub fn widen(pipe: impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_WIDE);
}
