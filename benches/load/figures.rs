//! What was measured, and what many of them come to.

use std::time::Duration;

/// What one run of one mode against one server gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Messages, deliveries, connections or rooms, as the mode counts.
    pub(crate) done: u64,
    /// Bytes of payload.
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    /// Nanoseconds each.
    pub(crate) latencies: Vec<u64>,
    /// Messages that should have come and did not.
    pub(crate) lost: u64,
    /// Time that the server's own process spent on processors.
    pub(crate) cpu: Duration,
    /// For the modes that measure something else: the figure itself.
    pub(crate) figure: Option<f64>,
    /// Further columns of the report.
    pub(crate) remarks: Vec<(&'static str, f64)>,
}

impl Outcome {
    /// How many a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Microseconds of the server's processor time for each.
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.done.max(1) as f64
    }
}

/// What several rounds come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    /// Median of the mode's figure, least and most.
    pub(crate) middle: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// Medians of the rounds' percentiles, in microseconds.
    pub(crate) percentiles: Option<[f64; 3]>,
    pub(crate) cpu_each: f64,
    /// The most that was lost in one round.
    pub(crate) lost: u64,
    pub(crate) remarks: Vec<(&'static str, f64)>,
}

impl Summary {
    /// Of at least one round.
    pub(crate) fn of(outcomes: &mut [Outcome], figure: impl Fn(&Outcome) -> f64) -> Self {
        let figures: Vec<f64> = outcomes.iter().map(figure).collect();
        let percentiles: Vec<_> = outcomes.iter_mut().filter_map(percentiles).collect();
        let remarks = outcomes[0].remarks.iter().enumerate().map(|(index, &(name, _))| {
            let all = outcomes.iter().filter_map(|outcome| outcome.remarks.get(index));
            (name, median(all.map(|&(_, value)| value).collect()))
        });
        Self {
            middle: median(figures.clone()),
            least: figures.iter().copied().fold(f64::INFINITY, f64::min),
            most: figures.iter().copied().fold(0.0, f64::max),
            percentiles: (!percentiles.is_empty()).then(|| {
                [0, 1, 2].map(|index| median(percentiles.iter().map(|three| three[index]).collect()))
            }),
            cpu_each: median(outcomes.iter().map(Outcome::cpu_each).collect()),
            lost: outcomes.iter().map(|outcome| outcome.lost).max().unwrap_or(0),
            remarks: remarks.collect(),
        }
    }
}

/// The 50th, 99th and 99.9th percentile in microseconds.
fn percentiles(outcome: &mut Outcome) -> Option<[f64; 3]> {
    let latencies = &mut outcome.latencies;
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1)?;
    Some([500, 990, 999].map(|part| latencies[last * part / 1000] as f64 / 1e3))
}

/// The value in the middle; the mean of two if there are two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// A number to three or four digits, with `k` or `M`.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "–".to_owned(),
        v if v >= 1e7 => format!("{:.1}M", value / 1e6),
        v if v >= 1e6 => format!("{:.2}M", value / 1e6),
        v if v >= 1e5 => format!("{:.0}k", value / 1e3),
        v if v >= 1e4 => format!("{:.1}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
