//! When to ping a client, when it is gone, when it has been idle for too long. Pure but for the clock.

use std::time::{Duration, Instant};

use crate::clients::GONE_AFTER;
use crate::config::Times;

/// What the clock says about a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait on, at most this long; `None`: there is no time limit.
    Wait(Option<Duration>),
    /// Send a ping.
    Ping,
    /// Nobody is there.
    Gone,
    /// It sent no message for too long.
    Idle,
}

/// The clocks of one client.
#[derive(Debug)]
pub(super) struct Liveness {
    ping: Option<Duration>,
    idle: Option<Duration>,
    alive: Instant,
    message: Instant,
    /// Pings since the last sign of life, and when the last of them was sent.
    pings: u32,
    pinged: Instant,
}

impl Liveness {
    pub(super) fn new(times: &Times, now: Instant) -> Self {
        Self { ping: times.ping, idle: times.idle, alive: now, message: now, pings: 0, pinged: now }
    }

    /// Bytes came, or its kernel took some, at this time; says whether that is news.
    pub(super) fn lives(&mut self, at: Instant) -> bool {
        let news = at > self.alive;
        if news {
            self.alive = at;
            self.pings = 0;
        }
        news
    }

    /// A message came at this time. It may be looked at only now, after a time in which nobody listened.
    pub(super) fn message(&mut self, at: Instant) {
        self.message = self.message.max(at);
    }

    /// It was not listened to until now: its clocks begin anew.
    pub(super) fn stood_still(&mut self, until: Instant) {
        self.lives(until);
        self.message(until);
    }

    /// What is due.
    pub(super) fn judge(&mut self, now: Instant) -> Verdict {
        let left = |from: Instant, limit: Duration| limit.saturating_sub(now.saturating_duration_since(from));
        let idle = self.idle.map(|idle| left(self.message, idle));
        if idle.is_some_and(|left| left.is_zero()) {
            return Verdict::Idle;
        }
        // Counted from the last ping, not from the last sign of life: if this process was stopped for some time,
        // each ping is waited for all the same.
        let quiet_since = if self.pings == 0 { self.alive } else { self.pinged };
        let ping = self.ping.map(|ping| left(quiet_since, ping));
        if ping.is_some_and(|left| left.is_zero()) {
            if self.pings + 1 >= GONE_AFTER {
                return Verdict::Gone;
            }
            self.pings += 1;
            self.pinged = now;
            return Verdict::Ping;
        }
        Verdict::Wait([idle, ping].into_iter().flatten().min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ping: Option<u64>, idle: Option<u64>) -> Times {
        Times {
            handshake: Duration::ZERO,
            ping: ping.map(Duration::from_secs),
            idle: idle.map(Duration::from_secs),
        }
    }

    #[test]
    fn two_pings_and_then_gone_unless_it_lives() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(&times(Some(20), None), start);
        assert_eq!(liveness.judge(at(5)), Verdict::Wait(Some(Duration::from_secs(15))));
        assert_eq!(liveness.judge(at(20)), Verdict::Ping);
        assert_eq!(liveness.judge(at(20)), Verdict::Wait(Some(Duration::from_secs(20))));
        assert_eq!(liveness.judge(at(40)), Verdict::Ping);
        liveness.lives(at(41));
        assert_eq!(liveness.judge(at(60)), Verdict::Wait(Some(Duration::from_secs(1))));
        assert_eq!(liveness.judge(at(61)), Verdict::Ping);
        assert_eq!(liveness.judge(at(81)), Verdict::Ping);
        assert_eq!(liveness.judge(at(101)), Verdict::Gone);
    }

    #[test]
    fn each_ping_is_waited_for_even_if_the_server_was_stopped_meanwhile() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(&times(Some(5), None), start);
        assert_eq!(liveness.judge(at(100)), Verdict::Ping);
        assert_eq!(liveness.judge(at(100)), Verdict::Wait(Some(Duration::from_secs(5))));
        assert_eq!(liveness.judge(at(200)), Verdict::Ping);
        assert_eq!(liveness.judge(at(200)), Verdict::Wait(Some(Duration::from_secs(5))));
        assert_eq!(liveness.judge(at(205)), Verdict::Gone);
        assert_eq!(liveness.judge(at(205)), Verdict::Gone, "until something is heard");
        liveness.lives(at(205));
        assert_eq!(liveness.judge(at(205)), Verdict::Wait(Some(Duration::from_secs(5))));
    }

    #[test]
    fn idle_counts_messages_only_and_stands_still_while_nobody_reads() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(&times(None, Some(30)), start);
        liveness.lives(at(20));
        assert_eq!(liveness.judge(at(29)), Verdict::Wait(Some(Duration::from_secs(1))));
        liveness.message(at(29));
        assert_eq!(liveness.judge(at(58)), Verdict::Wait(Some(Duration::from_secs(1))));
        liveness.stood_still(at(100));
        // This one had come with the one before, whose reader stood still.
        liveness.message(at(29));
        assert_eq!(liveness.judge(at(129)), Verdict::Wait(Some(Duration::from_secs(1))));
        assert_eq!(liveness.judge(at(130)), Verdict::Idle);
        assert_eq!(Liveness::new(&times(None, None), start).judge(at(9999)), Verdict::Wait(None));
    }
}
