//! `catenary components` and `catenary findings`: which images contain a package, which are hit by a vulnerability.

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::{
    client::{Client, query},
    draw::{items, short, string},
    exit::Exit,
    output::{DIM, Output, WARN, paint},
};

/// Which packages or vulnerabilities.
#[derive(Args)]
pub struct Ask {
    /// A package URL (`pkg:deb/debian/bash`, with `@version` for one version), a vulnerability's id, or an image's digest.
    what: String,
    /// Take WHAT for the name of a package, whatever its type.
    #[arg(long)]
    name: bool,
    /// Only what a verified statement says.
    #[arg(long)]
    verified: bool,
    /// The most to show.
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

impl Ask {
    /// Runs it; `path` is `/v1/components` or `/v1/findings`.
    pub async fn run(self, path: &str, client: &Client, output: &Output) -> Result<Exit> {
        let member = match self.what.as_str() {
            _ if self.name => "name",
            what if what.starts_with("pkg:") => "purl",
            what if what.contains(':') => "digest",
            _ if path.ends_with("findings") => "vulnerability",
            _ => "name",
        };
        let mut asked = format!("{path}?{member}={}&limit=200", query(&self.what));
        if self.verified {
            asked += "&status=verified";
        }
        let (found, _) = client.list(&asked, "cursor", self.limit).await?;
        output.show(&Value::from(found), |found| match items(found).is_empty() {
            true => "nothing is known of it".to_owned(),
            false => items(found).iter().map(line).collect(),
        });
        Ok(Exit::Allowed)
    }
}

fn line(item: &Value) -> String {
    let package = match (string(&item["package"]), string(&item["name"])) {
        ("", name) => name.to_owned(),
        (package, _) => package.to_owned(),
    };
    let version = Some(string(&item["version"])).filter(|v| !v.is_empty()).map(|v| format!("@{v}"));
    let found = [string(&item["vulnerability"]), string(&item["state"])].join(" ");
    let artifacts: Vec<String> = items(&item["artifacts"]).iter().map(|a| short(string(a))).collect();
    let mark = if item["status"] == "verified" { String::new() } else { paint(WARN, " unverified") };
    format!(
        "{} {package}{}{mark} {}\n",
        artifacts.join(" "),
        version.unwrap_or_default(),
        paint(DIM, format!("{} {}", found.trim(), short(string(&item["attestation"]))))
    )
}
