//! Whether a peer takes the bytes that are queued for it: detects a stall and a rate below [`MIN_RATE`]. Pure: the
//! caller gives the time and the number of bytes taken.
//!
//! Bytes are taken when the peer's kernel has acknowledged them, not when they have left our queue. `poll` is no
//! measure either: Linux reports a socket as writable only when a third of its buffer is free
//! (`sk_stream_is_writeable`), at 100 kB/s every eight seconds. So callers try again every [`TRY_AGAIN`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often to write to a slow peer, whether or not `poll` reports it as writable.
pub const TRY_AGAIN: Duration = Duration::from_millis(500);

/// After a longer pause between two notes, this process itself did not run (a paused machine, a slow disk). That time
/// does not count against the peer.
const MAX_GAP: Duration = Duration::from_secs(2);

/// How long a peer may take nothing.
pub const STALL: Duration = Duration::from_secs(10);

/// The lowest average rate of a peer, in bytes per second. A slower one would occupy a thread for hours.
pub const MIN_RATE: u64 = 2 * 1024;

/// The time over which [`Progress`] measures the rate.
pub const RATE_WINDOW: Duration = Duration::from_secs(30);

/// The window is divided into this many steps: a rate covers the window and at most one step more.
const STEPS: u32 = 30;

/// The longest time for the end of a stream: twice `idle`, for a stall and for the answer, and the time that `owed` bytes
/// take at [`MIN_RATE`].
pub fn end_timeout(idle: Duration, owed: u64) -> Duration {
    2 * idle + Duration::from_secs(owed / MIN_RATE)
}

/// How a peer takes what it is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Fast enough, or it is too early to know.
    TakesEnough,
    /// It has taken nothing for too long.
    Stalled,
    /// It takes something now and then, but too little.
    TooSlow,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Progress {
    /// When it last took something, or when bytes were first queued for it.
    moved: Option<Instant>,
    /// Times and the bytes taken by then, oldest first, at least a step apart. Only the first may be older than the
    /// window.
    marks: VecDeque<(Instant, u64)>,
    /// The bytes taken, and the time of the last note.
    taken: u64,
    noted: Option<Instant>,
}

impl Progress {
    /// The peer is owed something and has taken so many bytes in all, counted from wherever the caller likes.
    /// The first call starts the clocks. A smaller number than the last one is taken for the last one.
    /// To be called every [`TRY_AGAIN`]: of a longer pause only that much counts.
    pub fn note(&mut self, now: Instant, taken: u64) {
        let paused = self.noted.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if paused > MAX_GAP {
            let standing = paused.saturating_sub(TRY_AGAIN);
            self.moved = self.moved.map(|at| at + standing);
            self.marks.iter_mut().for_each(|(at, _)| *at += standing);
        }
        self.noted = Some(now);
        if self.moved.is_none() {
            (self.moved, self.taken) = (Some(now), taken);
            self.marks.push_back((now, taken));
        }
        if taken > self.taken {
            (self.moved, self.taken) = (Some(now), taken);
        }
        if self.marks.back().is_none_or(|&(at, _)| now.saturating_duration_since(at) >= RATE_WINDOW / STEPS) {
            self.marks.push_back((now, self.taken));
        }
        while self.marks.get(1).is_some_and(|&(at, _)| is_past_window(now, at)) {
            self.marks.pop_front();
        }
    }

    /// The state at `now`, which must not be before the last note.
    pub fn verdict(&self, now: Instant) -> Pace {
        let (Some(moved), Some(&(since, had))) = (self.moved, self.marks.front()) else {
            return Pace::TakesEnough;
        };
        if now.saturating_duration_since(moved) >= STALL {
            return Pace::Stalled;
        }
        if is_past_window(now, since) && self.taken - had < MIN_RATE * RATE_WINDOW.as_secs() {
            return Pace::TooSlow;
        }
        Pace::TakesEnough
    }
}

fn is_past_window(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) >= RATE_WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours, in half seconds: how often a peer is checked.
    const END: u32 = 4 * 3600;

    /// How many bytes more a peer has taken at that half second.
    type Taken<'a> = &'a dyn Fn(u32) -> u64;

    /// When a peer that has taken `taken(n)` bytes more at half second `n` is given up, in half seconds, and why.
    fn judged(taken: impl Fn(u32) -> u64) -> Option<(u32, Pace)> {
        let began = Instant::now();
        let mut progress = Progress::default();
        // Counted from wherever the caller likes.
        let mut total = 1_000_000;
        for half in 0..END {
            total += taken(half);
            let now = began + half * Duration::from_millis(500);
            progress.note(now, total);
            match progress.verdict(now) {
                Pace::TakesEnough => {}
                verdict => return Some((half, verdict)),
            }
            assert!(progress.marks.len() <= STEPS as usize + 2, "no more than a window is remembered");
        }
        None
    }

    /// So many bytes each time that so many half seconds have passed.
    fn every(halves: u32, bytes: u64) -> impl Fn(u32) -> u64 {
        move |half| if half > 0 && half % halves == 0 { bytes } else { 0 }
    }

    #[test]
    fn a_peer_that_takes_enough_is_never_given_up() {
        let cases: [(&str, Taken<'_>); 5] = [
            ("fast", &every(1, 1_000_000)),
            ("2 KiB/s in small pieces", &every(1, 1024)),
            ("2 KiB/s in pieces that come just before it would be a stall", &every(19, 20 * 1024)),
            ("slow for 20 s, fast for 20 s", &|half| if half / 40 % 2 == 0 { 1 } else { 10_000 }),
            ("4 KiB/s of a link that is down for 9 s each minute", &|half| {
                if half % 120 < 18 { 0 } else { 2048 }
            }),
        ];
        for (what, taken) in cases {
            assert_eq!(judged(taken), None, "{what}");
        }
    }

    #[test]
    fn a_peer_that_takes_nothing_or_too_little_is_given_up_in_time() {
        let cases: [(&str, Taken<'_>, u32, Pace); 7] = [
            ("nothing", &|_| 0, 10, Pace::Stalled),
            ("much after 3 s, then nothing", &|half| u64::from(half == 6) << 30, 13, Pace::Stalled),
            ("a byte each half second", &|_| 1, 30, Pace::TooSlow),
            ("a byte just before it would be a stall", &every(19, 1), 30, Pace::TooSlow),
            ("1 kB/s", &every(2, 1000), 30, Pace::TooSlow),
            ("just below the rate", &every(2, 2000), 30, Pace::TooSlow),
            // A burst counts for its own window, not for ever.
            (
                "much after 5 s, then 1 kB/s",
                &|half| if half == 10 { 1 << 30 } else { 500 },
                35,
                Pace::TooSlow,
            ),
        ];
        for (what, taken, second, verdict) in cases {
            let (half, why) = judged(taken).expect(what);
            assert_eq!(why, verdict, "{what}");
            assert!((2 * second..=2 * second + 2).contains(&half), "{what}: {half} half seconds");
        }
    }

    #[test]
    fn a_peer_that_is_owed_nothing_takes_enough() {
        let later = Instant::now() + 100 * STALL;
        assert_eq!(Progress::default().verdict(later), Pace::TakesEnough);
    }

    #[test]
    fn the_end_of_a_stream_has_time_for_a_slow_peer_and_no_more() {
        let idle = Duration::from_secs(5);
        for (owed, seconds) in [(0, 10), (2047, 10), (2048, 11), (1 << 20, 522)] {
            assert_eq!(end_timeout(idle, owed), Duration::from_secs(seconds), "{owed} bytes");
        }
    }

    #[test]
    fn a_count_that_goes_back_is_no_progress_and_no_harm() {
        let began = Instant::now();
        let mut progress = Progress::default();
        for (second, taken) in (0..=10).zip([100, 50].into_iter().cycle()) {
            progress.note(began + Duration::from_secs(second), taken);
        }
        assert_eq!(progress.verdict(began + STALL), Pace::Stalled);
    }

    #[test]
    fn a_peer_is_not_blamed_for_a_time_in_which_the_server_stood_still() {
        let began = Instant::now();
        let mut progress = Progress::default();
        let mut now = began;
        let mut note_after = |progress: &mut Progress, pause: u64, taken| {
            now += Duration::from_millis(pause);
            progress.note(now, taken);
            progress.verdict(now)
        };
        note_after(&mut progress, 0, 0);
        assert_eq!(note_after(&mut progress, 300_000, 0), Pace::TakesEnough, "a machine was paused");
        assert_eq!(note_after(&mut progress, 300_000, 1), Pace::TakesEnough, "twice");
        for _ in 0..19 {
            assert_eq!(note_after(&mut progress, 500, 1), Pace::TakesEnough);
        }
        assert_eq!(note_after(&mut progress, 500, 1), Pace::Stalled, "the pauses between notes count");
    }
}
