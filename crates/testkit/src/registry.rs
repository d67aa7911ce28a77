//! `urn:catenary:predicate:registry-event:v1`: a push or a promotion, as the collector saw it.

use serde_json::{Map, Value, json};

use crate::{
    statement::{Statement, Subject},
    time::rfc3339,
};

/// The predicate type.
pub const PREDICATE_TYPE: &str = "urn:catenary:predicate:registry-event:v1";

/// A registry statement that is being made.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryEvidence {
    /// The manifest, `sha256:<hex>`: the subject.
    pub digest: String,
    /// Other subjects.
    pub extra_subjects: Vec<Subject>,
    /// `push` or `promote`.
    pub event: String,
    /// The registry's host, with port when it has one.
    pub registry: String,
    /// The repository in it.
    pub repository: String,
    /// `tag`.
    pub tag: Option<String>,
    /// `previousDigest`.
    pub previous_digest: Option<String>,
    /// `mediaType`.
    pub media_type: String,
    /// `actor.name`.
    pub actor: String,
    /// `occurredAt`, Unix seconds.
    pub occurred_at: i64,
    /// `observedAt`, Unix seconds.
    pub observed_at: i64,
    /// `source.eventId`.
    pub event_id: String,
    /// `promotion`: `registry/repository` and digest.
    pub promotion: Option<(String, String)>,
    /// Members that the predicate does not define.
    pub extra: Map<String, Value>,
}

impl RegistryEvidence {
    /// A push of `digest` to `registry/repository`.
    pub fn push(resource: &str, digest: &str, occurred_at: i64) -> Self {
        let (registry, repository) = resource.split_once('/').expect("registry/repository");
        Self {
            digest: digest.into(),
            extra_subjects: Vec::new(),
            event: "push".into(),
            registry: registry.into(),
            repository: repository.into(),
            tag: None,
            previous_digest: None,
            media_type: crate::oci::OCI_INDEX.into(),
            actor: "ci".into(),
            occurred_at,
            observed_at: occurred_at + 1,
            event_id: format!(
                "event-{}",
                &crate::sha256_hex(format!("{resource}{digest}{occurred_at}").as_bytes())[..12]
            ),
            promotion: None,
            extra: Map::new(),
        }
    }

    /// A promotion of `digest` from one `registry/repository` to another.
    pub fn promote(from: &str, to: &str, digest: &str, occurred_at: i64) -> Self {
        let mut event = Self::push(to, digest, occurred_at);
        event.event = "promote".into();
        event.promotion = Some((from.into(), digest.into()));
        event
    }

    /// `registry/repository`.
    pub fn resource(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The predicate.
    pub fn predicate(&self) -> Value {
        let mut value = json!({
            "event": self.event,
            "registry": self.registry,
            "repository": self.repository,
            "mediaType": self.media_type,
            "actor": {"name": self.actor, "authn": "registry-reported"},
            "client": {"useragent": "buildkit/v0.32", "addr": "10.0.0.7"},
            "occurredAt": rfc3339(self.occurred_at),
            "observedAt": rfc3339(self.observed_at),
            "source": {"kind": "distribution-notification", "eventId": self.event_id},
            "verified": {"manifestFetched": true, "digestMatches": true},
        });
        if let Some(tag) = &self.tag {
            value["tag"] = tag.as_str().into();
        }
        if let Some(previous) = &self.previous_digest {
            value["previousDigest"] = previous.as_str().into();
        }
        if let Some((from, digest)) = &self.promotion {
            value["promotion"] = json!({"from": from, "fromDigest": digest});
        }
        for (name, extra) in &self.extra {
            value[name] = extra.clone();
        }
        value
    }

    /// The statement.
    pub fn statement(&self) -> Statement {
        let mut subjects = vec![Subject::image(&self.resource(), &self.digest)];
        subjects.extend(self.extra_subjects.iter().cloned());
        Statement::new(PREDICATE_TYPE, self.predicate()).with_subjects(subjects)
    }
}
