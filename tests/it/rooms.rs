//! Who shares a process with whom, and when it begins and ends.

use crate::support::Server;
use crate::support::process::await_end;

/// Says who it is, and repeats what it is told.
const WHO: &str = r#"echo "$$"; while read -r line; do echo "$line $$"; done"#;

#[test]
fn clients_of_one_path_share_one_process_and_others_have_their_own() {
    let server = Server::sh(WHO);
    let mut first = server.join("/one");
    let pid = first.text();
    let mut second = server.join("/one");
    second.send_text("hello");
    first.expect_text(&format!("hello {pid}"));
    second.expect_text(&format!("hello {pid}"));
    let mut other = server.join("/other");
    let other_pid = other.text();
    assert_ne!(pid, other_pid);
    first.leave();
    second.leave();
    await_end(pid.parse().expect("a process number"));
    other.send_text("still here");
    other.expect_text(&format!("still here {other_pid}"));
}
