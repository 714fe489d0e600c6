//! The signals that end the server, and those that must not.

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

/// Their default action would end the server without a word. The last one comes with a log file that
/// has reached `ulimit -f`.
const WITHOUT_EFFECT: [i32; 3] = [SIGUSR1, SIGUSR2, SIGXFSZ];

/// Stack of the thread that takes signals, in bytes.
const STACK: usize = 64 * 1024;

/// The signals that have asked the server to end, so far.
#[derive(Debug)]
pub struct EndSignals {
    came: Mutex<Came>,
    /// Rung when one has come.
    changed: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Came {
    number: usize,
    first: Option<&'static str>,
    last: Option<&'static str>,
}

impl EndSignals {
    /// Takes INT, TERM, QUIT and HUP from here on, and rings for each. HUP is left ignored where it was
    /// ignored at the start, which is what nohup(1) does.
    pub fn take(changed: Arc<Bell>) -> io::Result<Arc<Self>> {
        let signals = Arc::new(Self { came: Mutex::default(), changed });
        let mut taken = vec![SIGTERM, SIGQUIT];
        if !is_ignored(Signal::HUP) {
            taken.push(SIGHUP);
        }
        for signal in WITHOUT_EFFECT {
            // Caught, not ignored: what is ignored stays so in the programs (execve(2)).
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
        let mut came = lock(&self.came);
        came.number += 1;
        came.first.get_or_insert(name);
        came.last = Some(name);
        drop(came);
        self.changed.ring();
    }

    /// How many have come.
    pub fn number(&self) -> usize {
        lock(&self.came).number
    }

    /// The one that came first, by name.
    pub fn first(&self) -> Option<&'static str> {
        lock(&self.came).first
    }

    /// The one that came last, by name.
    pub fn last(&self) -> Option<&'static str> {
        lock(&self.came).last
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGHUP => "HUP",
        SIGQUIT => "QUIT",
        _ => "TERM",
    }
}
