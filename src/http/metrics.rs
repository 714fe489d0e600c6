//! OpenMetrics text (version 1.0.0), for `--metrics`. Pure except for the metrics of the process.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::iter::once;
use std::sync::Arc;

use super::body::{Body, Pieces};
use super::respond::Reply;
use crate::counters::{Counters, FAMILIES};
use crate::sys::kernel;

/// As OpenMetrics requires.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is shown in addition to the counters.
#[derive(Debug, Default)]
pub struct Gauges {
    pub rooms: usize,
    pub programs: usize,
    pub connections: usize,
    /// Bytes queued for clients and for programs.
    pub queued: [usize; 2],
}

/// A sample of a room: name and value.
pub type OfRoom = (Arc<str>, u64);

/// The samples of a series, computed while they are sent.
pub type Samples = Box<dyn Iterator<Item = OfRoom>>;

/// The series that each room has.
pub struct Series {
    /// Clients that have ever joined the room; includes the most recent rooms that are gone.
    pub joined: Samples,
    pub open: Samples,
}

/// The answer.
pub fn reply(counters: &Counters, state: &Gauges, rooms: Option<Series>) -> Reply {
    let mut text = String::with_capacity(8 * 1024);
    for (name, help, members) in FAMILIES {
        head(&mut text, name, "counter", help);
        for (labels, count) in members {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let _ = writeln!(text, "{name}_total{labels} {}", counters.get(*count));
        }
    }
    let gauges = [
        ("scalesocket_rooms", "Rooms that exist", state.rooms),
        ("scalesocket_programs", "Programs running", state.programs),
        ("scalesocket_connections", "Open TCP connections", state.connections),
    ];
    for (name, help, value) in gauges {
        head(&mut text, name, "gauge", help);
        let _ = writeln!(text, "{name} {value}");
    }
    head(&mut text, "scalesocket_queue_bytes", "gauge", "Bytes queued for clients and for programs");
    for (to, bytes) in ["clients", "programs"].into_iter().zip(state.queued) {
        let _ = writeln!(text, "scalesocket_queue_bytes{{to=\"{to}\"}} {bytes}");
    }
    write_process(&mut text);
    let mut pieces: Pieces = Box::new(once(text.into_bytes()));
    if let Some(Series { joined, open }) = rooms {
        let joined = family(JOINED, "counter", "_total", "Clients that have joined the room", joined);
        pieces = Box::new(pieces.chain(joined).chain(family(OPEN, "gauge", "", "Clients in the room", open)));
    }
    let body = Body::pieces(Box::new(pieces.chain(once(b"# EOF\n".to_vec()))));
    Reply::new(200, CONTENT_TYPE, body).with("Cache-Control", "no-store")
}

/// The two series of ScaleSocket, with its names.
const JOINED: &str = "scalesocket_websocket_connections";
const OPEN: &str = "scalesocket_websocket_connections_open";

/// A family with a sample for each room; empty without rooms.
fn family(
    name: &'static str,
    kind: &'static str,
    suffix: &'static str,
    help: &'static str,
    samples: Samples,
) -> Pieces {
    let mut first = true;
    Box::new(samples.map(move |(room, value)| {
        let mut text = String::new();
        if std::mem::take(&mut first) {
            head(&mut text, name, kind, help);
        }
        let _ = writeln!(text, "{name}{suffix}{{room=\"{}\"}} {value}", escaped(&room));
        text.into_bytes()
    }))
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

/// A label's value (OpenMetrics, "Escaping").
fn escaped(value: &str) -> Cow<'_, str> {
    // Names that clients can request never need it.
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
}

/// The metrics of the process, with their usual names.
fn write_process(text: &mut String) {
    let stat = kernel::read("/proc/self/stat").unwrap_or_default();
    // The second field is the name in parentheses, which can contain anything (proc(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let fields: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = field(14) + field(15);
    head(
        text,
        "process_cpu_seconds",
        "counter",
        "User and system CPU time of the server in seconds, without its programs",
    );
    // USER_HZ is 100 on all supported Linux systems.
    let _ = writeln!(text, "process_cpu_seconds_total {}.{:02}", ticks / 100, ticks % 100);
    let descriptors = open_descriptors();
    let resident = field(24) * rustix::param::page_size() as u64;
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory of the server in bytes", resident),
        ("process_open_fds", "Open file descriptors", descriptors),
        ("process_threads", "Threads of the server", field(20)),
    ];
    for (name, help, value) in gauges {
        head(text, name, "gauge", help);
        let _ = writeln!(text, "{name} {value}");
    }
}

/// The number of open descriptors. Since Linux 6.2 it is the size of the directory (proc_pid_fd(5)); to count 10,000
/// entries takes 10 ms of CPU time.
fn open_descriptors() -> u64 {
    match rustix::fs::stat("/proc/self/fd") {
        Ok(stat) if stat.st_size > 0 => stat.st_size.cast_unsigned(),
        _ => fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Count;

    #[test]
    fn room_names_are_escaped_and_the_text_ends_with_eof() {
        let counters = Counters::default();
        counters.add(Count::Joined, 3);
        let of = |rooms: &[(&str, u64)]| -> Samples {
            let rooms: Vec<OfRoom> = rooms.iter().map(|&(name, value)| (name.into(), value)).collect();
            Box::new(rooms.into_iter())
        };
        let rooms = Series { joined: of(&[("a\"\\\n", 3), ("gone", 9)]), open: of(&[("a\"\\\n", 2)]) };
        let state = Gauges { queued: [1, 2], ..Gauges::default() };
        let Body::Bytes(bytes) = reply(&counters, &state, Some(rooms)).body else { panic!("bytes") };
        let text = String::from_utf8(bytes).expect("text");
        for line in [
            "scalesocket_websocket_connections_open{room=\"a\\\"\\\\\\n\"} 2",
            "# TYPE scalesocket_websocket_connections counter",
            "scalesocket_websocket_connections_total{room=\"gone\"} 9",
            "# TYPE scalesocket_websocket_connections_open gauge",
            "scalesocket_clients_joined_total 3",
            "scalesocket_queue_bytes{to=\"programs\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        assert!(!text.contains("connections_open{room=\"gone\"}"), "a gauge dies with its room");
        assert!(text.ends_with("# EOF\n"));
        let threads = text.lines().find_map(|line| line.strip_prefix("process_threads ")).expect("threads");
        assert!(threads.parse::<u64>().expect("a number") >= 1);
    }
}
