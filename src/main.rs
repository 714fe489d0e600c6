//! The binary: runs the library and sets the exit status.

use std::io::Write as _;
use std::process::ExitCode;

use scalesocket::backend::launch::{NOT_EXECUTED, become_program};
use scalesocket::cli::{self, Answer, Environment};
use scalesocket::config::Config;
use scalesocket::server::{self, RunResult};
use scalesocket::sys::reason;

fn main() -> ExitCode {
    if let Err(e) = become_program(std::env::args_os()) {
        return fail(&e, NOT_EXECUTED);
    }
    match cli::command_line(std::env::args_os(), &Environment::new(std::env::vars_os())) {
        Ok(config) => run(*config),
        Err(answer) => end(&answer),
    }
}

fn run(config: Config) -> ExitCode {
    let (face, level) = (config.face.clone(), config.log.level);
    match server::run(config) {
        Ok(RunResult::Done) => ExitCode::SUCCESS,
        Ok(RunResult::Cut | RunResult::NoListener) => ExitCode::FAILURE,
        Ok(RunResult::Exit(exit)) => ExitCode::from(exit.as_status()),
        Err(e) => end(&cli::cannot_start(&face, level, &e)),
    }
}

fn end(answer: &Answer) -> ExitCode {
    // If standard error is closed, only the status remains.
    let _ = std::io::stderr().write_all(answer.err.as_bytes());
    match std::io::stdout().write_all(answer.out.as_bytes()) {
        // The reader has closed the pipe (`scalesocket --help | head`).
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => fail(&reason(&e), answer.status.max(1)),
        _ => ExitCode::from(answer.status),
    }
}

fn fail(error: &str, status: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "scalesocket: {error}");
    ExitCode::from(status)
}
