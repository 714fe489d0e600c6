//! The thread that watches a backend's stdin: it writes what a direct write had to leave.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};

use super::handle::Handle;
use super::started::POLL_RETRY;
use crate::sink::WriteResult;
use crate::sys::deadline::Deadline;
use crate::sys::pipe::widen;
use crate::sys::poll::poll;

/// Runs until the stdin is closed.
pub(super) fn run(handle: &Arc<Handle>) {
    let (mut waits, mut wide) = (false, None);
    loop {
        // The pipe is held only while it is polled: dropping the last reference to it is the end of the input.
        let stream = if waits { handle.stdin.stream() } else { None };
        let mut fds = Vec::with_capacity(2);
        fds.push(PollFd::new(&handle.writer_waker, PollFlags::IN));
        if let Some(stream) = &stream {
            wide = wide.or_else(|| widen(stream.as_fd()));
            fds.push(PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT));
        }
        // No deadline: a thread that queues something wakes this one, and so does the reader at its end.
        if poll(&mut fds, Deadline::NEVER).is_err() {
            // ENOMEM and the like.
            std::thread::sleep(POLL_RETRY);
        }
        drop(fds);
        drop(stream);
        handle.writer_waker.drain();
        waits = matches!(handle.stdin.flush_watched(), WriteResult::Waits { .. });
        if handle.stdin.stream().is_none() {
            return;
        }
    }
}
