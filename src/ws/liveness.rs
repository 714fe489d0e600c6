//! Pings and time-outs of a client. [`Liveness`] decides and is pure; [`Clock`] calls it between two reads and acts.

use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::close::Leave;
use super::inbound::Waited;
use super::socket_reader::SocketReader;
use crate::clients::{CLOSE_TIMEOUT, Uptake};
use crate::config::Times;
use crate::counters::Count;
use crate::framing::heads;
use crate::room::Member;
use crate::service::Service;
use crate::sink::CloseOrder;
use crate::sys::deadline::Deadline;

/// A busy client that sends nothing for this long no longer counts as busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// What to do about a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait, at most this long; `None`: without limit.
    Wait(Option<Duration>),
    Ping,
    /// It has not answered the pings.
    Gone,
    /// It sent no message for too long.
    Idle,
}

/// The clocks of one client.
#[derive(Debug)]
pub(super) struct Liveness {
    ping: Option<Duration>,
    gone_after: u32,
    idle: Option<Duration>,
    alive: Instant,
    message: Instant,
    /// Pings since the client was last alive, and when the last was sent.
    pings: u32,
    pinged: Instant,
}

impl Liveness {
    pub(super) fn new(times: &Times, now: Instant) -> Self {
        Self {
            ping: times.ping,
            gone_after: times.gone_after,
            idle: times.idle,
            alive: now,
            message: now,
            pings: 0,
            pinged: now,
        }
    }

    /// Bytes arrived, or its kernel acknowledged some, at this time. Returns whether that is later than before.
    pub(super) fn note_alive(&mut self, at: Instant) -> bool {
        let is_later = at > self.alive;
        if is_later {
            self.alive = at;
            self.pings = 0;
        }
        is_later
    }

    /// A message arrived at this time. If this thread had to wait, it may be read later.
    pub(super) fn message(&mut self, at: Instant) {
        self.message = self.message.max(at);
    }

    /// The server did not read from the client until now: starts its clocks again.
    pub(super) fn restart(&mut self, until: Instant) {
        self.note_alive(until);
        self.message(until);
    }

    pub(super) fn judge(&mut self, now: Instant) -> Verdict {
        let left = |from: Instant, limit: Duration| limit.saturating_sub(now.saturating_duration_since(from));
        let idle = self.idle.map(|idle| left(self.message, idle));
        if idle.is_some_and(|left| left.is_zero()) {
            return Verdict::Idle;
        }
        // Counted from the last ping: if this process was stopped for a while, the client still has time to answer
        // each ping.
        let quiet_since = if self.pings == 0 { self.alive } else { self.pinged };
        let ping = self.ping.map(|ping| left(quiet_since, ping));
        if ping.is_some_and(|left| left.is_zero()) {
            if self.pings + 1 >= self.gone_after {
                return Verdict::Gone;
            }
            self.pings += 1;
            self.pinged = now;
            return Verdict::Ping;
        }
        Verdict::Wait([idle, ping].into_iter().flatten().min())
    }
}

/// See the module's documentation.
pub(super) struct Clock {
    pub(super) liveness: Liveness,
    uptake: Uptake,
    /// A decision was deferred once, to read first what is in the socket.
    is_deferred: bool,
    /// The socket's receive time-out.
    timeout: Option<Duration>,
}

impl Clock {
    pub(super) fn new(service: &Service) -> Self {
        let now = Instant::now();
        let liveness = Liveness::new(&service.config.times, now);
        Self { liveness, uptake: Uptake::new(now), is_deferred: false, timeout: None }
    }

    /// Restarts the clocks if the thread had to wait for the program.
    pub(super) fn restart_after(&mut self, waited: Waited) {
        if waited == Waited::Yes {
            self.liveness.restart(Instant::now());
        }
    }

    /// Called before a read: pings or ends the client if that is due, and sets the time-out of the read.
    pub(super) fn check(
        &mut self,
        service: &Service,
        member: &Member,
        stream: &mut SocketReader<'_>,
    ) -> Option<Leave> {
        let client = member.client();
        self.liveness.note_alive(stream.heard());
        let wait = loop {
            let now = Instant::now();
            let verdict = self.liveness.judge(now);
            if let Verdict::Wait(wait) = verdict {
                self.is_deferred = false;
                break wait;
            }
            if !client.is_open() {
                // The server has closed the connection; the reader of the room completes that.
                self.liveness.restart(now);
                break Some(CLOSE_TIMEOUT);
            }
            if matches!(verdict, Verdict::Ping | Verdict::Gone) {
                // Acknowledged data shows that the client is alive; an acknowledged ping alone does not.
                let ping = heads::ping().len() + client.stream.overhead();
                let takes = self.uptake.observe(client, now) > ping as u64;
                if self.liveness.note_alive(if takes { now } else { client.sink.status().moved }) {
                    continue;
                }
            }
            if verdict == Verdict::Ping {
                member.watch(client.sink.ping(heads::ping()));
                continue;
            }
            // This process may have been stopped until now: first read what has arrived.
            let unread = client.stream.is_readable_by(Deadline::after(Duration::ZERO));
            if unread && !std::mem::replace(&mut self.is_deferred, true) {
                return None;
            }
            if verdict == Verdict::Gone {
                return Some(Leave::Silent);
            }
            service.counters.one(Count::ClosedIdle);
            let _ = client.close(1008, "idle for too long", CloseOrder::DropQueue);
            member.watch_close();
        };
        stream.interrupt_at(wait.and_then(|wait| Instant::now().checked_add(wait)));
        let wait = if stream.is_busy() {
            Some(wait.map_or(BUSY_TIMEOUT, |wait| wait.min(BUSY_TIMEOUT)))
        } else {
            wait
        };
        // A time-out that is too early costs only one more turn of the loop. So the system call is made only if the
        // current one is too late, missing or much too early.
        let early_enough = match (self.timeout, wait) {
            (Some(set), Some(wait)) => set <= wait && set.saturating_mul(4) >= wait,
            (None, None) => true,
            _ => false,
        };
        if !early_enough {
            // At least 1 ms, as 0 means no time-out.
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
            gone_after: 3,
            idle: idle.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_client_is_gone_after_two_pings_without_an_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(&times(Some(20), None), start);
        assert_eq!(liveness.judge(at(5)), Verdict::Wait(Some(Duration::from_secs(15))));
        assert_eq!(liveness.judge(at(20)), Verdict::Ping);
        assert_eq!(liveness.judge(at(20)), Verdict::Wait(Some(Duration::from_secs(20))));
        assert_eq!(liveness.judge(at(40)), Verdict::Ping);
        liveness.note_alive(at(41));
        assert_eq!(liveness.judge(at(60)), Verdict::Wait(Some(Duration::from_secs(1))));
        assert_eq!(liveness.judge(at(61)), Verdict::Ping);
        assert_eq!(liveness.judge(at(81)), Verdict::Ping);
        assert_eq!(liveness.judge(at(101)), Verdict::Gone);
    }

    #[test]
    fn the_number_of_intervals_without_an_answer_can_be_set() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for (gone_after, wanted) in [(1, &[] as &[u64]), (2, &[200]), (3, &[200, 400]), (4, &[200, 400, 600])]
        {
            let times = Times { ping: Some(Duration::from_millis(200)), gone_after, ..times(None, None) };
            let mut liveness = Liveness::new(&times, start);
            let mut pings = Vec::new();
            let gone = (0..2000).find(|&millis| match liveness.judge(at(millis)) {
                Verdict::Ping => {
                    pings.push(millis);
                    false
                }
                verdict => verdict == Verdict::Gone,
            });
            assert_eq!((gone, &pings[..]), (Some(200 * u64::from(gone_after)), wanted));
        }
    }

    #[test]
    fn a_client_can_answer_each_ping_even_if_the_server_was_stopped() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(&times(Some(5), None), start);
        assert_eq!(liveness.judge(at(100)), Verdict::Ping);
        assert_eq!(liveness.judge(at(100)), Verdict::Wait(Some(Duration::from_secs(5))));
        assert_eq!(liveness.judge(at(200)), Verdict::Ping);
        assert_eq!(liveness.judge(at(200)), Verdict::Wait(Some(Duration::from_secs(5))));
        assert_eq!(liveness.judge(at(205)), Verdict::Gone);
        assert_eq!(liveness.judge(at(205)), Verdict::Gone, "until something is heard");
        liveness.note_alive(at(205));
        assert_eq!(liveness.judge(at(205)), Verdict::Wait(Some(Duration::from_secs(5))));
    }

    #[test]
    fn only_messages_end_idle_time_and_it_restarts_after_a_wait() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(&times(None, Some(30)), start);
        liveness.note_alive(at(20));
        assert_eq!(liveness.judge(at(29)), Verdict::Wait(Some(Duration::from_secs(1))));
        liveness.message(at(29));
        assert_eq!(liveness.judge(at(58)), Verdict::Wait(Some(Duration::from_secs(1))));
        liveness.restart(at(100));
        // This one had come with the one before, whose reader stood still.
        liveness.message(at(29));
        assert_eq!(liveness.judge(at(129)), Verdict::Wait(Some(Duration::from_secs(1))));
        assert_eq!(liveness.judge(at(130)), Verdict::Idle);
        assert_eq!(Liveness::new(&times(None, None), start).judge(at(9999)), Verdict::Wait(None));
    }
}
