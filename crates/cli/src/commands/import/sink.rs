//! Where imported evidence goes, and what became of each piece.

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::{Client, ClientError},
    draw::{items, short, string},
    output::{BAD, DIM, GOOD, Output, WARN, paint},
};

/// The service, and a line for each piece.
pub struct Sink<'a> {
    client: &'a Client,
    lines: Vec<Value>,
}

impl<'a> Sink<'a> {
    /// Nothing sent yet.
    pub fn new(client: &'a Client) -> Self {
        Self { client, lines: Vec::new() }
    }

    /// Sends evidence of any form; a list has a line for each item.
    pub async fn evidence(&mut self, source: &str, body: Vec<u8>) -> Result<()> {
        self.send(source, "/v1/attestations", "application/json", body).await
    }

    /// Sends an object: a manifest, an index, a config, a commit, a tag.
    pub async fn object(&mut self, source: &str, media_type: &str, body: Vec<u8>) -> Result<()> {
        self.send(source, "/v1/objects", media_type, body).await
    }

    /// Notes what is there and is not sent, with why.
    pub fn skip(&mut self, source: &str, why: &str) {
        self.lines.push(json!({"source": source, "result": "skipped", "detail": why}));
    }

    async fn send(&mut self, source: &str, path: &str, media_type: &str, body: Vec<u8>) -> Result<()> {
        let request = self.client.request(Method::POST, path).header("content-type", media_type).body(body);
        let response = self.client.raw(request).await?;
        let status = response.status().as_u16();
        let answer: Value = response.json().await.context("the service's answer is not JSON")?;
        if matches!(status, 401 | 403 | 429 | 500..) {
            let text = |name: &str| string(&answer[name]).to_owned();
            let hint = answer["hint"].as_str().map(str::to_owned);
            let (code, detail) = (text("code"), text("detail"));
            return Err(ClientError::Problem { status, code, detail, hint, document: answer }.into());
        }
        let many = answer["items"].as_array().cloned();
        for item in many.unwrap_or_else(|| vec![answer]) {
            let status = item["status"].as_u64().unwrap_or_else(|| u64::from(status));
            let result = match status {
                200 => "known",
                201 => "kept",
                _ => "refused",
            };
            let evidence = item["evidence"].as_str().or(item["status"].as_str()).or(item["kind"].as_str());
            self.lines.push(json!({
                "source": source, "result": result, "id": item["id"], "index": item["index"],
                "evidence": evidence, "predicateType": item["predicateType"], "code": item["code"], "detail": item["detail"],
            }));
        }
        Ok(())
    }

    /// Shows every line; whether something was refused.
    pub fn show(self, output: &Output) -> bool {
        let refused = self.lines.iter().any(|line| line["result"] == "refused");
        output.show(&json!({"items": self.lines}), |all| {
            items(&all["items"]).iter().map(line).collect::<String>()
        });
        refused
    }
}

fn line(item: &Value) -> String {
    let source = string(&item["source"]);
    match string(&item["result"]) {
        "refused" => {
            format!(
                "{} {source} {}: {}\n",
                paint(BAD, "refused"),
                string(&item["code"]),
                string(&item["detail"])
            )
        }
        "skipped" => format!("{} {source} {}\n", paint(DIM, "skipped"), string(&item["detail"])),
        result => {
            let worth = string(&item["evidence"]);
            let style = if worth == "unverified" { WARN } else { GOOD };
            format!(
                "{} {source} {} {} entry {}\n",
                paint(style, result),
                paint(style, worth),
                short(string(&item["id"])),
                item["index"]
            )
        }
    }
}
