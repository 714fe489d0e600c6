//! The size of a pipe.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a pipe holds, in bytes, when it is new (pipe(7)).
pub const PIPE: usize = 64 * 1024;

/// What one holds that has been widened.
pub const PIPE_WIDE: usize = 128 * 1024;

/// How many pipes are wide at a time. What the pipes of one user hold in all is limited, 64 MiB by default
/// (`pipe-user-pages-soft`): whoever uses that up gets pipes of two pages from then on, in every program.
const MAX_WIDE: usize = 64;

static WIDE: AtomicUsize = AtomicUsize::new(0);

/// Says that a pipe is wide, until it is dropped.
#[derive(Debug)]
pub struct Wide(());

/// Has a pipe hold more. For one that was full: a message of [`PIPE`] bytes does not fit into a new one with
/// its line's end, and costs each side twice the calls. Not before, and not every one: see `MAX_WIDE`. Where
/// that is used up (EPERM), and where this is no pipe, all stays as it is.
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
