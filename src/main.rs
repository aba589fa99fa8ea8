//! The program `lakh`.

fn main() {}
