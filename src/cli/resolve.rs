//! From what was typed to what it means: finds the program, reads the variables, builds a `Config`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::arguments::{Arguments, MessageFrame, Null};
use super::program::{why_not_permitted, why_not_runnable};
use super::{Environment, Failure};
use crate::config::{Config, Level, Limits, Listen, LogConfig, Times};
use crate::framing::Framing;
use crate::framing::input::Input;
use crate::framing::notices::Notices;
use crate::framing::output::Output;
use crate::framing::template::Template;
use crate::recipe::{Backend, HistoryOptions, Program, Recipe, RoomTimes, Share, Step, TcpOptions};
use crate::sys::reason;

/// Where programs are looked for when `PATH` is not set, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Builds the configuration of a run.
pub(super) fn config(
    arguments: Arguments,
    program: Option<(OsString, Vec<OsString>)>,
    environment: &Environment,
) -> Result<Config, Failure> {
    if let Some(directory) = &arguments.static_dir {
        check_directory(directory)?;
    }
    let level = match arguments.verbose {
        _ if arguments.quiet => Level::Warn,
        0 => Level::Info,
        1 => Level::Debug,
        _ => Level::Trace,
    };
    let framing = framing(&arguments);
    let notices = match framing.input {
        Input::Gwsocket => Notices::Gwsocket,
        Input::Relay { .. } => Notices::Templates { join: None, leave: None, input: framing.input },
        input => {
            let template = |given, kind| notice(given, arguments.json, kind).as_deref().map(Template::parse);
            Notices::Templates {
                join: template(arguments.join_message.clone(), "Join"),
                leave: template(arguments.leave_message.clone(), "Leave"),
                input,
            }
        }
    };
    let share = if arguments.connect.is_some() { Share::Client } else { Share::Room };
    let recipe = Recipe {
        share: arguments.share.unwrap_or(share),
        backend: backend(&arguments, program, environment)?,
        framing,
        incoming: arguments.incoming,
        notices,
        history: HistoryOptions { keep: arguments.cache, persist: arguments.cache_persist },
        slow: arguments.slow,
        max_line: arguments.max_line,
        max_queue: arguments.max_queue,
        times: RoomTimes {
            linger: arguments.linger,
            patience: arguments.patience,
            ping: unless_zero(arguments.ping),
        },
        stop: vec![
            Step { wait: arguments.input_grace, signal: arguments.stop_signal },
            Step { wait: arguments.grace, signal: Signal::KILL.as_raw() },
        ],
    };
    Ok(Config {
        recipe: Arc::new(recipe),
        listen: if arguments.inetd { Listen::Inetd } else { Listen::Addresses(arguments.addresses) },
        limits: Limits {
            message: arguments.max_message,
            clients: arguments.max_clients,
            rooms: arguments.max_rooms,
            room_clients: arguments.max_room_clients,
            address_clients: arguments.max_address_clients,
        },
        times: Times {
            handshake: arguments.handshake_timeout,
            ping: unless_zero(arguments.ping),
            idle: unless_zero(arguments.idle),
        },
        rooms: arguments.rooms,
        oneshot: arguments.oneshot,
        base: arguments.base,
        default_room: arguments.default_room,
        exit_idle: arguments.exit_idle,
        exit_end: arguments.exit_end,
        headers: arguments.headers,
        warnings: Vec::new(),
        api: arguments.api,
        metrics: arguments.metrics,
        origin: arguments.origin,
        protocols: arguments.protocols,
        static_dir: arguments.static_dir,
        log: LogConfig { format: arguments.log, level },
    })
}

fn backend(
    arguments: &Arguments,
    program: Option<(OsString, Vec<OsString>)>,
    environment: &Environment,
) -> Result<Backend, Failure> {
    let Some((name, program_arguments)) = program else {
        return Ok(match &arguments.connect {
            Some(destination) => Backend::Connect(destination.clone()),
            None => Backend::Relay { to_sender: arguments.relay == Some(true) },
        });
    };
    let passed: Vec<(OsString, OsString)> = arguments
        .pass_environment
        .iter()
        .filter_map(|name| environment.get(name).map(|value| (OsString::from(name), value.to_owned())))
        .collect();
    let path = find_program(&name, environment.get("PATH"))?;
    let passes_path = passed.iter().any(|(name, _)| name == "PATH");
    if let Some(reason) = why_not_runnable(&path, environment.get("PATH").filter(|_| passes_path)) {
        return Err(Failure::Start(format!("cannot run {}: {reason}", path.display())));
    }
    let program = Program {
        name,
        path,
        arguments: program_arguments,
        passed,
        cgi_environment: arguments.cgi_environment,
        stderr: arguments.stderr,
        delay: arguments.delay,
    };
    Ok(match &arguments.tcp_ports {
        Some(ports) if arguments.tcp => Backend::Tcp(
            program,
            TcpOptions { ports: ports.clone(), connect_timeout: arguments.connect_timeout },
        ),
        _ => Backend::Stdio(program),
    })
}

fn unless_zero(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

fn framing(arguments: &Arguments) -> Framing {
    let both = if arguments.json { Some(MessageFrame::Json) } else { arguments.frame };
    if let Some(to_sender) = arguments.relay {
        let json = both.is_some();
        return Framing {
            output: Output::Relay { to_sender, json },
            input: Input::Relay { json },
            partial: None,
        };
    }
    let partial = arguments.partial;
    let room = arguments.share == Some(Share::Server);
    let input = match both.or(arguments.client_frame) {
        Some(MessageFrame::Json) => Input::Json { room },
        Some(MessageFrame::Jsonl) => Input::Jsonl,
        Some(MessageFrame::Gwsocket) => Input::Gwsocket,
        Some(MessageFrame::Lsp) => Input::Lsp,
        None if arguments.binary => Input::Raw,
        None if arguments.null == Some(Null::Both) => Input::Nul,
        None => Input::Lines,
    };
    let json = match both.or(arguments.server_frame) {
        Some(MessageFrame::Gwsocket) => return Framing { output: Output::Gwsocket, input, partial },
        Some(MessageFrame::Jsonl) => return Framing { output: Output::Jsonl, input, partial },
        Some(MessageFrame::Lsp) => return Framing { output: Output::Lsp, input, partial },
        Some(MessageFrame::Json) => true,
        None if arguments.binary => return Framing { output: Output::Chunks, input, partial },
        None => false,
    };
    let mut delimiters = arguments.delimiters.clone();
    if arguments.null.is_some() {
        if !arguments.gave("delimiters") {
            delimiters.clear();
        }
        if !delimiters.contains(&0) {
            delimiters.push(0);
        }
    }
    let strip_cr = delimiters == b"\n";
    Framing { output: Output::Delimited { delimiters, strip_cr, json, room }, input, partial }
}

/// What is written of a client that comes or goes: with `--json` there is something even if nothing was
/// asked for, but never in the middle of gwsocket's packets.
fn notice(given: Option<String>, json: bool, kind: &str) -> Option<String> {
    given.or_else(|| json.then(|| format!("{{\"t\":\"{kind}\",\"_from\":#ID}}")))
}

fn check_directory(directory: &Path) -> Result<(), Failure> {
    let reason = match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "not a directory".to_owned(),
        Err(error) => reason(&error),
    };
    Err(Failure::Start(format!("cannot serve files from {}: {reason}", directory.display())))
}

/// The file to execute. Looked for once, here: at each start of the program it would cost an
/// execve(2) for each directory of `PATH`.
fn find_program(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let refused = |reason: &str| Failure::Start(format!("cannot run {}: {reason}", name.display()));
    if name.is_empty() {
        return Err(Failure::Start("cannot run a program without a name".to_owned()));
    }
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match why_not_permitted(&path) {
            None => Ok(path),
            Some(reason) => Err(refused(&reason)),
        };
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut nearly = None;
    for directory in std::env::split_paths(path) {
        // An empty element is the current directory. The result must have a slash, or whoever
        // executes it looks it up in `PATH` once more.
        let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
        let candidate = directory.join(name);
        if !candidate.is_file() {
            continue;
        }
        match why_not_permitted(&candidate) {
            None => return Ok(candidate),
            Some(reason) => {
                nearly.get_or_insert(format!("{}: {reason}", candidate.display()));
            }
        }
    }
    Err(refused(&nearly.unwrap_or_else(|| {
        let here = Path::new(".").join(name);
        if here.is_file() {
            format!("not found in PATH; there is {} here", here.display())
        } else {
            "not found in PATH".to_owned()
        }
    })))
}

#[cfg(test)]
mod tests {
    fn lines(set: &[u8], strip_cr: bool) -> Framing {
        let output = Output::Delimited { delimiters: set.to_vec(), strip_cr, json: false, room: false };
        Framing { output, input: Input::Lines, partial: None }
    }

    use std::net::SocketAddr;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::parse::tests::{config as meant, words};
    use super::*;
    use crate::config::{Address, LogFormat, Origin, Subprotocols};
    use crate::recipe::{Destination, Incoming, Slow, Stderr};

    fn notices(join: Option<&str>, leave: Option<&str>, input: Input) -> Notices {
        Notices::Templates { join: join.map(Template::parse), leave: leave.map(Template::parse), input }
    }

    /// A directory of its own for a test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("scalesocket-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory to write in");
            Self(path)
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("a directory to write in");
            std::fs::write(&path, "#!/bin/sh\n").expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn text(result: Result<PathBuf, Failure>) -> String {
        let failure = result.expect_err("nothing to run");
        assert_eq!(failure.status(), 1);
        failure.to_string()
    }

    #[test]
    fn a_program_is_the_first_executable_file_of_its_name_in_path() {
        let scratch = Scratch::new("path");
        let dull = scratch.file("a/tool", 0o644);
        let sharp = scratch.file("b/tool", 0o755);
        scratch.file("c/tool", 0o755);
        std::fs::create_dir_all(scratch.0.join("d/tool")).expect("a directory");
        let path = |names: &[&str]| {
            std::env::join_paths(names.iter().map(|name| scratch.0.join(name))).expect("no colon inside")
        };
        let tool = OsStr::new("tool");

        assert_eq!(find_program(tool, Some(&path(&["none", "d", "a", "b", "c"]))), Ok(sharp.clone()));
        let error = text(find_program(tool, Some(&path(&["a"]))));
        assert!(error.contains(&dull.display().to_string()) && error.contains("chmod"), "{error}");
        assert!(text(find_program(tool, Some(&path(&["d"])))).contains("not found in PATH"));
        assert!(text(find_program(tool, Some(OsStr::new("")))).contains("not found in PATH"));
        assert!(text(find_program(OsStr::new(""), Some(&path(&["b"])))).contains("without a name"));

        assert_eq!(find_program(sharp.as_os_str(), None), Ok(sharp), "a slash: taken as it is");
        assert!(text(find_program(dull.as_os_str(), None)).contains("may not be executed"));
        assert!(text(find_program(scratch.0.as_os_str(), None)).contains("is a directory"));
        assert!(text(find_program(OsStr::new("/dev/null"), None)).contains("not a regular file"));
        assert!(text(find_program(OsStr::new("./no such"), None)).contains("No such file"));
    }

    #[test]
    fn without_path_the_usual_places_are_searched() {
        let found = find_program(OsStr::new("sh"), None).expect("every system has sh");
        assert!(found.is_absolute(), "{}", found.display());
    }

    #[test]
    fn an_empty_element_of_path_gives_a_name_with_a_slash() {
        // Tests run in the package's directory; a file there that is no program shows the name.
        let error = text(find_program(OsStr::new("Cargo.toml"), Some(OsStr::new("/nowhere::/nowhere"))));
        assert!(error.contains("./Cargo.toml: it may not be executed"), "{error}");
        let error = text(find_program(OsStr::new("Cargo.toml"), Some(OsStr::new("/nowhere"))));
        assert!(error.ends_with("not found in PATH; there is ./Cargo.toml here"), "{error}");
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let config = meant(&["cat"]);
        let any: SocketAddr = "0.0.0.0:9000".parse().expect("an address");
        let program = config.recipe.program().expect("a program");
        assert_eq!(config.listen, Listen::Addresses(vec![Address::Tcp(any)]));
        assert_eq!(program.name, "cat");
        assert!(program.path.ends_with("cat") && program.path.is_absolute());
        assert_eq!(program.arguments, words(&[]));
        assert_eq!(
            program.passed,
            [
                ("PATH".into(), "/bin:/usr/bin".into()),
                ("LD_LIBRARY_PATH".into(), OsStr::from_bytes(b"/opt/\xff").to_owned()),
            ],
            "set ones only, bytes unchanged"
        );
        assert!(!program.cgi_environment);
        assert_eq!(program.stderr, Stderr::Inherit);
        assert_eq!(config.recipe.stop[0].signal, rustix::process::Signal::TERM.as_raw());
        assert_eq!(config.recipe.framing, lines(b"\n", true));
        assert_eq!(config.recipe.notices, notices(None, None, Input::Lines));
        assert_eq!(
            (config.limits.message, config.recipe.max_line, config.recipe.max_queue),
            (1 << 20, 16 << 20, 4 << 20)
        );
        assert_eq!(config.limits.clients, None);
        assert_eq!(config.times.handshake, Duration::from_secs(10));
        assert_eq!(config.times.ping, Some(Duration::from_secs(20)));
        assert_eq!(config.times.idle, None);
        assert_eq!(config.recipe.times.linger, Duration::ZERO);
        assert_eq!(config.recipe.stop[1].wait, Duration::from_secs(3));
        assert_eq!(config.recipe.times.patience, Duration::from_secs(2));
        assert_eq!(config.recipe.slow, Slow::Disconnect);
        assert_eq!(config.recipe.incoming, Incoming::Pass);
        assert_eq!((config.origin, config.protocols), (Origin::SameHost, Subprotocols::Any));
        assert_eq!(config.static_dir, None);
        assert_eq!(config.log, LogConfig { format: LogFormat::Text, level: Level::Info });
    }

    #[test]
    fn every_option_arrives_where_it_belongs() {
        let config = meant(&[
            "--addr=:1",
            "--addr",
            "unix:/tmp/x",
            "--joinmsg",
            "--log",
            "--leavemsg=",
            "--maxmessage=2k",
            "--maxline=3k",
            "--passenv=HOME,NONE,ROOM",
            "--cgienv",
            "--stderr=log",
            "--linger=1.5",
            "--grace",
            "0.5",
            "--stopsignal=KILL",
            "--origin=*",
            "--protocol=chat,mcp",
            "--input=discard",
            "--maxclients=7",
            "--maxqueue=1",
            "--slow=block",
            "--patience=4",
            "--handshaketimeout=5",
            "--ping=0",
            "--idle=6",
            "--staticdir=/tmp",
            "--log=json",
            "-vvv",
            "cat",
        ]);
        let program = config.recipe.program().expect("a program");
        let unix = Address::Unix { path: "/tmp/x".into(), mode: None };
        assert_eq!(config.listen, Listen::Addresses(vec![Address::Any(1), unix]));
        let any_word = notices(Some("--log"), Some(""), Input::Lines);
        assert_eq!(config.recipe.notices, any_word, "any word is a value");
        assert_eq!(
            program.passed,
            [("HOME".into(), "/root".into()), ("ROOM".into(), "not dropped here".into())]
        );
        assert!(program.cgi_environment);
        assert_eq!(program.stderr, Stderr::Log);
        assert_eq!(config.recipe.stop[0].signal, rustix::process::Signal::KILL.as_raw());
        assert_eq!((config.limits.message, config.recipe.max_line, config.recipe.max_queue), (2048, 3072, 1));
        assert_eq!(config.limits.clients, Some(7));
        assert_eq!(config.recipe.times.linger, Duration::from_millis(1500));
        assert_eq!(config.recipe.stop[1].wait, Duration::from_millis(500));
        assert_eq!(config.recipe.times.patience, Duration::from_secs(4));
        assert_eq!(config.times.handshake, Duration::from_secs(5));
        assert_eq!((config.times.ping, config.times.idle), (None, Some(Duration::from_secs(6))));
        assert_eq!((config.recipe.slow, config.origin), (Slow::Block, Origin::Any));
        assert_eq!(config.recipe.incoming, Incoming::Discard);
        assert_eq!(config.protocols, Subprotocols::Listed(vec!["chat".into(), "mcp".into()]));
        assert_eq!(config.static_dir.as_deref(), Some("/tmp".as_ref()));
        assert_eq!(config.log, LogConfig { format: LogFormat::Json, level: Level::Trace });
        assert_eq!(meant(&["--inetd", "cat"]).listen, Listen::Inetd);
        assert_eq!(meant(&["--passenv=", "cat"]).recipe.program().expect("a program").passed, []);
        assert_eq!(meant(&["--passenv", "", "cat"]).recipe.program().expect("a program").passed, []);
    }

    #[test]
    fn a_relay_and_an_address_take_the_place_of_a_program() {
        let relay = meant(&["--relay"]).recipe;
        assert!(matches!(relay.backend, Backend::Relay { to_sender: false }) && relay.share == Share::Room);
        let framing = |to_sender, json| Framing {
            output: Output::Relay { to_sender, json },
            input: Input::Relay { json },
            partial: None,
        };
        assert_eq!(relay.framing, framing(false, false));
        assert_eq!(meant(&["--relay=all", "--json"]).recipe.framing, framing(true, true));
        assert_eq!(meant(&["--relay", "--frame=json"]).recipe.framing, framing(false, true));
        let connect = meant(&["--connect", "localhost:6600"]).recipe;
        let Backend::Connect(destination) = &connect.backend else { panic!("{:?}", connect.backend) };
        assert_eq!(*destination, Destination::Tcp(([127, 0, 0, 1], 6600).into()));
        assert_eq!(connect.share, Share::Client);
        assert_eq!(meant(&["--connect=unix:/x", "--share=room"]).recipe.share, Share::Room);
        assert_eq!(meant(&["--share=server", "cat"]).recipe.share, Share::Server);
    }

    #[test]
    fn the_later_options_arrive_where_they_belong() {
        let config = meant(&[
            "--defaultroom=lobby",
            "--base=/a/b/",
            "--header=X-A: 1",
            "--header-ws",
            "X-B:2",
            "--header-http=X-C:",
            "--exitidle=60",
            "--exitend",
            "-q",
            "--passenv",
            "+HOME,PATH",
            "--partial=50",
            "--null=both",
            "cat",
        ]);
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(config.default_room.as_deref(), Some("lobby"));
        assert_eq!(config.base, "/a/b");
        assert_eq!(config.headers.http, [field("X-A", "1"), field("X-C", "")]);
        assert_eq!(config.headers.ws, [field("X-A", "1"), field("X-B", "2")]);
        assert_eq!((config.exit_idle, config.exit_end), (Some(Duration::from_secs(60)), true));
        assert_eq!(config.log.level, Level::Warn);
        let program = config.recipe.program().expect("a program");
        let names: Vec<_> = program.passed.iter().map(|(name, _)| name.to_str()).collect();
        assert_eq!(names, [Some("PATH"), Some("LD_LIBRARY_PATH"), Some("HOME")]);
        let framing = &config.recipe.framing;
        assert_eq!((framing.partial, framing.input), (Some(Duration::from_millis(50)), Input::Nul));
        assert_eq!(meant(&["cat"]).base, "");
        for (frame, output, input) in
            [("jsonl", Output::Jsonl, Input::Jsonl), ("lsp", Output::Lsp, Input::Lsp)]
        {
            let framing = meant(&[&format!("--frame={frame}"), "cat"]).recipe.framing.clone();
            assert_eq!(framing, Framing { output, input, partial: None });
        }
    }

    #[test]
    fn null_and_delimiters_make_one_set() {
        for (line, set, strips) in [
            (&["--null", "cat"] as &[&str], b"\0" as &[u8], false),
            (&["--delimiters=,", "cat"], b",", false),
            (&["--delimiters=,", "--null", "cat"], b",\0", false),
            (&["--null", r"--delimiters=\n", "cat"], b"\n\0", false),
            (&[r"--delimiters=\0", "--null", "cat"], b"\0", false),
            (&[r"--delimiters=\n", "cat"], b"\n", true),
            (&[r"--delimiters=\n,", "cat"], b"\n,", false),
        ] {
            let framing = lines(set, strips);
            assert_eq!(meant(line).recipe.framing, framing, "{line:?}");
        }
        let chunks = Framing { output: Output::Chunks, input: Input::Raw, partial: None };
        assert_eq!(meant(&["-b", "cat"]).recipe.framing, chunks);
    }

    #[test]
    fn message_frames_hold_for_the_directions_they_were_given_for() {
        let (lines, json) = (
            lines(b"\n", true).output,
            Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json: true, room: false },
        );
        let cases: [(&[&str], &Output, Input); 7] = [
            (&["--json"], &json, Input::Json { room: false }),
            (&["--frame"], &json, Input::Json { room: false }),
            (&["--frame=json"], &json, Input::Json { room: false }),
            (&["--frame=gwsocket"], &Output::Gwsocket, Input::Gwsocket),
            (&["--clientframe=json"], &lines, Input::Json { room: false }),
            (&["--serverframe=json"], &json, Input::Lines),
            (&["--clientframe=gwsocket", "--serverframe=json"], &json, Input::Gwsocket),
        ];
        for (words, output, input) in cases {
            let config = meant(&[words, &["cat"][..]].concat());
            let wanted = Framing { output: output.clone(), input, partial: None };
            assert_eq!(config.recipe.framing, wanted, "{words:?}");
        }
        let told = meant(&["--json", "--leavemsg=gone", "cat"]);
        let join = "{\"t\":\"Join\",\"_from\":#ID}";
        assert_eq!(told.recipe.notices, notices(Some(join), Some("gone"), Input::Json { room: false }));
        assert_eq!(
            meant(&["--frame", "cat"]).recipe.notices,
            notices(None, None, Input::Json { room: false })
        );
        assert_eq!(meant(&["--frame=gwsocket", "cat"]).recipe.notices, Notices::Gwsocket);
    }
}
