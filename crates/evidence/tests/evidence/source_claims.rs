//! What is said of commits and tags: source summaries, and the predicates of the SLSA source tool with their drifts.

use catenary_evidence::{
    Refusal,
    attestation::{Attestation, verify},
    predicate::{Claim, SourceProvenance, TagProvenance},
};
use serde_json::{Value, json};

use crate::common::{COMMIT, IMAGE, Signer, bytes, envelope, ring};

const BEFORE: &str = "0123456789abcdef0123456789abcdef01234567";

fn accept(statement: &Value) -> Result<Attestation, Refusal> {
    let signer = Signer::ed25519();
    verify(&envelope(&bytes(statement), &signer), &ring(&[&signer]))
}

fn about(predicate_type: &str, predicate: Value) -> Value {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"gitCommit": COMMIT}}],
        "predicateType": predicate_type, "predicate": predicate})
}

fn summary(annotations: Value) -> Value {
    let mut statement = about(
        "https://slsa.dev/verification_summary/v1",
        json!({
            "verifier": {"id": "https://verify.acme.test"}, "timeVerified": "2026-11-20T10:00:00Z",
            "resourceUri": "git+https://git.acme.test/acme/app", "policy": {"uri": "p"},
            "verificationResult": "PASSED", "verifiedLevels": ["SLSA_SOURCE_LEVEL_3", "TAG_HYGIENE", "SLSA_SOURCE_TWO_PARTY_REVIEWED"]}),
    );
    statement["subject"][0]["annotations"] = annotations;
    statement
}

fn refs(annotations: Value) -> Vec<String> {
    accept(&summary(annotations)).unwrap().subjects[0].source_refs.clone()
}

#[test]
fn the_refs_of_a_source_summary_are_read_in_every_spelling() {
    for member in ["sourceRefs", "source_refs", "source_branches"] {
        assert_eq!(
            refs(json!({member: ["refs/heads/main", "refs/tags/v1"]})),
            ["refs/heads/main", "refs/tags/v1"],
            "{member}"
        );
    }
    assert_eq!(
        refs(json!({"sourceRefs": ["refs/heads/main"], "source_refs": ["refs/heads/main"]})),
        ["refs/heads/main"]
    );
    let Claim::Summary(summary) = accept(&summary(json!({}))).unwrap().claim else { panic!() };
    assert_eq!(summary.levels["SOURCE"], 3);
    assert_eq!(summary.properties, ["TAG_HYGIENE", "SLSA_SOURCE_TWO_PARTY_REVIEWED"]);
}

#[test]
fn refs_that_disagree_or_are_none_are_no_refs() {
    for annotations in [
        Value::Null,
        json!("refs/heads/main"),
        json!([]),
        json!({}),
        json!({"sourceRefs": "refs/heads/main"}),
        json!({"sourceRefs": ["refs/heads/main", 7]}),
        json!({"sourceRefs": ["main", "heads/main", ""]}),
        json!({"SourceRefs": ["refs/heads/main"]}),
        json!({"sourceRefs": ["refs/heads/main"], "source_refs": ["refs/heads/evil"]}),
    ] {
        assert_eq!(refs(annotations.clone()), [""; 0], "{annotations}");
    }
    let many: Vec<String> = (0..257).map(|n| format!("refs/heads/{n}")).collect();
    assert_eq!(accept(&summary(json!({"sourceRefs": many}))).unwrap_err().code(), "ATT_TOO_LARGE");
    assert_eq!(
        accept(&summary(json!({"sourceRefs": [format!("refs/{}", "x".repeat(1020))]}))).unwrap_err().code(),
        "ATT_TOO_LARGE"
    );
}

fn source(predicate: Value) -> SourceProvenance {
    let kind = "https://github.com/slsa-framework/slsa-source-poc/source-provenance/v1-draft";
    match accept(&about(kind, predicate)).unwrap().claim {
        Claim::SourceProvenance(source) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn source_provenance_is_read_in_snake_case_and_in_camel_case() {
    let controls = json!([{"name": "SLSA_SOURCE_SCS_CONTINUITY", "since": "2025-01-26T02:23:18.106Z"}, {"name": "TAG_HYGIENE"}]);
    let snake = source(
        json!({"activity_type": "pr_merge", "actor": "ann", "branch": "refs/heads/main", "controls": controls,
        "created_on": "2025-08-03T01:08:09Z", "prev_commit": BEFORE, "repo_uri": "https://git.acme.test/acme/app.git"}),
    );
    let camel = source(
        json!({"activityType": "pr_merge", "actor": "ann", "branch": "refs/heads/main", "controls": controls,
        "createdOn": "2025-08-03T01:08:09Z", "prevCommit": BEFORE, "repoUri": "https://git.acme.test/acme/app"}),
    );
    assert_eq!(snake, camel);
    assert_eq!(snake.repository.as_deref(), Some("git+https://git.acme.test/acme/app"));
    assert_eq!(snake.previous.unwrap().to_hex(), BEFORE);
    assert_eq!(snake.controls[0].name, "SLSA_SOURCE_SCS_CONTINUITY");
    assert!(snake.controls[0].since.is_some() && snake.controls[1].since.is_none());
}

#[test]
fn a_member_in_both_spellings_is_refused() {
    let kind = "https://github.com/slsa-framework/slsa-source-poc/source-provenance/v1-draft";
    let both = about(
        kind,
        json!({"repo_uri": "https://git.acme.test/acme/app", "repoUri": "https://git.acme.test/evil/app"}),
    );
    assert_eq!(accept(&both).unwrap_err().code(), "PREDICATE_INVALID");
    let mut both = about(kind, json!({}));
    both["predicate_type"] = json!("https://slsa.dev/verification_summary/v1");
    assert_eq!(accept(&both).unwrap_err().code(), "ATT_MALFORMED");
}

#[test]
fn the_first_commit_of_a_ref_has_none_before_it() {
    for none in [json!({}), json!({"prev_commit": ""}), json!({"prev_commit": "0".repeat(40)})] {
        assert_eq!(source(none).previous, None);
    }
    let kind = "https://github.com/slsa-framework/slsa-source-poc/source-provenance/v1-draft";
    let refusal = accept(&about(kind, json!({"prev_commit": "main"}))).unwrap_err();
    assert_eq!(refusal.pointer(), Some("/predicate/prev_commit"));
    let mut image = about(kind, json!({}));
    image["subject"] = json!([{"digest": {"sha256": IMAGE}}]);
    assert_eq!(accept(&image).unwrap_err().pointer(), Some("/subject/0/digest"));
}

#[test]
fn the_first_source_provenance_has_levels_for_controls_and_is_a_statement_in_snake_case() {
    let statement = json!({"type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"gitCommit": COMMIT}}],
        "predicate_type": "https://github.com/slsa-framework/slsa-source-poc/source-provenance/v1",
        "predicate": {"prev_commit": BEFORE, "properties": {"SLSA_SOURCE_LEVEL_2": {"since": "2025-02-13T17:47:15Z"}}}});
    let attestation = accept(&statement).unwrap();
    assert_eq!(
        attestation.predicate_type,
        "https://github.com/slsa-framework/slsa-source-poc/source-provenance/v1"
    );
    let Claim::SourceProvenance(source) = attestation.claim else { panic!() };
    assert_eq!((source.controls[0].name.as_str(), source.repository), ("SLSA_SOURCE_LEVEL_2", None));
    let mut other = statement;
    other["type"] = json!("https://in-toto.io/Statement/v9");
    assert_eq!(accept(&other).unwrap_err().code(), "ATT_STATEMENT_TYPE");
}

#[test]
fn a_predicate_without_a_statement_is_refused_and_said_to_be_one() {
    let bare = json!({"commit": COMMIT, "prev_commit": BEFORE, "properties": {}});
    let refusal = accept(&bare).unwrap_err();
    assert_eq!(refusal.code(), "ATT_MALFORMED");
    assert!(refusal.to_string().contains("no in-toto statement"), "{refusal}");
    for member in ["_type", "predicateType", "subject"] {
        let mut statement = summary(json!({}));
        statement.as_object_mut().unwrap().remove(member);
        let refusal = accept(&statement).unwrap_err();
        assert!(refusal.to_string().contains(&format!("missing field `{member}`")), "{refusal}");
    }
}

fn tag(predicate: Value) -> Result<TagProvenance, Refusal> {
    let kind = "https://github.com/slsa-framework/slsa-source-poc/tag-provenance/v1-draft";
    accept(&about(kind, predicate)).map(|attestation| match attestation.claim {
        Claim::TagProvenance(tag) => tag,
        other => panic!("{other:?}"),
    })
}

#[test]
fn tag_provenance_repeats_what_summaries_said_and_is_none() {
    let summaries = json!([{"source_refs": ["refs/heads/main"], "verifiedLevels": ["SLSA_SOURCE_LEVEL_3"]}]);
    let snake = tag(json!({"actor": "ann", "controls": [{"name": "TAG_HYGIENE", "since": "2025-02-25T17:27:49Z"}],
        "created_on": "2025-08-03T02:04:20Z", "repo_uri": "https://git.acme.test/acme/app", "tag": "refs/tags/v1", "vsa_summaries": summaries}))
    .unwrap();
    let camel = tag(json!({"actor": "ann", "controls": [{"name": "TAG_HYGIENE", "since": "2025-02-25T17:27:49Z"}],
        "createdOn": "2025-08-03T02:04:20Z", "repoUri": "https://git.acme.test/acme/app", "tag": "refs/tags/v1",
        "vsaSummaries": [{"sourceRefs": ["refs/heads/main"], "verified_levels": ["SLSA_SOURCE_LEVEL_3"]}]}))
    .unwrap();
    assert_eq!(snake, camel);
    assert_eq!((snake.tag.as_str(), snake.summaries[0].verified_levels.len()), ("refs/tags/v1", 1));
    assert_eq!(tag(json!({"tag": ""})).unwrap_err().pointer(), Some("/predicate/tag"));
    assert_eq!(tag(json!({})).unwrap_err().code(), "PREDICATE_INVALID");
}
