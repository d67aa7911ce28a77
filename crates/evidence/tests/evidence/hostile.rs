//! Inputs that are as large as they may be and as costly as a sender can make them: nesting, lists of all that is listed,
//! encodings in encodings, tables that a short text asks for.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// One input.
pub struct Hostile {
    /// What is wrong with it.
    pub name: &'static str,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// As which object it is read; nothing for evidence.
    pub object: Option<&'static str>,
}

const ITEM: usize = 8 * 1024 * 1024;
const OBJECT: usize = 4 * 1024 * 1024;
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// `head`, as many `parts` as there is room for with commas between them, `tail`.
fn filled(room: usize, head: &str, part: impl Fn(usize) -> String, tail: &str) -> Vec<u8> {
    let mut text = String::with_capacity(room);
    text.push_str(head);
    for n in 0.. {
        let part = part(n);
        if text.len() + part.len() + tail.len() + 1 > room {
            break;
        }
        if n > 0 {
            text.push(',');
        }
        text.push_str(&part);
    }
    text.push_str(tail);
    text.into_bytes()
}

fn same(part: &'static str) -> impl Fn(usize) -> String {
    move |_| part.to_owned()
}

fn envelope(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    format!(
        r#"{{"payloadType":"{payload_type}","payload":"{}","signatures":[{{"sig":"AAAA"}}]}}"#,
        STANDARD.encode(payload)
    )
    .into_bytes()
}

/// A statement whose predicate is as long as an item allows, in an envelope.
fn statement(kind: &str, head: &str, part: impl Fn(usize) -> String, tail: &str) -> Vec<u8> {
    let digest = "1".repeat(64);
    let head = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"x","digest":{{"sha256":"{digest}"}}}}],"predicateType":"{kind}","predicate":{head}"#
    );
    envelope(IN_TOTO, &filled(ITEM / 4 * 3 - 1024, &head, part, &format!("{tail}}}")))
}

fn bundle(version: &str, material: &str, part: &'static str, tail: &str) -> Vec<u8> {
    let head = format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle+json;version={version}","verificationMaterial":{{{material}"#
    );
    let tail = format!(
        r#"{tail}}},"dsseEnvelope":{{"payloadType":"{IN_TOTO}","payload":"e30=","signatures":[{{"sig":"AAAA"}}]}}}}"#
    );
    filled(ITEM, &head, same(part), &tail)
}

/// All of them.
pub fn inputs() -> Vec<Hostile> {
    let text = |name, bytes| Hostile { name, bytes, object: None };
    let object = |name, media_type, bytes| Hostile { name, bytes, object: Some(media_type) };
    let deep = |open: &str, room: usize| open.repeat(room / open.len()).into_bytes();
    let member = |n: usize| format!(r#""{n:x}":0"#);
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const SPDX: &str = "https://spdx.dev/Document/v2.3";
    const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
    vec![
        text("arrays in arrays", deep("[", ITEM)),
        text("objects in objects", deep("{\"a\":", ITEM)),
        text("a statement of nested arrays", envelope(IN_TOTO, &deep("[", ITEM / 4 * 3 - 1024))),
        text("a million members", filled(ITEM, "{", member, "}")),
        text("members with escapes", filled(ITEM, "{", |n| format!(r#""\u0061{n:x}":0"#), "}")),
        text(
            "one long text of escapes",
            filled(ITEM, r#"{"payload":"""#.trim_end_matches('"'), same(r"\u00e9"), "\"}"),
        ),
        text(
            "many signatures",
            filled(
                ITEM,
                r#"{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":["#,
                same(r#"{"sig":""}"#),
                "]}",
            ),
        ),
        text(
            "many signatures of a metablock",
            filled(ITEM, r#"{"signed":{"_type":"link"},"signatures":["#, same("{}"), "]}"),
        ),
        text(
            "a metablock of numbers",
            filled(
                ITEM,
                r#"{"signatures":[{"keyid":"","sig":"00"}],"signed":{"_type":"link","name":"x","a":["#,
                same("0"),
                "]}}",
            ),
        ),
        text(
            "a metablock of objects",
            filled(
                ITEM,
                r#"{"signatures":[{"keyid":"","sig":"00"}],"signed":{"_type":"link","name":"x","a":["#,
                same(r#"{"":0}"#),
                "]}}",
            ),
        ),
        text(
            "a metablock of members",
            filled(
                ITEM,
                r#"{"signatures":[{"keyid":"","sig":"00"}],"signed":{"_type":"link","name":"x","materials":{"#,
                |n| format!(r#""{n:x}":{{}}"#),
                "}}}",
            ),
        ),
        text(
            "a layout of steps",
            filled(
                ITEM,
                r#"{"signatures":[{"keyid":"","sig":"00"}],"signed":{"_type":"layout","expires":"2999-01-01T00:00:00Z","steps":["#,
                same(r#"{"name":""}"#),
                "]}}",
            ),
        ),
        text(
            "a layout of keys",
            filled(
                ITEM,
                r#"{"signatures":[{"keyid":"","sig":"00"}],"signed":{"_type":"layout","expires":"2999-01-01T00:00:00Z","steps":[],"keys":{"#,
                |n| format!(r#""{n:x}":{{}}"#),
                "}}}",
            ),
        ),
        text(
            "many certificates",
            bundle("0.1", r#""x509CertificateChain":{"certificates":["#, r#"{"rawBytes":""}"#, "]}"),
        ),
        text(
            "many log entries",
            bundle(
                "0.1",
                r#""publicKey":{},"tlogEntries":["#,
                r#"{"logId":{"keyId":""},"canonicalizedBody":""}"#,
                "]",
            ),
        ),
        text(
            "many timestamps",
            bundle(
                "0.1",
                r#""publicKey":{},"timestampVerificationData":{"rfc3161Timestamps":["#,
                r#"{"signedTimestamp":""}"#,
                "]}",
            ),
        ),
        text(
            "many hashes of a proof",
            bundle(
                "0.1",
                r#""publicKey":{},"tlogEntries":[{"logId":{"keyId":""},"canonicalizedBody":"","inclusionProof":{"hashes":["#,
                r#""""#,
                "]}}]",
            ),
        ),
        text("a huge payload", envelope(IN_TOTO, &vec![b'"'; ITEM / 4 * 3 - 1024])),
        text("a payload of white space", envelope(IN_TOTO, &vec![b' '; ITEM / 4 * 3 - 1024])),
        text(
            "many subjects",
            envelope(
                IN_TOTO,
                &filled(
                    ITEM / 4 * 3 - 1024,
                    r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"x","subject":["#,
                    same("{}"),
                    "]}",
                ),
            ),
        ),
        text(
            "many digests",
            envelope(
                IN_TOTO,
                &filled(
                    ITEM / 4 * 3 - 1024,
                    r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"x","subject":[{"digest":{"#,
                    |n| format!(r#""{n:x}":"""#),
                    "}}]}",
                ),
            ),
        ),
        text(
            "many dependencies",
            statement(
                PROVENANCE,
                r#"{"buildDefinition":{"buildType":"https://x","externalParameters":{},"resolvedDependencies":["#,
                same("{}"),
                r#"]},"runDetails":{"builder":{"id":"https://x"}}}"#,
            ),
        ),
        text(
            "many parameters",
            statement(
                PROVENANCE,
                r#"{"buildDefinition":{"buildType":"https://x","externalParameters":{"#,
                member,
                r#"}},"runDetails":{"builder":{"id":"https://x"}}}"#,
            ),
        ),
        text(
            "a parameter of numbers",
            statement(
                PROVENANCE,
                r#"{"buildDefinition":{"buildType":"https://x","externalParameters":{"a":["#,
                same("0"),
                r#"]}},"runDetails":{"builder":{"id":"https://x"}}}"#,
            ),
        ),
        text("many packages", statement(SPDX, r#"{"spdxVersion":"SPDX-2.3","packages":["#, same("{}"), "]}")),
        text(
            "many packages with names",
            statement(
                SPDX,
                r#"{"spdxVersion":"SPDX-2.3","packages":["#,
                |n| format!(r#"{{"name":"{n}"}}"#),
                "]}",
            ),
        ),
        text(
            "many components",
            statement(
                "https://cyclonedx.org/bom/v1.6",
                r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":["#,
                same("{}"),
                "]}",
            ),
        ),
        text(
            "components in components",
            statement(
                "https://cyclonedx.org/bom/v1.6",
                r#"{"bomFormat":"CycloneDX","specVersion":"1.6","components":["#,
                same(r#"{"components":[{"components":[{}]}]}"#),
                "]}",
            ),
        ),
        text("a graph", statement("https://spdx.dev/Document/v3", r#"{"@graph":["#, same("{}"), "]}")),
        text(
            "a graph of packages",
            statement(
                "https://spdx.dev/Document/v3",
                r#"{"@graph":["#,
                |n| format!(r#"{{"type":"software_Package","spdxId":"{n}","name":"n"}}"#),
                "]}",
            ),
        ),
        text(
            "many findings",
            statement(
                "https://in-toto.io/attestation/vulns/v0.2",
                r#"{"scanner":{"uri":"https://x","result":["#,
                same("{}"),
                r#"]},"metadata":{}}"#,
            ),
        ),
        text(
            "many VEX statements",
            statement(
                "https://openvex.dev/ns/v0.2.0",
                r#"{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"x","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":["#,
                same("{}"),
                "]}",
            ),
        ),
        text(
            "many tests",
            statement(
                "https://in-toto.io/attestation/test-result/v0.1",
                r#"{"result":"PASSED","configuration":[],"passedTests":["#,
                same("\"\""),
                "]}",
            ),
        ),
        text(
            "many levels",
            statement(
                "https://slsa.dev/verification_summary/v1",
                r#"{"verifiedLevels":["#,
                same("\"\""),
                "]}",
            ),
        ),
        text(
            "a collection",
            statement(
                "https://witness.dev/attestation-collection/v0.1",
                r#"{"name":"x","attestations":["#,
                same("{}"),
                "]}",
            ),
        ),
        text("many elements", filled(ITEM, "[", same("{}"), "]")),
        text("many bundles", filled(ITEM, r#"{"attestations":["#, same(r#"{"bundle":0}"#), "]}")),
        text("many lines", "{}\n".repeat(ITEM / 3).into_bytes()),
        object(
            "many manifests",
            INDEX,
            filled(OBJECT, r#"{"schemaVersion":2,"manifests":["#, same("{}"), "]}"),
        ),
        object("many layers", MANIFEST, filled(OBJECT, r#"{"schemaVersion":2,"layers":["#, same("{}"), "]}")),
        object(
            "many annotations",
            MANIFEST,
            filled(OBJECT, r#"{"schemaVersion":2,"annotations":{"#, |n| format!(r#""{n:x}":"""#), "}}"),
        ),
        object("many diff ids", CONFIG, filled(OBJECT, r#"{"rootfs":{"diff_ids":["#, same("\"\""), "]}}")),
        object(
            "many parents",
            "application/x-git-commit",
            format!(
                "tree {}\n{}",
                "a".repeat(40),
                format!("parent {}\n", "b".repeat(40)).repeat(OBJECT / 48)
            )
            .into_bytes(),
        ),
    ]
}
