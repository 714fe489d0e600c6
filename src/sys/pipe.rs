//! The size of a pipe.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The capacity of a new pipe, in bytes (pipe(7)).
pub const PIPE: usize = 64 * 1024;

/// The capacity of a widened pipe.
pub const PIPE_WIDE: usize = 128 * 1024;

/// The largest number of wide pipes. The system limits the total capacity of a user's pipes, to 64 MiB by default
/// (`pipe-user-pages-soft`); beyond that, new pipes of the user's programs have only two pages.
const MAX_WIDE: usize = 64;

static WIDE: AtomicUsize = AtomicUsize::new(0);

/// Counts a pipe as wide until it is dropped.
#[derive(Debug)]
pub struct Wide(());

/// Increases the capacity of a pipe that was full: a message of [`PIPE`] bytes with its newline does not fit into a new
/// pipe and takes twice the system calls on each side. Does nothing if the limit is reached (`MAX_WIDE`, EPERM) or
/// this is not a pipe.
pub fn widen(pipe: impl AsFd) -> Option<Wide> {
    let more = |wide: usize| (wide < MAX_WIDE).then_some(wide + 1);
    WIDE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
    let wide = Wide(());
    rustix::pipe::fcntl_setpipe_size(pipe, PIPE_WIDE).ok().map(|_| wide)
}

impl Drop for Wide {
    fn drop(&mut self) {
        WIDE.fetch_sub(1, Ordering::Relaxed);
    }
}
