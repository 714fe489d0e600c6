//! `--cgidir` and the static files of websocketd's face.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::process::{self, forking};
use crate::support::raw::{Address, Ended, Response};
use crate::support::server::{BINARY, Log};
use crate::support::{DEADLINE, Raw, Scratch, ports, wait_until};

/// A server with websocketd's face and only plain requests. It logs to its standard output.
struct Site {
    scratch: Scratch,
    child: Child,
    log: Log,
    address: Address,
}

impl Site {
    /// With CGI programs, each a name and a script, and these options.
    fn start(programs: &[(&str, &str)], options: &[&str]) -> Self {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("cgi/sub")).expect("create directories");
        for (name, script) in programs {
            scratch.script(&format!("cgi/{name}"), script);
        }
        let mut command = Command::new(BINARY);
        command
            .args(["--websocketd", &format!("--port={}", ports::free(1)), "--address=127.0.0.1"])
            .args(["--cgidir", &scratch.name("cgi")])
            .args(options.iter().map(|option| option.replace("DIR", &scratch.name(""))))
            .env("TEST_SECRET", "not passed on")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = {
            let _alone = forking();
            command.spawn().expect("start the server")
        };
        let log = Log::collect(child.stdout.take().expect("standard output is piped"));
        let line = log.wait_for(|line| line.contains("Serving CGI or static files"));
        let address = line.rsplit_once("//").expect("a URL").1.trim_end_matches('/');
        let address = Address::parse(address);
        Self { scratch, child, log, address }
    }

    fn raw(&self) -> Raw {
        Raw::connect(&self.address)
    }

    fn ask(&self, method: &str, target: &str, fields: &str) -> Response {
        self.raw().ask(method, target, fields)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    /// Waits until no program runs and none waits to be reaped.
    fn await_no_program(&self) {
        wait_until("all programs are gone", || process::children(self.pid()).is_empty());
    }

    /// The number that a program has written to a file.
    fn await_pid(&self, name: &str) -> u32 {
        let mut pid = None;
        wait_until(name, || {
            let text = fs::read_to_string(self.scratch.path(name)).unwrap_or_default();
            pid = text.strip_suffix('\n').and_then(|text| text.parse().ok());
            pid.is_some()
        });
        pid.expect("a number")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in process::children(self.pid()) {
            process::signal_group(child, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let lines = self.log.lines();
            assert_eq!(lines.iter().find(|line| line.contains("panicked at")), None);
        }
    }
}

const OK: &str = "printf 'Content-Type: text/plain\\n\\n'";

/// A script that answers with what this one prints.
fn prints(script: &str) -> String {
    format!("{OK}; {script}")
}

#[test]
fn a_program_gets_the_request_as_cgi_variables_and_input_in_its_own_directory() {
    let site = Site::start(&[("sub/env.sh", &prints("env; echo PWD=$PWD; echo \"<$(cat)>\""))], &[]);
    let mut raw = site.raw();
    raw.send(
        "POST /sub/%65nv.sh?a=b%20c HTTP/1.1\r\nHost: example.com:81\r\nContent-Length: 5\r\n\
         Content-Type: a/b\r\nX-Foo: 1\r\nx-foo: 2\r\nCookie: c\r\nCookie: d\r\nProxy: http://evil\r\n\r\nhello",
    );
    let response = raw.response("POST");
    assert_eq!((response.status, response.field("content-type")), (200, Some("text/plain")));
    let lines: Vec<&str> = response.text().lines().collect();
    let file = site.scratch.name("cgi/sub/env.sh");
    for expected in [
        "GATEWAY_INTERFACE=CGI/1.1",
        "REQUEST_METHOD=POST",
        "SCRIPT_NAME=/",
        "PATH_INFO=/sub/env.sh",
        "QUERY_STRING=a=b%20c",
        "REQUEST_URI=/sub/%65nv.sh?a=b%20c",
        "SERVER_NAME=example.com:81",
        "SERVER_PORT=81",
        "SERVER_PROTOCOL=HTTP/1.1",
        "REMOTE_ADDR=127.0.0.1",
        "REMOTE_HOST=127.0.0.1",
        "CONTENT_LENGTH=5",
        "CONTENT_TYPE=a/b",
        "HTTP_HOST=example.com:81",
        "HTTP_X_FOO=1, 2",
        "HTTP_COOKIE=c; d",
        &format!("SCRIPT_FILENAME={file}"),
        &format!("PWD={}", file.strip_suffix("/env.sh").expect("the file")),
        "<hello>",
    ] {
        assert!(lines.contains(&expected), "{expected} in {lines:#?}");
    }
    for name in ["HTTP_PROXY", "HTTPS", "TEST_SECRET"] {
        assert!(!lines.iter().any(|line| line.starts_with(&format!("{name}="))), "{name} in {lines:#?}");
    }
    // The connection stays open, and a request without a body has no length.
    let response = raw.ask("GET", "/sub/env.sh", "");
    assert!(!response.text().contains("\nCONTENT_LENGTH=") && response.text().ends_with("<>\n"));
}

#[test]
fn only_a_file_with_exactly_that_path_is_a_program() {
    let site = Site::start(
        &[("c.sh", &prints("echo c")), ("sub/d.sh", &prints("echo d")), (".e.sh", &prints("echo e"))],
        &[],
    );
    site.scratch.script("outside.sh", &prints("echo outside"));
    symlink("../outside.sh", site.scratch.path("cgi/link.sh")).expect("a link");
    symlink(site.scratch.path("outside.sh"), site.scratch.path("cgi/absolute.sh")).expect("a link");
    symlink("..", site.scratch.path("cgi/up")).expect("a link");
    site.scratch.file("cgi/no-program.sh", "#!/bin/sh\necho no\n");
    for (target, body) in
        [("/c.sh", "c\n"), ("/c.sh/", "c\n"), ("/%63.sh?x", "c\n"), ("/sub/d.sh", "d\n"), ("/.e.sh", "e\n")]
    {
        let response = site.ask("GET", target, "");
        assert_eq!((response.status, response.text()), (200, body), "{target}");
    }
    for target in [
        "/",
        "/sub",
        "/sub/",
        "/c.sh/extra",
        "/C.sh",
        "/none",
        "/link.sh",
        "/absolute.sh",
        "/up/outside.sh",
        "/up/cgi/c.sh",
    ] {
        assert_eq!(site.ask("GET", target, "").status, 404, "{target}");
    }
    for target in ["/../outside.sh", "/%2e%2e/outside.sh", "/sub/..%2f..%2foutside.sh", "//c.sh", "/c.sh%00"]
    {
        let response = site.ask("GET", target, "");
        assert!(matches!(response.status, 301 | 400 | 404), "{target}: {response:?}");
        assert!(!response.text().contains("outside\n"), "{target}");
    }
    let response = site.ask("GET", "/no-program.sh", "");
    assert_eq!((response.status, response.text()), (500, ""), "it is not executable");
}

#[test]
fn what_a_program_prints_becomes_a_response() {
    let site = Site::start(
        &[
            ("status.sh", "printf 'Status: 404 Nothing\\nX-A: b\\n\\nhello'"),
            ("moved.sh", "printf 'Location: /x\\n\\n'"),
            ("sized.sh", "printf 'Content-Type: a/b\\r\\nContent-Length: 5\\r\\n\\r\\nhello, and more'"),
            ("inject.sh", "printf 'Content-Type: a/b\\nX: y\\rSet-Cookie: z\\nTransfer-Encoding: x\\n\\n'"),
            ("bad.sh", "echo reason >&2; echo no header; echo; echo hello"),
            ("long.sh", "seq 1 2000 >&2; exit 3"),
            ("endless.sh", "exec yes"),
        ],
        &[],
    );
    let mut raw = site.raw();
    let response = raw.ask("GET", "/status.sh", "");
    assert_eq!((response.status, response.text(), response.field("x-a")), (404, "hello", Some("b")));
    let response = raw.ask("POST", "/moved.sh", "");
    assert_eq!((response.status, response.text(), response.field("location")), (302, "", Some("/x")));
    let response = raw.ask("HEAD", "/sized.sh", "");
    assert_eq!((response.status, response.field("content-length")), (200, Some("5")));
    let response = raw.ask("GET", "/sized.sh", "");
    assert_eq!(
        (response.status, response.text(), response.field("content-length")),
        (200, "hello", Some("5"))
    );
    let response = raw.ask("GET", "/inject.sh", "");
    assert_eq!(response.field("x"), Some("y Set-Cookie: z"));
    assert_eq!((response.field("set-cookie"), response.field("transfer-encoding")), (None, Some("chunked")));
    for target in ["/bad.sh", "/long.sh", "/endless.sh"] {
        let response = raw.ask("GET", target, "");
        assert_eq!((response.status, response.text()), (500, ""), "{target}");
    }
    site.log.wait_for(|line| line.contains("bad.sh") && line.contains("reason") && line.contains("stderr"));
    site.log.wait_for(|line| line.contains("long.sh") && line.ends_with("| 2000"));
    site.log.wait_for(|line| line.contains("long.sh") && line.contains("exit status 3"));
    site.await_no_program();
}

#[test]
fn a_large_body_goes_through_in_both_directions_at_once_and_the_connection_stays() {
    let site = Site::start(&[("cat.sh", &prints("exec cat"))], &[]);
    let body: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut raw = site.raw();
    let open = site.descriptors();
    for chunked in [false, true] {
        let mut request = b"POST /cat.sh HTTP/1.1\r\nHost: h\r\n".to_vec();
        if chunked {
            request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(70_000) {
                request.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
                request.extend(chunk);
                request.extend(b"\r\n");
            }
            request.extend(b"0\r\n\r\n");
        } else {
            request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            request.extend(&body);
        }
        let mut sender = Raw::over(raw.socket.try_clone());
        let response = std::thread::scope(|scope| {
            scope.spawn(|| sender.send(&request));
            raw.response("POST")
        });
        assert!(response.body == body, "{} bytes of {}", response.body.len(), body.len());
        if response.field("connection") == Some("close") {
            // The program printed its header before it had read the body.
            raw.expect_end();
            raw = site.raw();
        }
    }
    let response = raw.ask("POST", "/cat.sh", "Expect: 100-continue\r\nContent-Length: 0\r\n");
    assert_eq!((response.status, response.text()), (200, ""), "nothing to wait for");
    raw.send("POST /cat.sh HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n");
    let response = raw.response("HEAD");
    assert_eq!(response.status, 100);
    raw.send("hi");
    assert_eq!(raw.response("POST").text(), "hi");
    for _ in 0..20 {
        assert_eq!(site.ask("GET", "/cat.sh", "").text(), "");
    }
    drop(raw);
    wait_until("no descriptor is left open", || site.descriptors() < open + 1);
}

#[test]
fn a_request_that_could_be_two_starts_no_program() {
    let site = Site::start(&[("touch.sh", &prints("touch ran"))], &[]);
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let mut raw = site.raw();
        raw.send(format!(
            "POST /touch.sh HTTP/1.1\r\nHost: h\r\n{fields}\r\n0\r\n\r\nGET /touch.sh HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        assert!(matches!(raw.response("POST").status, 400 | 501), "{fields}");
        raw.expect_end();
    }
    assert!(!site.scratch.path("cgi/ran").exists());
}

#[test]
fn a_program_and_what_it_has_started_end_with_the_client() {
    let script = "sleep 1000 & echo $! >other; echo $$ >own";
    let site = Site::start(
        &[
            // It ignores all and never stops.
            (
                "deaf.sh",
                &format!("trap '' PIPE TERM; {OK}; {script}; while :; do echo hello; done 2>/dev/null"),
            ),
            (
                "polite.sh",
                &format!(
                    "trap 'echo $$ >term' TERM; {OK}; {script}; while [ ! -e term ]; do sleep 0.01; done"
                ),
            ),
        ],
        &[],
    );
    for name in ["deaf.sh", "polite.sh"] {
        let mut raw = site.raw();
        raw.send(format!("GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let (own, other) = (site.await_pid("cgi/own"), site.await_pid("cgi/other"));
        raw.reset();
        process::await_end(own);
        wait_until("the other process is gone", || !process::runs(other));
        if name == "polite.sh" {
            assert_eq!(site.await_pid("cgi/term"), own, "it could tidy up");
        }
        let _ = fs::remove_file(site.scratch.path("cgi/own"));
        let _ = fs::remove_file(site.scratch.path("cgi/other"));
    }
    site.await_no_program();
}

#[test]
fn a_client_that_reads_nothing_is_dropped_and_the_program_ended() {
    let site = Site::start(&[("yes.sh", &prints("exec yes"))], &[]);
    let mut raw = Raw::connect_small(&site.address);
    raw.send("GET /yes.sh HTTP/1.1\r\nHost: h\r\n\r\n");
    wait_until("the program runs", || !process::children(site.pid()).is_empty());
    let began = Instant::now();
    site.await_no_program();
    assert!(began.elapsed() > Duration::from_secs(5), "it had its time");
    assert_eq!(raw.rest().1, Ended::Reset);
}

#[test]
fn the_end_of_the_server_ends_a_program_that_ignores_it() {
    let mut site = Site::start(
        &[(
            "deaf.sh",
            &format!("trap '' TERM; echo $$ >own; {OK}; echo hello; while :; do sleep 1000; done"),
        )],
        &[],
    );
    let mut raw = site.raw();
    raw.send("GET /deaf.sh HTTP/1.1\r\nHost: h\r\n\r\n");
    let program = site.await_pid("cgi/own");
    process::signal(site.pid(), Signal::TERM);
    assert!(process::ended_within(site.pid(), DEADLINE));
    assert!(!process::runs(program));
    assert!(site.child.wait().expect("wait").success(), "{:?}", site.log.lines());
}

#[test]
fn no_more_programs_run_than_maxforks_allows() {
    let site = Site::start(&[("wait.sh", &prints("echo $$ >own; cat"))], &["--maxforks=1"]);
    let mut raw = site.raw();
    raw.send("POST /wait.sh HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na");
    site.await_pid("cgi/own");
    let response = site.ask("GET", "/wait.sh", "");
    assert_eq!((response.status, response.text()), (429, "429 Too Many Requests\n"));
    raw.send("b");
    assert_eq!(raw.response("POST").text(), "ab");
    wait_until("the slot is free", || site.ask("GET", "/wait.sh", "").status == 200);
}

#[test]
fn files_are_served_by_the_rules_of_websocketd() {
    let site = Site::start(&[("both", &prints("echo program"))], &["--staticdir=DIR"]);
    site.scratch.file("a b.txt", "0123456789");
    site.scratch.file(".dot", "dot");
    site.scratch.file("both", "file");
    fs::create_dir(site.scratch.path("home")).expect("create a directory");
    site.scratch.file("home/index.html", "home");
    let list = "<pre>\n<a href=\".dot\">.dot</a>\n<a href=\"a%20b.txt\">a b.txt</a>\n<a href=\"both\">both</a>\n\
                <a href=\"cgi/\">cgi/</a>\n<a href=\"home/\">home/</a>\n</pre>\n";
    for (method, target, fields, status, body) in [
        ("GET", "/", "", 200, list),
        ("GET", "/.dot", "", 200, "dot"),
        ("GET", "/home/", "", 200, "home"),
        ("GET", "/both", "", 200, "program\n"),
        ("POST", "/a%20b.txt", "", 200, "0123456789"),
        ("DELETE", "/a%20b.txt", "Range: bytes=1-2\r\n", 206, "12"),
        ("POST", "/", "", 200, list),
    ] {
        let response = site.ask(method, target, fields);
        assert_eq!((response.status, response.text()), (status, body), "{method} {target}");
    }
    for (target, location) in
        [("/home", "/home/"), ("/home/index.html?x", "./?x"), ("/a%20b.txt/", "../a%20b.txt")]
    {
        let response = site.ask("GET", target, "");
        assert_eq!((response.status, response.field("location")), (301, Some(location)), "{target}");
    }
    assert_eq!(site.ask("GET", "/none", "").text(), "404 page not found\n");
}
