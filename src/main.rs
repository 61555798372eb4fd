//! The program `gong`.

fn main() {}
