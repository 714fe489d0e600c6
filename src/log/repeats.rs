//! Limits lines that repeat: the first ten in a second are written, then one a second with the number of lines that
//! it stands for. Pure: the time is an argument.

use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use crate::config::Level;

/// Lines of one kind that are written in a period.
const MAX_REPEATS: u64 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Kinds of lines that are counted at a time. It is bounded because clients choose the names of rooms.
const KINDS: usize = 8 * 1024;

/// Lines that agree in this are repeats. Clients, addresses and numbers may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind<'a> {
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) room: &'a str,
    /// A value that tells lines with the same message apart, or empty.
    pub(super) content: &'a str,
}

/// The lines of the last second, by kind.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
    /// The number of kinds that are held back.
    held_back: usize,
}

#[derive(Debug)]
struct Seen {
    /// When this period began, and the number of lines in it.
    since: Instant,
    lines: u64,
    /// There are too many lines of this kind: one a period is written.
    held_back: bool,
    /// The last one that was not written.
    last: Option<String>,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Write(String),
    /// It was kept and replaces `instead`. `begins`: nothing was kept before; [`Repeats::due`] must be called from
    /// now on.
    Kept {
        instead: Option<String>,
        begins: bool,
    },
}

impl Repeats {
    pub(super) fn line(&mut self, kind: &Kind<'_>, line: String, now: Instant) -> Repeat {
        let mut key = self.hasher.hash_one((kind.level as u8, kind.message, kind.room, kind.content));
        // Half of the kinds are reserved for lines without content: a program's output must not use up all.
        let most = if kind.content.is_empty() { KINDS } else { KINDS / 2 };
        if self.seen.len() >= most && !self.seen.contains_key(&key) {
            self.seen.retain(|_, seen| seen.held_back || now.saturating_duration_since(seen.since) < PERIOD);
            if self.seen.len() >= most && !kind.content.is_empty() {
                // Lines this different are not repeats.
                return Repeat::Write(line);
            }
            if self.seen.len() >= most {
                // Too many rooms: count them together.
                key = self.hasher.hash_one((kind.level as u8, kind.message));
            }
        }
        let seen =
            self.seen.entry(key).or_insert(Seen { since: now, lines: 0, held_back: false, last: None });
        if !seen.held_back && now.saturating_duration_since(seen.since) >= PERIOD {
            (seen.since, seen.lines) = (now, 0);
        }
        seen.lines += 1;
        if !seen.held_back && seen.lines <= MAX_REPEATS {
            return Repeat::Write(line);
        }
        let mut begins = false;
        if !seen.held_back {
            // The first line over the limit. Those that were written no longer count.
            (seen.held_back, seen.lines) = (true, 1);
            begins = self.held_back == 0;
            self.held_back += 1;
        }
        Repeat::Kept { instead: seen.last.replace(line), begins }
    }

    /// When [`Repeats::due`] must be called next.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.held_back == 0 {
            return None;
        }
        self.seen.values().filter(|seen| seen.held_back).map(|seen| seen.since + PERIOD).min()
    }

    /// Takes the last line of each kind whose period is over, or of `all` kinds, and the number of lines that it
    /// stands for. Sorted: each line begins with its time.
    pub(super) fn due(&mut self, now: Instant, all: bool) -> Vec<(String, u64)> {
        if self.held_back == 0 {
            return Vec::new();
        }
        // A heap: to sort a vector of these would add 4 KB to the binary.
        let mut due = BinaryHeap::new();
        for seen in self.seen.values_mut().filter(|seen| seen.held_back) {
            if !all && now.saturating_duration_since(seen.since) < PERIOD {
                continue;
            }
            if let Some(line) = seen.last.take() {
                due.push((line, seen.lines));
            }
            if !all && seen.lines <= MAX_REPEATS {
                seen.held_back = false;
                self.held_back -= 1;
            }
            (seen.since, seen.lines) = (now, 0);
        }
        due.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind<'_> = Kind { level: Level::Info, message: "client joined", room: "r", content: "" };

    /// Lines that come so long after the start, in milliseconds; what is written, and when.
    fn written(times: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
        let (start, mut repeats, mut out) = (Instant::now(), Repeats::default(), Vec::new());
        let at = |millis| start + Duration::from_millis(millis);
        let tell = |repeats: &mut Repeats, until: u64, out: &mut Vec<(u64, String)>| {
            while let Some(next) = repeats.next().filter(|&next| next <= at(until)) {
                let millis = next.duration_since(start).as_millis() as u64;
                let due = repeats.due(next, false).into_iter();
                out.extend(due.map(|(line, lines)| (millis, format!("{line} x{lines}"))));
            }
        };
        let mut last = 0;
        for millis in times {
            tell(&mut repeats, millis, &mut out);
            if let Repeat::Write(line) = repeats.line(&KIND, millis.to_string(), at(millis)) {
                out.push((millis, line));
            }
            last = millis;
        }
        tell(&mut repeats, last + 10_000, &mut out);
        assert_eq!((repeats.held_back, repeats.next()), (0, None), "lines are still kept");
        out
    }

    #[test]
    fn ten_lines_a_second_are_all_written() {
        let times = || (0..1000).map(|line| line * 100);
        let all: Vec<_> = times().map(|millis| (millis, millis.to_string())).collect();
        assert_eq!(written(times()), all);
        let burst = || (0..50).map(|line| line / 10 * 1000 + line % 10);
        assert_eq!(written(burst()).len(), 50);
    }

    #[test]
    fn further_lines_become_one_a_second_with_their_number() {
        // A hundred a second, for ten seconds.
        let lines = written((0..1000).map(|line| line * 10));
        assert_eq!(lines[9], (90, "90".to_owned()));
        assert_eq!(lines[10], (1000, "990 x90".to_owned()));
        assert_eq!(lines[11], (2000, "1990 x100".to_owned()));
        let told: u64 =
            lines.iter().filter_map(|(_, line)| line.split_once(" x")?.1.parse::<u64>().ok()).sum();
        assert_eq!(told + 10, 1000);
        assert_eq!(lines.len(), 10 + 10);
        // After a pause each line is written again.
        let lines = written((0..30).chain([5000, 5001]));
        assert_eq!(lines[10], (1000, "29 x20".to_owned()));
        assert_eq!(lines[11..], [(5000, "5000".to_owned()), (5001, "5001".to_owned())]);
    }

    #[test]
    fn each_kind_is_counted_alone_and_the_number_of_kinds_is_bounded() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        let kinds = [
            Kind { level: Level::Warn, ..KIND },
            Kind { message: "client left", ..KIND },
            Kind { room: "s", ..KIND },
            Kind { content: "x", ..KIND },
            KIND,
        ];
        for _ in 0..10 {
            for kind in &kinds {
                assert!(matches!(repeats.line(kind, String::new(), now), Repeat::Write(_)), "{kind:?}");
            }
        }
        for line in 0..10_000 {
            let kind = Kind { content: &line.to_string(), ..KIND };
            assert!(
                matches!(repeats.line(&kind, String::new(), now), Repeat::Write(_)),
                "different content was taken for a repeat"
            );
        }
        assert_eq!(repeats.seen.len(), KINDS / 2);
        let mut lost = 0;
        for room in 0..10_000 {
            let kind = Kind { room: &room.to_string(), ..KIND };
            lost += u64::from(!matches!(repeats.line(&kind, String::new(), now), Repeat::Write(_)));
        }
        assert!(repeats.seen.len() <= KINDS + 1, "{}", repeats.seen.len());
        assert!(lost > 0, "rooms beyond the limit are not counted together");
        // Kinds are dropped after their period.
        let later = now + PERIOD;
        let due: u64 = repeats.due(later, false).iter().map(|(_, lines)| lines).sum();
        assert_eq!(due, lost);
        for room in 0..1000 {
            let kind = Kind { room: &format!("later {room}"), ..KIND };
            assert!(matches!(repeats.line(&kind, String::new(), later + PERIOD), Repeat::Write(_)));
        }
    }

    #[test]
    fn kept_lines_can_be_taken_before_their_period_is_over() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for number in 0..15 {
            let verdict = repeats.line(&KIND, number.to_string(), now);
            match number {
                0..10 => assert_eq!(verdict, Repeat::Write(number.to_string())),
                10 => assert_eq!(verdict, Repeat::Kept { instead: None, begins: true }),
                _ => {
                    let instead = Some((number - 1).to_string());
                    assert_eq!(verdict, Repeat::Kept { instead, begins: false });
                }
            }
        }
        assert_eq!(repeats.due(now, true), [("14".to_owned(), 5)]);
        assert_eq!(repeats.due(now, true), []);
    }
}
