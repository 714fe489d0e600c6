//! The command line: parses it into a [`Config`], or into text for standard output.
//!
//! [`table`] is the list of options for parser, help, man page and completions. Nothing here prints, exits or reads the
//! environment of the process; the caller does.

mod addresses;
mod answer;
mod completions;
mod draft;
mod environment;
mod failure;
mod flag;
#[cfg(feature = "websocketd")]
mod go_flags;
mod help;
mod lookup;
mod man;
mod parse;
mod path;
mod program;
mod resolve;
mod table;
mod values;
#[cfg(feature = "websocketd")]
mod websocketd;

use std::ffi::{OsStr, OsString};
use std::path::Path;

pub use self::answer::Answer;
pub use self::environment::Environment;
pub use self::failure::Failure;

use self::draft::Draft;
use self::table::TABLE;
use crate::config::{Config, FaceKind, Level};

#[derive(Debug)]
pub enum Action {
    Run(Box<Config>),
    /// Print this on standard output and exit. Ends in a newline.
    Print(String),
}

/// The name that makes the binary websocketd; the option `--websocketd` does so too.
const WEBSOCKETD: &str = "websocketd";

/// Parses a whole command line, the name of the program included. The error is what to print.
pub fn command_line(
    words: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Box<Config>, Answer> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let name = words.first().and_then(|name| Path::new(name).file_name()).unwrap_or_default().to_owned();
    let is_named = name == WEBSOCKETD;
    let mut own = if words.is_empty() { words } else { words.split_off(1) };
    if is_named || own.first().is_some_and(|word| word == "--websocketd") {
        if !is_named {
            own.remove(0);
        }
        return as_websocketd(&name, own, environment);
    }
    match parse(own, environment) {
        Ok(Action::Run(config)) => Ok(config),
        Ok(Action::Print(out)) => Err(Answer { out, ..Answer::default() }),
        Err(failure) => Err(error(&failure, failure.status())),
    }
}

#[cfg(feature = "websocketd")]
fn as_websocketd(
    name: &OsStr,
    words: Vec<OsString>,
    environment: &Environment,
) -> Result<Box<Config>, Answer> {
    websocketd::parse(&name.to_string_lossy(), words, environment)
}

#[cfg(not(feature = "websocketd"))]
fn as_websocketd(_: &OsStr, _: Vec<OsString>, _: &Environment) -> Result<Box<Config>, Answer> {
    Err(error(&"this build cannot work as websocketd: it lacks the Cargo feature websocketd", 1))
}

/// What to print when the server of this face could not start.
pub fn cannot_start(face: &FaceKind, level: Level, reason: &str) -> Answer {
    match face {
        #[cfg(feature = "websocketd")]
        FaceKind::Websocketd(_) => websocketd::cannot_start(level, reason),
        _ => {
            let _ = level;
            error(&reason, 1)
        }
    }
}

fn error(reason: &dyn std::fmt::Display, status: u8) -> Answer {
    Answer { err: format!("scalesocket: {reason}\n"), status, ..Answer::default() }
}

/// Parses the words after the name of the program.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Action, Failure> {
    let parsed = parse::parse(TABLE, Draft::new(), words).map_err(Failure::Usage)?;
    if parsed.gave(WEBSOCKETD) {
        return Err(Failure::Usage("--websocketd must be the first argument".to_owned()));
    }
    match parsed.draft.print {
        Some(print) => Ok(Action::Print(print(TABLE))),
        None => Ok(Action::Run(Box::new(resolve::config(parsed, environment)?))),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::config::{Address, Level, Listen};
    use crate::framing::input::Input;
    use crate::framing::notices::Notices;
    use crate::framing::template::Template;

    pub(super) fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    fn environment() -> Environment {
        let raw = OsStr::from_bytes(b"/opt/\xff").to_owned();
        Environment::new([
            ("PATH".into(), "/bin:/usr/bin".into()),
            ("LD_LIBRARY_PATH".into(), raw),
            ("HOME".into(), "/root".into()),
            ("ROOM".into(), "not dropped here".into()),
        ])
    }

    pub(super) fn config(line: &[&str]) -> Config {
        match parse(words(line), &environment()) {
            Ok(Action::Run(config)) => *config,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn usage_error(line: &[&str]) -> String {
        let failure = parse(words(line), &environment()).expect_err(&line.join(" "));
        assert_eq!(failure.status(), 2, "{line:?}: {failure}");
        failure.to_string()
    }

    #[test]
    fn arguments_of_the_program_are_not_options() {
        for (line, verbose, program, own) in [
            (&["cat"] as &[&str], 0, "cat", &[] as &[&str]),
            (&["cat", "a", "b"], 0, "cat", &["a", "b"]),
            (&["-v", "cat", "a", "-v"], 1, "cat", &["a", "-v"]),
            (&["cat", "--verbose", "a", "-v"], 1, "cat", &["a", "-v"]),
            (&["-v", "cat", "--verbose", "--", "-v"], 2, "cat", &["-v"]),
            (&["cat", "--", "--", "-v"], 0, "cat", &["--", "-v"]),
            (&["cat", "a", "--", "b"], 0, "cat", &["a", "--", "b"]),
            (&["cat", "--"], 0, "cat", &[]),
            (&["--", "cat", "-v"], 0, "cat", &["-v"]),
            (&["-v", "--", "cat", "--", "x"], 1, "cat", &["--", "x"]),
            (&["cat", "-"], 0, "cat", &["-"]),
            (&["cat", "-", "--nothing"], 0, "cat", &["-", "--nothing"]),
            (&["cat", ""], 0, "cat", &[""]),
            (&["cat", "--joinmsg", "--", "--", "x"], 0, "cat", &["x"]),
            (&["-vv", "-v", "cat"], 2, "cat", &[]),
        ] {
            let config = config(line);
            let found = config.recipe.program().expect("a program");
            assert_eq!(config.log.level, [Level::Info, Level::Debug, Level::Trace][verbose], "{line:?}");
            assert_eq!((&*found.name, &*found.arguments), (OsStr::new(program), &*words(own)), "{line:?}");
        }
    }

    #[test]
    fn words_and_paths_need_not_be_utf8_but_other_values_do() {
        let raw = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        let line = [raw(b"--addr=unix:/\xfe"), raw(b"cat"), raw(b"--"), raw(b"-\xff")];
        let Ok(Action::Run(config)) = parse(line, &environment()) else { panic!("refused") };
        assert_eq!(config.recipe.program().expect("a program").arguments, [raw(b"-\xff")]);
        assert_eq!(
            config.listen,
            Listen::Addresses(vec![Address::Unix { path: raw(b"/\xfe").into(), mode: None }])
        );
        for line in [[raw(b"--joinmsg=\xff"), raw(b"cat")], [raw(b"--\xff"), raw(b"cat")]] {
            assert_eq!(parse(line, &environment()).expect_err("not UTF-8").status(), 2);
        }
        let failure = parse([raw(b"/no/\xff")], &environment()).expect_err("not there");
        assert_eq!(failure.status(), 1, "{failure}");
    }

    #[test]
    fn quotes_in_a_value_are_part_of_it() {
        let config = config(&["--joinmsg=\"#ID\"", "--leavemsg='", "cat"]);
        let template = |text| Some(Template::parse(text));
        let (join, leave) = (template("\"#ID\""), template("'"));
        assert_eq!(config.recipe.notices, Notices::Templates { join, leave, input: Input::Lines });
    }

    #[test]
    fn an_error_names_the_option_and_the_correction() {
        for (line, parts) in [
            (&[] as &[&str], &["no program", "usage: scalesocket"] as &[&str]),
            (&["-v"], &["no program"]),
            (&["--"], &["no program"]),
            (&["--bianry", "cat"], &["unknown option --bianry", "did you mean --binary?"]),
            (&["-addr", ":1", "cat"], &["unknown option -addr", "did you mean --addr?"]),
            (&["-x", "cat"], &["unknown option -x"]),
            (&["--frame=gwsocket", "--joinmsg=x", "cat"], &["--joinmsg means nothing"]),
            (&["--clientframe=gwsocket", "--leavemsg=x", "cat"], &["--leavemsg means nothing"]),
            (&["--serverframe=gwsocket", "--null", "cat"], &["--null means nothing"]),
            (&["--tcpports=1:2", "cat"], &["--tcpports needs --tcp"]),
            (
                &["--tcp", "--tcpports=1:2", "--maxrooms=3", "cat"],
                &["--tcpports and --maxrooms cannot be given together"],
            ),
            (&["--tcp", "--tcpports=1:2", "--maxforks=3", "cat"], &["--tcpports and --maxrooms cannot"]),
            (&["--json", "--frame=json", "cat"], &["--json and --frame cannot be given together"]),
            (&["-vx", "cat"], &["unknown option -vx"]),
            (&["-b=1", "cat"], &["-b takes no value"]),
            (&["-bv=1", "cat"], &["unknown option -bv=1"]),
            (&["--bianry=1", "cat"], &["unknown option --bianry=1", "--binary?"]),
            (&["--=1", "cat"], &["unknown option --=1"]),
            (
                &["grep", "-v", "x"],
                &["put -- before it: scalesocket grep -- -v", "first: scalesocket -v grep"],
            ),
            (&["sort", "-b"], &["scalesocket sort -- -b"]),
            (&["df", "-h"], &["scalesocket df -- -h"]),
            (&["sort", "-V"], &["scalesocket sort -- -V"]),
            (&["-v", "cat", "--api", "-vb"], &["scalesocket cat -- -vb"]),
            (&["tail", "-f", "x"], &["unknown option -f", "put -- before it: scalesocket tail -- -f"]),
            (&["--binary=yes", "cat"], &["--binary takes no value"]),
            (&["--delimiters", ",", "cat"], &["equals sign: --delimiters=CHARS"]),
            (&["--delimiters=", "cat"], &["--delimiters: bad value \"\"", "at least one"]),
            (&["--addr"], &["--addr needs a value: --addr ADDRESS"]),
            (&["--slow"], &["--slow disconnect|drop|block"]),
            (&["--slow=fast", "cat"], &["--slow", "\"fast\"", "disconnect, drop, block"]),
            (&["--ping=-1", "cat"], &["--ping: bad value \"-1\"", "seconds from 0"]),
            (&["--handshaketimeout=0", "cat"], &["--handshaketimeout", "more than 0"]),
            (&["--maxmessage=2g", "cat"], &["--maxmessage", "1 to 1g"]),
            (&["--maxclients=0", "cat"], &["--maxclients", "at least 1"]),
            (&["--completions=tcsh"], &["--completions", "bash, zsh, fish"]),
            (&["--joinmsg=a", "--joinmsg=a", "cat"], &["--joinmsg is given twice"]),
            (&["-b", "--binary", "cat"], &["--binary is given twice"]),
            (&["-bb", "cat"], &["-bb is given twice"]),
            (&["-b", "--null", "cat"], &["--binary and --null cannot"]),
            (&["-b", "--delimiters=,", "cat"], &["--binary and --delimiters cannot"]),
            (&["--addr=:1", "--inetd", "cat"], &["--inetd and --addr cannot"]),
            (&["--relay", "cat"], &["--relay takes no program", "cat is given"]),
            (&["--connect", "cat"], &["--connect: bad value \"cat\""]),
            (&["--connect=:1", "cat"], &["--connect"]),
            (&["--connect=a:1", "cat"], &["--connect takes no program"]),
            (&["--relay", "--connect=a:1"], &["--relay and --connect cannot"]),
            (&["--relay", "--tcp"], &["--tcp means nothing without a program"]),
            (&["--connect=a:1", "--stderr=log"], &["--stderr means nothing without a program"]),
            (&["--relay", "--maxline=9"], &["--maxline means nothing with --relay"]),
            (&["--relay", "--share=client"], &["--share=client means nothing with --relay"]),
            (&["--relay", "--frame=gwsocket"], &["--frame means nothing with --relay, except --frame=json"]),
            (
                &["--rooms=a", "--defaultroom=b", "cat"],
                &["--defaultroom b is not one of those that --rooms allows"],
            ),
            (&[""], &["the program's name is empty"]),
            (&["--frame", "json", "cat"], &["--frame takes its value with an equals sign: --frame=json"]),
            (&["--metrics", "rooms", "cat"], &["equals sign: --metrics=rooms"]),
            (&["--relay", "all"], &["equals sign: --relay=all"]),
            (&["--frame=gwsocket", "--partial=5", "cat"], &["--partial means nothing"]),
            (&["-b", "--partial=5", "cat"], &["--partial and --binary cannot"]),
            (&["--json", "--null=both", "cat"], &["--null=both means nothing with a frame"]),
            (&["-q", "-v", "cat"], &["--quiet and --verbose cannot"]),
            (&["--defaultroom=api", "cat"], &["--defaultroom", "reserved"]),
            (&["--header=Upgrade: x", "cat"], &["--header", "the server itself"]),
        ] {
            let error = usage_error(line);
            for part in parts {
                assert!(error.contains(part), "{line:?}: {part:?} is not in {error:?}");
            }
        }
        assert!(!usage_error(&["-x", "cat"]).contains("put --"), "before the program -- is no help");
    }

    #[test]
    fn a_missing_program_or_directory_is_not_a_usage_error() {
        for (line, part) in [
            (&["no-such-program-anywhere"] as &[&str], "not found in PATH"),
            (&["--", "-v", "x"], "cannot run -v: not found in PATH"),
            (&["--staticdir=/no/such", "cat"], "/no/such"),
            (&["--staticdir=/dev/null", "cat"], "not a directory"),
        ] {
            let failure = parse(words(line), &environment()).expect_err("nothing to start");
            assert_eq!(failure.status(), 1, "{line:?}");
            assert!(failure.to_string().contains(part), "{line:?}: {failure}");
        }
    }

    #[test]
    fn help_version_man_page_and_completions_need_no_program() {
        for (line, beginning) in [
            (&["--help"] as &[&str], "usage: scalesocket [OPTIONS] CMD [ARGS...]\n\nServes"),
            (&["-h"], "usage: scalesocket"),
            (&["-vh"], "usage: scalesocket"),
            (&["cat", "--help"], "usage: scalesocket"),
            (&["-V"], concat!("scalesocket ", env!("CARGO_PKG_VERSION"), "\n")),
            (&["--version", "--nonsense"], "scalesocket "),
            (&["--man"], ".Dd "),
            (&["--completions", "bash"], "# bash"),
            (&["--completions=zsh"], "#compdef"),
            (&["--completions=fish"], "complete -c scalesocket"),
        ] {
            match parse(words(line), &Environment::default()) {
                Ok(Action::Print(text)) => {
                    assert!(text.starts_with(beginning) && text.ends_with('\n'), "{line:?}: {text}");
                }
                other => panic!("{line:?}: {other:?}"),
            }
        }
        assert_eq!(
            config(&["cat", "--", "--help"]).recipe.program().expect("a program").arguments,
            words(&["--help"])
        );
    }
}
