//! The servers under test: how each is started for a task, how it is watched, how it ends.

use std::env;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use rustls::ClientConfig;

use crate::secure;
use crate::wire::Client;

/// How long a server may take to answer, and to end.
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(5);

/// What a server is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Every path is a room of its own with `cat`.
    Cat,
    /// One room for so many; each gets what one sends.
    Room(usize),
    /// A program that prints so many numbered lines once it has read one.
    Flood(u64),
    /// One room that many come to.
    Door,
    /// No program: what one client of so many sends goes to the others.
    Relay(usize),
    /// A `cat` for each client.
    Clients,
    /// No program: each client is connected to a TCP echo.
    Connect,
    /// Every path is a room of its own with `cat`, over TLS.
    Tls,
}

impl Task {
    /// Whether there are builds that do not know its options.
    fn is_new(self) -> bool {
        matches!(self, Self::Relay(_) | Self::Clients | Self::Connect | Self::Tls)
    }
}

/// A server to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A plain loop that does the work: [`crate::bare`].
    Baseline,
    /// Another build of this program.
    Base,
    /// This program.
    Ours,
    /// The program that this one re-implements.
    ScaleSocket,
    Websocketd,
    Websocat,
    Wsbroad,
    Websockify,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Baseline,
        Self::Base,
        Self::Ours,
        Self::ScaleSocket,
        Self::Websocketd,
        Self::Websocat,
        Self::Wsbroad,
        Self::Websockify,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Base => "before",
            Self::Ours => "this",
            Self::ScaleSocket => "ScaleSocket 0.2.4",
            Self::Websocketd => "websocketd",
            Self::Websocat => "websocat",
            Self::Wsbroad => "wsbroad",
            Self::Websockify => "websockify",
        }
    }

    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Baseline | Self::Base | Self::Ours)
    }

    /// Its command, where it is not given.
    fn command(self) -> &'static str {
        match self {
            Self::Baseline | Self::Base | Self::Ours | Self::ScaleSocket => "scalesocket",
            Self::Websocketd => "websocketd",
            Self::Websocat => "websocat",
            Self::Wsbroad => "wsbroad",
            Self::Websockify => "websockify",
        }
    }

    /// The arguments for a task, if it can do it; `behind` is where the TCP echo listens.
    fn arguments(self, task: Task, address: SocketAddr, behind: Option<SocketAddr>) -> Option<Vec<String>> {
        let program: Vec<String> = match task {
            Task::Flood(lines) => vec!["sh".into(), "-c".into(), format!("read go; exec seq 1 {lines}")],
            _ => vec!["cat".into()],
        };
        let on = address.to_string();
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Some(match (self, task) {
            (Self::Baseline, Task::Cat | Task::Flood(_) | Task::Clients) => {
                [words(&["bare", "programs", &on]), program].concat()
            }
            (Self::Baseline, Task::Room(clients)) => {
                words(&["bare", "sends", &on, &clients.to_string(), "0"])
            }
            (Self::Baseline, Task::Relay(clients)) => {
                words(&["bare", "sends", &on, &clients.to_string(), "1"])
            }
            (Self::Baseline, Task::Door) => words(&["bare", "accepts", &on]),
            (Self::Baseline, Task::Connect) => words(&["bare", "proxy", &on, &behind?.to_string()]),
            (Self::Ours | Self::Base, Task::Relay(_)) => words(&["--addr", &on, "--relay"]),
            (Self::Ours | Self::Base, Task::Clients) => words(&["--addr", &on, "--share", "client", "cat"]),
            (Self::Ours | Self::Base, Task::Connect) => {
                words(&["--addr", &on, "--connect", &behind?.to_string(), "--binary"])
            }
            (Self::Ours | Self::Base, Task::Tls) => {
                [words(&["--addr", &on]), secure::options().to_vec(), program].concat()
            }
            (Self::ScaleSocket, task) if task.is_new() => return None,
            (Self::Ours | Self::Base | Self::ScaleSocket, _) => {
                [words(&["--addr", &on]), program[..1].to_vec(), words(&["--"]), program[1..].to_vec()]
                    .concat()
            }
            (Self::Websocketd, Task::Cat | Task::Flood(_) | Task::Clients) => {
                let port = format!("--port={}", address.port());
                [words(&["--address=127.0.0.1", &port, "--loglevel=fatal"]), program].concat()
            }
            (Self::Websocat, _) => {
                let (mode, peer) = match task {
                    Task::Cat | Task::Clients => ("-t", "cmd:cat".to_owned()),
                    Task::Flood(lines) => ("-t", format!("sh-c:read go; exec seq 1 {lines}")),
                    // It has no way to leave the sender out.
                    Task::Room(_) | Task::Door | Task::Relay(_) => ("-t", "broadcast:mirror:".to_owned()),
                    Task::Connect => ("-b", format!("tcp:{}", behind?)),
                    Task::Tls => return None,
                };
                // A buffer that holds the largest message: without it they come back in parts.
                words(&[mode, "-q", "-B", "1048640", &format!("ws-l:{on}"), &peer])
            }
            // With back-pressure: the sender waits for each receiver, and nothing is lost.
            (Self::Wsbroad, Task::Room(_) | Task::Door) => {
                words(&["--reflexive", "--backpressure", "--nodelay", &on])
            }
            (Self::Wsbroad, Task::Relay(_)) => words(&["--backpressure", "--nodelay", &on]),
            (Self::Websockify, Task::Connect) => words(&[&on, &behind?.to_string()]),
            _ => return None,
        })
    }
}

/// Where a kind's program is.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
}

impl Binary {
    /// Looks for a peer: in `directory` first, then in `PATH`.
    pub(crate) fn find(kind: Kind, directory: &Path) -> Option<Self> {
        let paths = env::var_os("PATH").unwrap_or_default();
        let found = std::iter::once(directory.join("bin")).chain(env::split_paths(&paths));
        let path = found.map(|directory| directory.join(kind.command())).find(|path| path.is_file())?;
        Some(Self { kind, path })
    }

    /// Whether it can do this.
    pub(crate) fn can(&self, task: Task) -> bool {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        self.kind.arguments(task, nowhere, Some(nowhere)).is_some()
    }

    /// Bytes of it.
    pub(crate) fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |data| data.len())
    }

    /// Whether this build has TLS. Without it the option is refused; with it the empty files are.
    fn has_tls(&self) -> io::Result<bool> {
        let mut command = Command::new(&self.path);
        command.args(["--addr=127.0.0.1:0", "--tlscert=/dev/null", "--tlskey=/dev/null", "cat"]);
        let output = command.stdin(Stdio::null()).output()?;
        let is_unknown = output.status.code() == Some(2);
        Ok(!is_unknown && !String::from_utf8_lossy(&output.stderr).contains("no TLS"))
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, task: Task) -> io::Result<Server> {
        if task == Task::Tls && !self.has_tls()? {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "no TLS in this build"));
        }
        let behind = (task == Task::Connect).then(Server::tcp).transpose()?;
        let address = free_port()?;
        let arguments = self
            .kind
            .arguments(task, address, behind.as_ref().map(|server| server.address))
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let server = Server::run(&self.path, &arguments, address, behind.map(Box::new));
        let mut server = server.map_err(|e| match e.kind() {
            io::ErrorKind::InvalidInput if task.is_new() && self.kind == Kind::Base => {
                io::Error::new(io::ErrorKind::Unsupported, "not supported")
            }
            _ => e,
        })?;
        server.tls = (task == Task::Tls).then(secure::config).transpose()?;
        Ok(server)
    }
}

/// A server that runs; it ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    /// From the start of its process to the first connection that was accepted.
    pub(crate) start: Duration,
    /// A byte stream is behind it: messages are binary, and their borders are lost.
    pub(crate) stream: bool,
    /// What its clients need for TLS, if it speaks that.
    tls: Option<Arc<ClientConfig>>,
    _behind: Option<Box<Server>>,
}

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// `InvalidInput` when it ends with status 2, as after a usage error.
    fn run(
        path: &Path,
        arguments: &[String],
        address: SocketAddr,
        behind: Option<Box<Self>>,
    ) -> io::Result<Self> {
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let child = command.process_group(0).spawn()?;
        let (start, stream) = (Duration::ZERO, behind.is_some());
        let mut server = Self { address, child, start, stream, tls: None, _behind: behind };
        loop {
            // Refused until it listens; nothing tells of that moment but trying.
            if TcpStream::connect(address).is_ok() {
                server.start = began.elapsed();
                return Ok(server);
            }
            let ended = server.ended()?;
            if began.elapsed() > START || ended.is_some() {
                let usage = ended.is_some_and(|status| status.exit_status() == Some(2));
                let kind = if usage { io::ErrorKind::InvalidInput } else { io::ErrorKind::Other };
                return Err(io::Error::new(kind, format!("{} does not listen", path.display())));
            }
            thread::yield_now();
        }
    }

    fn tcp() -> io::Result<Self> {
        let address = free_port()?;
        let arguments = ["bare", "tcp", &address.to_string()].map(str::to_owned);
        Self::run(&env::current_exe()?, &arguments, address, None)
    }

    /// A new client of it that asks for `path`; `room` is what it takes with one read.
    pub(crate) fn connect(&self, path: &str, room: usize) -> io::Result<Client> {
        Client::open(self.address, self.tls.as_ref(), path, room)
    }

    /// How its process ended, if it did. It is not reaped: its number, and its group's, stay its own.
    fn ended(&self) -> io::Result<Option<WaitIdStatus>> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(rustix::process::waitid(WaitId::Pid(pid), look)?)
    }

    fn proc(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Processor time of the server's own process and of those that it forked and that run the same program
    /// (one for each client of websockify), in user and kernel mode; not of the programs that it started.
    pub(crate) fn cpu(&self) -> Duration {
        let own = self.child.id();
        let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ticks = pids.filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
            let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
            let counts = pid == own || field(1)? == u64::from(own) && program(pid) == program(own);
            counts.then_some(field(11)? + field(12)?)
        });
        Duration::from_millis(ticks.sum::<u64>() * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Resident bytes.
    pub(crate) fn rss(&self) -> u64 {
        1024 * number(&self.proc("status").unwrap_or_default(), "VmRSS:")
    }

    pub(crate) fn threads(&self) -> u64 {
        number(&self.proc("status").unwrap_or_default(), "Threads:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(group) = group else { return };
        let _ = rustix::process::kill_process(group, Signal::TERM);
        let until = Instant::now() + END;
        while matches!(self.ended(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        // What is left of its group, and itself if it is still there.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The first number behind a name in one of proc's files.
pub(crate) fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
