//! A supply chain told step by step with in-toto: its layout must end in the image.

use std::{path::Path, process::Command};

use acceptance::{App, Stage, http::Client};
use catenary_testkit::{Key, sha256_hex};
use serde_json::{Value, json};

const RESOURCE: &str = "registry.layout.test/acme/app";

/// Signs as in-toto does, with the canonical form of another program.
fn metablock(key: &Key, signed: &Value) -> String {
    let canonical = sigstore_tuf::canonical_json::to_canonical_bytes(signed).unwrap();
    let signature = json!({"keyid": keyid(key), "sig": hex::encode(key.sign(&canonical))});
    json!({"signed": signed, "signatures": [signature]}).to_string()
}

/// Any name will do: what counts is the key itself.
fn keyid(key: &Key) -> String {
    sha256_hex(key.public_pem().as_bytes())
}

fn layout(functionaries: &[&Key], note: &str) -> Value {
    let keys: serde_json::Map<String, Value> = functionaries
        .iter()
        .map(|key| {
            let public = json!({"private": "", "public": key.public_pem()});
            (keyid(key), json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyid": keyid(key), "keyval": public}))
        })
        .collect();
    let step = |name: &str, key: &Key, materials: Value, products: Value| {
        json!({
            "_type": "step", "name": name, "threshold": 1, "pubkeys": [keyid(key)],
            "expected_command": [], "expected_materials": materials, "expected_products": products,
        })
    };
    json!({
        "_type": "layout", "readme": note, "expires": "2999-01-01T00:00:00Z", "keys": keys,
        "steps": [
            step("write", functionaries[0], json!([]), json!([["CREATE", "app.c"], ["DISALLOW", "*"]])),
            step(
                "build", functionaries[1],
                json!([["MATCH", "*", "WITH", "PRODUCTS", "FROM", "write"], ["DISALLOW", "*"]]),
                json!([["CREATE", "image"], ["ALLOW", "app.c"], ["DISALLOW", "*"]])
            ),
        ],
        "inspect": [{
            "_type": "inspection", "name": "boom", "run": ["touch", "/tmp/catenary-never"],
            "expected_materials": [], "expected_products": [],
        }],
    })
}

fn link(name: &str, materials: &[(&str, &str)], products: &[(&str, &str)]) -> Value {
    let artifacts = |list: &[(&str, &str)]| -> Value {
        list.iter().map(|(path, digest)| ((*path).to_owned(), json!({"sha256": digest}))).collect()
    };
    json!({
        "_type": "link", "name": name, "command": ["make", "all"], "byproducts": {"stdout": "one\ntwo \"three\"\\"},
        "environment": {}, "materials": artifacts(materials), "products": artifacts(products),
    })
}

/// SHA-256 of what the owner signed.
fn digest(signed: &Value) -> String {
    format!("sha256:{}", sha256_hex(&sigstore_tuf::canonical_json::to_canonical_bytes(signed).unwrap()))
}

fn policy(layout: &str, owner: &str, functionaries: &[String]) -> String {
    format!(
        r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: layout}}
spec:
  match: {{resources: ["registry.layout.test/**"]}}
  layouts:
    - {{layout: "{layout}", signer: {{key: "{owner}"}}, functionaries: {{keys: {functionaries:?}}}}}
"#
    )
}

async fn image(admin: &Client) -> String {
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
            .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
                   "digest": format!("sha256:{}", sha256_hex(config.as_bytes()))},
        "layers": [], "annotations": {"n": acceptance::unique().to_string()}
    })
    .to_string();
    for (kind, bytes) in [("manifest", &manifest), ("config", &config)] {
        let media_type = format!("application/vnd.oci.image.{kind}.v1+json");
        let answer = admin.post_bytes("/v1/objects", &media_type, bytes.clone()).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.show());
    }
    sha256_hex(manifest.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_ends_in_the_image_and_another_does_not() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let (owner, ann, bob, mallory) =
        (Key::p256("owner"), Key::p256("ann"), Key::p256("bob"), Key::p256("mallory"));
    let mut ids = Vec::new();
    for (name, key) in [("owner", &owner), ("ann", &ann), ("bob", &bob), ("mallory", &mallory)] {
        ids.push(stage.add_key(name, &key.public_pem(), None).await.is(201).text("id").to_owned());
    }
    let signed = layout(&[&ann, &bob], "line one\nline two");
    stage.admin.apply("layout", &policy(&digest(&signed), &ids[0], &ids[1..])).await.is(201);
    let image = image(&stage.admin).await;
    let name = format!("{RESOURCE}@sha256:{image}");
    stage.verdict(&name).await.denies("LAY_MISSING");

    assert_eq!(stage.submit(metablock(&owner, &signed)).await.is(201).text("status"), "verified");
    stage.verdict(&name).await.denies("LAY_STEP_MISSING");
    let source = sha256_hex(b"int main;");
    let write = link("write", &[], &[("app.c", &source)]);
    let build = link("build", &[("app.c", &source)], &[("image", &image)]);
    assert_eq!(stage.submit(metablock(&ann, &write)).await.is(201).text("status"), "verified");
    // A trusted key that is not this step's (G25).
    stage.submit(metablock(&mallory, &build)).await.is(201);
    stage.verdict(&name).await.denies("LAY_FUNCTIONARY");
    assert_eq!(stage.submit(metablock(&bob, &build)).await.is(201).text("status"), "verified");
    stage.verdict(&name).await.passes();
    assert!(!Path::new("/tmp/catenary-never").exists(), "inspections are never run");

    // The same under another layout, one bit of which differs; and a link whose bytes differ.
    let other = layout(&[&ann, &bob], "line one\nline 2");
    stage.admin.apply("layout", &policy(&digest(&other), &ids[0], &ids[1..])).await.is(201);
    stage.verdict(&name).await.denies("LAY_MISSING");
    let forged = metablock(&bob, &build).replace("\"make\"", "\"cake\"");
    assert_eq!(stage.submit(forged).await.is(201).text("status"), "unverified");
    let fraction = metablock(&bob, &build).replace("\"environment\":{}", "\"environment\":{\"n\":1.5}");
    stage.submit(fraction).await.is_problem(422, "PREDICATE_INVALID");
    app.log_is_clean();
}

/// Files of a supply chain that the reference implementation made, if it is installed.
fn by_the_reference(folder: &Path, image: &str) -> bool {
    let script = r#"
import sys, os, json, hashlib
from in_toto.models.layout import Layout, Step
from in_toto.models.metadata import Metablock, Envelope
from in_toto.models.link import Link
from securesystemslib.signer import CryptoSigner
folder, image = sys.argv[1], sys.argv[2]
owner, ann, bob = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ed25519(), CryptoSigner.generate_rsa()
layout = Layout()
layout.set_relative_expiration(days=1)
for key in (ann, bob):
    layout.keys[key.public_key.keyid] = {"keyid": key.public_key.keyid, **key.public_key.to_dict()}
write, build = Step(name="write"), Step(name="build")
write.pubkeys, build.pubkeys = [ann.public_key.keyid], [bob.public_key.keyid]
write.add_product_rule_from_string("CREATE *.c")
build.add_material_rule_from_string("MATCH * WITH PRODUCTS FROM write")
build.add_material_rule_from_string("DISALLOW *")
layout.steps = [write, build]
source = {"sha256": hashlib.sha256(b"source").hexdigest()}
first = Link(name="write", materials={}, products={"app.c": source})
second = Link(name="build", materials={"app.c": source}, products={"image": {"sha256": image}})
def save(name, signed, key, dsse):
    block = Envelope.from_signable(signed) if dsse else Metablock(signed=signed)
    block.create_signature(key)
    block.dump(os.path.join(folder, name))
save("layout", layout, owner, False)
save("write.link", first, ann, False)
save("build.link", second, bob, True)
with open(os.path.join(folder, "owner.pem"), "w") as out:
    out.write(owner.public_key.keyval["public"])
"#;
    let python = std::env::var("CATENARY_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let known = Command::new(&python).args(["-c", "import in_toto.models.layout"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        acceptance::skip(
            "the reference implementation of in-toto",
            "the Python package in-toto is not installed",
        );
        return false;
    }
    let made = Command::new(python).args(["-c", script]).arg(folder).arg(image).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_the_reference_implementation_is_verified() {
    let app = App::start().await;
    let admin = app.admin();
    let image = image(&admin).await;
    let folder = tempfile::tempdir().unwrap();
    if !by_the_reference(folder.path(), &image) {
        return;
    }
    let file = |name: &str| folder.path().join(name);
    let layout = std::fs::read_to_string(file("layout")).unwrap();
    let owner = std::fs::read_to_string(file("owner.pem")).unwrap();
    let owner = admin.add_key("owner", &owner, None).await.is(201).text("id").to_owned();
    let added = app.run(&["key", "layout", file("layout").to_str().unwrap(), "--output", "json"]);
    assert!(added.status.success(), "{added:?}");
    let keys = admin.get("/v1/keys").await.is(200).list("items");
    let named = |key: &&Value| key["name"].as_str().unwrap().starts_with("functionary");
    let ids: Vec<String> =
        keys.iter().filter(named).map(|key| key["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2, "{keys:?}");
    for name in ["layout", "write.link", "build.link"] {
        let kept = admin.submit(std::fs::read(file(name)).unwrap()).await.is(201);
        assert_eq!(kept.text("status"), "verified", "{name}: {}", kept.0);
    }
    let signed: Value = serde_json::from_str(&layout).unwrap();
    admin.apply("layout", &policy(&digest(&signed["signed"]), &owner, &ids)).await.is(201);
    admin.verdict(&format!("{RESOURCE}@sha256:{image}")).await.passes();
    app.log_is_clean();
}
