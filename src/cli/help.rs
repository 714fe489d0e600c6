//! `--help` and `-h`: the table as plain text, 80 columns wide.

use std::fmt::Write as _;

use super::flag::{Flag, Table};

pub(super) const SYNOPSIS: &str = "scalesocket [OPTIONS] CMD [ARGS...]";

const WIDTH: usize = 80;
const INDENT: usize = 8;
/// Where the summaries of the short help begin.
const COLUMN: usize = 27;

/// `--help`: all about each option.
pub(super) fn long<D>(table: &'static Table<D>) -> String {
    let mut out = format!("usage: {SYNOPSIS}\n\n");
    wrap(
        &mut out,
        0,
        "Serves any program over websockets. Each URL path is a room. The clients of a room share one process: what \
         it prints goes to all of them, what they send goes to its standard input.",
    );
    out.push('\n');
    wrap(
        &mut out,
        0,
        "Options stand before CMD; long ones may also stand directly after it. ARGS begin at the first word after CMD \
         that is not an option, or after --. With --relay and --connect there is no CMD.",
    );
    sections(&mut out, table);
    out
}

/// All about each option.
pub(super) fn sections<D>(out: &mut String, table: &'static Table<D>) {
    for section in table {
        let _ = write!(out, "\n{}:\n", section.title);
        for flag in section.flags {
            let _ = writeln!(out, "  {}", heading(flag));
            wrap(out, INDENT, &flag.full_text().replace('`', ""));
        }
    }
}

/// `-h`: one line for each option.
pub(super) fn short<D>(table: &'static Table<D>) -> String {
    let mut out = format!("usage: {SYNOPSIS}\n");
    for section in table {
        let _ = write!(out, "\n{}:\n", section.title);
        for flag in section.flags {
            let short = flag.short.map(|short| format!("-{short}, ")).unwrap_or_default();
            let value = flag.value.name().map(|name| around(flag, name)).unwrap_or_default();
            let heading = format!("  {short}--{}{value}", flag.name);
            let _ = writeln!(out, "{heading:COLUMN$}{}", flag.summary());
        }
    }
    out + "\n--help describes the options, --man prints the manual.\n"
}

/// `-b, --binary`, `--addr ADDRESS`, `--delimiters=CHARS`.
fn heading<D>(flag: &Flag<D>) -> String {
    let mut text = flag.short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let names: Vec<String> = flag.names().map(|name| format!("--{name}")).collect();
    text += &names.join(", ");
    text + &flag.value.placeholder().map(|value| around(flag, &value)).unwrap_or_default()
}

/// A value with its separator from the option.
fn around<D>(flag: &Flag<D>, value: &str) -> String {
    match (flag.equals_only, flag.bare) {
        (_, Some(_)) => format!("[={value}]"),
        (true, None) => format!("={value}"),
        (false, None) => format!(" {value}"),
    }
}

/// Adds a paragraph with line breaks between words.
fn wrap(out: &mut String, indent: usize, text: &str) {
    let mut column = 0;
    for word in text.split_ascii_whitespace() {
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
    use super::super::lookup::flags;
    use super::super::table::TABLE;
    use super::*;

    #[test]
    fn the_help_lists_every_option_with_its_default_and_stays_within_80_columns() {
        let (help, summary) = (long(TABLE), short(TABLE));
        for flag in flags(TABLE) {
            let line = format!("\n  {}\n", heading(flag));
            assert_eq!(help.matches(&line).count(), 1, "{}", flag.name);
            if let Some(value) = flag.default.or(flag.otherwise) {
                let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(flat.contains(&format!("The default is {value}.")), "{}", flag.name);
            }
            assert!(summary.contains(&format!(" {}\n", flag.summary())), "{}", flag.name);
        }
        for section in TABLE {
            assert!(help.contains(&format!("\n{}:\n", section.title)), "{}", section.title);
        }
        for line in help.lines().chain(summary.lines()) {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line, "space at the end");
        }
        assert!(!help.contains('`') && !summary.contains('`'));
    }
}
