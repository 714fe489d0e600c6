//! A server of the test's own: started, waited for, looked at, ended.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::client::Client;
use super::process::{self, forking};
use super::raw::{Address, Raw, Response};
use super::{DEADLINE, testprog};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_scalesocket");

/// Runs the binary to its end, for command lines that start no server.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
    run_command(command)
}

/// The same for a command that was put together.
pub(crate) fn run_command(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = {
        let _alone = forking();
        command.spawn().expect("start the binary")
    };
    let pid = child.id();
    let guard = std::thread::spawn(move || {
        if !process::ended_within(pid, DEADLINE) {
            process::signal(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output().expect("wait for the binary");
    guard.join().expect("the guard ends");
    assert_ne!(output.status.signal(), Some(9), "{command:?} did not end by itself");
    output
}

/// What a server is started with.
pub(crate) struct Builder {
    options: Vec<OsString>,
    addresses: Vec<String>,
    environment: Vec<(OsString, OsString)>,
    /// Words before the server's own, for a wrapper such as `sh -c '... exec "$@"' sh`.
    wrapper: Vec<OsString>,
    stdin: Option<OwnedFd>,
    /// `listening on` lines to wait for.
    announcements: usize,
}

impl Builder {
    /// Adds options.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(OsString::from));
        self
    }

    /// Listens there, instead of on a port of 127.0.0.1; may be called several times.
    pub(crate) fn address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// Sets a variable of the server's environment.
    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it through a shell line that ends in `exec "$@"`.
    pub(crate) fn through_shell(mut self, line: &str) -> Self {
        self.wrapper = ["/bin/sh", "-c", line, "sh"].iter().map(OsString::from).collect();
        self
    }

    /// Hands it a descriptor as standard input, and waits for that many `listening on` lines; its own
    /// `--addr` is not given then.
    pub(crate) fn inherit(mut self, stdin: OwnedFd, announcements: usize) -> Self {
        self.stdin = Some(stdin);
        self.announcements = announcements;
        self
    }

    /// Serves `cat`.
    pub(crate) fn cat(self) -> Server {
        self.program(&["cat"])
    }

    /// Serves a shell line.
    pub(crate) fn sh(self, script: &str) -> Server {
        self.program(&["sh", "-c", script])
    }

    /// Serves `testprog` with these arguments.
    pub(crate) fn testprog(self, arguments: &[&str]) -> Server {
        let path = testprog();
        self.program(&[&[path.as_str()], arguments].concat())
    }

    /// Serves a program; it and its arguments stand behind `--`.
    pub(crate) fn program(self, program: &[&str]) -> Server {
        let mut words = self.wrapper;
        words.push(BINARY.into());
        let mut announcements = self.announcements;
        if self.stdin.is_none() {
            let addresses =
                if self.addresses.is_empty() { vec!["127.0.0.1:0".to_owned()] } else { self.addresses };
            announcements = addresses.len();
            words.extend(addresses.iter().flat_map(|address| ["--addr".into(), address.into()]));
        }
        words.extend(self.options);
        words.push("--".into());
        words.extend(program.iter().map(OsString::from));

        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .envs(self.environment)
            .stdin(self.stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = {
            let _alone = forking();
            command.spawn().unwrap_or_else(|e| panic!("start {words:?}: {e}"))
        };
        // The handed over descriptor must not stay open here.
        drop(command);
        let log = Log::collect(child.stderr.take().expect("standard error is piped"));
        let mut server = Server { child, log, addresses: Vec::new(), status: None };
        server.addresses = server.log.addresses(announcements);
        server
    }
}

/// A running server. Dropped, it is killed, and so are its programs.
pub(crate) struct Server {
    child: Child,
    pub(crate) log: Log,
    addresses: Vec<Address>,
    status: Option<ExitStatus>,
}

impl Server {
    /// A server to be, with these options.
    pub(crate) fn with(options: &[&str]) -> Builder {
        let builder = Builder {
            options: Vec::new(),
            addresses: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
            stdin: None,
            announcements: 1,
        };
        builder.options(options)
    }

    /// Serves `cat`.
    pub(crate) fn cat() -> Self {
        Self::with(&[]).cat()
    }

    /// Serves a shell line.
    pub(crate) fn sh(script: &str) -> Self {
        Self::with(&[]).sh(script)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens first.
    pub(crate) fn address(&self) -> &Address {
        self.addresses.first().expect("an address")
    }

    /// Where it listens, in the order of the announcements.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// A client in a room; `target` is `/room?query`.
    #[track_caller]
    pub(crate) fn join(&self, target: &str) -> Client {
        Client::connect(self.address(), target)
    }

    /// How a client is refused.
    #[track_caller]
    pub(crate) fn refused(&self, target: &str, fields: &str) -> Response {
        match Client::connect_with(self.address(), target, fields) {
            Ok(_) => panic!("{target} was let in"),
            Err(response) => response,
        }
    }

    /// A client that is in its room for sure: one who comes while the program is being started knows that it
    /// is let in before it is. For programs that say nothing to one who joins.
    #[track_caller]
    pub(crate) fn member(&self, target: &str) -> Client {
        let mut client = self.join(target);
        client.expect_alive();
        client
    }

    /// So many of them, one after the other.
    #[track_caller]
    pub(crate) fn members(&self, target: &str, number: usize) -> Vec<Client> {
        (0..number).map(|_| self.member(target)).collect()
    }

    /// A client in a room, or how it is refused.
    pub(crate) fn ask_upgrade(&self, target: &str) -> Result<Client, Response> {
        Client::connect_with(self.address(), target, "")
    }

    pub(crate) fn raw(&self) -> Raw {
        Raw::connect(self.address())
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &str) -> Response {
        self.raw().ask(method, target, fields)
    }

    /// Waits for a line of the log, from its beginning on.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.log.wait_for(wanted)
    }

    /// Waits for a line that holds all these parts.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, parts: &[&str]) -> String {
        let found = self.log.find(DEADLINE, |line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("no line with {parts:?} in\n{}", self.log.lines().join("\n")))
    }

    /// KiB of memory that it has.
    pub(crate) fn rss(&self) -> u64 {
        process::status_number(self.pid(), "VmRSS")
    }

    pub(crate) fn threads(&self) -> u64 {
        process::status_number(self.pid(), "Threads")
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    /// Its programs, those included that it has not reaped.
    pub(crate) fn children(&self) -> Vec<u32> {
        process::children(self.pid())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits until it has ended; gives its status.
    #[track_caller]
    pub(crate) fn await_exit(&mut self) -> ExitStatus {
        self.await_exit_within(DEADLINE)
    }

    #[track_caller]
    pub(crate) fn await_exit_within(&mut self, time: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let ended = process::ended_within(self.pid(), time);
        assert!(ended, "the server still runs after {time:?}:\n{}", self.log.lines().join("\n"));
        let status = self.child.wait().expect("wait for the server");
        self.status = Some(status);
        status
    }

    /// TERM, and how and how fast it ends.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(Signal::TERM);
        (self.await_exit_within(Duration::from_secs(60)), start.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.status.is_none() && matches!(self.child.try_wait(), Ok(None)) {
            // Stopped, it neither starts nor reaps programs: their pids are not reused.
            self.signal(Signal::STOP);
            for child in self.children() {
                process::signal_group(child, Signal::KILL);
            }
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        if !std::thread::panicking() {
            let lines = self.log.lines();
            let wrong = |line: &&String| line.contains("panicked at") || line.contains("internal error");
            assert_eq!(lines.iter().find(wrong), None, "no thread of the server may panic");
        }
    }
}

/// A server's standard error, line by line.
#[derive(Clone)]
pub(crate) struct Log(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads in the background, so that writers never wait.
    pub(crate) fn collect(stderr: impl std::io::Read + Send + 'static) -> Self {
        let log = Self(Arc::new((Mutex::default(), Condvar::new())));
        let collector = log.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                collector.change(|state| state.lines.push(text));
            }
            collector.change(|state| state.ended = true);
        });
        log
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// All lines there will ever be; call it when the server has ended.
    pub(crate) fn all_lines(&self) -> Vec<String> {
        self.find(DEADLINE, |_| false);
        self.lines()
    }

    /// How often a line with all these parts was logged, and in how many lines: one that repeats too fast is
    /// written once a second with its count.
    pub(crate) fn times(&self, parts: &[&str]) -> (u64, usize) {
        let lines = self.lines();
        let wanted: Vec<_> =
            lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).collect();
        let number = |line: &&String| {
            line.split_once(" repeated=").map_or(1, |(_, number)| number.parse::<u64>().expect("a number"))
        };
        (wanted.iter().map(number).sum(), wanted.len())
    }

    /// The first line that is wanted, waited for; `None` when there is none in time, or the log has ended.
    pub(crate) fn find(&self, time: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let until = Instant::now() + time;
        let mut seen = 0;
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return None;
            }
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The first line that is wanted, waited for.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.find(DEADLINE, wanted)
            .unwrap_or_else(|| panic!("the line did not come:\n{}", self.lines().join("\n")))
    }

    /// Waits for that many `listening on` lines, text or JSON; gives the addresses.
    fn addresses(&self, number: usize) -> Vec<Address> {
        let seen = std::cell::RefCell::new(Vec::new());
        let enough = |line: &str| {
            let mut seen = seen.borrow_mut();
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find([' ', '"']).unwrap_or(rest.len());
                seen.push(Address::parse(&rest[..end]));
            }
            seen.len() >= number
        };
        if number > 0 {
            self.wait_for(enough);
        }
        seen.into_inner()
    }
}
