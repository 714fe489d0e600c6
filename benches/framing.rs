//! What JSON framing costs a message over line framing, in both directions: `cargo bench --bench framing`.
//!
//! Both are measured in turns, in one run; the figures are medians, in nanoseconds a message.

#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use scalesocket::framing::batch::Batch;
use scalesocket::framing::heads::Kind;
use scalesocket::framing::input::Input;
use scalesocket::framing::input::{Sender, parts};
use scalesocket::framing::output::Output;
use scalesocket::framing::output::{Decoded, Decoder};

const MESSAGES: usize = 20_000;
const ROUNDS: usize = 31;

/// A message of about 200 bytes as a game or a chat sends it.
const MESSAGE: &str = r#"{"op":"move","seq":182734,"data":{"x":153.25,"y":-12.5,"dir":[0.70710678,0.70710678]},"name":"J\u00f6rg \"the\" player","tags":["blue","fast"],"_to":[3,17],"text":"hello, world, and all who sail in her"}"#;

fn main() {
    println!("messages of {} bytes, nanoseconds a message, median of {ROUNDS} rounds", MESSAGE.len());
    for (direction, lines, json) in [
        ("to the program", write as fn(bool) -> f64, write as fn(bool) -> f64),
        ("of the program", read as fn(bool) -> f64, read as fn(bool) -> f64),
    ] {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            figures[0].push(lines(false));
            figures[1].push(json(true));
        }
        let [lines, json] = figures.map(|mut figures| {
            figures.sort_by(f64::total_cmp);
            figures[ROUNDS / 2]
        });
        println!("{direction}: lines {lines:.0}, JSON {json:.0}, JSON costs {:.0} more", json - lines);
    }
}

fn write(json: bool) -> f64 {
    let input = if json { Input::Json { room: false } } else { Input::Lines };
    let (mut scratch, mut out) = (Vec::new(), Vec::with_capacity(MESSAGES * (MESSAGE.len() + 32)));
    let start = Instant::now();
    for id in 0..MESSAGES {
        let message = black_box(MESSAGE.as_bytes());
        for part in parts(input, Sender { id: id as u64, room: "lobby" }, Kind::Text, message, &mut scratch)
            .expect("an object")
        {
            out.extend_from_slice(part);
        }
    }
    black_box(out);
    start.elapsed().as_nanos() as f64 / MESSAGES as f64
}

fn read(json: bool) -> f64 {
    let output = Output::Delimited { delimiters: b"\n".to_vec(), strip_cr: true, json, room: false };
    let mut decoder = Decoder::new(&output, 1 << 20);
    let stream = [MESSAGE, "\n"].concat().repeat(MESSAGES);
    let (mut batch, mut decoded, mut parts) = (Batch::default(), Decoded::default(), Vec::new());
    let start = Instant::now();
    for chunk in black_box(stream.as_bytes()).chunks(64 * 1024) {
        batch.bytes.clear();
        batch.ends.clear();
        decoded.clear();
        decoder.push(chunk, &mut batch, &mut decoded);
        black_box(decoded.addresses.shares(&[3], &batch.ends).parts(3, &mut parts));
    }
    start.elapsed().as_nanos() as f64 / MESSAGES as f64
}
