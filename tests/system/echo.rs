//! Echoes lines: a static program for a root directory that has no other.

use std::io::{self, BufRead as _, Write as _};

fn main() -> io::Result<()> {
    let mut output = io::stdout();
    for line in io::stdin().lock().lines() {
        writeln!(output, "{}", line?)?;
        output.flush()?;
    }
    Ok(())
}
