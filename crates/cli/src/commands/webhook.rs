//! `catenary webhook`: who is told what happens.

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::{Client, query},
    draw::{items, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, paint},
};

/// Receivers of events.
#[derive(Subcommand)]
pub enum Webhook {
    /// Tell a receiver from now on; the secret that signs is shown once.
    Add {
        /// Where events are sent (https).
        url: String,
        /// Only this type, for example `verdict.changed` or `deployment.*`.
        #[arg(long = "type")]
        types: Vec<String>,
    },
    /// List receivers, and how each is doing.
    List,
    /// Tell a receiver no more.
    Remove {
        /// Its id.
        id: String,
    },
    /// Change the secret; the new one is shown once.
    Rotate {
        /// The receiver's id.
        id: String,
        /// How long what is sent is signed with both secrets.
        #[arg(long, default_value = "24h")]
        overlap: String,
    },
    /// List what could not be delivered.
    Deliveries {
        /// The receiver's id.
        id: String,
    },
    /// Try what could not be delivered once more, oldest first.
    Redeliver {
        /// The receiver's id.
        id: String,
        /// Only this one.
        number: Option<u64>,
    },
}

impl Webhook {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Add { url, types } => {
                let answer = client.post("/v1/webhooks", &json!({"url": url, "types": types})).await?;
                output.show(&answer, |a| {
                    format!(
                        "{}\nid {}; the secret is not shown again",
                        string(&a["secret"]),
                        string(&a["id"])
                    )
                });
            }
            Self::List => {
                let answer = client.get("/v1/webhooks").await?;
                output.show(&answer, |a| items(&a["items"]).iter().map(line).collect());
            }
            Self::Remove { id } => {
                let request = client.request(Method::DELETE, &format!("/v1/webhooks/{}", query(&id)));
                let answer: Value = client.send(request).await?.json().await?;
                output.show(&answer, |_| format!("{} {id}", paint(BAD, "removed")));
            }
            Self::Rotate { id, overlap } => {
                let path = format!("/v1/webhooks/{}/rotate", query(&id));
                let answer = client.post(&path, &json!({"overlap": overlap})).await?;
                output.show(&answer, |a| {
                    let until = a["oldSecretUntil"].as_str().unwrap_or("now");
                    format!(
                        "{}\nthe secret is not shown again; the one before signs, too, until {until}",
                        string(&a["secret"])
                    )
                });
            }
            Self::Deliveries { id } => {
                let dead = Value::from(dead(client, &id).await?);
                output.show(&dead, |dead| items(dead).iter().map(letter).collect());
            }
            Self::Redeliver { id, number } => {
                let mut numbers: Vec<u64> = match number {
                    Some(number) => vec![number],
                    None => {
                        dead(client, &id).await?.iter().filter_map(|one| one["number"].as_u64()).collect()
                    }
                };
                numbers.sort_unstable();
                for number in numbers {
                    let path = format!("/v1/webhooks/{}/deliveries/{number}/redeliver", query(&id));
                    let answer = client.post(&path, &json!({})).await?;
                    output.line(&answer, |a| match a["error"].as_str() {
                        None => format!("{} {number}", paint(GOOD, "delivered")),
                        Some(error) => format!("{} {number}: {error}", paint(BAD, "not delivered")),
                    });
                    if answer["delivered"] != true {
                        return Ok(Exit::Indeterminate);
                    }
                }
            }
        }
        Ok(Exit::Allowed)
    }
}

/// Every dead letter, newest first.
async fn dead(client: &Client, id: &str) -> Result<Vec<Value>> {
    let asked = format!("/v1/webhooks/{}/deliveries?state=dead&limit=200", query(id));
    Ok(client.list(&asked, "cursor", usize::MAX).await?.0)
}

fn line(hook: &Value) -> String {
    let types: Vec<&str> = items(&hook["types"]).iter().map(string).collect();
    let doing = match hook["error"].as_str() {
        None => paint(GOOD, "well"),
        Some(error) => paint(BAD, format!("{error} ({} attempts)", hook["attempts"])),
    };
    format!(
        "{:<22} {} {} {} delivered, {} dead, {doing}\n",
        string(&hook["id"]),
        string(&hook["url"]),
        paint(DIM, if types.is_empty() { "everything".to_owned() } else { types.join(",") }),
        hook["delivered"],
        hook["dead"]
    )
}

fn letter(letter: &Value) -> String {
    format!(
        "{:>5} {} {:<20} {} {}\n",
        letter["number"],
        paint(DIM, string(&letter["time"])),
        string(&letter["type"]),
        string(&letter["event"]),
        paint(BAD, string(&letter["error"]))
    )
}
