//! The binary: a name and an exit status.

fn main() {}
