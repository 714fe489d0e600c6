//! Framings of other families: JSON lines, a language server's messages, messages that end in NUL.

use crate::support::openmetrics::await_value;
use crate::support::{Scratch, Server};

const DROPPED: &str = "scalesocket_messages_dropped_total";

#[test]
fn json_lines_pass_both_ways_with_nothing_added_and_no_key_obeyed() {
    let server = Server::with(&["--frame=jsonl", "--metrics"]).cat();
    let mut client = server.member("/room");
    let mut other = server.member("/room");
    for (message, line) in [
        (r#"{"jsonrpc":"2.0","id":1,"_from":5,"_to":9}"#, r#"{"jsonrpc":"2.0","id":1,"_from":5,"_to":9}"#),
        ("[1,\r\n 2]\n", "[1,   2] "),
        ("\"a\\nb\"", "\"a\\nb\""),
        ("null", "null"),
        (r#"{"_meta":true}"#, r#"{"_meta":true}"#),
    ] {
        client.send_text(message);
        client.expect_text(line);
        other.expect_text(line);
    }
    for message in ["", "hello", "{} {}", "{\"a\":\"\n\"}", "[1,]"] {
        client.send_text(message);
    }
    client.send_text("1");
    client.expect_text("1");
    await_value(&server, DROPPED, &[("reason", "not json")], 5.0);
    client.leave();
    server.wait_for_line(&["WARN", "not JSON"]);
}

#[test]
fn a_line_of_the_program_that_is_no_json_is_sent_as_it_is() {
    let server =
        Server::with(&["--frame=jsonl"]).sh("read -r go; echo starting; printf '{\"a\":1}\\r\\n'; cat");
    let mut client = server.join("/room");
    client.send_text("1");
    client.expect_text("starting");
    client.expect_text(r#"{"a":1}"#);
}

#[test]
fn messages_of_a_language_server_have_no_header_on_the_websocket() {
    let scratch = Scratch::new();
    let server = Server::with(&["--frame=lsp"]).sh(&format!("tee {}", scratch.name("seen")));
    let mut client = server.join("/room");
    let large = format!("\"{}\"", "x".repeat(200_000));
    let messages = ["{\"jsonrpc\":\"2.0\"}", "two\r\n\r\nlines", "", "\u{fc}", &large];
    let mut wanted = Vec::new();
    for message in messages {
        client.send_text(message);
        wanted.extend_from_slice(format!("Content-Length: {}\r\n\r\n{message}", message.len()).as_bytes());
    }
    for message in messages {
        client.expect_text(message);
    }
    assert!(scratch.await_bytes("seen", wanted.len()) == wanted);
}

#[test]
fn a_broken_header_of_a_language_server_ends_it_and_the_log_says_why() {
    let server = Server::with(&["--serverframe=lsp"]).sh(
        "read -r go; printf 'Content-Length: 2\\r\\n\\r\\n{}'; echo 'Starting the server'; exec sleep 1000",
    );
    let mut client = server.join("/room");
    client.send_text("go");
    assert_eq!(client.texts_to_close(1011), ["{}"]);
    server.wait_for_line(&["ERROR", "[room]", "broke the framing", "CR LF"]);
}

#[test]
fn with_null_both_a_message_of_several_lines_stays_whole() {
    let scratch = Scratch::new();
    let server = Server::with(&["--null=both", "--joinmsg=join\n#ID"])
        .sh(&format!("exec tee {}", scratch.name("seen")));
    let mut client = server.join("/room");
    client.expect_text("join\n1");
    client.send_text("two\nlines\n");
    client.expect_text("two\nlines\n");
    client.send_text("");
    client.expect_text("");
    assert_eq!(scratch.await_bytes("seen", 19), b"join\n1\0two\nlines\n\0\0");
}

#[test]
fn a_prompt_without_an_end_is_a_message_after_the_time_of_partial() {
    let server = Server::with(&["--partial", "50"])
        .sh("printf 'name? '; read n; printf 'hello '; sleep 0; echo $n; cat");
    let mut client = server.join("/room");
    client.expect_text("name? ");
    client.send_text("Ann");
    let rest = client.text();
    assert!(rest == "hello Ann" || (rest == "hello " && client.text() == "Ann"), "{rest:?}");
    // A message that has its end is one, however long the next one takes.
    client.send_text("whole");
    client.expect_text("whole");
    client.expect_alive();
}

#[test]
fn without_partial_a_prompt_waits_for_its_end() {
    let server = Server::sh("printf 'name? '; read n; echo $n");
    let mut client = server.join("/room");
    client.expect_alive();
    client.send_text("Ann");
    client.expect_text("name? Ann");
}
