//! The limit on descriptors that programs get, whatever the server itself has come to need.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::raw::Raw;
use crate::support::{Scratch, Server, wait_until};

/// Programs that say what their limits are: by themselves, and through processes that they start.
const SAYS: &str =
    r#"echo "$(ulimit -Sn) $(ulimit -Hn) $(sh -c 'ulimit -Sn | cat')"; ulimit -Sn; sh -c 'ulimit -Sn'"#;

/// The soft limit that servers are started with.
const SOFT: usize = 256;

fn serve(script: &str) -> Server {
    Server::with(&["-v", "--handshaketimeout=600"])
        .through_shell(&format!("ulimit -Sn {SOFT} && exec \"$@\""))
        .sh(script)
}

/// The soft limit of a server, and its hard one.
fn limits(server: &Server) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("the server runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().expect("the soft one"), words.next().expect("the hard one"))
}

/// Has the server need more than half of its soft limit.
fn crowd(server: &Server) -> Vec<Raw> {
    let crowd = (0..SOFT / 2).map(|_| server.raw()).collect();
    wait_until("the server has raised its limit", || {
        let (soft, hard) = limits(server);
        soft == hard
    });
    crowd
}

/// Starts so many programs, some at a time; gives what those say that have another limit.
fn wrong_limits(server: &Server, starts: usize) -> Vec<Vec<String>> {
    const THREADS: usize = 4;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let hard = limits(server).1;
    let wanted = [format!("{SOFT} {hard} {SOFT}"), SOFT.to_string(), SOFT.to_string()];
    let start = || {
        let room = format!("/{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.join(&room).texts_to_close(1000)
    };
    let start_many =
        || -> Vec<_> { (0..starts / THREADS).map(|_| start()).filter(|said| *said != wanted).collect() };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(start_many)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("all start")).collect()
    })
}

#[test]
fn every_program_has_the_limit_on_descriptors_that_the_server_was_started_with() {
    let server = serve(SAYS);
    let wrong = wrong_limits(&server, 300);
    assert_eq!(wrong.first(), None, "{} of 300 programs have another limit", wrong.len());
    assert_eq!(limits(&server).0, SOFT.to_string(), "the server has not needed more");

    let crowd = crowd(&server);
    let wrong = wrong_limits(&server, 300);
    assert_eq!(wrong.first(), None, "{} of 300 programs have another limit", wrong.len());
    drop(crowd);
    let wrong = wrong_limits(&server, 20);
    assert_eq!(wrong.first(), None, "{} of 20 programs have another limit", wrong.len());
}

#[test]
fn programs_that_start_while_the_limit_is_raised_have_the_old_one() {
    for _ in 0..3 {
        let server = serve(SAYS);
        std::thread::scope(|scope| {
            let programs = scope.spawn(|| wrong_limits(&server, 100));
            let crowd = crowd(&server);
            let wrong = programs.join().expect("all start");
            assert_eq!(wrong.first(), None, "{} of 100 programs have another limit", wrong.len());
            drop(crowd);
        });
    }
}

#[test]
fn a_program_is_the_same_whether_or_not_the_limit_was_raised() {
    // Name and arguments, file, environment, signals, descriptors, whether it leads its process group.
    // The shell blocks signals while it starts others, so it reads its own status first, by itself.
    let script = r#"while read -r line; do
            case $line in Sig[!Q]* | Shd* | Cap* | Seccomp* | NoNew* | Groups* | Uid*) echo "$line";; esac
        done < /proc/$$/status
        read -r pid name state parent group session rest < /proc/$$/stat; [ $group = $$ ] && echo leader
        for file in cmdline environ; do tr '\0' '\n' < /proc/$$/$file; done
        cat /proc/$$/limits; readlink /proc/$$/exe; ls /proc/$$/fd; pwd; umask"#;
    let server = Server::with(&["--passenv=ODD,EMPTY", "--cgienv", "--handshaketimeout=600"])
        .env("ODD", "a=b c\n\u{e9}")
        .env("EMPTY", "")
        .through_shell(&format!("ulimit -Sn {SOFT} && exec \"$@\""))
        .program(&["sh", "-c", script, "", "an argument", "", "\u{e9}"]);
    let describe = || {
        let mut said = server.join("/room?query").texts_to_close(1000);
        said.retain(|line| !line.starts_with("REMOTE_"));
        said
    };
    let before = describe();
    assert!(before.contains(&"leader".to_owned()) && before.contains(&"EMPTY=".to_owned()), "{before:#?}");
    let _crowd = crowd(&server);
    assert_eq!(before, describe());
}

#[test]
fn a_program_that_cannot_be_executed_once_the_limit_was_raised_says_so() {
    let scratch = Scratch::new();
    let program = scratch.script("program", "exit 0");
    let server = Server::with(&["--handshaketimeout=600"])
        .through_shell(&format!("ulimit -Sn {SOFT} && exec \"$@\""))
        .program(&[&program]);
    let _crowd = crowd(&server);
    assert_eq!(server.join("/room").expect_close(1000), "");
    std::fs::remove_file(&program).expect("remove the program");
    assert_eq!(server.join("/room").expect_close(1011), "exit status 127");
    server.wait_for_line(&["cannot start", &program, "No such file"]);
}

#[test]
fn programs_start_after_the_servers_own_file_was_replaced() {
    let scratch = Scratch::new();
    let own = scratch.name("scalesocket");
    let line = format!("cp \"$1\" {own} && shift && ulimit -Sn {SOFT} && exec {own} \"$@\"");
    let server = Server::with(&["--handshaketimeout=600"]).through_shell(&line).sh(SAYS);
    std::fs::remove_file(&own).expect("remove the server's file");
    scratch.script("scalesocket", "echo replaced");
    let _crowd = crowd(&server);
    let wrong = wrong_limits(&server, 4);
    assert_eq!(wrong.first(), None);
}
