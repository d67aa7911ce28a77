//! Documents as they are found in clusters, carried over and read by the parser that decides.

use jiff::Timestamp;

use super::*;
use crate::policy::{Mode, Policy, Signer, lint::lint, property::Speaker};

const ONE: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbcvUkKuTokhRfzJySVsh6jXekUWD
Nnp5cVuiGagRCJop8cEcRvG24dr7yFVBJCLeoW+hiJ5E5rblsuwMauSTFA==
-----END PUBLIC KEY-----";
const TWO: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7feaHThF3cqvVWqx6tmlkciUPZBF
SmeobkBaX0kMxDMD1fdl1ivFlqaM8XclP00+aNOW3hs21VPVnR3FEzxv0A==
-----END PUBLIC KEY-----";
const THREE: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0tngJlypU3OVEBJLdNKgEu7bD+Aa
A7hM7ldaoP2pcSs6+oYnby7lFgtu+INA3gSnEF25SFHExATgqaVzXeBWng==
-----END PUBLIC KEY-----";
const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEZ4h17hHc2Q3o6nY0/U2arTXPbhF0USa/
UfpQYkHFMDiufnXoC5mSGGFOnb1ZYwKV9hH51hzsoFnUbUMJXd5C2VRfTPAL5dkH
XWmsMf56rVlQxaSH4/LKCon9qa8E6QZw
-----END PUBLIC KEY-----";

fn now() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

/// Imports, and has everything that comes out linted by the real parser.
fn imported(text: &str) -> Imported {
    let out = import(text, None, &[], now()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for written in &out.policies {
        let errors = lint(&written.document, now())
            .into_iter()
            .filter(|f| f.severity == crate::reason::Severity::Error);
        assert_eq!(errors.collect::<Vec<_>>(), [], "{}", written.document);
    }
    out
}

fn policy(out: &Imported) -> Policy {
    assert_eq!(out.policies.len(), 1);
    Policy::parse(&out.policies[0].document).unwrap()
}

/// `path` of everything that was not carried over; `!` when a rule refuses every image because of it.
fn missing(out: &Imported) -> Vec<String> {
    let told = |item: &Unsupported| format!("{}{}", item.path, if item.deny.is_some() { "!" } else { "" });
    out.unsupported.iter().map(told).collect()
}

/// Of each rule: its kinds, its number of keys and of names, and how many must have signed.
fn rules(policy: &Policy) -> Vec<(String, usize, usize, usize)> {
    let rule = |rule: &crate::policy::property::Require| {
        let Speaker::Signer(signer) = &rule.signer else { panic!("{rule:?}") };
        let keys = match signer {
            Signer::Keys(keys) => keys.len(),
            Signer::Any(group) => group.keys.len(),
            _ => 0,
        };
        let kinds: Vec<&str> = rule.predicate.iter().map(|kind| kind.as_str()).collect();
        (kinds.join(" "), keys, signer.identities().len(), rule.signers())
    };
    policy.spec().require.iter().map(rule).collect()
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

const SIGNED: &str = "urn:catenary:predicate:artifact-signature:v1 https://sigstore.dev/cosign/sign/v1";

fn cip(spec: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: signed}}\nspec:\n{spec}"
    )
}

/// One authority of a policy for one repository.
fn authority(authority: &str) -> String {
    cip(&format!("  images: [{{glob: \"ghcr.io/acme/app*\"}}]\n  authorities:\n{authority}"))
}

const KEYLESS: &str = r"    - name: release
      keyless:
        url: https://fulcio.sigstore.dev
        identities:
          - issuer: https://token.actions.githubusercontent.com
            subjectRegExp: ^https://github\.com/acme/app/\.github/workflows/release\.yml@refs/tags/.*$
      ctlog: {url: https://rekor.sigstore.dev}
      attestations:
        - {name: provenance, predicateType: slsaprovenance1}
        - {name: sbom, predicateType: https://spdx.dev/Document}
";

#[test]
fn a_keyless_policy_is_carried_over_whole() {
    let out = imported(&authority(KEYLESS));
    assert_eq!(missing(&out), [""; 0]);
    let policy = policy(&out);
    assert_eq!((policy.name(), policy.spec().mode), ("signed", Mode::Enforce));
    assert!(policy.matches("ghcr.io/acme/app", None) && !policy.matches("ghcr.io/acme/app/x", None));
    let kinds = ["https://slsa.dev/provenance/v1", "https://spdx.dev/Document"];
    assert_eq!(rules(&policy), kinds.map(|kind| (kind.to_owned(), 0, 1, 1)));
    let name = policy.identities().next().unwrap();
    assert_eq!(name.root.as_deref(), Some("sigstore"));
    let san = "https://github.com/acme/app/.github/workflows/release.yml@refs/";
    assert!(name.san.matches(&format!("{san}tags/v1")));
    assert!(!name.san.matches(&format!("{san}heads/main")));
    assert!(policy.spec().deny.is_empty());
}

#[test]
fn authorities_are_alternatives_and_so_are_keys_of_one() {
    let text = format!(
        "    - key:\n        data: |\n{}    - keyless: {{identities: [{{issuer: \"https://a.test\", subject: ann@acme.test}}]}}\n",
        indent(&format!("{ONE}\n{TWO}"), 10)
    );
    let out = imported(&authority(&text));
    assert_eq!(missing(&out), [""; 0]);
    assert_eq!(rules(&policy(&out)), [(SIGNED.to_owned(), 2, 1, 1)]);
    assert_eq!(
        out.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
        ["signed-authority", "signed-authority-2"]
    );
    assert!(out.policies[0].document.contains(&out.keys[1].id));
    assert_eq!(out.keys[0].pem.trim(), ONE);
}

#[test]
fn attestations_are_wanted_of_every_key_of_an_authority() {
    let keys = indent(&format!("{ONE}\n{TWO}"), 10);
    let text = format!(
        "    - key:\n        data: |\n{keys}      attestations: [{{name: scan, predicateType: vuln}}]\n"
    );
    let out = imported(&authority(&text));
    let kind = "https://cosign.sigstore.dev/attestation/vuln/v1".to_owned();
    assert_eq!(rules(&policy(&out)), [(kind.clone(), 1, 0, 1), (kind, 1, 0, 1)]);
    assert_eq!(missing(&out), ["spec.authorities[0]"]);
}

#[test]
fn alternatives_that_no_rule_says_are_all_asked_for() {
    let other = KEYLESS.replace("name: release", "name: other").replace("acme/app/", "acme/lib/");
    let out = imported(&authority(&format!("{KEYLESS}{other}")));
    assert_eq!(missing(&out), ["spec.authorities"]);
    assert_eq!(rules(&policy(&out)).len(), 4);
}

#[test]
fn what_a_cip_asks_beyond_signers_refuses_until_it_is_mended() {
    let key = format!("    - key:\n        data: |\n{}", indent(ONE, 10));
    for (more, path) in [
        ("      ctlog: {url: \"https://rekor.sigstore.dev\"}\n", "spec.authorities[0].ctlog!"),
        ("      rfc3161timestamp: {trustRootRef: ours}\n", "spec.authorities[0].rfc3161timestamp!"),
        (
            "      attestations: [{name: a, predicateType: vuln, policy: {type: cue, data: x}}]\n",
            "spec.authorities[0].attestations[0].policy!",
        ),
        (
            "      attestations: [{name: a, predicateType: vuln, policy: {type: rego, data: x}}]\n",
            "spec.authorities[0].attestations[0].policy!",
        ),
        ("      source: [{oci: ghcr.io/acme/signatures}]\n", "spec.authorities[0].source[0]"),
        ("      quorum: 2\n", "spec.authorities[0].quorum!"),
        ("  policy: {type: cue, data: x}\n", "spec.policy!"),
        ("  match: [{version: v1, resource: pods}]\n", "spec.match[0]!"),
        ("  scope: {}\n", "spec.scope!"),
    ] {
        let out = imported(&authority(&format!("{key}{more}")));
        assert_eq!(missing(&out), [path], "{more}");
        let policy = policy(&out);
        assert_eq!(policy.spec().deny.len(), usize::from(path.ends_with('!')), "{more}");
        assert_eq!(rules(&policy).len(), 1);
        let item = &out.unsupported[0];
        assert!(item.line > 0 && !item.what.is_empty() && !item.mend.is_empty(), "{item:?}");
        assert!(out.policies[0].document.contains(&format!("# - {} (line {}):", item.path, item.line)));
    }
    for glob in ["ghcr.io/acme/app:v1*", "ghcr.io/acme/app@sha256:00"] {
        let out = imported(&authority(&key).replace("ghcr.io/acme/app*", glob));
        assert_eq!(missing(&out), ["spec.images[0]!"], "{glob}");
    }
}

#[test]
fn a_signer_who_cannot_be_carried_over_is_nobody() {
    for (signer, path) in [
        ("key: {secretRef: {name: k}}", "key.secretRef"),
        ("key: {kms: \"awskms:///alias/k\"}", "key.kms"),
        ("key: {data: \"-----BEGIN PUBLIC KEY-----\"}", "key.data"),
        (
            "keyless: {identities: [{issuer: \"https://a.test\", subjectRegExp: \"acme/.*\"}]}",
            "keyless.identities[0].subjectRegExp",
        ),
        (
            "keyless: {identities: [{issuer: \"https://a.test\", subjectRegExp: \".*\"}]}",
            "keyless.identities[0].subjectRegExp",
        ),
        (
            "keyless: {identities: [{issuer: \"https://a.test\", subjectRegExp: \"^https://github\\\\.com/.*$\"}]}",
            "keyless.identities[0]",
        ),
        (
            "keyless: {identities: [{issuerRegExp: \"^https://.*$\", subject: ann@acme.test}]}",
            "keyless.identities[0]",
        ),
        ("keyless: {identities: [{issuer: \"https://a.test\"}]}", "keyless.identities[0]"),
        ("keyless: {identities: [{subject: ann@acme.test}]}", "keyless.identities[0]"),
        ("keyless: {identities: []}", "keyless"),
        ("static: {action: pass}", "static"),
    ] {
        let out = imported(&authority(&format!("    - {signer}\n")));
        let expected = [format!("spec.authorities[0].{path}"), "spec.authorities!".to_owned()];
        assert_eq!(missing(&out), expected, "{signer}");
        let policy = policy(&out);
        assert_eq!(
            (rules(&policy), policy.spec().deny.len()),
            (vec![(SIGNED.to_owned(), 0, 0, 1)], 1),
            "{signer}"
        );
    }
    let p384 = format!("    - key:\n        data: |\n{}", indent(P384, 10));
    assert_eq!(missing(&imported(&authority(&p384))), ["spec.authorities[0].key.data", "spec.authorities!"]);
    let fits = format!("{p384}        hashAlgorithm: sha384\n");
    assert_eq!(missing(&imported(&authority(&fits))), [""; 0]);
}

#[test]
fn empty_authorities_let_nobody_in() {
    for authorities in ["", "  authorities: []\n", "  authorities:\n"] {
        let out = imported(&cip(&format!("  images: [{{glob: \"**\"}}]\n{authorities}")));
        let policy = policy(&out);
        assert!(matches!(missing(&out)[0].as_str(), "spec!" | "spec.authorities!"));
        assert_eq!(policy.spec().deny.len(), 1);
    }
}

#[test]
fn a_policy_that_refuses_everything_is_one_that_denies() {
    let out = imported(&authority("    - static: {action: fail, message: not from here}\n"));
    assert_eq!(missing(&out), [""; 0]);
    assert_eq!(policy(&out).spec().deny[0].message.as_deref(), Some("not from here"));
}

#[test]
fn another_authority_of_certificates_is_a_trust_domain_of_its_own() {
    let identities = "identities: [{issuer: \"https://a.test\", subject: ann@acme.test}]";
    for (keyless, root) in [
        ("trustRootRef: sigstore", "imported-sigstore"),
        ("url: \"https://fulcio.acme.test\"", "imported-fulcio.acme.test"),
        ("url: \"https://fulcio.sigstore.dev.evil.test\"", "imported-fulcio.sigstore.dev.evil.test"),
        ("ca-cert: {data: x}", "imported-signed-ca"),
    ] {
        let out = imported(&authority(&format!("    - keyless: {{{keyless}, {identities}}}\n")));
        assert_eq!(out.unsupported.len(), 1, "{keyless}");
        assert_eq!(policy(&out).identities().next().unwrap().root.as_deref(), Some(root));
    }
    let ours = format!(
        "    - keyless: {{trustRootRef: ours, {identities}}}\n      rfc3161timestamp: {{trustRootRef: ours}}\n      ctlog: {{trustRootRef: ours}}\n"
    );
    assert!(missing(&imported(&authority(&ours))).iter().all(|path| !path.ends_with('!')));
    let others = ours.replace("ctlog: {trustRootRef: ours}", "ctlog: {trustRootRef: theirs}");
    assert!(missing(&imported(&authority(&others))).contains(&"spec.authorities[0].ctlog!".to_owned()));
}

#[test]
fn several_policies_are_told_that_one_decides() {
    let one = authority(KEYLESS);
    let other = one.replace("name: signed", "name: other").replace("ghcr.io/acme/app*", "ghcr.io/acme/**");
    let out = imported(&format!("{one}---\n{other}"));
    assert_eq!(out.policies.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["signed", "other"]);
    assert_eq!(out.unsupported.iter().map(|u| u.document).collect::<Vec<_>>(), [0, 1]);
    assert!(out.unsupported[1].what.contains("POL_AMBIGUOUS"));
    let apart = other.replace("ghcr.io/acme/**", "docker.io/acme/**");
    assert_eq!(imported(&format!("{one}---\n{apart}")).unsupported, []);
    let list = format!("apiVersion: v1\nkind: List\nitems:\n  - {}", indent(&one, 4).trim_start());
    assert_eq!(imported(&list).policies.len(), 1);
    let warns = imported(&one.replace("spec:\n", "spec:\n  mode: warn\n"));
    assert_eq!(policy(&warns).spec().mode, Mode::Warn);
}

fn kyverno(entry: &str) -> String {
    format!(
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {{name: check-images}}\nspec:\n  validationFailureAction: Enforce\n  webhookTimeoutSeconds: 30\n  rules:\n    - name: check\n      match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}\n      verifyImages:\n        - imageReferences: [\"ghcr.io/acme/*\"]\n{entry}"
    )
}

/// An attestor set over keys that need no log.
fn keys(count: &str, pems: &[&str]) -> String {
    let entry = |pem: &&str| {
        format!(
            "                - keys:\n                    publicKeys: |\n{}                    rekor: {{ignoreTlog: true}}\n",
            indent(pem, 22)
        )
    };
    format!(
        "          attestors:\n            - {count}\n              entries:\n{}",
        pems.iter().map(entry).collect::<String>()
    )
}

#[test]
fn thresholds_of_attestors_are_carried_over() {
    let all = [ONE, TWO, THREE];
    for (count, pems, expected) in [
        ("count: 2", &all[..], vec![(3, 0, 2)]),
        ("count: 1", &all[..2], vec![(2, 0, 1)]),
        ("count: 2", &all[..2], vec![(1, 0, 1), (1, 0, 1)]),
        ("count: null", &all[..2], vec![(1, 0, 1), (1, 0, 1)]),
    ] {
        let out = imported(&kyverno(&keys(count, pems)));
        assert_eq!(missing(&out), [""; 0], "{count}");
        let policy = policy(&out);
        let found: Vec<_> = rules(&policy).into_iter().map(|(_, k, n, least)| (k, n, least)).collect();
        assert_eq!((found, policy.spec().mode), (expected, Mode::Enforce), "{count}");
        assert!(policy.matches("ghcr.io/acme/team/app", None));
    }
    // Each key of one text is an entry of its own.
    let text = format!("{ONE}\n{TWO}");
    assert_eq!(rules(&policy(&imported(&kyverno(&keys("count: null", &[&text]))))).len(), 2);
}

#[test]
fn a_threshold_above_the_number_of_keys_lets_nobody_in() {
    let out = imported(&kyverno(&keys("count: 3", &[ONE, TWO])));
    let at = "spec.rules[0].verifyImages[0].attestors[0]";
    assert_eq!(missing(&out), [at.to_owned(), format!("{at}!")]);
    assert_eq!(policy(&out).spec().deny.len(), 1);
}

#[test]
fn keyless_attestors_and_attestations_are_carried_over() {
    let keyless = |repo: &str| {
        format!(
            "keyless: {{subject: \"https://github.com/acme/{repo}/.github/workflows/*@refs/tags/*\", issuer: \"https://token.actions.githubusercontent.com\", rekor: {{url: \"https://rekor.sigstore.dev\"}}, additionalExtensions: {{githubWorkflowTrigger: push, githubWorkflowRepository: acme/{repo}}}}}"
        )
    };
    let out = imported(&kyverno(&format!(
        "          attestors: [{{entries: [{{{}}}]}}]\n          attestations:\n            - {{name: slsa, type: \"https://slsa.dev/provenance/v1\", attestors: [{{count: 1, entries: [{{{}}}, {{{}}}]}}]}}\n",
        keyless("app"),
        keyless("app"),
        keyless("builder"),
    )));
    assert_eq!(missing(&out), [""; 0]);
    let policy = policy(&out);
    assert_eq!(
        rules(&policy),
        [(SIGNED.to_owned(), 0, 1, 1), ("https://slsa.dev/provenance/v1".to_owned(), 0, 2, 1)]
    );
    let name = policy.identities().next().unwrap();
    assert!(name.ext["sourceRepositoryUri"].matches("https://github.com/acme/app"));
    assert!(name.ext["buildTrigger"].matches("push"));
    assert!(name.san.matches("https://github.com/acme/app/.github/workflows/a/b.yml@refs/tags/v1"));
}

#[test]
fn what_kyverno_asks_beyond_signers_is_named() {
    let entry = "spec.rules[0].verifyImages[0]";
    let signed = keys("count: 1", &[ONE]);
    for (more, paths) in [
        ("          skipImageReferences: [\"ghcr.io/acme/base*\"]\n", vec!["skipImageReferences[0]"]),
        ("          required: false\n", vec![""]),
        ("          mutateDigest: true\n", vec![""]),
        (
            "          mutateDigest: false\n          verifyDigest: true\n          required: true\n          useCache: true\n",
            vec![],
        ),
        ("          repository: ghcr.io/acme/signatures\n", vec!["repository"]),
        ("          annotations: {team: a}\n", vec!["annotations!"]),
        ("          key: x\n", vec!["key!"]),
        ("          validate: {deny: {}}\n", vec!["validate!"]),
        (
            "          attestations: [{type: \"https://a.test/v1\"}]\n",
            vec!["attestations[0]", "attestations[0]!"],
        ),
    ] {
        let out = imported(&kyverno(&format!("{signed}{more}")));
        let paths: Vec<String> = paths
            .iter()
            .map(|path| if path.is_empty() { entry.to_owned() } else { format!("{entry}.{path}") })
            .collect();
        assert_eq!(missing(&out), paths, "{more}");
    }
    let conditions = "          attestations:\n            - type: https://a.test/v1\n              conditions: [{all: [{key: \"{{ a }}\", operator: Equals, value: b}]}]\n";
    let out = imported(&kyverno(&format!("{conditions}{}", indent(&signed, 4))));
    assert_eq!(missing(&out), [format!("{entry}.attestations[0].conditions!")]);
    for (entries, path) in [
        ("certificates: {cert: x}", "certificates"),
        ("keys: {kms: \"gcpkms://x\", rekor: {ignoreTlog: true}}", "keys.kms"),
        ("keys: {secret: {name: a, namespace: b}, rekor: {ignoreTlog: true}}", "keys.secret"),
        ("keys: {publicKeys: \"k8s://a/b\", rekor: {ignoreTlog: true}}", "keys.publicKeys"),
        ("keyless: {issuer: \"https://a.test\", subject: \"*\"}", "keyless.subject"),
        ("keyless: {issuer: \"https://*.test\", subject: ann@acme.test}", "keyless"),
    ] {
        let set = format!("          attestors: [{{entries: [{{{entries}}}]}}]\n");
        let out = imported(&kyverno(&set));
        assert_eq!(
            missing(&out),
            [format!("{entry}.attestors[0].entries[0].{path}"), format!("{entry}.attestors[0]!")],
            "{entries}"
        );
    }
    let notary = imported(&kyverno(&format!("{signed}          type: Notary\n")));
    assert_eq!(missing(&notary), [entry.to_owned(), format!("{entry}!")]);
    let logged = kyverno(&signed.replace("rekor: {ignoreTlog: true}", "signatureAlgorithm: sha256"));
    assert_eq!(missing(&imported(&logged)), [format!("{entry}.attestors[0].entries[0].keys!")]);
}

#[test]
fn images_that_no_glob_names_are_nobody_s() {
    let signed = keys("count: 1", &[ONE]);
    let out = imported(&kyverno(&signed).replace("ghcr.io/acme/*", "ghcr.io/acme/a?p"));
    assert_eq!(missing(&out), ["spec.rules[0].verifyImages[0].imageReferences[0]"]);
    assert!(policy(&out).matches(NOWHERE, None));
    let out = imported(&kyverno(&signed).replace("ghcr.io/acme/*", "ghcr.io/acme/app:v1"));
    assert_eq!(missing(&out), ["spec.rules[0].verifyImages[0].imageReferences[0]"]);
    let out = imported(&kyverno(&signed).replace("ClusterPolicy", "Policy"));
    assert_eq!(missing(&out), ["."], "it was for one namespace");
    let many = kyverno(&signed);
    let (head, entry) = many.split_once("        - imageReferences").unwrap();
    let many = format!("{head}{}", format!("        - imageReferences{entry}").repeat(65));
    assert!(import(&many, None, &[], now()).expect_err("65").message.contains("divide"));
}

#[test]
fn nested_attestors_are_rules_or_more_than_was_asked() {
    let key = |pem: &str| serde_json::json!({"keys": {"publicKeys": pem, "rekor": {"ignoreTlog": true}}});
    let set = |sets: serde_json::Value| format!("          attestors: {sets}\n");
    let either = serde_json::json!([{"entries": [{"attestor": {"count": 1, "entries": [key(ONE), key(TWO)]}}, key(THREE)]}]);
    let out = imported(&kyverno(&set(either)));
    assert_eq!((missing(&out).len(), rules(&policy(&out)).len()), (0, 2));
    let both = serde_json::json!([{"count": 1, "entries": [{"attestor": {"entries": [key(ONE), key(TWO)]}}, key(THREE)]}]);
    let out = imported(&kyverno(&set(both)));
    assert_eq!((missing(&out).len(), rules(&policy(&out)).len()), (1, 3));
    let mut deep = key(ONE);
    for _ in 0..12 {
        deep = serde_json::json!({"attestor": {"entries": [deep]}});
    }
    let deep = import(&kyverno(&set(serde_json::json!([{"entries": [deep]}]))), None, &[], now());
    assert!(deep.expect_err("deep").message.contains("too deep"));
}

#[test]
fn kyverno_audits_unless_it_is_told_to_enforce() {
    let text = kyverno(&keys("count: 1", &[ONE]));
    let audit = text.replace("  validationFailureAction: Enforce\n", "");
    assert_eq!(policy(&imported(&audit)).spec().mode, Mode::Warn);
    let entry = format!("{audit}          failureAction: Enforce\n");
    assert_eq!(policy(&imported(&entry)).spec().mode, Mode::Enforce);
    let namespace = audit.replace(
        "  rules:",
        "  validationFailureActionOverrides: [{action: Enforce, namespaces: [prod]}]\n  rules:",
    );
    let out = imported(&namespace);
    assert_eq!((policy(&out).spec().mode, missing(&out).len()), (Mode::Enforce, 1));
    let some = text.replace("kinds: [Pod]", "kinds: [Pod], namespaces: [prod]");
    assert_eq!(missing(&imported(&some)), ["spec.rules[0].match"]);
}

#[test]
fn attestors_of_an_image_validating_policy_are_asked_and_its_expressions_named() {
    let text = format!(
        "apiVersion: policies.kyverno.io/v1alpha1\nkind: ImageValidatingPolicy\nmetadata: {{name: ivp}}\nspec:\n  validationActions: [Deny]\n  matchConstraints: {{resourceRules: []}}\n  matchImageReferences: [{{glob: \"ghcr.io/acme/*\"}}, {{expression: \"true\"}}]\n  attestors:\n    - name: cosign\n      cosign:\n        key:\n          data: |\n{}        ctlog: {{insecureIgnoreTlog: true}}\n  attestations: [{{name: sbom, intoto: {{type: \"https://spdx.dev/Document\"}}}}, {{name: r, referrer: {{type: sbom/a}}}}]\n  validations:\n    - expression: images.containers.map(image, verifyImageSignatures(image, [attestors.cosign])).all(e, e > 0)\n",
        indent(ONE, 12)
    );
    let out = imported(&text);
    let expected = [
        "spec.matchImageReferences[1]",
        "spec.validations[0]!",
        "spec.matchConstraints",
        "spec.attestations[1]!",
    ];
    assert_eq!(missing(&out), expected);
    assert_eq!(
        rules(&policy(&out)),
        [(SIGNED.to_owned(), 1, 0, 1), ("https://spdx.dev/Document".to_owned(), 1, 0, 1)]
    );
}

fn a_layout(steps: serde_json::Value, inspect: serde_json::Value, expires: &str) -> String {
    let key = |pem: &str| serde_json::json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"private": "", "public": pem}});
    serde_json::json!({
        "signed": {
            "_type": "layout", "readme": "", "expires": expires, "keys": {"a1": key(ONE), "b2": key(TWO), "c3": key(THREE)},
            "steps": steps, "inspect": inspect,
        },
        "signatures": [{"keyid": "d4", "sig": "00"}],
    })
    .to_string()
}

fn step(name: &str, keys: &[&str], threshold: u32) -> serde_json::Value {
    serde_json::json!({
        "_type": "step", "name": name, "threshold": threshold, "pubkeys": keys, "expected_command": [],
        "expected_materials": [["MATCH", "*", "WITH", "PRODUCTS", "FROM", "write"]], "expected_products": [["ALLOW", "*"]],
    })
}

#[test]
fn a_layout_is_named_by_its_digest_with_its_functionaries() {
    let text = a_layout(
        serde_json::json!([step("write", &["a1"], 1), step("build", &["a1", "b2"], 2)]),
        serde_json::json!([]),
        "2999-01-01T00:00:00Z",
    );
    let images = ["registry.acme.test/app".to_owned()];
    let out = import(&text, None, &images, now()).unwrap();
    assert_eq!(missing(&out), ["."], "whoever owns it is not in it");
    let policy = policy(&out);
    assert!(policy.matches("registry.acme.test/app", None));
    let [rule] = policy.spec().layouts.as_slice() else { panic!() };
    let Signer::Keys(functionaries) = &rule.functionaries else { panic!("{rule:?}") };
    assert_eq!(
        functionaries.iter().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>(),
        out.keys.iter().map(|key| key.id.clone()).collect()
    );
    assert_eq!(out.keys.len(), 2, "the third key does nothing");
    assert!(
        matches!(&rule.signer, Signer::Group(name) if name == &format!("{}-owners", policy.name())),
        "{rule:?}"
    );
    let signed = catenary_evidence::attestation::payload(text.as_bytes()).unwrap();
    assert_eq!(rule.layout, catenary_evidence::Sha256::of(&signed));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tabs = serde_json::to_string_pretty(&value).unwrap().replace("  ", "\t");
    assert_eq!(
        import(&tabs, Some(Format::Layout), &images, now()).unwrap().policies[0].document,
        out.policies[0].document
    );
    // Another layout does not take its place.
    assert_eq!(policy.name(), format!("layout-{}", &rule.layout.to_string()[7..19]));
}

#[test]
fn what_a_layout_says_and_nobody_can_keep_is_named() {
    let text = a_layout(
        serde_json::json!([step("write", &["a1", "nobody"], 3)]),
        serde_json::json!([{"_type": "inspection", "name": "untar", "run": ["tar", "xf", "a"], "expected_materials": [], "expected_products": []}]),
        "2020-01-01T00:00:00Z",
    );
    let out = imported(&text);
    let told: Vec<&str> = out.unsupported.iter().map(|item| item.what.as_str()).collect();
    for word in ["owner", "repository", "expired", "known again", "wants 3", "untar"] {
        assert!(told.iter().any(|what| what.contains(word)), "{word}: {told:?}");
    }
    let at = "signed.steps[0]".to_owned();
    let places = [
        ".".to_owned(),
        ".".to_owned(),
        "signed.expires".to_owned(),
        at.clone(),
        at,
        "signed.inspect[0]!".to_owned(),
    ];
    assert_eq!(missing(&out), places);
    let policy = policy(&out);
    assert_eq!((policy.spec().deny.len(), policy.spec().layouts.len()), (1, 1));
    assert!(policy.matches(NOWHERE, None));
    let nobody = imported(&a_layout(
        serde_json::json!([step("write", &["x"], 1)]),
        serde_json::json!([]),
        "2999-01-01T00:00:00Z",
    ));
    assert!(nobody.policies[0].document.contains("nobody-yet"));
}

#[test]
fn bad_input_has_its_place() {
    let place = |text: &str| {
        let error = import(text, None, &[], now()).expect_err(text);
        (error.line, error.path, error.message)
    };
    let (line, path, _) = place(&authority("    - key: text\n"));
    assert_eq!((line, path.as_str()), (7, "spec.authorities[0].key"));
    let (line, path, _) = place(&cip("  images: all\n"));
    assert_eq!((line, path.as_str()), (5, "spec.images"));
    let (line, _, message) = place(&cip("  images: []\n  images: []\n"));
    assert!(line == 6 && message.contains("images"), "{message}");
    assert_eq!(place("a: [1\n").0, 1);
    assert_eq!(place(&format!("{}---\n{}", authority(KEYLESS), cip("  images: 1\n"))).0, 22);
    for text in [
        "",
        "kind: Pod\n",
        "- a\n",
        "just text\n",
        "kind: ClusterPolicy\napiVersion: kyverno.io/v1\nspec: {rules: []}\n",
    ] {
        place(text);
    }
    let other = import(&authority(KEYLESS), Some(Format::Kyverno), &[], now());
    assert!(other.is_err(), "the format that was named decides");
}

#[test]
fn a_document_that_unfolds_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        let list = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb += &format!("a{n}: &a{n} [{list}]\n");
    }
    assert!(import(&bomb, None, &[], now()).is_err());
    let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(import(&deep, None, &[], now()).is_err());
    let long = format!("{}\n# {}", authority(KEYLESS), "x".repeat(crate::policy::MAX_DOCUMENT));
    assert!(import(&long, None, &[], now()).expect_err("long").message.contains("longer"));
}

#[test]
fn foreign_texts_end_no_comment_and_drive_no_terminal() {
    let text = authority(KEYLESS)
        .replace("name: signed", "name: \"x\\n  mode: shadow\\u001b[31m\"")
        .replace("      ctlog:", "      \"a\\nspec: {}\\u2028\": 1\n      ctlog:");
    let out = imported(&text);
    let policy = policy(&out);
    assert_eq!((policy.name(), policy.spec().mode), ("x---mode--shadow--31m", Mode::Enforce));
    let document = &out.policies[0].document;
    assert!(!document.contains('\u{1b}') && !document.contains('\u{2028}'));
    assert!(document.lines().all(|line| !line.starts_with("spec: {}")), "{document}");
}
