//! The servers under test: how each is started for a task, how it is watched, how it ends.

use std::env;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// How long a server may take to answer, and to end.
const START: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(5);

/// What a server is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Every path is a room of its own with `cat`.
    Cat,
    /// One room for so many, where everybody hears what one says.
    Room(usize),
    /// A program that prints so many numbered lines once it has read one.
    Flood(u64),
    /// One room that many come to.
    Door,
}

/// Whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The least that does the work: [`crate::bare`].
    Limit,
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
        Self::Limit,
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
            Self::Limit => "the limit",
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
        !matches!(self, Self::Limit | Self::Base | Self::Ours)
    }

    /// Its command, where it is not given.
    fn command(self) -> &'static str {
        match self {
            Self::Limit | Self::Base | Self::Ours | Self::ScaleSocket => "scalesocket",
            Self::Websocketd => "websocketd",
            Self::Websocat => "websocat",
            Self::Wsbroad => "wsbroad",
            Self::Websockify => "websockify",
        }
    }

    /// The arguments for a task, if it can do it.
    fn arguments(self, task: Task, address: SocketAddr, behind: Option<SocketAddr>) -> Option<Vec<String>> {
        let program: Vec<String> = match task {
            Task::Cat | Task::Room(_) | Task::Door => vec!["cat".into()],
            Task::Flood(lines) => vec!["sh".into(), "-c".into(), format!("read go; exec seq 1 {lines}")],
        };
        let on = address.to_string();
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Some(match (self, task) {
            (Self::Limit, Task::Cat | Task::Flood(_)) => [words(&["bare", "relay", &on]), program].concat(),
            (Self::Limit, Task::Room(clients)) => words(&["bare", "sends", &on, &clients.to_string()]),
            (Self::Limit, Task::Door) => words(&["bare", "accepts", &on]),
            (Self::Ours | Self::Base | Self::ScaleSocket, _) => {
                [words(&["--addr", &on]), program[..1].to_vec(), words(&["--"]), program[1..].to_vec()]
                    .concat()
            }
            (Self::Websocketd, Task::Cat | Task::Flood(_)) => {
                let port = format!("--port={}", address.port());
                [words(&["--address=127.0.0.1", &port, "--loglevel=fatal"]), program].concat()
            }
            (Self::Websocat, _) => {
                let peer = match task {
                    Task::Cat => "cmd:cat".to_owned(),
                    Task::Flood(lines) => format!("sh-c:read go; exec seq 1 {lines}"),
                    Task::Room(_) | Task::Door => "broadcast:mirror:".to_owned(),
                };
                // A buffer that holds the largest message: without it they come back in parts.
                words(&["-t", "-q", "-B", "1048640", &format!("ws-l:{on}"), &peer])
            }
            // As it loses nothing, and everybody hears what is said.
            (Self::Wsbroad, Task::Room(_) | Task::Door) => {
                words(&["--reflexive", "--backpressure", "--nodelay", &on])
            }
            (Self::Websockify, Task::Cat) => words(&[&on, &behind?.to_string()]),
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

    /// Starts it and waits until somebody answers.
    pub(crate) fn start(&self, task: Task) -> io::Result<Server> {
        let behind = (self.kind == Kind::Websockify).then(Server::tcp).transpose()?;
        let address = free_port()?;
        let arguments = self
            .kind
            .arguments(task, address, behind.as_ref().map(|server| server.address))
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        Server::run(&self.path, &arguments, address, behind.map(Box::new))
    }
}

/// A server that runs; it ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    /// From the start of its process to the first connection that was accepted.
    pub(crate) start: Duration,
    /// It takes binary messages only.
    pub(crate) binary: bool,
    _behind: Option<Box<Server>>,
}

impl Server {
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
        let mut server =
            Self { address, child, start: Duration::ZERO, binary: behind.is_some(), _behind: behind };
        loop {
            // Refused until it listens; nothing tells of that moment but trying.
            if TcpStream::connect(address).is_ok() {
                server.start = began.elapsed();
                return Ok(server);
            }
            if began.elapsed() > START || server.child.try_wait()?.is_some() {
                return Err(io::Error::other(format!("{} does not listen", path.display())));
            }
            thread::yield_now();
        }
    }

    fn tcp() -> io::Result<Self> {
        let address = free_port()?;
        let arguments = ["bare", "tcp", &address.to_string()].map(str::to_owned);
        Self::run(&env::current_exe()?, &arguments, address, None)
    }

    fn proc(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Processor time of the server's own process, in user and kernel mode; not of those it started.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat").unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
        let second = rustix::param::clock_ticks_per_second();
        Duration::from_millis((ticks(11) + ticks(12)) * 1000 / second)
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
        // Not reaped yet: its number, and its group's, cannot be anybody else's.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(group), look), Ok(None)) && Instant::now() < until
        {
            thread::sleep(Duration::from_millis(2));
        }
        // Whatever it left behind in its group, and itself if it is still there.
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
