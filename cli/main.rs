//! aofctl.
fn main() {}
