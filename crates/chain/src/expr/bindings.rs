//! What each site may read: typed names, never text that is put into an expression.

use std::collections::BTreeMap;

use catenary_evidence::{
    attestation::Attestation,
    predicate::{Build, Claim, Finding, Source},
};
use jiff::Timestamp;

use super::{check::Type, value::Value};
use crate::verdict::Question;

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// `build.params.assert`
    Build,
    /// `require[].assert`
    Require,
    /// `deny[].when`
    Deny,
    /// `match.when`. Which policy decides must not depend on the moment: there is no `now`.
    Match,
}

const SOURCE: Type = Type::Members(&[
    ("repository", Type::Text),
    ("repositoryId", Type::Text),
    ("commit", Type::Text),
    ("ref", Type::Text),
]);

const DEPENDENCY: Type = Type::Members(&[
    ("role", Type::Text),
    ("uri", Type::Text),
    ("digests", Type::List(&Type::Text)),
    ("resource", Type::Text),
]);

const BUILD: Type = Type::Members(&[
    ("builderId", Type::Text),
    ("buildType", Type::Text),
    ("params", Type::Map(&Type::Text)),
    ("unknownParams", Type::List(&Type::Text)),
    ("trigger", Type::Text),
    ("runner", Type::Text),
    ("dependencies", Type::List(&DEPENDENCY)),
    ("invocation", Type::Text),
    ("startedOn", Type::Time),
    ("finishedOn", Type::Time),
    ("hermetic", Type::Bool),
    ("reproducible", Type::Bool),
    ("complete", Type::Members(&[("params", Type::Bool), ("dependencies", Type::Bool)])),
]);

const FINDING: Type = Type::Members(&[
    ("id", Type::Text),
    ("aliases", Type::List(&Type::Text)),
    ("severity", Type::Text),
    ("package", Type::Text),
    ("vexNotAffected", Type::Bool),
]);

const ATTESTATION: Type = Type::Members(&[
    ("predicateType", Type::Text),
    ("signers", Type::List(&Type::Text)),
    ("receivedAt", Type::Time),
    ("claim", Type::Any),
    ("findings", Type::List(&FINDING)),
]);

const SUBJECT: Type = Type::Members(&[("digest", Type::Text), ("resource", Type::Text)]);
const CONTEXT: Type = Type::Map(&Type::Any);

impl Site {
    /// The names that exist here.
    pub(super) fn names(self) -> &'static [(&'static str, Type)] {
        match self {
            Self::Build => &[
                ("build", BUILD),
                ("source", SOURCE),
                ("params", Type::Map(&Type::Text)),
                ("subject", SUBJECT),
                ("ctx", CONTEXT),
                ("now", Type::Time),
            ],
            Self::Require => {
                &[("att", ATTESTATION), ("subject", SUBJECT), ("ctx", CONTEXT), ("now", Type::Time)]
            }
            Self::Deny => &[("subject", SUBJECT), ("ctx", CONTEXT), ("now", Type::Time)],
            Self::Match => &[("ctx", CONTEXT)],
        }
    }
}

/// The values of the names.
#[derive(Debug, Clone, Default)]
pub struct Bindings(BTreeMap<&'static str, Value>);

impl Bindings {
    /// Adds a name.
    pub fn with(mut self, name: &'static str, value: Value) -> Self {
        self.0.insert(name, value);
        self
    }

    /// `now`: the `asOf` of the evaluation.
    pub fn at(self, now: Timestamp) -> Self {
        self.with("now", Value::Time(now))
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

fn text(text: &Option<String>) -> Option<Value> {
    text.as_ref().map(Value::text)
}

/// `ctx`: what the question says. `true` and `false` are bools; everything else is text.
pub fn context(question: Option<&Question>) -> Value {
    let Some(question) = question else { return Value::members([]) };
    let mut members: BTreeMap<String, Value> = BTreeMap::new();
    for (name, value) in &question.context {
        let value = match value.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => Value::text(text),
        };
        members.insert(name.clone(), value);
    }
    members.extend(question.environment.iter().map(|name| ("environment".to_owned(), Value::text(name))));
    members.insert("resource".to_owned(), Value::text(&question.image.resource));
    let platform = question.platform.as_ref().map(crate::evaluate::platform_text);
    members.extend(platform.map(|platform| ("platform".to_owned(), Value::text(platform))));
    Value::Map(members.into())
}

/// `subject`: what the expression is asked about.
pub fn subject(digest: &catenary_evidence::Digest, resource: &str) -> Value {
    Value::members([
        ("digest", Some(Value::text(digest.to_string()))),
        ("resource", Some(Value::text(resource))),
    ])
}

/// `source`: what the build says that it was made from.
pub fn source(source: Option<&Source>) -> Value {
    let Some(source) = source else { return Value::members([]) };
    Value::members([
        ("repository", Some(Value::text(&source.repository))),
        ("repositoryId", text(&source.repository_id)),
        ("commit", source.commit.map(|commit| Value::text(commit.to_hex()))),
        ("ref", text(&source.reference)),
    ])
}

/// `build`: provenance in its normal form. `trigger` and `runner` are the certificate's, where it names them.
pub fn build(build: &Build, trigger: Option<&str>, runner: Option<&str>) -> Value {
    let dependency = |dependency: &catenary_evidence::predicate::Dependency| {
        let role = serde_json::to_value(dependency.role).unwrap_or_default();
        Value::members([
            ("role", Some(Value::from_json(&role))),
            ("uri", Some(Value::text(&dependency.uri))),
            ("digests", Some(Value::list(dependency.nodes.iter().map(|node| Value::text(node.to_string()))))),
            ("resource", text(&dependency.resource)),
        ])
    };
    let complete = Value::members([
        ("params", build.complete.params.map(Value::Bool)),
        ("dependencies", build.complete.dependencies.map(Value::Bool)),
    ]);
    Value::members([
        ("builderId", Some(Value::text(&build.builder_id))),
        ("buildType", Some(Value::text(&build.build_type))),
        ("params", Some(params(build))),
        ("unknownParams", Some(Value::list(build.unknown_params.iter().map(Value::text)))),
        ("trigger", trigger.map(Value::text)),
        ("runner", runner.map(Value::text)),
        ("dependencies", Some(Value::list(build.dependencies.iter().map(dependency)))),
        ("invocation", text(&build.invocation)),
        ("startedOn", build.started_on.map(Value::Time)),
        ("finishedOn", build.finished_on.map(Value::Time)),
        ("hermetic", build.hermetic.map(Value::Bool)),
        ("reproducible", build.reproducible.map(Value::Bool)),
        ("complete", Some(complete)),
    ])
}

/// `params`: external parameters by path.
pub fn params(build: &Build) -> Value {
    let params = build.params.iter().map(|(path, value)| (path.clone(), Value::text(value)));
    Value::Map(std::sync::Arc::new(params.collect()))
}

/// `att`: a statement whose signer counts. `claim` is its predicate in the normal form that the API shows. `excused` says of a
/// finding whether trusted VEX statements excuse it, if anybody can say.
pub fn attestation(
    fact: &Attestation,
    received: Timestamp,
    excused: &dyn Fn(&Finding) -> Option<bool>,
) -> Value {
    let mut claim = serde_json::to_value(&fact.claim).unwrap_or_default();
    // Of a list that was cut nothing may be said of all its elements: it is not there, and asking for it is an error.
    for cut in ["findings", "statements"] {
        if claim[cut]["more"] == true
            && let Some(members) = claim.as_object_mut()
        {
            members.remove(cut);
        }
    }
    Value::members([
        ("predicateType", Some(Value::text(&fact.predicate_type))),
        ("signers", Some(Value::list(fact.signers().map(|signer| Value::text(signer.to_string()))))),
        ("receivedAt", Some(Value::Time(received))),
        ("claim", Some(Value::from_json(&claim))),
        ("findings", findings(fact, excused)),
    ])
}

/// `att.findings`: those of a scan, when all of them were kept and its result was read. Else it is not there, so that asking is
/// an error: nothing may be concluded from findings that nobody sees.
fn findings(fact: &Attestation, excused: &dyn Fn(&Finding) -> Option<bool>) -> Option<Value> {
    let Claim::Scan(scan) = &fact.claim else { return None };
    if scan.findings.more || scan.severities.is_none() {
        return None;
    }
    let finding = |finding: &Finding| {
        Value::members([
            ("id", Some(Value::text(&finding.id))),
            ("aliases", Some(Value::list(finding.aliases.iter().map(Value::text)))),
            ("severity", Some(Value::text(finding.severity.as_str()))),
            ("package", Some(Value::text(&finding.package))),
            ("vexNotAffected", excused(finding).map(Value::Bool)),
        ])
    };
    Some(Value::list(scan.findings.list.iter().map(finding)))
}
