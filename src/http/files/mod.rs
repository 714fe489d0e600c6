//! `--staticdir`: serves the files of a directory.
//!
//! No listings and no dotfiles, unless [`FileOptions`] say so, and no way out by `..`, encoding or symbolic links: `path` checks the names, and `open` lets
//! the kernel enforce the rest.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::body::{Body, FilePart};
use super::head::Head;
use super::respond::{Reply, refuse};
use conditions::{Condition, Selected, Validators};
use open::Entry;
use path::Wanted;

mod conditions;
mod listing;
mod media_type;
pub(crate) mod open;
mod path;
#[cfg(test)]
pub(crate) mod testing;

const INDEX: &str = "index.html";

/// What is served beside files and indexes. The default is nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FileOptions {
    /// A list of the files of a directory without an index.
    pub listing: bool,
    /// Files and directories whose name begins with a dot.
    pub dotfiles: bool,
    /// Each file has one path, as with Go's `FileServer`: `index.html` and a file with a slash at its end are redirected.
    pub one_path: bool,
    /// A file whose name says nothing about its type is text if its beginning is.
    pub text: bool,
}

#[derive(Debug)]
pub struct FileServer {
    root: OwnedFd,
    options: FileOptions,
}

impl FileServer {
    /// Opens the directory once, so that a later rename or mount does not matter.
    pub fn open(directory: &Path, options: FileOptions) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(directory, flags, Mode::empty())?, options })
    }

    /// Only the face of websocketd has other options than none.
    fn options(&self) -> FileOptions {
        if cfg!(feature = "websocketd") { self.options } else { FileOptions::default() }
    }

    /// The response to a request whose path begins with `base`. Any method is answered like GET, or HEAD.
    pub fn reply(&self, head: &Head, base: &str) -> Reply {
        let path = head.path().strip_prefix(base).unwrap_or_default();
        if path.is_empty() {
            return to_directory(base, head.query());
        }
        let options = self.options();
        let wanted = match Wanted::parse(path, options.dotfiles) {
            Ok(wanted) => wanted,
            Err(path::Bad::Malformed) => return refuse(400, "Bad path"),
            Err(path::Bad::Hidden) => return refuse(404, "Not found"),
        };
        let mut name = wanted.path();
        if options.one_path && !wanted.is_directory() && name.ends_with(INDEX) {
            return moved("./", head.query());
        }
        if wanted.is_directory() {
            name.push(INDEX);
        }
        match self.find(&name) {
            Ok(Found::File(file)) => {
                let mut media_type = media_type::of(&name);
                if options.text && media_type == media_type::UNKNOWN && file.begins_with_text() {
                    media_type = media_type::TEXT;
                }
                file.reply(head, media_type)
            }
            Ok(Found::Directory) if !wanted.is_directory() => {
                to_directory(&[base, &wanted.encoded()].concat(), head.query())
            }
            _ if wanted.is_directory() && (options.listing || options.one_path) => {
                self.without_index(&wanted, head).unwrap_or_else(refuse_for)
            }
            Ok(Found::Directory | Found::Other) => refuse(404, "Not found"),
            Err(error) => refuse_for(error),
        }
    }

    /// The response for a path with a slash at its end where there is no index.
    fn without_index(&self, wanted: &Wanted, head: &Head) -> Result<Reply, Errno> {
        let name = wanted.path();
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { &name };
        let entry = Entry::find(&self.root, name)?;
        match (entry.kind(), wanted.last()) {
            (FileType::Directory, _) if self.options().listing => {
                listing::reply(&entry.open()?, self.options().dotfiles)
            }
            (FileType::RegularFile, Some(file)) if self.options().one_path => {
                Ok(moved(&["../", &file].concat(), head.query()))
            }
            _ => Err(Errno::NOENT),
        }
    }

    fn find(&self, name: &Path) -> Result<Found, Errno> {
        let entry = Entry::find(&self.root, name)?;
        Ok(match entry.kind() {
            FileType::RegularFile => {
                let stat = &entry.stat;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                #[allow(clippy::unnecessary_cast, reason = "32 bits on machines of 32 bits")]
                let validators = validators(size, stat.st_mtime, stat.st_mtime_nsec as u64);
                Found::File(OpenFile { file: entry.open()?, size, validators })
            }
            FileType::Directory => Found::Directory,
            _ => Found::Other,
        })
    }
}

enum Found {
    File(OpenFile),
    Directory,
    /// A pipe, a socket or a device, which is not served.
    Other,
}

/// An open regular file, with the validators of its current state.
struct OpenFile {
    file: OwnedFd,
    /// In bytes.
    size: u64,
    validators: Validators,
}

impl OpenFile {
    fn begins_with_text(&self) -> bool {
        let mut bytes = [0; 512];
        let read = rustix::io::pread(&self.file, &mut bytes, 0).unwrap_or(0);
        media_type::is_text(&bytes[..read])
    }

    fn reply(self, head: &Head, media_type: &str) -> Reply {
        let Self { file, size, validators } = self;
        let whole = |status| {
            let body = Body::File(FilePart { file, from: 0, length: size });
            Reply::new(status, media_type, body).with("Accept-Ranges", "bytes")
        };
        let reply = match conditions::evaluate(head, &validators, size) {
            Condition::NotModified => Reply::empty(304),
            Condition::Failed => return refuse(412, "The file is not the one that was asked for"),
            Condition::Send(Selected::Whole) => whole(200),
            Condition::Send(Selected::Nothing) => {
                let range = format!("bytes */{size}");
                return refuse(416, "The file is shorter than that").with("Content-Range", range);
            }
            Condition::Send(Selected::Part { from, length }) => {
                let range = format!("bytes {from}-{}/{size}", from + length - 1);
                let mut reply = whole(206).with("Content-Range", range);
                if let Body::File(part) = &mut reply.body {
                    (part.from, part.length) = (from, length);
                }
                reply
            }
        };
        reply
            .with("Last-Modified", httpdate::fmt_http_date(validators.modified))
            .with("ETag", validators.tag)
            // A browser that guesses types could run a harmless file as a script.
            .with("X-Content-Type-Options", "nosniff")
    }
}

/// From size and time of modification, to the nanosecond.
fn validators(size: u64, seconds: i64, nanoseconds: u64) -> Validators {
    // An HTTP date has no fractions, must not be before 1970 (httpdate panics) and not in the future
    // (RFC 9110 §8.8.2.1).
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(now));
    Validators { tag: format!("\"{size:x}-{seconds:x}.{nanoseconds:x}\""), modified }
}

/// Redirects to the same path with a slash, so that relative links in the page work.
fn to_directory(path: &str, query: Option<&str>) -> Reply {
    moved(&[path, "/"].concat(), query)
}

fn moved(path: &str, query: Option<&str>) -> Reply {
    let location = match query {
        Some(query) => format!("{path}?{}", path::encode(query)),
        None => path.to_owned(),
    };
    refuse(301, "Moved permanently").with("Location", location)
}

/// A missing file and a path that leads outside get the same response.
fn refuse_for(error: Errno) -> Reply {
    match error {
        Errno::ACCESS => refuse(403, "Forbidden"),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => refuse(503, "Too busy"),
        Errno::IO => refuse(500, "Cannot read"),
        _ => refuse(404, "Not found"),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::inotify;

    use super::testing::Directory;
    use super::*;

    /// A directory with all kinds of files; outside of it, a file that must not be served.
    fn site() -> (Directory, FileServer) {
        let directory = Directory::new();
        directory.write("secret", b"secret");
        for (name, content) in [
            ("www/index.html", "home"),
            ("www/a.txt", "0123456789"),
            ("www/empty", ""),
            ("www/sub dir/index.html", "sub"),
            ("www/bare/file", "x"),
            ("www/.env", "secret"),
            ("www/.git/config", "secret"),
            ("www/\u{e9}.css", "e"),
        ] {
            directory.write(name, content.as_bytes());
        }
        let www = directory.path().join("www");
        symlink("../secret", www.join("out.txt")).expect("symlink");
        symlink(directory.path().join("secret"), www.join("absolute.txt")).expect("symlink");
        symlink("..", www.join("up")).expect("symlink");
        symlink("/proc/self/root", www.join("magic")).expect("symlink");
        symlink("loop", www.join("loop")).expect("symlink");
        symlink("a.txt", www.join("within.txt")).expect("symlink");
        let fifo = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, www.join("fifo"), fifo, Mode::from(0o600), 0).expect("mkfifo");
        let files = FileServer::open(&www, FileOptions::default()).expect("open");
        (directory, files)
    }

    fn get(files: &FileServer, path: &str, fields: &str) -> Reply {
        let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let (head, _) = Head::parse(text.as_bytes()).expect(path).expect("complete");
        files.reply(&head, "")
    }

    fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
        reply.fields.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    fn content(reply: &Reply) -> String {
        match &reply.body {
            Body::Bytes(bytes) => String::from_utf8(bytes.clone()).expect("text"),
            Body::File(part) => {
                let mut bytes = vec![0; usize::try_from(part.length).expect("small")];
                let read = rustix::io::pread(&part.file, &mut bytes, part.from).expect("read");
                assert_eq!(read, bytes.len());
                String::from_utf8(bytes).expect("text")
            }
            Body::Computed(_) => panic!("the length of a file is known"),
        }
    }

    #[test]
    fn files_and_indexes_are_served_with_their_type() {
        let (_directory, files) = site();
        for (path, expected, media_type) in [
            ("/", "home", "text/html; charset=utf-8"),
            ("/?v=1", "home", "text/html; charset=utf-8"),
            ("/index.html", "home", "text/html; charset=utf-8"),
            ("/a.txt", "0123456789", "text/plain; charset=utf-8"),
            ("/%61%2Etxt", "0123456789", "text/plain; charset=utf-8"),
            ("/within.txt", "0123456789", "text/plain; charset=utf-8"),
            ("/empty", "", "application/octet-stream"),
            ("/sub%20dir/", "sub", "text/html; charset=utf-8"),
            ("/bare/file", "x", "application/octet-stream"),
            ("/%c3%a9.css", "e", "text/css; charset=utf-8"),
            ("/é.css", "e", "text/css; charset=utf-8"),
        ] {
            let reply = get(&files, path, "");
            assert_eq!((reply.status, content(&reply).as_str()), (200, expected), "{path}");
            assert_eq!(field(&reply, "Content-Type"), Some(media_type), "{path}");
            assert_eq!(field(&reply, "X-Content-Type-Options"), Some("nosniff"), "{path}");
        }
    }

    #[test]
    fn nothing_outside_hidden_or_odd_is_served_in_any_spelling() {
        let (_directory, files) = site();
        for path in [
            "/nothing",
            "/bare/",
            "/a.txt/",
            "/a.txt/x",
            "/out.txt",
            "/absolute.txt",
            "/up/secret",
            "/up/",
            "/magic/etc/passwd",
            "/loop",
            "/fifo",
            "/.env",
            "/%2eenv",
            "/.git/config",
            "/%2Egit/config",
            "/bare/../.env",
            "/../secret",
            "/%2e%2e/secret",
            "/%2E./secret",
            "/..%2fsecret",
            "/bare/%2e%2e/%2e%2e/secret",
            "/bare%2ffile",
            "/bare/./file",
            "//a.txt",
            "/bare//file",
            "/%252e%252e/secret",
            "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/.",
            "/..",
            "/a.txt%5c..",
            "/INDEX.HTML",
            "*",
        ] {
            let reply = get(&files, path, "");
            assert_eq!(reply, refuse(404, "Not found"), "{path}");
        }
        for path in ["/%00", "/a.txt%00", "/a.txt%00.html", "/%", "/%2", "/%zz", "/%+1", "/a%"] {
            assert_eq!(get(&files, path, "").status, 400, "{path}");
        }
        let long = format!("/{}", "x".repeat(300));
        assert_eq!(get(&files, &long, "").status, 404);
        let deep = "/x".repeat(4000);
        assert_eq!(get(&files, &deep, "").status, 404);
    }

    #[test]
    fn what_is_no_file_is_never_opened() {
        let (directory, files) = site();
        let www = directory.path().join("www");
        let _listener = UnixListener::bind(www.join("socket")).expect("a socket");
        // A device, where this process may make one.
        let null = rustix::fs::makedev(1, 3);
        let device = FileType::CharacterDevice;
        let _ = rustix::fs::mknodat(rustix::fs::CWD, www.join("device"), device, Mode::from(0o600), null);
        let opened = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
        let mut seen = 0;
        for name in ["fifo", "socket", "device", "bare", "a.txt"] {
            let watch = inotify::add_watch(&opened, www.join(name), inotify::WatchFlags::OPEN);
            if name != "device" {
                watch.expect(name);
            }
            let reply = get(&files, &format!("/{name}"), "");
            seen += usize::from(reply.status == 200);
        }
        assert_eq!(seen, 1, "the one that is a file");
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut events = inotify::Reader::new(&opened, &mut buffer);
        let first = events.next().expect("the file was opened").wd();
        assert_eq!(events.next().map(|event| event.wd()), Err(Errno::AGAIN), "and nothing else");
        let file = inotify::add_watch(&opened, www.join("a.txt"), inotify::WatchFlags::OPEN);
        assert_eq!(file, Ok(first), "a watch that is there keeps its number");
    }

    #[test]
    fn a_directory_without_its_slash_is_a_redirect_inside_this_host() {
        let (directory, files) = site();
        directory.write("www/\\evil.example/index.html", b"x");
        for (path, location) in [
            ("/bare", "/bare/"),
            ("/sub%20dir?a=1", "/sub%20dir/?a=1"),
            ("/bare?q=caf\u{e9}&r=%C3%A9&s=\u{1f30d}", "/bare/?q=caf%C3%A9&r=%C3%A9&s=%F0%9F%8C%8D"),
            ("http://h/%62are", "/bare/"),
            ("/%5cevil.example", "/%5Cevil.example/"),
            ("/\\evil.example", "/%5Cevil.example/"),
        ] {
            let reply = get(&files, path, "");
            assert_eq!((reply.status, field(&reply, "Location")), (301, Some(location)), "{path}");
        }
    }

    #[test]
    fn ranges_give_a_part_with_its_place_in_the_whole() {
        let (_directory, files) = site();
        let reply = get(&files, "/a.txt", "Range: bytes=2-4\r\n");
        assert_eq!((reply.status, content(&reply).as_str()), (206, "234"));
        assert_eq!(field(&reply, "Content-Range"), Some("bytes 2-4/10"));
        let reply = get(&files, "/a.txt", "Range: bytes=10-\r\n");
        assert_eq!((reply.status, field(&reply, "Content-Range")), (416, Some("bytes */10")));
    }

    #[test]
    fn what_the_client_has_is_not_sent_again_until_the_file_changes() {
        let (directory, files) = site();
        let first = get(&files, "/a.txt", "");
        let tag = field(&first, "ETag").expect("a tag").to_owned();
        let date = field(&first, "Last-Modified").expect("a date").to_owned();
        let by_tag = format!("If-None-Match: {tag}\r\n");
        let reply = get(&files, "/a.txt", &by_tag);
        assert_eq!((reply.status, content(&reply).as_str()), (304, ""));
        assert_eq!(field(&reply, "ETag"), Some(tag.as_str()));
        assert_eq!(get(&files, "/a.txt", &format!("If-Modified-Since: {date}\r\n")).status, 304);
        assert_eq!(get(&files, "/a.txt", &format!("If-Match: {tag}\r\n")).status, 200);
        assert_eq!(get(&files, "/a.txt", "If-Match: \"other\"\r\n").status, 412);
        // Another size: another tag, whatever the clock's resolution.
        directory.write("www/a.txt", b"changed, and longer");
        assert_eq!(get(&files, "/a.txt", &by_tag).status, 200);
        assert_eq!(content(&get(&files, "/a.txt", "")), "changed, and longer");
    }

    #[test]
    fn a_time_without_an_http_date_does_no_harm() {
        assert_eq!(validators(1, -1, 0).modified, UNIX_EPOCH);
        assert_eq!(validators(1, 7, 999_999_999).modified, UNIX_EPOCH + Duration::from_secs(7));
        assert!(validators(1, i64::MAX, 0).modified <= SystemTime::now());
    }

    #[test]
    fn with_all_options_files_are_served_as_by_go() {
        let (directory, _) = site();
        let options = FileOptions { listing: true, dotfiles: true, one_path: true, text: true };
        let files = FileServer::open(&directory.path().join("www"), options).expect("open");
        for (path, status, expected) in [
            ("/", 200, "home"),
            ("/.env", 200, "secret"),
            ("/.git/config", 200, "secret"),
            ("/.git/", 200, "<pre>\n<a href=\"config\">config</a>\n</pre>\n"),
            ("/.git", 301, "/.git/"),
            ("/bare/", 200, "<pre>\n<a href=\"file\">file</a>\n</pre>\n"),
            ("/index.html", 301, "./"),
            ("/sub%20dir/index.html?a=1", 301, "./?a=1"),
            ("/bare/index.html", 301, "./"),
            ("/a.txt/", 301, "../a.txt"),
            ("/%c3%a9.css/?a", 301, "../%C3%A9.css?a"),
            ("/index.html/", 301, "../index.html"),
            ("/nothing/", 404, "Not found\n"),
            ("/a.txt/x", 404, "Not found\n"),
            ("/up/", 404, "Not found\n"),
            ("/magic/", 404, "Not found\n"),
            ("/fifo/", 404, "Not found\n"),
            ("/out.txt", 404, "Not found\n"),
            ("/../secret", 404, "Not found\n"),
            ("/.%2e/secret", 404, "Not found\n"),
            ("/.git/..%2f..%2fsecret", 404, "Not found\n"),
        ] {
            let reply = get(&files, path, "");
            let location = field(&reply, "Location").map(str::to_owned);
            assert_eq!(
                (reply.status, location.unwrap_or_else(|| content(&reply)).as_str()),
                (status, expected),
                "{path}"
            );
        }
        directory.write("www/binary", b"a\0b");
        for (path, media_type) in [
            ("/.env", "text/plain; charset=utf-8"),
            ("/binary", "application/octet-stream"),
            ("/%c3%a9.css", "text/css; charset=utf-8"),
        ] {
            assert_eq!(field(&get(&files, path, ""), "Content-Type"), Some(media_type), "{path}");
        }
        std::fs::remove_file(directory.path().join("www/index.html")).expect("remove");
        let list = content(&get(&files, "/", ""));
        let names: Vec<_> =
            list.lines().filter_map(|line| Some(line.strip_suffix("</a>")?.rsplit_once('>')?.1)).collect();
        assert_eq!(
            names,
            [
                ".env",
                ".git/",
                "a.txt",
                "absolute.txt",
                "bare/",
                "binary",
                "empty",
                "fifo",
                "loop",
                "magic",
                "out.txt",
                "sub dir/",
                "up",
                "within.txt",
                "\u{e9}.css",
            ],
            "links are not followed"
        );
        let only = |options| FileServer::open(&directory.path().join("www"), options).expect("open");
        let listing = only(FileOptions { listing: true, ..FileOptions::default() });
        assert!(!content(&get(&listing, "/", "")).contains(".env"));
        assert_eq!(get(&listing, "/a.txt/", "").status, 404);
        assert_eq!(
            get(&only(FileOptions { one_path: true, ..FileOptions::default() }), "/bare/", "").status,
            404
        );
    }

    #[test]
    fn only_a_directory_can_be_served() {
        let directory = Directory::new();
        directory.write("file", b"x");
        assert!(FileServer::open(&directory.path().join("file"), FileOptions::default()).is_err());
        assert!(FileServer::open(&directory.path().join("nothing"), FileOptions::default()).is_err());
    }
}
