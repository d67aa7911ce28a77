//! The chain as a tree: broken links in red, the mend beneath.

use std::fmt::Write;

use serde_json::Value;

use crate::output::{BAD, DIM, GOOD, WARN, paint};

/// Draws a verdict (chain-model 2.1).
pub fn verdict(verdict: &Value) -> String {
    let mut text = String::new();
    let subject = &verdict["subject"];
    let _ = writeln!(
        text,
        "{} {}@{}",
        outcome(verdict),
        string(&subject["resource"]),
        string(&subject["digest"])
    );
    let _ = writeln!(text, "{}", paint(DIM, summary(verdict)));
    links(&mut text, &verdict["links"], "");
    reasons(&mut text, verdict);
    for miss in items(&verdict["nearMisses"]) {
        let line = format!(
            "near miss {} {}: {}",
            short(string(&miss["attestation"])),
            string(&miss["why"]),
            string(&miss["detail"])
        );
        let _ = writeln!(text, "{}", paint(DIM, line));
    }
    let _ = writeln!(
        text,
        "{}",
        paint(
            DIM,
            format!(
                "policy {} · log {} entries, root {} · valid until {}",
                policy(&verdict["policy"]),
                verdict["log"]["size"],
                short(string(&verdict["log"]["root"])),
                string(&verdict["validUntil"])
            )
        )
    );
    text
}

/// The outcome, and what it means for a deploy.
pub fn outcome(verdict: &Value) -> String {
    let word = string(&verdict["outcome"]);
    let styled = match word {
        "PASSED" => paint(GOOD, word),
        "INDETERMINATE" => paint(WARN, word),
        _ => paint(BAD, word),
    };
    match verdict["allowed"].as_bool() {
        // The summary beside it names the exception.
        Some(true) if !items(&verdict["exceptions"]).is_empty() => styled,
        Some(true) if word != "PASSED" => {
            format!("{styled} (allowed: the policy's mode is {})", string(&verdict["mode"]))
        }
        _ => styled,
    }
}

/// The summary without its first word, the outcome, which is painted beside it.
pub fn summary(verdict: &Value) -> &str {
    let text = string(&verdict["summary"]);
    text.strip_prefix(string(&verdict["outcome"])).unwrap_or(text).trim_start()
}

fn links(text: &mut String, links: &Value, indent: &str) {
    let all = items(links);
    for (at, link) in all.iter().enumerate() {
        let last = at + 1 == all.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let (mark, style) = match string(&link["status"]) {
            "pass" => ("✓", GOOD),
            "fail" => ("✗", BAD),
            _ => ("?", WARN),
        };
        let line = format!("{mark} {:<9} {}", string(&link["stage"]), string(&link["summary"]));
        let _ = writeln!(
            text,
            "{indent}{branch}{} {}",
            paint(style, line),
            paint(DIM, short(string(&link["node"])))
        );
        self::links(text, &link["links"], &format!("{indent}{below}"));
    }
}

fn reasons(text: &mut String, verdict: &Value) {
    for reason in items(&verdict["reasons"]) {
        let style = if string(&reason["severity"]) == "error" { BAD } else { WARN };
        let _ = writeln!(text, "{} {}", paint(style, string(&reason["code"])), string(&reason["message"]));
        for name in ["expected", "actual"] {
            if !reason[name].is_null() {
                let _ = writeln!(text, "    {name:<9} {}", plain(&reason[name]));
            }
        }
        let _ = writeln!(text, "    {:<9} {}", "mend", string(&reason["remediation"]["hint"]));
    }
}

fn policy(policy: &Value) -> String {
    match policy["name"].as_str() {
        Some(name) => format!("{name}@{}", policy["revision"]),
        None => "none".into(),
    }
}

/// The first digits of a digest.
pub fn short(text: &str) -> String {
    match text.split_once(':') {
        Some((space, hex)) if hex.len() > 16 => format!("{space}:{}…", &hex[..12]),
        _ => text.to_owned(),
    }
}

/// A JSON value as a person writes it.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The text of a JSON string; empty for anything else.
pub fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a JSON array; none for anything else.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(outcome: &str, allowed: bool) -> Value {
        json!({
            "outcome": outcome, "allowed": allowed, "mode": "warn", "summary": "broken at source",
            "subject": {"resource": "r.test/app", "digest": "sha256:0123456789abcdef0123"},
            "links": [
                {"stage": "build", "status": "pass", "node": "sha256:0123456789abcdef0123", "summary": "built by ci",
                 "links": [{"stage": "source", "status": "fail", "node": "gitCommit:0123456789abcdef0123", "summary": "no evidence"}]},
                {"stage": "registry", "status": "unknown", "node": "", "summary": "not asked"}],
            "reasons": [{"code": "SRC_COMMIT_UNKNOWN", "severity": "error", "message": "nobody attests the commit",
                         "expected": ["refs/heads/main"], "actual": null, "remediation": {"hint": "attest the commit"}}],
            "policy": {"name": "prod", "revision": 3}, "log": {"size": 7, "root": "sha256:00112233445566778899"},
            "validUntil": "2026-01-01T00:00:00Z",
        })
    }

    /// What a terminal without colours shows.
    fn plain_text(verdict: &Value) -> String {
        anstream::adapter::strip_str(&super::verdict(verdict)).to_string()
    }

    #[test]
    fn the_broken_link_hangs_under_the_link_that_rests_on_it() {
        let text = plain_text(&sample("FAILED", false));
        assert!(
            text.contains("├─ ✓ build     built by ci sha256:0123456789ab…\n│  └─ ✗ source    no evidence"),
            "{text}"
        );
        assert!(text.contains("└─ ? registry  not asked"), "{text}");
        assert!(text.contains("SRC_COMMIT_UNKNOWN nobody attests the commit\n    expected  refs/heads/main\n    mend      attest the commit"), "{text}");
        assert!(text.contains("policy prod@3 · log 7 entries"), "{text}");
    }

    #[test]
    fn a_denial_that_is_let_through_says_so() {
        assert!(plain_text(&sample("FAILED", true)).contains("allowed: the policy's mode is warn"));
        assert!(!plain_text(&sample("PASSED", true)).contains("mode is"));
    }

    #[test]
    fn an_answer_with_nothing_in_it_is_drawn_too() {
        assert!(!super::verdict(&Value::Null).contains("PASSED"));
    }
}
