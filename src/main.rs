//! The binary: runs the library and sets the exit status.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use scalesocket::backend::launch::{NOT_EXECUTED, become_program};
use scalesocket::cli::{self, Action, Environment};
use scalesocket::server::{self, RunResult};
use scalesocket::sys::reason;

fn main() -> ExitCode {
    if let Err(e) = become_program(std::env::args_os()) {
        return fail(&e, NOT_EXECUTED);
    }
    match cli::parse(std::env::args_os().skip(1), &Environment::new(std::env::vars_os())) {
        Ok(Action::Print(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            // The reader has closed the pipe (`scalesocket --help | head`).
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => fail(&reason(&e), 1),
            _ => ExitCode::SUCCESS,
        },
        Ok(Action::Run(config)) => match server::run(*config) {
            Ok(RunResult::Done) => ExitCode::SUCCESS,
            Ok(RunResult::Cut | RunResult::NoListener) => ExitCode::FAILURE,
            Ok(RunResult::Exit(exit)) => ExitCode::from(exit.as_status()),
            Err(e) => fail(&e, 1),
        },
        Err(failure) => fail(&failure, failure.status()),
    }
}

fn fail(error: &dyn Display, status: u8) -> ExitCode {
    // If standard error is closed, only the status remains.
    let _ = writeln!(std::io::stderr(), "scalesocket: {error}");
    ExitCode::from(status)
}
