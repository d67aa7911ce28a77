//! `catenary events`: what happened, and what happens.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::{
    client::{Client, query},
    draw::{items, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, paint},
};

/// How often is asked for more.
const POLL: Duration = Duration::from_millis(500);

/// Which events.
#[derive(Args)]
pub struct Events {
    /// Go on for ever. Without --after, from now.
    #[arg(long)]
    follow: bool,
    /// Go on after this cursor, which is printed at the end; 0 is the beginning.
    #[arg(long)]
    after: Option<String>,
    /// Only these types, with commas: `verdict.changed`, `deployment.*`
    #[arg(long, default_value = "")]
    types: String,
    /// The most to show; all without it.
    #[arg(long)]
    limit: Option<usize>,
}

impl Events {
    /// Runs it. Prints one event a line, and for people the cursor to go on from.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let types = query(&self.types);
        let mut at = match self.after {
            Some(after) => after,
            None if self.follow => now(client).await?,
            None => "0".to_owned(),
        };
        let mut left = self.limit.unwrap_or(usize::MAX);
        loop {
            let path = format!("/v1/events?format=json&limit=200&types={types}&after={}", query(&at));
            let answer = client.get(&path).await?;
            for event in items(&answer["items"]).iter().take(left) {
                output.line(event, line);
            }
            left = left.saturating_sub(items(&answer["items"]).len());
            let next = string(&answer["next"]).to_owned();
            let more = answer["more"] == true && next != at;
            at = next;
            if left == 0 || (!more && !self.follow) {
                output.say(paint(DIM, format!("go on with --after {at}")));
                return Ok(Exit::Allowed);
            }
            if !more {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

/// The cursor with which a stream that begins now begins.
async fn now(client: &Client) -> Result<String> {
    let mut stream = client.send(client.request(reqwest::Method::GET, "/v1/events?format=sse")).await?;
    let mut text = String::new();
    while let Some(bytes) = stream.chunk().await? {
        text += &String::from_utf8_lossy(&bytes);
        if let Some(id) = text.strip_prefix("id: ").and_then(|rest| rest.split_once('\n')) {
            return Ok(id.0.to_owned());
        }
    }
    anyhow::bail!("the service ended the stream of events")
}

fn line(event: &Value) -> String {
    let data = &event["data"];
    let what = match string(&event["type"]) {
        "verdict.changed" => {
            let style = if data["new"]["allowed"] == true { GOOD } else { BAD };
            let cause = [string(&data["cause"]["type"]).to_owned(), data["cause"]["index"].to_string()];
            format!(
                "{} {} → {} because of {}",
                string(&data["environment"]),
                string(&data["old"]["outcome"]),
                paint(style, string(&data["new"]["outcome"])),
                cause.join(" ").replace(" null", "")
            )
        }
        "evidence.added" => items(&data["subjects"]).first().map(string).unwrap_or_default().to_owned(),
        "deployment.started" | "deployment.ended" => {
            format!(
                "{} {} {}",
                string(&data["environment"]),
                string(&data["application"]),
                string(&data["workload"])
            )
        }
        _ => String::new(),
    };
    format!(
        "{} {:<20} {} {what}",
        paint(DIM, string(&event["time"])),
        string(&event["type"]),
        string(&event["subject"])
    )
}
