//! When to ping a client, when it is gone, when it has been idle for too long. [`Liveness`] decides, and is pure;
//! [`Clock`] asks it between two reads and acts.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::close::Leave;
use super::socket_reader::SocketReader;
use crate::clients::{CLOSE_TIMEOUT, GONE_AFTER, Uptake};
use crate::config::Times;
use crate::counters::Count;
use crate::framing::heads;
use crate::room::Member;
use crate::service::Service;
use crate::sink::CloseOrder;
use crate::sys::deadline::Deadline;
use crate::sys::poll::ready;

/// A client that sent much and then nothing for so long has its buffers taken away.
const LULL: Duration = Duration::from_secs(1);

/// What the clock says about a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait on, at most this long; `None`: there is no time limit.
    Wait(Option<Duration>),
    /// Send a ping.
    Ping,
    /// It has not answered.
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

    /// A message came at this time. It may be read only now, after a time in which this thread waited.
    pub(super) fn message(&mut self, at: Instant) {
        self.message = self.message.max(at);
    }

    /// It was not read until now: its clocks begin anew.
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

/// When a client is to be pinged, is gone, or has been idle for too long.
pub(super) struct Clock {
    pub(super) liveness: Liveness,
    uptake: Uptake,
    /// A verdict was deferred once, to read what is in the socket first.
    put_off: bool,
    /// The socket's receive time-out.
    timeout: Option<Duration>,
}

impl Clock {
    pub(super) fn new(service: &Service) -> Self {
        let now = Instant::now();
        let liveness = Liveness::new(&service.config.times, now);
        Self { liveness, uptake: Uptake::new(now), put_off: false, timeout: None }
    }

    /// Looks at the clock before a read and sets the read's time-out; pings where that is due.
    pub(super) fn look(
        &mut self,
        service: &Service,
        member: &Member,
        stream: &mut SocketReader<'_>,
    ) -> Option<Leave> {
        let client = member.client();
        self.liveness.lives(stream.heard());
        let wait = loop {
            let now = Instant::now();
            let verdict = self.liveness.judge(now);
            if let Verdict::Wait(wait) = verdict {
                self.put_off = false;
                break wait;
            }
            if !client.is_open() {
                // A close is on its way, and the reader of the room sees to its end.
                self.liveness.stood_still(now);
                break Some(CLOSE_TIMEOUT);
            }
            if matches!(verdict, Verdict::Ping | Verdict::Gone) {
                // Acknowledged data counts as a sign of life; an acknowledged ping alone does not.
                let takes = self.uptake.observe(client, now) > heads::ping().len() as u64;
                if self.liveness.lives(if takes { now } else { client.sink.status().moved }) {
                    continue;
                }
            }
            if verdict == Verdict::Ping {
                member.watch(client.sink.ping(heads::ping()));
                continue;
            }
            // This process may have been stopped until now: what has come meanwhile is looked at first.
            let unread = ready(client.stream.as_fd(), PollFlags::IN, Deadline::after(Duration::ZERO));
            if unread.unwrap_or(false) && !std::mem::replace(&mut self.put_off, true) {
                return None;
            }
            if verdict == Verdict::Gone {
                return Some(Leave::Silent);
            }
            service.counters.one(Count::ClosedIdle);
            let _ = client.close(1008, "idle for too long", CloseOrder::DropQueue);
            member.watch_close();
        };
        stream.look_at(wait.and_then(|wait| Instant::now().checked_add(wait)));
        let wait = if stream.is_busy() { Some(wait.map_or(LULL, |wait| wait.min(LULL))) } else { wait };
        // A time-out that strikes early costs one more turn; only one that would strike late, or none
        // where one is due, is worth a system call.
        let early_enough = match (self.timeout, wait) {
            (Some(set), Some(wait)) => set <= wait && set.saturating_mul(4) >= wait,
            (None, None) => true,
            _ => false,
        };
        if !early_enough {
            // Rounded up: the kernel counts in ticks of up to 10 ms and would strike before its time.
            let set = wait.map(|wait| wait.max(Duration::from_millis(1)));
            if set_socket_timeout(&client.stream, Timeout::Recv, set).is_ok() {
                self.timeout = wait;
            }
        }
        None
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
