//! `catenary timeline`: what happened in the minutes before and after.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::{Client, query},
    draw::{items, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, WARN, paint},
};

/// What happened around an image, a commit, a key, an application, an environment or a repository.
#[derive(Args)]
pub struct Timeline {
    /// An image, its digest, or a commit.
    what: Option<String>,
    /// Id of a registered key, or a certificate's name, for example `https://github.com/acme/shop/.github/workflows/*@refs/tags/*`.
    #[arg(long)]
    signer: Option<String>,
    /// Beside a certificate's name: only of this OIDC issuer.
    #[arg(long, requires = "signer")]
    issuer: Option<String>,
    /// An application.
    #[arg(long)]
    application: Option<String>,
    /// For example `prod`.
    #[arg(long, alias = "env")]
    environment: Option<String>,
    /// `registry/repository`, or a canonical git URI.
    #[arg(long)]
    repository: Option<String>,
    /// The moment (RFC 3339); default now.
    #[arg(long)]
    around: Option<String>,
    /// How long before and after.
    #[arg(long, default_value = "30m")]
    window: String,
    /// The most to show.
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

impl Timeline {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let mut path = format!("/v1/timeline?limit=200&before={0}&after={0}", query(&self.window));
        if let Some(what) = &self.what {
            let (name, value) = subject(what)?;
            path += &format!("&{name}={}", query(value));
        }
        let filters = [
            ("signer", &self.signer),
            ("issuer", &self.issuer),
            ("application", &self.application),
            ("environment", &self.environment),
            ("repository", &self.repository),
            ("around", &self.around),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                path += &format!("&{name}={}", query(value));
            }
        }
        let (found, first) = client.list(&path, "cursor", self.limit).await?;
        let (from, to) = (first["from"].clone(), first["to"].clone());
        output.show(&json!({ "from": from, "to": to, "items": found }), |shown| {
            let mut lines: Vec<String> = items(&shown["items"]).iter().map(line).collect();
            if lines.is_empty() {
                lines.push(format!("nothing happened between {} and {}", string(&from), string(&to)));
            }
            lines.join("\n")
        });
        Ok(Exit::Allowed)
    }
}

/// Which parameter names it.
fn subject(what: &str) -> Result<(&'static str, &str)> {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some((_, digest)) = what.split_once('@') {
        return Ok(("digest", digest));
    }
    let commit = what.strip_prefix("gitCommit:").unwrap_or(what);
    match commit.len() {
        40 | 64 if is_hex(commit) => Ok(("commit", commit)),
        _ if what.starts_with("sha256:") || what.starts_with("sha512:") => Ok(("digest", what)),
        _ => bail!("{what} is no image with a digest, no digest and no commit"),
    }
}

fn line(item: &Value) -> String {
    let kind = string(&item["kind"]);
    let style = match kind {
        "decision" if string(&item["summary"]).starts_with("denied") => BAD,
        "decision" => GOOD,
        "revocation" | "trust.withdrawn" => BAD,
        _ if kind.contains('.') => WARN,
        _ => DIM,
    };
    let claimed = item["claimed"].as_str().map(|at| paint(DIM, format!(" (says {at})"))).unwrap_or_default();
    format!(
        "{} {} {}{claimed}",
        string(&item["time"]),
        paint(style, format!("{kind:<18}")),
        string(&item["summary"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_is_seen_by_its_form() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(subject(&format!("r.test/app@{digest}")).unwrap(), ("digest", digest.as_str()));
        assert_eq!(subject(&digest).unwrap(), ("digest", digest.as_str()));
        let commit = "b".repeat(40);
        assert_eq!(subject(&commit).unwrap(), ("commit", commit.as_str()));
        assert_eq!(subject(&format!("gitCommit:{commit}")).unwrap(), ("commit", commit.as_str()));
        assert!(subject("r.test/app:latest").is_err());
    }
}
