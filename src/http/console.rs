//! The console: a page to try the server by hand. It is the same for every request, and takes the websocket address from
//! its own: nothing of a request is put into it.

use super::body::Body;
use super::respond::Reply;
use crate::packed::{packed, unpack};

const PAGE: &[u8] = packed!("console.html");

/// What the page may do: its own style and script, which are named by hashes, and websockets. Browsers differ in whether
/// `'self'` includes websockets, and behind a proxy the server does not know its address, hence `ws:` and `wss:`.
const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-Cocy+0MiAfHrvyqGWztxSNEFS3RFP94tFx/6e0lbpmo='; \
    script-src 'sha256-hXWDOainAmiJvBfz8hWeVlya1e0j2qKxzDRJkrn9gDI='; \
    connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The list of rooms. The page fills it with those of the API, which it expects at `api/rooms/` beside itself.
const ROOMS: &str = "  <select id=\"rooms\" aria-label=\"Rooms\"></select>\n";

/// The page, with or without the list of rooms.
pub fn reply(lists_rooms: bool) -> Reply {
    let page = unpack(PAGE);
    let page = if lists_rooms { page } else { page.replacen(ROOMS, "", 1) };
    Reply::new(200, "text/html; charset=utf-8", Body::Bytes(page.into_bytes()))
        .with("Content-Security-Policy", POLICY)
        .with("X-Content-Type-Options", "nosniff")
        .with("Cache-Control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("console.html");

    /// SHA-256 (FIPS 180-4).
    fn sha256(data: &[u8]) -> Vec<u8> {
        // The fractional parts of the square and cube roots of the first primes.
        let fraction = |root: f64| u32::try_from((root.fract() * 2f64.powi(32)) as i64).expect("below 2^32");
        let primes = (2..312u32).filter(|n| (2..*n).all(|divisor| n % divisor != 0));
        let constants: Vec<u32> = primes.clone().map(|prime| fraction(f64::from(prime).cbrt())).collect();
        let mut state: Vec<u32> = primes.take(8).map(|prime| fraction(f64::from(prime).sqrt())).collect();
        let mut padded = [data, &[0x80]].concat();
        padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
        padded.extend((data.len() as u64 * 8).to_be_bytes());
        for block in padded.chunks(64) {
            let mut words: Vec<u32> =
                block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().expect("four"))).collect();
            for at in 16..64 {
                let (a, b) = (words[at - 15], words[at - 2]);
                let small = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
                let large = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
                words.push(
                    [words[at - 16], small, words[at - 7], large].into_iter().fold(0, u32::wrapping_add),
                );
            }
            let mut turn = state.clone();
            for (constant, word) in constants.iter().zip(words) {
                let (a, e) = (turn[0], turn[4]);
                let large = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
                let choice = (e & turn[5]) ^ (!e & turn[6]);
                let first = [turn[7], large, choice, *constant, word].into_iter().fold(0, u32::wrapping_add);
                let large = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
                let majority = (a & turn[1]) ^ (a & turn[2]) ^ (turn[1] & turn[2]);
                turn.rotate_right(1);
                turn[4] = turn[4].wrapping_add(first);
                turn[0] = [first, large, majority].into_iter().fold(0, u32::wrapping_add);
            }
            state.iter_mut().zip(turn).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        }
        state.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn base64(data: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits = |bytes: &[u8]| {
            let number = bytes.iter().fold(0, |number, byte| (number << 8) | usize::from(*byte));
            let number = number << (8 * (3 - bytes.len()));
            let digit = |at: usize| char::from(DIGITS[(number >> (18 - 6 * at)) & 63]);
            (0..4).map(|at| if at > bytes.len() { '=' } else { digit(at) }).collect::<String>()
        };
        data.chunks(3).map(digits).collect()
    }

    #[test]
    fn the_policy_allows_this_style_and_this_script() {
        assert_eq!(base64(&sha256(b"abc")), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        for tag in ["style", "script"] {
            let (_, rest) = TEXT.split_once(&format!("<{tag}>")).expect("its start");
            let (text, rest) = rest.split_once(&format!("</{tag}>")).expect("its end");
            assert!(!rest.contains(&format!("<{tag}")), "a second one");
            let source = format!("{tag}-src 'sha256-{}';", base64(&sha256(text.as_bytes())));
            assert!(POLICY.contains(&source), "the page has changed; its policy is {source}");
        }
    }

    #[test]
    fn the_page_is_small_and_loads_nothing() {
        assert!(TEXT.len() <= 11 * 1024, "{} bytes", TEXT.len());
        for word in ["src=", "@import", "url(", "http://", "https://", "innerHTML", "style="] {
            assert!(!TEXT.contains(word), "{word}");
        }
    }

    #[test]
    fn rooms_are_listed_where_there_is_an_api() {
        let page = |lists_rooms| {
            let Body::Bytes(page) = reply(lists_rooms).body else { panic!("bytes") };
            String::from_utf8(page).expect("text")
        };
        assert!(page(true).contains(ROOMS) && page(true) == TEXT);
        assert!(!page(false).contains("<select") && page(false).len() == TEXT.len() - ROOMS.len());
    }
}
