//! From a backend's output to the clients of its room: one read, cut into messages, and one write for each client.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::io::Errno;

use super::backlog::Backlog;
use super::room_side::{RoomSide, Shared};
use crate::clients::Client;
use crate::counters::Count;
use crate::framing::batch::Batch;
use crate::framing::output::{Decoded, Decoder, Output};
use crate::recipe::{Recipe, Slow};
use crate::sink::{CloseState, Overflow, WriteResult};
use crate::sys::pipe::{PIPE, PIPE_WIDE, Wide, widen};

/// Bytes of one read: more than a pipe holds at first, so that a full one shows.
const MAX_READ: usize = PIPE_WIDE;

/// Bytes of the first reads of lines: most programs never print more at a time. Chunks are read as they come.
const FIRST_READ: usize = 8 * 1024;

/// A batch up to this size is kept to be filled again.
const MAX_SPARE: usize = 512 * 1024;

/// The result of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    End,
    Failed,
}

/// See the module's documentation.
pub(super) struct Delivery {
    recipe: Arc<Recipe>,
    shared: Arc<Shared>,
    room_side: Arc<dyn RoomSide>,
    pid: Option<i32>,
    decoder: Decoder,
    /// If what goes to the log is sent to the clients, too.
    log_decoder: Option<Decoder>,
    decoded: Decoded,
    buffer: Vec<u8>,
    spare: Arc<Batch>,
    messages: u64,
    bad_text: u64,
    /// With `--partial`: when output without an end is sent as a message.
    partial_due: Option<Instant>,
    /// The output is a wide pipe.
    wide: Option<Wide>,
}

impl Delivery {
    pub(super) fn new(
        recipe: &Arc<Recipe>,
        shared: &Arc<Shared>,
        room_side: &Arc<dyn RoomSide>,
        pid: Option<i32>,
    ) -> Self {
        let (output, log) = recipe.outputs();
        let first = if output == Output::Chunks { MAX_READ } else { FIRST_READ };
        Self {
            decoder: Decoder::new(&output, recipe.max_line),
            log_decoder: log.map(|output| Decoder::new(&output, recipe.max_line)),
            decoded: Decoded::default(),
            recipe: Arc::clone(recipe),
            shared: Arc::clone(shared),
            room_side: Arc::clone(room_side),
            pid,
            buffer: vec![0; first],
            spare: Arc::default(),
            messages: 0,
            bad_text: 0,
            partial_due: None,
            wide: None,
        }
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// The read buffer, lent for other reads.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Reads once and delivers what came. At the end of the output, delivers what is left in the decoder.
    pub(super) fn read(&mut self, output: &OwnedFd, backlog: &mut Backlog) -> Read {
        let read = match rustix::io::read(output, &mut self.buffer) {
            Ok(0) => Read::End,
            Ok(read) => Read::Bytes(read),
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            Err(_) => Read::Failed,
        };
        let Read::Bytes(bytes) = read else {
            self.finish(backlog);
            return read;
        };
        if bytes == PIPE && self.wide.is_none() {
            self.wide = widen(output);
        }
        self.decoded.clear();
        let mut fresh = std::mem::take(&mut self.spare);
        // A spare batch has no other owner: see `keep_spare`.
        let Some(batch) = Arc::get_mut(&mut fresh) else { return Read::Nothing };
        self.decoder.push(&self.buffer[..bytes], batch, &mut self.decoded);
        if bytes == self.buffer.len() {
            self.buffer.resize(MAX_READ, 0);
        }
        self.partial_due = match self.recipe.framing.partial {
            Some(wait) if self.decoder.has_partial() => Instant::now().checked_add(wait),
            _ => None,
        };
        self.deliver(fresh, backlog);
        read
    }

    /// When [`Delivery::deliver_partial`] is due.
    pub(super) fn partial_due(&self) -> Option<Instant> {
        self.partial_due
    }

    /// Sends output without an end as a message, if nothing has followed it for long enough.
    pub(super) fn deliver_partial(&mut self, now: Instant, backlog: &mut Backlog) {
        if self.partial_due.is_some_and(|due| due <= now) {
            self.partial_due = None;
            let mut batch = Batch::default();
            self.decoder.flush_partial(&mut batch, &mut self.decoded);
            self.deliver(Arc::new(batch), backlog);
        }
    }

    /// The output has ended: delivers a last message without an end.
    pub(super) fn finish(&mut self, backlog: &mut Backlog) {
        self.partial_due = None;
        self.decoded.clear();
        let mut last = Batch::default();
        self.decoder.finish(&mut last, &mut self.decoded);
        self.deliver(Arc::new(last), backlog);
    }

    /// Whether what goes to the log is sent to the clients, too.
    pub(super) fn sends_log(&self) -> bool {
        self.log_decoder.is_some()
    }

    /// Delivers what was read into the buffer for the log, if that is sent to the clients; no bytes are its end.
    pub(super) fn deliver_log(&mut self, bytes: usize, backlog: &mut Backlog) {
        let Some(decoder) = &mut self.log_decoder else { return };
        self.decoded.clear();
        let mut batch = Batch::default();
        match bytes {
            0 => decoder.finish(&mut batch, &mut self.decoded),
            bytes => decoder.push(&self.buffer[..bytes], &mut batch, &mut self.decoded),
        }
        self.deliver(Arc::new(batch), backlog);
    }

    /// Whether the output cannot be understood any more; says yes once, and logs it.
    pub(super) fn take_broken(&mut self) -> bool {
        let Some(broken) = self.decoded.broken.take() else { return false };
        let line = self.shared.log.error("program ended: it broke the framing");
        line.room(self.room_side.name()).pid(self.pid).field("reason", broken).write();
        true
    }

    /// Sends a batch to the clients that it is for.
    fn deliver(&mut self, batch: Arc<Batch>, backlog: &mut Backlog) {
        self.note_damage();
        if let Some(metadata) = self.decoded.metadata.take() {
            self.room_side.set_metadata(metadata);
        }
        self.messages += batch.ends.len() as u64;
        self.shared.counters.add(Count::MessagesOut, batch.ends.len() as u64);
        self.shared.counters.add(Count::BytesOut, batch.bytes.len() as u64);
        if !batch.ends.is_empty() {
            let members = self.room_side.members_for(&batch, &self.decoded);
            if !self.decoded.rooms.is_empty() {
                let present: Vec<_> = members.iter().map(|member| (member.id, &*member.room)).collect();
                self.decoded.narrow(&present);
            }
            if self.decoded.addresses.is_plain() {
                let whole = 0..batch.bytes.len();
                for member in members.iter() {
                    self.send(member, &batch, std::slice::from_ref(&whole), backlog);
                }
            } else {
                let present: Vec<u64> = members.iter().map(|member| member.id).collect();
                let shares = self.decoded.addresses.shares(&present, &batch.ends);
                let mut parts = Vec::new();
                for member in members.iter() {
                    if shares.parts(member.id, &mut parts) {
                        self.send(member, &batch, &parts, backlog);
                    }
                }
            }
        }
        self.keep_spare(batch);
        // A list of ids may be as large as the message was: do not hold it until the next one.
        let broken = self.decoded.broken.take();
        self.decoded.clear();
        self.decoded.broken = broken;
    }

    fn send(&self, member: &Arc<Client>, batch: &Arc<Batch>, parts: &[Range<usize>], backlog: &mut Backlog) {
        let overflow = match self.recipe.slow {
            Slow::Drop => Overflow::Drop(&member.dropped),
            Slow::Disconnect | Slow::Block => Overflow::Queue,
        };
        let before = member.dropped.load(Ordering::Relaxed);
        let after = member.sink.send(batch, parts, overflow);
        let dropped = member.dropped.load(Ordering::Relaxed) - before;
        self.shared.counters.add(Count::DroppedSlow, dropped);
        match after {
            WriteResult::Clear => {}
            WriteResult::Waits { needs_watcher } => {
                if needs_watcher && member.sink.claim_watch() {
                    backlog.add(member);
                }
            }
            WriteResult::Refused => {
                // Its thread may block in a read that nothing else ends.
                if member.sink.status().close_state == CloseState::Broken {
                    member.wake();
                }
            }
        }
    }

    /// Keeps a batch that no queue shares, to be filled again: no allocation on the hot path.
    fn keep_spare(&mut self, mut batch: Arc<Batch>) {
        self.spare = match Arc::get_mut(&mut batch) {
            Some(own) if own.memory() <= MAX_SPARE => {
                own.clear();
                batch
            }
            _ => Arc::default(),
        };
    }

    /// Counts and logs what had to be discarded or repaired.
    fn note_damage(&mut self) {
        let Decoded { overlong, bad_text, malformed, unfit_metadata, unfinished, .. } = self.decoded;
        let (log, counters) = (&self.shared.log, &self.shared.counters);
        counters.add(Count::DroppedOverlong, overlong);
        counters.add(Count::DroppedMalformed, malformed);
        counters.add(Count::DroppedMetadata, unfit_metadata);
        counters.add(Count::Repaired, bad_text);
        let warn = |message| log.warn(message).room(self.room_side.name()).pid(self.pid);
        if overlong > 0 {
            warn("oversized line discarded: longer than --maxline")
                .number("lines", overlong)
                .number("limit", self.recipe.max_line)
                .write();
        }
        if malformed > 0 {
            warn("message discarded: its _to, _except or _room is not valid")
                .number("messages", malformed)
                .write();
        }
        if unfit_metadata > 0 {
            warn("metadata of the program discarded: more than 64 KiB, or not fit for every JSON parser")
                .number("messages", unfit_metadata)
                .write();
        }
        if bad_text > 0 && self.bad_text == 0 {
            warn("output of the program is not UTF-8: bad bytes become U+FFFD (--binary passes them on)")
                .write();
        }
        self.bad_text += bad_text;
        if unfinished > 0 {
            warn("program ended in the middle of a packet, which is discarded")
                .number("bytes", unfinished)
                .write();
        }
    }
}
