//! The command line of websocketd, from outside: what is printed where, and the exit status.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use crate::support::Scratch;
use crate::support::server::{BINARY, run, run_command};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// The binary under the name `websocketd`.
struct Link(Scratch);

impl Link {
    fn new() -> Self {
        let scratch = Scratch::new();
        symlink(BINARY, scratch.path("websocketd")).expect("a symbolic link");
        Self(scratch)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.0.path("websocketd"));
        command.args(arguments).env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        run_command(command)
    }
}

/// Checks the status, and the beginning of what is printed on either stream; empty is nothing at all.
fn expect(output: &Output, what: &[&str], status: i32, out: &str, err: &str) {
    assert_eq!(output.status.code(), Some(status), "{what:?}: {output:?}");
    for (stream, beginning) in [(text(&output.stdout), out), (text(&output.stderr), err)] {
        assert!(stream.starts_with(beginning), "{what:?}: {stream}");
        assert_eq!(stream.is_empty(), beginning.is_empty(), "{what:?}: {stream}");
    }
}

#[test]
fn help_goes_to_standard_error_and_versions_to_standard_output_with_status_0() {
    let link = Link::new();
    for help in ["--help", "-h", "-help", "--help=false"] {
        let output = link.run(&[help, "--nope"]);
        expect(&output, &[help], 0, "", "Usage:\n");
        for option in ["--port N", "--passstderr", "--sslca FILE", "--header-http FIELD", "--pingms MS"] {
            assert!(text(&output.stderr).contains(&format!("\n  {option}\n")), "{option}");
        }
    }
    let version = format!("websocketd {VERSION} (scalesocket ");
    let output = link.run(&["-version", "--port=1", "cat"]);
    expect(&output, &["-version"], 0, &version, "");
    assert_eq!(text(&output.stdout).lines().count(), 1);
    let output = link.run(&["--license"]);
    expect(&output, &["--license"], 0, &version, "");
    assert!(text(&output.stdout).contains("Apache License"));
    expect(&link.run(&["--man"]), &["--man"], 0, ".Dd ", "");
}

#[test]
fn a_wrong_option_or_value_exits_with_status_2_and_the_words_of_go() {
    let link = Link::new();
    for (arguments, error) in [
        (&["--nope"] as &[&str], "flag provided but not defined: -nope\n\nUsage:\n"),
        (&["-nope=1", "cat"], "flag provided but not defined: -nope\n\nUsage:\n"),
        (&["--port=abc", "cat"], "invalid value \"abc\" for flag -port: parse error\n\nUsage:\n"),
        (&["--port"], "flag needs an argument: -port\n\nUsage:\n"),
        (&["--binary=2", "cat"], "invalid boolean value \"2\" for -binary: parse error\n\nUsage:\n"),
        (&["--closems=-1", "cat"], "invalid value \"-1\" for flag -closems: parse error\n\nUsage:\n"),
        (&["---port", "1"], "bad flag syntax: ---port\n\nUsage:\n"),
    ] {
        expect(&link.run(arguments), arguments, 2, "", error);
    }
}

#[test]
fn options_that_do_not_fit_exit_with_status_1_and_the_words_of_websocketd() {
    let link = Link::new();
    let file = link.0.file("file", "").display().to_string();
    let dir = |name: &str, path: &str| format!("--{name}={path}");
    let script_file = dir("dir", &file);
    for (arguments, out, err) in [
        (&[] as &[&str], "Command line arguments are missing.\n", "\nUsage:\n"),
        (
            &["--loglevel=xx", "cat"],
            "Incorrect loglevel flag 'xx'. Use --help to see allowed values.\n",
            "\nUsage:\n",
        ),
        (&["--"], "", "Please specify COMMAND or provide --dir, --staticdir or --cgidir argument.\n\nUsage:"),
        (&["--devconsole"], "", "Please specify COMMAND or provide "),
        (
            &["no-such-program"],
            "",
            "Unable to locate specified COMMAND 'no-such-program' in OS path.\n\nUsage:",
        ),
        (&["-"], "", "Unable to locate specified COMMAND '-' in OS path.\n"),
        (&["--dir=/tmp", "cat"], "", "Ambiguous. Provided COMMAND and --dir argument. Please only specify "),
        (&["--dir=/no/such"], "", "Could not find your script dir '/no/such'.\n\nUsage:"),
        (&[&*script_file], "", "Did you mean to specify COMMAND instead of --dir '"),
        (&["--cgidir=/no/such"], "", "Your CGI dir '/no/such' is not pointing to an accessible directory.\n"),
        (&["--staticdir=/no/such"], "", "Your static dir '/no/such' is not pointing to an accessible "),
        (
            &["--sslcert=x", "cat"],
            "",
            "You should not be using --ssl* flags when there is no --ssl option.\n",
        ),
        (&["--binary", "--passstderr", "cat"], "", "Please specify only one of --binary and --passstderr.\n"),
    ] {
        expect(&link.run(arguments), arguments, 1, out, err);
    }
}

#[test]
fn what_cannot_start_exits_with_status_3_or_4_and_a_line_in_the_log() {
    let link = Link::new();
    let socket = format!("--unixsocket={}", link.0.name("missing/socket"));
    for (arguments, status, message) in [
        // An address that no machine has (RFC 5737).
        (&["--address=192.0.2.1", "--port=1", "cat"] as &[&str], 3, "Can't start server: "),
        (&[&socket, "cat"], 3, "Can't start server: "),
        (&["--port=99999", "cat"], 3, "Can't start server: listen tcp: address 99999: invalid port\n"),
        (
            &["--devconsole", "--staticdir=/", "cat"],
            4,
            "Invalid parameters: --devconsole cannot be used with --staticdir. Pick one.\n",
        ),
        (
            &["--devconsole", "--cgidir=/", "cat"],
            4,
            "Invalid parameters: --devconsole cannot be used with --cgidir. Pick one.\n",
        ),
    ] {
        let output = link.run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        let (time, line) = text(&output.stdout).split_once(" | ").expect("a line");
        assert!(time.ends_with(" +0000") && time.len() == "Thu, 26 Nov 2026 22:08:48 +0000".len(), "{time}");
        assert!(line.starts_with(&format!("FATAL  | server     |  | {message}")), "{arguments:?}: {line}");
        let level = link.run(&[&["--loglevel=fatal"], arguments].concat());
        assert!(text(&level.stdout).contains("FATAL"), "{arguments:?}");
        let none = link.run(&[&["--loglevel=none"], arguments].concat());
        expect(&none, arguments, status, "", "");
    }
}

#[test]
fn the_option_makes_the_same_of_the_binary_only_as_the_first_argument() {
    expect(&run(&["--websocketd", "-version"]), &[], 0, &format!("scalesocket {VERSION} (scalesocket "), "");
    expect(&run(&["--websocketd"]), &[], 1, "Command line arguments are missing.\n", "\nUsage:\n");
    let output = run(&["--websocketd", "--help"]);
    assert!(text(&output.stderr).contains("    scalesocket --websocketd [options] COMMAND"), "{output:?}");
    for arguments in [&["-v", "--websocketd"] as &[&str], &["cat", "--websocketd"]] {
        expect(&run(arguments), arguments, 2, "", "scalesocket: --websocketd must be the first argument\n");
    }
}
