//! A program over its standard input and output.

use super::ending::AtEnd;
use super::log_pipe::LogPipe;
use super::room_side::Shared;
use super::spawn::{self, Wiring};
use super::started::{INPUT_BOUND, Source, StartContext, StartError, Started};
use super::tcp;
use crate::recipe::Program;
use crate::sink::{Stdin, Stream};

pub(super) fn start(
    program: &Program,
    ends_with_output: bool,
    shared: &Shared,
    context: &StartContext,
    wanted: &dyn Fn() -> bool,
) -> Result<Started, StartError> {
    let spawned = spawn::start(program, context, Wiring::Stdio, &shared.processes)?;
    let mut log_pipe = LogPipe::new(spawned.log, "stderr", &shared.log, &context.room, spawned.process.id());
    let (Some(stdin), Some(stdout)) = (spawned.stdin, spawned.stdout) else {
        return Err(StartError::Resources(std::io::ErrorKind::NotFound.into()));
    };
    // For a program that must not be talked to at once.
    tcp::wait(&spawned.process, &mut log_pipe, program.delay, wanted)?;
    Ok(Started {
        input: Stdin::new(Stream::Pipe(stdin), INPUT_BOUND),
        source: Source {
            kind: "program",
            output: Some(stdout),
            log_pipe,
            process: Some(spawned.process),
            at_end: if ends_with_output { AtEnd::SessionOver } else { AtEnd::KeepsReading },
        },
    })
}
