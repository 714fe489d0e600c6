//! Lines that come again and again: the first ten in a second are written, and then one a second that says how
//! many it stands for. Pure: the time is an argument.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use crate::config::Level;

/// How many lines of one kind are written in a period.
const MAX_REPEATS: u64 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Kinds of lines that are distinguished at a time. Clients choose the names of rooms.
const KINDS: usize = 8 * 1024;

/// What makes two lines one that repeats. Clients, addresses and numbers do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind<'a> {
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) room: &'a str,
    /// The value that sets lines of one message apart, if there is one.
    pub(super) content: &'a str,
}

/// The lines of the last second, by kind.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
    /// How many kinds are held back.
    held_back: usize,
}

#[derive(Debug)]
struct Seen {
    /// When this period began, and how many lines came in it.
    since: Instant,
    lines: u64,
    /// Lines of this kind are written once a period, as long as there are too many of them.
    held_back: bool,
    /// The last one that was not written.
    last: Option<String>,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It is to be written.
    Write(String),
    /// It is kept, in place of this one if there was one before it. `begins`: nothing was kept before, and
    /// [`Repeats::due`] has to be called from now on.
    Kept { instead: Option<String>, begins: bool },
}

impl Repeats {
    /// A line of this kind.
    pub(super) fn line(&mut self, kind: &Kind<'_>, line: String, now: Instant) -> Repeat {
        let mut key = self.hasher.hash_one((kind.level as u8, kind.message, kind.room, kind.content));
        // Half of the kinds are for lines without content: what a program prints must not take them all.
        let most = if kind.content.is_empty() { KINDS } else { KINDS / 2 };
        if self.seen.len() >= most && !self.seen.contains_key(&key) {
            self.seen.retain(|_, seen| seen.held_back || now.saturating_duration_since(seen.since) < PERIOD);
            if self.seen.len() >= most && !kind.content.is_empty() {
                // So many different lines do not repeat.
                return Repeat::Write(line);
            }
            if self.seen.len() >= most {
                // Too many rooms to be distinguished.
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
            // The first one over: what was written does not count any more.
            (seen.held_back, seen.lines) = (true, 1);
            begins = self.held_back == 0;
            self.held_back += 1;
        }
        Repeat::Kept { instead: seen.last.replace(line), begins }
    }

    /// When there is something to tell, at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.held_back == 0 {
            return None;
        }
        self.seen.values().filter(|seen| seen.held_back).map(|seen| seen.since + PERIOD).min()
    }

    /// Gives out the last line of each kind whose period is over, or of `all`, and how many lines of its kind
    /// were not written.
    pub(super) fn due(&mut self, now: Instant, all: bool, mut tell: impl FnMut(String, u64)) {
        if self.held_back == 0 {
            return;
        }
        for seen in self.seen.values_mut().filter(|seen| seen.held_back) {
            if !all && now.saturating_duration_since(seen.since) < PERIOD {
                continue;
            }
            if let Some(line) = seen.last.take() {
                tell(line, seen.lines);
            }
            if !all && seen.lines <= MAX_REPEATS {
                seen.held_back = false;
                self.held_back -= 1;
            }
            (seen.since, seen.lines) = (now, 0);
        }
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
                repeats.due(next, false, |line, lines| out.push((millis, format!("{line} x{lines}"))));
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
        assert_eq!((repeats.held_back, repeats.next()), (0, None), "nothing is kept when all is over");
        out
    }

    #[test]
    fn ten_in_a_second_are_all_written_for_as_long_as_it_goes_on() {
        let times = || (0..1000).map(|line| line * 100);
        let all: Vec<_> = times().map(|millis| (millis, millis.to_string())).collect();
        assert_eq!(written(times()), all);
        let burst = || (0..50).map(|line| line / 10 * 1000 + line % 10);
        assert_eq!(written(burst()).len(), 50);
    }

    #[test]
    fn more_is_one_line_a_second_that_says_how_many_it_stands_for_and_none_is_lost() {
        // A hundred a second, for ten seconds.
        let lines = written((0..1000).map(|line| line * 10));
        assert_eq!(lines[9], (90, "90".to_owned()));
        assert_eq!(lines[10], (1000, "990 x90".to_owned()));
        assert_eq!(lines[11], (2000, "1990 x100".to_owned()));
        let told: u64 =
            lines.iter().filter_map(|(_, line)| line.split_once(" x")?.1.parse::<u64>().ok()).sum();
        assert_eq!(told + 10, 1000);
        assert_eq!(lines.len(), 10 + 10);
        // When it has become quiet each line is written again.
        let lines = written((0..30).chain([5000, 5001]));
        assert_eq!(lines[10], (1000, "29 x20".to_owned()));
        assert_eq!(lines[11..], [(5000, "5000".to_owned()), (5001, "5001".to_owned())]);
    }

    #[test]
    fn kinds_do_not_count_for_each_other_and_are_not_kept_without_end() {
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
                "no line is another"
            );
        }
        assert_eq!(repeats.seen.len(), KINDS / 2);
        let mut lost = 0;
        for room in 0..10_000 {
            let kind = Kind { room: &room.to_string(), ..KIND };
            lost += u64::from(!matches!(repeats.line(&kind, String::new(), now), Repeat::Write(_)));
        }
        assert!(repeats.seen.len() <= KINDS + 1, "{}", repeats.seen.len());
        assert!(lost > 0, "a stranger's many names are one kind");
        // They are forgotten when they are over.
        let later = now + PERIOD;
        repeats.due(later, false, |_, lines| lost -= lines);
        assert_eq!(lost, 0);
        for room in 0..1000 {
            let kind = Kind { room: &format!("later {room}"), ..KIND };
            assert!(matches!(repeats.line(&kind, String::new(), later + PERIOD), Repeat::Write(_)));
        }
    }

    #[test]
    fn at_the_end_what_is_kept_is_told_at_once() {
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
        let mut told = Vec::new();
        repeats.due(now, true, |line, lines| told.push((line, lines)));
        assert_eq!(told, [("14".to_owned(), 5)]);
        repeats.due(now, true, |line, _| panic!("{line} twice"));
    }
}
