//! controllerctl
fn main() {}
