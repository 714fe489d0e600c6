//! Measures this server, a baseline and other servers in turns, in one run: `make bench`. Clients and servers
//! talk over loopback only; every run is bounded in count and time.
//!
//! The figures compare servers on one machine. They say nothing about networks.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arrive;
mod bare;
mod cases;
mod events;
mod figures;
mod modes;
mod report;
mod secure;
mod server;
mod wire;

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::thread::CpuSet;

use crate::cases::{Case, Scale};
use crate::figures::{Outcome, Summary, short};
use crate::report::{Results, Section};
use crate::server::{Binary, Kind};

const USAGE: &str = "\
usage: load [--server PATH] [--before PATH] [--peers DIR] [--only CASE,…] [--rounds N] [--seconds N]
            [--smoke] [--part all|pinned|growth,…] [--out FILE]
       load bare KIND ADDRESS ARGUMENT…

  --server PATH  the scalesocket to measure (target/x86_64-unknown-linux-musl/release/scalesocket)
  --before PATH  another build of it, measured in the same rounds
  --peers DIR    where `make bench-peers` has put the others; those in PATH are found, too
  --only CASE    cases whose names begin with it
  --rounds N     how often each is run, instead of five or nine times
  --seconds N    how long a run takes that is not over when something is done, instead of one second
  --smoke        each case once and short, to check that it works
  --part PART    the whole machine, one core, or how the cost grows with its causes; all three if not given
  --out FILE     write the tables there, as Markdown";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match arguments.first().map(String::as_str) {
        Some("bare") => bare::run(&arguments[1..]),
        _ => measure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("load: {e}");
            ExitCode::FAILURE
        }
    }
}

/// What to measure.
struct Plan {
    binaries: Vec<Binary>,
    only: Option<Vec<String>>,
    rounds: Option<usize>,
    scale: Scale,
}

fn measure() -> Result<(), Box<dyn Error>> {
    let mut arguments = pico_args::Arguments::from_env();
    if arguments.contains(["-h", "--help"]) {
        println!("{USAGE}");
        return Ok(());
    }
    arguments.contains("--bench");
    let ours: PathBuf = arguments
        .opt_value_from_str("--server")?
        .unwrap_or_else(|| "target/x86_64-unknown-linux-musl/release/scalesocket".into());
    let before: Option<PathBuf> = arguments.opt_value_from_str("--before")?;
    let peers: PathBuf = arguments.opt_value_from_str("--peers")?.unwrap_or_default();
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let only = arguments.opt_value_from_str("--only")?.map(list);
    let parts = arguments.opt_value_from_str("--part")?.map(list);
    let rounds = arguments.opt_value_from_str("--rounds")?;
    let seconds = arguments.opt_value_from_str("--seconds")?.unwrap_or(1);
    let scale = Scale { smoke: arguments.contains("--smoke"), time: Duration::from_secs(seconds) };
    let out: Option<PathBuf> = arguments.opt_value_from_str("--out")?;
    if let Some(unknown) = arguments.finish().first() {
        return Err(format!("unknown argument {}\n{USAGE}", unknown.display()).into());
    }
    if !ours.is_file() {
        return Err(format!("{} is not there: `make static` builds it", ours.display()).into());
    }
    let mut binaries = vec![Binary { kind: Kind::Baseline, path: env::current_exe()? }];
    binaries.extend(before.map(|path| Binary { kind: Kind::Base, path }));
    binaries.push(Binary { kind: Kind::Ours, path: ours.clone() });
    let mut missing = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_peer()) {
        // The name of one of them is this program's too.
        let is_other = |found: &Binary| fs::canonicalize(&found.path).ok() != fs::canonicalize(&ours).ok();
        match Binary::find(kind, &peers).filter(is_other) {
            Some(found) => binaries.push(found),
            None => missing.push(kind.name()),
        }
    }
    if !missing.is_empty() {
        eprintln!("load: not installed, left out: {}", missing.join(", "));
    }
    raise_descriptors()?;

    let plan = Plan { binaries, only, rounds, scale };
    let part = |name: &str| parts.as_ref().is_none_or(|parts| parts.iter().any(|part| part == name));
    let mut sections = Vec::new();
    if part("all") {
        sections.push(run("The whole machine", &plan, cases::all(scale)));
    }
    if part("growth") {
        sections.push(run("How the cost grows", &plan, cases::growth(scale)));
    }
    if part("pinned") {
        // Inherited by every thread and process from here on.
        let mut one = CpuSet::new();
        one.set(0);
        rustix::thread::sched_setaffinity(None, &one)?;
        sections.push(run("Clients and server pinned to one core", &plan, cases::pinned(scale)));
    }
    let results = Results { binaries: plan.binaries, missing, sections };
    match out {
        Some(path) => fs::write(path, results.markdown())?,
        None => println!("{}", results.markdown()),
    }
    let broken = results.failures();
    if broken > 0 { Err(format!("{broken} runs of this server failed").into()) } else { Ok(()) }
}

/// As many as may be: ten thousand clients are ten thousand sockets here too.
fn raise_descriptors() -> Result<(), Box<dyn Error>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

fn run(title: &'static str, plan: &Plan, cases: Vec<Case>) -> Section {
    let mut section = Section { title, cases: Vec::new() };
    for case in cases {
        let wanted = |only: &Vec<String>| only.iter().any(|name| case.name.starts_with(name.as_str()));
        if !plan.only.as_ref().is_none_or(wanted) {
            continue;
        }
        let able: Vec<_> =
            plan.binaries.iter().filter(|binary| case.wants(binary.kind) && binary.can(case.task)).collect();
        let mut outcomes: BTreeMap<Kind, Vec<Outcome>> = BTreeMap::new();
        let mut failures: BTreeMap<Kind, String> = BTreeMap::new();
        let mut unsupported: BTreeMap<Kind, String> = BTreeMap::new();
        let rounds = if plan.scale.smoke { 1 } else { plan.rounds.unwrap_or(case.rounds) };
        eprintln!("{}: {}", case.name, case.title);
        for round in 0..rounds {
            // In turns, and each round begins with another one.
            for turn in 0..able.len() {
                let binary = able[(turn + round) % able.len()];
                if failures.contains_key(&binary.kind) || unsupported.contains_key(&binary.kind) {
                    continue;
                }
                match binary.start(case.task).and_then(|server| (case.run)(&server, binary)) {
                    Ok(outcome) => outcomes.entry(binary.kind).or_default().push(outcome),
                    Err(e) if e.kind() == ErrorKind::Unsupported => {
                        unsupported.insert(binary.kind, e.to_string());
                    }
                    // Not again: each failure may take as long as all time-outs together.
                    Err(e) => drop(failures.insert(binary.kind, e.to_string())),
                }
            }
        }
        let mut summaries = BTreeMap::new();
        for (kind, mut outcomes) in outcomes {
            let summary = Summary::of(&mut outcomes, case.figure);
            eprintln!(
                "  {:18} {:>8} {} ({} to {}), {:.2} µs, lost {}",
                kind.name(),
                short(summary.middle),
                case.unit,
                short(summary.least),
                short(summary.most),
                summary.cpu_each,
                summary.lost
            );
            summaries.insert(kind, summary);
        }
        for (kind, why) in &failures {
            eprintln!("  {:18} failed: {why}", kind.name());
        }
        for (kind, why) in &unsupported {
            eprintln!("  {:18} skipped: {why}", kind.name());
        }
        section.cases.push(report::Done { case, summaries, failures, unsupported });
    }
    section
}
