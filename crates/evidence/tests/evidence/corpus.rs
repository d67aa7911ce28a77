//! What is damaged and measured: one good input of every form, made by testkit's own authority.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    Attestation, PublicKey, Trust,
    attestation::{detect, verify},
    layout,
    object::GIT_COMMIT,
    trust_root::{Domain, Rules},
};
use catenary_testkit::{
    Key, Statement, Subject,
    authority::{Authority, Claims, Kind, Version},
    oci::{Image, Index},
    sha256_hex,
};
use serde_json::{Value, json};

/// Something to damage, and how it is read.
pub struct Seed {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub read: Read,
}

pub enum Read {
    /// As a submission: what verifies must say this.
    Evidence(Vec<Attestation>),
    /// As an object of this media type.
    Object(&'static str),
    /// As a trusted root.
    Root,
    /// As keys.
    Keys,
}

pub struct Corpus {
    pub trust: Trust,
    pub seeds: Vec<Seed>,
}

fn statement() -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicate": {"n": [1, 2.5, null, "\u{e9}"]},
        "predicateType": "https://acme.test/note/v1",
        "subject": [{"name": "image", "digest": {"sha256": sha256_hex(b"the image")}}]
    })
    .to_string()
}

/// A metablock over the canonical form, written by hand.
fn metablock(key: &Key, signed: &Value) -> String {
    let canonical = layout::canonical(signed).expect("it has no fractions");
    json!({"signed": signed, "signatures": [{"keyid": "k", "sig": hex::encode(key.sign(&canonical))}]})
        .to_string()
}

pub fn corpus() -> Corpus {
    let authority = Authority::new("mutate");
    let key = Key::p256("mutate");
    let leaf = authority.leaf(&Claims::email("ann@acme.test", "https://issuer.acme.test")).issue();
    let mut trust = Trust::none();
    let root = authority.trusted_root_json();
    let domain = Domain::read("acme", root.as_bytes(), Rules::default()).expect("the root is good");
    trust.insert_domain(Arc::new(domain));
    trust.insert_key(PublicKey::from_pem(&key.public_pem(), None).expect("the key is good"));

    let envelope = Statement::new("https://acme.test/note/v1", json!({"n": 1}));
    let envelope = envelope.subject(Subject::new("x", "sha256", &"1".repeat(64))).signed_by(&key).to_json();
    let bundle = |version, kind| {
        let builder = authority.attest(&leaf, &statement()).version(version).entry(kind);
        builder.timestamp().to_json()
    };
    let attachment = authority.attest(&leaf, &statement()).to_attachment();
    let attachment = json!({
        "mediaType": "application/vnd.catenary.cosign-layer.v1+json", "blob": STANDARD.encode(&attachment.layer),
        "layer": {"mediaType": attachment.media_type, "size": 1, "annotations": attachment.annotations,
                  "digest": format!("sha256:{}", sha256_hex(&attachment.layer))},
    });
    let link = json!({"_type": "link", "name": "build", "command": [], "byproducts": {}, "environment": {},
        "materials": {"a": {"sha256": "1".repeat(64)}}, "products": {"b": {"sha256": "2".repeat(64)}}});
    let plan = json!({"_type": "layout", "expires": "2999-01-01T00:00:00Z", "inspect": [], "readme": "a\nb", "keys": {
        "k": {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": key.public_pem()}}},
        "steps": [{"name": "build", "threshold": 1, "pubkeys": ["k"],
            "expected_materials": [["MATCH", "*", "IN", "x", "WITH", "PRODUCTS", "FROM", "build"]],
            "expected_products": [["DISALLOW", "*"]]}]});
    let v03 = bundle(Version::V03, Kind::DsseV1);
    let github = format!("{{\"attestations\":[{{\"bundle\":{v03}}}]}}");
    let commit = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@acme.test> 1780000000 +0000\ncommitter A <a@acme.test> 1780000000 +0000\n\nSigned\n";
    let armour = authority.gitsign(&leaf, commit.as_bytes()).to_armour();
    let gitsign =
        commit.replacen("\n\n", &format!("\ngpgsig {}\n\n", armour.trim_end().replace('\n', "\n ")), 1);
    let image = Image::new("linux/amd64", vec![b"layer".to_vec()]);
    let mut index = Index::new(vec![image.clone()]);
    index.buildkit_attestations = true;
    let pem = [key.public_pem(), Key::ed25519("b").public_pem()].concat();

    let evidence = |name, text: String| (name, text.into_bytes(), true);
    let mut seeds: Vec<Seed> = [
        evidence("dsse", envelope.clone()),
        evidence("bundle v0.1", bundle(Version::V01, Kind::DsseV1)),
        evidence("bundle v0.2", bundle(Version::V02, Kind::HashedRekordV1)),
        evidence("bundle v0.3", v03.clone()),
        evidence("bundle v0.3, second log", bundle(Version::V03, Kind::DsseV2)),
        evidence("attachment", attachment.to_string()),
        evidence("layout", metablock(&key, &plan)),
        evidence("link", metablock(&key, &link)),
        evidence("lines", format!("{envelope}\n{v03}\n")),
        evidence("array", format!("[{envelope},{v03}]")),
        evidence("github", github),
    ]
    .into_iter()
    .map(|(name, bytes, _)| {
        let golden: Vec<Attestation> = detect(&bytes)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .into_iter()
            .map(|item| verify(item, &trust).unwrap_or_else(|e| panic!("{name}: {e}")))
            .collect();
        assert!(golden.iter().all(Attestation::is_verified), "{name}");
        Seed { name, bytes, read: Read::Evidence(golden) }
    })
    .collect();
    let object = |name, media_type, bytes| Seed { name, bytes, read: Read::Object(media_type) };
    seeds.push(object("gitsign", GIT_COMMIT, gitsign.into_bytes()));
    seeds.push(object("index", "application/vnd.oci.image.index.v1+json", index.document().bytes));
    seeds.push(object("manifest", "application/vnd.oci.image.manifest.v1+json", image.manifest().bytes));
    seeds.push(object("config", "application/vnd.oci.image.config.v1+json", image.config().bytes));
    seeds.push(Seed { name: "root", bytes: root.into_bytes(), read: Read::Root });
    seeds.push(Seed { name: "keys", bytes: pem.into_bytes(), read: Read::Keys });
    Corpus { trust, seeds }
}

/// The same numbers on every run (xorshift64*).
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(number % (n.max(1) as u64)).unwrap_or(0)
    }
}

/// A few changes of the kinds that parsers stumble over.
pub fn damage(bytes: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut below = |n: usize| rng.below(n);
    let tokens: [&[u8]; 14] = [
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"0",
        b"\\u0000",
        b"\\ud800",
        b"AA==",
        b"\xff",
        b"\n",
        b"",
    ];
    for _ in 0..=below(3) {
        let at = below(out.len());
        let end = (at + below(40)).min(out.len());
        match below(8) {
            0 => out[at] ^= 1 << below(8),
            1 => out[at] = u8::try_from(below(256)).unwrap_or(0),
            2 => drop(out.drain(at..end)),
            3 => {
                let again = out[at..end].to_vec();
                out.splice(at..at, again);
            }
            4 => drop(out.splice(at..end, tokens[below(tokens.len())].iter().copied())),
            5 => out.truncate(at),
            6 => {
                let from = below(other.len());
                let taken = other[from..(from + below(200)).min(other.len())].to_vec();
                out.splice(at..end, taken);
            }
            // A value in the place of another one.
            _ => {
                let quote = |from: usize| out[from..].iter().position(|b| *b == b'"').map(|p| from + p);
                if let Some((open, close)) = quote(at).and_then(|open| Some((open, quote(open + 1)?))) {
                    out.splice(open..=close, tokens[below(tokens.len())].iter().copied());
                }
            }
        }
        if out.is_empty() {
            out.push(b' ');
        }
    }
    out
}
