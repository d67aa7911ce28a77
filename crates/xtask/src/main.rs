//! Development tasks: `cargo xtask <task>`.
//!
//! `check` is what runs before review: format, clippy, the dependency rules of `deny.toml`, the SQL cache.

use std::{env, process::Command};

use anyhow::{Context, Result, bail};

mod deny;

fn main() -> Result<()> {
    match env::args().nth(1).as_deref() {
        Some("check") => check(),
        Some("deny") => deny::run(),
        Some("sqlx") => sqlx(),
        Some("api") => api(),
        _ => {
            println!(
                "cargo xtask check   format, clippy, dependency rules\n\
                      cargo xtask deny    dependency rules only\n\
                      cargo xtask sqlx    regenerate .sqlx (needs DATABASE_URL with the migrations applied)\n\
                      cargo xtask api     regenerate api/openapi.json and api/reasons.json"
            );
            Ok(())
        }
    }
}

/// Everything that fails a review without a reader.
fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    deny::run()
}

/// Rewrites the committed query cache; the folder is emptied first because nothing else removes stale files.
fn sqlx() -> Result<()> {
    let url =
        env::var("DATABASE_URL").context("set DATABASE_URL to a database with the migrations applied")?;
    let folder = env::current_dir()?.join(".sqlx");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let source = "crates/store/src/lib.rs";
    std::fs::write(source, std::fs::read(source)?)?;
    run(Command::new("cargo")
        .args(["check", "-p", "catenary-store"])
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", &folder)
        .env("DATABASE_URL", url))
}

/// Rewrites the generated parts of `api/`; the tests compare them with what is committed.
fn api() -> Result<()> {
    run(Command::new("cargo")
        .args(["test", "-p", "catenary-server", "-p", "catenary-chain"])
        .env("UPDATE_EXPECT", "1"))
}

fn cargo(args: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(args))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
