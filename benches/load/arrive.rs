//! Clients that come: to a room that is there, or each to one of its own.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::events::Events;
use crate::figures::Outcome;
use crate::server::Server;
use crate::wire::{Inbox, Messages, close, nanoseconds, request};

/// How long all arrivals may take together.
const ALL: Duration = Duration::from_secs(30);

/// Where a client is that has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Asking,
    Echo,
}

/// A client that has just come.
struct Arrival {
    number: usize,
    stream: TcpStream,
    inbox: Inbox,
    stage: Stage,
    began: Instant,
}

/// What an arrival does once it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// All come to one room and stay.
    Stay,
    /// All come to one path; each sends a message, receives it and stays.
    StayAndEcho,
    /// Each has a room of its own, sends a message, receives it and leaves.
    Echo,
}

/// `count` clients come, at most `at_once` of them not in yet; the time of each from its SYN to its answer.
pub(crate) fn arrive(server: &Server, count: usize, at_once: usize, visit: Visit) -> io::Result<Outcome> {
    let messages = Messages::new(64, server.stream);
    let poll = Events::new()?;
    let mut outcome = Outcome::default();
    let mut arrivals: Vec<Option<Arrival>> = Vec::new();
    let (mut begun, mut free) = (0, Vec::new());
    let mut ready = Vec::with_capacity(1024);
    let mut stay = Vec::new();
    let (cpu, rss, threads) = (server.cpu(), server.rss(), server.threads());
    let start = Instant::now();
    while outcome.done < count as u64 {
        while begun < count && begun - (outcome.done as usize) < at_once {
            let index = free.pop().unwrap_or(arrivals.len());
            let arrival = set_out(server, begun)?;
            poll.add(&arrival.stream, index, epoll::EventFlags::OUT)?;
            if index == arrivals.len() {
                arrivals.push(None);
            }
            arrivals[index] = Some(arrival);
            begun += 1;
        }
        if start.elapsed() > ALL {
            break;
        }
        poll.wait(&mut ready)?;
        for event in &ready {
            let index = event.data.u64() as usize;
            let Some(arrival) = &mut arrivals[index] else { continue };
            let path = match visit {
                Visit::Stay | Visit::StayAndEcho => "/room".to_owned(),
                Visit::Echo => format!("/room{}", arrival.number),
            };
            match arrival.stage {
                Stage::Connecting => {
                    rustix::net::sockopt::socket_error(&arrival.stream)??;
                    (&arrival.stream).write_all(&request(server.address, &path))?;
                    arrival.stage = Stage::Asking;
                    poll.change(&arrival.stream, index, epoll::EventFlags::IN)?;
                    continue;
                }
                Stage::Asking => {
                    arrival.inbox.fill(&arrival.stream)?;
                    if !arrival.inbox.is_in()? {
                        continue;
                    }
                    if visit != Visit::Stay {
                        // Its own number: what another client said is no echo.
                        (&arrival.stream).write_all(&messages.one(arrival.number as u64))?;
                        arrival.stage = Stage::Echo;
                        continue;
                    }
                }
                Stage::Echo => {
                    arrival.inbox.fill(&arrival.stream)?;
                    let Some(frame) = arrival.inbox.next() else { continue };
                    if messages.number(frame.payload)? != arrival.number as u64 {
                        return Err(io::Error::other("another message came than was sent"));
                    }
                    if visit == Visit::Echo {
                        (&arrival.stream).write_all(&close())?;
                    }
                }
            }
            outcome.latencies.push(nanoseconds(arrival.began));
            outcome.done += 1;
            if let Some(arrival) = arrivals[index].take()
                && visit != Visit::Echo
            {
                poll.forget(&arrival.stream)?;
                stay.push(arrival.stream);
            }
            free.push(index);
        }
    }
    outcome.time = start.elapsed();
    outcome.cpu = server.cpu().saturating_sub(cpu);
    outcome.lost = count as u64 - outcome.done;
    if visit == Visit::StayAndEcho {
        let each = server.rss().saturating_sub(rss) as f64 / count as f64 / 1e3;
        let threads = server.threads().saturating_sub(threads) as f64;
        outcome.remarks =
            vec![("kB RSS before", rss as f64 / 1e3), ("kB RSS each", each), ("threads", threads)];
    }
    Ok(outcome)
}

/// Begins to connect.
fn set_out(server: &Server, number: usize) -> io::Result<Arrival> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    let began = Instant::now();
    match rustix::net::connect(&socket, &server.address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(e) => return Err(e.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(Arrival { number, stream, inbox: Inbox::new(512), stage: Stage::Connecting, began })
}
