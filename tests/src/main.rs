//! The `catenary` command, as the tests run it.

fn main() -> std::process::ExitCode {
    catenary_cli::main()
}
