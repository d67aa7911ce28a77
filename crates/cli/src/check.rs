//! Verifying files offline: no server, no network, no log; only the roots and keys that are given.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    Attestation, Digest, GitOid, KeyId, Node, PublicKey, Refusal, Scheme, Signature, Trust, attestation,
    form::{self, Artifact},
    object::{self, Body, GIT_COMMIT, GIT_TAG, GitSignature},
    predicate,
    signer::AuthorityKind,
    statement::DigestSet,
    trust_root::{Domain, Rules, TrustRootError, Window},
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

pub mod layout;
#[cfg(test)]
mod tests;

/// The most bytes that are taken from the standard input: more than any form may have.
const MAX_INPUT: u64 = 256 * 1024 * 1024;

/// What files are verified against.
#[derive(Debug, Clone)]
pub struct Against {
    trust: Trust,
    /// The same with RSA keys read as PSS: a PEM file does not say which padding its key signs with.
    pss: Trust,
    identity: Option<String>,
    issuer: Option<String>,
    nodes: Vec<Node>,
    /// What a signature without a statement may be over.
    artifact: Option<Artifact>,
    /// Keys were given and no identity: then a certificate is not what was asked for.
    keys_only: bool,
    /// When the signatures of a key count, where whoever published the key says so.
    windows: BTreeMap<KeyId, Vec<Window>>,
}

/// What came of one file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The file.
    pub file: String,
    /// Which form it has.
    pub form: String,
    /// How it was found.
    pub result: Outcome,
    /// Why; `null` when it is verified.
    pub code: Option<String>,
    /// The same in words, for people.
    #[serde(skip)]
    pub message: Option<String>,
    /// Who signed.
    pub signers: Vec<Value>,
    /// Earliest and latest moment of signing, as far as anything trusted says; `null` is open.
    pub signed_between: [Option<String>; 2],
    /// What it is about.
    pub subjects: Vec<String>,
    /// `predicateType` of the statement, if it is one.
    pub predicate_type: Option<String>,
    /// The facts of what verified, for callers that look further.
    #[serde(skip)]
    pub facts: Vec<Attestation>,
}

/// How a file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Signed by whom was asked for, about what was asked for.
    Verified,
    /// Well-formed, but nothing that was given vouches for it.
    Unverified,
    /// Malformed, broken, or by or about another than asked for.
    Refused,
}

impl Default for Against {
    fn default() -> Self {
        Self::new()
    }
}

impl Against {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            trust: Trust::none(),
            pss: Trust::none(),
            identity: None,
            issuer: None,
            nodes: Vec::new(),
            artifact: None,
            keys_only: false,
            windows: BTreeMap::new(),
        }
    }

    /// The public instances that are compiled in.
    pub fn builtin_roots(&mut self) {
        for domain in Domain::builtin() {
            self.add(Arc::new(domain));
        }
    }

    /// The public good instance alone.
    pub fn public_good(&mut self) {
        if let Some(domain) = Domain::builtin().into_iter().next() {
            self.add(Arc::new(domain));
        }
    }

    /// A `trusted_root.json`. It demands what it can verify: a log entry when it names a log, a certificate timestamp
    /// when it names a certificate log.
    pub fn root(&mut self, name: &str, document: &[u8]) -> Result<()> {
        let plain = Domain::read(name, document, Rules::NONE)?;
        let has = |kind| plain.authorities().keys().any(|(known, _)| *known == kind);
        let rules = Rules { log: has(AuthorityKind::Log), sct: has(AuthorityKind::CtLog), logs: 1 };
        self.add(Arc::new(Domain::read(name, document, rules)?));
        Ok(())
    }

    /// A `trusted_root.json` under which everything is demanded that a public instance gives: a root without logs trusts nothing.
    pub fn strict_root(&mut self, name: &str, document: &[u8]) -> Result<(), TrustRootError> {
        self.add(Arc::new(Domain::read(name, document, Rules::default())?));
        Ok(())
    }

    /// Whether a root names a log of signatures.
    pub fn names_logs(&self) -> bool {
        let mut authorities = self.trust.domains().iter().flat_map(|domain| domain.authorities().into_keys());
        authorities.any(|(kind, _)| kind == AuthorityKind::Log)
    }

    fn add(&mut self, domain: Arc<Domain>) {
        self.trust.insert_domain(domain.clone());
        self.pss.insert_domain(domain);
    }

    /// Keys from a file: PEM, DER, OpenSSH, OpenPGP blocks, npm's `keys.json`, or the principals of gittuf root metadata.
    pub fn keys(&mut self, file: &[u8]) -> Result<()> {
        let found = match file.first() {
            // A SubjectPublicKeyInfo is a SEQUENCE; no text of a key begins so.
            Some(0x30) => vec![(PublicKey::from_spki(file, None)?, None)],
            _ => keys(std::str::from_utf8(file).context("neither text nor DER")?)?,
        };
        for (key, window) in found {
            if let Some(window) = window {
                self.windows.entry(key.id()).or_default().push(window);
            }
            if let Ok(pss) = PublicKey::from_spki(key.spki(), Some(Scheme::RsaPssSha256)) {
                self.pss.insert_key(pss);
            } else {
                self.pss.insert_key(key.clone());
            }
            self.trust.insert_key(key);
        }
        self.keys_only = true;
        Ok(())
    }

    /// The certificate's subject alternative name and issuer, both exact.
    pub fn identity(&mut self, identity: Option<&str>, issuer: Option<&str>) {
        self.identity = identity.map(str::to_owned);
        self.issuer = issuer.map(str::to_owned);
    }

    /// One of these must be a subject.
    pub fn about(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// This file must be a subject, or what is signed.
    pub fn artifact(&mut self, file: &Path) -> Result<()> {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        let zero = [Digest::sha256(&[]), Digest::Sha384([0; 48]), Digest::Sha512([0; 64])];
        zero.into_iter().for_each(|digest| self.about(Node::Content(digest.recompute(&bytes))));
        self.artifact = Some(Artifact::Bytes(bytes));
        Ok(())
    }

    /// What has this digest must be a subject, or what is signed.
    pub fn digest(&mut self, node: Node) {
        if let Node::Content(digest) = node {
            self.artifact = Some(Artifact::Digest(digest));
        }
        self.about(node);
    }

    /// This and nothing else must be a subject.
    pub fn only(&mut self, node: Node) {
        self.nodes = vec![node];
    }

    /// Whether a signature is by whom was asked for.
    fn accepts(&self, signature: &Signature) -> bool {
        let asks = self.identity.is_some() || self.issuer.is_some();
        match signature.signer.identity() {
            None => !asks,
            Some(_) if !asks => !self.keys_only,
            Some(identity) => {
                let same = |asked: &Option<String>, found: Option<&str>| {
                    asked.as_deref().is_none_or(|asked| Some(asked) == found)
                };
                same(&self.identity, Some(&identity.san)) && same(&self.issuer, identity.issuer.as_deref())
            }
        }
    }

    /// Whether its key was in use when it signed; without a trusted time nobody can say that it was not.
    fn is_in_window(&self, signature: &Signature) -> bool {
        let windows = signature.signer.key().and_then(|key| self.windows.get(&key));
        let at = signature.signed_before;
        windows.zip(at).is_none_or(|(windows, at)| windows.iter().any(|window| window.contains(at)))
    }

    /// Whether nothing says when a certificate signed, though its domain names whose word there could be (T01). Without that,
    /// whoever finds the key of a certificate that ended long ago signs with it.
    fn misses_time(&self, signature: &Signature) -> bool {
        let Some(identity) = signature.signer.identity() else { return false };
        let mut named = self.trust.domains().iter().filter(|domain| domain.name() == identity.domain);
        let tells = |kind| matches!(kind, AuthorityKind::Log | AuthorityKind::TimestampAuthority);
        signature.signed_before.is_none()
            && named.any(|domain| domain.authorities().keys().any(|(kind, _)| tells(*kind)))
    }

    /// Whether a subject names what was asked for, and none of its other digests names something else.
    fn names(&self, subject: &DigestSet) -> bool {
        let known = |digest: &Digest| {
            let same = |node: &Node| matches!(node, Node::Content(k) if k.algorithm() == digest.algorithm());
            self.nodes.iter().any(same)
        };
        let other = |digest: &&Digest| known(digest) && !self.nodes.contains(&Node::Content(**digest));
        subject.nodes().any(|node| self.nodes.contains(&node)) && subject.content.iter().find(other).is_none()
    }

    /// Verifies one file; `-` is the standard input.
    pub fn check(&self, path: &Path) -> Result<Checked> {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(MAX_INPUT).read_to_end(&mut bytes).context("standard input")?;
            return Ok(Checked { file: "-".into(), ..self.bytes(&bytes) });
        }
        if let Some(items) = layout::attachments(path)? {
            let mut checked = self.items(&items.iter().map(Vec::as_slice).collect::<Vec<_>>());
            checked.file = path.display().to_string();
            checked.form = format!("oci-layout ({})", checked.form);
            return Ok(checked);
        }
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let mut checked = self.bytes(&bytes);
        checked.file = path.display().to_string();
        Ok(checked)
    }

    /// Verifies the bytes of one file.
    pub fn bytes(&self, bytes: &[u8]) -> Checked {
        if bytes.starts_with(b"tree ") {
            return self.git("git-commit", GIT_COMMIT, bytes);
        }
        if bytes.starts_with(b"object ") {
            return self.git("git-tag", GIT_TAG, bytes);
        }
        if let Some(unsigned) = unsigned(bytes) {
            return unsigned;
        }
        match form::detect(bytes) {
            Ok(items) => self.items(&items),
            Err(refusal) => refused("unknown", &refusal),
        }
    }

    fn items(&self, items: &[&[u8]]) -> Checked {
        let all: Vec<Checked> = items.iter().map(|item| self.item(item)).collect();
        let forms: BTreeSet<&str> = all.iter().map(|c| c.form.as_str()).collect();
        let forms = forms.into_iter().collect::<Vec<_>>().join(", ");
        // A forgery spoils the file it is in; else what verified says more than what is about something else.
        let order = |c: &&Checked| match (c.result, c.code.as_deref()) {
            (Outcome::Refused, Some("ARTIFACT_MISMATCH" | "IDENTITY_MISMATCH")) => 2,
            (Outcome::Refused, _) => 0,
            (Outcome::Verified, _) => 1,
            (Outcome::Unverified, _) => 3,
        };
        let Some(first) = all.iter().min_by_key(order) else {
            return failed("empty", Outcome::Refused, "ATT_MALFORMED", "there is nothing in it");
        };
        // What is said of the file is said of those items only: nothing unverified stands beside what is verified.
        let same = || all.iter().filter(|c| (c.result, &c.code) == (first.result, &first.code));
        let facts = same().flat_map(|c| c.facts.clone()).collect();
        let subjects = same().flat_map(|c| c.subjects.clone()).collect();
        let mut signers: Vec<Value> = Vec::new();
        for signer in same().flat_map(|c| &c.signers) {
            if !signers.contains(signer) {
                signers.push(signer.clone());
            }
        }
        Checked { form: forms, facts, subjects, signers, ..first.clone() }
    }

    fn item(&self, item: &[u8]) -> Checked {
        let form = std::str::from_utf8(item).ok().and_then(|text| form::open(text).ok());
        let form = form.map_or("unknown", |opened| opened.form);
        let verify = |trust| match &self.artifact {
            Some(artifact) => attestation::verify_with(item, artifact, trust),
            None => attestation::verify(item, trust),
        };
        let found = match verify(&self.trust) {
            Ok(facts) if !facts.is_verified() => verify(&self.pss),
            found => found,
        };
        let facts = match found {
            Ok(facts) => facts,
            // One of several documents may be of a kind that nothing signs.
            Err(refusal) => return unsigned(item).unwrap_or_else(|| refused(form, &refusal)),
        };
        let mut checked =
            failed(form, Outcome::Unverified, "ATT_UNVERIFIED", "no given root or key vouches for it");
        checked.subjects = facts.subject_nodes().iter().map(ToString::to_string).collect();
        checked.predicate_type = Some(facts.predicate_type.clone());
        if let Some(doubt) = &facts.doubt {
            checked.code = Some(doubt.code.clone());
            checked.message = Some(doubt.message.clone());
        }
        checked.signed(&facts.signatures);
        if facts.is_verified() {
            let about = self.nodes.is_empty() || facts.subjects.iter().any(|s| self.names(&s.digests));
            let mut accepted = facts.signatures.iter().filter(|signature| self.accepts(signature)).peekable();
            let (asked, mut living) =
                (accepted.peek().is_some(), accepted.filter(|s| self.is_in_window(s)).peekable());
            if !asked {
                checked.fail("IDENTITY_MISMATCH", "it is signed by another than asked for");
            } else if living.peek().is_none() {
                checked.fail("KEY_NOT_IN_USE", "it was signed when the key was not in use");
            } else if living.all(|signature| self.misses_time(signature)) {
                checked.code = Some("ATT_TIMESTAMP_MISSING".to_owned());
                checked.message = Some("nothing trusted says when it was signed".to_owned());
            } else if !about {
                checked.fail("ARTIFACT_MISMATCH", "it is about another artifact than asked for");
            } else {
                checked.verified();
            }
        }
        checked.facts = vec![facts];
        checked
    }

    fn git(&self, form: &str, media_type: &str, bytes: &[u8]) -> Checked {
        let object = match object::read(media_type, bytes, &self.trust, None) {
            Ok(object) => object,
            Err(refusal) => return refused(form, &refusal),
        };
        let signature = match &object.body {
            Body::Commit(commit) => commit.signature.as_ref(),
            Body::Tag(tag) => tag.signature.as_ref(),
            _ => None,
        };
        let mut checked = match signature {
            None => failed(form, Outcome::Unverified, "ATT_UNSIGNED", "nothing signs it"),
            Some(GitSignature { verified: None, method }) => {
                let message = format!("no given root or key vouches for its {method} signature");
                failed(form, Outcome::Unverified, "ATT_UNVERIFIED", &message)
            }
            Some(GitSignature { verified: Some(signature), .. }) => {
                let mut checked = failed(form, Outcome::Unverified, "", "");
                checked.signed(std::slice::from_ref(signature));
                if self.accepts(signature) {
                    checked.verified();
                } else {
                    checked.fail("IDENTITY_MISMATCH", "it is signed by another than asked for");
                }
                checked
            }
        };
        checked.subjects = vec![object.node.to_string()];
        if checked.result == Outcome::Verified && !self.nodes.is_empty() && !self.nodes.contains(&object.node)
        {
            checked.fail("ARTIFACT_MISMATCH", "it is another object than asked for");
        }
        checked
    }
}

impl Checked {
    /// A file that cannot be read is no evidence.
    pub fn unreadable(path: &Path, error: &anyhow::Error) -> Self {
        let failed = failed("unknown", Outcome::Refused, "FILE_UNREADABLE", &format!("{error:#}"));
        Self { file: path.display().to_string(), ..failed }
    }

    fn signed(&mut self, signatures: &[Signature]) {
        let describe = |signature: &Signature| match signature.signer.identity() {
            None => json!({"key": signature.signer.to_string()}),
            Some(identity) => json!({
                "san": identity.san, "issuer": identity.issuer, "domain": identity.domain,
                "logged": signature.logged,
            }),
        };
        self.signers = signatures.iter().map(describe).collect();
        let after = signatures.iter().filter_map(|s| s.signed_after).max();
        let before = signatures.iter().filter_map(|s| s.signed_before).min();
        self.signed_between = [after.map(|t| t.to_string()), before.map(|t| t.to_string())];
    }

    fn verified(&mut self) {
        self.result = Outcome::Verified;
        self.code = None;
        self.message = None;
    }

    fn fail(&mut self, code: &str, message: &str) {
        self.result = Outcome::Refused;
        self.code = Some(code.to_owned());
        self.message = Some(message.to_owned());
    }
}

fn failed(form: &str, result: Outcome, code: &str, message: &str) -> Checked {
    Checked {
        file: String::new(),
        form: form.to_owned(),
        result,
        code: Some(code.to_owned()),
        message: Some(message.to_owned()),
        signers: Vec::new(),
        signed_between: [None, None],
        subjects: Vec::new(),
        predicate_type: None,
        facts: Vec::new(),
    }
}

fn refused(form: &str, refusal: &Refusal) -> Checked {
    // What is merely unsigned is no forgery.
    let result = match refusal {
        Refusal::Unsigned => Outcome::Unverified,
        _ => Outcome::Refused,
    };
    failed(form, result, refusal.code(), &refusal.to_string())
}

/// Members of documents that something signs, or that hold such documents.
const SIGNED: [&str; 16] = [
    "payload",
    "payloadType",
    "signatures",
    "signed",
    "dsseEnvelope",
    "dsse_envelope",
    "messageSignature",
    "message_signature",
    "verificationMaterial",
    "verification_material",
    "attestations",
    "attestation_bundles",
    "attestations_subject_digests",
    "provenance_summary",
    "base64Signature",
    "bundle",
];

/// Documents that are read and never count, because nothing signs them: objects of a registry, SBOMs, roots, keys.
pub(crate) fn unsigned(bytes: &[u8]) -> Option<Checked> {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        let form = predicate::foreign(std::str::from_utf8(bytes).ok()?)?;
        return Some(failed(form, Outcome::Unverified, "ATT_UNSIGNED", "nothing signs it"));
    };
    let has = |member: &str| value.get(member).is_some();
    // A bundle or a wrapper that lacks all else is a broken one; registries and clients keep other things with a media type.
    let ours = |member: &str| value[member].as_str().is_some_and(form::is_media_type);
    let form = match () {
        () if has("schemaVersion") && (has("manifests") || has("layers")) => "oci-manifest",
        () if has("spdxVersion") => "spdx",
        () if has("@graph") => "spdx",
        () if value["bomFormat"] == "CycloneDX" => "cyclonedx",
        () if value["@context"].as_str().is_some_and(|c| c.starts_with("https://openvex.dev")) => "openvex",
        () if has("architecture") && has("rootfs") => "oci-config",
        () if has("_type") && !has("payload") && !has("signed") => "in-toto-statement",
        () if ours("mediaType") || ours("media_type") => return None,
        () if value.is_object() && !SIGNED.iter().any(|member| has(member)) => "document",
        _ => return None,
    };
    Some(failed(form, Outcome::Unverified, "ATT_UNSIGNED", "nothing signs it"))
}

/// What npm's keys for attestations are called; its others sign packages in another way.
const NPM_ATTESTATIONS: &str = "npm:attestations";

/// Keys of a file, in the forms that publishers use, and when they count.
fn keys(text: &str) -> Result<Vec<(PublicKey, Option<Window>)>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Npm {
        keys: Vec<NpmKey>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct NpmKey {
        key_usage: Option<String>,
        public_key: RawKey,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RawKey {
        raw_bytes: String,
        valid_for: Option<ValidFor>,
    }
    #[derive(serde::Deserialize)]
    struct ValidFor {
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    }
    if !text.trim_start().starts_with('{') {
        let keys = PublicKey::all_from_text(text, None)?;
        return Ok(keys.into_iter().map(|key| (key, None)).collect());
    }
    if let Ok(npm) = serde_json::from_str::<Npm>(text) {
        let read = |key: RawKey| {
            let window = key.valid_for.map(|range| Window { from: range.start, until: range.end });
            Ok((PublicKey::from_spki(&STANDARD.decode(key.raw_bytes)?, None)?, window))
        };
        let attests = |key: &NpmKey| key.key_usage.as_ref().is_none_or(|usage| usage == NPM_ATTESTATIONS);
        return npm.keys.into_iter().filter(attests).map(|key| read(key.public_key)).collect();
    }
    let envelope: Value = serde_json::from_str(text)?;
    let payload = STANDARD.decode(envelope["payload"].as_str().context("neither keys nor metadata")?)?;
    let metadata: Value = serde_json::from_slice(&payload)?;
    let Some(principals) = metadata["principals"].as_object() else {
        bail!("the metadata names no principals")
    };
    let ssh = principals.values().filter(|principal| principal["keytype"] == "ssh");
    ssh.map(|principal| {
        let blob = principal["keyval"]["public"].as_str().unwrap_or_default();
        let kind = principal["scheme"].as_str().unwrap_or_default();
        Ok((PublicKey::from_openssh(&format!("{kind} {blob}"))?, None))
    })
    .collect()
}

/// A digest as people write it: `sha256:…`, `gitCommit:…`, `sha1:…` of a git object.
pub fn node(text: &str) -> Result<Node> {
    if let Some((kind, hex)) = text.split_once(':')
        && (kind.starts_with("git") || kind == "sha1")
    {
        return Ok(Node::Git(GitOid::from_hex(hex)?));
    }
    Ok(Node::Content(text.parse::<Digest>()?))
}
