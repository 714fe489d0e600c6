//! Ports for programs that talk over TCP: a range of its own for every test.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// The first of so many neighbouring ports that nobody listens on. Below those that the system gives out by
/// itself, and no two tests of a process get the same ones.
pub(crate) fn free(number: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 22_000;
    // Other processes that run the same tests begin elsewhere.
    let start = (std::process::id() % 199) as u16 * 110;
    for _ in 0..1000 {
        let at = NEXT.fetch_add(number, Ordering::Relaxed);
        let first = FIRST + (start.wrapping_add(at)) % (PORTS - number);
        let held: Result<Vec<_>, _> =
            (first..first + number).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if held.is_ok() {
            return first;
        }
    }
    panic!("no {number} free ports next to each other");
}

/// The same as an option, with its value.
pub(crate) fn option(first: u16, number: u16) -> String {
    format!("--tcpports={first}:{}", first + number - 1)
}
