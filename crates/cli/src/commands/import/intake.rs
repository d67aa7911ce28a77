//! What an import sends, and what became of it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use catenary_evidence::{
    Refusal, Sha256, form,
    limits::{MAX_ITEM, MAX_ITEMS},
    object::{GIT_COMMIT, GIT_TAG},
};
use serde_json::{Value, json};

use crate::{
    check,
    client::{Client, ClientError},
    commands::push,
    draw::{items, string},
    exit::Exit,
    output::{BAD, DIM, Output, WARN, paint},
};

/// How often something is sent again while the service is busy.
const ATTEMPTS: u32 = 5;

/// Bytes by what they look like. What they are is the service's to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An envelope, a bundle, or a document around some.
    Evidence,
    /// An object of this media type.
    Object(String),
    /// A document that nothing signs.
    Unsigned(String),
    /// Nothing that evidence could be.
    Other,
}

impl Kind {
    /// Looks at the bytes as `catenary check` does.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"tree ") {
            return Self::Object(GIT_COMMIT.to_owned());
        }
        if bytes.starts_with(b"object ") {
            return Self::Object(GIT_TAG.to_owned());
        }
        match check::unsigned(bytes) {
            Some(found) if found.form.starts_with("oci-") => Self::Object(media_type(bytes)),
            Some(found) => Self::Unsigned(found.form),
            None if matches!(bytes.trim_ascii().first(), Some(b'{' | b'[')) => Self::Evidence,
            None => Self::Other,
        }
    }
}

/// The media type of an OCI document that came without one.
fn media_type(bytes: &[u8]) -> String {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let default = match () {
        () if document.get("manifests").is_some() => "application/vnd.oci.image.index.v1+json",
        () if document.get("layers").is_some() => "application/vnd.oci.image.manifest.v1+json",
        () => "application/vnd.oci.image.config.v1+json",
    };
    document["mediaType"].as_str().unwrap_or(default).to_owned()
}

/// Where an import sends to.
pub(super) struct Intake<'a> {
    client: &'a Client,
    items: Vec<Value>,
    sent: BTreeSet<Sha256>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self { client, items: Vec::new(), sent: BTreeSet::new() }
    }

    /// Sends what the bytes look like, or says why they are not sent.
    pub(super) async fn take(&mut self, source: &str, bytes: Vec<u8>) -> Result<()> {
        match Kind::of(&bytes) {
            Kind::Evidence => self.evidence(source, bytes).await,
            Kind::Object(media_type) => self.object(source, &media_type, bytes).await,
            Kind::Unsigned(form) => {
                self.unsigned(source, json!({ "form": form }));
                Ok(())
            }
            Kind::Other => {
                self.skipped(source, "there is no evidence in it");
                Ok(())
            }
        }
    }

    /// Sends envelopes and bundles. The same bytes found in two places are sent once.
    pub(super) async fn evidence(&mut self, source: &str, bytes: Vec<u8>) -> Result<()> {
        if !self.sent.insert(Sha256::of(&bytes)) {
            return Ok(());
        }
        for part in parts(&bytes) {
            self.send(None, source, part).await?;
        }
        Ok(())
    }

    /// Sends an object.
    pub(super) async fn object(&mut self, source: &str, media_type: &str, bytes: Vec<u8>) -> Result<()> {
        if !self.sent.insert(Sha256::of(&bytes)) {
            return Ok(());
        }
        self.send(Some(media_type), source, bytes).await
    }

    /// Shows something that nothing signs: it is not sent, and would be refused.
    pub(super) fn unsigned(&mut self, source: &str, mut item: Value) {
        item["result"] = json!("unsigned");
        item["code"] = json!("ATT_UNSIGNED");
        item["file"] = json!(source);
        self.items.push(item);
    }

    /// Names something that was left where it is.
    pub(super) fn skipped(&mut self, source: &str, detail: &str) {
        self.items.push(json!({"file": source, "result": "skipped", "detail": detail}));
    }

    /// Names something that could not be read.
    pub(super) fn refused(&mut self, source: &str, code: &str, detail: &str) {
        self.items.push(json!({"file": source, "result": "refused", "code": code, "detail": detail}));
    }

    async fn send(&mut self, object: Option<&str>, source: &str, body: Vec<u8>) -> Result<()> {
        for attempt in 1.. {
            let error = match push::send(self.client, object, source, body.clone()).await {
                Ok(found) => {
                    self.items.extend(found.into_iter().map(judged));
                    return Ok(());
                }
                Err(error) => error,
            };
            match error.downcast_ref::<ClientError>() {
                Some(ClientError::Problem { status: 429 | 503, .. }) if attempt < ATTEMPTS => {
                    tokio::time::sleep(Duration::from_secs(attempt.into())).await;
                }
                // The token may not speak about this one; it may speak about others.
                Some(ClientError::Problem { code, document, .. }) if code == "AUTH_SCOPE" => {
                    self.items.push(judged(push::with_file(document.clone(), source, 403)));
                    return Ok(());
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// Shows what became of everything.
    pub(super) fn report(self, output: &Output, keep_going: bool) -> Exit {
        let count = |result: &str| self.items.iter().filter(|item| item["result"] == result).count();
        let refused = count("refused");
        let summary = json!({
            "kept": count("kept"), "duplicate": count("duplicate"), "refused": refused,
            "unsigned": count("unsigned"), "skipped": count("skipped"),
        });
        let report = json!({"items": self.items, "summary": summary});
        output.show(&report, text);
        if refused > 0 && !keep_going { Exit::Denied } else { Exit::Allowed }
    }
}

/// What the service's answer means for the import.
fn judged(mut item: Value) -> Value {
    let result = match (item["status"].as_u64(), item["code"].as_str()) {
        (Some(201), _) => "kept",
        (Some(200), _) => "duplicate",
        (_, Some("ATT_UNSIGNED")) => "unsigned",
        _ => "refused",
    };
    item["result"] = json!(result);
    item
}

/// A body that the service takes: the whole, or as many lines at once as fit.
fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let too_many = || matches!(form::detect(bytes), Err(Refusal::TooMany { .. }));
    if bytes.len() <= MAX_ITEM && !too_many() {
        return vec![bytes.to_vec()];
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut lines = 0;
    for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        match parts.last_mut().filter(|part| lines < MAX_ITEMS && part.len() + line.len() < MAX_ITEM) {
            Some(part) => {
                part.push(b'\n');
                part.extend_from_slice(line);
                lines += 1;
            }
            None => {
                parts.push(line.to_vec());
                lines = 1;
            }
        }
    }
    parts
}

fn text(report: &Value) -> String {
    let mut text: String = items(&report["items"]).iter().map(line).collect();
    let summary = &report["summary"];
    text += &format!(
        "{} kept, {} known already, {} refused, {} unsigned, {} skipped\n",
        summary["kept"], summary["duplicate"], summary["refused"], summary["unsigned"], summary["skipped"]
    );
    text
}

fn line(item: &Value) -> String {
    let source = string(&item["file"]);
    match string(&item["result"]) {
        "kept" => push::line(item),
        "duplicate" => format!("{} {}", paint(DIM, "known"), push::line(item)),
        "unsigned" => {
            let told = |name: &str| item[name].as_str().map(|value| format!(" {name} {value}"));
            let told: String = ["form", "predicateType", "platform", "about", "builder"]
                .into_iter()
                .filter_map(told)
                .collect();
            format!("{} {source}{told}: nothing signs it, it never counts\n", paint(WARN, "unsigned"))
        }
        "skipped" => format!("{} {source}: {}\n", paint(DIM, "skipped"), string(&item["detail"])),
        _ => format!(
            "{} {source} {}: {}\n",
            paint(BAD, "refused"),
            string(&item["code"]),
            string(&item["detail"])
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_apart_as_check_does() {
        let object = |media_type: &str| Kind::Object(media_type.to_owned());
        let index = "application/vnd.oci.image.index.v1+json";
        for (bytes, kind) in [
            ("tree 0123", object(GIT_COMMIT)),
            ("object 0123", object(GIT_TAG)),
            (r#"{"schemaVersion":2,"manifests":[]}"#, object(index)),
            (
                r#"{"architecture":"amd64","os":"linux","rootfs":{}}"#,
                object("application/vnd.oci.image.config.v1+json"),
            ),
            (r#"{"_type":"https://in-toto.io/Statement/v1"}"#, Kind::Unsigned("in-toto-statement".into())),
            (r#"{"payload":"","payloadType":"","signatures":[]}"#, Kind::Evidence),
            ("{\"payload\":", Kind::Evidence),
            ("# Read me", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(bytes.as_bytes()), kind, "{bytes}");
        }
    }

    #[test]
    fn more_lines_than_one_submission_takes_are_several() {
        let lines = "{}\n".repeat(2 * MAX_ITEMS + 1);
        let parts = parts(lines.as_bytes());
        let lines: Vec<usize> = parts.iter().map(|part| part.split(|b| *b == b'\n').count()).collect();
        assert_eq!(lines, [MAX_ITEMS, MAX_ITEMS, 1]);
    }

    #[test]
    fn one_document_of_many_lines_is_sent_as_it_is() {
        let document = format!("{{\"payload\":\n{}\"\"}}\n", "\n".repeat(3 * MAX_ITEMS));
        assert_eq!(parts(document.as_bytes()), [document.as_bytes()]);
    }
}
