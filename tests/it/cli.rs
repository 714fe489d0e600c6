//! The command line, from outside: what is printed where, and the exit status.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::server::{BINARY, run, run_command};
use crate::support::{Scratch, Server};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn help_and_version_are_printed_on_standard_output_with_status_0() {
    for (arguments, beginning) in [
        (&["--help"] as &[&str], "usage: scalesocket"),
        (&["-h"], "usage: scalesocket"),
        (&["--version"], "scalesocket "),
        (&["-V"], "scalesocket "),
        (&["--man"], ".Dd "),
        (&["--completions", "bash"], "# bash"),
        (&["--completions=zsh"], "#compdef"),
        (&["--completions=fish"], "complete -c scalesocket"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).starts_with(beginning), "{arguments:?}: {}", text(&output.stdout));
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
    assert_eq!(text(&run(&["--version"]).stdout), concat!("scalesocket ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_wrong_command_line_exits_with_status_2_and_a_correction() {
    for (arguments, parts) in [
        (&[] as &[&str], &["no program", "usage:"] as &[&str]),
        (&["--bianry", "cat"], &["unknown option --bianry", "did you mean --binary?"]),
        (&[""], &["the program's name is empty"]),
        (&["--frame", "json", "cat"], &["--frame takes its value with an equals sign: --frame=json"]),
        (&["--metrics", "rooms", "cat"], &["--metrics takes its value with an equals sign: --metrics=rooms"]),
        (&["--relay", "cat"], &["--relay takes no program"]),
        (&["--relay", "--stderr=log"], &["--stderr means nothing without a program"]),
        (&["grep", "-v", "foo"], &["put -- before it: scalesocket grep -- -v"]),
        (&["tail", "-f", "x"], &["put -- before it: scalesocket tail -- -f"]),
        (&["--delimiters", ",", "cat"], &["--delimiters=CHARS"]),
        (&["--addr=:1", "--inetd", "cat"], &["--inetd and --addr cannot"]),
        (&["-b", "--null", "cat"], &["--binary and --null cannot"]),
        (&["--tcpports", "9001:9002", "cat"], &["--tcpports needs --tcp"]),
        (&["--tcp", "--tcpports=1:2", "--maxrooms=1", "cat"], &["--tcpports and --maxrooms cannot"]),
        (&["--ping=x", "cat"], &["--ping", "\"x\""]),
        (&["--slow=fast", "cat"], &["disconnect, drop, block"]),
        (&["--addr", "nowhere", "cat"], &["--addr", "nowhere"]),
        (&["--addr", "example.com:80", "cat"], &["--addr", "example.com"]),
        (&["--addr", "127.0.0.1:99999", "cat"], &["--addr"]),
        (&["--stopsignal", "NONE", "cat"], &["--stopsignal", "NONE"]),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.starts_with("scalesocket: "), "{error}");
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {part:?} is not in {error:?}");
        }
    }
}

#[test]
fn what_cannot_start_is_status_1_with_the_reason() {
    for (arguments, part) in [
        (&["no-such-program-anywhere"] as &[&str], "not found in PATH"),
        (&["/no/such/program"], "/no/such/program"),
        (&["--staticdir=/no/such", "cat"], "/no/such"),
        (
            &["--addr", "unix:/no/such/socket", "cat"],
            "unix:/no/such/socket: the directory /no/such is not there",
        ),
        (&["--addr", "unix:/dev/null/socket", "cat"], "Not a directory"),
        (&["--addr", "192.0.2.1:0", "cat"], "192.0.2.1:0: this machine does not have that address"),
        (&["--inetd", "cat"], "descriptor 0"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stderr));
        let error = text(&output.stderr);
        assert!(error.contains(part), "{arguments:?}: {error}");
        assert!(!error.contains("os error"), "{arguments:?}: {error}");
    }
}

#[test]
fn a_script_that_cannot_run_is_refused_at_the_start() {
    let scratch = Scratch::new();
    let script = scratch.script("script", "");
    for (content, part) in [
        (
            "while read -r line; do echo $line; done\n",
            format!("it has no #! line: begin it with one, such as #!/bin/sh, or run it as sh {script}"),
        ),
        ("#!/bin/sh\r\ncat\r\n", r"interpreter /bin/sh\r not found: the file has CRLF line ends".to_owned()),
        ("#!/no/such/interpreter\n", "interpreter /no/such/interpreter not found".to_owned()),
    ] {
        scratch.file("script", content);
        let output = run(&["--addr=127.0.0.1:0", &script]);
        assert_eq!(output.status.code(), Some(1), "{content:?}");
        let error = text(&output.stderr);
        assert!(error.starts_with(&format!("scalesocket: cannot run {script}: {part}")), "{error}");
    }
}

#[test]
fn a_program_that_this_user_may_not_execute_is_an_error() {
    let scratch = Scratch::new();
    let script = scratch.script("script", "cat");
    let binary = scratch.name("scalesocket");
    let (mode, mut command) = if rustix::process::geteuid().is_root() {
        // Another user, who may have no access to the directory of the tests.
        std::fs::copy(BINARY, &binary).expect("copy the binary");
        let mut command = Command::new(&binary);
        command.uid(65_534).gid(65_534);
        (0o700, command)
    } else {
        (0o011, Command::new(BINARY))
    };
    std::fs::set_permissions(&script, Permissions::from_mode(mode)).expect("a mode");
    command.args(["--addr=127.0.0.1:0", &script]);
    let output = run_command(command);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("this user may not execute it") && !error.contains("chmod"), "{error}");
}

#[test]
fn a_program_is_found_in_the_path_as_it_is_at_the_start() {
    let server = Server::with(&["--passenv="]).env("PATH", "/nowhere:/bin:/usr/bin").cat();
    let mut client = server.join("/room");
    client.send_text("hello");
    client.expect_text("hello");
}

#[test]
fn the_programs_arguments_come_as_they_are() {
    let odd = "a b\"$HOME'\\*\n;";
    let server = Server::with(&["--delimiters=|"]).program(&["printf", "%s|", "-x", "", odd, "--addr"]);
    assert_eq!(server.join("/room").texts_to_close(1000), ["-x", "", odd, "--addr"]);
}

#[test]
fn an_option_without_effect_is_logged_at_the_start() {
    let server = Server::with(&["--cachepersist", "--rooms=a,api"]).cat();
    server.wait_for_line(&["WARN", "--cachepersist has no effect without --cache"]);
    server.wait_for_line(&["WARN", "--rooms has no effect for api, which is a reserved name"]);
}

#[test]
fn the_short_help_has_one_line_for_each_option() {
    let count = |help: &str| help.lines().filter(|line| line.starts_with("  -")).count();
    let (short, long) = (run(&["-h"]), run(&["--help"]));
    let (short, long) = (text(&short.stdout), text(&long.stdout));
    assert_eq!(count(short), count(long));
    assert!(count(short) > 50 && short.lines().count() < 90, "{short}");
}
