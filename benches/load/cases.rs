//! What is measured: each case a mode with its numbers.

use std::io;
use std::time::Duration;

use crate::arrive::{Visit, arrive};
use crate::figures::Outcome;
use crate::modes;
use crate::server::{Binary, Kind, Server, Task};

type Run = Box<dyn Fn(&Server, &Binary) -> io::Result<Outcome>>;

/// See the module's documentation.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) task: Task,
    pub(crate) rounds: usize,
    pub(crate) unit: &'static str,
    pub(crate) figure: fn(&Outcome) -> f64,
    pub(crate) less_is_better: bool,
    /// Whether others are measured as well.
    pub(crate) peers: bool,
    /// Whether there is a plain loop that does this work.
    pub(crate) baseline: bool,
    pub(crate) run: Run,
}

impl Case {
    pub(crate) fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Baseline => self.baseline,
            Kind::Base | Kind::Ours => true,
            _ => self.peers,
        }
    }
}

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Whether it works at all: a twentieth of everything.
    pub(crate) smoke: bool,
    /// Of a run that is not over when a number of things is done.
    pub(crate) time: Duration,
}

impl Scale {
    fn time(self) -> Duration {
        if self.smoke { self.time / 20 } else { self.time }
    }

    fn count(self, full: usize) -> usize {
        if self.smoke { full.div_ceil(20) } else { full }
    }
}

fn case(name: &str, title: String, task: Task, unit: &'static str, run: Run) -> Case {
    let (name, figure) = (name.to_owned(), Outcome::rate);
    Case {
        name,
        title,
        task,
        rounds: 5,
        unit,
        figure,
        less_is_better: false,
        peers: true,
        baseline: true,
        run,
    }
}

fn fan_out(scale: Scale, name: &str, clients: usize, window: u64) -> Case {
    let (clients, time) = (scale.count(clients), scale.time());
    let title = format!("fan-out, 100 B, {clients} clients, window {window}");
    let run: Run = Box::new(move |server, _| modes::fan_out(server, clients, 100, window, time));
    Case { rounds: 9, ..case(name, title, Task::Room(clients), "deliveries/s", run) }
}

fn relay(scale: Scale, clients: usize, window: u64) -> Case {
    let case = fan_out(scale, &format!("relay-{clients}-{window}"), clients, window);
    let clients = scale.count(clients);
    let title = format!("relay without a program, 100 B, {clients} clients, window {window}");
    Case { task: Task::Relay(clients), title, rounds: 5, ..case }
}

fn echo(scale: Scale, name: &str, clients: usize) -> Case {
    let (clients, time) = (scale.count(clients), scale.time());
    let title = format!("echo, 64 B, {clients} clients in rooms of their own");
    let run: Run = Box::new(move |server, _| modes::echo(server, clients, 64, time));
    case(name, title, Task::Cat, "echoes/s", run)
}

fn pipeline(scale: Scale, name: &str, size: usize, window: u64) -> Case {
    let time = scale.time();
    let title = format!("pipeline, {} through cat, window {window}", bytes(size));
    let run: Run = Box::new(move |server, _| modes::pipeline(server, size, window, time));
    let case = case(name, title, Task::Cat, "messages/s", run);
    if size < 4096 {
        return case;
    }
    let figure = |outcome: &Outcome| outcome.bytes as f64 / 1e6 / outcome.time.as_secs_f64();
    Case { unit: "MB/s", figure, ..case }
}

fn bytes(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..1_048_576 => format!("{} KiB", size / 1024),
        _ => format!("{} MiB", size / 1_048_576),
    }
}

fn flood(scale: Scale) -> Case {
    let lines = scale.count(1_000_000) as u64;
    let title = format!("flood, `seq 1 {lines}` to one client");
    let run: Run = Box::new(move |server, _| modes::flood(server, lines));
    case("flood", title, Task::Flood(lines), "lines/s", run)
}

/// A byte stream behind the server keeps no borders of messages: what is counted are bytes.
fn connect(scale: Scale) -> Case {
    let case = pipeline(scale, "connect-64KiB", 64 * 1024, 16);
    let title = "connect to a TCP echo, 64 KiB, window 16".to_owned();
    Case { task: Task::Connect, title, unit: "MB/s each way", ..case }
}

fn connect_echo(scale: Scale, clients: usize) -> Case {
    let case = echo(scale, &format!("connect-echo-{clients}"), clients);
    let title = format!("connect to a TCP echo, 64 B, {} clients", scale.count(clients));
    Case { task: Task::Connect, title, ..case }
}

fn arrivals(scale: Scale, name: &str, at_once: usize) -> Case {
    let (count, at_once) = (scale.count(5000), scale.count(at_once));
    let title = format!("connect, {count} clients to one room, {at_once} in flight");
    let run: Run = Box::new(move |server, _| arrive(server, count, at_once, Visit::Stay));
    case(name, title, Task::Door, "connections/s", run)
}

fn rooms(scale: Scale) -> Case {
    let count = scale.count(1500);
    let title = format!("{count} new rooms, each with its program and a first echo, 16 in flight");
    let run: Run = Box::new(move |server, _| arrive(server, count, 16, Visit::Echo));
    case("rooms", title, Task::Cat, "rooms/s", run)
}

fn clients(scale: Scale) -> Case {
    let count = scale.count(1000);
    let title = format!(
        "{count} new clients that stay, each with a program of its own and a first echo, 16 in flight"
    );
    let run: Run = Box::new(move |server, _| arrive(server, count, 16, Visit::StayAndEcho));
    case("clients", title, Task::Clients, "clients/s", run)
}

/// In each round without TLS first, with a server of its own. What is lost there counts as well.
fn tls_fan_out(scale: Scale) -> Case {
    let (clients, window, time) = (scale.count(1000), 32, scale.time());
    let title = format!("fan-out over TLS, 100 B, {clients} clients, window {window}");
    let run: Run = Box::new(move |server, binary| {
        let plain = modes::fan_out(&binary.start(Task::Room(clients))?, clients, 100, window, time)?;
        let mut outcome = modes::fan_out(server, clients, 100, window, time)?;
        outcome.lost += plain.lost;
        outcome.remarks =
            vec![("deliveries/s without TLS", plain.rate()), ("CPU µs each without TLS", plain.cpu_each())];
        Ok(outcome)
    });
    let case = case("tls-fan-out", title, Task::Tls, "deliveries/s", run);
    Case { rounds: 9, peers: false, baseline: false, ..case }
}

/// A mode that gives its figure itself, and less of it is better; it has no baseline.
fn less(case: Case) -> Case {
    let figure = |outcome: &Outcome| outcome.figure.unwrap_or(f64::NAN);
    Case { figure, less_is_better: true, baseline: false, ..case }
}

fn idle(scale: Scale, name: &str, count: usize) -> Case {
    let count = scale.count(count);
    let title = format!("idle, {count} clients in one room");
    let run: Run = Box::new(move |server, _| modes::idle(server, count));
    less(case(name, title, Task::Door, "kB RSS each", run))
}

fn tls_idle(scale: Scale) -> Case {
    let count = scale.count(1000);
    let title = format!("idle over TLS, {count} clients in one room");
    let run: Run = Box::new(move |server, binary| {
        let plain = modes::idle(&binary.start(Task::Door)?, count)?;
        let mut outcome = modes::idle(server, count)?;
        outcome.lost += plain.lost;
        outcome.remarks.push(("kB RSS each without TLS", plain.figure.unwrap_or(f64::NAN)));
        Ok(outcome)
    });
    Case { peers: false, ..less(case("tls-idle", title, Task::Tls, "kB RSS each", run)) }
}

fn start(scale: Scale) -> Case {
    let run: Run = Box::new(|server, binary| Ok(modes::start(server, binary.size())));
    let title = "start to first connection accepted".to_owned();
    Case { rounds: scale.count(40), ..less(case("start", title, Task::Door, "ms", run)) }
}

/// On the whole machine.
pub(crate) fn all(scale: Scale) -> Vec<Case> {
    vec![
        fan_out(scale, "fan-out-1", 1000, 1),
        fan_out(scale, "fan-out-32", 1000, 32),
        echo(scale, "echo-1", 1),
        echo(scale, "echo-64", 64),
        echo(scale, "echo-500", 500),
        pipeline(scale, "pipeline-64B", 64, 256),
        pipeline(scale, "pipeline-64KiB", 64 * 1024, 16),
        flood(scale),
        arrivals(scale, "arrivals-64", 64),
        arrivals(scale, "arrivals-1000", 1000),
        rooms(scale),
        relay(scale, 100, 1),
        relay(scale, 100, 32),
        relay(scale, 1000, 1),
        relay(scale, 1000, 32),
        clients(scale),
        connect(scale),
        connect_echo(scale, 64),
        idle(scale, "idle-1000", 1000),
        idle(scale, "idle-5000", 5000),
        tls_fan_out(scale),
        tls_idle(scale),
        start(scale),
    ]
}

/// On one core, as on the smallest server there is to rent.
pub(crate) fn pinned(scale: Scale) -> Vec<Case> {
    vec![
        fan_out(scale, "pinned-fan-out-1", 1000, 1),
        fan_out(scale, "pinned-fan-out-32", 1000, 32),
        echo(scale, "pinned-echo-1", 1),
        echo(scale, "pinned-echo-64", 64),
        pipeline(scale, "pinned-pipeline-64B", 64, 256),
        pipeline(scale, "pinned-pipeline-64KiB", 64 * 1024, 16),
        flood(scale),
        arrivals(scale, "pinned-arrivals-64", 64),
        rooms(scale),
    ]
}

/// This server alone (and the baseline), with more and more of one thing.
pub(crate) fn growth(scale: Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    for clients in [10, 100, 1000, 10_000] {
        cases.push(fan_out(scale, &format!("grow-clients-{clients}"), clients, 1));
    }
    for rooms in [1, 10, 100, 500, 1000, 2000] {
        cases.push(echo(scale, &format!("grow-rooms-{rooms}"), rooms));
    }
    for size in [16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576] {
        let window = (1_048_576 / size as u64).clamp(4, 256);
        cases.push(pipeline(scale, &format!("grow-size-{size}"), size, window));
    }
    for count in [100, 1000, 5000, 10_000] {
        cases.push(idle(scale, &format!("grow-idle-{count}"), count));
    }
    cases.into_iter().map(|case| Case { peers: false, rounds: 3, ..case }).collect()
}
