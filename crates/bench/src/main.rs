//! Benchmarks, each as a ratio to a ceiling measured in the same run (docs/benchmarks.md).
//!
//! `cargo run --release -p bench -- all --size 1000000` measures the service, `-- pure` the pure crates,
//! `-- hammer` tries to break it (docs/hammer.md).

mod evaluate;
mod hammer;
mod pure;
mod service;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = acceptance::app::be_the_program() {
        return Ok(code);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("all") => service::run(&arguments[1..]),
        Some("ceiling") => service::ceiling::serve(&arguments[1..]),
        Some("hammer") => hammer::run(&arguments[1..]),
        None | Some("pure") => pure::run().map(|()| ExitCode::SUCCESS),
        Some(other) => {
            eprintln!(
                "there is no benchmark `{other}`\nusage: bench (all [--size N] [--data FOLDER] [--case NAME] [--output json] | hammer | pure)"
            );
            Ok(ExitCode::from(3))
        }
    }
}
