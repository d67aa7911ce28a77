//! The dependency rules of `deny.toml`, checked from `cargo metadata` so that no tool has to be installed.
//!
//! What it does not do is match licence *texts* and advisories; `cargo deny check` does, where it is installed.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Reads the shipped dependency graph and refuses banned crates, foreign sources and unlisted licences.
pub fn run() -> Result<()> {
    let rules = std::fs::read_to_string("deny.toml").context("run from the workspace root")?;
    let banned = bans(&rules);
    let licences = licence_list(&rules);
    let mut faults = Vec::new();
    for package in shipped()? {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some(wrappers) = banned.get(name) {
            let others: Vec<String> =
                users(name)?.into_iter().filter(|user| !wrappers.contains(user)).collect();
            if wrappers.is_empty() || !others.is_empty() {
                faults.push(format!("{name} is banned ({})", others.join(", ")));
            }
        }
        let source = package["source"].as_str().unwrap_or_default();
        if source.starts_with("git+") {
            faults.push(format!("{name} comes from {source}; git dependencies are refused"));
        }
        let licence = package["license"].as_str().unwrap_or("none");
        if !source.is_empty() && !allowed(licence, &licences) {
            faults.push(format!("{name} has licence {licence}"));
        }
    }
    if !faults.is_empty() {
        bail!("dependency rules:\n  {}", faults.join("\n  "));
    }
    println!("dependency rules: ok");
    Ok(())
}

/// Packages that reach a user: the normal and build dependencies of the command, with its default features.
fn shipped() -> Result<Vec<Value>> {
    let tree = Command::new("cargo")
        .args([
            "tree",
            "-p",
            "catenary-cli",
            "-e",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--locked",
        ])
        .output()?;
    let names: BTreeSet<(String, String)> = String::from_utf8(tree.stdout)?
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
        })
        .collect();
    if names.len() < 50 {
        bail!("cargo tree listed {} packages only: {}", names.len(), String::from_utf8_lossy(&tree.stderr));
    }
    let metadata = Command::new("cargo").args(["metadata", "--format-version", "1", "--locked"]).output()?;
    let metadata: Value = serde_json::from_slice(&metadata.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let key = |p: &Value| {
        (
            p["name"].as_str().unwrap_or_default().to_owned(),
            p["version"].as_str().unwrap_or_default().to_owned(),
        )
    };
    Ok(packages.iter().filter(|p| names.contains(&key(p))).cloned().collect())
}

/// An SPDX expression is allowed when each `AND` part has an allowed alternative.
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|one| licences.contains(one.trim())))
}

/// Banned crates, each with the crates that may use it all the same.
fn bans(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let ban = |line: &str| {
        let rule = line.split_once("{ crate = ")?.1;
        let wrappers = rule.split_once("wrappers = [").and_then(|(_, rest)| rest.split_once(']'));
        Some((rule.split('"').nth(1)?.to_owned(), wrappers.map(|(list, _)| quoted(list)).unwrap_or_default()))
    };
    text.lines().filter_map(ban).collect()
}

/// The crates that use `name` directly.
fn users(name: &str) -> Result<BTreeSet<String>> {
    let tree = Command::new("cargo")
        .args(["tree", "-p", "catenary-cli", "-e", "normal,build", "--locked", "--depth", "1"])
        .args(["--prefix", "depth", "--format", " {p}", "-i", name])
        .output()?;
    let lines = String::from_utf8(tree.stdout)?;
    Ok(lines
        .lines()
        .filter_map(|line| line.strip_prefix("1 ")?.split_whitespace().next().map(str::to_owned))
        .collect())
}

fn licence_list(text: &str) -> BTreeSet<String> {
    let list = text
        .split_once("allow = [")
        .map_or("", |(_, rest)| rest.split_once(']').map_or("", |(list, _)| list));
    let lines = list.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_may_name_its_exceptions() {
        let bans = bans("{ crate = \"a\", reason = \"r\" },\n{ crate = \"b\", wrappers = [\"c\", \"d\"] },");
        assert!(bans["a"].is_empty());
        assert_eq!(bans["b"].iter().collect::<Vec<_>>(), ["c", "d"]);
    }

    #[test]
    fn an_expression_needs_an_allowed_alternative_for_each_part() {
        let list = licence_list("allow = [\n \"MIT\", \"ISC\",\n # \"GPL-3.0\"\n]");
        assert!(allowed("MIT OR GPL-3.0", &list));
        assert!(allowed("(MIT OR GPL-3.0) AND ISC", &list));
        assert!(!allowed("MIT AND GPL-3.0", &list));
        assert!(!allowed("GPL-3.0", &list));
    }
}
