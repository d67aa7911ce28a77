//! Checks a folder of real evidence against its INDEX.json.
//!
//! `cargo run --release -p acceptance --bin evidence -- FOLDER [--output json]`. Each row says what a file must do: `verify`
//! under its roots, keys and identity; `reject`; or `parse`, which is to be read and never to count. Exit 0 only when
//! nothing differs but what `tests/evidence-excused.json` excuses, each with its reason.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use catenary_cli::check::{Against, Outcome, node};
use catenary_evidence::predicate::Claim;
use serde::Deserialize;
use serde_json::json;

/// Rows that may differ, by folder-independent description.
const EXCUSED: &str = include_str!("../../evidence-excused.json");

#[derive(Deserialize)]
struct Row {
    file: String,
    #[serde(default, deserialize_with = "or_nothing")]
    files: Vec<String>,
    kind: String,
    expect: String,
    #[serde(default)]
    reject_layer: Option<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    roots: Vec<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    keys: Vec<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    identity: Identity,
    #[serde(default, deserialize_with = "or_nothing")]
    subject_digests: Vec<String>,
    #[serde(default)]
    policy: Option<BTreeMap<String, String>>,
    #[serde(default)]
    artifact: Option<String>,
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    source_commit: Option<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    origin: BTreeMap<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct Identity {
    san: Option<String>,
    issuer: Option<String>,
}

/// `null` is as good as no member.
fn or_nothing<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    reader: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

/// An excuse: rows of this kind and expectation whose reason, origin or commit holds the text.
#[derive(Deserialize)]
struct Excuse {
    kind: String,
    expect: String,
    #[serde(default)]
    holds: String,
    reason: String,
}

/// What came of a row: what was found, and in words.
struct Found {
    /// Nothing when a file of the row is missing.
    outcome: Option<Outcome>,
    said: String,
}

impl Row {
    /// What tells the row from others, wherever its files lie and whatever they are called.
    fn words(&self) -> String {
        let mut words = vec![self.why.as_deref(), self.source_commit.as_deref()];
        words.extend(["repo", "path"].map(|member| self.origin.get(member).and_then(|v| v.as_str())));
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        eprintln!("evidence FOLDER [--output json]");
        return ExitCode::from(3);
    };
    match run(Path::new(folder), arguments.iter().any(|a| a == "json" || a == "--output=json")) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn run(folder: &Path, machine: bool) -> Result<usize, Box<dyn std::error::Error>> {
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(folder.join("INDEX.json"))?)?;
    let excuses: Vec<Excuse> = serde_json::from_str(EXCUSED)?;
    let mut table: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let mut differing = Vec::new();
    let mut shown = Vec::new();
    for row in &rows {
        let found = judge(folder, row);
        let right = match row.expect.as_str() {
            "verify" => found.outcome == Some(Outcome::Verified),
            // What cannot be read at all was not refused for what it says.
            "reject" => found.outcome.is_some_and(|outcome| outcome != Outcome::Verified),
            "parse" => found.outcome == Some(Outcome::Unverified),
            _ => false,
        };
        let text = row.words();
        let excuse = excuses.iter().find(|excuse| {
            excuse.kind == row.kind && excuse.expect == row.expect && text.contains(&excuse.holds)
        });
        let counts = table.entry(row.kind.clone()).or_default();
        counts[0] += 1;
        match (right, excuse) {
            (true, _) => counts[1] += 1,
            (false, Some(_)) => counts[2] += 1,
            (false, None) => counts[3] += 1,
        }
        if !right {
            let reason = excuse.map(|excuse| excuse.reason.as_str());
            differing.push((row, found.said.clone(), reason));
        }
        shown.push(json!({
            "file": row.file, "kind": row.kind, "expect": row.expect, "rejectLayer": row.reject_layer,
            "result": found.outcome, "said": found.said, "right": right,
            "excused": if right { None } else { excuse.map(|e| &e.reason) },
        }));
    }
    let wrong: usize = table.values().map(|counts| counts[3]).sum();
    if machine {
        println!("{}", serde_json::to_string_pretty(&json!({"rows": shown, "differ": wrong}))?);
        return Ok(wrong);
    }
    println!("{:<28} {:>5} {:>6} {:>8} {:>7}", "kind", "rows", "right", "excused", "differ");
    for (kind, [all, right, excused, differ]) in &table {
        println!("{kind:<28} {all:>5} {right:>6} {excused:>8} {differ:>7}");
    }
    for (row, said, reason) in differing {
        let mark = if reason.is_some() { "excused" } else { "DIFFERS" };
        println!("{mark} {} {} {}\n    {said}", row.kind, row.expect, row.file);
        if let Some(reason) = reason {
            println!("    {reason}");
        }
    }
    println!("{} rows, {wrong} differ", rows.len());
    Ok(wrong)
}

fn judge(folder: &Path, row: &Row) -> Found {
    let needed =
        [&row.file].into_iter().chain(&row.roots).chain(&row.keys).chain(&row.key).chain(&row.artifact);
    if let Some(missing) = needed.into_iter().find(|file| !folder.join(file).exists()) {
        return Found { outcome: None, said: format!("{missing} is missing") };
    }
    match row.kind.as_str() {
        "trust-root" | "keyring" => material(folder, row),
        _ => evidence(folder, row)
            .unwrap_or_else(|error| Found { outcome: Some(Outcome::Refused), said: format!("{error:#}") }),
    }
}

/// Roots and keys are what others are verified with: they must be readable as such.
fn material(folder: &Path, row: &Row) -> Found {
    let mut errors = Vec::new();
    let mut read = 0;
    let files = if row.files.is_empty() { std::slice::from_ref(&row.file) } else { row.files.as_slice() };
    for file in files {
        let Ok(bytes) = std::fs::read(folder.join(file)) else { continue };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut against = Against::new();
        let result = match text.contains("trustedroot") {
            true => against.root(file, &bytes),
            // Certificates, client configuration and update metadata lie beside the root.
            false if text.contains("\"signed\"") || text.contains("-----BEGIN CERTIFICATE") => continue,
            false if text.contains("-----BEGIN") || text.contains("\"keys\"") => {
                against.keys(text.as_bytes())
            }
            false => continue,
        };
        match result {
            Ok(()) => read += 1,
            Err(error) => errors.push(format!("{file}: {error:#}")),
        }
    }
    let usable = read > 0 && errors.is_empty();
    let outcome = match (row.expect.as_str(), usable) {
        ("verify", true) => Outcome::Verified,
        (_, true) => Outcome::Unverified,
        (_, false) if read == 0 && errors.is_empty() => Outcome::Unverified,
        _ => Outcome::Refused,
    };
    Found { outcome: Some(outcome), said: format!("{read} read {}", errors.join("; ")) }
}

fn evidence(folder: &Path, row: &Row) -> Result<Found, Box<dyn std::error::Error>> {
    let mut against = Against::new();
    let mut notes = Vec::new();
    for root in &row.roots {
        if let Err(error) = against.root(root, &std::fs::read(folder.join(root))?) {
            notes.push(format!("{root}: {error:#}"));
        }
    }
    for key in row.keys.iter().chain(row.key.iter().filter(|key| !row.keys.contains(key))) {
        if let Err(error) = against.keys(&std::fs::read(folder.join(key))?) {
            notes.push(format!("{key}: {error:#}"));
        }
    }
    let path = folder.join(&row.file);
    // Where no allowed signers are known, what can be checked is that the key in the signature made it.
    if row.kind == "git-commit-ssh" && row.keys.is_empty() {
        let key = catenary_evidence::object::carried_ssh_key(&std::fs::read(&path)?);
        against.keys(key.ok_or("no SSH key in the signature")?.to_pem().as_bytes())?;
    }
    against.identity(row.identity.san.as_deref(), row.identity.issuer.as_deref());
    if !row.kind.starts_with("git-commit") {
        match &row.artifact {
            Some(artifact) => against.artifact(&folder.join(artifact))?,
            None => row.subject_digests.iter().flat_map(|d| node(d)).for_each(|node| against.about(node)),
        }
    }
    let digest = row.policy.as_ref().and_then(|policy| policy.get("image_digest"));
    if let Some(digest) = digest {
        against.only(node(digest)?);
    }
    let checked = against.check(&path)?;
    let mut outcome = checked.result;
    let mut said = format!(
        "{}: {} {}",
        checked.form,
        checked.code.as_deref().unwrap_or("verified"),
        checked.message.as_deref().unwrap_or_default()
    );
    if let (Outcome::Verified, Some(policy)) = (outcome, &row.policy)
        && let Err(why) = expected(policy, &checked.facts)
    {
        (outcome, said) = (Outcome::Refused, why);
    }
    if let (Outcome::Verified, true) = (outcome, row.kind.starts_with("in-toto-classic"))
        && let Some(why) = broken_link(folder, row)?
    {
        (outcome, said) = (Outcome::Refused, why);
    }
    if !notes.is_empty() {
        said += &format!(" ({})", notes.join("; "));
    }
    Ok(Found { outcome: Some(outcome), said })
}

/// The first link beside a layout that none of the layout's keys signed.
fn broken_link(folder: &Path, row: &Row) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let signed = catenary_evidence::attestation::payload(&std::fs::read(folder.join(&row.file))?)?;
    let mut against = Against::new();
    for key in catenary_evidence::layout::functionaries(&signed)? {
        against.keys(key.to_pem().as_bytes())?;
    }
    let is_link = |file: &&String| {
        let payload = std::fs::read(folder.join(file))
            .ok()
            .and_then(|b| catenary_evidence::attestation::payload(&b).ok());
        let value: Option<serde_json::Value> = payload.and_then(|p| serde_json::from_slice(&p).ok());
        value.is_some_and(|value| value["_type"] == "link")
    };
    for file in row.files.iter().filter(is_link) {
        let checked = against.check(&folder.join(file))?;
        if checked.result != Outcome::Verified {
            return Ok(Some(format!("{file}: {}", checked.message.unwrap_or_default())));
        }
    }
    Ok(None)
}

/// Compares the provenance with the source, builder, branch and tag that the row asks for.
fn expected(
    policy: &BTreeMap<String, String>,
    facts: &[catenary_evidence::Attestation],
) -> Result<(), String> {
    let build = facts.iter().find_map(|facts| match &facts.claim {
        Claim::Build(build) => Some(build),
        _ => None,
    });
    let build = build.ok_or("it is no provenance")?;
    let source = build.source.as_ref().ok_or("it names no source")?;
    if let Some(asked) = policy.get("source")
        && source.repository != format!("git+https://{asked}")
    {
        return Err(format!("the source is {}, not {asked}", source.repository));
    }
    let builder = build.builder_id.split('@').next().unwrap_or_default();
    if let Some(asked) = policy.get("builder_id")
        && builder != asked
    {
        return Err(format!("the builder is {builder}, not {asked}"));
    }
    let reference = source.reference.as_deref().unwrap_or_default();
    for (name, prefix) in [("branch", "refs/heads/"), ("tag", "refs/tags/")] {
        if let Some(asked) = policy.get(name)
            && reference != format!("{prefix}{asked}")
        {
            return Err(format!("the ref is {reference}, not {prefix}{asked}"));
        }
    }
    Ok(())
}
