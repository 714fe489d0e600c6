//! A room without a program: what its clients send goes to the others. A relay is a pipe to ourselves, so order,
//! bounds, history and slow clients are those of any backend.

use super::ending::AtEnd;
use super::log_pipe::LogPipe;
use super::room_side::Shared;
use super::started::{INPUT_BOUND, Source, StartContext, StartError, Started};
use crate::sink::{Stdin, Stream};

pub(super) fn start(shared: &Shared, context: &StartContext) -> Result<Started, StartError> {
    let (output, input) = std::io::pipe().map_err(StartError::Resources)?;
    for end in [&output as &dyn std::os::fd::AsFd, &input] {
        rustix::io::ioctl_fionbio(end.as_fd(), true).map_err(|e| StartError::Resources(e.into()))?;
    }
    Ok(Started {
        input: Stdin::new(Stream::Pipe(input.into()), INPUT_BOUND),
        source: Source {
            kind: "relay",
            output: Some(output.into()),
            log_pipe: LogPipe::none(&shared.log, &context.room),
            process: None,
            at_end: AtEnd::Over,
        },
    })
}
