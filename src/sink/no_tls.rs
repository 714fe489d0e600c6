//! The place of `tls.rs` in a build without the cargo feature `tls`: a connection that cannot be.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use crate::sys::deadline::Deadline;

/// See the module's documentation.
#[derive(Debug)]
pub enum Tls {}

impl Tls {
    pub(super) fn read(&self, _: &mut [u8]) -> Result<usize, Errno> {
        match *self {}
    }

    pub(super) fn read_by(&self, _: &mut [u8], _: Deadline) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn is_readable(&self) -> bool {
        match *self {}
    }

    pub(super) fn write(&self, _: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match *self {}
    }

    pub(super) fn flush(&self) -> Result<usize, Errno> {
        match *self {}
    }

    pub(super) fn owed(&self) -> usize {
        match *self {}
    }

    pub(super) fn sent(&self) -> u64 {
        match *self {}
    }

    pub(super) fn overhead(&self) -> usize {
        match *self {}
    }

    pub(super) fn failure(&self) -> Option<String> {
        match *self {}
    }

    pub(super) fn say_end(&self, _: Duration, _: impl Fn() -> bool) {
        match *self {}
    }
}

impl AsFd for Tls {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
