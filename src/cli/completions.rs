//! `--completions`: the table as a script for bash, zsh or fish. Each completes options, their
//! values, then a program and its arguments.

use std::fmt::Write as _;

use super::flags::{Flag, Value};
use super::table::FLAGS;

const BASH: &str = include_str!("completions.bash");

/// For bash 3.2 and later, with or without the bash-completion package.
pub(super) fn bash() -> String {
    let mut options = Vec::new();
    let mut valued = Vec::new();
    let mut equalled = Vec::new();
    let mut values = String::new();
    for flag in FLAGS {
        let names: Vec<String> = dashed(flag).collect();
        if flag.equals_only {
            equalled.extend(names.iter().cloned());
            options.extend(names.iter().map(|name| format!("{name}=")));
        } else if takes_next_word(flag) {
            valued.extend(names.iter().cloned());
        }
        let action = match flag.value {
            Value::Choice(words, _) => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", words.join(" ")),
            Value::Directory(_, _) => "local IFS=$'\\n'; compopt -o filenames 2>/dev/null; \
                 COMPREPLY=($(compgen -d -- \"$cur\"))"
                .to_owned(),
            Value::Switch(_) | Value::Text(_, _) | Value::Raw(_, _) => String::new(),
        };
        if !action.is_empty() {
            let _ = writeln!(values, "    {}) {action} ;;", names.join("|"));
        }
        if !flag.equals_only || flag.bare.is_some() {
            options.extend(names);
        }
    }
    BASH.replace("@OPTIONS@", &options.join(" "))
        .replace("@EQUALS@", &equalled.join("|"))
        .replace("@VALUED@", &valued.join("|"))
        .replace("    @VALUES@\n", &values)
}

/// For zsh's `compinit`; also to be evaluated or sourced.
pub(super) fn zsh() -> String {
    let mut specs = String::new();
    for flag in FLAGS {
        let names: Vec<String> = dashed(flag).collect();
        let repeat = if flag.repeatable { "*" } else { "" };
        let mut excluded: Vec<String> = if flag.repeatable { Vec::new() } else { names.clone() };
        excluded.extend(flag.conflicts.iter().map(|other| format!("--{other}")));
        let excluded = if excluded.is_empty() { String::new() } else { format!("({})", excluded.join(" ")) };
        let action = match flag.value {
            Value::Switch(_) => String::new(),
            Value::Text(name, _) | Value::Raw(name, _) => format!(":{name}:"),
            Value::Directory(name, _) => format!(":{name}:_files -/"),
            Value::Choice(words, _) => format!(":value:({})", words.join(" ")),
        };
        let equals = match (action.is_empty(), flag.equals_only) {
            (true, _) => "",
            (false, false) => "=",
            (false, true) => "=-",
        };
        for name in names {
            let equals = if name.starts_with("--") { equals } else { "" };
            let summary = summary(flag).replace('[', "\\[").replace(']', "\\]");
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
pub(super) fn fish() -> String {
    let mut out = String::from("complete -c scalesocket -e\n");
    for flag in FLAGS {
        let mut line = "complete -c scalesocket".to_owned();
        if let Some(short) = flag.short {
            let _ = write!(line, " -s {short}");
        }
        for name in std::iter::once(&flag.name).chain(flag.aliases) {
            let _ = write!(line, " -l {name}");
        }
        let takes = match flag.value {
            Value::Switch(_) => String::new(),
            Value::Text(_, _) | Value::Raw(_, _) => " -x".to_owned(),
            Value::Directory(_, _) => " -x -a '(__fish_complete_directories)'".to_owned(),
            Value::Choice(words, _) => format!(" -x -a '{}'", words.join(" ")),
        };
        let _ = writeln!(out, "{line}{takes} -d {}", quoted(&summary(flag)));
    }
    let valued: Vec<String> = FLAGS.iter().filter(|flag| takes_next_word(flag)).flat_map(dashed).collect();
    let valued = valued.join(" ");
    out + &format!("complete -c scalesocket -x -a '(__fish_complete_subcommand -- {valued})'\n")
}

/// Its names as they are typed.
fn dashed(flag: &Flag) -> impl Iterator<Item = String> {
    let long = std::iter::once(&flag.name).chain(flag.aliases).map(|name| format!("--{name}"));
    flag.short.map(|short| format!("-{short}")).into_iter().chain(long)
}

fn takes_next_word(flag: &Flag) -> bool {
    flag.value.placeholder().is_some() && !flag.equals_only
}

fn summary(flag: &Flag) -> String {
    flag.summary.replace('`', "")
}

/// In single quotes, for all three shells: none of them looks inside, and fish alone knows a
/// backslash there, which no summary has.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_list_every_flag_and_every_choice() {
        let (bash, zsh, fish) = (bash(), zsh(), fish());
        let words: Vec<&str> = bash.split(|c: char| c.is_whitespace() || "\"'|()".contains(c)).collect();
        for flag in FLAGS {
            for name in dashed(flag) {
                let equals = if flag.equals_only { "=" } else { "" };
                assert!(words.contains(&format!("{name}{equals}").as_str()), "bash: {name}");
                assert!(
                    ["[", "=[", "=-["].iter().any(|end| zsh.contains(&format!("{name}{end}"))),
                    "zsh: {name}"
                );
            }
            assert!(fish.contains(&format!(" -l {} ", flag.name)), "fish: {}", flag.name);
            if let Value::Choice(choices, _) = flag.value {
                let choices = choices.join(" ");
                assert!(bash.contains(&format!("--{}) COMPREPLY=($(compgen -W '{choices}'", flag.name)));
                assert!(zsh.contains(&format!(":value:({choices})")), "zsh: {}", flag.name);
                assert!(fish.contains(&format!(" -l {} -x -a '{choices}'", flag.name)));
            }
            assert!(!flag.summary.contains('\\'), "{}: quoting", flag.name);
        }
        assert!(!bash.contains('@'), "a placeholder was left");
    }
}
