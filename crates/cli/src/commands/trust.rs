//! `catenary trust`: trust roots.

mod compose;
mod refresh;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::{compose::Parts, refresh::Source};
use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{BAD, GOOD, Output, paint},
};

/// Trust roots.
#[derive(Subcommand)]
pub enum Trust {
    /// Add a version of a trust root, or a single key.
    ///
    /// FILE is a `trusted_root.json`, or a public key; or there is none, and the root is made of PEM files, or of witnesses alone.
    Add {
        /// The trust domain; for a single key its name. `sigstore` and `github` are built in, and can be replaced.
        #[arg(long, visible_alias = "name")]
        domain: String,
        /// The scheme of a single RSA key: rsa-pkcs1-sha256 or rsa-pss-sha256.
        #[arg(long)]
        scheme: Option<String>,
        #[command(flatten)]
        parts: Parts,
        #[command(flatten)]
        demands: Demands,
        /// The domain's witnesses and their quorum, as a C2SP tlog-policy: policies ask for it by `evidence.tlog.quorum: DOMAIN`.
        #[arg(long, value_name = "FILE")]
        witnesses: Option<PathBuf>,
        /// A `trusted_root.json`, or a public key.
        file: Option<PathBuf>,
    },
    /// Fetch the newest version of a published trust root by TUF, and add it when it is new.
    Refresh {
        /// The trust domain.
        #[arg(long, default_value = "sigstore")]
        domain: String,
        #[command(flatten)]
        source: Source,
        /// Write it to this file instead of adding it.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        #[command(flatten)]
        demands: Demands,
    },
    /// Approve what another administrator added: a key, a version of a root, or the members of a group.
    Approve(Wanted),
    /// Show how many others must approve what one administrator adds, and what waits; with a number, ask for that rule.
    Approvals {
        /// How many others must approve.
        require: Option<u32>,
    },
    /// List trust domains.
    List,
    /// Show a trust domain with its authorities.
    Show {
        /// Its name.
        domain: String,
    },
    /// Withdraw a trust domain and everything that it vouches for, at once.
    Withdraw {
        /// Its name.
        domain: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// What is approved.
#[derive(Args)]
pub struct Wanted {
    /// A key's id.
    #[arg(long, conflicts_with_all = ["domain", "group"], required_unless_present_any = ["domain", "group"])]
    key: Option<String>,
    /// A trust domain; with `--version`.
    #[arg(long, requires = "version", conflicts_with = "group")]
    domain: Option<String>,
    /// The version of its root.
    #[arg(long)]
    version: Option<u64>,
    /// The index under which members of a group wait.
    #[arg(long)]
    group: Option<u64>,
}

impl Wanted {
    fn body(&self) -> Value {
        match (&self.key, &self.domain) {
            (Some(key), _) => json!({"key": key}),
            (None, Some(domain)) => json!({"root": {"domain": domain, "version": self.version}}),
            (None, None) => json!({"group": self.group}),
        }
    }
}

/// The rule and what waits.
fn approvals(answer: &Value) -> String {
    let mut text = format!(
        "{} others must approve what one adds
",
        answer["approvals"]
    );
    for waiting in items(&answer["waiting"]) {
        let by: Vec<&str> = items(&waiting["approvedBy"]).iter().map(string).collect();
        text += &format!(
            "{} {}: {} more, after {}
",
            paint(BAD, "waits"),
            waiting["change"],
            waiting["missing"],
            by.join(" ")
        );
    }
    text
}

impl Trust {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Add { domain, scheme, parts, demands, witnesses, file } => {
                let witnesses = witnesses
                    .as_ref()
                    .map(|file| std::fs::read_to_string(file).with_context(|| file.display().to_string()));
                let witnesses = witnesses.transpose()?;
                let text = match &file {
                    Some(_) if !parts.is_empty() => {
                        bail!("a file holds the whole root; --ca and the like make one without")
                    }
                    Some(file) => {
                        std::fs::read_to_string(file).with_context(|| file.display().to_string())?
                    }
                    None if parts.is_empty() && witnesses.is_some() => String::new(),
                    None => parts.compose()?,
                };
                if witnesses.is_some() || text.trim_start().starts_with('{') {
                    add(client, output, &domain, text, &demands, witnesses).await?;
                } else {
                    add_key(client, output, &domain, text, scheme, &parts).await?;
                }
            }
            Self::Approve(wanted) => {
                let answer = client.post("/v1/approvals", &wanted.body()).await?;
                output.show(&answer, approvals);
            }
            Self::Approvals { require } => {
                let answer: Value = match require {
                    None => client.get("/v1/approvals").await?,
                    Some(count) => {
                        let request = client.request(reqwest::Method::PUT, "/v1/approvals");
                        client.send(request.json(&json!({"approvals": count}))).await?.json().await?
                    }
                };
                output.show(&answer, approvals);
            }
            Self::Refresh { domain, source, write, demands } => {
                let bytes = source.fetch(&domain, jiff::Timestamp::now()).await?;
                let document = String::from_utf8(bytes).context("the trusted root is not text")?;
                match write {
                    Some(file) => {
                        std::fs::write(&file, document).with_context(|| file.display().to_string())?
                    }
                    None => add(client, output, &domain, document, &demands, None).await?,
                }
            }
            Self::List => {
                let answer = client.get("/v1/trust").await?;
                output.show(&answer, |a| items(&a["items"]).iter().map(line).collect());
            }
            Self::Show { domain } => {
                let answer = client.get(&format!("/v1/trust/{domain}")).await?;
                output.show(&answer, |a| {
                    line(a) + &items(&a["authorities"]).iter().map(authority).collect::<String>()
                });
            }
            Self::Withdraw { domain, reason } => {
                let path = format!("/v1/trust/{domain}/withdraw");
                let answer = client.post(&path, &json!({"reason": reason})).await?;
                output.show(&answer, |_| {
                    format!("{} {domain}: no answer begun from now on counts it", paint(BAD, "withdrawn"))
                });
            }
        }
        Ok(Exit::Allowed)
    }
}

/// What a trust domain demands of bundles.
#[derive(clap::Args)]
pub struct Demands {
    /// Bundles need no transparency log entry.
    #[arg(long)]
    no_log: bool,
    /// Certificates need no signed certificate timestamp.
    #[arg(long)]
    no_sct: bool,
    /// Bundles need entries of so many distinct logs: 1 to 8.
    #[arg(long, conflicts_with = "no_log")]
    min_logs: Option<u8>,
}

async fn add(
    client: &Client,
    output: &Output,
    domain: &str,
    document: String,
    demands: &Demands,
    witnesses: Option<String>,
) -> Result<()> {
    let mut body = json!({"domain": domain, "document": document});
    if let Some(policy) = witnesses {
        body["witnesses"] = json!(policy);
    }
    for (member, relaxed) in [("log", demands.no_log), ("sct", demands.no_sct)] {
        if relaxed {
            body[member] = json!(false);
        }
    }
    if let Some(logs) = demands.min_logs {
        body["logs"] = json!(logs);
    }
    let answer = client.post("/v1/trust", &body).await?;
    output.show(&answer, |a| {
        format!("{} {domain} version {}{}", paint(GOOD, "trusted"), a["version"], meanwhile(a))
    });
    Ok(())
}

async fn add_key(
    client: &Client,
    output: &Output,
    name: &str,
    pem: String,
    scheme: Option<String>,
    parts: &Parts,
) -> Result<()> {
    let mut body = json!({"name": name, "pem": pem});
    let (from, until) = parts.window();
    let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string());
    for (member, value) in [("scheme", scheme), ("validFrom", time(from)), ("validUntil", time(until))] {
        if let Some(value) = value {
            body[member] = json!(value);
        }
    }
    let answer = client.post("/v1/keys", &body).await?;
    output.show(&answer, |a| {
        format!("{} {} as {name}{}", paint(GOOD, "trusted"), string(&a["id"]), meanwhile(a))
    });
    Ok(())
}

/// What is said of trust that is not effective yet.
fn meanwhile(added: &Value) -> &'static str {
    if added["effectiveIndex"].is_null() {
        "; it counts as soon as all stored evidence is verified under it"
    } else {
        ""
    }
}

fn line(domain: &Value) -> String {
    let state = match domain["withdrawn"].as_str() {
        Some(reason) => paint(BAD, format!("withdrawn: {reason}")),
        None if domain["stale"] == true => paint(BAD, "stale".to_owned()),
        None => paint(GOOD, "trusted"),
    };
    let authorities = items(&domain["authorities"]).len();
    format!(
        "{:<20} version {:<4} {authorities} authorities  {state}\n",
        string(&domain["domain"]),
        domain["version"]
    )
}

fn authority(authority: &Value) -> String {
    let (from, until) = (string(&authority["validFrom"]), string(&authority["validUntil"]));
    format!("  {:<22} {} {from} … {until}\n", string(&authority["kind"]), string(&authority["id"]))
}
