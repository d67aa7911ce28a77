//! The `catenary` command.

fn main() -> std::process::ExitCode {
    catenary_cli::main()
}
