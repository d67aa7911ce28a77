//! Stories over HTTP against real Postgres and real tools: no mocks.
//!
//! [`App`] is the real command in a process of its own, on a database of its own. [`Stage`] is a tenant whose keys
//! and policy are those of the golden world; a test posts evidence into it, honest or not.
//!
//! Everything that a test starts ends with the test process, however that ends: see [`process`].

#![allow(
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "this is test code: a panic is a failed test"
)]

pub mod app;
pub mod attacks;
pub mod checker;
pub mod cluster;
pub mod http;
pub mod jwt;
pub mod listener;
pub mod load;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod stage;
pub mod standby;
pub mod tls;

pub use crate::{
    app::{App, Builder},
    cluster::Cluster,
    http::{Answer, Client},
    stage::{Stage, honest, mutant},
};

/// Unix seconds, now.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A number that nobody else in this process has.
pub fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Says by name what this machine cannot run, and why.
pub fn skip(name: &str, why: &str) {
    println!("SKIPPED {name}: {why}");
}

/// Whether a program is installed.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
