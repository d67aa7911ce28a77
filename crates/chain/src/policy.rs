//! The policy document (chain-model 3, docs/rules.md 9).
//!
//! A policy is parsed once: members that nobody knows, duplicate keys, anchors and merge keys, and rules
//! that could never hold or always hold are refused with their place. What is left cannot be written wrong.

mod anchor;
pub mod builds;
pub mod delegate;
pub mod diff;
pub mod document;
pub mod exceptions;
pub mod glob;
mod groups;
pub mod identity;
pub mod import;
pub mod lint;
mod place;
pub mod preset;
pub mod property;
pub mod short;
pub mod trial;
mod validate;
mod yaml;

use catenary_evidence::KeyId;
use jiff::Timestamp;

use crate::{control::Control, reason::Code};

pub(crate) use place::closest;

pub use document::{Document, Mode, OnIndeterminate, Signer, Spec};
pub use glob::Matcher;
pub use identity::IdentityRule;

/// Largest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// A parsed and validated policy.
#[derive(Debug, Clone)]
pub struct Policy {
    document: Document,
}

/// Why a document is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message} (line {line}, column {column})")]
pub struct PolicyError {
    /// [`Code::PolInvalid`], or [`Code::PolExpired`].
    pub code: Code,
    /// From 1; 0 when the whole document is meant.
    pub line: u64,
    /// From 1; 0 when the whole document is meant.
    pub column: u64,
    /// The member, for example `spec.build.builders.atLeast`; `.` is the document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// For an unknown member: the known one that looks most like it.
    pub suggestion: Option<String>,
}

impl Policy {
    /// Reads a YAML or JSON document.
    pub fn parse(document: &str) -> Result<Self, PolicyError> {
        if document.len() > MAX_DOCUMENT {
            let message = format!("the document is longer than {MAX_DOCUMENT} bytes");
            return Err(PolicyError::new(message));
        }
        match short::expand(document)? {
            None => Self::read(document),
            Some(long) => Self::read(&long).map_err(|error| error.seen_in(document)),
        }
    }

    /// Reads a document that is written out.
    fn read(document: &str) -> Result<Self, PolicyError> {
        let parsed: Document = serde_saphyr::from_str_with_options(document, options())
            .map_err(|error| PolicyError::read(document, &error))?;
        let placed = |(path, message): (Vec<place::Step>, String)| {
            let (line, column) = place::of_path(document, &path);
            PolicyError { line, column, path: place::join(&path), ..PolicyError::new(message) }
        };
        let mut parsed = parsed;
        groups::resolve(&mut parsed.spec).map_err(placed)?;
        validate::check(&parsed).map_err(placed)?;
        if let Some(source) = &mut parsed.spec.source {
            let repository = &mut source.repository;
            repository.uri = validate::canonical(&repository.uri, None).map_err(placed)?;
            for (index, uri) in repository.formerly.iter_mut().enumerate() {
                *uri = validate::canonical(uri, Some(index)).map_err(placed)?;
            }
        }
        Ok(Self { document: parsed })
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.document.metadata.name
    }

    /// `metadata.expires`.
    pub fn expires(&self) -> Option<Timestamp> {
        self.document.metadata.expires
    }

    /// Reads a document that is to be saved at `now`: beyond [`Self::parse`], it is in force, its patterns are anchored and
    /// its thresholds can be reached. What is in a log already is read by `parse`, so that a new release does not disown it.
    pub fn publish(document: &str, now: Timestamp) -> Result<Self, PolicyError> {
        let policy = Self::parse(document)?;
        let refused = |path: &str, error: PolicyError| {
            let (line, column) = place::of_text(document, path);
            PolicyError { line, column, path: path.to_owned(), ..error }
        };
        if let Some(expires) = policy.expires().filter(|expires| *expires <= now) {
            let message = format!("the policy expired at {expires}: give a later time");
            let error = PolicyError { code: Code::PolExpired, ..PolicyError::new(message) };
            return Err(refused("metadata.expires", error));
        }
        // A member without a value is read as one that is not there: a section whose lines were commented out would ask nothing.
        if let Some(path) = place::empty(document) {
            let message = "there is no value: give one, or leave the member out";
            return Err(refused(&place::join(&path), PolicyError::new(message)));
        }
        match validate::check_new(policy.spec()) {
            Ok(()) => Ok(policy),
            Err((path, message)) => Err(refused(&place::join(&path), PolicyError::new(message))),
        }
    }

    /// `metadata.approvals`: how many others must approve before something takes the place of this policy.
    pub fn approvals(&self) -> u32 {
        self.document.metadata.approvals
    }

    /// Whether some question that `other` decides would be decided by this policy, as far as can be told: rather yes.
    pub fn overrides(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.spec().selects, &other.spec().selects);
        let environments = match (&mine.environments, &theirs.environments) {
            (Some(mine), Some(theirs)) => mine.iter().any(|environment| theirs.contains(environment)),
            _ => true,
        };
        let resources = mine.resources.iter().any(|a| theirs.resources.iter().any(|b| a.may_meet(b)));
        mine.priority > theirs.priority && environments && resources
    }

    /// The rules.
    pub fn spec(&self) -> &Spec {
        &self.document.spec
    }

    /// Whether the policy is for `resource` in `environment`.
    pub fn matches(&self, resource: &str, environment: Option<&str>) -> bool {
        let selects = &self.spec().selects;
        let here = match &selects.environments {
            None => true,
            Some(list) => environment.is_some_and(|environment| list.iter().any(|e| e == environment)),
        };
        here && glob::any(&selects.resources, resource)
    }

    /// Every key that a trust rule names for any role, revoked ones included, sorted, each once.
    pub fn signers(&self, control: &Control) -> Vec<KeyId> {
        let mut keys: Vec<KeyId> = self.rules().flat_map(|signer| signer.keys(control)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Every certificate identity that a trust rule names for any role.
    pub fn identities(&self) -> impl Iterator<Item = &IdentityRule> {
        self.rules().flat_map(Signer::identities)
    }

    fn rules(&self) -> impl Iterator<Item = &Signer> {
        let trust = &self.spec().trust;
        let tests = self.spec().negatives.tests.iter().map(|tests| &tests.signer);
        let speakers = self.spec().require.iter().map(|rule| &rule.signer).chain(tests);
        // Those that are named by the ids of builder rules are among these.
        let spoken = speakers.filter_map(|speaker| match speaker {
            property::Speaker::Signer(signer) => Some(signer),
            property::Speaker::AnyOf(_) => None,
        });
        (trust.builders.iter().map(|r| &r.signer))
            .chain(trust.sources.iter().map(|r| &r.signer))
            .chain(trust.registries.iter().map(|r| &r.signer))
            .chain(trust.runs.iter().map(|r| &r.signer))
            .chain(self.spec().layouts.iter().flat_map(|r| [&r.signer, &r.functionaries]))
            .chain(trust.verifiers.iter().map(|r| &r.signer))
            .chain(trust.vex.iter().map(|r| &r.signer))
            .chain(spoken)
    }
}

/// How documents are read: no member twice, no merge keys, `yes` is a text.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// `metadata.approvals` of a document that this engine cannot read otherwise.
pub(crate) fn approvals_of(document: &str) -> u32 {
    let asked = value(document).ok().and_then(|value| value["metadata"]["approvals"].as_u64());
    asked.map_or(0, |asked| u32::try_from(asked).unwrap_or(u32::MAX))
}

/// A document as a value, whatever it means.
fn value(document: &str) -> Result<serde_json::Value, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(document, options())
}

impl Signer {
    /// The certificate identities that the rule names.
    pub fn identities(&self) -> &[IdentityRule] {
        match self {
            Self::Identity(rule) => std::slice::from_ref(rule),
            Self::Any(group) => &group.identities,
            Self::Keys(_) | Self::Service(_) | Self::Group(_) => &[],
        }
    }

    /// The same, to add to them.
    fn identities_mut(&mut self) -> &mut [IdentityRule] {
        match self {
            Self::Identity(rule) => std::slice::from_mut(rule),
            Self::Any(group) => &mut group.identities,
            Self::Keys(_) | Self::Service(_) | Self::Group(_) => &mut [],
        }
    }

    /// The keys that the rule names, whether or not they count.
    pub fn keys(&self, control: &Control) -> Vec<KeyId> {
        match self {
            Self::Keys(keys) => keys.clone(),
            Self::Any(group) => group.keys.clone(),
            Self::Identity(_) => Vec::new(),
            Self::Group(name) => control.groups.get(name).map(|group| group.keys.clone()).unwrap_or_default(),
            Self::Service(name) => {
                let of_service = |state: &&crate::control::KeyState| state.key.service.as_ref() == Some(name);
                control.keys.values().filter(of_service).map(|state| state.key.id).collect()
            }
        }
    }

    /// Whether the rule names `key`.
    pub fn names(&self, key: &KeyId, control: &Control) -> bool {
        match self {
            Self::Keys(keys) => keys.contains(key),
            Self::Any(group) => group.keys.contains(key),
            Self::Identity(_) => false,
            Self::Group(name) => control.groups.get(name).is_some_and(|group| group.keys.contains(key)),
            Self::Service(name) => {
                control.keys.get(key).is_some_and(|state| state.key.service.as_ref() == Some(name))
            }
        }
    }
}

impl PolicyError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            code: Code::PolInvalid,
            line: 0,
            column: 0,
            path: ".".to_owned(),
            message: message.into(),
            suggestion: None,
        }
    }

    /// The same about the document that was written out: its places are those of what was sent.
    fn seen_in(mut self, document: &str) -> Self {
        (self.line, self.column) = place::of_text(document, &self.path);
        // The parser's own words end with a place in what was written out.
        if let Some((message, _)) = self.message.rsplit_once(" at line ") {
            self.message = message.to_owned();
        }
        self
    }

    /// Gives a parser's error its path and, for a misspelt member, the one that was probably meant.
    fn read(document: &str, error: &serde_saphyr::Error) -> Self {
        let error = error.without_snippet();
        let (line, column) = error.location().map_or((0, 0), |l| (l.line(), l.column()));
        let path = place::at(document, line, column);
        let (message, suggestion) = match error {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                let mut known = expected.to_vec();
                if path == format!("spec.{field}") {
                    known.extend(short::MEMBERS);
                }
                let suggestion = place::closest(field, &known);
                let meant = suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
                (format!("unknown member `{field}`{meant}"), suggestion)
            }
            serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
                (format!("the member `{}` is given twice", key.as_deref().unwrap_or("?")), None)
            }
            serde_saphyr::Error::SerdeMissingField { field, .. } => {
                (format!("the member `{field}` is missing"), None)
            }
            serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => {
                let suggestion = place::closest(variant, expected);
                let mend = match &suggestion {
                    Some(meant) => format!("; did you mean `{meant}`?"),
                    None if expected.len() > MANY => String::new(),
                    None => format!(", expected one of {}", expected.join(", ")),
                };
                (format!("there is no `{variant}`{mend}"), suggestion)
            }
            other => (plain(&other.to_string()), None),
        };
        Self { line, column, path, suggestion, ..Self::new(message) }
    }
}

/// More values than this are not listed in a message.
const MANY: usize = 16;

/// A parser's own words without the place, which is said beside them, and without the names of our types.
fn plain(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    match message.strip_prefix("invalid ").and_then(|kind| kind.strip_prefix(['u', 'i'])) {
        Some(bits) if bits.parse::<u8>().is_ok() => "not a whole number, or out of its range".to_owned(),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
