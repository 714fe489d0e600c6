//! Packs the texts that the binary carries and rarely prints: man pages and the console's page. They are the larger
//! part of the binary otherwise. `src/packed.rs` unpacks them and says how they are packed.

use std::collections::HashMap;
use std::path::Path;
use std::{env, fs};

/// Texts to pack, by path from the top of the source. All are ASCII.
const TEXTS: [&str; 4] = [
    "src/cli/completions.bash",
    "src/cli/man.mdoc",
    "src/cli/websocketd/websocketd.mdoc",
    "src/http/console.html",
];

/// The shortest repeat, and how many earlier places are tried for one.
const SHORTEST: usize = 3;
const TRIED: usize = 64;

/// The farthest repeat with a short distance, and with a long one.
const NEAR: usize = 1 << 9;
const FAR: usize = 1 << 15;

fn main() {
    let out = env::var("OUT_DIR").expect("cargo gives the directory");
    for text in TEXTS {
        println!("cargo::rerun-if-changed={text}");
        let bytes = fs::read(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(bytes.is_ascii(), "{text} has a character that is not ASCII");
        let name = Path::new(text).file_name().expect("a file");
        fs::write(Path::new(&out).join(name), pack(&bytes)).expect("the directory is ours");
    }
}

/// A step of the packed form: a byte as it is, or a repeat of what is so far behind.
#[derive(Clone, Copy)]
enum Step {
    Byte,
    Repeat { distance: usize, length: usize },
}

fn pack(text: &[u8]) -> Vec<u8> {
    let repeats = repeats(text);
    // From the end: the cheapest way to write the rest of the text.
    let mut cost = vec![0; text.len() + 1];
    let mut steps = vec![Step::Byte; text.len()];
    for at in (0..text.len()).rev() {
        cost[at] = cost[at + 1] + 8;
        for &(distance, longest) in &repeats[at] {
            for length in SHORTEST..=longest {
                let bits = 2 + distance_bits(distance) + gamma_bits(length - 2) + cost[at + length];
                if bits < cost[at] {
                    cost[at] = bits;
                    steps[at] = Step::Repeat { distance, length };
                }
            }
        }
    }
    let mut bits = Bits { bytes: u32::try_from(text.len()).expect("small").to_be_bytes().to_vec(), free: 0 };
    let mut at = 0;
    while at < text.len() {
        match steps[at] {
            Step::Byte => {
                bits.push(usize::from(text[at]), 8);
                at += 1;
            }
            Step::Repeat { distance, length } => {
                bits.push(1, 1);
                bits.push(usize::from(distance > NEAR), 1);
                bits.push(distance - 1, distance_bits(distance));
                let digits = usize::BITS - (length - 2).leading_zeros();
                bits.push(0, digits as usize - 1);
                bits.push(length - 2, digits as usize);
                at += length;
            }
        }
    }
    bits.bytes
}

fn distance_bits(distance: usize) -> usize {
    if distance > NEAR { FAR.ilog2() as usize } else { NEAR.ilog2() as usize }
}

/// The length of a number in Elias gamma code.
fn gamma_bits(number: usize) -> usize {
    2 * number.ilog2() as usize + 1
}

/// For each place, distance and length of earlier text that repeats there: the nearest one of each length.
fn repeats(text: &[u8]) -> Vec<Vec<(usize, usize)>> {
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let mut all = Vec::with_capacity(text.len());
    for at in 0..text.len() {
        let mut found: Vec<(usize, usize)> = Vec::new();
        if let Some(beginning) = text.get(at..at + SHORTEST) {
            let known = places.entry(beginning).or_default();
            for &place in known.iter().rev().take(TRIED).take_while(|&&place| at - place <= FAR) {
                let length = text[place..].iter().zip(&text[at..]).take_while(|(a, b)| a == b).count();
                if found.iter().all(|&(_, other)| other < length) {
                    found.push((at - place, length));
                }
            }
            known.push(at);
        }
        all.push(found);
    }
    all
}

/// Bits from the highest to the lowest of each byte.
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are free.
    free: u32,
}

impl Bits {
    fn push(&mut self, number: usize, bits: usize) {
        for bit in (0..bits).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            let last = self.bytes.last_mut().expect("it was just added");
            *last |= u8::from(number >> bit & 1 == 1) << self.free;
        }
    }
}
