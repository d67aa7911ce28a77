//! New migrations are part of the binary: without this, cargo would not see them.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
