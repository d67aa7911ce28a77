//! Tests inside a document: what it must say about evidence that was kept for the purpose, before it is activated.
//!
//! A fixture is JSON Lines. A line with a `type` says something about the others or wraps bytes; any other line is an item
//! exactly as it is pushed. An export of evidence (`catenary verdict --evidence FILE`) is a fixture. What a fixture says is
//! worth nothing outside of its test: proofs in it are not looked at, keys in it count for it alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use catenary_evidence::{
    PublicKey, Scheme, Trust,
    attestation::{self, Attestation},
    digest::{Digest, Sha256},
    dsse,
    object::{self, Object},
    predicate::{Claim, RegistryEvent},
    reference::ImageReference,
    trust_root::{Domain, Rules},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Policy, glob, place};
use crate::{
    context::{self, Context},
    control::{Added, Control, Entry, RootVersion, TrustedKey},
    evaluate::evaluate,
    gather::Evidence,
    reason::Code,
    verdict::{LogView, Outcome, Question, Verdict},
};

/// Most tests of a document.
pub const MAX_TESTS: usize = 64;

/// One of `tests`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trial {
    /// What it shows.
    pub name: String,
    /// The fixture: a path beside the document, a name among those that are sent.
    pub fixture: String,
    /// What is asked about.
    pub image: Option<ImageReference>,
    /// The same, in the first repository that the policy matches; where that is a pattern, in the one that the fixture says.
    pub digest: Option<Digest>,
    /// In which environment.
    pub environment: Option<String>,
    /// What the asker says besides.
    #[serde(default)]
    pub context: Context,
    /// At which time; what the fixture says, when absent.
    pub as_of: Option<Timestamp>,
    /// What the verdict must be.
    pub expect: Expect,
}

/// `expect`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// The outcome.
    pub outcome: Outcome,
    /// Codes that must be among the reasons.
    #[serde(default)]
    pub codes: Vec<Code>,
    /// Whether it is allowed.
    pub allowed: Option<bool>,
}

impl Trial {
    /// What is asked.
    fn question(&self, policy: &Policy, fixture: &Fixture) -> Result<Question, String> {
        let image = match (&self.image, self.digest) {
            (Some(image), None) => image.clone(),
            (None, Some(digest)) => {
                let named = resource(policy.spec());
                let resource = named.map_or_else(|| fixture.resource(policy, digest), Ok)?;
                ImageReference { resource, digest }
            }
            _ => return Err("give exactly one of `image` and `digest`".into()),
        };
        // A policy for some environments is asked about the first of them.
        let first = || policy.spec().selects.environments.as_ref()?.first().cloned();
        let (environment, context) = (self.environment.clone().or_else(first), self.context.clone());
        Ok(Question { image, environment, platform: None, context })
    }
}

/// The first repository of the policy that is one.
fn resource(spec: &super::Spec) -> Option<String> {
    let first = spec.selects.resources.first()?.as_str();
    (!first.contains('*')).then(|| first.to_owned())
}

/// What no schema says: the position of a test, its member, and what is wrong.
pub(super) fn check(spec: &super::Spec) -> Result<(), (usize, &'static str, String)> {
    let mut names = std::collections::BTreeSet::new();
    for (index, trial) in spec.tests.iter().enumerate() {
        let wrong = |member, why: &str| Err((index, member, why.to_owned()));
        if index >= MAX_TESTS {
            return wrong("name", &format!("a document has at most {MAX_TESTS} tests"));
        }
        if trial.name.is_empty() || !names.insert(&trial.name) {
            return wrong("name", "a test has a name of its own");
        }
        let parts = || trial.fixture.split('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        if trial.fixture.len() > 200
            || !trial.fixture.bytes().all(plain)
            || parts().any(|part| part.is_empty() || part == "..")
        {
            return wrong(
                "fixture",
                "a fixture is a path below the document's folder, of letters, digits, `-`, `_`, `.`",
            );
        }
        context::check(&trial.context).or_else(|why| wrong("context", &why))?;
        match (&trial.image, trial.digest) {
            (Some(_), None) => {}
            (None, Some(_)) => {}
            _ => return wrong("image", "a test is about exactly one of `image` and `digest`"),
        }
    }
    Ok(())
}

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// Whether the verdict is what was expected.
    pub passed: bool,
    /// Where the test stands in the document.
    pub path: String,
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
    /// What is different, and what the verdict says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The codes of its reasons, each once.
    pub codes: Vec<Code>,
    /// Whether it is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
}

/// Runs every test of a document with the fixtures by name.
pub fn run(policy: &Policy, document: &str, fixtures: &BTreeMap<String, String>) -> Vec<Ran> {
    let mut read: BTreeMap<&str, Result<Fixture, String>> = BTreeMap::new();
    let mut results = Vec::new();
    for (index, trial) in policy.spec().tests.iter().enumerate() {
        let name = trial.fixture.as_str();
        let fixture = read.entry(name).or_insert_with(|| {
            let text = fixtures.get(name);
            let text = text.ok_or_else(|| format!("the fixture `{name}` is not there: send it along"))?;
            Fixture::read(text).map_err(|why| format!("{name}: {why}"))
        });
        let verdict =
            fixture.as_ref().map_err(Clone::clone).and_then(|fixture| fixture.judge(policy, document, trial));
        results.push(ran(index, trial, document, verdict));
    }
    results
}

fn ran(index: usize, trial: &Trial, document: &str, verdict: Result<Verdict, String>) -> Ran {
    let path = format!("spec.tests[{index}]");
    let (line, column) = place::of_text(document, &path);
    let message = match &verdict {
        Ok(verdict) => differs(&trial.expect, verdict),
        Err(why) => Some(why.clone()),
    };
    let verdict = verdict.ok();
    let mut codes: Vec<Code> = verdict.iter().flat_map(|v| &v.reasons).map(|reason| reason.code).collect();
    codes.sort();
    codes.dedup();
    Ran {
        name: trial.name.clone(),
        passed: message.is_none(),
        path,
        line,
        column,
        message,
        outcome: verdict.as_ref().map(|v| v.outcome),
        codes,
        allowed: verdict.as_ref().map(|v| v.allowed),
    }
}

fn differs(expect: &Expect, verdict: &Verdict) -> Option<String> {
    let says = &verdict.summary;
    if verdict.outcome != expect.outcome {
        return Some(format!("{:?} is expected; the verdict: {says}", expect.outcome));
    }
    if let Some(code) = expect.codes.iter().find(|code| verdict.reasons.iter().all(|r| r.code != **code)) {
        return Some(format!("{code} is expected; the verdict: {says}"));
    }
    let allowed = expect.allowed.filter(|allowed| *allowed != verdict.allowed)?;
    Some(format!("allowed: {allowed} is expected; the verdict: {says}"))
}

/// Evidence and trust from one file.
struct Fixture {
    control: Control,
    attestations: Vec<(Option<Timestamp>, Attestation)>,
    objects: Vec<(Option<Timestamp>, Object)>,
    asked_at: Option<Timestamp>,
}

/// A line with a `type`.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    /// What follows was received then.
    Received {
        at: Timestamp,
    },
    /// A key or a root that counts.
    Trust {
        key: Option<KeyLine>,
        root: Option<RootLine>,
    },
    /// When it was asked, in an export.
    Question {
        now: Timestamp,
    },
    Attestation(Wrapped),
    Object(Wrapped),
    Control(Wrapped),
    /// What an export has beside that, and no test needs.
    Checkpoint {},
    Verdict {},
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyLine {
    pem: String,
    scheme: Option<Scheme>,
    service: Option<String>,
    valid_from: Option<Timestamp>,
    valid_until: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootLine {
    domain: String,
    rules: Rules,
    document: String,
    #[serde(default)]
    witnesses: Option<String>,
}

/// Bytes in base64. Of an export, the leaf says when they were received.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrapped {
    media_type: Option<String>,
    body: String,
    leaf: Option<String>,
    received_at: Option<Timestamp>,
}

impl Wrapped {
    fn received(&self) -> Option<Timestamp> {
        #[derive(Deserialize)]
        struct Leaf {
            time: Timestamp,
        }
        let of_leaf = || {
            let leaf = dsse::decode(self.leaf.as_ref()?, String::new).ok()?;
            Some(serde_json::from_slice::<Leaf>(&leaf).ok()?.time)
        };
        self.received_at.or_else(of_leaf)
    }
}

/// An item that is read when every line's trust is known.
struct Item<'a> {
    line: usize,
    received: Option<Timestamp>,
    what: What<'a>,
}

enum What<'a> {
    Attestation(std::borrow::Cow<'a, [u8]>),
    Object(String, std::borrow::Cow<'a, [u8]>),
}

impl Fixture {
    fn read(text: &str) -> Result<Self, String> {
        let mut reader = Reader::default();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            reader.line(at + 1, line).map_err(|why| format!("line {}: {why}", at + 1))?;
        }
        let Reader { control, trust, items, asked_at, .. } = reader;
        let mut fixture = Self { control, attestations: Vec::new(), objects: Vec::new(), asked_at };
        for Item { line, received, what } in items {
            let wrong = |refusal: catenary_evidence::Refusal| format!("line {line}: {refusal}");
            match what {
                What::Attestation(bytes) => {
                    fixture
                        .attestations
                        .push((received, attestation::verify(&bytes, &trust).map_err(wrong)?));
                }
                What::Object(media_type, bytes) => {
                    let read = object::read(&media_type, &bytes, &trust, None).map_err(wrong)?;
                    fixture.objects.push((received, read));
                }
            }
        }
        Ok(fixture)
    }

    /// The one repository of the policy into which the fixture says that the image went last.
    fn resource(&self, policy: &Policy, digest: Digest) -> Result<String, String> {
        let pushes = self.attestations.iter().filter_map(|(_, attestation)| match &attestation.claim {
            Claim::Registry(event) if attestation.subject_nodes().contains(&digest.into()) => Some(event),
            _ => None,
        });
        let matching = |event: &&RegistryEvent| glob::any(&policy.spec().selects.resources, &event.resource);
        let resources: BTreeSet<&str> =
            pushes.filter(matching).map(|event| event.resource.as_str()).collect();
        match resources.len() {
            1 => Ok(resources.into_iter().collect()),
            found => Err(format!(
                "the first of match.resources is a pattern, and the fixture says of {found} of its repositories that the image is there: give `image`"
            )),
        }
    }

    fn judge(&self, policy: &Policy, document: &str, trial: &Trial) -> Result<Verdict, String> {
        let received =
            self.attestations.iter().map(|(at, _)| at).chain(self.objects.iter().map(|(at, _)| at));
        let now = trial.as_of.or(self.asked_at).or_else(|| received.copied().flatten().max());
        let now = now.ok_or("nothing says when the test is: give `asOf`")?;
        let question = trial.question(policy, self)?;
        let mut control = self.control.clone();
        control.policies.remove(policy.name());
        let name = policy.name().to_owned();
        control.apply(0, &Entry::PolicyApplied { name, revision: 1, document: document.to_owned() });
        let mut evidence = Evidence::default();
        let mut index = 0;
        for (received, fact) in &self.attestations {
            index += 1;
            evidence.add_attestation(index, received.unwrap_or(now), fact.clone());
        }
        for (received, fact) in &self.objects {
            index += 1;
            evidence.add_object(index, received.unwrap_or(now), fact.clone());
        }
        let log = LogView { size: index, root: Sha256([0; 32]) };
        Ok(evaluate(&question, &control, &evidence, log, now))
    }
}

#[derive(Default)]
struct Reader<'a> {
    control: Control,
    trust: Trust,
    items: Vec<Item<'a>>,
    received: Option<Timestamp>,
    asked_at: Option<Timestamp>,
    entries: u64,
}

impl<'a> Reader<'a> {
    fn line(&mut self, at: usize, line: &'a str) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(rename = "type")]
            kind: Option<serde_json::Value>,
            #[serde(rename = "schemaVersion")]
            schema_version: Option<serde_json::Value>,
            rootfs: Option<serde_json::Value>,
        }
        let typed: Typed = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if typed.kind.is_some() {
            let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
            return self.told(at, line);
        }
        let bytes = std::borrow::Cow::Borrowed(line.as_bytes());
        let what = match typed.schema_version.is_some() || typed.rootfs.is_some() {
            true => What::Object(String::new(), bytes),
            false => What::Attestation(bytes),
        };
        self.items.push(Item { line: at, received: self.received, what });
        Ok(())
    }

    fn told(&mut self, at: usize, line: Line) -> Result<(), String> {
        let decode =
            |wrapped: &Wrapped| dsse::decode(&wrapped.body, || "/body".into()).map_err(|e| e.to_string());
        match line {
            Line::Received { at } => self.received = Some(at),
            Line::Question { now } => self.asked_at = Some(now),
            Line::Checkpoint {} | Line::Verdict {} => {}
            Line::Attestation(wrapped) => {
                let (bytes, received) = (decode(&wrapped)?.into(), wrapped.received().or(self.received));
                self.items.push(Item { line: at, received, what: What::Attestation(bytes) });
            }
            Line::Object(wrapped) => {
                let (bytes, received) = (decode(&wrapped)?.into(), wrapped.received().or(self.received));
                let what = What::Object(wrapped.media_type.unwrap_or_default(), bytes);
                self.items.push(Item { line: at, received, what });
            }
            Line::Control(wrapped) => {
                let body = decode(&wrapped)?;
                // The origin of an export is no JSON.
                if let Ok(entry) = serde_json::from_slice::<Entry>(&body) {
                    self.entry(entry)?;
                }
            }
            Line::Trust { key: Some(key), root: None } => self.key(key)?,
            Line::Trust { key: None, root: Some(root) } => self.root(root)?,
            Line::Trust { .. } => return Err("a `trust` line has exactly one of `key` and `root`".into()),
        }
        Ok(())
    }

    fn key(&mut self, line: KeyLine) -> Result<(), String> {
        let key = PublicKey::from_text(&line.pem, line.scheme).map_err(|error| error.to_string())?;
        let trusted = TrustedKey {
            id: key.id(),
            name: String::new(),
            pem: key.to_pem(),
            scheme: key.scheme(),
            service: line.service,
            valid_from: line.valid_from,
            valid_until: line.valid_until,
        };
        self.entry(Entry::TrustAdded(trusted.into()))?;
        self.entry(Entry::TrustEffective(key.id().into()))
    }

    fn root(&mut self, line: RootLine) -> Result<(), String> {
        let RootLine { domain, rules, document, witnesses } = line;
        let digest = Sha256::of(document.as_bytes());
        let root = RootVersion {
            domain: domain.clone(),
            version: 1,
            digest,
            rules,
            added_on: None,
            document,
            witnesses,
        };
        self.entry(Entry::TrustAdded(Added::Root(root)))?;
        let effective = crate::control::EffectiveRoot { domain, version: 1 };
        self.entry(Entry::TrustEffective(crate::control::Effective::Root(effective)))
    }

    fn entry(&mut self, entry: Entry) -> Result<(), String> {
        match &entry {
            Entry::TrustAdded(Added::Key(key)) => {
                let key =
                    PublicKey::from_pem(&key.pem, Some(key.scheme)).map_err(|error| error.to_string())?;
                self.trust.insert_key(key);
            }
            Entry::TrustAdded(Added::Root(root)) => {
                let domain: Domain = root.read()?;
                self.trust.insert_domain(Arc::new(domain));
            }
            _ => {}
        }
        self.entries += 1;
        self.control.apply(self.entries, &entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(tests: &str) -> String {
        format!(
            "apiVersion: catenary/v1\nkind: ChainPolicy\nspec:\n  github: acme/shop\n  tests:\n    - {{name: one, fixture: f.jsonl, digest: \"sha256:{}\", expect: {{outcome: FAILED, codes: [ART_UNKNOWN]}}{tests}}}\n",
            "1".repeat(64)
        )
    }

    fn results(document: &str, fixture: &str) -> Vec<Ran> {
        let policy = Policy::parse(document).unwrap_or_else(|e| panic!("{e}\n{document}"));
        run(&policy, document, &BTreeMap::from([("f.jsonl".to_owned(), fixture.to_owned())]))
    }

    const AT: &str = r#"{"type": "question", "now": "2026-11-20T10:00:00Z"}"#;

    #[test]
    fn a_test_passes_when_the_verdict_is_what_it_expects() {
        let ran = &results(&document(""), AT)[0];
        assert!(ran.passed, "{ran:?}");
        assert_eq!((ran.line, ran.path.as_str(), ran.allowed), (6, "spec.tests[0]", Some(false)));
        let allowed = document("").replace("ART_UNKNOWN]", "ART_UNKNOWN], allowed: true");
        assert!(!results(&allowed, AT)[0].passed);
        assert!(!results(&document("").replace("FAILED", "PASSED"), AT)[0].passed);
        assert!(!results(&document("").replace("ART_UNKNOWN", "TIM_TOO_OLD"), AT)[0].passed);
    }

    #[test]
    fn a_test_whose_fixture_cannot_be_read_does_not_pass() {
        let policy = Policy::parse(&document("")).unwrap();
        let ran = &run(&policy, &document(""), &BTreeMap::new())[0];
        assert!(!ran.passed && ran.message.as_ref().is_some_and(|m| m.contains("f.jsonl")), "{ran:?}");
        for fixture in [
            "",
            "{}",
            "nonsense",
            r#"{"type": "nonsense"}"#,
            r#"{"type": "trust"}"#,
            r#"{"type": "trust", "key": {"pem": "x"}}"#,
            r#"{"type": "object", "body": "%"}"#,
            r#"{"type": "attestation", "body": "e30="}"#,
        ] {
            let ran = &results(&document(""), fixture)[0];
            assert!(!ran.passed && ran.outcome.is_none(), "{fixture}: {ran:?}");
        }
        let unclocked = &results(&document(""), "")[0];
        assert!(unclocked.message.as_ref().is_some_and(|m| m.contains("asOf")), "{unclocked:?}");
        assert!(results(&document(", asOf: 2026-11-20T10:00:00Z"), "")[0].passed);
    }

    #[test]
    fn a_test_that_cannot_be_meant_is_refused_with_its_place() {
        let refused = |from: &str, to: &str, path: &str| {
            let document = document("").replace(from, to);
            let error = Policy::parse(&document).expect_err(to);
            assert_eq!((error.path.as_str(), error.line), (path, 6), "{error}");
        };
        refused("f.jsonl", "../f.jsonl", "spec.tests[0].fixture");
        refused("f.jsonl", "/etc/passwd", "spec.tests[0].fixture");
        refused("name: one", "name: \"\"", "spec.tests[0].name");
        refused("ART_UNKNOWN", "ART_UNKNOWM", "spec.tests[0].expect.codes[0]");
        let image = format!("digest: \"sha256:{}\", ", "1".repeat(64));
        refused(&image, "", "spec.tests[0].image");
    }

    #[test]
    fn a_test_of_a_policy_for_many_repositories_asks_about_the_one_of_its_fixture() {
        let glob = document("").replace("  tests:", "  match: {resources: [\"ghcr.io/**\"]}\n  tests:");
        let ran = &results(&glob, AT)[0];
        assert!(!ran.passed && ran.message.as_ref().is_some_and(|m| m.contains("give `image`")), "{ran:?}");
        let image = glob.replace("digest: \"", "image: \"ghcr.io/acme/shop@");
        assert!(results(&image, AT)[0].passed);
    }
}
