//! The signals that end the server, and those that have no effect.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::bell::Bell;
use super::lock;
use super::process::is_ignored;
use super::threads::thread;

/// Their default action would end the server silently. The last one is sent when a log file reaches `ulimit -f`.
const WITHOUT_EFFECT: [i32; 3] = [SIGUSR1, SIGUSR2, SIGXFSZ];

/// Stack of the signal thread, in bytes.
const STACK: usize = 64 * 1024;

/// The signals received so far that end the server.
#[derive(Debug)]
pub struct EndSignals {
    received: Mutex<Received>,
    /// Rung for each signal.
    changed: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Received {
    number: usize,
    first: Option<&'static str>,
    last: Option<&'static str>,
}

impl EndSignals {
    /// Handles INT, TERM, QUIT and HUP from now on. HUP stays ignored if it was ignored at the start, as by nohup(1).
    pub fn take(changed: Arc<Bell>) -> io::Result<Arc<Self>> {
        let signals = Arc::new(Self { received: Mutex::default(), changed });
        let mut taken = vec![SIGTERM, SIGQUIT];
        if !is_ignored(Signal::HUP) {
            taken.push(SIGHUP);
        }
        for signal in WITHOUT_EFFECT {
            // Caught, not ignored: an ignored signal would stay ignored in the programs (execve(2)).
            signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
        }
        let mut incoming = Signals::new(taken)?;
        thread("signals", STACK, {
            let signals = Arc::clone(&signals);
            move || incoming.forever().for_each(|signal| signals.add(name(signal)))
        })?;
        ctrlc::set_handler({
            let signals = Arc::clone(&signals);
            move || signals.add("INT")
        })
        .map_err(|error| match error {
            ctrlc::Error::System(error) => error,
            error => io::Error::other(error),
        })?;
        Ok(signals)
    }

    fn add(&self, name: &'static str) {
        let mut received = lock(&self.received);
        received.number += 1;
        received.first.get_or_insert(name);
        received.last = Some(name);
        drop(received);
        self.changed.ring();
    }

    pub fn number(&self) -> usize {
        lock(&self.received).number
    }

    pub fn first(&self) -> Option<&'static str> {
        lock(&self.received).first
    }

    pub fn last(&self) -> Option<&'static str> {
        lock(&self.received).last
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "HUP",
        SIGQUIT => "QUIT",
        _ => "TERM",
    }
}
