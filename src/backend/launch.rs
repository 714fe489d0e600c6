//! Starting a program with its own limit on open files, where the server has raised its own. std sets no limits
//! between fork and exec, and setting them afterwards is too late for a program that looks at once. So the server
//! executes its own file, which sets the limit and executes the program in the same process.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::recipe::Program;
use crate::sys::reason;

/// `argv[0]` with which the server executes its own file. The soft limit, the program's file, its name and its
/// arguments follow.
const NAME: &str = "scalesocket-program-with-descriptor-limit";

/// The word for no soft limit.
const UNLIMITED: &str = "unlimited";

/// The status of a program that could not be executed, as of a shell.
pub const NOT_EXECUTED: u8 = 127;

/// Our own file.
static OWN: OnceLock<Own> = OnceLock::new();

#[derive(Debug)]
enum Own {
    /// As it was when the server started, even if another file has its name now.
    Open(OwnedFd),
    /// Where there is no /proc.
    Named(PathBuf),
}

impl Own {
    fn find() -> Option<Self> {
        let own = open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map(Self::Open);
        if let Ok(own) = own
            && own.path().exists()
        {
            return Some(own);
        }
        // What std::env::current_exe says is in /proc as well.
        let name = PathBuf::from(std::env::args_os().next()?);
        (name.is_absolute() && name.is_file()).then_some(Self::Named(name))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Open(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            Self::Named(path) => path.clone(),
        }
    }
}

/// Finds our own file, once, at start; says whether it was found.
pub fn prepare() -> bool {
    OWN.get().is_some() || Own::find().is_some_and(|own| OWN.set(own).is_ok())
}

/// A command for a program, with another soft limit on descriptors if one is given.
pub(super) fn command(program: &Program, limit: Option<Rlimit>) -> Command {
    let mut command = if let (Some(limit), Some(own)) = (limit, OWN.get()) {
        let mut command = Command::new(own.path());
        let soft = limit.current.map_or_else(|| UNLIMITED.to_owned(), |soft| soft.to_string());
        command.arg0(NAME).arg(soft).arg(&program.path).arg(&program.name);
        command
    } else {
        let mut command = Command::new(&program.path);
        command.arg0(&program.name);
        command
    };
    command.args(&program.arguments);
    command
}

/// If the server executed its own file with these words, sets the limit and becomes the program: returns only if
/// that fails, or if this is no such start. Standard streams, environment and process group are the program's.
pub fn become_program(mut words: impl Iterator<Item = OsString>) -> Result<(), String> {
    if words.next().is_none_or(|name| name != NAME) {
        return Ok(());
    }
    match execute(words) {
        Ok(never) => match never {},
        Err(e) => Err(e),
    }
}

fn execute(mut words: impl Iterator<Item = OsString>) -> Result<Infallible, String> {
    let missing = || format!("{NAME}: a limit, a file and a name are missing");
    let mut word = || words.next().ok_or_else(missing);
    let (soft, path, name) = (word()?, word()?, word()?);
    let limit = with_soft(&soft, getrlimit(Resource::Nofile)).ok_or_else(missing)?;
    setrlimit(Resource::Nofile, limit)
        .map_err(|e| format!("cannot set the limit on open files: {}", reason(&e.into())))?;
    // As at each start, std gives the program SIGPIPE at its default and no blocked signals.
    let error = Command::new(path).arg0(&name).args(words).exec();
    Err(format!("cannot start {}: {}", name.to_string_lossy(), reason(&error)))
}

/// `limit` with this soft limit; `None` if the word is not valid.
fn with_soft(word: &OsStr, limit: Rlimit) -> Option<Rlimit> {
    let current = match word.to_str()? {
        UNLIMITED => None,
        number => Some(number.parse().ok()?),
    };
    Some(Rlimit { current, ..limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_start_is_one() {
        let words =
            |words: &[&str]| become_program(words.iter().map(OsString::from).collect::<Vec<_>>().into_iter());
        for others in [&[] as &[&str], &["scalesocket", "cat"], &["", NAME, "5", "/bin/true", "true"]] {
            assert!(words(others).is_ok(), "{others:?}");
        }
        for broken in [&[NAME] as &[&str], &[NAME, "5", "/bin/true"], &[NAME, "five", "/bin/true", "true"]] {
            assert!(words(broken).is_err_and(|error| error.contains("missing")), "{broken:?}");
        }
    }
}
