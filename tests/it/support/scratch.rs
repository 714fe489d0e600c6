//! Directories for a test's files and programs.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::forking;
use super::wait_until;

/// A directory of the test's own, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("scalesocket-it-{}-{number}", std::process::id()));
        // A file left by an earlier process of the same number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("create a scratch directory");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path of a name in the directory, as text.
    pub(crate) fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path in UTF-8").to_owned()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("write a scratch file");
        path
    }

    /// Writes an executable shell script; gives its path.
    pub(crate) fn script(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        {
            let _alone = forking();
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o755)
                .open(&path)
                .expect("create a script");
            file.write_all(format!("#!/bin/sh\n{body}\n").as_bytes()).expect("write a script");
        }
        self.name(name)
    }

    /// Waits until a file has that many bytes; gives them.
    pub(crate) fn await_bytes(&self, name: &str, length: usize) -> Vec<u8> {
        let path = self.path(name);
        let mut content = Vec::new();
        wait_until(&format!("{name} has {length} bytes"), || {
            content = fs::read(&path).unwrap_or_default();
            content.len() >= length
        });
        content
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
