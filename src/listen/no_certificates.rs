//! The place of `certificates.rs` in a build without the cargo feature `tls`.

use std::io;
use std::os::fd::OwnedFd;

use crate::config::TlsFiles;
use crate::log::Log;
use crate::sink::Stream;

/// Certificates that cannot be.
pub enum Certificates {}

impl Certificates {
    /// # Errors
    /// Always: how to get a build that can.
    pub fn load(_: &TlsFiles) -> Result<Self, String> {
        Err("this build has no TLS; build it with the cargo feature tls: make, or make static FEATURES=tls"
            .to_owned())
    }

    pub fn secure(&self, _: OwnedFd, _: &Log) -> io::Result<Stream> {
        match *self {}
    }
}
