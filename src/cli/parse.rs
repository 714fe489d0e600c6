//! From words to arguments, driven by the table: which words are options, which is the program,
//! which are the program's own.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::arguments::{Arguments, Print, Shell};
use super::flags::{Default, Flag, Value, by_name, by_short, nearest};
use super::table::FLAGS;
use super::{Action, Environment, Failure, completions, help, man, meaning};

/// What the words after the program's own name ask for.
///
/// # Errors
/// [`Failure::Usage`] for what can be seen from the words alone, [`Failure::Start`] for a program
/// or directory that is not there.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Action, Failure> {
    let (arguments, program, rest) = match split(words).map_err(usage)? {
        Typed::Print(what) => return Ok(Action::Print(render(what))),
        Typed::Run(arguments, program, rest) => (arguments, program, rest),
    };
    Ok(Action::Run(Box::new(meaning::config(arguments, program, rest, environment)?)))
}

fn usage(reason: String) -> Failure {
    Failure::Usage(format!("{reason}\nusage: {}\n--help lists the options", help::SYNOPSIS))
}

fn render(what: Print) -> String {
    match what {
        Print::Help => help::render(),
        Print::Version => format!("scalesocket {}\n", env!("CARGO_PKG_VERSION")),
        Print::Man => man::render(),
        Print::Completions(Shell::Bash) => completions::bash(),
        Print::Completions(Shell::Zsh) => completions::zsh(),
        Print::Completions(Shell::Fish) => completions::fish(),
    }
}

/// What the words say, before the system is asked whether it has it.
#[derive(Debug)]
enum Typed {
    Print(Print),
    Run(Arguments, OsString, Vec<OsString>),
}

fn split(words: impl IntoIterator<Item = OsString>) -> Result<Typed, String> {
    let mut words = Words(pico_args::Arguments::from_vec(words.into_iter().collect()));
    let mut arguments = Arguments::default();
    let mut program = None;
    let mut rest = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            program = program.or_else(|| words.next());
            break;
        }
        // A dash alone is a name for standard input by custom, not an option.
        if word.as_bytes().starts_with(b"-") && word != "-" {
            option(&mut arguments, &word, &mut words, program.as_deref())?;
            if let Some(what) = arguments.print {
                return Ok(Typed::Print(what));
            }
        } else if program.is_none() {
            program = Some(word);
        } else {
            rest.push(word);
            break;
        }
    }
    rest.append(&mut words.0.finish());
    let program = program.ok_or("no program to serve")?;
    check_conflicts(&arguments)?;
    fill_in_defaults(&mut arguments)?;
    Ok(Typed::Run(arguments, program, rest))
}

/// The words that are left. pico-args keeps the list; its own splitting of `--option=value` is not
/// for us: it strips quotes from the value and takes neither an empty one (`--passenv=`) nor one
/// that is not UTF-8.
struct Words(pico_args::Arguments);

impl Words {
    fn next(&mut self) -> Option<OsString> {
        let word: Result<_, pico_args::Error> =
            self.0.opt_free_from_os_str(|word| Ok::<_, Infallible>(word.to_owned()));
        word.ok().flatten()
    }
}

/// Sets the option, or the cluster of short ones, that a word is; takes its value from the words.
fn option(
    arguments: &mut Arguments,
    word: &OsStr,
    words: &mut Words,
    program: Option<&OsStr>,
) -> Result<(), String> {
    let bytes = word.as_bytes();
    let (name, attached) = match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]))),
        None => (bytes, None),
    };
    let unknown = || unknown_option(word, OsStr::from_bytes(name), program);
    let name = std::str::from_utf8(name).map_err(|_| unknown())?;
    if let Some(long) = name.strip_prefix("--") {
        return set(arguments, by_name(long).ok_or_else(unknown)?, name, attached, words);
    }
    let shorts: Option<Vec<&Flag>> = name.chars().skip(1).map(by_short).collect();
    match shorts.as_deref().ok_or_else(unknown)? {
        [flag] => set(arguments, flag, name, attached, words),
        cluster => {
            // Whose value it would be is anybody's guess.
            if attached.is_some() || cluster.iter().any(|flag| flag.value.placeholder().is_some()) {
                return Err(unknown());
            }
            cluster.iter().try_for_each(|flag| set(arguments, flag, name, None, words))
        }
    }
}

fn unknown_option(word: &OsStr, name: &OsStr, program: Option<&OsStr>) -> String {
    let mut text = format!("unknown option {}", word.display());
    if let Some(meant) = name.to_str().and_then(nearest) {
        text += &format!(", did you mean --{meant}?");
    }
    if let Some(program) = program {
        text += &format!(
            "\nif it is meant for {0}, put -- before it: scalesocket {0} -- {1}",
            program.display(),
            word.display()
        );
    }
    text
}

/// Sets one flag. `typed` is how it was written, for errors.
fn set(
    arguments: &mut Arguments,
    flag: &'static Flag,
    typed: &str,
    attached: Option<&OsStr>,
    words: &mut Words,
) -> Result<(), String> {
    if arguments.gave(flag.name) && !flag.repeatable {
        return Err(format!("{typed} is given twice"));
    }
    arguments.given.push(flag.name);
    let Some(placeholder) = flag.value.placeholder() else {
        return match (flag.value, attached) {
            (Value::Switch(switch), None) => {
                switch(arguments);
                Ok(())
            }
            _ => Err(format!("{typed} takes no value")),
        };
    };
    let value = match attached {
        Some(value) => value.to_owned(),
        None if flag.equals_only => {
            return Err(format!("{typed} takes its value with an equals sign: {typed}={placeholder}"));
        }
        // Any word is a value here, one with a dash in front too.
        None => words.next().ok_or_else(|| format!("{typed} needs a value: {typed} {placeholder}"))?,
    };
    assign(arguments, flag, &value)
        .map_err(|reason| format!("{typed}: bad value {:?}: {reason}", value.display().to_string()))
}

fn assign(arguments: &mut Arguments, flag: &Flag, value: &OsStr) -> Result<(), String> {
    match flag.value {
        Value::Switch(switch) => {
            switch(arguments);
            Ok(())
        }
        Value::Text(_, set) | Value::Choice(_, set) => {
            set(arguments, value.to_str().ok_or("it must be UTF-8")?)
        }
        Value::Raw(_, set) | Value::Directory(_, set) => set(arguments, value),
    }
}

fn check_conflicts(arguments: &Arguments) -> Result<(), String> {
    let pairs = FLAGS.iter().flat_map(|flag| flag.conflicts.iter().map(|other| (flag.name, *other)));
    for (one, other) in pairs {
        if arguments.gave(one) && arguments.gave(other) {
            return Err(format!("--{one} and --{other} cannot be given together"));
        }
    }
    Ok(())
}

fn fill_in_defaults(arguments: &mut Arguments) -> Result<(), String> {
    for flag in FLAGS {
        if let Default::Value(text) = flag.default
            && !arguments.gave(flag.name)
        {
            assign(arguments, flag, OsStr::new(text))?;
        }
    }
    Ok(())
}
