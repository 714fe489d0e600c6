//! The harness: servers, clients, programs and the waiting that a test needs.

pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod load;
pub(crate) mod openmetrics;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod scratch;
pub(crate) mod server;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(feature = "websocketd")]
pub(crate) mod websocketd;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, Event};
pub(crate) use raw::Raw;
pub(crate) use scratch::Scratch;
pub(crate) use server::Server;

/// How long anything may take that should come at once. Reached only when a promise is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Asks again and again until `condition` holds: for what the system tells nobody about (a number in
/// /proc, a file that goes).
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The program for what a shell cannot do; see `tests/it/testprog.rs`.
pub(crate) fn testprog() -> String {
    let own = std::env::current_exe().expect("the path of the test program");
    // target/PROFILE/deps/it-HASH
    let profile = own.parent().and_then(|deps| deps.parent()).expect("a target directory");
    let path = profile.join("examples/testprog");
    assert!(path.exists(), "{} is missing: cargo build --example testprog", path.display());
    path.to_str().expect("a path in UTF-8").to_owned()
}
