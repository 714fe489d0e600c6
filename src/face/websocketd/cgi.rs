//! `--cgidir`: which CGI program a path names, and its environment, which is that of Go's net/http/cgi.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::super::Request;
use super::environment::{SOFTWARE, host, remote, uri};
use super::scope::{pair, url};
use crate::http::cgi;
use crate::http::files::open::Entry;
use crate::http::route::ProgramCall;
use crate::recipe::Variables;

/// Where programs look for others if no `PATH` is passed on, as with Go.
const DEFAULT_PATH: &str = "/bin:/usr/bin:/usr/ucb:/usr/bsd:/usr/local/bin";

#[derive(Debug)]
pub(super) struct CgiPrograms {
    root: OwnedFd,
    /// As it was given, for the log.
    given: PathBuf,
    directory: PathBuf,
}

impl CgiPrograms {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty())?;
        Ok(Self { root, given: directory.to_owned(), directory: directory.canonicalize()? })
    }

    /// The call of the program that has exactly this decoded, clean path. `passed`: the variables that are passed on.
    pub(super) fn call(
        &self,
        request: &Request<'_>,
        path: &[u8],
        passed: &[(OsString, OsString)],
    ) -> Option<ProgramCall> {
        let file = self.find(path)?;
        let variables = variables(request, path, &file, passed.iter().any(|(name, _)| name == "PATH"));
        let mut label = url(request);
        let name = file.strip_prefix(&self.directory).unwrap_or(&file);
        pair(&mut label, "cgiscript", &self.given.join(name).to_string_lossy());
        Some(ProgramCall { file, passed: passed.to_vec(), variables, label })
    }

    /// A regular file; no symbolic link leads out of the directory. If it must not be executed, its start fails.
    fn find(&self, path: &[u8]) -> Option<PathBuf> {
        let name = path.strip_prefix(b"/")?;
        let name = Path::new(OsStr::from_bytes(name.strip_suffix(b"/").unwrap_or(name)));
        let entry = Entry::find(&self.root, name).ok()?;
        (entry.kind() == FileType::RegularFile).then(|| self.directory.join(name))
    }
}

/// The variables of a request for the program `file`.
fn variables(request: &Request<'_>, path: &[u8], file: &Path, has_path: bool) -> Variables {
    let Request { head, peer, is_secure } = *request;
    let (host, remote) = (host(head), remote(request));
    let port = host.rsplit_once(':').map(|(_, port)| port);
    let port = port.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let mut variables = Vec::with_capacity(32);
    let mut set =
        |name: &str, value: &[u8]| variables.push((name.to_owned(), OsString::from_vec(value.into())));
    set("SERVER_SOFTWARE", SOFTWARE.as_bytes());
    // With the port: programs for websocketd see it so.
    set("SERVER_NAME", host.as_bytes());
    set("SERVER_PORT", port.unwrap_or(if is_secure { "443" } else { "80" }).as_bytes());
    set("SERVER_PROTOCOL", b"HTTP/1.1");
    set("GATEWAY_INTERFACE", b"CGI/1.1");
    set("REQUEST_METHOD", head.method().as_bytes());
    set("QUERY_STRING", head.query().unwrap_or_default().as_bytes());
    set("REQUEST_URI", uri(head).as_bytes());
    set("PATH_INFO", path);
    set("SCRIPT_NAME", b"/");
    set("SCRIPT_FILENAME", file.as_os_str().as_bytes());
    set("REMOTE_ADDR", remote.as_bytes());
    set("REMOTE_HOST", remote.as_bytes());
    if let Some(peer) = peer {
        set("REMOTE_PORT", peer.port().to_string().as_bytes());
    }
    if is_secure {
        set("HTTPS", b"on");
    }
    if let Some(length) = head.content_length().filter(|&length| length > 0) {
        set("CONTENT_LENGTH", length.to_string().as_bytes());
    }
    if let Some(kind) = head.field("content-type").filter(|kind| !kind.is_empty()) {
        set("CONTENT_TYPE", kind);
    }
    if !has_path {
        set("PATH", DEFAULT_PATH.as_bytes());
    }
    // Programs use HTTP_PROXY as their own setting ("httpoxy", CVE-2016-5385). They get the body without its coding.
    for (name, value) in cgi::fields(head, |name| !matches!(name, "PROXY" | "TRANSFER_ENCODING")) {
        set(&format!("HTTP_{name}"), value.as_encoded_bytes());
    }
    variables
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::http::files::testing::Directory;
    use crate::http::head::Head;

    #[test]
    fn a_program_is_a_file_with_exactly_this_path() {
        let directory = Directory::new();
        for name in ["cgi/c.sh", "cgi/sub/d.sh", "cgi/.hidden", "outside"] {
            directory.write(name, b"#!/bin/sh\n");
        }
        let root = directory.path().join("cgi");
        symlink("../outside", root.join("link")).expect("symlink");
        symlink("..", root.join("up")).expect("symlink");
        symlink("sub/d.sh", root.join("within")).expect("symlink");
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), FileType::Fifo, Mode::from(0o700), 0)
            .expect("mkfifo");
        let programs = CgiPrograms::open(&root).expect("open");
        for path in ["/c.sh", "/sub/d.sh", "/.hidden", "/within"] {
            let file = root.join(&path[1..]);
            assert_eq!(programs.find(path.as_bytes()), Some(file.clone()), "{path}");
            assert_eq!(programs.find(format!("{path}/").as_bytes()), Some(file), "{path}/");
        }
        for path in [
            "/",
            "/sub",
            "/sub/",
            "/c.sh/extra",
            "/none",
            "/link",
            "/up/outside",
            "/fifo",
            "/C.sh",
            "/../outside",
        ] {
            assert_eq!(programs.find(path.as_bytes()), None, "{path}");
        }
    }

    fn of(text: &str, is_secure: bool) -> Vec<String> {
        let (head, _) = Head::parse(text.as_bytes()).expect("well-formed").expect("complete");
        let peer = Some("192.0.2.1:99".parse().expect("an address"));
        let request = Request { head: &head, peer, is_secure };
        let variables = variables(&request, b"/a b", Path::new("/cgi/a b"), false);
        variables.into_iter().map(|(name, value)| format!("{name}={}", value.to_string_lossy())).collect()
    }

    #[test]
    fn the_environment_is_that_of_go() {
        let request = "POST /a%20b?x=%201 HTTP/1.1\r\nHost: h:81\r\nContent-Length: 3\r\nContent-Type: t/u\r\n\
                       X-Foo: 1\r\nX_Foo: evil\r\nx-foo: 2\r\nCookie: a\r\nCookie: b\r\nProxy: http://evil\r\n\r\n";
        let software = format!("SERVER_SOFTWARE={}", super::super::environment::SOFTWARE);
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(
            of(request, true),
            [
                &*software,
                "SERVER_NAME=h:81",
                "SERVER_PORT=81",
                "SERVER_PROTOCOL=HTTP/1.1",
                "GATEWAY_INTERFACE=CGI/1.1",
                "REQUEST_METHOD=POST",
                "QUERY_STRING=x=%201",
                "REQUEST_URI=/a%20b?x=%201",
                "PATH_INFO=/a b",
                "SCRIPT_NAME=/",
                "SCRIPT_FILENAME=/cgi/a b",
                "REMOTE_ADDR=192.0.2.1",
                "REMOTE_HOST=192.0.2.1",
                "REMOTE_PORT=99",
                "HTTPS=on",
                "CONTENT_LENGTH=3",
                "CONTENT_TYPE=t/u",
                &*path,
                "HTTP_HOST=h:81",
                "HTTP_CONTENT_LENGTH=3",
                "HTTP_CONTENT_TYPE=t/u",
                "HTTP_X_FOO=1, 2",
                "HTTP_COOKIE=a; b",
            ]
        );
    }

    #[test]
    fn the_port_is_that_of_the_request_or_the_usual_one() {
        for (host, is_secure, port) in [
            ("h", false, "80"),
            ("h", true, "443"),
            ("h:", false, "80"),
            ("h:8080", true, "8080"),
            ("[::1]", false, "80"),
            ("[::1]:81", false, "81"),
            ("", false, "80"),
        ] {
            let found = of(
                &format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"),
                is_secure,
            );
            assert_eq!(found[1..3], [format!("SERVER_NAME={host}"), format!("SERVER_PORT={port}")]);
            assert!(!found.iter().any(|set| set.contains("LENGTH") || set.contains("ENCODING")), "{found:?}");
            assert_eq!(found.iter().any(|set| set == "HTTPS=on"), is_secure);
        }
    }
}
