//! Texts that the build has packed: man pages and the console's page.
//!
//! The packed form (`build.rs` writes it): the length of the text in four bytes, then bits, the highest of each byte
//! first. A 0 and seven bits are a character. A 1 begins a repeat of earlier text: a 0 and nine bits or a 1 and fifteen
//! bits are the distance less one, then comes the length less two in Elias gamma code.

/// A packed text, by the name of its file.
macro_rules! packed {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}
pub(crate) use packed;

/// Unpacks a text of this build.
pub fn unpack(packed: &[u8]) -> String {
    let (length, bits) = packed.split_at(4);
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let mut at = 0;
    let mut take = |count: u32| {
        (0..count).fold(0, |number, _| {
            let bit = bits[at / 8] >> (7 - at % 8) & 1;
            at += 1;
            number << 1 | usize::from(bit)
        })
    };
    let mut text: Vec<u8> = Vec::with_capacity(length);
    while text.len() < length {
        if take(1) == 0 {
            text.push(take(7) as u8);
            continue;
        }
        let distance = if take(1) == 0 { take(9) } else { take(15) } + 1;
        let mut digits = 0;
        while take(1) == 0 {
            digits += 1;
        }
        let mut repeat = 2 + (1 << digits | take(digits));
        while repeat > 0 {
            text.push(text[text.len() - distance]);
            repeat -= 1;
        }
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_comes_out_as_it_went_in() {
        assert_eq!(unpack(packed!("man.mdoc")), include_str!("cli/man.mdoc"));
    }
}
