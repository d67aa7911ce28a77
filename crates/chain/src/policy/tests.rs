//! Documents that are read, and documents that are refused.

use super::*;

const KEY: &str = "sha256:4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c4f0c";

/// The sample of docs/rules.md 9.
fn sample() -> String {
    format!(
        r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: prod, owner: sec, expires: 2027-06-30T00:00:00Z}}
spec:
  mode: enforce
  onIndeterminate: deny
  match: {{resources: ["registry.acme.test/acme/*"], environments: [prod], priority: 100}}
  subject: {{kinds: [image-index, image-manifest], platforms: [linux/amd64, linux/arm64], extraPlatforms: deny}}
  trust:
    builders:
      - {{id: ci, domain: acme-ci, maxLevel: 3, selfHostedMax: 2, signer: {{key: "{KEY}"}}, builderId: {{exact: "https://ci.acme.test"}}, buildTypes: [generic, github-workflow], validFrom: 2026-01-01T00:00:00Z}}
    sources:    [{{id: vcs, signer: {{keys: ["{KEY}"]}}, maxLevel: 3}}]
    registries: [{{id: reg, signer: {{service: collector}}, repositories: ["registry.acme.test/**"]}}]
  build:
    minLevel: 2
    builders: {{atLeast: 1, of: [ci], distinct: domain, agreeOn: [source.commit]}}
    triggers: [push]
    params: {{unknown: deny, allow: {{"target": ["release"]}}}}
  source: {{repository: {{uri: "git+https://git.acme.test/acme/app", id: "4242"}}, refs: ["refs/heads/main"], minLevel: 0, unique: true, review: {{atLeast: 1}}, signatures: {{commit: {{required: true, keys: ["{KEY}"]}}}}}}
  inputs: [{{role: baseImage, allow: ["registry.acme.test/base/*"], digests: [], chain: true, depth: 4, pinned: required, undeclared: deny, tolerate: false}}]
  registry: {{path: ["registry.acme.test/acme/*"], promotedBy: [reg], hops: same-digest}}
  time: {{maxArtifactAge: 90d, skew: 120s, order: [source<build, build<push]}}
"#
    )
}

#[track_caller]
fn refused(from: &str, to: &str, path: &str) -> PolicyError {
    let document = sample().replace(from, to);
    assert_ne!(document, sample(), "`{from}` is not in the sample");
    let error = Policy::parse(&document).expect_err("the document must be refused");
    assert_eq!(error.path, path, "{error}");
    assert!(error.line > 0 && error.column > 0, "{error}");
    error
}

#[test]
fn the_sample_is_read() {
    let policy = Policy::parse(&sample()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(policy.name(), "prod");
    assert!(policy.matches("registry.acme.test/acme/app", Some("prod")));
    assert!(!policy.matches("registry.acme.test/acme/app", Some("dev")));
    assert!(!policy.matches("registry.acme.test/acme/app", None));
    assert!(!policy.matches("registry.acme.test/other/app", Some("prod")));
}

#[test]
fn a_json_document_is_read_too() {
    let json = format!(
        r#"{{"apiVersion":"catenary/v1","kind":"ChainPolicy","metadata":{{"name":"p"}},"spec":{{"match":{{"resources":["**"]}},
        "trust":{{"registries":[{{"id":"r","signer":{{"key":"{KEY}"}}}}]}},"registry":{{}}}}}}"#
    );
    assert!(Policy::parse(&json).is_ok_and(|p| p.matches("a/b", None)));
}

#[test]
fn p01_an_empty_policy_is_refused() {
    let document = "apiVersion: catenary/v1\nkind: ChainPolicy\nmetadata: {name: p}\nspec:\n  match: {resources: [\"**\"]}\n";
    let error = Policy::parse(document).expect_err("empty");
    assert_eq!((error.path.as_str(), error.line), ("spec", 5));
    assert!(Policy::parse("").is_err());
    assert!(Policy::parse("{}").is_err());
}

#[test]
fn p03_a_threshold_that_cannot_be_meant_is_refused() {
    refused("atLeast: 1, of", "atLeast: 0, of", "spec.build.builders.atLeast");
    refused("atLeast: 1, of", "atLeast: -1, of", "spec.build.builders.atLeast");
    refused("atLeast: 1, of", "atLeast: 2, of", "spec.build.builders.atLeast");
    refused("review: {atLeast: 1}", "review: {atLeast: 0}", "spec.source.review.atLeast");
}

#[test]
fn p04_a_misspelt_member_is_refused_with_its_place() {
    let error = refused("minLevel: 2", "minLevle: 2", "spec.build.minLevle");
    assert_eq!(error.suggestion.as_deref(), Some("minLevel"));
    assert_eq!((error.line, error.column), (15, 5));
    let error = refused("onIndeterminate: deny", "requried_builder: ci", "spec.requried_builder");
    assert_eq!(error.suggestion, None);
    for member in [
        "kinds:",
        "signer: {key",
        "refs:",
        "role:",
        "required:",
        "unknown:",
        "skew:",
        "promotedBy:",
        "environments:",
        "id: \"4242\"",
    ] {
        let misspelt = format!("x{member}");
        let document = sample().replacen(member, &misspelt, 1);
        assert!(Policy::parse(&document).is_err(), "{misspelt}");
    }
}

#[test]
fn a_member_given_twice_is_refused() {
    refused("  mode: enforce\n", "  mode: enforce\n  mode: warn\n", "spec.mode");
}

#[test]
fn rules_that_name_nothing_are_refused() {
    refused("of: [ci]", "of: [other]", "spec.build.builders.of[0]");
    refused("of: [ci]", "of: []", "spec.build.builders.of");
    refused("promotedBy: [reg]", "promotedBy: [other]", "spec.registry.promotedBy[0]");
    refused("refs: [\"refs/heads/main\"]", "refs: []", "spec.source.refs");
    refused("refs: [\"refs/heads/main\"]", "refs: [main]", "spec.source.refs[0]");
    refused("triggers: [push]", "triggers: []", "spec.build.triggers");
    refused("platforms: [linux/amd64, linux/arm64]", "platforms: []", "spec.subject.platforms");
    refused("maxLevel: 3, selfHostedMax", "maxLevel: 5, selfHostedMax", "spec.trust.builders[0].maxLevel");
    refused("name: prod", "name: Prod", "metadata.name");
    refused("kind: ChainPolicy", "kind: Policy", "kind");
    refused("pinned: required", "pinned: optional", "spec.inputs[0].pinned");
}

#[test]
fn a_signer_is_exactly_one_thing() {
    for signer in ["{}", "{keys: []}", "{service: collector, key: x}", "{service: \"\"}", "{key: ci}"] {
        let document = sample().replace("{service: collector}", signer);
        assert!(Policy::parse(&document).is_err(), "{signer}");
    }
}

#[test]
fn a_builder_id_matcher_is_exactly_one_thing() {
    for matcher in ["{}", "{exact: \"\"}", "{prefix: a, glob: b}", "{regex: \"(\"}", "{equals: a}"] {
        let document = sample().replace("{exact: \"https://ci.acme.test\"}", matcher);
        assert!(Policy::parse(&document).is_err(), "{matcher}");
    }
}

#[test]
fn a_duration_is_an_integer_and_a_unit() {
    for bad in ["90", "d", "-1d", "1.5h", "99999999999999d", "1w"] {
        let document = sample().replace("90d", &format!("\"{bad}\""));
        assert!(Policy::parse(&document).is_err(), "{bad}");
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (this, last) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        bomb.push_str(&format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 9].join(",")));
    }
    assert!(Policy::parse(&bomb).is_err());
    assert!(Policy::parse(&"[".repeat(100_000)).is_err());
    assert!(Policy::parse(&" ".repeat(MAX_DOCUMENT + 1)).is_err());
}

/// What was saved before is still read; what is saved now must say something.
#[test]
fn a_member_without_a_value_is_refused_when_it_is_saved() {
    let now = "2026-11-20T00:00:00Z".parse().unwrap();
    for (from, to, path) in [
        (
            "  registry: {path: [\"registry.acme.test/acme/*\"], promotedBy: [reg], hops: same-digest}\n",
            "  registry:\n",
            "spec.registry",
        ),
        ("triggers: [push]", "triggers:", "spec.build.triggers"),
        ("review: {atLeast: 1}", "review: ~", "spec.source.review"),
    ] {
        let document = sample().replace(from, to);
        assert_ne!(document, sample(), "{from}");
        assert!(Policy::parse(&document).is_ok(), "{path}");
        let error = Policy::publish(&document, now).expect_err(path);
        assert_eq!(error.path, path, "{error}");
        assert!(error.line > 0 && error.message.contains("leave the member out"), "{error}");
    }
}

#[test]
fn who_would_be_two_builders_alone_is_refused_when_it_is_saved() {
    let now = "2026-11-20T00:00:00Z".parse().unwrap();
    let second = |domain: &str, key: &str| {
        let rule = format!(
            "builders:\n      - {{id: b, domain: {domain}, maxLevel: 3, signer: {{keys: [\"{key}\"]}}, builderId: {{exact: \"https://b.test\"}}}}"
        );
        let k = if domain == "acme-ci" { 1 } else { 2 };
        sample()
            .replace("builders:\n", &format!("{rule}\n"))
            .replace("{atLeast: 1, of: [ci], ", &format!("{{atLeast: {k}, of: [ci, b], "))
    };
    let error = Policy::publish(&second("other", KEY), now).expect_err("one key, two domains");
    assert_eq!(error.path, "spec.trust.builders[1].signer", "{error}");
    assert!(error.message.contains("`b`"), "{error}");
    assert!(Policy::publish(&second("acme-ci", KEY), now).is_ok(), "one domain");
    let another = KEY.replace("4f0c", "4f0d");
    assert!(Policy::publish(&second("other", &another), now).is_ok(), "another key");
}

#[test]
fn what_was_probably_meant_is_said_of_ids_and_of_values_too() {
    let error = refused("of: [ci]", "of: [cI]", "spec.build.builders.of[0]");
    assert!(error.message.contains("did you mean `ci`?"), "{error}");
    let error = refused("of: [ci]", "of: [github]", "spec.build.builders.of[0]");
    assert!(error.message.contains("known are: ci"), "{error}");
    let error = refused("mode: enforce", "mode: enforced", "spec.mode");
    assert_eq!(error.suggestion.as_deref(), Some("enforce"), "{error}");
    let error = refused("atLeast: 1, of", "atLeast: 99999999999, of", "spec.build.builders.atLeast");
    assert!(error.message.contains("whole number") && !error.message.contains(" at line "), "{error}");
    let formerly = "id: \"4242\", formerly: [\"https://git.acme.test/acme/old\", old]";
    refused("id: \"4242\"", formerly, "spec.source.repository.formerly[1]");
}

#[test]
fn a_short_form_is_refused_where_it_is_wrong() {
    let short = |form: &str| {
        let document = format!(
            "apiVersion: catenary/v1\nkind: ChainPolicy\nspec:\n  github:\n    repo: acme/shop\n    {form}\n"
        );
        let error = Policy::parse(&document).expect_err(form);
        (error.path, error.line, error.suggestion)
    };
    assert_eq!(short("minlevel: 3"), ("spec.github.minlevel".into(), 6, Some("minLevel".into())));
    assert_eq!(short("refs: [main]"), ("spec.github.refs[0]".into(), 6, None));
}
