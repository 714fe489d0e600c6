//! Completes a `Config` with what depends on several options, the environment or the file system.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::draft::{Draft, Frame, Null};
use super::environment::Environment;
use super::failure::Failure;
use super::parse::Parsed;
use super::path::find_program;
use super::program::why_not_runnable;
use crate::config::{Config, Listen};
use crate::framing::Framing;
use crate::framing::input::Input;
use crate::framing::notices::Notices;
use crate::framing::output::Output;
use crate::framing::template::Template;
use crate::recipe::{Backend, Keep, Program, Share, Slow};
use crate::site::RESERVED;
use crate::sys::reason;

/// Options that describe a program.
const PROGRAM_OPTIONS: [&str; 8] =
    ["tcp", "delay", "connecttimeout", "passenv", "cgienv", "stderr", "stopsignal", "exitend"];
/// Options for the messages and notices to a program or an address.
const MESSAGE_OPTIONS: [&str; 10] = [
    "binary",
    "delimiters",
    "null",
    "partial",
    "clientframe",
    "serverframe",
    "input",
    "inputgrace",
    "grace",
    "maxline",
];

pub(super) fn config(mut parsed: Parsed<Draft>, environment: &Environment) -> Result<Config, Failure> {
    let draft = &mut parsed.draft;
    let share = if draft.connect.is_some() { Share::Client } else { Share::Room };
    draft.recipe().share = draft.share.unwrap_or(share);
    draft.recipe().times.ping = draft.config.times.ping;
    draft.recipe().times.gone_after = draft.config.times.gone_after;
    let framing = framing(&parsed);
    refuse(&parsed, &framing).map_err(Failure::Usage)?;
    if let Some(directory) = &parsed.draft.config.static_dir {
        check_directory(directory)?;
    }
    let backend = backend(&mut parsed, environment)?;
    let warnings = warnings(&parsed, &framing, environment);
    let notices = notices(&parsed, framing.input);
    let Parsed { mut draft, given, .. } = parsed;
    draft.config.warnings = warnings;
    draft.config.listen = if given.contains(&"inetd") {
        Listen::Inetd
    } else {
        Listen::Addresses(draft.addresses.split_off(0))
    };
    let recipe = draft.recipe();
    (recipe.backend, recipe.framing, recipe.notices) = (backend, framing, notices);
    Ok(draft.config)
}

/// Refuses combinations of options, in addition to the conflicts in the table.
fn refuse(parsed: &Parsed<Draft>, framing: &Framing) -> Result<(), String> {
    let Draft { config, frame, .. } = &parsed.draft;
    let relay = parsed.gave("relay");
    let instead = if relay { Some("relay") } else { parsed.gave("connect").then_some("connect") };
    match (instead, &parsed.program) {
        (None, None) => return Err("no program to serve, and neither --relay nor --connect".to_owned()),
        (Some(option), Some(program)) => {
            return Err(format!("--{option} takes no program, and {} is given", program.display()));
        }
        _ => {}
    }
    let packets_out = matches!(framing.output, Output::Gwsocket | Output::Lsp);
    let own_ends_in = !matches!(framing.input, Input::Lines | Input::Nul);
    let null_both = parsed.draft.null == Null::Both && own_ends_in;
    let server = config.recipe.share == Share::Server;
    let frame_of_relay = matches!(frame, None | Some(Frame::Json));
    for (applies, names, when) in [
        (parsed.program.is_none(), &PROGRAM_OPTIONS as &[&str], "without a program"),
        (relay, &MESSAGE_OPTIONS, "with --relay"),
        (relay && config.recipe.share == Share::Client, &["share=client"], "with --relay"),
        (relay && !frame_of_relay, &["frame"], "with --relay, except --frame=json"),
        (relay && frame.is_some() && server, &["share=server"], "with --relay and JSON"),
        (framing.input == Input::Gwsocket, &["joinmsg", "leavemsg"], "with gwsocket's packets"),
        (packets_out, &["delimiters", "null", "partial"], "with a frame that gives lengths"),
        (null_both, &["null=both"], "with a frame that defines what ends a message"),
    ] {
        if let Some(name) = names.iter().find(|name| applies && parsed.gave(option(name))) {
            return Err(format!("--{name} means nothing {when}"));
        }
    }
    match (&config.default_room, &config.rooms) {
        (Some(name), Some(rooms)) if !rooms.contains(name) => {
            Err(format!("--defaultroom {name} is not one of those that --rooms allows"))
        }
        _ => Ok(()),
    }
}

/// The option in an entry such as `share=client`.
fn option(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(option, _)| option)
}

/// Warnings for options that have no effect.
fn warnings(parsed: &Parsed<Draft>, framing: &Framing, environment: &Environment) -> Vec<String> {
    let config = &parsed.draft.config;
    let recipe = &config.recipe;
    let activated = environment.get("LISTEN_PID") == Some(OsStr::new(&std::process::id().to_string()));
    let tagged = matches!(recipe.history.keep, Keep::Tagged(_));
    let json =
        matches!(framing.output, Output::Delimited { json: true, .. } | Output::Relay { json: true, .. });
    let alone = recipe.share == Share::Client;
    let mut warnings: Vec<String> = [
        (!parsed.gave("cache"), "cachepersist", "without --cache"),
        (tagged && !json, "cache=tagged", "unless messages from the program are JSON"),
        (alone, "cache", "with --share=client, where no other client joins"),
        (alone, "linger", "with --share=client, where no client comes back"),
        (!parsed.gave("tcp"), "connecttimeout", "without --tcp"),
        (recipe.slow != Slow::Disconnect, "patience", "without --slow=disconnect"),
        (activated, "addr", "when sockets are passed in LISTEN_FDS"),
    ]
    .into_iter()
    .filter(|&(applies, name, _)| applies && parsed.gave(option(name)))
    .map(|(_, name, when)| format!("--{name} has no effect {when}"))
    .collect();
    let rooms = config.rooms.iter().flatten().filter(|name| RESERVED.contains(&name.as_str()));
    warnings.extend(rooms.map(|name| format!("--rooms has no effect for {name}, which is a reserved name")));
    warnings
}

fn backend(parsed: &mut Parsed<Draft>, environment: &Environment) -> Result<Backend, Failure> {
    let is_tcp = parsed.gave("tcp");
    let draft = &mut parsed.draft;
    let Some(name) = parsed.program.take() else {
        return Ok(match draft.connect.take() {
            Some(destination) => Backend::Connect(destination),
            None => Backend::Relay,
        });
    };
    let search = environment.get("PATH");
    let path = find_program(&name, search)?;
    let passes_path = draft.variables.iter().any(|name| name == "PATH");
    if let Some(reason) = why_not_runnable(&path, search.filter(|_| passes_path)) {
        return Err(Failure::Start(format!("cannot run {}: {reason}", path.display())));
    }
    let value = |name: &String| Some((OsString::from(name), environment.get(name)?.to_owned()));
    // Where all rooms share the program there is no room's name, and none that is passed on is taken for one.
    let shared = draft.config.recipe.share == Share::Server;
    let passed = draft.variables.iter().filter(|name| !(shared && *name == "ROOM"));
    let passed = passed.filter_map(value).collect();
    let arguments = std::mem::take(&mut parsed.arguments);
    let program = Program { name, path, arguments, passed, ..std::mem::take(&mut draft.program) };
    Ok(if is_tcp { Backend::Tcp(program, draft.tcp.clone()) } else { Backend::Stdio(program) })
}

fn framing(parsed: &Parsed<Draft>) -> Framing {
    let draft = &parsed.draft;
    let both = if parsed.gave("json") { Some(Frame::Json) } else { draft.frame };
    if parsed.gave("relay") {
        let (to_sender, json) = (draft.relay_to_sender, both.is_some());
        return Framing {
            output: Output::Relay { to_sender, json },
            input: Input::Relay { json },
            partial: None,
        };
    }
    let binary = parsed.gave("binary");
    let room = draft.config.recipe.share == Share::Server;
    let input = match both.or(draft.client_frame) {
        Some(Frame::Json) => Input::Json { room },
        Some(Frame::Jsonl) => Input::Jsonl,
        Some(Frame::Gwsocket) => Input::Gwsocket,
        Some(Frame::Lsp) => Input::Lsp,
        None if binary => Input::Raw,
        None if draft.null == Null::Both => Input::Nul,
        None => Input::Lines,
    };
    let frame = both.or(draft.server_frame);
    let output = match frame {
        Some(Frame::Gwsocket) => Output::Gwsocket,
        Some(Frame::Jsonl) => Output::Jsonl,
        Some(Frame::Lsp) => Output::Lsp,
        None if binary => Output::Chunks,
        None | Some(Frame::Json) => {
            let mut delimiters = draft.delimiters.clone();
            if parsed.gave("null") {
                if !parsed.gave("delimiters") {
                    delimiters.clear();
                }
                if !delimiters.contains(&0) {
                    delimiters.push(0);
                }
            }
            Output::Delimited { strip_cr: delimiters == b"\n", delimiters, json: frame.is_some(), room }
        }
    };
    Framing { output, input, partial: draft.config.recipe.framing.partial }
}

/// With `--json` there are default join and leave messages.
fn notices(parsed: &Parsed<Draft>, input: Input) -> Notices {
    let draft = &parsed.draft;
    let json = parsed.gave("json");
    let template = |given: &Option<String>, kind| {
        let default = || json.then(|| format!("{{\"t\":\"{kind}\",\"_from\":#ID}}"));
        given.clone().or_else(default).as_deref().map(Template::parse)
    };
    match input {
        Input::Gwsocket => Notices::Gwsocket,
        input => Notices::Templates {
            join: template(&draft.join, "Join"),
            leave: template(&draft.leave, "Leave"),
            input,
        },
    }
}

fn check_directory(directory: &Path) -> Result<(), Failure> {
    let reason = match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => "not a directory".to_owned(),
        Err(error) => reason(&error),
    };
    Err(Failure::Start(format!("cannot serve files from {}: {reason}", directory.display())))
}

#[cfg(test)]
mod tests {
    fn lines(set: &[u8], strip_cr: bool) -> Framing {
        let output = Output::Delimited { delimiters: set.to_vec(), strip_cr, json: false, room: false };
        Framing { output, input: Input::Lines, partial: None }
    }

    use std::net::SocketAddr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::Duration;

    use super::super::tests::{config as meant, words};
    use super::*;
    use crate::config::{Address, Level, LogConfig, LogFormat, Origin, Subprotocols};
    use crate::recipe::{Destination, Incoming, Slow, Stderr};

    fn notices(join: Option<&str>, leave: Option<&str>, input: Input) -> Notices {
        Notices::Templates { join: join.map(Template::parse), leave: leave.map(Template::parse), input }
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
        assert!(matches!(relay.backend, Backend::Relay) && relay.share == Share::Room);
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
        let jsonl = Framing { output: Output::Jsonl, input: Input::Jsonl, partial: None };
        assert_eq!(meant(&["--frame=jsonl", "cat"]).recipe.framing, jsonl);
    }

    #[test]
    fn an_option_without_effect_is_named_in_a_warning() {
        for (line, wanted) in [
            (&["cat"] as &[&str], &[] as &[&str]),
            (&["--cache=tagged:1", "--cachepersist", "--serverframe=json", "cat"], &[]),
            (&["--relay", "--json", "--cache=tagged:1"], &[]),
            (&["--tcp", "--connecttimeout=1", "--patience=1", "--linger=1", "cat"], &[]),
            (&["--cachepersist", "cat"], &["--cachepersist has no effect without --cache"]),
            (&["--cache=tagged:1", "cat"], &["--cache=tagged has no effect unless messages"]),
            (
                &["--share=client", "--cache=1", "--linger=1", "cat"],
                &["--cache has no effect with --share=client", "--linger has no effect with --share=client"],
            ),
            (&["--connecttimeout=1", "cat"], &["--connecttimeout has no effect without --tcp"]),
            (
                &["--slow=drop", "--patience=1", "cat"],
                &["--patience has no effect without --slow=disconnect"],
            ),
            (
                &["--rooms=a,api,health", "cat"],
                &["--rooms has no effect for api", "--rooms has no effect for health"],
            ),
        ] {
            let warnings = meant(line).warnings;
            assert_eq!(warnings.len(), wanted.len(), "{line:?}: {warnings:?}");
            for (warning, wanted) in warnings.iter().zip(wanted) {
                assert!(warning.starts_with(wanted), "{line:?}: {warning}");
            }
        }
    }

    #[test]
    fn an_address_is_not_used_when_sockets_are_passed() {
        let warnings = |pid: u32| {
            let environment = Environment::new([("LISTEN_PID".into(), pid.to_string().into())]);
            match super::super::parse(words(&["--addr=:1", "--relay"]), &environment) {
                Ok(super::super::Action::Run(config)) => config.warnings,
                other => panic!("{other:?}"),
            }
        };
        let own = std::process::id();
        assert_eq!(warnings(own), ["--addr has no effect when sockets are passed in LISTEN_FDS"]);
        assert_eq!(warnings(own + 1), [""; 0], "they are for another process");
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
        let with_leave = meant(&["--json", "--leavemsg=gone", "cat"]);
        let join = "{\"t\":\"Join\",\"_from\":#ID}";
        assert_eq!(with_leave.recipe.notices, notices(Some(join), Some("gone"), Input::Json { room: false }));
        assert_eq!(
            meant(&["--frame", "cat"]).recipe.notices,
            notices(None, None, Input::Json { room: false })
        );
        assert_eq!(meant(&["--frame=gwsocket", "cat"]).recipe.notices, Notices::Gwsocket);
    }
}
