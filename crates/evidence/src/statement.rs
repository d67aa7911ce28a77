//! in-toto statements: `_type`, subjects and the predicate, which [`crate::predicate`] reads.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    digest::{Digest, GitOid, Node},
    dsse::within,
    json::{self, JsonError, JsonFault},
    limits::{MAX_DIGESTS, MAX_LEVELS, MAX_SUBJECTS, MAX_TEXT},
    refusal::Refusal,
};

/// The statement type of in-toto attestation framework v1.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";

/// The statement type before it; its members are the same.
pub const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";

/// A statement whose form was checked. The predicate is still text.
#[derive(Debug)]
pub struct Statement<'p> {
    /// `predicateType`, byte for byte.
    pub predicate_type: String,
    /// At least one.
    pub subjects: Vec<Subject>,
    /// The predicate's text, a slice of the payload.
    pub predicate: Option<&'p RawValue>,
}

/// One subject of a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The producer's name for it: shown, never decided on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is.
    pub digests: DigestSet,
    /// The refs that a source summary says it is about (`annotations.sourceRefs`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_refs: Vec<String>,
}

/// An in-toto DigestSet, sorted into the spaces of chain-model 1.1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestSet {
    /// `sha256`, `sha384`, `sha512`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<Digest>,
    /// `gitCommit`, `gitTree`, `gitTag`, `gitBlob` (and `sha1` of a git-shaped dependency).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git: Vec<GitOid>,
    /// Names of algorithms that no rule accepts (`sha1`, `md5`, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

impl DigestSet {
    /// Every node that the set names.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        let content = self.content.iter().copied().map(Node::Content);
        content.chain(self.git.iter().copied().map(Node::Git))
    }
}

/// The statement on the wire. Other members are ignored (in-toto's monotonic principle). The first statements of the SLSA
/// source tool write `type` and `predicate_type`.
#[derive(Deserialize)]
struct Wire<'p> {
    #[serde(rename = "_type", borrow)]
    kind: Option<Cow<'p, str>>,
    #[serde(rename = "type", borrow)]
    early_kind: Option<&'p RawValue>,
    subject: Option<Vec<WireSubject<'p>>>,
    #[serde(rename = "predicateType", borrow)]
    predicate_type: Option<Cow<'p, str>>,
    #[serde(rename = "predicate_type", borrow)]
    early_predicate_type: Option<Cow<'p, str>>,
    #[serde(default, borrow)]
    predicate: Option<&'p RawValue>,
}

#[derive(Deserialize)]
struct WireSubject<'p> {
    #[serde(default, borrow)]
    name: Option<Cow<'p, str>>,
    #[serde(default)]
    digest: WireDigests,
    #[serde(default, borrow)]
    annotations: Option<&'p RawValue>,
}

/// A DigestSet on the wire.
pub(crate) type WireDigests = BTreeMap<String, String>;

impl<'p> Statement<'p> {
    /// Reads a statement from a payload that [`json::check`] has passed.
    pub fn read(payload: &'p str) -> Result<Self, Refusal> {
        let wire: Wire<'p> = json::read(payload).map_err(Refusal::Payload)?;
        let early: Option<Cow<'p, str>> =
            wire.early_kind.and_then(|kind| serde_json::from_str::<String>(kind.get()).ok()).map(Cow::Owned);
        // A member called `type` beside `_type` is some other member.
        let kind = wire.kind.or(early);
        let predicate_type = match (wire.predicate_type, wire.early_predicate_type) {
            (Some(_), Some(_)) => return Err(misses("it has both `predicateType` and `predicate_type`")),
            (one, other) => one.or(other),
        };
        let (kind, predicate_type) = match (kind, predicate_type) {
            (Some(kind), Some(predicate_type)) => (kind, predicate_type),
            (None, None) => {
                return Err(misses(
                    "no in-toto statement: there is neither `_type` nor `predicateType`; a predicate alone is about nothing",
                ));
            }
            (None, _) => return Err(misses("missing field `_type`")),
            (_, None) => return Err(misses("missing field `predicateType`")),
        };
        if ![STATEMENT_V1, STATEMENT_V01].contains(&kind.as_ref()) {
            return Err(Refusal::StatementType { found: json::shorten(&kind).into_owned() });
        }
        let Some(subject) = wire.subject else { return Err(misses("missing field `subject`")) };
        bounded("predicateType", &predicate_type)?;
        if subject.is_empty() {
            return Err(Refusal::NoSubject);
        }
        within("subjects", subject.len(), MAX_SUBJECTS)?;
        let subjects =
            subject.iter().enumerate().map(|(i, s)| read_subject(i, s)).collect::<Result<_, _>>()?;
        Ok(Self { predicate_type: predicate_type.into_owned(), subjects, predicate: wire.predicate })
    }
}

/// Checks the length of a text that is kept in an index.
fn bounded(what: &'static str, text: &str) -> Result<(), Refusal> {
    match text.len() {
        size if size > MAX_TEXT => Err(Refusal::TooLarge { what, size, limit: MAX_TEXT }),
        _ => Ok(()),
    }
}

/// A payload that is JSON and no statement.
fn misses(why: &str) -> Refusal {
    let fault = JsonFault::Shape(why.to_owned());
    Refusal::Payload(JsonError { fault, pointer: String::new(), line: 1, column: 1 })
}

fn read_subject(position: usize, wire: &WireSubject<'_>) -> Result<Subject, Refusal> {
    let name = wire.name.as_deref().unwrap_or_default();
    bounded("the name of a subject", name)?;
    if wire.digest.is_empty() {
        return Err(Refusal::SubjectNoDigest { position });
    }
    let digests = DigestSet::read(&wire.digest, false, &format!("/subject/{position}/digest"))?;
    let source_refs = match wire.annotations {
        Some(annotations) => source_refs(annotations.get())?,
        None => Vec::new(),
    };
    Ok(Subject { name: name.to_owned(), digests, source_refs })
}

/// The refs of a source summary's subject. The specification says `sourceRefs`, its producer wrote `source_branches` and
/// then `source_refs`; two spellings that disagree say nothing. Only full refs are refs.
fn source_refs(annotations: &str) -> Result<Vec<String>, Refusal> {
    /// Annotations are anybody's: what is no list of texts is something else.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Refs {
        List(Vec<String>),
        Else(IgnoredAny),
    }
    #[derive(Deserialize)]
    struct Annotations {
        #[serde(rename = "sourceRefs")]
        specified: Option<Refs>,
        source_refs: Option<Refs>,
        source_branches: Option<Refs>,
    }
    let Ok(wire) = json::loose::<Annotations>(annotations) else { return Ok(Vec::new()) };
    let spellings = [wire.specified, wire.source_refs, wire.source_branches];
    let mut lists = spellings.into_iter().filter_map(|refs| match refs {
        Some(Refs::List(list)) => Some(list),
        Some(Refs::Else(_)) | None => None,
    });
    let Some(mut refs) = lists.next() else { return Ok(Vec::new()) };
    if lists.any(|other| other != refs) {
        return Ok(Vec::new());
    }
    within("source refs", refs.len(), MAX_LEVELS)?;
    refs.retain(|reference| reference.starts_with("refs/"));
    for reference in &refs {
        bounded("a source ref", reference)?;
    }
    Ok(refs)
}

impl DigestSet {
    /// Sorts a DigestSet into its spaces. `git_shaped`: the descriptor's URI names a git repository, so that
    /// `sha1` is the id of a commit (chain-model 1.1); never so for a subject.
    pub(crate) fn read(wire: &WireDigests, git_shaped: bool, pointer: &str) -> Result<Self, Refusal> {
        within("digests of one set", wire.len(), MAX_DIGESTS)?;
        let mut set = Self::default();
        for (algorithm, value) in wire {
            let malformed = |why: String| {
                let member = json::shorten(algorithm).replace('~', "~0").replace('/', "~1");
                Refusal::DigestMalformed { pointer: format!("{pointer}/{member}"), why }
            };
            if let Some(known) = misspelt(algorithm) {
                return Err(malformed(format!("the algorithm is written `{known}`")));
            }
            if let Some(digest) = Digest::from_set(algorithm, value) {
                set.content.push(digest.map_err(|e| malformed(e.to_string()))?);
            } else if GIT.contains(&algorithm.as_str()) || (git_shaped && algorithm == "sha1") {
                let oid = GitOid::from_hex(value).map_err(|e| malformed(e.to_string()))?;
                if !set.git.contains(&oid) {
                    set.git.push(oid);
                }
            } else if value.is_empty() {
                return Err(malformed("an empty digest names nothing".into()));
            } else {
                bounded("the name of a digest algorithm", algorithm)?;
                set.ignored.push(algorithm.clone());
            }
        }
        Ok(set)
    }
}

/// Object ids of git. An id hashes the object's type too, so that a tree never equals a commit.
const GIT: [&str; 4] = ["gitCommit", "gitTree", "gitTag", "gitBlob"];

/// The name of a known algorithm that `text` spells in another case (S09): never guessed, never ignored.
fn misspelt(text: &str) -> Option<&'static str> {
    let known = ["sha256", "sha384", "sha512", "sha1"];
    known.into_iter().chain(GIT).find(|known| *known != text && known.eq_ignore_ascii_case(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(digest: &str) -> Result<Vec<Subject>, Refusal> {
        let text = format!(
            r#"{{"_type":"{STATEMENT_V1}","subject":[{{"name":"app","digest":{digest}}}],"predicateType":"x"}}"#
        );
        Statement::read(&text).map(|s| s.subjects)
    }

    #[test]
    fn s01_only_statement_v1_and_v01_are_read() {
        for (kind, good) in [
            (STATEMENT_V1, true),
            (STATEMENT_V01, true),
            ("https://in-toto.io/Statement/v9", false),
            ("https://in-toto.io/Statement/v1/", false),
            ("", false),
        ] {
            let text = format!(
                r#"{{"_type":"{kind}","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"x"}}"#,
                "ab".repeat(32)
            );
            assert_eq!(Statement::read(&text).is_ok(), good, "{kind}");
        }
    }

    #[test]
    fn s04_an_empty_subject_list_is_refused() {
        let text = format!(r#"{{"_type":"{STATEMENT_V1}","subject":[],"predicateType":"x"}}"#);
        assert_eq!(Statement::read(&text).unwrap_err(), Refusal::NoSubject);
        assert_eq!(read("{}").unwrap_err(), Refusal::SubjectNoDigest { position: 0 });
        let absent = format!(r#"{{"_type":"{STATEMENT_V1}","predicateType":"x"}}"#);
        assert_eq!(Statement::read(&absent).unwrap_err().code(), "ATT_MALFORMED");
    }

    #[test]
    fn s06_wildcard_blank_and_zero_digests_are_refused() {
        for value in ["*", "", &"0".repeat(64)] {
            let refusal = read(&format!(r#"{{"sha256":"{value}"}}"#)).unwrap_err();
            assert_eq!(refusal.code(), "DIGEST_MALFORMED", "{value}");
            assert_eq!(refusal.pointer(), Some("/subject/0/digest/sha256"));
        }
        assert!(read(r#"{"md5":""}"#).is_err());
    }

    #[test]
    fn s07_a_subject_with_only_weak_digests_is_kept_and_names_nothing() {
        let subjects = read(r#"{"sha1":"da39a3ee5e6b4b0d3255bfef95601890afd80709","md5":"aa"}"#).unwrap();
        assert_eq!(subjects[0].digests.nodes().count(), 0);
        assert_eq!(subjects[0].digests.ignored, ["md5", "sha1"]);
    }

    #[test]
    fn s09_a_digest_has_one_spelling() {
        let good = "ab".repeat(32);
        assert!(read(&format!(r#"{{"sha256":"{good}"}}"#)).is_ok());
        for bad in [
            format!(r#"{{"sha256":"{}"}}"#, good.to_uppercase()),
            format!(r#"{{"sha256":" {good}"}}"#),
            format!(r#"{{"sha256":"{}"}}"#, &good[1..]),
            format!(r#"{{"sha256":"{good}a"}}"#),
            format!(r#"{{"sha256":"0x{}"}}"#, &good[2..]),
            format!(r#"{{"SHA256":"{good}"}}"#),
            format!(r#"{{"gitcommit":"{good}"}}"#),
            format!(r#"{{"sha256 ":"{good}"}}"#),
        ] {
            assert_eq!(read(&bad).unwrap_err().code(), "DIGEST_MALFORMED", "{bad}");
        }
    }

    #[test]
    fn subjects_are_limited_at_1024_and_one_over_is_refused() {
        let with = |n: usize| {
            let one = format!(r#"{{"digest":{{"sha256":"{}"}}}}"#, "ab".repeat(32));
            let list = vec![one; n].join(",");
            Statement::read(&format!(
                r#"{{"_type":"{STATEMENT_V1}","subject":[{list}],"predicateType":"x"}}"#
            ))
            .map(|s| s.subjects.len())
        };
        assert_eq!(with(MAX_SUBJECTS), Ok(MAX_SUBJECTS));
        assert!(matches!(with(MAX_SUBJECTS + 1), Err(Refusal::TooMany { .. })));
    }

    #[test]
    fn a_name_is_limited_at_1_kib_and_one_over_is_refused() {
        let with = |n: usize| {
            let (name, digest) = ("n".repeat(n), "ab".repeat(32));
            let text = format!(
                r#"{{"_type":"{STATEMENT_V1}","subject":[{{"name":"{name}","digest":{{"sha256":"{digest}"}}}}],"predicateType":"x"}}"#
            );
            Statement::read(&text).map(|_| ())
        };
        assert!(with(MAX_TEXT).is_ok());
        assert!(matches!(with(MAX_TEXT + 1), Err(Refusal::TooLarge { .. })));
    }
}
