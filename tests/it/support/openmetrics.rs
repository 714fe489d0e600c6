//! OpenMetrics text (version 1.0.0), read strictly: what is against the format fails the test.

use std::collections::{BTreeMap, BTreeSet};

use super::Server;
use super::wait_until;

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Name and type of each family.
    pub(crate) families: BTreeMap<String, String>,
    /// Each sample: its name, its labels, its value.
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
}

/// What `GET /metrics` says now.
pub(crate) fn scrape(server: &Server) -> Metrics {
    let response = server.ask("GET", "/metrics", "");
    assert_eq!(response.status, 200, "{}", response.text());
    Metrics::parse(response.text())
}

/// Waits until a sample has a value.
#[track_caller]
pub(crate) fn await_value(server: &Server, name: &str, labels: &[(&str, &str)], wanted: f64) {
    wait_until(&format!("{name} {labels:?} is {wanted}"), || {
        scrape(server).get(name, labels) == Some(wanted)
    });
}

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF and a newline");
        let mut metrics = Self { families: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut helped, mut current) = (BTreeSet::new(), None::<(String, String)>);
        for line in body.split_terminator('\n') {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "help of {name}, once");
                current = None;
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(is_name(name), "{name}");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                let before = metrics.families.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} is declared once, and its samples stand together");
                current = Some((name.to_owned(), kind.to_owned()));
            } else {
                let (name, labels, value) = sample(line);
                let (family, kind) = current.as_ref().unwrap_or_else(|| panic!("no family before {line}"));
                let wanted = if kind == "counter" { format!("{family}_total") } else { family.clone() };
                assert_eq!(name, wanted, "a sample belongs to the family above it");
                if kind == "counter" {
                    assert!(value >= 0.0, "{line}");
                }
                let before = metrics.samples.insert((name, labels), value);
                assert_eq!(before, None, "a series twice: {line}");
            }
        }
        assert!(metrics.families.keys().all(|name| helped.contains(name)), "every family has a help text");
        // The name of a counter's sample is not that of another metric.
        for (name, _) in metrics.families.iter().filter(|(_, kind)| *kind == "counter") {
            assert!(!metrics.families.contains_key(&format!("{name}_total")), "{name}");
        }
        metrics
    }

    /// The value of a series.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The values of a label in a family's samples.
    pub(crate) fn labels(&self, name: &str, label: &str) -> Vec<&str> {
        let of_name = self.samples.keys().filter(|(other, _)| other == name);
        let values = of_name.flat_map(|(_, labels)| labels).filter(|(other, _)| other == label);
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }
}

fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(good) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// `name{label="value",...} number`
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value in {line:?}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line:?}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, behind) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label in {line:?}"));
            assert!(is_name(label), "{line:?}");
            let mut value = String::new();
            let mut characters = behind.char_indices();
            let end = loop {
                match characters.next().unwrap_or_else(|| panic!("no end of a label in {line:?}")) {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next() {
                        Some((_, 'n')) => '\n',
                        Some((_, same @ ('"' | '\\'))) => same,
                        other => panic!("escape {other:?} in {line:?}"),
                    }),
                    (_, character) => value.push(character),
                }
            };
            assert!(labels.iter().all(|(other, _)| other != label), "a label twice: {line:?}");
            labels.push((label.to_owned(), value));
            rest = &behind[end + 1..];
            match rest.as_bytes().first() {
                Some(b',') => rest = &rest[1..],
                Some(b'}') => break rest = &rest[1..],
                _ => panic!("behind a label: {line:?}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
    (name.to_owned(), labels, value.parse().unwrap_or_else(|e| panic!("{line:?}: {e}")))
}
