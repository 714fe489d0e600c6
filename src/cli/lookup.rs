//! Finds options by name.

use super::flag::{Flag, Table};

pub(super) fn flags<D>(table: &'static Table<D>) -> impl Iterator<Item = &'static Flag<D>> {
    table.iter().flat_map(|section| section.flags)
}

/// The option with this long name or alias.
pub(super) fn by_name<D>(table: &'static Table<D>, name: &str) -> Option<&'static Flag<D>> {
    flags(table).find(|flag| flag.names().any(|known| known == name))
}

/// The option with this short name.
pub(super) fn by_short<D>(table: &'static Table<D>, short: char) -> Option<&'static Flag<D>> {
    flags(table).find(|flag| flag.short == Some(short))
}

/// The long name that an unknown name probably means.
pub(super) fn nearest<D>(table: &'static Table<D>, typed: &str) -> Option<&'static str> {
    let typed = typed.trim_start_matches('-').to_ascii_lowercase();
    let names = || flags(table).flat_map(Flag::names);
    // A prefix is a better guess than a similar word.
    if let Some(name) = names().find(|name| typed.len() >= 3 && name.starts_with(&typed)) {
        return Some(name);
    }
    // At most one error in three letters.
    let (distance, name) = names().map(|name| (edit_distance(&typed, name), name)).min()?;
    (distance <= name.len() / 3).then_some(name)
}

/// The number of letters to insert, delete, replace or swap with the next to turn one word into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let changed = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::super::table::TABLE;
    use super::*;

    #[test]
    fn the_hint_is_the_name_that_was_meant_or_none() {
        for (typed, meant) in [
            ("--bianry", Some("binary")),
            ("--binray", Some("binary")),
            ("-addr", Some("addr")),
            ("--Addr", Some("addr")),
            ("--adr", Some("addr")),
            ("--delim", Some("delimiters")),
            ("--maxm", Some("maxmessage")),
            ("--stopsignals", Some("stopsignal")),
            ("--ip", None),
            ("--pings", Some("ping")),
            ("--static-dir", Some("staticdir")),
            ("--zzz", None),
            ("-x", None),
            ("--", None),
        ] {
            assert_eq!(nearest(TABLE, typed), meant, "{typed}");
        }
    }
}
