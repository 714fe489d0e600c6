//! Chooses the subprotocol of a handshake (RFC 6455 §1.9, §4.2.2). Pure.
//!
//! The program implements the subprotocol, so the server knows none. But a client that offers some and gets none may end
//! the connection, as browsers do.

use super::head::Head;
use crate::config::Subprotocols;

/// A subprotocol with this prefix contains credentials, because a page cannot set a header field.
const CREDENTIALS: &str = "bearer.";

/// What a client offers, in its order of preference; `None` if it is not a list of tokens. The field may be repeated
/// (RFC 6455 §11.3.4), and some but not all elements of a list may be empty (RFC 9110 §5.6.1).
pub fn offered(head: &Head) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for value in head.values("sec-websocket-protocol") {
        let before = names.len();
        for name in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
        {
            names.push(std::str::from_utf8(name).ok().filter(|name| is_token(name))?.to_owned());
        }
        if names.len() == before {
            return None;
        }
    }
    Some(names)
}

pub fn choose<'a>(offered: &'a [String], allowed: &Subprotocols) -> Option<&'a str> {
    let chosen = match allowed {
        Subprotocols::Any => {
            offered.iter().find(|name| !name.starts_with(CREDENTIALS)).or_else(|| offered.first())
        }
        Subprotocols::Listed(list) => offered.iter().find(|name| list.contains(name)),
    };
    chosen.map(String::as_str)
}

/// Whether it is a token (RFC 9110 §5.6.2).
pub fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(fields: &str) -> Option<Vec<String>> {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let (head, _) = Head::parse(text.as_bytes()).expect("a good head").expect("complete");
        offered(&head)
    }

    #[test]
    fn an_offer_is_a_list_of_tokens_over_all_its_fields() {
        for (fields, wanted) in [
            ("", Some(&[] as &[&str])),
            ("Sec-WebSocket-Protocol: mcp\r\n", Some(&["mcp"])),
            (
                "sec-websocket-protocol: b ,a,\tb\r\nX: y\r\nSEC-WEBSOCKET-PROTOCOL:c\r\n",
                Some(&["b", "a", "b", "c"]),
            ),
            ("Sec-WebSocket-Protocol: ,a,, b,\r\n", Some(&["a", "b"])),
            ("Sec-WebSocket-Protocol: !#$%&'*+-.^_`|~09AZaz\r\n", Some(&["!#$%&'*+-.^_`|~09AZaz"])),
            ("Sec-WebSocket-Protocol:\r\n", None),
            ("Sec-WebSocket-Protocol: , ,\r\n", None),
            ("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol:\r\n", None),
            ("Sec-WebSocket-Protocol: a b\r\n", None),
            ("Sec-WebSocket-Protocol: a, \"b\"\r\n", None),
            ("Sec-WebSocket-Protocol: a;b\r\n", None),
            ("Sec-WebSocket-Protocol: a/b\r\n", None),
            ("Sec-WebSocket-Protocol: a\tb\r\n", None),
            ("Sec-WebSocket-Protocol: b\u{fc}cher\r\n", None),
        ] {
            let wanted = wanted.map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(offer(fields), wanted, "{fields:?}");
        }
    }

    #[test]
    fn the_clients_first_is_chosen_of_what_may_be_chosen() {
        let listed = |names: &[&str]| Subprotocols::Listed(names.iter().map(ToString::to_string).collect());
        for (offered, allowed, wanted) in [
            (&[] as &[&str], Subprotocols::Any, None),
            (&["a", "b"], Subprotocols::Any, Some("a")),
            (&["bearer.x", "a"], Subprotocols::Any, Some("a")),
            (&["bearer.x", "bearer.y"], Subprotocols::Any, Some("bearer.x")),
            (&["bearer", "a"], Subprotocols::Any, Some("bearer")),
            (&["a", "b", "c"], listed(&["c", "b"]), Some("b")),
            (&["A"], listed(&["a"]), None),
            (&[], listed(&["a"]), None),
            (&["bearer.x"], listed(&["a"]), None),
            (&["bearer.x", "a"], listed(&["a"]), Some("a")),
            (&["a"], listed(&[]), None),
        ] {
            let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
            assert_eq!(choose(&offered, &allowed), wanted, "{offered:?} {allowed:?}");
        }
    }
}
