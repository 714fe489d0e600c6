//! Searches `PATH` for a program.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::program::why_not_permitted;

/// The search path if `PATH` is not set, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The file to execute. Searched once here: otherwise each start would call execve(2) for each directory of `PATH`.
pub(super) fn find_program(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let refused = |reason: &str| Failure::Start(format!("cannot run {}: {reason}", name.display()));
    if name.is_empty() {
        return Err(Failure::Usage("the program's name is empty".to_owned()));
    }
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match why_not_permitted(&path) {
            None => Ok(path),
            Some(reason) => Err(refused(&reason)),
        };
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut nearly = None;
    for directory in std::env::split_paths(path) {
        // An empty element is the current directory. The result must contain a slash, or execution would search `PATH`
        // again.
        let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
        let candidate = directory.join(name);
        if !candidate.is_file() {
            continue;
        }
        match why_not_permitted(&candidate) {
            None => return Ok(candidate),
            Some(reason) => {
                nearly.get_or_insert(format!("{}: {reason}", candidate.display()));
            }
        }
    }
    Err(refused(&nearly.unwrap_or_else(|| {
        let here = Path::new(".").join(name);
        if here.is_file() {
            format!("not found in PATH; there is {} here", here.display())
        } else {
            "not found in PATH".to_owned()
        }
    })))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory of its own for a test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("scalesocket-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a directory to write in");
            Self(path)
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("a directory to write in");
            std::fs::write(&path, "#!/bin/sh\n").expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn text(result: Result<PathBuf, Failure>) -> String {
        let failure = result.expect_err("nothing to run");
        assert_eq!(failure.status(), 1);
        failure.to_string()
    }

    #[test]
    fn a_program_is_the_first_executable_file_of_its_name_in_path() {
        let scratch = Scratch::new("path");
        let dull = scratch.file("a/tool", 0o644);
        let sharp = scratch.file("b/tool", 0o755);
        scratch.file("c/tool", 0o755);
        std::fs::create_dir_all(scratch.0.join("d/tool")).expect("a directory");
        let path = |names: &[&str]| {
            std::env::join_paths(names.iter().map(|name| scratch.0.join(name))).expect("no colon inside")
        };
        let tool = OsStr::new("tool");

        assert_eq!(find_program(tool, Some(&path(&["none", "d", "a", "b", "c"]))), Ok(sharp.clone()));
        let error = text(find_program(tool, Some(&path(&["a"]))));
        assert!(error.contains(&dull.display().to_string()) && error.contains("chmod"), "{error}");
        assert!(text(find_program(tool, Some(&path(&["d"])))).contains("not found in PATH"));
        assert!(text(find_program(tool, Some(OsStr::new("")))).contains("not found in PATH"));
        assert!(
            find_program(OsStr::new(""), Some(&path(&["b"]))).is_err_and(|failure| failure.status() == 2)
        );

        assert_eq!(find_program(sharp.as_os_str(), None), Ok(sharp), "a slash: taken as it is");
        assert!(text(find_program(dull.as_os_str(), None)).contains("may not be executed"));
        assert!(text(find_program(scratch.0.as_os_str(), None)).contains("is a directory"));
        assert!(text(find_program(OsStr::new("/dev/null"), None)).contains("not a regular file"));
        assert!(text(find_program(OsStr::new("./no such"), None)).contains("No such file"));
    }

    #[test]
    fn without_path_the_usual_places_are_searched() {
        let found = find_program(OsStr::new("sh"), None).expect("every system has sh");
        assert!(found.is_absolute(), "{}", found.display());
    }

    #[test]
    fn an_empty_element_of_path_gives_a_name_with_a_slash() {
        // Tests run in the package's directory; a file there that is no program shows the name.
        let error = text(find_program(OsStr::new("Cargo.toml"), Some(OsStr::new("/nowhere::/nowhere"))));
        assert!(error.contains("./Cargo.toml: it may not be executed"), "{error}");
        let error = text(find_program(OsStr::new("Cargo.toml"), Some(OsStr::new("/nowhere"))));
        assert!(error.ends_with("not found in PATH; there is ./Cargo.toml here"), "{error}");
    }
}
