//! Programs that do not behave, and how they end.

use std::time::{Duration, Instant};

use crate::support::process::{await_end, runs};
use crate::support::server::run_command;
use crate::support::{Scratch, Server, wait_until};

fn pid(text: &str) -> u32 {
    text.trim().parse().unwrap_or_else(|e| panic!("{text:?} is no process number: {e}"))
}

#[test]
fn a_program_that_ends_with_its_input_gets_no_signal() {
    let scratch = Scratch::new();
    let script =
        format!("trap 'echo signal >> {0}' TERM; echo ready; cat; echo end >> {0}", scratch.name("seen"));
    let server = Server::sh(&script);
    let mut client = server.join("/room");
    client.expect_text("ready");
    client.leave();
    server.wait_for_line(&["program ended", "exit status 0"]);
    assert_eq!(scratch.await_bytes("seen", 4), b"end\n");
}

#[test]
fn a_program_that_ignores_the_end_of_input_and_the_signal_is_killed_after_its_grace() {
    let server = Server::with(&["--grace", "0.5"]).sh("trap '' TERM; echo $$; while :; do sleep 1; done");
    let mut client = server.join("/room");
    let pid = pid(&client.text());
    let start = Instant::now();
    client.leave();
    await_end(pid);
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(750), "killed after {time:?}");
    server.wait_for_line(&["program ended", "killed by signal 9"]);
    wait_until("it has been reaped", || server.children().is_empty());
}

#[test]
fn a_program_that_ignores_the_end_of_input_gets_the_stop_signal_with_its_group() {
    let scratch = Scratch::new();
    let script = format!(
        "(trap 'echo inner >> {0}; exit' TERM; while :; do sleep 0.05; done) & \
         trap 'echo outer >> {0}; wait; exit' TERM; echo ready; while :; do sleep 0.05; done",
        scratch.name("seen")
    );
    let server = Server::with(&["--grace", "60"]).sh(&script);
    let mut client = server.join("/room");
    client.expect_text("ready");
    client.leave();
    let seen = scratch.await_bytes("seen", 12);
    let mut seen: Vec<_> = seen.split(|&byte| byte == b'\n').collect();
    seen.sort();
    assert_eq!(seen, [&b""[..], b"inner", b"outer"]);
    wait_until("it has been reaped", || server.children().is_empty());
}

#[test]
fn stopsignal_is_the_signal_that_is_sent() {
    for name in ["INT", "SIGINT", "2"] {
        let server = Server::with(&["--grace", "60", "--stopsignal", name])
            .sh("trap '' TERM HUP; trap 'exit 42' INT; echo ready; while :; do sleep 0.05; done");
        let mut client = server.join("/room");
        client.expect_text("ready");
        client.leave();
        server.wait_for_line(&["program ended", "exit status 42"]);
    }
}

#[test]
fn output_of_a_grandchild_soon_after_the_exit_is_delivered() {
    // It holds the output open for ever, and speaks once when its parent has exited.
    let scratch = Scratch::new();
    let server = Server::sh(&format!(
        "(while [ ! -e {} ]; do sleep 0.01; done; echo late; exec sleep 1000) & \
         echo $!; printf unterminated; exit 5",
        scratch.name("go")
    ));
    let mut client = server.join("/room");
    let grandchild = pid(&client.text());
    let start = Instant::now();
    if let Some(&program) = server.children().first() {
        wait_until("the program has exited", || !runs(program));
    }
    scratch.file("go", "");
    client.expect_text("unterminatedlate");
    assert_eq!(client.expect_close(1011), "exit status 5");
    assert!(start.elapsed() >= Duration::from_millis(500), "all of it is waited for: {:?}", start.elapsed());
    await_end(grandchild);
}

#[test]
fn no_process_of_the_group_outlives_the_program() {
    let server = Server::sh("sleep 1000 >/dev/null 2>&1 </dev/null & echo $!; read -r go; exit 0");
    let mut client = server.join("/room");
    let grandchild = pid(&client.text());
    let start = Instant::now();
    client.send_text("go");
    client.expect_close(1000);
    await_end(grandchild);
    assert!(start.elapsed() < Duration::from_secs(10), "nobody holds the output: {:?}", start.elapsed());
}

#[test]
fn endless_output_after_the_exit_is_cut_off_after_a_second() {
    let server = Server::sh("(trap '' TERM; while :; do echo again; done) & echo $!; exit 0");
    let mut seen = server.join("/room").texts_to_close(1000);
    seen.retain(|text| text != "again");
    assert_eq!(seen.len(), 1, "{seen:?}");
    await_end(pid(&seen[0]));
}

#[test]
fn a_program_that_closes_its_output_goes_on_reading() {
    let scratch = Scratch::new();
    let script = format!(
        "echo bye; exec >&-; while read -r line; do echo \"$line\" >> {}; done",
        scratch.name("seen")
    );
    let server = Server::sh(&script);
    let mut client = server.join("/room");
    client.expect_text("bye");
    client.send_text("one");
    client.expect_alive();
    let mut other = server.join("/room");
    other.send_text("two");
    other.expect_alive();
    scratch.await_bytes("seen", 8);
    let cpu = cpu_ticks(server.pid());
    client.send_text("three");
    assert_eq!(scratch.await_bytes("seen", 14).len(), 14);
    assert!(cpu_ticks(server.pid()) - cpu < 50, "a thread spins on the closed pipe");
    client.leave();
    other.leave();
    wait_until("it ends with its clients", || server.children().is_empty());
}

/// Hundredths of a second that a process has computed (`utime` and `stime` of `/proc/PID/stat`).
fn cpu_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<_> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

#[test]
fn a_program_that_closes_its_input_goes_on_printing_and_what_it_misses_is_counted() {
    let scratch = Scratch::new();
    let server = Server::with(&["-v"]).sh(&format!(
        "exec <&-; echo closed; while [ ! -e {} ]; do sleep 0.01; done; echo more; while :; do sleep 1; done",
        scratch.name("go")
    ));
    let mut client = server.join("/room");
    client.expect_text("closed");
    for _ in 0..3 {
        client.send_text("nobody hears this");
        client.expect_alive();
    }
    server.wait_for_line(&["dropped", "reads no more"]);
    scratch.file("go", "");
    client.expect_text("more");
    client.leave();
    server.wait_for_line(&["dropped", "reads no more"]);
}

#[test]
fn a_program_that_takes_nothing_does_not_keep_its_output_waiting() {
    // Much goes in that is never read; what comes out passes all the same.
    let server = Server::with(&["--grace", "0.1"])
        .sh("i=0; while [ $i -lt 100 ]; do echo $i; sleep 0.005; i=$((i+1)); done; echo end; sleep 1000");
    let mut client = server.join("/room");
    let sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let frame = crate::support::frame::text(&"x".repeat(60_000));
            // The connection ends in the middle of it.
            while sender.try_send(&frame).is_ok() {}
        });
        for number in 0..100 {
            client.expect_text(&number.to_string());
        }
        client.expect_text("end");
        client.raw.socket.shutdown(std::net::Shutdown::Both);
    });
    client.reset();
    wait_until("the program has ended", || server.children().is_empty());
}

#[test]
fn standard_error_goes_to_the_log_line_by_line_cut_at_8_kib() {
    let server = Server::with(&["--stderr", "log"]).sh(
        "echo oops >&2; head -c 9216 /dev/zero | tr '\\0' x >&2; echo >&2; printf last >&2; echo $$; cat",
    );
    let mut client = server.join("/room");
    let pid = client.text();
    let line = server.wait_for_line(&["stderr", "line=oops"]);
    assert!(line.contains("[room]") && line.contains(&format!("pid={pid}")), "{line}");
    let line = server.wait_for_line(&["line=xxx"]);
    assert_eq!(line.matches('x').count(), 8192, "cut");
    client.leave();
    server.wait_for_line(&["line=last"]);
}

#[test]
fn standard_error_in_the_log_cannot_break_a_line() {
    let server =
        Server::with(&["--stderr", "log"]).sh(r"printf 'a\033[31m\rb\377 ERROR\n' >&2; echo said; cat");
    let mut client = server.join("/room");
    client.expect_text("said");
    let line = server.wait_for_line(&["stderr", "[room]"]);
    assert!(!line.contains('\x1b') && !line.contains('\r'), "{line:?}");
}

#[test]
fn standard_error_can_be_the_servers_own_or_nothing() {
    let script = "echo oops >&2; echo said; cat";
    for options in [&["--stderr", "inherit"] as &[&str], &[]] {
        let server = Server::with(options).sh(script);
        server.join("/room").expect_text("said");
        server.wait_for_log(|line| line == "oops");
    }
    let mut server = Server::with(&["--stderr", "null"]).sh(script);
    server.join("/room").expect_text("said");
    server.stop();
    let lines = server.log.all_lines();
    assert!(!lines.iter().any(|line| line.contains("oops")), "{lines:?}");
}

#[test]
fn a_program_finds_no_descriptor_of_the_server() {
    let script = "ls /proc/self/fd | tr '\\n' ' '; echo";
    // What this test was started with is handed on to everybody.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]);
    let wanted = String::from_utf8(run_command(command).stdout).expect("numbers");
    let server = Server::sh(&format!("{script}; cat"));
    let others: Vec<_> = (0..5).map(|room| server.join(&format!("/{room}"))).collect();
    for mut client in others {
        client.expect_text(wanted.trim_end_matches('\n'));
    }
}

#[test]
fn a_program_is_started_with_the_default_signals_and_its_own_group() {
    let server =
        Server::sh("grep -E 'SigIgn|SigBlk' /proc/self/status; cut -d ' ' -f 5 /proc/$$/stat; echo $$; cat");
    let mut client = server.join("/room");
    let (blocked, ignored) = (client.text(), client.text());
    let mask = |line: &str| {
        let mask = line.split_whitespace().last().expect("a mask");
        // Those above 31 are the C library's own, or the caller's.
        u64::from_str_radix(mask, 16).expect("a number in hex") & 0x7fff_ffff
    };
    assert_eq!(mask(&blocked), 0, "{blocked}");
    // What the tests themselves were started with, in the background of a shell for one, is handed on.
    let own = std::fs::read_to_string("/proc/self/status").expect("status");
    let own = mask(own.lines().find(|line| line.starts_with("SigIgn")).expect("a line"));
    assert_eq!(mask(&ignored) & !own, 0, "{ignored}");
    let group = client.text();
    assert_eq!(group, client.text(), "the group is its own");
}
