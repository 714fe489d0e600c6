//! The binary: a name and an exit status.

use std::io::Write as _;
use std::process::ExitCode;

use scalesocket::cli::{self, Action, Environment};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1), &Environment::new(std::env::vars_os())) {
        Ok(Action::Print(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Action::Run(config)) => {
            let _ = writeln!(std::io::stderr(), "{config:#?}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "scalesocket: {failure}");
            ExitCode::from(failure.status())
        }
    }
}
