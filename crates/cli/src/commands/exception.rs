//! `catenary exception`: let one image run for a while in spite of a broken chain.

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    client::{Client, query},
    draw::{items, string},
    exit::Exit,
    output::{DIM, GOOD, Output, WARN, paint},
};

/// Exceptions.
#[derive(Subcommand)]
pub enum Exception {
    /// Ask for one. It allows nothing until others approved it.
    Request(Request),
    /// Approve one that somebody else asked for.
    Approve {
        /// Its id.
        id: String,
    },
    /// Withdraw one, at once.
    Withdraw {
        /// Its id.
        id: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// List them.
    List,
}

/// What an exception is for.
#[derive(Args)]
pub struct Request {
    /// `registry/repository@sha256:…`
    image: String,
    /// Who answers for it.
    #[arg(long)]
    owner: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// How long it holds from now, for example 12h or 7d.
    #[arg(
        long = "for",
        value_name = "DURATION",
        conflicts_with = "expires",
        required_unless_present = "expires"
    )]
    lasts: Option<String>,
    /// When it ends (RFC 3339).
    #[arg(long)]
    expires: Option<Timestamp>,
    /// One environment only.
    #[arg(long, alias = "env")]
    environment: Option<String>,
    /// The policy, when several decide.
    #[arg(long)]
    policy: Option<String>,
}

impl Exception {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Request(request) => {
                output.show(&client.post("/v1/exceptions", &request.body()?).await?, draw)
            }
            Self::Approve { id } => {
                let path = format!("/v1/exceptions/{}/approve", query(&id));
                output.show(&client.post(&path, &json!({})).await?, draw);
            }
            Self::Withdraw { id, reason } => {
                let path = format!("/v1/exceptions/{}/withdraw", query(&id));
                output.show(&client.post(&path, &json!({ "reason": reason })).await?, draw);
            }
            Self::List => {
                let answer = client.get("/v1/exceptions").await?;
                output.show(&answer, |a| items(&a["items"]).iter().map(|item| draw(item) + "\n").collect());
            }
        }
        Ok(Exit::Allowed)
    }
}

impl Request {
    fn body(&self) -> Result<Value> {
        let expires = match (&self.expires, &self.lasts) {
            (Some(expires), _) => *expires,
            (None, lasts) => Timestamp::now()
                .checked_add(duration(lasts.as_deref().unwrap_or_default())?)
                .context("--for is too long")?,
        };
        let mut body = json!({
            "image": self.image,
            "owner": self.owner,
            "reason": self.reason,
            "expires": expires.to_string(),
        });
        if let Some(environment) = &self.environment {
            body["environment"] = environment.as_str().into();
        }
        if let Some(policy) = &self.policy {
            body["policy"] = policy.as_str().into();
        }
        Ok(body)
    }
}

/// `12h`, `7d`, as policies write durations.
fn duration(text: &str) -> Result<SignedDuration> {
    let wrong = || format!("`{text}` is not a duration, for example 12h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).with_context(wrong)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let number: i64 = number.parse().ok().filter(|number| *number > 0).with_context(wrong)?;
    ensure!(seconds > 0, wrong());
    Ok(SignedDuration::from_secs(number.checked_mul(seconds).with_context(wrong)?))
}

fn draw(exception: &Value) -> String {
    let state = string(&exception["state"]);
    let style = if state == "approved" { GOOD } else { WARN };
    let approvals = items(&exception["approvedBy"]).len();
    let environment = match string(&exception["environment"]) {
        "" => String::new(),
        environment => format!(" in {environment}"),
    };
    format!(
        "{} {} {}{environment} until {}, {approvals} of {} approval(s)\n  {}",
        paint(style, state),
        string(&exception["id"]),
        string(&exception["image"]),
        string(&exception["expires"]),
        exception["approvalsNeeded"],
        paint(DIM, format!("{}: {}", string(&exception["owner"]), string(&exception["reason"])))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("12h").unwrap(), SignedDuration::from_hours(12));
        assert_eq!(duration("7d").unwrap(), SignedDuration::from_hours(24 * 7));
        for bad in ["", "d", "7", "7w", "-1d", "0h", "1.5h", "99999999999999999d", "é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
