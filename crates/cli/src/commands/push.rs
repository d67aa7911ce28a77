//! `catenary push`: send attestations.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::Client,
    draw::{items, short, string},
    exit::Exit,
    output::{BAD, GOOD, Output, WARN, paint},
};

/// Send attestations.
#[derive(Args)]
pub struct Push {
    /// Files, globs, or `-`: one DSSE envelope, a JSON array, or one envelope a line. With --object: raw bytes.
    #[arg(required = true)]
    files: Vec<String>,
    /// The files are objects of this media type (an image manifest, index or config; `application/x-git-commit`).
    #[arg(long, value_name = "MEDIA_TYPE")]
    object: Option<String>,
}

impl Push {
    /// Sends each file; the exit code is 0 when all were accepted, 1 when one was refused.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let files = expand(&self.files)?;
        let progress = output.progress(files.len() as u64);
        let mut results = Vec::new();
        for file in &files {
            let body = read(file)?;
            results.extend(send(client, self.object.as_deref(), file, body).await?);
            progress.inc(1);
        }
        progress.finish_and_clear();
        let refused = results.iter().any(|r| !matches!(r["status"].as_u64(), Some(200 | 201)));
        output.show(&json!({"items": results}), |all| items(&all["items"]).iter().map(line).collect());
        Ok(if refused { Exit::Denied } else { Exit::Allowed })
    }
}

/// Sends one body, an object when a media type is given. Each item of the answer gets the name of where it is from;
/// an answer that would be the same for every other file is an error.
pub(super) async fn send(
    client: &Client,
    object: Option<&str>,
    file: &str,
    body: Vec<u8>,
) -> Result<Vec<Value>> {
    let (path, media_type) = match object {
        Some(media_type) => ("/v1/objects", media_type),
        None => ("/v1/attestations", "application/json"),
    };
    let request = client.request(Method::POST, path).header("content-type", media_type).body(body);
    let response = client.raw(request).await?;
    let status = response.status().as_u16();
    if matches!(status, 401 | 403 | 429 | 500..) {
        let request_failed: Value = response.json().await.unwrap_or_default();
        let text = |name: &str| string(&request_failed[name]).to_owned();
        bail!(crate::client::ClientError::Problem {
            status,
            code: text("code"),
            detail: text("detail"),
            hint: request_failed["hint"].as_str().map(str::to_owned),
            document: request_failed,
        });
    }
    let answer: Value = response.json().await.context("the service's answer is not JSON")?;
    let many = answer["items"].as_array().cloned();
    Ok(many.unwrap_or_else(|| vec![answer]).into_iter().map(|item| with_file(item, file, status)).collect())
}

/// Adds the file's name, and the HTTP status as `status` (what the evidence is worth moves to `evidence`).
pub(super) fn with_file(mut item: Value, file: &str, status: u16) -> Value {
    if let Some(worth) = item["status"].as_str().map(str::to_owned) {
        item["evidence"] = json!(worth);
    }
    if !item["status"].is_u64() {
        item["status"] = json!(status);
    }
    item["file"] = json!(file);
    item
}

/// What became of one item, for people.
pub(super) fn line(item: &Value) -> String {
    let file = string(&item["file"]);
    match item["status"].as_u64() {
        Some(200 | 201) => {
            let worth = item["evidence"].as_str().or(item["kind"].as_str()).unwrap_or("kept");
            let style = if worth == "unverified" { WARN } else { GOOD };
            format!("{} {file} {} entry {}\n", paint(style, worth), short(string(&item["id"])), item["index"])
        }
        _ => {
            let hint = item["hint"].as_str().map(|h| format!("\n    {h}")).unwrap_or_default();
            format!(
                "{} {file} {}: {}{hint}\n",
                paint(BAD, "refused"),
                string(&item["code"]),
                string(&item["detail"])
            )
        }
    }
}

fn expand(patterns: &[String]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for pattern in patterns {
        if pattern == "-" || !pattern.contains(['*', '?']) {
            files.push(pattern.clone());
            continue;
        }
        let matched = glob(pattern)?;
        if matched.is_empty() {
            bail!("no file matches {pattern}");
        }
        files.extend(matched);
    }
    Ok(files)
}

/// Files of one folder whose name matches: a shell usually did this already.
fn glob(pattern: &str) -> Result<Vec<String>> {
    let path = PathBuf::from(pattern);
    let folder =
        path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let name = path.file_name().and_then(|n| n.to_str()).context("a glob needs a file name")?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|file| matches(name, file)) {
            files.push(entry.path().display().to_string());
        }
    }
    files.sort();
    Ok(files)
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| matches(&pattern[1..], &text[at..])),
        Some(c) => text.chars().next().is_some_and(|t| {
            (c == '?' || c == t) && matches(&pattern[c.len_utf8()..], &text[t.len_utf8()..])
        }),
    }
}

fn read(file: &str) -> Result<Vec<u8>> {
    if file != "-" {
        return std::fs::read(file).with_context(|| file.to_owned());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_says_what_became_of_the_file() {
        let attestation =
            with_file(json!({"id": "sha256:1", "index": 4, "status": "unverified"}), "a.json", 201);
        assert_eq!((&attestation["status"], &attestation["evidence"]), (&json!(201), &json!("unverified")));
        let object = with_file(json!({"id": "sha256:2", "index": 5, "kind": "index"}), "index.json", 200);
        assert!(line(&object).contains("index.json"));
        assert_eq!(object["status"], 200);
        let refused =
            with_file(json!({"status": 422, "code": "ATT_MALFORMED", "detail": "no payload"}), "b.json", 200);
        assert_eq!(refused["status"], 422);
        assert!(line(&refused).contains("ATT_MALFORMED: no payload"));
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, matched) in [
            ("*.json", "a.json", true),
            ("*.json", "a.json.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("ü*", "über", true),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(matches(pattern, name), matched, "{pattern} {name}");
        }
    }

    #[test]
    fn a_glob_without_a_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.json"), "{}").unwrap();
        std::fs::write(folder.path().join("a.json"), "{}").unwrap();
        let pattern = |name: &str| vec![folder.path().join(name).display().to_string()];
        let files = expand(&pattern("*.json")).unwrap();
        assert!(files.len() == 2 && files[0].ends_with("a.json"));
        assert!(expand(&pattern("*.yaml")).is_err());
    }
}
