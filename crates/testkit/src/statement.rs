//! in-toto statements, written out member by member.

use serde_json::Value;

use crate::{dsse::Envelope, key::Key};

/// `_type` of Statement v1.
pub const V1: &str = "https://in-toto.io/Statement/v1";
/// `_type` of Statement v0.1.
pub const V0_1: &str = "https://in-toto.io/Statement/v0.1";

/// A subject: a name and any digests, in order, even the same algorithm twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `name`; absent when `None`.
    pub name: Option<String>,
    /// `digest`: algorithm and value.
    pub digests: Vec<(String, String)>,
}

impl Subject {
    /// A subject with one digest.
    pub fn new(name: &str, algorithm: &str, value: &str) -> Self {
        Self { name: Some(name.into()), digests: vec![(algorithm.into(), value.into())] }
    }

    /// A subject from `sha256:<hex>`.
    pub fn image(name: &str, digest: &str) -> Self {
        let (algorithm, value) = digest.split_once(':').expect("algorithm:hex");
        Self::new(name, algorithm, value)
    }

    /// Adds a digest.
    pub fn and(mut self, algorithm: &str, value: &str) -> Self {
        self.digests.push((algorithm.into(), value.into()));
        self
    }

    fn to_json(&self) -> String {
        let digests: Vec<String> = self
            .digests
            .iter()
            .map(|(algorithm, value)| format!("{}:{}", quoted(algorithm), quoted(value)))
            .collect();
        let name = self.name.as_ref().map(|name| format!("\"name\":{},", quoted(name))).unwrap_or_default();
        format!("{{{name}\"digest\":{{{}}}}}", digests.join(","))
    }
}

/// A statement that is being made.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// `_type`.
    pub kind: String,
    /// `subject`.
    pub subjects: Vec<Subject>,
    /// `predicateType`.
    pub predicate_type: String,
    /// `predicate`; absent when `None`.
    pub predicate: Option<Value>,
}

impl Statement {
    /// A Statement v1.
    pub fn new(predicate_type: &str, predicate: Value) -> Self {
        Self {
            kind: V1.into(),
            subjects: Vec::new(),
            predicate_type: predicate_type.into(),
            predicate: Some(predicate),
        }
    }

    /// Makes it a Statement v0.1.
    pub fn v0_1(mut self) -> Self {
        self.kind = V0_1.into();
        self
    }

    /// Adds a subject.
    pub fn subject(mut self, subject: Subject) -> Self {
        self.subjects.push(subject);
        self
    }

    /// Sets the subjects.
    pub fn with_subjects(mut self, subjects: Vec<Subject>) -> Self {
        self.subjects = subjects;
        self
    }

    /// The statement's exact text.
    pub fn to_json(&self) -> String {
        let subjects: Vec<String> = self.subjects.iter().map(Subject::to_json).collect();
        let predicate =
            self.predicate.as_ref().map(|value| format!(",\"predicate\":{value}")).unwrap_or_default();
        format!(
            "{{\"_type\":{},\"subject\":[{}],\"predicateType\":{}{predicate}}}",
            quoted(&self.kind),
            subjects.join(","),
            quoted(&self.predicate_type),
        )
    }

    /// The statement in an envelope with one honest signature.
    pub fn signed_by(&self, key: &Key) -> Envelope {
        Envelope::statement(self.to_json()).signed_by(key)
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_is_exact_and_in_the_order_of_the_specification() {
        let statement = Statement::new("p", json!({"a": 1}))
            .subject(Subject::new("n", "sha256", "00").and("sha256", "11"));
        assert_eq!(
            statement.to_json(),
            r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"n","digest":{"sha256":"00","sha256":"11"}}],"predicateType":"p","predicate":{"a":1}}"#
        );
    }
}
