//! `urn:catenary:predicate:commit:v1`: who moved which ref to a commit, and what was checked.

use serde_json::{Map, Value, json};

use crate::{
    statement::{Statement, Subject},
    time::rfc3339,
};

/// The predicate type.
pub const PREDICATE_TYPE: &str = "urn:catenary:predicate:commit:v1";

/// A person or robot at a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Login.
    pub name: String,
    /// The forge's id.
    pub id: Option<String>,
}

impl Actor {
    /// An actor with an id.
    pub fn new(name: &str, id: &str) -> Self {
        Self { name: name.into(), id: Some(id.into()) }
    }

    fn to_value(&self) -> Value {
        match &self.id {
            Some(id) => json!({"name": self.name, "id": id}),
            None => json!({"name": self.name}),
        }
    }
}

/// A review.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The revision that the approvers saw, hex.
    pub approved_revision: String,
    /// Who approved.
    pub approvers: Vec<Actor>,
}

/// What the collector found on the commit object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSignature {
    /// `ssh`, `openpgp`, `x509`.
    pub method: String,
    /// Whose key it is.
    pub principal: Option<String>,
    /// The key's id.
    pub key_id: Option<String>,
}

/// A commit statement that is being made.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitEvidence {
    /// The commit, hex: the subject's `gitCommit`.
    pub commit: String,
    /// Other subjects.
    pub extra_subjects: Vec<Subject>,
    /// `repository.uri`.
    pub repository: String,
    /// `repository.id`.
    pub repository_id: Option<String>,
    /// `ref`.
    pub reference: String,
    /// `previous`.
    pub previous: Option<String>,
    /// `updatedAt`, Unix seconds.
    pub updated_at: i64,
    /// `actor`.
    pub actor: Option<Actor>,
    /// `review`.
    pub review: Option<Review>,
    /// `signature`.
    pub signature: Option<CommitSignature>,
    /// Members that the predicate does not define.
    pub extra: Map<String, Value>,
}

impl CommitEvidence {
    /// The predicate.
    pub fn predicate(&self) -> Value {
        let mut value = json!({
            "repository": {"uri": self.repository},
            "ref": self.reference,
            "updatedAt": rfc3339(self.updated_at),
        });
        if let Some(id) = &self.repository_id {
            value["repository"]["id"] = id.as_str().into();
        }
        if let Some(previous) = &self.previous {
            value["previous"] = previous.as_str().into();
        }
        if let Some(actor) = &self.actor {
            value["actor"] = actor.to_value();
        }
        if let Some(review) = &self.review {
            let approvers: Vec<Value> = review.approvers.iter().map(Actor::to_value).collect();
            value["review"] = json!({"approvedRevision": review.approved_revision, "approvers": approvers});
        }
        if let Some(signature) = &self.signature {
            let mut found = json!({"method": signature.method});
            if let Some(principal) = &signature.principal {
                found["principal"] = principal.as_str().into();
            }
            if let Some(key_id) = &signature.key_id {
                found["keyId"] = key_id.as_str().into();
            }
            value["signature"] = found;
        }
        for (name, extra) in &self.extra {
            value[name] = extra.clone();
        }
        value
    }

    /// The statement.
    pub fn statement(&self) -> Statement {
        let name = self.repository.as_str();
        let mut subjects = vec![Subject::new(name, "gitCommit", &self.commit)];
        subjects.extend(self.extra_subjects.iter().cloned());
        Statement::new(PREDICATE_TYPE, self.predicate()).with_subjects(subjects)
    }
}
