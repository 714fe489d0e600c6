//! A reader that panics, with a room that counts the calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Departed, Outcome, RoomSide, Shared, StartContext, start_backend};
use crate::clients::Client;
use crate::config::{Level, LogConfig, LogFormat};
use crate::framing::Framing;
use crate::framing::batch::Batch;
use crate::framing::input::Input;
use crate::framing::notices::Notices;
use crate::framing::output::{Decoded, Output};
use crate::log::Log;
use crate::recipe::{
    Backend, HistoryOptions, Incoming, Keep, Program, Recipe, RoomTimes, Share, Slow, Stderr,
};
use crate::sys::bell::Bell;
use crate::sys::deadline::Deadline;
use crate::sys::limits::Maps;

/// A room that counts the calls of `backend_ended`, then panics.
#[derive(Default)]
struct Panics {
    calls: AtomicUsize,
    reader_ended: Bell,
}

impl RoomSide for Panics {
    fn name(&self) -> &'static str {
        "room"
    }

    fn members_for(&self, _: &Batch, _: &Decoded) -> Arc<[Arc<Client>]> {
        Arc::default()
    }

    fn set_metadata(&self, _: Vec<u8>) {}

    fn member_count(&self) -> usize {
        0
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

    fn backend_ending(&self) {}

    fn remove_members(&self) -> Departed {
        Departed { members: Vec::new(), leaves: Vec::new() }
    }

    fn backend_ended(&self, _: Outcome, _: Duration) -> Vec<Arc<Client>> {
        assert!(self.calls.fetch_add(1, Ordering::SeqCst) > 0, "the first time");
        Vec::new()
    }

    fn backend_stuck(&self) -> Vec<Arc<Client>> {
        Vec::new()
    }

    fn reader_ended(&self) {
        self.reader_ended.ring();
    }
}

pub(crate) fn recipe() -> Recipe {
    let program = Program {
        name: "true".into(),
        path: "/bin/true".into(),
        arguments: Vec::new(),
        passed: Vec::new(),
        cgi_environment: false,
        stderr: Stderr::Null,
        delay: Duration::ZERO,
    };
    Recipe {
        backend: Backend::Stdio(program),
        share: Share::Room,
        framing: Framing { output: Output::Chunks, input: Input::Raw, partial: None },
        incoming: Incoming::Pass,
        notices: Notices::Templates { join: None, leave: None, input: Input::Raw },
        history: HistoryOptions { keep: Keep::Nothing, persist: false },
        slow: Slow::Disconnect,
        ends_with_output: false,
        max_line: 1000,
        max_queue: 1000,
        times: RoomTimes { linger: Duration::ZERO, patience: Duration::ZERO, ping: None, gone_after: 3 },
        stop: Vec::new(),
    }
}

pub(crate) fn shared() -> Shared {
    let log = LogConfig { format: LogFormat::Text, level: Level::Error };
    Shared {
        ending: Arc::default(),
        log: Log::start(log, true).expect("a thread"),
        counters: Arc::default(),
        maps: Maps::all(),
        processes: Arc::default(),
        first_exit: Arc::default(),
    }
}

#[test]
fn a_room_is_told_of_the_end_once_even_if_the_reader_panics_behind_it() {
    let room = Arc::<Panics>::default();
    let context = StartContext { room: "room".to_owned(), ..StartContext::default() };
    start_backend(&Arc::new(recipe()), &Arc::new(shared()), &context, Arc::clone(&room) as Arc<dyn RoomSide>)
        .expect("a backend");
    assert!(room.reader_ended.wait(Deadline::after(Duration::from_secs(20))), "the reader is done");
    assert_eq!(room.calls.load(Ordering::SeqCst), 1, "a second time would be for the next process");
}
