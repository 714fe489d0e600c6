//! The ports of programs that talk over TCP: one for each room, given back on every path.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::sys::descriptors::are_copied;
use crate::sys::tcp::only_closed_connections;

/// If no port can be bound, the kernel is asked about so many. For each it looks at all connections of the machine,
/// which takes some milliseconds.
const LOOKS: usize = 8;

/// How long the kernel is not asked again after no port was found.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a port may seem to be bound because programs are being started, and how often to look again.
const START_TIMEOUT: Duration = Duration::from_secs(1);
const LOOK_AFTER_START: Duration = Duration::from_millis(5);

/// Calls `attempt`, which says whether it found a port, again if it found none because of programs that are being
/// started: their processes have copies of the sockets that tried a port. To be called without a lock.
#[inline(never)]
pub(super) fn until_found(attempt: &mut dyn FnMut() -> bool) {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        // Before the attempt: a process that has such a copy is being started by then.
        let copied = are_copied();
        if attempt() || !copied || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(LOOK_AFTER_START);
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    taken: Vec<u16>,
    /// No port was found at the last time; the kernel is not asked again before.
    none_until: Option<Instant>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        Self { range, taken: Vec::new(), none_until: None }
    }

    /// The lowest port that no room has and no other socket is bound to.
    pub(super) fn take(&mut self) -> Option<u16> {
        self.choose(None)
    }

    /// The room's port if no socket is bound to it. Otherwise gives it up and takes another one.
    pub(super) fn keep_or_take(&mut self, port: u16) -> Option<u16> {
        self.give_back(port);
        self.choose(Some(port))
    }

    /// Takes a port that can be bound. If there is none, takes one that only connections in TIME_WAIT hold: they do so
    /// for a minute if the program closed its connection first.
    fn choose(&mut self, first: Option<u16>) -> Option<u16> {
        let left = || first.into_iter().chain(self.range.clone()).filter(|port| !self.taken.contains(port));
        // The kernel takes long to answer while the table is locked, so it is not asked for each client.
        let may_look = self.none_until.is_none_or(|until| until <= Instant::now());
        let port = first_unbound(left()).or_else(|| {
            if !may_look {
                return None;
            }
            // A port that was bound at the first look may be free by now.
            let is_good = |&port: &u16| {
                only_closed_connections(port) == Some(true) || first_unbound(std::iter::once(port)).is_some()
            };
            left().filter(|&port| can_be_shared(port)).take(LOOKS).find(is_good)
        });
        if port.is_none() && may_look {
            self.none_until = Some(Instant::now() + LOOK_AGAIN);
        }
        let port = port?;
        self.taken.push(port);
        Some(port)
    }

    pub(super) fn give_back(&mut self, port: u16) {
        self.taken.retain(|taken| *taken != port);
        self.none_until = None;
    }
}

/// The first of these ports that no socket is bound to on 127.0.0.1, not even a connection in TIME_WAIT. It is
/// not bound any more when this returns.
fn first_unbound(mut ports: impl Iterator<Item = u16>) -> Option<u16> {
    let socket = socket().ok()?;
    // One that could not be bound can be bound elsewhere.
    ports.find(|&port| bind(&socket, port).is_ok())
}

/// Whether a program that sets SO_REUSEADDR could bind this port of 127.0.0.1. Another process may have bound it in the
/// same way, to listen in the program's place.
fn can_be_shared(port: u16) -> bool {
    let shared = || {
        let socket = socket()?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, port)
    };
    shared().is_ok()
}

fn socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn bind(socket: &OwnedFd, port: u16) -> rustix::io::Result<()> {
    rustix::net::bind(socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::sys::descriptors::Copies;

    // Other tests start programs in the same process.
    fn settled<T>(mut attempt: impl FnMut() -> T, finds_none: impl Fn(&T) -> bool) -> T {
        let mut last = None;
        until_found(&mut || !finds_none(last.insert(attempt())));
        last.expect("at least one attempt")
    }

    fn take(ports: &mut Ports) -> Option<u16> {
        settled(|| ports.take(), Option::is_none)
    }

    fn keep_or_take(ports: &mut Ports, port: u16) -> Option<u16> {
        let mut kept = Some(port);
        let attempt = || match kept.take() {
            Some(port) => ports.keep_or_take(port),
            None => ports.take(),
        };
        settled(attempt, Option::is_none)
    }

    fn listen(port: u16) -> TcpListener {
        settled(|| TcpListener::bind(("127.0.0.1", port)), Result::is_err).expect("bind")
    }

    #[test]
    fn a_port_that_another_process_listens_on_is_skipped() {
        let stranger = listen(0);
        let port = stranger.local_addr().expect("address").port();
        let mut ports = Ports::new(port..=port);
        assert_eq!(take(&mut ports), None);
        drop(stranger);
        assert_eq!(take(&mut ports), Some(port));
        assert_eq!(take(&mut ports), None, "used up");
        assert_eq!(keep_or_take(&mut ports, port), Some(port));
        let stranger = listen(port);
        assert_eq!(keep_or_take(&mut ports, port), None);
        drop(stranger);
        assert_eq!(take(&mut ports), Some(port), "it was given up");
        ports.give_back(port);
        assert_eq!(take(&mut ports), Some(port));
    }

    #[test]
    fn that_the_kernel_knows_of_no_port_is_remembered_for_a_moment() {
        let stranger = listen(0);
        let port = stranger.local_addr().expect("address").port();
        let mut ports = Ports::new(port..=port);
        assert_eq!(take(&mut ports), None);
        assert!(ports.none_until.is_some());
        drop(stranger);
        assert_eq!(take(&mut ports), Some(port), "whether a port is free is looked at each time");
    }

    /// A socket that shares a port and does not listen, as one that lies in wait for a program does.
    fn in_wait(port: u16) -> OwnedFd {
        let socket = socket().expect("a socket");
        sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
        settled(|| bind(&socket, port), Result::is_err).expect("bind");
        socket
    }

    /// A port whose last connection is in TIME_WAIT. std's listeners set SO_REUSEADDR.
    fn just_used() -> u16 {
        let listener = listen(0);
        let port = listener.local_addr().expect("address").port();
        let theirs = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        drop(listener.accept().expect("accept"));
        drop(theirs);
        assert!(first_unbound(std::iter::once(port)).is_none(), "TIME_WAIT");
        port
    }

    #[test]
    fn a_port_that_another_process_has_bound_without_listening_is_skipped() {
        let holder = listen(0);
        let port = holder.local_addr().expect("address").port();
        drop(holder);
        let stranger = in_wait(port);
        let mut ports = Ports::new(port..=port);
        assert_eq!(take(&mut ports), None);
        drop(stranger);
        assert_eq!(take(&mut ports), Some(port));
        let stranger = in_wait(port);
        assert_eq!(keep_or_take(&mut ports, port), None);
        drop(stranger);
        assert_eq!(take(&mut ports), Some(port));
    }

    #[test]
    fn a_port_that_was_just_used_is_the_second_choice() {
        let used = just_used();
        let mut ports = Ports::new(used..=used);
        assert_eq!(take(&mut ports), Some(used), "there is no other");
        assert_eq!(keep_or_take(&mut ports, used), Some(used));
        ports.give_back(used);
        // One of its many neighbours that are free is preferred.
        let mut ports = Ports::new(used..=used.saturating_add(50));
        assert_ne!(take(&mut ports), Some(used));
    }

    #[test]
    fn a_port_that_was_just_used_is_not_chosen_if_another_process_lies_in_wait() {
        let used = just_used();
        let stranger = in_wait(used);
        if only_closed_connections(used) == Some(true) {
            // This kernel does not report such sockets.
            return;
        }
        let mut ports = Ports::new(used..=used);
        assert_eq!(take(&mut ports), None);
        drop(stranger);
        ports.none_until = None;
        assert_eq!(take(&mut ports), Some(used));
    }

    #[test]
    fn a_free_port_is_found_while_programs_are_being_started() {
        let holder = listen(0);
        let port = holder.local_addr().expect("address").port();
        drop(holder);
        let stop = AtomicBool::new(false);
        let start_programs = || {
            while !stop.load(Ordering::Relaxed) {
                let copies = Copies::begin();
                let child = Command::new("/bin/true").spawn();
                drop(copies);
                child.expect("a program").wait().expect("its end");
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(start_programs);
            }
            let mut ports = Ports::new(port..=port);
            let mut found = 0;
            for _ in 0..500 {
                let first = take(&mut ports);
                let again = first.and_then(|port| keep_or_take(&mut ports, port));
                found += usize::from((first, again) == (Some(port), Some(port)));
                ports.give_back(port);
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(found, 500);
        });
    }
}
