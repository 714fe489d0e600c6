//! Sessions of one client with a program, as a face has them that gives each client a program of its own.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::panics::{recipe, shared};
use super::started::STACK;
use super::{Departed, Handle, Outcome, RoomSide, StartContext, start_with, writer};
use crate::clients::Client;
use crate::framing::batch::Batch;
use crate::framing::output::{Decoded, Output};
use crate::recipe::{Backend, Program, Recipe, Share, Slow, Stderr, Step};
use crate::sink::Stream;
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::lock;
use crate::sys::threads::work;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A room with one client.
struct OneClient {
    client: Mutex<Option<Arc<Client>>>,
    outcome: Mutex<Option<Outcome>>,
    refuses: AtomicBool,
    reader_ended: Bell,
}

impl OneClient {
    fn take(&self) -> Vec<Arc<Client>> {
        lock(&self.client).take().into_iter().collect()
    }
}

impl RoomSide for OneClient {
    fn name(&self) -> &'static str {
        "room"
    }

    fn members_for(&self, _: &Batch, _: &Decoded) -> Arc<[Arc<Client>]> {
        lock(&self.client).iter().cloned().collect()
    }

    fn set_metadata(&self, _: Vec<u8>) {}

    fn member_count(&self) -> usize {
        usize::from(lock(&self.client).is_some())
    }

    fn empty_since(&self) -> Option<Instant> {
        None
    }

    fn end_linger(&self, _: Instant) -> bool {
        false
    }

    fn is_wanted(&self) -> bool {
        true
    }

    fn backend_ending(&self) {
        self.refuses.store(true, Ordering::SeqCst);
    }

    fn remove_members(&self) -> Departed {
        assert!(self.refuses.load(Ordering::SeqCst), "no client may join any more");
        Departed { members: self.take(), leaves: Vec::new() }
    }

    fn backend_ended(&self, outcome: Outcome, _: Duration) -> Vec<Arc<Client>> {
        *lock(&self.outcome) = Some(outcome);
        self.take()
    }

    fn backend_stuck(&self) -> Vec<Arc<Client>> {
        self.take()
    }

    fn reader_ended(&self) {
        self.reader_ended.ring();
    }
}

/// What a client gets.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Message(String),
    Close(u16),
}

/// A session, and the client's end of its connection.
struct Session {
    room: Arc<OneClient>,
    client: Arc<Client>,
    backend: Arc<Handle>,
    peer: UnixStream,
}

impl Session {
    fn start(recipe: Recipe) -> Self {
        Self::start_with(recipe, |handle| {
            let handle = Arc::clone(handle);
            work("write room", STACK, move || writer::run(&handle))
        })
    }

    /// `start_writer` starts the writer when it is needed.
    fn start_with(
        recipe: Recipe,
        start_writer: impl Fn(&Arc<Handle>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let (ours, peer) = UnixStream::pair().expect("a pair of sockets");
        peer.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
        let stream = Arc::new(Stream::Socket(ours.into()));
        let (address, query) = (String::new(), String::new());
        let client = Client::new(1, "room".into(), address, query, Vec::new(), stream, recipe.max_queue);
        let client = Arc::new(client);
        let room = Arc::new(OneClient {
            client: Mutex::new(Some(Arc::clone(&client))),
            outcome: Mutex::default(),
            refuses: AtomicBool::new(false),
            reader_ended: Bell::default(),
        });
        let context = StartContext { room: "room".to_owned(), ..StartContext::default() };
        let side = Arc::clone(&room) as Arc<dyn RoomSide>;
        let (recipe, shared, start_writer) = (Arc::new(recipe), Arc::new(shared()), Box::new(start_writer));
        let backend = start_with(&recipe, &shared, &context, side, start_writer).expect("a backend");
        Self { room, client, backend, peer }
    }

    /// The next frame; there is none with a head of more than four bytes.
    fn frame(&mut self) -> Frame {
        let mut head = [0; 2];
        self.peer.read_exact(&mut head).expect("a frame");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.peer.read_exact(&mut length).expect("a length");
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.peer.read_exact(&mut payload).expect("a payload");
        match head[0] {
            0x81 => Frame::Message(String::from_utf8(payload).expect("UTF-8")),
            0x88 => Frame::Close(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("a frame that begins with {other:#x}"),
        }
    }

    /// All messages, and the code of the close behind them.
    fn all(&mut self) -> (Vec<String>, u16) {
        let mut messages = Vec::new();
        loop {
            match self.frame() {
                Frame::Message(message) => messages.push(message),
                Frame::Close(code) => return (messages, code),
            }
        }
    }

    /// Answers the close, and waits for the end of the backend.
    fn end(self) -> Option<Outcome> {
        self.client.mark_finished();
        self.backend.members_changed();
        assert!(self.room.reader_ended.wait(Deadline::after(TIMEOUT)), "the backend has ended");
        *lock(&self.room.outcome)
    }
}

/// A shell script whose session ends with its output.
fn script(script: &str) -> Recipe {
    let program = Program {
        name: "sh".into(),
        path: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        stderr: Stderr::Log,
        ..Program::default()
    };
    let mut recipe = Recipe {
        backend: Backend::Stdio(program),
        share: Share::Client,
        slow: Slow::Block,
        ends_with_output: true,
        stop: [(100, 2), (250, 15), (500, 9)]
            .map(|(millis, signal)| Step { wait: Duration::from_millis(millis), signal })
            .to_vec(),
        ..recipe()
    };
    recipe.framing.output =
        Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: false, room: false };
    recipe
}

/// The same with both streams as messages.
fn both_streams(text: &str) -> Recipe {
    let mut recipe = script(text);
    if let Backend::Stdio(program) = &mut recipe.backend {
        program.stderr = Stderr::Messages;
    }
    recipe
}

fn named(stream: &str, line: &str) -> String {
    format!(r#"{{"stream":"{stream}","data":"{line}"}}"#)
}

#[test]
fn input_waits_until_there_is_a_thread_to_write_it() {
    // Far more than a pipe holds.
    const BYTES: usize = 300_000;
    let tries = Arc::<AtomicUsize>::default();
    let tried = Arc::clone(&tries);
    let mut session = Session::start_with(script(&format!("head -c {BYTES} | wc -c")), move |handle| {
        if tried.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let handle = Arc::clone(handle);
        work("write room", STACK, move || writer::run(&handle))
    });
    session.backend.push_notice(&vec![b'x'; BYTES]);
    assert_eq!(session.all(), (vec![BYTES.to_string()], 1000));
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    session.end();
}

#[test]
fn a_session_ends_with_the_output_whatever_the_process_does_then() {
    for (text, outcome) in [
        ("echo a; printf b", Outcome::Done),
        ("echo a; printf b; exit 3", Outcome::Stopped),
        ("echo a; printf b; kill -9 $$", Outcome::Stopped),
        // It ends with its input.
        ("echo a; printf b; exec >&- 2>&-; cat; exit 3", Outcome::Stopped),
        // It ends at the first signal, INT, which a shell leaves to the command that it waits for.
        ("echo a; printf b; exec >&- 2>&-; exec sleep 60", Outcome::Stopped),
        ("trap '' INT; echo a; printf b; exec >&- 2>&-; exec sleep 60", Outcome::Stopped),
        ("trap '' INT TERM; echo a; printf b; exec >&- 2>&-; exec sleep 60", Outcome::Stopped),
    ] {
        for (recipe, wanted) in [
            (script(text), vec!["a".to_owned(), "b".to_owned()]),
            (both_streams(text), vec![named("stdout", "a"), named("stdout", "b")]),
        ] {
            let started = Instant::now();
            let mut session = Session::start(recipe);
            assert_eq!(session.all(), (wanted, 1000), "{text}");
            assert_eq!(session.end(), Some(outcome), "{text}");
            assert!(started.elapsed() < Duration::from_secs(20), "{text}: it is ended by signals");
        }
    }
}

#[test]
fn without_the_choice_a_program_that_closes_its_output_goes_on() {
    let mut recipe = script("echo a; exec >&-; read -r line; exit 3");
    recipe.ends_with_output = false;
    let mut session = Session::start(recipe);
    assert_eq!(session.frame(), Frame::Message("a".to_owned()));
    session.peer.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    assert!(session.peer.read(&mut [0]).is_err(), "it is not closed");
    session.peer.set_read_timeout(Some(TIMEOUT)).expect("a time-out");
    session.backend.stop(Vec::new);
    assert_eq!(session.all(), (Vec::new(), 1011));
    assert_ne!(session.end(), Some(Outcome::Done));
}

#[test]
fn both_streams_are_messages_in_order_and_the_session_lasts_until_both_have_ended() {
    let mut session = Session::start(both_streams(
        r#"for n in 1 2 3; do echo "out $n"; echo "err $n" >&2; done; exec >&-; printf last >&2"#,
    ));
    let (messages, code) = session.all();
    assert_eq!(code, 1000);
    for (stream, wanted) in [
        ("stdout", &["out 1", "out 2", "out 3"] as &[&str]),
        ("stderr", &["err 1", "err 2", "err 3", "last"]),
    ] {
        let seen: Vec<_> = messages.iter().filter(|message| message.contains(stream)).cloned().collect();
        assert_eq!(seen, wanted.iter().map(|line| named(stream, line)).collect::<Vec<_>>());
    }
    assert_eq!(messages.len(), 7);
    assert_eq!(session.end(), Some(Outcome::Done));
}

/// A program blocks on both streams while its client reads nothing, and no memory takes what it has not printed.
#[test]
fn a_client_that_reads_nothing_stops_its_program_and_loses_nothing() {
    const LINES: usize = 40_000;
    let loops = |stream: &str| {
        format!(
            "n=0; while [ $n -lt {LINES} ]; do \
             echo $n-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx {stream}; n=$((n+1)); done"
        )
    };
    let both = format!("{{ {}; }} & {}; wait", loops(">&2"), loops(""));
    for (recipe, lines) in [(script(&loops("")), LINES), (both_streams(&both), 2 * LINES)] {
        let bound = recipe.max_queue;
        let mut session = Session::start(recipe);
        let held = || session.client.sink.status().bytes_held;
        let sent = || session.client.sink.sent().messages;
        // It stands still once the socket, the queue and the pipes are full.
        let (mut last, mut still, started) = (0, 0, Instant::now());
        while still < 10 {
            assert!(started.elapsed() < TIMEOUT, "it goes on printing");
            std::thread::sleep(Duration::from_millis(50));
            still = if sent() == last && last > 0 { still + 1 } else { 0 };
            last = sent();
            // Two reads of the pipes are made before the queue is looked at.
            assert!(held() <= bound + 3 * 128 * 1024, "{} bytes are queued", held());
        }
        assert!(last < lines as u64 / 2, "{last} of {lines} lines were taken");
        let (messages, code) = session.all();
        assert_eq!((messages.len(), code), (lines, 1000));
        let numbers = |stream: &str| -> Vec<usize> {
            let of = messages.iter().filter(|message| message.contains(stream));
            of.map(|message| {
                let text = message.rsplit('"').nth(1).unwrap_or(message);
                text.split('-').next().and_then(|number| number.parse().ok()).expect("a number")
            })
            .collect()
        };
        for stream in if lines == LINES { &["x"] as &[&str] } else { &["stdout", "stderr"] } {
            assert_eq!(numbers(stream), (0..LINES).collect::<Vec<_>>(), "{stream}");
        }
        assert_eq!(session.client.dropped.load(Ordering::Relaxed), 0);
        assert_eq!(session.end(), Some(Outcome::Done));
    }
}

/// The waits are those of the recipe, for a program that reads nothing and lives on.
#[test]
fn a_stubborn_program_is_killed_after_all_waits_and_not_much_later() {
    let sequences: [&[(u64, i32)]; 3] =
        [&[(300, 9)], &[(100, 2), (200, 9)], &[(100, 2), (100, 15), (100, 1), (100, 9)]];
    for steps in sequences {
        let mut recipe = script("trap '' INT TERM HUP; echo ready; exec >&- 2>&-; while :; do sleep 1; done");
        recipe.stop = steps
            .iter()
            .map(|&(millis, signal)| Step { wait: Duration::from_millis(millis), signal })
            .collect();
        let waits: Duration = recipe.stop.iter().map(|step| step.wait).sum();
        let started = Instant::now();
        let mut session = Session::start(recipe);
        assert_eq!(session.frame(), Frame::Message("ready".to_owned()));
        assert_eq!(session.frame(), Frame::Close(1000));
        assert_eq!(session.end(), Some(Outcome::Stopped));
        let taken = started.elapsed();
        assert!(taken >= waits, "{steps:?}: {taken:?}");
        assert!(taken < waits + Duration::from_secs(10), "{steps:?}: {taken:?}");
    }
}
