//! What answers in a room, and its two threads. The reader reads its output, ends it, and watches the clients that
//! have a backlog. The writer watches its stdin.
//!
//! - [`handle`], [`room_side`]: a backend as its room sees it, and the reverse
//! - [`stdio`], [`tcp`], [`connect`], [`relay`]: the kinds of backends; [`started`]: what each gives
//! - [`reader`]: the main loop; [`deliver`]: output to clients; [`ending`], [`steps`]: how a backend ends, pure
//! - [`backlog`], [`budget`]: slow clients
//! - [`spawn`], [`launch`]: starting a program

mod backlog;
mod budget;
mod connect;
mod deliver;
mod ending;
mod handle;
pub mod launch;
mod log_pipe;
#[cfg(test)]
pub(crate) mod panics;
mod peer;
mod reader;
mod relay;
mod room_side;
#[cfg(test)]
mod sessions;
mod spawn;
mod started;
mod stdio;
mod steps;
mod tcp;
mod writer;

use std::io;
use std::sync::Arc;

pub use self::handle::Handle;
use self::handle::StartWriter;
pub use self::log_pipe::LogPipe;
use self::reader::Reader;
pub use self::room_side::{Departed, Outcome, RoomSide, Shared};
pub use self::spawn::{Spawned, Wiring, start as spawn_program};
use self::started::{STACK, Started};
pub use self::started::{StartContext, StartError};
use crate::counters::Count;
use crate::recipe::{Backend, Recipe};
use crate::sys::threads::work;

/// Memory maps of a backend, counted in threads: its two, and its buffers.
const THREADS: u64 = 3;

/// Starts a backend: its process or connection, and its two threads.
pub fn start_backend(
    recipe: &Arc<Recipe>,
    shared: &Arc<Shared>,
    context: &StartContext,
    room_side: Arc<dyn RoomSide>,
) -> Result<Arc<Handle>, StartError> {
    let name = format!("write {}", context.room);
    let start_writer = move |handle: &Arc<Handle>| {
        let handle = Arc::clone(handle);
        work(&name, STACK, move || writer::run(&handle))
    };
    start_with(recipe, shared, context, room_side, Box::new(start_writer))
}

fn start_with(
    recipe: &Arc<Recipe>,
    shared: &Arc<Shared>,
    context: &StartContext,
    room_side: Arc<dyn RoomSide>,
    start_writer: StartWriter,
) -> Result<Arc<Handle>, StartError> {
    let maps = shared
        .maps
        .reserve(THREADS)
        .ok_or_else(|| StartError::Resources(io::Error::other("too many memory maps (vm.max_map_count)")))?;
    let Started { input, source } = start_kind(recipe, shared, context, &|| room_side.is_wanted())?;
    let (kind, pid) = (source.kind, source.pid());
    let serve = || -> io::Result<(Arc<Handle>, Reader)> {
        let handle = Arc::new(Handle::new(input, pid, start_writer, &recipe.times)?);
        let reader = Reader::new(recipe, shared, Arc::clone(&handle), room_side, source, maps);
        Ok((handle, reader))
    };
    let (handle, reader) = serve().map_err(StartError::Resources)?;
    // First: a program that exits at once has its end logged by the reader.
    shared.log.info(&format!("{kind} started")).room(&context.room).pid(pid).write();
    reader.spawn(&format!("read {}", context.room)).map_err(StartError::Resources)?;
    if pid.is_some() {
        shared.counters.one(Count::Started);
    }
    Ok(handle)
}

/// Each kind is a file of its own, and a line here. `wanted` says whether the room still waits: a slow start asks.
fn start_kind(
    recipe: &Recipe,
    shared: &Shared,
    context: &StartContext,
    wanted: &dyn Fn() -> bool,
) -> Result<Started, StartError> {
    match &recipe.backend {
        Backend::Stdio(program) => stdio::start(program, recipe.ends_with_output, shared, context, wanted),
        Backend::Tcp(program, options) => tcp::start(program, options, shared, context, wanted),
        Backend::Connect(destination) => connect::start(destination, shared, context, wanted),
        Backend::Relay => relay::start(shared, context),
    }
}
