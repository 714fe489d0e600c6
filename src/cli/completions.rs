//! `--completions`: scripts for bash, zsh and fish. They complete options and their values, then a program and its
//! arguments.

use crate::packed::{packed, unpack};
use std::fmt::Write as _;

use super::flag::{Flag, Table, Value};
use super::lookup::flags;

const BASH: &[u8] = packed!("completions.bash");

/// For bash 3.2 and later, with or without the bash-completion package.
pub(super) fn bash<D>(table: &'static Table<D>) -> String {
    let mut options = Vec::new();
    let mut valued = Vec::new();
    let mut equalled = Vec::new();
    let mut values = String::new();
    for flag in flags(table) {
        let names: Vec<String> = dashed(flag).collect();
        if flag.equals_only {
            equalled.extend(names.iter().cloned());
            options.extend(names.iter().map(|name| format!("{name}=")));
        } else if takes_next_word(flag) {
            valued.extend(names.iter().cloned());
        }
        let action = match &flag.value {
            Value::Words(words, _) => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", words.join(" ")),
            Value::Directory(_) => "local IFS=$'\\n'; compopt -o filenames 2>/dev/null; \
                 COMPREPLY=($(compgen -d -- \"$cur\"))"
                .to_owned(),
            _ => String::new(),
        };
        if !action.is_empty() {
            let _ = writeln!(values, "    {}) {action} ;;", names.join("|"));
        }
        if !flag.equals_only || flag.bare.is_some() {
            options.extend(names);
        }
    }
    unpack(BASH)
        .replace("@OPTIONS@", &options.join(" "))
        .replace("@EQUALS@", &equalled.join("|"))
        .replace("@VALUED@", &valued.join("|"))
        .replace("    @VALUES@\n", &values)
}

/// For zsh's `compinit`; it can also be evaluated or sourced.
pub(super) fn zsh<D>(table: &'static Table<D>) -> String {
    let mut specs = String::new();
    for flag in flags(table) {
        let names: Vec<String> = dashed(flag).collect();
        let repeat = if flag.repeatable { "*" } else { "" };
        let mut excluded: Vec<String> = if flag.repeatable { Vec::new() } else { names.clone() };
        excluded.extend(flag.conflicts.iter().map(|other| format!("--{other}")));
        let excluded = if excluded.is_empty() { String::new() } else { format!("({})", excluded.join(" ")) };
        let action = match &flag.value {
            Value::Directory(_) => ":DIR:_files -/".to_owned(),
            Value::Words(words, _) => format!(":value:({})", words.join(" ")),
            value => value.name().map(|name| format!(":{name}:")).unwrap_or_default(),
        };
        let equals = match (action.is_empty(), flag.equals_only) {
            (true, _) => "",
            (false, false) => "=",
            (false, true) => "=-",
        };
        for name in names {
            let equals = if name.starts_with("--") { equals } else { "" };
            let summary = flag.summary().replace('[', "\\[").replace(']', "\\]");
            let _ = writeln!(
                specs,
                "    {} \\",
                quoted(&format!("{excluded}{repeat}{name}{equals}[{summary}]{action}"))
            );
        }
    }
    format!(
        "#compdef scalesocket\n\
         _scalesocket() {{\n\
         \x20 _arguments -s -S \\\n\
         {specs}\
         \x20   '1:program:_command_names -e' \\\n\
         \x20   '*::arguments:_normal'\n\
         }}\n\
         if [ \"$funcstack[1]\" = _scalesocket ]; then\n\
         \x20 _scalesocket \"$@\"\n\
         else\n\
         \x20 compdef _scalesocket scalesocket\n\
         fi\n"
    )
}

/// For fish 3.0 and later.
pub(super) fn fish<D>(table: &'static Table<D>) -> String {
    let mut out = String::from("complete -c scalesocket -e\n");
    for flag in flags(table) {
        let mut line = "complete -c scalesocket".to_owned();
        if let Some(short) = flag.short {
            let _ = write!(line, " -s {short}");
        }
        for name in flag.names() {
            let _ = write!(line, " -l {name}");
        }
        let takes = match &flag.value {
            Value::Directory(_) => " -x -a '(__fish_complete_directories)'".to_owned(),
            Value::Words(words, _) => format!(" -x -a '{}'", words.join(" ")),
            value => value.name().map(|_| " -x".to_owned()).unwrap_or_default(),
        };
        let _ = writeln!(out, "{line}{takes} -d {}", quoted(&flag.summary()));
    }
    let valued: Vec<String> = flags(table).filter(|flag| takes_next_word(flag)).flat_map(dashed).collect();
    let valued = valued.join(" ");
    out + &format!("complete -c scalesocket -x -a '(__fish_complete_subcommand -- {valued})'\n")
}

/// Its names with dashes.
fn dashed<D>(flag: &Flag<D>) -> impl Iterator<Item = String> + use<D> {
    let long = flag.names().map(|name| format!("--{name}"));
    flag.short.map(|short| format!("-{short}")).into_iter().chain(long)
}

fn takes_next_word<D>(flag: &Flag<D>) -> bool {
    flag.value.name().is_some() && !flag.equals_only
}

/// In single quotes, which all three shells take literally, except for a backslash in fish; no summary has one.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::super::table::TABLE;
    use super::*;

    #[test]
    fn completions_list_every_flag_and_every_choice() {
        let (bash, zsh, fish) = (bash(TABLE), zsh(TABLE), fish(TABLE));
        let words: Vec<&str> = bash.split(|c: char| c.is_whitespace() || "\"'|()".contains(c)).collect();
        for flag in flags(TABLE) {
            for name in dashed(flag) {
                let equals = if flag.equals_only { "=" } else { "" };
                assert!(words.contains(&format!("{name}{equals}").as_str()), "bash: {name}");
                assert!(
                    ["[", "=[", "=-["].iter().any(|end| zsh.contains(&format!("{name}{end}"))),
                    "zsh: {name}"
                );
            }
            assert!(fish.contains(&format!(" -l {} ", flag.name)), "fish: {}", flag.name);
            if let Value::Words(choices, _) = flag.value {
                let choices = choices.join(" ");
                assert!(bash.contains(&format!("--{}) COMPREPLY=($(compgen -W '{choices}'", flag.name)));
                assert!(zsh.contains(&format!(":value:({choices})")), "zsh: {}", flag.name);
                assert!(fish.contains(&format!(" -l {} -x -a '{choices}'", flag.name)));
            }
            assert!(!flag.summary().contains('\\'), "{}: quoting", flag.name);
        }
        assert!(!bash.contains('@'), "a placeholder was left");
    }
}
