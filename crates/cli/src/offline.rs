//! A verdict from an exported evidence file, with no service and no trust in whoever carried the file.
//!
//! 1. Every entry's inclusion in the log of the checkpoint is proved; with a log key, the checkpoint's signature, too.
//! 2. Every body is verified anew: its hash against its log entry, its signatures against the keys of the file's own
//!    control entries.
//! 3. Control state is folded from the control entries, and the given policy takes the place of the one that decided.
//! 4. The question is evaluated at the file's `now`.
//!
//! What was left out of the file cannot be seen here. Left-out evidence can only take a yes away, but for a
//! revocation; so the verdict must be the exported one whenever the policy is the exported one.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use catenary_chain::{
    Control, Evidence, Policy, Question, Verdict,
    context::Context,
    control::{Added, Entry},
    evaluate,
    verdict::LogView,
};
use catenary_evidence::{PublicKey, Sha256, Trust, attestation, object, reference::ImageReference};
use catenary_tlog::{Checkpoint, Hash, Leaf, Verifier, leaf::kind, leaf_hash, verify_inclusion};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The verdict on `image`, or why the file cannot be believed.
pub fn verdict(
    evidence: &Path,
    policy: &Path,
    image: &str,
    environment: Option<&str>,
    context: &Context,
    log_key: Option<&str>,
) -> Result<Value> {
    let text = std::fs::read_to_string(evidence).with_context(|| evidence.display().to_string())?;
    let document = std::fs::read_to_string(policy).with_context(|| policy.display().to_string())?;
    let log_key = log_key.map(|key| key.parse::<Verifier>().context("--log-key")).transpose()?;
    let file = Export::read(&text).with_context(|| evidence.display().to_string())?;
    let asked: ImageReference = image.parse()?;
    ensure!(file.question.image == asked, "the file is about {}, not {asked}", file.question.image);
    let environment = environment.map(str::to_owned);
    ensure!(
        environment.is_none() || file.question.environment == environment,
        "the file is about environment {}",
        file.question.environment.as_deref().unwrap_or("(none)")
    );
    ensure!(
        context.is_empty() || file.question.context == *context,
        "the file is about another context: {:?}",
        file.question.context
    );
    let verdict = file.evaluate(&document, log_key.as_ref())?;
    Ok(serde_json::to_value(&verdict)?)
}

/// One line of the file.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Question(AskedAt),
    Checkpoint { text: String },
    Attestation(Item),
    Object(Item),
    Control(Item),
    Verdict { verdict: Value },
}

/// The question, and when it was asked.
#[derive(Deserialize)]
struct AskedAt {
    image: ImageReference,
    environment: Option<String>,
    platform: Option<String>,
    #[serde(default)]
    context: Context,
    now: Timestamp,
}

/// An entry of the log, the bytes that it is about, and the proof that it is in the log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    index: u64,
    media_type: Option<String>,
    body: String,
    leaf: String,
    proof: Vec<String>,
}

/// An evidence file, read and not yet believed.
struct Export {
    question: AskedAt,
    checkpoint: String,
    attestations: Vec<Item>,
    objects: Vec<Item>,
    control: Vec<Item>,
    verdict: Value,
}

impl Export {
    fn read(text: &str) -> Result<Self> {
        let (mut question, mut checkpoint, mut verdict) = (None, None, None);
        let (mut attestations, mut objects, mut control) = (Vec::new(), Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line: Line = serde_json::from_str(line).with_context(|| format!("line {}", at + 1))?;
            ensure!(verdict.is_none(), "line {}: the verdict is the last line", at + 1);
            match line {
                Line::Question(asked) => ensure!(question.replace(asked).is_none(), "two questions"),
                Line::Checkpoint { text } => ensure!(checkpoint.replace(text).is_none(), "two checkpoints"),
                Line::Attestation(item) => attestations.push(item),
                Line::Object(item) => objects.push(item),
                Line::Control(item) => control.push(item),
                Line::Verdict { verdict: exported } => verdict = Some(exported),
            }
        }
        control.sort_by_key(|item| item.index);
        Ok(Self {
            question: question.context("the file has no question")?,
            checkpoint: checkpoint.context("the file has no checkpoint")?,
            verdict: verdict.context("the file ends before its verdict")?,
            attestations,
            objects,
            control,
        })
    }

    fn evaluate(&self, document: &str, log_key: Option<&Verifier>) -> Result<Verdict> {
        let checkpoint = self.checkpoint(log_key)?;
        let (mut control, keys) = self.fold(&checkpoint)?;
        let same_policy = self.replace_policy(&mut control, document)?;
        let evidence = self.verify(&checkpoint, &keys)?;
        let question = Question {
            image: self.question.image.clone(),
            environment: self.question.environment.clone(),
            platform: self.question.platform.as_deref().map(platform).transpose()?,
            context: self.question.context.clone(),
        };
        let log = LogView { size: checkpoint.size, root: Sha256(checkpoint.root.0) };
        let verdict = evaluate(&question, &control, &evidence, log, self.question.now);
        if same_policy {
            self.agree(&verdict)?;
        }
        Ok(verdict)
    }

    /// The checkpoint; its signature is checked when there is a key for it.
    fn checkpoint(&self, log_key: Option<&Verifier>) -> Result<Checkpoint> {
        let (text, _) = self.checkpoint.split_once("\n\n").context("the checkpoint is not a signed note")?;
        let unverified = Checkpoint::parse(&format!("{text}\n"))?;
        match log_key {
            Some(key) => {
                Ok(Checkpoint::open(&self.checkpoint, &unverified.origin, std::slice::from_ref(key))?)
            }
            None => Ok(unverified),
        }
    }

    /// Control state and keys, from the control entries in their order.
    fn fold(&self, checkpoint: &Checkpoint) -> Result<(Control, Trust)> {
        let (mut control, mut keys) = (Control::default(), Trust::builtin());
        control.origin.clone_from(&checkpoint.origin);
        for item in &self.control {
            let (leaf, body) = item.prove(checkpoint)?;
            if leaf.kind == kind::LOG_ORIGIN {
                continue;
            }
            let entry: Entry = serde_json::from_slice(&body).with_context(|| item.place())?;
            let value: Value = serde_json::from_slice(&body)?;
            ensure!(value["kind"] == leaf.kind.as_str(), "{}: the entry is a {}", item.place(), leaf.kind);
            match &entry {
                Entry::TrustAdded(Added::Key(key)) => keys.insert_key(
                    PublicKey::from_pem(&key.pem, Some(key.scheme)).with_context(|| item.place())?,
                ),
                Entry::TrustAdded(Added::Root(root)) => {
                    let domain = root.read().map_err(|why| anyhow::anyhow!("{}: {why}", item.place()))?;
                    keys.insert_domain(std::sync::Arc::new(domain));
                }
                _ => {}
            }
            control.apply(item.index, &entry);
        }
        Ok((control, keys))
    }

    /// Puts the given document in the place of the policy that decided; whether it is the same one.
    fn replace_policy(&self, control: &mut Control, document: &str) -> Result<bool> {
        let policy = Policy::parse(document).map_err(|error| anyhow::anyhow!("the policy: {error}"))?;
        let digest = Sha256::of(document.as_bytes());
        let decided = &self.verdict["policy"];
        let same = decided["digest"] == digest.to_string();
        let revision = decided["revision"].as_u64().filter(|_| same).unwrap_or(0);
        if let Some(name) = decided["name"].as_str() {
            control.policies.remove(name);
        }
        let entry =
            Entry::PolicyApplied { name: policy.name().to_owned(), revision, document: document.to_owned() };
        let epoch = control.epoch;
        control.apply(0, &entry);
        // It is not an event of the log: the verdict names the log's own epoch.
        control.epoch = epoch;
        Ok(same)
    }

    /// Attestations and objects, from their bytes.
    fn verify(&self, checkpoint: &Checkpoint, keys: &Trust) -> Result<Evidence> {
        let mut evidence = Evidence::default();
        for item in &self.attestations {
            let (leaf, body) = item.prove(checkpoint)?;
            ensure!(leaf.kind == kind::ATTESTATION, "{}: the entry is a {}", item.place(), leaf.kind);
            let fact = attestation::verify(&body, keys).with_context(|| item.place())?;
            evidence.add_attestation(item.index, leaf.time, fact);
        }
        for item in &self.objects {
            let (leaf, body) = item.prove(checkpoint)?;
            ensure!(leaf.kind == kind::OBJECT, "{}: the entry is a {}", item.place(), leaf.kind);
            // The log entry's own media type, where it has one: the line beside it is anybody's.
            let media_type =
                leaf.extra.get("mediaType").or(item.media_type.as_ref()).map_or("", String::as_str);
            let fact = object::read(media_type, &body, keys, None).with_context(|| item.place())?;
            evidence.add_object(item.index, leaf.time, fact);
        }
        Ok(evidence)
    }

    /// The same policy on the same evidence must give the exported verdict: otherwise something was left out.
    fn agree(&self, verdict: &Verdict) -> Result<()> {
        let found: BTreeMap<String, Value> = serde_json::from_value(serde_json::to_value(verdict)?)?;
        for member in ["outcome", "allowed", "log"] {
            let (found, exported) = (found.get(member).unwrap_or(&Value::Null), &self.verdict[member]);
            if found != exported {
                bail!(
                    "the file's evidence gives {member} {found}, its verdict says {exported}: it was changed or is not complete"
                );
            }
        }
        Ok(())
    }
}

impl Item {
    /// Proves that the leaf is in the log, and that the body is the leaf's.
    fn prove(&self, checkpoint: &Checkpoint) -> Result<(Leaf, Vec<u8>)> {
        let decode = |text: &str| STANDARD.decode(text).with_context(|| self.place());
        let (bytes, body) = (decode(&self.leaf)?, decode(&self.body)?);
        let mut proof = Vec::with_capacity(self.proof.len());
        for hash in &self.proof {
            let hash: [u8; 32] = decode(hash)?
                .try_into()
                .ok()
                .with_context(|| format!("{}: a proof hash has 32 bytes", self.place()))?;
            proof.push(Hash(hash));
        }
        verify_inclusion(leaf_hash(&bytes), self.index, checkpoint.size, &proof, checkpoint.root)
            .with_context(|| self.place())?;
        let leaf = Leaf::decode(&bytes).with_context(|| self.place())?;
        ensure!(
            leaf.body.sha256 == Hash::of(&body),
            "{}: the body is not the one that was logged",
            self.place()
        );
        Ok((leaf, body))
    }

    fn place(&self) -> String {
        format!("entry {}", self.index)
    }
}

/// `os/architecture[/variant]`
fn platform(text: &str) -> Result<object::Platform> {
    let mut parts = text.split('/').map(str::to_owned);
    let (Some(os), Some(architecture), variant, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("{text} is not os/architecture[/variant]");
    };
    Ok(object::Platform { os, architecture, variant })
}

#[cfg(test)]
mod tests;
