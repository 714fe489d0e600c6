//! The text about a request in the log: pairs of key and value. Pure.

use std::fmt::Write as _;

use super::super::Request;
use super::environment;
use crate::log::Quoted;

/// Characters of a value in the log: the client chooses the URL.
const MAX_VALUE: usize = 1024;

/// The URL of a request, for the log.
pub(super) fn url(request: &Request<'_>) -> String {
    let Request { head, is_secure, .. } = *request;
    let scheme = if is_secure { "https" } else { "http" };
    let mut text = String::new();
    pair(&mut text, "url", &format!("{scheme}://{}{}", environment::host(head), environment::uri(head)));
    text
}

/// Adds a pair of key and value to the text about a client in the log.
pub(super) fn pair(text: &mut String, key: &str, value: &str) {
    let space = if text.is_empty() { "" } else { " " };
    let value: String = value.chars().take(MAX_VALUE).collect();
    // Writing to a string cannot fail.
    let _ = write!(text, "{space}{key}:{}", Quoted(&value));
}
