//! Checks whether the system can execute a file, as far as its beginning shows. Without this, the error would appear at the
//! first client and be misleading: for a missing interpreter, execve(2) reports that the file does not exist.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use crate::sys::reason;

/// Bytes of a file that the kernel reads (`BINPRM_BUF_SIZE`).
const BEGINNING: usize = 256;

/// The largest number of nested interpreters (`exec_binprm`).
const INTERPRETERS: usize = 5;

/// Where registered formats are listed (Documentation/admin-guide/binfmt-misc.rst).
const FORMATS: &str = "/proc/sys/fs/binfmt_misc";

/// The kernel's executable formats: ELF, and the flat format of small processors.
const BINARIES: [&[u8]; 2] = [b"\x7fELF", b"bFLT"];

/// Why a file may not be executed by this user.
pub(super) fn why_not_permitted(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Err(error) => Some(reason(&error)),
        Ok(found) if found.is_dir() => Some("it is a directory".to_owned()),
        Ok(found) if !found.is_file() => Some("it is not a regular file".to_owned()),
        // The system checks execute bits, access lists and mounts without exec.
        Ok(found) => access(path, Access::EXEC_OK).err().map(|_| not_permitted(path, &found)),
    }
}

fn not_permitted(path: &Path, file: &Metadata) -> String {
    let mounted_without = statvfs(path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOEXEC));
    if mounted_without {
        "it is on a file system that is mounted with noexec".to_owned()
    } else if file.mode() & 0o111 == 0 {
        "it may not be executed (chmod +x makes a script executable)".to_owned()
    } else {
        format!("this user may not execute it (mode {:04o}, owner {})", file.mode() & 0o7777, file.uid())
    }
}

/// Why a file that this user may execute certainly cannot be executed. `search` is the `PATH` that the program gets.
pub(super) fn why_not_runnable(path: &Path, search: Option<&OsStr>) -> Option<String> {
    why_not(path, search, INTERPRETERS)
}

fn why_not(path: &Path, search: Option<&OsStr>, depth: usize) -> Option<String> {
    // A file that is executable but not readable cannot be checked.
    let beginning = beginning(path)?;
    if BINARIES.iter().any(|magic| beginning.starts_with(magic)) {
        return None;
    }
    if let Some(line) = beginning.strip_prefix(b"#!") {
        return why_not_script(line, beginning.len() < BEGINNING, search, depth);
    }
    let reason = if beginning.is_empty() {
        "it is empty".to_owned()
    } else if beginning.starts_with(b"\xef\xbb\xbf#!") {
        "a byte order mark precedes its #! line".to_owned()
    } else if !beginning.contains(&0) {
        let script = path.display();
        format!("it has no #! line: begin it with one, such as #!/bin/sh, or run it as sh {script}")
    } else {
        "it is neither a binary that this system knows nor a script with a #! line".to_owned()
    };
    let text = !beginning.contains(&0);
    (!is_registered(Path::new(FORMATS), path, text)).then_some(reason)
}

fn beginning(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(BEGINNING);
    File::open(path).ok()?.take(BEGINNING as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Why a script cannot be executed, from the bytes after `#!`. `all`: these are the whole file.
fn why_not_script(behind: &[u8], all: bool, search: Option<&OsStr>, depth: usize) -> Option<String> {
    let (name, argument) = match interpreter(behind, all) {
        Ok(found) => found,
        Err(reason) => return Some(reason.to_owned()),
    };
    let path = Path::new(OsStr::from_bytes(name));
    if std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Some(not_found(name));
    }
    let reason = why_not_permitted(path).or_else(|| match depth.checked_sub(1) {
        Some(depth) => why_not(path, search, depth),
        None => Some(
            "its interpreter is a script, whose interpreter is a script, and so on, too many times"
                .to_owned(),
        ),
    });
    if let Some(reason) = reason {
        return Some(format!("interpreter {}: {reason}", path.display()));
    }
    // env(1) searches for the real interpreter. Its options and variables are not checked.
    let wanted = argument.filter(|wanted| {
        path.file_name() == Some(OsStr::new("env")) && !wanted.starts_with(b"-") && !wanted.contains(&b'=')
    })?;
    let name = OsStr::from_bytes(wanted);
    let found = match search {
        _ if wanted.contains(&b'/') => Path::new(name).exists(),
        Some(search) => std::env::split_paths(search).any(|directory| directory.join(name).exists()),
        // Without `PATH` it searches default directories.
        None => !wanted.ends_with(b"\r"),
    };
    (!found).then(|| not_found(wanted))
}

fn not_found(name: &[u8]) -> String {
    let why =
        if name.ends_with(b"\r") { ": the file has CRLF line ends, which dos2unix removes" } else { "" };
    format!("interpreter {} not found{why}", name.escape_ascii())
}

/// Interpreter and argument, as `load_script` of the kernel reads them.
fn interpreter(behind: &[u8], all: bool) -> Result<(&[u8], Option<&[u8]>), &'static str> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let (line, ended) = match behind.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&behind[..end], true),
        None => (behind, all),
    };
    let start = line.iter().position(|byte| !blank(byte)).ok_or("its #! line names no interpreter")?;
    let line = &line[start..];
    let end = line.iter().position(|byte| blank(byte) || *byte == 0);
    if end.is_none() && !ended {
        return Err("its #! line is too long");
    }
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let first = rest.iter().position(|byte| !blank(byte)).filter(|&first| rest[first] != 0);
    let last = rest.iter().rposition(|byte| !blank(byte));
    Ok((name, first.zip(last).map(|(first, last)| &rest[first..=last])))
}

/// Whether a format is registered that the file may have: for a text, one with its extension; otherwise, any. If the list
/// is not readable, any format may be registered.
fn is_registered(formats: &Path, path: &Path, text: bool) -> bool {
    let Ok(status) = std::fs::read_to_string(formats.join("status")) else { return !text };
    let Ok(entries) = std::fs::read_dir(formats) else { return !text };
    let extension = path.extension().map(|extension| [b".", extension.as_bytes()].concat());
    let mut enabled = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        if name == "status" || name == "register" {
            return None;
        }
        std::fs::read(entry.path()).ok().filter(|format| format.starts_with(b"enabled"))
    });
    let is_meant = |format: &[u8]| {
        let lines = format.split(|&byte| byte == b'\n');
        let mut extensions = lines.filter_map(|line| line.strip_prefix(b"extension "));
        extensions.any(|meant| extension.as_deref() == Some(meant))
    };
    status.trim() == "enabled" && enabled.any(|format| !text || is_meant(&format))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::{create_dir_all, remove_dir_all, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    /// A directory of its own for a test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("scalesocket-{test}-{}", std::process::id()));
            create_dir_all(&path).expect("a directory to write in");
            Self(path)
        }

        fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            write(&path, content).expect("a file");
            set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_the_system_would_refuse_is_told_with_cause_and_mend() {
        let scratch = Scratch::new("refused");
        let inside = |name: &str| scratch.0.join(name).display().to_string();
        let text = scratch.file("text", "echo no line\n");
        let search = scratch.0.as_os_str();
        let long = format!("#!/{}", "x".repeat(300));
        for (content, reason) in [
            ("", "it is empty"),
            ("while read -r l; do echo $l; done\n", "it has no #! line: begin it with one"),
            ("\u{feff}#!/bin/sh\n", "a byte order mark precedes its #! line"),
            ("#!/bin/sh\r\ncat\r\n", r"interpreter /bin/sh\r not found: the file has CRLF line ends"),
            ("#! /no/such/thing -x\n", "interpreter /no/such/thing not found"),
            ("#!/no/such/thing", "interpreter /no/such/thing not found"),
            ("#!\n", "its #! line names no interpreter"),
            ("#! \t ", "its #! line names no interpreter"),
            (&long, "its #! line is too long"),
            ("#!/tmp\n", "interpreter /tmp: it is a directory"),
            ("#!/usr/bin/env sh\r\n", r"interpreter sh\r not found: the file has CRLF line ends"),
            ("#!/usr/bin/env nosuch\n", "interpreter nosuch not found"),
            ("#!/usr/bin/env /no/such\n", "interpreter /no/such not found"),
            (&format!("#!{}\n", text.display()), "it has no #! line"),
            (&format!("#!{}\n", inside("script")), "too many times"),
        ] {
            let script = scratch.file("script", content);
            let told =
                why_not_runnable(&script, Some(search)).unwrap_or_else(|| panic!("{content:?} passes"));
            assert!(told.contains(reason), "{content:?}: {told}");
        }
        let told = why_not_runnable(&text, None).expect("no line");
        assert!(told.ends_with(&format!("run it as sh {}", text.display())), "{told}");
    }

    #[test]
    fn what_the_system_may_execute_passes() {
        let scratch = Scratch::new("passes");
        let search = scratch.0.as_os_str();
        let first = scratch.file("sh", "#!/bin/sh\n");
        let long = format!("#!/bin/sh {}", "x".repeat(300));
        for content in [
            "#!/bin/sh",
            "#!/bin/sh\n",
            "#!\t /bin/sh -e \t\ncat\n",
            // Bad, but not certainly: it depends on the interpreter.
            "#!/bin/sh -e\r\n",
            "#!/usr/bin/env sh\n",
            "#!/usr/bin/env -S nosuch -x\n",
            "#!/usr/bin/env A=b nosuch\n",
            "#!/usr/bin/env\n",
            "\x7fELF of any kind",
            &long,
            &format!("#!{}\n", first.display()),
        ] {
            let script = scratch.file("script", content);
            assert_eq!(why_not_runnable(&script, Some(search)), None, "{content:?}");
        }
        let script = scratch.file("script", "#!/usr/bin/env nosuch\n");
        assert_eq!(why_not_runnable(&script, None), None, "env searches default directories");
        assert_eq!(why_not_runnable(&std::env::current_exe().expect("own path"), None), None);
    }

    #[test]
    fn registered_formats_are_accepted() {
        let formats = Scratch::new("formats");
        let (text, other) = (Path::new("/x/game.lua"), Path::new("/x/game.exe"));
        let is = |path: &Path, text: bool| is_registered(&formats.0, path, text);
        assert!(is(other, false) && !is(text, true), "not mounted: a binary may be known, a text is not");
        formats.file("status", "enabled\n");
        formats.file("register", "");
        assert!(!is(other, false) && !is(text, true), "no formats");
        formats.file("wine", "disabled\ninterpreter /usr/bin/wine\nflags: \noffset 0\nmagic 4d5a\n");
        assert!(!is(other, false));
        formats.file("wine", "enabled\ninterpreter /usr/bin/wine\nflags: \noffset 0\nmagic 4d5a\n");
        assert!(is(other, false) && !is(text, true));
        formats.file("lua", "enabled\ninterpreter /usr/bin/lua\nflags: \nextension .lua\n");
        assert!(is(text, true) && !is(Path::new("/x/lua"), true));
        formats.file("status", "disabled\n");
        assert!(!is(other, false) && !is(text, true));
    }
}
