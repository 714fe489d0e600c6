//! Completes a `Config` with what depends on several options, the environment or the file system. Checks and messages are
//! those of websocketd, in its order.

use std::ffi::{OsStr, OsString};
use std::net::ToSocketAddrs as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::super::addresses;
use super::super::answer::Answer;
use super::super::draft::Draft;
use super::super::environment::Environment;
use super::super::parse::Parsed;
use super::super::path::find_program;
use super::super::program::why_not_runnable;
use super::super::values::{MAX_DURATION, MAX_MESSAGE};
use super::texts::{cannot_start, error, fatal, misuse};
use crate::config::{
    Address, FaceKind, Level, Listen, LogConfig, LogFormat, Origin, Redirect, Subprotocols, TlsFiles,
};
use crate::framing::Framing;
use crate::framing::heads::Kind;
use crate::framing::input::Input;
use crate::framing::notices::Notices;
use crate::framing::output::Output;
use crate::recipe::{Backend, Incoming, Share, Slow, Stderr, Step};
use crate::sys::reason;

/// A client is gone when it has not answered for so many times `--pingms`.
const GONE_AFTER: u32 = 2;

/// The value of `--loglevel`.
pub(super) fn level(word: &str) -> Option<Level> {
    Some(match word {
        "debug" => Level::Trace,
        "trace" => Level::Debug,
        "access" => Level::Access,
        "info" => Level::Info,
        "error" => Level::Error,
        "fatal" => Level::Fatal,
        "none" => Level::Off,
        _ => return None,
    })
}

/// Completes the settings in the draft. `command` is for the usage.
pub(super) fn complete(
    parsed: &mut Parsed<Draft>,
    level: Level,
    command: &str,
    environment: &Environment,
) -> Result<(), Answer> {
    tls(&mut parsed.draft).map_err(error)?;
    program(parsed, environment).map_err(|text| misuse(&text, command))?;
    directories(&mut parsed.draft).map_err(|text| misuse(&text, command))?;
    console(&parsed.draft).map_err(|text| fatal(level, text, 4))?;
    let with_tcp = ["port", "address", "redirport"].iter().any(|name| parsed.gave(name));
    listen(&mut parsed.draft, with_tcp).map_err(|text| cannot_start(level, &text))?;
    settings(&mut parsed.draft, level);
    recipe(&mut parsed.draft);
    let face = std::mem::take(&mut parsed.draft.websocketd.face);
    parsed.draft.config.face = FaceKind::Websocketd(Arc::new(face));
    Ok(())
}

fn is_set(path: Option<&PathBuf>) -> bool {
    path.is_some_and(|path| !path.as_os_str().is_empty())
}

fn tls(draft: &mut Draft) -> Result<(), &'static str> {
    let options = &mut draft.websocketd;
    let (certificate, key) = (is_set(options.certificate.as_ref()), is_set(options.key.as_ref()));
    if !options.ssl && (certificate || key) {
        return Err("You should not be using --ssl* flags when there is no --ssl option.");
    }
    if options.ssl {
        if !cfg!(feature = "tls") {
            return Err(
                "--ssl needs a build of scalesocket with the Cargo feature tls, which this one lacks.",
            );
        }
        if !(certificate && key) {
            return Err("Please specify both --sslcert and --sslkey when requesting --ssl.");
        }
        draft.config.tls = Some(TlsFiles {
            certificate: options.certificate.take().unwrap_or_default(),
            key: options.key.take().unwrap_or_default(),
            client_ca: options.client_ca.take().filter(|path| is_set(Some(path))),
        });
    }
    Ok(())
}

fn program(parsed: &mut Parsed<Draft>, environment: &Environment) -> Result<(), String> {
    let draft = &mut parsed.draft;
    let face = &mut draft.websocketd.face;
    let mut none = parsed.program.is_none();
    for directory in [&mut face.script_dir, &mut face.cgi_dir, &mut draft.config.static_dir] {
        if !is_set(directory.as_ref()) {
            *directory = None;
        }
        none &= directory.is_none();
    }
    if draft.websocketd.binary && draft.websocketd.pass_stderr {
        return Err("Please specify only one of --binary and --passstderr.".to_owned());
    }
    if none {
        return Err("Please specify COMMAND or provide --dir, --staticdir or --cgidir argument.".to_owned());
    }
    draft.program.stderr = if draft.websocketd.pass_stderr { Stderr::Messages } else { Stderr::Log };
    draft.program.passed = passed(&draft.variables, environment);
    face.passed.clone_from(&draft.program.passed);
    let Some(name) = &parsed.program else { return Ok(()) };
    if face.script_dir.is_some() {
        return Err(
            "Ambiguous. Provided COMMAND and --dir argument. Please only specify just one.".to_owned()
        );
    }
    let search = environment.get("PATH");
    let Ok(path) = find_program(name, search) else {
        return Err(format!("Unable to locate specified COMMAND '{}' in OS path.", name.display()));
    };
    // websocketd starts; each client sees the error.
    if let Some(reason) = why_not_runnable(&path, search) {
        draft.config.warnings.push(format!("cannot run {}: {reason}", path.display()));
    }
    draft.program.name = path.clone().into();
    draft.program.path = path;
    draft.program.arguments = std::mem::take(&mut parsed.arguments);
    Ok(())
}

/// Variables of `--passenv` that are set, values on one line.
fn passed(names: &[String], environment: &Environment) -> Vec<(OsString, OsString)> {
    let mut passed = Vec::new();
    for name in names {
        let value = environment.get(name).filter(|_| name != "HTTPS").unwrap_or_default();
        let mut line = value.as_bytes().trim_ascii().to_vec();
        line.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        if !line.is_empty() {
            passed.push((name.into(), OsString::from_vec(line)));
        }
    }
    passed
}

/// Checks the directories, and replaces that of `--dir` by a name without symbolic links.
fn directories(draft: &mut Draft) -> Result<(), String> {
    let face = &mut draft.websocketd.face;
    if let Some(directory) = &mut face.script_dir {
        match directory.canonicalize() {
            Ok(real) if real.is_dir() => *directory = real,
            Ok(_) => {
                let file = directory.display();
                return Err(format!("Did you mean to specify COMMAND instead of --dir '{file}'?"));
            }
            Err(_) => return Err(format!("Could not find your script dir '{}'.", directory.display())),
        }
    }
    for (kind, directory) in [("CGI", &face.cgi_dir), ("static", &draft.config.static_dir)] {
        if let Some(directory) = directory.as_ref().filter(|directory| !directory.is_dir()) {
            let path = directory.display();
            return Err(format!("Your {kind} dir '{path}' is not pointing to an accessible directory."));
        }
    }
    Ok(())
}

fn console(draft: &Draft) -> Result<(), &'static str> {
    let face = &draft.websocketd.face;
    if face.console && draft.config.static_dir.is_some() {
        Err("Invalid parameters: --devconsole cannot be used with --staticdir. Pick one.")
    } else if face.console && face.cgi_dir.is_some() {
        Err("Invalid parameters: --devconsole cannot be used with --cgidir. Pick one.")
    } else {
        Ok(())
    }
}

/// Where to listen. `with_tcp`: there is an option for ports and addresses.
fn listen(draft: &mut Draft, with_tcp: bool) -> Result<(), String> {
    let (config, options) = (&mut draft.config, &mut draft.websocketd);
    let socket = options.socket.take().filter(|path| is_set(Some(path)));
    if with_tcp || socket.is_none() {
        let default = if options.ssl { 443 } else { 80 };
        let port = port(if options.port == 0 { default } else { options.port })?;
        if options.hosts.is_empty() {
            options.hosts.push(String::new());
        }
        for host in &options.hosts {
            draft.addresses.push(address(host, port)?);
            if options.redirect_port != 0 {
                let address = address(host, self::port(options.redirect_port)?)?;
                config.redirects.push(Redirect { address, port });
            }
        }
    }
    draft.addresses.extend(socket.map(|path| Address::Unix { path, mode: None }));
    config.listen = Listen::Addresses(std::mem::take(&mut draft.addresses));
    Ok(())
}

fn port(number: i64) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("listen tcp: address {number}: invalid port"))
}

/// The address of `--address`. A name is looked up once, and its first IPv4 address is taken, or else its first one.
fn address(host: &str, port: u16) -> Result<Address, String> {
    let text = format!("{host}:{port}");
    let address = match addresses::address(OsStr::new(&text)) {
        Ok(Address::Tcp(address)) => address,
        Ok(any @ Address::Any(_)) => return Ok(any),
        _ => {
            let found = text.to_socket_addrs();
            let found: Vec<_> =
                found.map_err(|e| format!("listen tcp: lookup {host}: {}", reason(&e)))?.collect();
            let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
            *first.ok_or_else(|| format!("listen tcp: lookup {host}: no such host"))?
        }
    };
    // Either kind of "all addresses" is both.
    Ok(if address.ip().is_unspecified() { Address::Any(port) } else { Address::Tcp(address) })
}

fn settings(draft: &mut Draft, level: Level) {
    let (config, options) = (&mut draft.config, &mut draft.websocketd);
    config.log = LogConfig { format: LogFormat::Websocketd, level };
    // The face checks it, by other rules.
    config.origin = Origin::Any;
    config.protocols = Subprotocols::Listed(Vec::new());
    let bytes = u64::try_from(options.max_message).ok().filter(|&bytes| bytes > 0);
    config.limits.message = bytes.map_or(MAX_MESSAGE, |bytes| bytes.min(MAX_MESSAGE)) as usize;
    config.times.ping = Some(milliseconds(options.ping)).filter(|ping| !ping.is_zero());
    config.times.gone_after = GONE_AFTER;
    options.face.max_forks = usize::try_from(options.max_forks).ok().filter(|&most| most > 0);
    if !options.origins.is_empty() {
        options.face.origins = Some(options.origins.split(',').map(str::to_owned).collect());
    }
}

fn recipe(draft: &mut Draft) {
    let options = &draft.websocketd;
    let (binary, close_time) = (options.binary, options.close_time);
    let (ping, program) = (draft.config.times.ping, std::mem::take(&mut draft.program));
    let (output, input, kind) = if binary {
        (Output::Chunks, Input::Raw, Kind::Binary)
    } else {
        let delimiters = b"\n".to_vec();
        let lines = Output::Delimited { delimiters, strip_cr: true, json: false, room: false };
        (lines, Input::Lines, Kind::Text)
    };
    let recipe = draft.recipe();
    recipe.backend = Backend::Stdio(program);
    recipe.share = Share::Client;
    recipe.framing = Framing { output, input, partial: None };
    recipe.incoming = Incoming::Only(kind);
    recipe.notices = Notices::Templates { join: None, leave: None, input };
    recipe.slow = Slow::Block;
    recipe.times.gone_after = GONE_AFTER;
    recipe.ends_with_output = true;
    recipe.times.ping = ping;
    let steps = [(100, Signal::INT), (250, Signal::TERM), (500, Signal::KILL)];
    recipe.stop = steps
        .map(|(wait, signal)| Step {
            wait: milliseconds(close_time.saturating_add(wait)),
            signal: signal.as_raw(),
        })
        .to_vec();
}

/// A time that is not negative.
fn milliseconds(number: i64) -> Duration {
    Duration::from_millis(number.max(0).cast_unsigned()).min(MAX_DURATION)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::tests::words;
    use super::*;
    use crate::config::{Config, Headers, Websocketd};

    fn environment() -> Environment {
        Environment::new([
            ("PATH".into(), "/bin:/usr/bin".into()),
            ("LD_LIBRARY_PATH".into(), " /a\r\n/b \n".into()),
            ("BLANK".into(), " \n".into()),
            ("HTTPS".into(), "on".into()),
            ("HOME".into(), "/root".into()),
        ])
    }

    fn parsed(line: &[&str]) -> Result<Box<Config>, Answer> {
        super::super::parse("websocketd", words(line), &environment())
    }

    fn meant(line: &[&str]) -> (Box<Config>, Websocketd) {
        let config = parsed(line).unwrap_or_else(|answer| panic!("{line:?}: {answer:?}"));
        let FaceKind::Websocketd(face) = &config.face else { panic!("{:?}", config.face) };
        let face = Websocketd::clone(face);
        (config, face)
    }

    fn steps(waits: [u64; 3]) -> Vec<Step> {
        waits
            .into_iter()
            .zip([Signal::INT, Signal::TERM, Signal::KILL])
            .map(|(wait, signal)| Step { wait: Duration::from_millis(wait), signal: signal.as_raw() })
            .collect()
    }

    #[test]
    fn the_defaults_are_those_of_websocketd_and_else_of_scalesocket() {
        let (config, face) = meant(&["cat", "-x", "--port=1"]);
        let recipe = &config.recipe;
        let program = recipe.program().expect("a program");
        assert!(program.path.is_absolute() && program.path.ends_with("cat"), "{program:?}");
        assert_eq!(program.name, program.path);
        assert_eq!(program.arguments, words(&["-x", "--port=1"]));
        assert_eq!(
            program.passed,
            [("PATH".into(), "/bin:/usr/bin".into()), ("LD_LIBRARY_PATH".into(), "/a  /b".into())]
        );
        assert_eq!((program.stderr, program.cgi_environment), (Stderr::Log, false));
        assert_eq!(config.listen, Listen::Addresses(vec![Address::Any(80)]));
        assert_eq!((&config.redirects, &config.tls), (&Vec::new(), &None));
        let output = Output::Delimited { delimiters: vec![b'\n'], strip_cr: true, json: false, room: false };
        assert_eq!(recipe.framing, Framing { output, input: Input::Lines, partial: None });
        assert_eq!(recipe.notices, Notices::Templates { join: None, leave: None, input: Input::Lines });
        assert_eq!((recipe.share, recipe.slow), (Share::Client, Slow::Block));
        assert_eq!(recipe.incoming, Incoming::Only(Kind::Text));
        assert!(recipe.ends_with_output);
        assert_eq!(recipe.stop, steps([100, 250, 500]));
        assert_eq!((recipe.max_line, recipe.max_queue), (16 << 20, 4 << 20));
        assert_eq!((config.limits.message, config.limits.clients), (1 << 20, None));
        assert_eq!((config.times.handshake, config.times.ping), (Duration::from_secs(10), None));
        assert_eq!((config.origin, config.protocols), (Origin::Any, Subprotocols::Listed(Vec::new())));
        assert_eq!(config.log, LogConfig { format: LogFormat::Websocketd, level: Level::Access });
        assert_eq!((config.api, config.metrics, config.static_dir), (false, None, None));
        assert_eq!(config.warnings, [""; 0]);
        assert_eq!(face.passed, program.passed);
        assert_eq!((face.max_forks, &face.origins), (Some(1024), &None));
        assert_eq!((face.script_dir, face.cgi_dir), (None, None));
        assert!(!face.console && !face.reverse_lookup && !face.same_origin);
    }

    #[test]
    fn every_option_arrives_where_it_belongs() {
        let (config, face) = meant(&[
            "--dir=/tmp/../tmp",
            "--cgidir",
            "/tmp",
            "--staticdir=/tmp",
            "--binary",
            "--passenv=HOME,HTTPS,BLANK,NONE",
            "--maxforks=7",
            "--closems=50",
            "--pingms=200",
            "--maxframesize=9",
            "--sameorigin=true",
            "--origin=a:80,https://b",
            "--reverselookup",
            "--header=X-ONE:1",
            "-header-ws",
            "two",
            "--header-http=x-three:  3: ",
            "--header=Content-Type: text/html",
            "--header=Sec-WebSocket-Protocol: chat",
            "--loglevel=error",
        ]);
        let recipe = &config.recipe;
        let program = recipe.program().expect("a program");
        assert_eq!((program.name.len(), program.path.as_os_str().len()), (0, 0));
        assert_eq!(program.passed, [("HOME".into(), "/root".into())]);
        let framing = Framing { output: Output::Chunks, input: Input::Raw, partial: None };
        assert_eq!((&recipe.framing, recipe.incoming), (&framing, Incoming::Only(Kind::Binary)));
        assert_eq!(recipe.stop, steps([150, 300, 550]));
        let ping = Some(Duration::from_millis(200));
        assert_eq!((config.times.ping, config.times.gone_after, recipe.times.ping), (ping, 2, ping));
        assert_eq!(config.limits.message, 9);
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let ws = vec![field("X-One", "1"), field("Two", ""), field("Sec-Websocket-Protocol", "chat")];
        let http = vec![field("X-One", "1"), field("X-Three", "3:")];
        assert_eq!(config.headers, Headers { http, ws });
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(config.warnings[0].contains("Content-Type"), "{:?}", config.warnings);
        assert_eq!(config.log.level, Level::Error);
        assert_eq!(config.static_dir.as_deref(), Some(Path::new("/tmp")));
        assert_eq!((face.script_dir, face.cgi_dir), (Some("/tmp".into()), Some("/tmp".into())));
        assert_eq!(face.origins, Some(vec!["a:80".to_owned(), "https://b".to_owned()]));
        assert_eq!((face.max_forks, face.passed), (Some(7), program.passed.clone()));
        assert!(face.same_origin && face.reverse_lookup && !face.console);
        let (config, face) = meant(&["--passstderr", "--devconsole", "--dir=", "--origin=", "cat"]);
        assert_eq!(config.recipe.program().expect("a program").stderr, Stderr::Messages);
        assert_eq!((face.console, face.script_dir, face.origins), (true, None, None));
    }

    #[test]
    fn numbers_without_a_limit_are_the_largest_or_none() {
        for (line, forks, message, ping) in [
            (&["--maxforks=0", "--maxframesize=0", "--pingms=0", "cat"], None, 1 << 30, None),
            (&["--maxforks=-1", "--maxframesize=-1", "--pingms=-1", "cat"], None, 1 << 30, None),
            (
                &["--maxforks=1", "--maxframesize=9999999999", "--pingms=1", "cat"],
                Some(1),
                1 << 30,
                Some(Duration::from_millis(1)),
            ),
        ] {
            let (config, face) = meant(line);
            assert_eq!((face.max_forks, config.limits.message, config.times.ping), (forks, message, ping));
        }
        let (config, _) = meant(&["--closems=9223372036854775807", "cat"]);
        assert!(config.recipe.stop.iter().all(|step| step.wait <= MAX_DURATION));
    }

    #[test]
    fn addresses_and_ports_make_listeners() {
        let tcp = |text: &str| Address::Tcp(text.parse().expect("an address"));
        let unix = || Address::Unix { path: "/tmp/x".into(), mode: None };
        for (line, listen, redirects) in [
            (&["--port=8080"] as &[&str], vec![Address::Any(8080)], vec![]),
            (&["--address="], vec![Address::Any(80)], vec![]),
            (&["--address=0.0.0.0"], vec![Address::Any(80)], vec![]),
            (
                &["--address=[::1]", "--address=127.0.0.2", "--address=localhost", "--port=1"],
                vec![tcp("[::1]:1"), tcp("127.0.0.2:1"), tcp("127.0.0.1:1")],
                vec![],
            ),
            (&["--unixsocket=/tmp/x"], vec![unix()], vec![]),
            (&["--unixsocket=/tmp/x", "--port=0"], vec![Address::Any(80), unix()], vec![]),
            (
                &["--unixsocket=/tmp/x", "--redirport=81"],
                vec![Address::Any(80), unix()],
                vec![Redirect { address: Address::Any(81), port: 80 }],
            ),
            (
                &["--redirport=2", "--address=127.0.0.1", "--port=3", "--address=127.0.0.2"],
                vec![tcp("127.0.0.1:3"), tcp("127.0.0.2:3")],
                vec![
                    Redirect { address: tcp("127.0.0.1:2"), port: 3 },
                    Redirect { address: tcp("127.0.0.2:2"), port: 3 },
                ],
            ),
        ] {
            let (config, _) = meant(&[line, &["cat"]].concat());
            assert_eq!(config.listen, Listen::Addresses(listen), "{line:?}");
            assert_eq!(config.redirects, redirects, "{line:?}");
        }
    }

    #[test]
    fn files_of_tls_are_given_together_or_not_at_all() {
        for (line, error) in [
            (&["--sslcert=a", "cat"] as &[&str], "You should not be using --ssl* flags"),
            (&["--ssl=false", "--sslkey=a", "cat"], "You should not be using --ssl* flags"),
            #[cfg(feature = "tls")]
            (&["--ssl", "--sslcert=a", "cat"], "Please specify both --sslcert and --sslkey"),
            #[cfg(not(feature = "tls"))]
            (&["--ssl", "--sslcert=a", "--sslkey=b", "cat"], "the Cargo feature tls"),
        ] {
            let answer = parsed(line).expect_err("no run");
            assert_eq!((answer.status, &*answer.out), (1, ""), "{line:?}");
            assert!(answer.err.contains(error) && !answer.err.contains("Usage"), "{line:?}: {answer:?}");
        }
        assert_eq!(meant(&["--sslca=x", "cat"]).0.tls, None);
        #[cfg(feature = "tls")]
        {
            let (config, _) = meant(&["--ssl", "--sslcert=a", "--sslkey=b", "--sslca=c", "cat"]);
            let client_ca = Some("c".into());
            let files = TlsFiles { certificate: "a".into(), key: "b".into(), client_ca };
            assert_eq!(config.tls, Some(files));
            assert_eq!(config.listen, Listen::Addresses(vec![Address::Any(443)]));
        }
    }

    #[test]
    fn a_script_without_interpreter_is_a_warning_and_a_file_that_is_no_program_an_error() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("scalesocket-no-line-{}", std::process::id()));
        std::fs::write(&path, "echo no line\n").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let (config, _) = meant(&[path.to_str().expect("UTF-8")]);
        std::fs::remove_file(&path).expect("the file");
        assert!(config.warnings[0].contains("it has no #! line"), "{:?}", config.warnings);
        // The tests run in the package's directory.
        let answer = parsed(&["./Cargo.toml"]).expect_err("not executable");
        assert!(answer.err.starts_with("Unable to locate specified COMMAND './Cargo.toml' in OS path.\n"));
    }

    #[test]
    fn levels_are_as_important_as_those_of_websocketd() {
        let words = ["none", "fatal", "error", "info", "access", "trace", "debug"];
        assert!(words.map(level).is_sorted() && words.iter().all(|word| level(word).is_some()));
        assert!(["", "warn", "Info", "unknown"].iter().all(|word| level(word).is_none()));
    }
}
