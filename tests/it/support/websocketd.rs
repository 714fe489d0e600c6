//! A server with the command line of websocketd, and its log, which is on standard output.

use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;

use super::process::{self, forking};
use super::raw::{Address, Raw, Response};
use super::server::{BINARY, Log};
use super::{Client, DEADLINE, ports};

/// A running server. Dropped, it is killed, and so are its programs.
pub(crate) struct Websocketd {
    child: Child,
    pub(crate) log: Log,
    pub(crate) address: Address,
}

impl Websocketd {
    /// Serves a program on a port of 127.0.0.1. `words` are options and program.
    pub(crate) fn start(words: &[&str]) -> Self {
        let port = ports::free(1);
        let first = ["--address=127.0.0.1".to_owned(), format!("--port={port}")];
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        Self::listening(Address::parse(&format!("127.0.0.1:{port}")), &[&first, words].concat())
    }

    /// The same with all words, which make it listen on this address.
    pub(crate) fn listening(address: Address, words: &[&str]) -> Self {
        let mut child = launch(words);
        let log = Log::collect(child.stdout.take().expect("standard output is piped"));
        let server = Self { child, log, address };
        server.line(&["Starting WebSocket server"]);
        server
    }

    /// Waits for a line of the log that holds all these parts.
    #[track_caller]
    pub(crate) fn line(&self, parts: &[&str]) -> String {
        self.log.wait_for(|line| parts.iter().all(|part| line.contains(part)))
    }

    #[track_caller]
    pub(crate) fn join(&self, target: &str) -> Client {
        Client::connect(&self.address, target)
    }

    /// Status and body of a refusal.
    #[track_caller]
    pub(crate) fn refused(&self, target: &str, fields: &str) -> (u16, String) {
        match Client::connect_with(&self.address, target, fields) {
            Ok(_) => panic!("{target} was let in"),
            Err(response) => (response.status, response.text().to_owned()),
        }
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &str) -> Response {
        Raw::connect(&self.address).ask(method, target, fields)
    }

    /// Its programs.
    pub(crate) fn children(&self) -> Vec<u32> {
        process::children(self.child.id())
    }
}

impl Drop for Websocketd {
    fn drop(&mut self) {
        // Stopped, it neither starts nor reaps programs: their pids are not reused.
        process::signal(self.child.id(), Signal::STOP);
        for child in self.children() {
            process::signal_group(child, Signal::KILL);
        }
        process::signal(self.child.id(), Signal::KILL);
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let lines = self.log.lines();
            assert!(!lines.iter().any(|line| line.contains("internal error")), "{}", lines.join("\n"));
        }
    }
}

/// Runs it to its end; gives its status and its log.
pub(crate) fn run(words: &[&str]) -> (ExitStatus, Vec<String>) {
    let mut child = launch(words);
    let log = Log::collect(child.stdout.take().expect("standard output is piped"));
    if !process::ended_within(child.id(), DEADLINE) {
        process::signal(child.id(), Signal::KILL);
    }
    (child.wait().expect("wait for the server"), log.all_lines())
}

fn launch(words: &[&str]) -> Child {
    let mut command = Command::new(BINARY);
    command.arg("--websocketd").args(words).env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let _alone = forking();
    command.spawn().unwrap_or_else(|e| panic!("start {words:?}: {e}"))
}
