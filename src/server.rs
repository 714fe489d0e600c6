//! One run of the server, from the first listener to the last reaped program.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_tcp_nodelay;

use crate::backend::{Shared, launch};
use crate::clients::SHUTDOWN_CLOSE_TIMEOUT;
use crate::config::{Config, FaceKind, Level, Listen};
use crate::face::Face;
use crate::face::rooms::RoomsFace;
#[cfg(feature = "websocketd")]
use crate::face::websocketd::WebsocketdFace;
use crate::http::files::{FileOptions, FileServer};
use crate::listen::accept::{Acceptor, canonical};
use crate::listen::{self, Certificates, Inherited, ListenError, Listener};
use crate::log::Log;
use crate::room::{Bounds, Table};
use crate::service::Service;
use crate::sink::Stream;
use crate::slots::Slots;
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::descriptors;
use crate::sys::limits::{self, Maps};
use crate::sys::orphans::Orphans;
use crate::sys::process::{Exit, FirstExit, Processes, children_are_reaped_unseen};
use crate::sys::reason;
use crate::sys::signals::EndSignals;
use crate::sys::threads::work;
use crate::ws::serve::serve;

/// How long a shutdown may take beside the kill sequence: the last output, and the closes.
const SHUTDOWN: Duration = Duration::from_secs(1).saturating_add(SHUTDOWN_CLOSE_TIMEOUT);

/// A warning is logged if fewer connections than this are possible.
const FEW_CONNECTIONS: usize = 100;

/// Signals that come this soon after the first one count as the same.
const SAME_SIGNAL: Duration = Duration::from_millis(50);

/// How long programs have to be reaped after a second signal.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    /// Shut down cleanly.
    Done,
    /// Programs had to be killed: after a second signal, or when the shutdown timed out.
    Cut,
    /// Shut down because no listener was left.
    NoListener,
    /// Shut down with the exit of the first program (`--exitend`).
    Exit(Exit),
}

/// Where connections come from.
enum Source {
    Listeners(Vec<Listener>),
    Connection(OwnedFd),
}

/// Serves until a signal or another reason to end: see [`Cause`].
///
/// # Errors
/// When the server cannot start; then nothing is left running.
pub fn run(config: Config) -> Result<RunResult, String> {
    if children_are_reaped_unseen() {
        return Err("started with SIGCHLD ignored, so that the end of a program cannot be seen; \
                    start it with SIGCHLD at its default"
            .to_owned());
    }
    let certificates = match &config.tls {
        Some(files) => Some(Arc::new(Certificates::load(files)?)),
        None => None,
    };
    let text = |e: ListenError| e.to_string();
    // First of all, and before any thread: descriptor 0 is moved, variables are removed.
    let (source, may_log, ends_idle) = match &config.listen {
        Listen::Inetd => {
            let (inherited, may_log) = listen::inetd().map_err(text)?;
            (classify(vec![inherited]), may_log, true)
        }
        Listen::Addresses(addresses) => {
            let inherited = listen::systemd().map_err(text)?;
            if inherited.is_empty() {
                let listeners = addresses.iter().map(listen::bind);
                // Only the face of websocketd has them.
                let redirects = if cfg!(feature = "websocketd") { &config.redirects[..] } else { &[] };
                let redirects = redirects.iter().map(|redirect| {
                    let mut listener = listen::bind(&redirect.address)?;
                    listener.redirect = Some(redirect.port);
                    Ok(listener)
                });
                let bound: Result<Vec<_>, _> = listeners.chain(redirects).collect();
                (Source::Listeners(bound.map_err(text)?), true, false)
            } else {
                let source = classify(inherited);
                let ends_idle = matches!(source, Source::Connection(_));
                (source, true, ends_idle)
            }
        }
    };
    let could_be_more = descriptors::could_be_more();
    let can_launch = could_be_more && launch::prepare();
    let descriptors = descriptors::prepare(can_launch);
    let file_options = match config.face {
        FaceKind::Rooms => FileOptions::default(),
        // Those of Go's file server.
        #[cfg(feature = "websocketd")]
        FaceKind::Websocketd(_) => FileOptions { listing: true, dotfiles: true, one_path: true, text: true },
    };
    let files = match &config.static_dir {
        Some(path) => Some(
            FileServer::open(path, file_options)
                .map_err(|e| format!("cannot open the directory {}: {}", path.display(), reason(&e)))?,
        ),
        None => None,
    };
    let changed = Arc::new(Bell::default());
    let signals = EndSignals::take(Arc::clone(&changed))
        .map_err(|e| format!("cannot handle signals: {}", reason(&e)))?;
    let log = Log::start(config.log, !may_log).map_err(|e| cannot_start(&e))?;
    if could_be_more && !can_launch {
        log.warn("soft limit on open files stays as it is")
            .field("reason", "no /proc, and not started by an absolute path: programs could not get it back")
            .write();
    }
    for warning in &config.warnings {
        log.warn(warning).write();
    }
    let shared = Shared {
        ending: Arc::default(),
        log: log.clone(),
        counters: Arc::default(),
        maps: Maps::all(),
        processes: Arc::default(),
        first_exit: Arc::new(FirstExit::new(Arc::clone(&changed))),
    };
    let (first_exit, processes) = (Arc::clone(&shared.first_exit), Arc::clone(&shared.processes));
    let service = service(config, shared, &changed, files, descriptors)?;
    let acceptors = Vec::new();
    let server =
        Server { service, certificates, acceptors, signals, changed, ends_idle, first_exit, processes };
    let outcome = server.serve(source);
    log.flush();
    outcome
}

/// Why a thread or a descriptor was denied.
fn cannot_start(error: &io::Error) -> String {
    // See pthread_create(3).
    if error.kind() == io::ErrorKind::WouldBlock {
        return "cannot start a thread: too many processes (ulimit -u, pids.max)".to_owned();
    }
    format!("cannot start: {}", reason(error))
}

/// An inherited connection is served alone; otherwise there are listeners.
fn classify(inherited: Vec<Inherited>) -> Source {
    let mut listeners = Vec::new();
    for inherited in inherited {
        match inherited {
            Inherited::Listener(listener) => listeners.push(listener),
            Inherited::Connection(socket) => return Source::Connection(socket),
        }
    }
    Source::Listeners(listeners)
}

/// Builds what all connections share.
fn service(
    config: Config,
    shared: Shared,
    changed: &Arc<Bell>,
    files: Option<FileServer>,
    descriptors: u64,
) -> Result<Arc<Service>, String> {
    let log = shared.log.clone();
    let (possible, reason) = limits::connections(descriptors);
    let wanted = config.limits.clients;
    let most = wanted.map_or(possible, |wanted| wanted.min(possible));
    if wanted.is_some_and(|wanted| wanted > possible) {
        log.warn("--maxclients is more than this system can hold")
            .number("connections", possible)
            .field("limit", reason)
            .write();
    }
    let many =
        config.oneshot || config.listen == Listen::Inetd || wanted.is_some() || possible >= FEW_CONNECTIONS;
    if !many {
        log.warn("only few connections are possible")
            .number("connections", possible)
            .field("limit", reason)
            .write();
    }
    log.debug("connections at most").number("connections", most).field("limit", reason).write();
    let (counters, maps) = (Arc::clone(&shared.counters), Arc::clone(&shared.maps));
    let bounds = Bounds {
        rooms: match &config.face {
            FaceKind::Rooms => config.limits.rooms,
            #[cfg(feature = "websocketd")]
            FaceKind::Websocketd(settings) => settings.max_forks,
        },
        room_clients: config.limits.room_clients,
        oneshot: config.oneshot,
    };
    let table = Table::new(Arc::clone(&config.recipe), Arc::new(shared), bounds, Arc::clone(changed));
    let (config, connections) = (Arc::new(config), Slots::new(most, maps, Arc::clone(changed)));
    let face: Box<dyn Face> = match &config.face {
        FaceKind::Rooms => Box::new(RoomsFace {
            config: Arc::clone(&config),
            counters: Arc::clone(&counters),
            log: log.clone(),
            table: Arc::clone(&table),
            connections: Arc::clone(&connections),
            files,
        }),
        #[cfg(feature = "websocketd")]
        FaceKind::Websocketd(settings) => Box::new(WebsocketdFace::new(&config, settings, &log, files)?),
    };
    Ok(Service::new(config, counters, log, table, connections, face))
}

/// Why a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A signal, by name.
    Signal(&'static str),
    /// Nothing is left to serve (inetd), or there was nothing to serve for the time of `--exitidle`.
    Idle,
    /// The first program has exited (`--exitend`).
    Exit(Exit),
    /// The only client has left (`--oneshot`).
    Oneshot,
    /// No listener is left.
    NoListener,
    /// The thread of a listener cannot be started.
    CannotStart,
}

impl Cause {
    /// The words for the log.
    fn reason(self) -> &'static str {
        match self {
            Self::Signal(name) => name,
            Self::Idle => "no connection is left",
            Self::Exit(_) => "the program has exited",
            Self::Oneshot => "the only client has left",
            Self::NoListener => "no listener is left",
            Self::CannotStart => "cannot start",
        }
    }
}

struct Server {
    service: Arc<Service>,
    /// With TLS.
    certificates: Option<Arc<Certificates>>,
    acceptors: Vec<Acceptor>,
    signals: Arc<EndSignals>,
    /// Rung by a signal, and when a connection or a backend has ended.
    changed: Arc<Bell>,
    ends_idle: bool,
    /// How the first program ended.
    first_exit: Arc<FirstExit>,
    processes: Arc<Processes>,
}

impl Server {
    fn serve(mut self, source: Source) -> Result<RunResult, String> {
        match source {
            Source::Listeners(listeners) => {
                self.service.face.log_start();
                for listener in listeners {
                    let (address, redirects) = (listener.announced.to_string(), listener.redirect.is_some());
                    // A redirect begins where nothing is encrypted.
                    let certificates = self.certificates.clone().filter(|_| !redirects);
                    match Acceptor::start(&self.service, listener, certificates, &self.changed) {
                        Ok(acceptor) => self.acceptors.push(acceptor),
                        Err(e) => {
                            self.shut_down(Cause::CannotStart);
                            return Err(cannot_start(&e));
                        }
                    }
                    self.service.face.log_listening(&address, redirects);
                }
            }
            Source::Connection(socket) => self.serve_one(socket)?,
        }
        let cause = self.wait();
        Ok(self.shut_down(cause))
    }

    /// One accepted connection, as inetd's `nowait` hands it over.
    fn serve_one(&self, socket: OwnedFd) -> Result<(), String> {
        let service = Arc::clone(&self.service);
        let peer = rustix::net::getpeername(&socket)
            .ok()
            .flatten()
            .and_then(|peer| std::net::SocketAddr::try_from(peer).ok())
            .map(canonical);
        // As for an accepted connection; fails on a unix socket.
        let _ = set_tcp_nodelay(&socket, true);
        let stream = Arc::new(match &self.certificates {
            Some(certificates) => certificates.secure(socket, &service.log).map_err(|e| cannot_start(&e))?,
            None => Stream::Socket(socket),
        });
        // There is always a slot for the only one.
        let Ok(slot) = service.connections.admit(&stream) else { return Ok(()) };
        work("conn", 64 * 1024, move || serve(&service, &stream, peer, &slot, None))
            .map_err(|e| cannot_start(&e))
    }

    /// Until there is a reason to end.
    fn wait(&self) -> Cause {
        let mut idle = Idle::new();
        let mut orphans = Orphans::if_init();
        loop {
            if let Some(cause) = self.cause() {
                return cause;
            }
            let deadline = match self.service.config.exit_idle {
                Some(limit) => match idle.deadline(limit, self.is_quiet(), self.service.connections.served())
                {
                    Some(deadline) if deadline.passed() => return Cause::Idle,
                    deadline => deadline.unwrap_or(Deadline::NEVER),
                },
                None => Deadline::NEVER,
            };
            let look = orphans.as_ref().map_or(Deadline::NEVER, |orphans| Deadline::at(orphans.next()));
            self.changed.wait(deadline.min(look));
            if let Some(orphans) = &mut orphans {
                orphans.reap(&self.processes);
            }
        }
    }

    /// Why the run is to end now, if it is.
    fn cause(&self) -> Option<Cause> {
        let (config, connections) = (&self.service.config, &self.service.connections);
        let no_programs = || self.service.table.backends() == 0;
        if let Some(name) = self.signals.first() {
            Some(Cause::Signal(name))
        } else if !self.acceptors.is_empty() && self.acceptors.iter().all(Acceptor::is_over) {
            Some(Cause::NoListener)
        } else if self.ends_idle && connections.served() > 0 && self.is_quiet() {
            Some(Cause::Idle)
        } else if config.oneshot && connections.all_clients_gone() && no_programs() {
            Some(Cause::Oneshot)
        } else if config.exit_end {
            self.first_exit.get().map(Cause::Exit)
        } else {
            None
        }
    }

    fn is_quiet(&self) -> bool {
        self.service.connections.is_empty() && self.service.table.backends() == 0
    }

    fn shut_down(&mut self, cause: Cause) -> RunResult {
        let log = &self.service.log;
        let level = if cause == Cause::NoListener { Level::Error } else { Level::Info };
        let line = log.at(level, "shutting down");
        match cause {
            Cause::Signal(name) => line.field("signal", name),
            cause => line.field("reason", cause.reason()),
        }
        .write();
        for acceptor in self.acceptors.drain(..) {
            acceptor.stop();
        }
        // Rooms first: a client that is being upgraded is refused with the reason. The other way round, its read would
        // end while it joins, and it would be taken for a client that hung up.
        self.service.table.shut_down();
        self.service.connections.shut_down();
        let programs = self.service.config.recipe.stop_time();
        let deadline = Deadline::after(programs.saturating_add(SHUTDOWN));
        let (began, mut first) = (Instant::now(), self.signals.number());
        while !self.is_quiet() {
            if deadline.passed() {
                log.warn("shutdown timed out")
                    .number("connections", self.service.connections.len())
                    .number("programs", self.service.table.backends())
                    .write();
                if self.kill() {
                    log.settle();
                    log.info("server ended").write();
                    return RunResult::Cut;
                }
                break;
            }
            self.changed.wait(deadline);
            // timeout(1), a terminal and a shell send one signal twice, to the server and to its process group.
            if began.elapsed() < SAME_SIGNAL {
                first = self.signals.number();
            } else if self.signals.number() > first {
                return self.kill_all();
            }
        }
        log.settle();
        log.info("server ended").write();
        match cause {
            Cause::NoListener => RunResult::NoListener,
            Cause::Exit(exit) => RunResult::Exit(exit),
            _ => RunResult::Done,
        }
    }

    /// After a second signal: kills all programs, reaps them and ends.
    fn kill_all(&self) -> RunResult {
        let log = &self.service.log;
        let line = log.warn("second signal: programs are killed");
        line.field("signal", self.signals.last().unwrap_or_default()).write();
        let _ = self.kill();
        log.settle();
        log.info("server ended").write();
        RunResult::Cut
    }

    /// Kills all programs and waits a bounded time until they are reaped. Says whether there were any.
    fn kill(&self) -> bool {
        let table = &self.service.table;
        let killed = table.kill();
        let deadline = Deadline::after(KILL_TIMEOUT);
        while table.backends() > 0 && !deadline.passed() {
            self.changed.wait(deadline);
        }
        // Once more, for those that were just being started.
        killed + table.kill() > 0
    }
}

/// Since when there has been nothing to serve.
struct Idle {
    since: Option<Instant>,
    served: u64,
}

impl Idle {
    fn new() -> Self {
        Self { since: None, served: 0 }
    }

    /// When `limit` will be over, if there is nothing to serve now. `served` counts the connections that have ended:
    /// one may have come and gone since the last call.
    fn deadline(&mut self, limit: Duration, quiet: bool, served: u64) -> Option<Deadline> {
        if !quiet || served != self.served {
            self.since = None;
        }
        self.served = served;
        let since = quiet.then(|| *self.since.get_or_insert_with(Instant::now))?;
        // Beyond the range of the clock: never.
        since.checked_add(limit).map(Deadline::at)
    }
}
