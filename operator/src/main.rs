//! The operator's program; all of it is in the library.

fn main() {}
