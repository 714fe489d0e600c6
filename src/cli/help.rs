//! `--help`: the table as plain text, 80 columns wide.

use std::fmt::Write as _;

use super::flags::{Category, Flag};

/// How it is called, in one line.
pub(super) const SYNOPSIS: &str = "scalesocket [OPTIONS] CMD [ARGS...]";

const WIDTH: usize = 80;
const INDENT: usize = 8;

/// The whole help.
pub(super) fn render() -> String {
    let mut out = format!("usage: {SYNOPSIS}\n\n");
    wrap(
        &mut out,
        0,
        "Serves any program over websockets: each URL path is a room, all clients of a room share one \
         process, what it prints goes to them, what they send goes to its standard input.",
    );
    out.push('\n');
    wrap(
        &mut out,
        0,
        "Options stand before CMD; long ones may stand directly after it. ARGS begin at the first word after \
         CMD that is no option, or after --.",
    );
    for category in Category::ALL {
        out.push('\n');
        out.push_str(category.title());
        out.push_str(":\n");
        for flag in category.flags() {
            out.push_str("  ");
            out.push_str(&heading(flag));
            out.push('\n');
            wrap(&mut out, INDENT, &flag.text().replace('`', ""));
        }
    }
    out
}

/// `-b, --binary`, `--addr ADDRESS`, `--delimiters=CHARS`.
fn heading(flag: &Flag) -> String {
    let mut text = flag.short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let _ = write!(text, "--{}", flag.name);
    for alias in flag.aliases {
        let _ = write!(text, ", --{alias}");
    }
    if let Some(value) = flag.value.placeholder() {
        let (before, after) = match (flag.equals_only, flag.bare) {
            (_, Some(_)) => ("[=", "]"),
            (true, None) => ("=", ""),
            (false, None) => (" ", ""),
        };
        text.extend([before, &value, after]);
    }
    text
}

/// Adds a paragraph, broken between words.
fn wrap(out: &mut String, indent: usize, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::flags::Default;
    use super::super::table::FLAGS;
    use super::*;

    #[test]
    fn the_help_lists_every_flag_with_its_default_and_stays_within_80_columns() {
        let help = render();
        for flag in FLAGS {
            let line = format!("\n  {}\n", heading(flag));
            assert_eq!(help.matches(&line).count(), 1, "{}", flag.name);
            if let Default::Value(value) | Default::Words(value) = flag.default {
                let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(flat.contains(&format!("The default is {value}.")), "{}", flag.name);
            }
        }
        for category in Category::ALL {
            assert!(help.contains(&format!("\n{}:\n", category.title())), "{category:?}");
        }
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line, "space at the end");
        }
        assert!(!help.contains('`'));
    }
}
