//! `--man`: the man page, from the text in `man.mdoc` and the table of options.

use std::fmt::Write as _;

use super::flag::{Flag, Table};
use crate::packed::{packed, unpack};

/// The page in mdoc(7), packed, with a placeholder for the options.
pub(super) const PAGE: &[u8] = packed!("man.mdoc");
const OPTIONS: &str = "@OPTIONS@\n";

/// The longest line of text in the source.
const WIDTH: usize = 76;

/// A page with the options of a table.
pub(super) fn render<D>(page: &[u8], table: &'static Table<D>) -> String {
    let mut options = String::new();
    for section in table {
        let _ = write!(options, ".Ss {}\n.Bl -tag -width Ds\n", section.title);
        for flag in section.flags {
            let _ = write!(options, ".It {}\n{}", heading(flag), paragraph(&flag.full_text()));
        }
        options += ".El\n";
    }
    unpack(page).replace(OPTIONS, &options)
}

/// `Fl b , Fl -binary`, `Fl -delimiters Ns = Ns Ar CHARS`.
fn heading<D>(flag: &Flag<D>) -> String {
    let short = flag.short.map(|short| format!("Fl {short} , ")).unwrap_or_default();
    let mut text = format!("{short}Fl -{}", flag.name);
    for alias in flag.aliases {
        let _ = write!(text, " , Fl -{alias}");
    }
    let value = match (flag.value.words(), flag.value.name()) {
        ([], None) => return text,
        ([], Some(name)) => format!("Ar {name}"),
        (words, _) => format!("Cm {}", words.join(" | ")),
    };
    match (flag.equals_only, flag.bare) {
        (_, Some(_)) => format!("{text} Ns Oo Ns = Ns {value} Oc"),
        (true, None) => format!("{text} Ns = Ns {value}"),
        (false, None) => format!("{text} {value}"),
    }
}

/// Converts text with literals in backticks to mdoc, with a line for each sentence and each macro.
fn paragraph(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    // Every second piece was between backticks.
    for (i, piece) in text.split('`').enumerate() {
        if i % 2 == 1 {
            flush(&mut out, &mut line);
            out += &literal(piece);
            continue;
        }
        // Punctuation directly after a literal belongs to the macro's line.
        let rest = if i == 0 { piece } else { piece.trim_start_matches(is_closing) };
        for mark in piece[..piece.len() - rest.len()].chars() {
            out.push(' ');
            out.push(mark);
        }
        if i > 0 {
            out.push('\n');
        }
        for word in rest.split_ascii_whitespace() {
            if line.len() + word.len() > WIDTH {
                flush(&mut out, &mut line);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += &word.replace('\\', "\\e");
            if word.ends_with(['.', '?', '!']) {
                flush(&mut out, &mut line);
            }
        }
    }
    flush(&mut out, &mut line);
    out
}

fn is_closing(c: char) -> bool {
    matches!(c, '.' | ',' | ':' | ';' | ')' | '?' | '!')
}

fn flush(out: &mut String, line: &mut String) {
    if !line.is_empty() {
        // At the start of a line these begin a request.
        if line.starts_with(['.', '\'']) {
            out.push_str("\\&");
        }
        out.push_str(line);
        out.push('\n');
        line.clear();
    }
}

/// The macro for a literal, without a newline.
fn literal(text: &str) -> String {
    let option = text.strip_prefix('-').filter(|rest| {
        rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-')
            && !rest.trim_matches('-').is_empty()
    });
    if let Some(option) = option {
        return format!(".Fl {option}");
    }
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' => escaped += "\\e",
            // Some output formats would replace these by typographic characters.
            '-' => escaped += "\\-",
            '"' => escaped += "\\(dq",
            '\'' => escaped += "\\(aq",
            '`' => escaped += "\\(ga",
            '^' => escaped += "\\(ha",
            '~' => escaped += "\\(ti",
            c => escaped.push(c),
        }
    }
    // mdoc would interpret the name of a macro and punctuation.
    let guard = if text.len() <= 3 { "\\&" } else { "" };
    if text.contains(' ') { format!(".Ql \"{guard}{escaped}\"") } else { format!(".Ql {guard}{escaped}") }
}

#[cfg(test)]
mod tests {
    use super::super::draft::Draft;
    use super::super::lookup::{by_name, by_short, flags};
    use super::super::table::TABLE;
    use super::*;

    /// Name, text and options of each page.
    fn pages() -> Vec<(&'static str, &'static [u8], &'static Table<Draft>)> {
        vec![
            ("scalesocket", PAGE, TABLE),
            #[cfg(feature = "websocketd")]
            ("websocketd", super::super::websocketd::PAGE, super::super::websocketd::table::TABLE),
        ]
    }

    #[test]
    fn the_committed_man_pages_are_what_the_tables_render() {
        for (name, page, table) in pages() {
            let path = format!("{}/man/{name}.1", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(&path).expect(&path);
            let option = if name == "websocketd" { "--websocketd --man" } else { "--man" };
            assert!(
                committed == render(page, table),
                "man/{name}.1 is old; render it anew: cargo run -- {option} > man/{name}.1"
            );
        }
    }

    #[test]
    fn the_man_pages_have_every_flag_once_and_no_placeholder() {
        for (name, page, table) in pages() {
            let page = render(page, table);
            for flag in flags(table) {
                let line = format!("\n.It {}\n", heading(flag));
                assert_eq!(page.matches(&line).count(), 1, "{name}: {}", flag.name);
            }
            assert!(!page.contains('@'), "{name}: a placeholder was left");
            assert!(page.lines().all(|line| line.len() <= 80 && line.trim_end() == line), "{name}");
        }
    }

    #[test]
    fn the_exit_statuses_and_the_variables_are_in_the_man_page() {
        let page = render(PAGE, TABLE);
        for heading in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "ROOMS",
            "PROGRAMS",
            "SHARING AND RELAYING",
            "MESSAGES",
            "BUFFERING",
            "HTTP",
            "METRICS",
            "ENVIRONMENT",
            "FILES",
            "CLOSE CODES",
            "LOG",
            "SIGNALS",
            "EXIT STATUS",
            "PROXIES",
            "SERVICES",
            "LIMITS",
            "SECURITY",
            "EXAMPLES",
            "SEE ALSO",
        ] {
            assert_eq!(page.matches(&format!("\n.Sh {heading}\n")).count(), 1, "{heading}");
        }
    }

    #[test]
    fn the_prose_names_only_options_that_exist() {
        for (name, page, table) in pages() {
            let known = |name: &str| {
                by_name(table, name).is_some()
                    || name.len() == 1 && name.chars().any(|c| by_short(table, c).is_some())
                    // Placeholders, and the option that leads to the other page.
                    || ["option", "x", "websocketd"].contains(&name)
            };
            let mut named = 0;
            for line in unpack(page).lines().filter(|line| line.starts_with('.')) {
                let words: Vec<_> = line.split_whitespace().collect();
                for pair in words.windows(2).filter(|pair| pair[0].trim_start_matches('.') == "Fl") {
                    assert!(known(pair[1].trim_start_matches('-')), "{line}");
                    named += 1;
                }
            }
            assert!(named > 20, "{name}: {named}");
        }
    }

    #[test]
    fn prose_becomes_mdoc_lines() {
        for (text, mdoc) in [
            ("One. Two `x`, three.", "One.\nTwo\n.Ql \\&x ,\nthree.\n"),
            ("`--slow` says.", ".Fl -slow\nsays.\n"),
            ("See `-vv`.", "See\n.Fl vv .\n"),
            (r"`\n` or `a b`", ".Ql \\&\\en\nor\n.Ql \"\\&a b\"\n"),
            (".dot first", "\\&.dot first\n"),
            ("`--grace 0.5`; 0.25 s", ".Ql \"\\-\\-grace 0.5\" ;\n0.25 s\n"),
        ] {
            assert_eq!(paragraph(text), mdoc, "{text}");
        }
    }
}
