//! From words to arguments, driven by the table: which words are options, which is the program,
//! which are the program's own.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use super::arguments::{Arguments, MessageFrame, Null, Print, Shell};
use super::flags::{Default, Flag, Value, by_name, by_short, nearest};
use super::table::FLAGS;
use super::{Action, Environment, Failure, completions, help, man, resolve};
use crate::recipe::Share;

/// What the words after the program's own name ask for.
///
/// # Errors
/// [`Failure::Usage`] for what can be seen from the words alone, [`Failure::Start`] for a program
/// or directory that is not there.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Action, Failure> {
    let (arguments, program, rest) = match split(words).map_err(|reason| usage(&reason))? {
        Typed::Print(what) => return Ok(Action::Print(render(what))),
        Typed::Run(arguments, program, rest) => (arguments, program, rest),
    };
    Ok(Action::Run(Box::new(resolve::config(
        *arguments,
        program.map(|program| (program, rest)),
        environment,
    )?)))
}

fn usage(reason: &str) -> Failure {
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
    Run(Box<Arguments>, Option<OsString>, Vec<OsString>),
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
    check_conflicts(&arguments)?;
    check_backend(&arguments, program.as_deref())?;
    fill_in_defaults(&mut arguments)?;
    Ok(Typed::Run(Box::new(arguments), program, rest))
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
    let shorts = shorts.as_deref().ok_or_else(unknown)?;
    if let Some(program) = program {
        return Err(short_behind_program(word, program));
    }
    match shorts {
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
        let _ = write!(text, ", did you mean --{meant}?");
    }
    if let Some(program) = program {
        text += &meant_for(program, word);
    }
    text
}

/// Programs have short options of these names too, and nothing tells whose one is.
fn short_behind_program(word: &OsStr, program: &OsStr) -> String {
    format!(
        "{0} stands behind {1}, where short options of scalesocket are not taken{2}\n\
         if it is meant for scalesocket, put it first: scalesocket {0} {1}",
        word.display(),
        program.display(),
        meant_for(program, word)
    )
}

fn meant_for(program: &OsStr, word: &OsStr) -> String {
    format!(
        "\nif it is meant for {0}, put -- before it: scalesocket {0} -- {1}",
        program.display(),
        word.display()
    )
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
        None if flag.bare.is_some() => flag.bare.unwrap_or_default().into(),
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
    for flag in FLAGS.iter().filter(|flag| arguments.gave(flag.name)) {
        if let Some(other) = flag.needs.iter().find(|other| !arguments.gave(other)) {
            return Err(format!("--{} needs --{other}", flag.name));
        }
    }
    // What depends on a value: packets know of no other notices and no other ends.
    let packets = |frame| frame == Some(MessageFrame::Gwsocket);
    let (frame, client, server) = (arguments.frame, arguments.client_frame, arguments.server_frame);
    for (meaningless, names) in [
        (packets(frame) || packets(client), ["joinmsg", "leavemsg"]),
        (packets(frame) || packets(server), ["delimiters", "null"]),
    ] {
        if let Some(name) = names.into_iter().find(|name| meaningless && arguments.gave(name)) {
            return Err(format!("--{name} means nothing with gwsocket's packets, which have their own"));
        }
    }
    if arguments.partial.is_some() && (packets(frame) || packets(server)) {
        return Err("--partial means nothing with gwsocket's packets".to_owned());
    }
    if arguments.null == Some(Null::Both) && (frame.is_some() || client.is_some() || arguments.json) {
        return Err(
            "--null=both means nothing with a frame, which says itself what ends a message".to_owned()
        );
    }
    Ok(())
}

/// Options that say something of a program that is started here.
const OF_PROGRAMS: [&str; 9] =
    ["tcp", "tcpports", "delay", "connecttimeout", "passenv", "cgienv", "stderr", "stopsignal", "exitend"];
/// Options that say how to talk to something outside of the server.
const OF_TALK: [&str; 12] = [
    "binary",
    "delimiters",
    "null",
    "partial",
    "clientframe",
    "serverframe",
    "input",
    "joinmsg",
    "leavemsg",
    "inputgrace",
    "grace",
    "maxline",
];

fn check_backend(arguments: &Arguments, program: Option<&OsStr>) -> Result<(), String> {
    let instead = match (arguments.relay, &arguments.connect) {
        (None, None) => return program.map(|_| ()).ok_or_else(|| "no program to serve".to_owned()),
        (Some(_), _) => "relay",
        (None, Some(_)) => "connect",
    };
    if let Some(program) = program {
        return Err(format!("--{instead} takes no program, and {} is given", program.display()));
    }
    let gave = |names: &[&'static str]| names.iter().copied().find(|name| arguments.gave(name));
    if let Some(name) = gave(&OF_PROGRAMS) {
        return Err(format!("--{name} means nothing without a program, and --{instead} starts none"));
    }
    if arguments.relay.is_none() {
        return Ok(());
    }
    if let Some(name) = gave(&OF_TALK) {
        return Err(format!("--{name} means nothing with --relay"));
    }
    if arguments.share == Some(Share::Client) {
        return Err("--share=client means nothing with --relay: clients would hear no others".to_owned());
    }
    match arguments.frame {
        None | Some(MessageFrame::Json) => Ok(()),
        Some(_) => Err("--relay takes no other frame than --frame=json".to_owned()),
    }
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Address, Config, Listen};
    use crate::framing::input::Input;
    use crate::framing::notices::Notices;
    use crate::framing::template::Template;

    pub(in super::super) fn words(line: &[&str]) -> Vec<OsString> {
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

    pub(in super::super) fn config(line: &[&str]) -> Config {
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
    fn the_programs_own_words_begin_where_ours_end() {
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
            (&["--", "-v", "x"], 0, "-v", &["x"]),
            (&["cat", "-"], 0, "cat", &["-"]),
            (&["cat", "-", "--nothing"], 0, "cat", &["-", "--nothing"]),
            (&["cat", ""], 0, "cat", &[""]),
            (&["cat", "--joinmsg", "--", "--", "x"], 0, "cat", &["x"]),
            (&["-vv", "-v", "cat"], 3, "cat", &[]),
        ] {
            match split(words(line)) {
                Ok(Typed::Run(arguments, found, rest)) => {
                    assert_eq!(arguments.verbose, verbose, "{line:?}");
                    assert_eq!(found.as_deref(), Some(OsStr::new(program)), "{line:?}");
                    assert_eq!(rest, words(own), "{line:?}");
                }
                other => panic!("{line:?}: {other:?}"),
            }
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
    fn quotes_in_a_value_are_the_values_own() {
        let config = config(&["--joinmsg=\"#ID\"", "--leavemsg='", "cat"]);
        let template = |text| Some(Template::parse(text));
        let (join, leave) = (template("\"#ID\""), template("'"));
        assert_eq!(config.recipe.notices, Notices::Templates { join, leave, input: Input::Lines });
    }

    #[test]
    fn what_is_wrong_is_said_with_the_option_and_the_mend() {
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
            (&["--relay", "--joinmsg=x"], &["--joinmsg means nothing with --relay"]),
            (&["--relay", "--share=client"], &["--share=client means nothing with --relay"]),
            (&["--relay", "--frame=gwsocket"], &["no other frame than --frame=json"]),
            (&["--frame=gwsocket", "--partial=5", "cat"], &["--partial means nothing"]),
            (&["-b", "--partial=5", "cat"], &["--partial and --binary cannot"]),
            (&["--json", "--null=both", "cat"], &["--null=both means nothing"]),
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
    fn what_the_system_does_not_have_is_no_usage_error() {
        for (line, part) in [
            (&["no-such-program-anywhere"] as &[&str], "not found in PATH"),
            (&["--staticdir=/no/such", "cat"], "/no/such"),
            (&["--staticdir=/dev/null", "cat"], "not a directory"),
            (&[""], "without a name"),
        ] {
            let failure = parse(words(line), &environment()).expect_err("nothing to start");
            assert_eq!(failure.status(), 1, "{line:?}");
            assert!(failure.to_string().contains(part), "{line:?}: {failure}");
        }
    }

    #[test]
    fn what_can_be_printed_needs_no_program() {
        for (line, beginning) in [
            (&["--help"] as &[&str], "usage: scalesocket"),
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
