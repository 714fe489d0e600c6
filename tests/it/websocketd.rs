//! The face of websocketd: routes, scripts, environment, origins, the number of programs, the log.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use crate::support::process::runs;
use crate::support::raw::Address;
use crate::support::websocketd::{Websocketd, run};
use crate::support::{Client, Raw, Scratch, ports, wait_until};

/// The variables that a program prints up to the end of its client's session.
fn environment(client: &mut Client) -> Vec<String> {
    client.texts_to_close(1000)
}

fn value<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn each_client_has_a_program_of_its_own_on_any_path() {
    let server = Websocketd::start(&["sh", "-c", "echo $$; exec cat"]);
    let mut clients: Vec<_> = ["/", "/a/b", "/a/b?c=\"d\""].map(|path| server.join(path)).into();
    let mut pids: Vec<_> = clients.iter_mut().map(Client::text).collect();
    for client in &mut clients {
        client.send_text("hello");
        client.expect_text("hello");
    }
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 3);
}

#[test]
fn the_environment_is_that_of_websocketd() {
    let server = Websocketd::start(&["env"]);
    let fields = "Origin: http://a.example\r\nX-A: 1\r\nx-a: 2\r\nProxy: evil\r\n";
    let mut client = Client::connect_with(&server.address, "/a%20b/c?x=%20y", fields).expect("joined");
    let port = client.address().rsplit_once(':').expect("a port").1.to_owned();
    let environment = environment(&mut client);
    let connected = server.line(&["CONNECT"]);
    let id = connected.split("id:'").nth(1).and_then(|rest| rest.split('\'').next()).expect("an id");
    for (name, wanted) in [
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_HOST", "127.0.0.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", "/"),
        ("PATH_INFO", "/a b/c"),
        ("PATH_TRANSLATED", "/a b/c"),
        ("QUERY_STRING", "x=%20y"),
        ("AUTH_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("CONTENT_TYPE", ""),
        ("REMOTE_IDENT", ""),
        ("REMOTE_USER", ""),
        ("UNIQUE_ID", id),
        ("REMOTE_PORT", &port),
        ("REQUEST_URI", "/a%20b/c?x=%20y"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_ORIGIN", "http://a.example"),
        ("HTTP_X_A", "1, 2"),
    ] {
        assert_eq!(value(&environment, name), Some(wanted), "{name}");
    }
    assert!(value(&environment, "SERVER_SOFTWARE").is_some_and(|text| text.starts_with("websocketd/")));
    for name in ["HTTP_PROXY", "HTTPS", "ROOM", "HOME"] {
        assert_eq!(value(&environment, name), None, "{name}");
    }
}

#[test]
fn a_directory_has_a_script_for_each_path() {
    let scratch = Scratch::new();
    let show = r#"echo "$SCRIPT_NAME|$PATH_INFO|$PATH_TRANSLATED|$REQUEST_URI|$*""#;
    fs::create_dir_all(scratch.path("dir/sub")).expect("directories");
    for name in ["dir/s.sh", "dir/sub/t.sh", "dir/.dot", "outside"] {
        scratch.script(name, show);
    }
    fs::set_permissions(scratch.file("dir/nox", "x"), fs::Permissions::from_mode(0o644)).expect("chmod");
    symlink("../outside", scratch.path("dir/link")).expect("symlink");
    let server = Websocketd::start(&["--dir", &scratch.name("dir")]);
    for (path, wanted) in [
        ("/s.sh", "/s.sh||/s.sh|/s.sh|"),
        ("/s.sh/", "/s.sh|/|/s.sh/|/s.sh/|"),
        ("/s.sh/a/b?q=1", "/s.sh|/a/b|/s.sh/a/b|/s.sh/a/b?q=1|"),
        ("/sub/t.sh/z", "/sub/t.sh|/z|/sub/t.sh/z|/sub/t.sh/z|"),
        ("/s%2esh", "/s.sh||/s.sh|/s%2esh|"),
        ("/.dot", "/.dot||/.dot|/.dot|"),
    ] {
        assert_eq!(server.join(path).texts_to_close(1000), [wanted], "{path}");
    }
    for path in ["/", "/sub", "/sub/", "/none", "/none/x", "/link"] {
        assert_eq!(server.refused(path, ""), (404, "404 Not Found\n".to_owned()), "{path}");
    }
    assert_eq!(server.refused("/nox", ""), (403, "Forbidden\n".to_owned()));
    server.line(&["ACCESS | session", "/none'", "| NOT FOUND: script not found"]);
    server.line(&["command:'", "/dir/sub/t.sh'", "| CONNECT"]);
}

#[test]
fn requests_are_refused_with_the_status_of_websocketd() {
    let server = Websocketd::start(&["cat"]);
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, path, more, status, body) in [
        ("GET", "/", "Sec-WebSocket-Version: 13\r\n", 400, "Bad Request\n"),
        ("GET", "/", &format!("{key}Sec-WebSocket-Version: 12\r\n"), 400, "Bad Request\n"),
        ("POST", "/", &format!("{key}Sec-WebSocket-Version: 13\r\n"), 405, "Method Not Allowed\n"),
    ] {
        let response = server.ask(method, path, &[upgrade, more].concat());
        assert_eq!((response.status, response.text()), (status, body), "{method} {more}");
        assert_eq!(response.field("sec-websocket-version"), Some("13"));
    }
    for (path, fields) in [
        ("/", ""),
        ("/x", "Upgrade: websocket\r\n"),
        ("/", "Upgrade: x, websocket\r\nConnection: Upgrade\r\n"),
    ] {
        let response = server.ask("GET", path, fields);
        assert_eq!((response.status, response.text()), (404, "404 page not found\n"), "{path} {fields}");
    }
    assert_eq!(server.ask("GET", "/%zz", "").status, 400);
    for (path, place) in [("//x?y", "/x?y"), ("/a/../b", "/b"), ("/..", "/")] {
        for fields in ["", upgrade] {
            let response = server.ask("GET", path, fields);
            assert_eq!((response.status, response.field("location")), (301, Some(place)), "{path}");
        }
    }
}

#[test]
fn pages_of_other_origins_are_refused() {
    for (options, origin, wanted) in [
        (&[] as &[&str], "Origin: bad origin\r\n", Some("Origin parsing error")),
        (&[], "Origin: null\r\n", None),
        (&["--sameorigin"], "", Some("Same origin policy mismatch")),
        (&["--sameorigin"], "Origin: http://localhost\r\n", None),
        (&["--origin=a.example,b.example"], "Origin: https://b.example:99\r\n", None),
        (
            &["--origin=a.example"],
            "Origin: http://c.example\r\n",
            Some("Origin is not listed in allowed list"),
        ),
    ] {
        let server = Websocketd::start(&[options, &["cat"]].concat());
        match wanted {
            None => {
                assert!(Client::connect_with(&server.address, "/", origin).is_ok(), "{options:?} {origin}");
            }
            Some(reason) => {
                assert_eq!(server.refused("/", origin), (403, "Forbidden\n".to_owned()), "{options:?}");
                server.line(&["ACCESS | session", reason]);
            }
        }
    }
}

#[test]
fn a_place_among_maxforks_is_taken_until_the_program_is_gone() {
    let server =
        Websocketd::start(&["--maxforks=1", "sh", "-c", "trap '' INT TERM; echo $$; read x; sleep 1000"]);
    let mut client = server.join("/");
    let pid: u32 = client.text().parse().expect("a process number");
    let full = (429, "429 Too Many Requests\n".to_owned());
    assert_eq!(server.refused("/", ""), full);
    server.line(&["ERROR  | http", "Max of possible forks already active, upgrade rejected"]);
    client.leave();
    // It ignores the first two signals, so the end takes a while.
    let mut next = None;
    wait_until("there is room again", || {
        next = Client::connect_with(&server.address, "/", "").ok();
        next.is_some()
    });
    assert!(!runs(pid), "the place was given away before the program was gone");
}

#[test]
fn the_log_has_the_lines_of_websocketd() {
    let scratch = Scratch::new();
    scratch.file("f.txt", "hello");
    let script = "echo 'it is\tbad' >&2; read x; exit 0";
    let server = Websocketd::start(&["--staticdir", &scratch.name(""), "sh", "-c", script]);
    let mut client = Client::connect_with(&server.address, "/a?b", "Origin: http://x\r\n").expect("joined");
    let stderr = server.line(&["ERROR  | stderr"]);
    client.send_text("");
    client.expect_close(1000);
    let left = server.line(&["DISCONNECT"]);
    let joined = server.line(&["CONNECT"]);
    let (date, scope) = joined.split_once(" | ACCESS | session    | ").expect("a line of a session");
    assert!(date.ends_with(" +0000") && date.contains(", "), "{date}");
    let scope = scope.strip_suffix(" | CONNECT").expect("CONNECT");
    assert!(scope.starts_with("url:'http://localhost/a?b' id:'"), "{scope}");
    assert!(scope.contains("' remote:'127.0.0.1' command:'"), "{scope}");
    assert!(scope.ends_with("/sh' origin:'http://x'"), "{scope}");
    let pid = left.split("pid:'").nth(1).and_then(|rest| rest.split('\'').next()).expect("a pid");
    assert!(left.ends_with(&format!(" | ACCESS | session    | {scope} pid:'{pid}' | DISCONNECT")), "{left}");
    let bad = format!(" | ERROR  | stderr     | {scope} pid:'{pid}' | it is\tbad");
    assert!(stderr.ends_with(&bad), "{stderr}");

    assert_eq!(server.ask("GET", "/f.txt", "").text(), "hello");
    server.line(&[" | ACCESS | http       | url:'http://localhost/f.txt' | STATIC"]);
    let Address::Tcp(address) = &server.address else { panic!("TCP") };
    for end in [
        format!("/sh -c {script}"),
        format!("Serving static content from : {}", scratch.name("")),
        format!(" | INFO   | server     |  | Starting WebSocket server   : ws://{address}/"),
        format!(" | INFO   | server     |  | Serving CGI or static files : http://{address}/"),
    ] {
        assert!(server.log.lines().iter().any(|line| line.ends_with(&end)), "{end}");
    }
}

#[test]
fn the_console_is_served_on_every_path_beside_the_program() {
    let server = Websocketd::start(&["--devconsole", "cat"]);
    for path in ["/", "/a/b?c"] {
        let response = server.ask("GET", path, "");
        let kind = response.field("content-type").expect("a type");
        assert_eq!((response.status, kind.starts_with("text/html")), (200, true), "{path}");
        server.line(&[&format!(" | ACCESS | http       | url:'http://localhost{path}' | DEVCONSOLE")]);
    }
    server.line(&["Developer console enabled   : http://127.0.0.1:"]);
    server.join("/").leave();
}

#[test]
fn cgi_programs_come_before_files_and_count_among_maxforks() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("cgi")).expect("a directory");
    scratch
        .script("cgi/c.sh", "printf 'Content-Type: text/plain\\r\\n\\r\\n'; echo $REQUEST_METHOD $PATH_INFO");
    scratch.file("c.sh", "file");
    let options = ["--maxforks=1", "--cgidir", &scratch.name("cgi"), "--staticdir", &scratch.name("")];
    let server = Websocketd::start(&[&options as &[&str], &["sh", "-c", "echo; cat"]].concat());
    assert_eq!(server.ask("GET", "/c.sh", "").text(), "GET /c.sh\n");
    server.line(&[" | ACCESS | http       | url:'http://localhost/c.sh' cgiscript:'", "/cgi/c.sh' | CGI"]);
    let mut client = None;
    wait_until("the CGI program has given its place back", || {
        client = Client::connect_with(&server.address, "/", "").ok();
        client.is_some()
    });
    client.as_mut().expect("joined").text();
    let full = server.ask("GET", "/c.sh", "");
    assert_eq!((full.status, full.text()), (429, "429 Too Many Requests\n"));
}

#[test]
fn no_access_line_is_held_back() {
    let server = Websocketd::start(&["true"]);
    for _ in 0..40 {
        assert_eq!(server.ask("GET", "/none", "").status, 404);
        server.join("/").expect_close(1000);
    }
    for message in ["| NOT FOUND", "| CONNECT", "| DISCONNECT"] {
        wait_until(message, || {
            server.log.lines().iter().filter(|line| line.ends_with(message)).count() == 40
        });
    }
}

#[test]
fn a_program_that_cannot_be_started_is_logged_and_closes_the_client() {
    let scratch = Scratch::new();
    let program = scratch.script("gone", "true");
    let server = Websocketd::start(&[&program]);
    fs::remove_file(&program).expect("remove the program");
    server.join("/").expect_close(1011);
    server.line(&["ERROR  | process    | url:'", "| Could not launch process (", &program]);
}

#[test]
fn a_port_that_redirects_keeps_host_path_and_query() {
    let (port, other) = (ports::free(1), ports::free(1));
    let words = ["--address=127.0.0.1".to_owned(), format!("--port={port}"), format!("--redirport={other}")];
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["cat"]).collect();
    let address = Address::parse(&format!("127.0.0.1:{port}"));
    let server = Websocketd::listening(address, &words);
    server.line(&[&format!("Starting redirect server   : http://127.0.0.1:{other}/")]);
    let redirecting = Address::parse(&format!("127.0.0.1:{other}"));
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for fields in ["", upgrade] {
        let response = Raw::connect(&redirecting).ask("GET", "/a/b?c", fields);
        let place = format!("http://localhost:{port}/a/b?c");
        assert_eq!((response.status, response.field("location")), (301, Some(&*place)));
    }
    assert!(Client::connect_with(&server.address, "/", "").is_ok());
}

#[test]
fn a_unix_socket_is_served_alone_and_has_no_address() {
    let scratch = Scratch::new();
    let path = scratch.name("socket");
    let server = Websocketd::listening(Address::Unix(path.clone().into()), &["--unixsocket", &path, "env"]);
    let environment = environment(&mut server.join("/"));
    for (name, wanted) in
        [("REMOTE_ADDR", "unix-socket"), ("REMOTE_HOST", "unix-socket"), ("REMOTE_PORT", "")]
    {
        assert_eq!(value(&environment, name), Some(wanted), "{name}");
    }
    server.line(&["remote:'unix-socket'", "| CONNECT"]);
}

#[test]
fn a_port_in_use_is_fatal() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let (status, lines) = run(&["--address=127.0.0.1", "--port", &port, "cat"]);
    assert_eq!(status.code(), Some(3));
    let fatal = |line: &String| line.contains(" | FATAL  | server     |  | Can't start server: ");
    assert!(lines.iter().any(fatal), "{lines:?}");
}

#[test]
fn the_name_of_an_address_is_looked_up() {
    let server = Websocketd::start(&["--reverselookup", "env"]);
    let started = std::time::Instant::now();
    let environment = environment(&mut server.join("/"));
    // Whatever the resolver says, it is a name or the address, and it is there soon.
    assert!(started.elapsed() < Duration::from_secs(15));
    let host = value(&environment, "REMOTE_HOST").expect("a name or the address");
    assert!(!host.is_empty());
    server.line(&[&format!("remote:'{host}'"), "| CONNECT"]);
    assert_eq!(value(&environment, "REMOTE_ADDR"), Some("127.0.0.1"));
}
