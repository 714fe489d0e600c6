//! The tables, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::cases::Case;
use crate::figures::{Summary, short};
use crate::server::{Binary, Kind};

/// One case and what came out.
pub(crate) struct Done {
    pub(crate) case: Case,
    pub(crate) summaries: BTreeMap<Kind, Summary>,
    pub(crate) failures: BTreeMap<Kind, String>,
    /// Builds that cannot do it, and why.
    pub(crate) unsupported: BTreeMap<Kind, String>,
}

impl Done {
    /// `value` as a multiple of `other`, so that more is better.
    fn ratio(&self, value: f64, other: f64) -> f64 {
        if self.case.less_is_better { other / value } else { value / other }
    }

    /// The best of the others that lost nothing.
    fn best_peer(&self) -> Option<(Kind, &Summary)> {
        let peers = self.summaries.iter().filter(|(kind, summary)| kind.is_peer() && summary.lost == 0);
        let better = |a: f64, b: f64| self.ratio(a, b).total_cmp(&1.0);
        peers.max_by(|(_, a), (_, b)| better(a.middle, b.middle)).map(|(&kind, summary)| (kind, summary))
    }
}

/// Cases that were measured under the same conditions.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Done>,
}

/// All of it.
pub(crate) struct Results {
    pub(crate) binaries: Vec<Binary>,
    /// Names of the peers that are not installed.
    pub(crate) missing: Vec<&'static str>,
    pub(crate) sections: Vec<Section>,
}

impl Results {
    /// Cases in which this program failed or lost something.
    pub(crate) fn failures(&self) -> usize {
        let all = self.sections.iter().flat_map(|section| &section.cases);
        let all = all.filter(|done| !done.unsupported.contains_key(&Kind::Ours));
        let lost = |done: &Done| done.summaries.get(&Kind::Ours).is_none_or(|summary| summary.lost > 0);
        all.filter(|done| done.failures.contains_key(&Kind::Ours) || lost(done)).count()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("# Results\n\nWritten by `make bench`; see README for what they mean.\n\n");
        let _ = writeln!(text, "{}\n\n{BASELINE}\n", machine());
        let _ = writeln!(text, "| server | bytes |\n| --- | ---: |");
        for binary in &self.binaries {
            let name =
                if binary.kind == Kind::Baseline { "baseline (this tool)" } else { binary.kind.name() };
            let _ = writeln!(text, "| {name} | {} |", binary.size());
        }
        for name in &self.missing {
            let _ = writeln!(text, "| {name} | not installed |");
        }
        for section in &self.sections {
            let _ = writeln!(text, "\n## {}\n", section.title);
            summary(&mut text, &section.cases);
            for done in &section.cases {
                details(&mut text, done);
            }
        }
        text
    }
}

const BASELINE: &str = "\
The baseline does the same work by a plain loop, with nothing checked, queued or bounded. It writes what one read gave, \
waits in each write, and takes three threads and half a megabyte of buffers for each program. So it is no upper bound: a \
server that puts more messages into one write, that widens its pipes, or that does less for each new program can beat it.";

/// Where and when.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let flag = cpu.matches("\nprocessor").count() + usize::from(cpu.starts_with("processor"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = Command::new("date").arg("+%Y-%m-%d").output().map(|out| out.stdout).unwrap_or_default();
    format!(
        "{}, {flag} × {}, Linux {}. Medians of the rounds, least and most in brackets; latencies in \
         microseconds; processor time of the server's own processes, without the programs that it serves.",
        String::from_utf8_lossy(&date).trim(),
        model.map_or("unknown processor", |(_, model)| model).trim(),
        release.trim()
    )
}

fn summary(text: &mut String, cases: &[Done]) {
    text.push_str(
        "| what | unit | baseline | this | times the baseline | best peer that lost nothing | times that peer |\n\
         | --- | --- | ---: | ---: | ---: | --- | ---: |\n",
    );
    for done in cases {
        let Some(ours) = done.summaries.get(&Kind::Ours) else { continue };
        let baseline = done.summaries.get(&Kind::Baseline);
        let peer = done.best_peer();
        let times = |other: Option<&Summary>| {
            other.map_or_else(String::new, |other| format!("{:.2}", done.ratio(ours.middle, other.middle)))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            done.case.title,
            done.case.unit,
            baseline.map_or_else(String::new, |baseline| short(baseline.middle)),
            short(ours.middle),
            times(baseline),
            peer.map_or_else(String::new, |(kind, peer)| format!("{} {}", kind.name(), short(peer.middle))),
            times(peer.map(|(_, peer)| peer)),
        );
    }
}

fn details(text: &mut String, done: &Done) {
    let _ = writeln!(text, "\n### {}\n", done.case.title);
    let remarks: Vec<&str> = done
        .summaries
        .values()
        .next()
        .map_or_else(Vec::new, |summary| summary.remarks.iter().map(|&(name, _)| name).collect());
    let timed = done.summaries.values().any(|summary| summary.percentiles.is_some());
    let mut head = format!("| server | {} |", done.case.unit);
    if timed {
        head.push_str(" p50 | p99 | p999 | CPU µs each |");
    }
    head.push_str(" lost |");
    for remark in &remarks {
        let _ = write!(head, " {remark} |");
    }
    let columns = head.matches('|').count() - 2;
    let _ = writeln!(text, "{head}\n| --- |{}", " ---: |".repeat(columns));
    for (kind, summary) in &done.summaries {
        let Summary { middle, least, most, .. } = *summary;
        let _ = write!(text, "| {} | {} ({} to {}) |", kind.name(), short(middle), short(least), short(most));
        if timed {
            for percentile in summary.percentiles.unwrap_or([f64::NAN; 3]) {
                let _ = write!(text, " {} |", short(percentile));
            }
            let _ = write!(text, " {} |", short(summary.cpu_each));
        }
        let _ = write!(text, " {} |", summary.lost);
        for (_, value) in &summary.remarks {
            let _ = write!(text, " {} |", short(*value));
        }
        text.push('\n');
    }
    for (kind, why) in &done.failures {
        let _ = writeln!(text, "\n{} failed: {why}.", kind.name());
    }
    for (kind, why) in &done.unsupported {
        let _ = writeln!(text, "\n{}: {why}.", kind.name());
    }
}
