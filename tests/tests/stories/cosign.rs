//! The real cosign, as a producer of evidence and as a verifier of our verdicts. `CATENARY_COSIGN` names the
//! program where it is not on the path.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use acceptance::{Stage, installed, skip};

const VSA: &str = "https://slsa.dev/verification_summary/v1";

fn program() -> Option<String> {
    let named = std::env::var("CATENARY_COSIGN").ok();
    named.or_else(|| installed("cosign").then(|| "cosign".to_owned()))
}

fn cosign(program: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir(folder).env("COSIGN_PASSWORD", "").output().unwrap()
}

fn done(run: &Output) {
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_signs_provenance_and_verifies_the_verdict() {
    let Some(program) = program() else {
        skip("cosign_signs_provenance_and_verifies_the_verdict", "cosign is not installed");
        return;
    };
    let stage = Stage::empty().await;
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| cosign(&program, folder.path(), arguments);
    fs::write(folder.path().join("index.json"), stage.world.index.document().bytes).unwrap();
    fs::write(folder.path().join("predicate.json"), stage.world.build.predicate().to_string()).unwrap();
    done(&run(&["generate-key-pair"]));

    // cosign's key takes the place of the CI's in the golden policy.
    let pem = fs::read_to_string(folder.path().join("cosign.pub")).unwrap();
    let key = stage.add_key("cosign", &pem, None).await.is(201).text("id").to_owned();
    let policy = stage.world.policy().replace(&stage.world.k_ci.id(), &key);
    stage.apply("prod", &policy).await.is(201);
    stage.post_objects(&stage.world).await;
    stage.post_envelopes(&[stage.world.source_envelope(), stage.world.push_envelope()]).await;
    stage.judge().await.denies("BLD_NO_PROVENANCE");

    // A bundle with a key hint is kept as verified; so is the plain envelope, which closes the chain.
    let attest =
        ["attest-blob", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--type", "slsaprovenance1"];
    let bundle = [
        &attest[..],
        &["--predicate", "predicate.json", "--new-bundle-format", "--bundle", "bundle.json", "index.json"],
    ];
    done(&run(&bundle.concat()));
    let bundle = fs::read(folder.path().join("bundle.json")).unwrap();
    assert_eq!(stage.submit(bundle).await.is(201).text("status"), "verified");
    let plain = run(&[&attest[..], &["--predicate", "predicate.json", "index.json"]].concat());
    done(&plain);
    let envelope = plain.stdout.trim_ascii().to_vec();
    assert_eq!(stage.submit(envelope).await.is(201).text("status"), "verified");
    stage.judge().await.passes();

    let vsa =
        stage.get(&format!("/v1/verdict?image={}&environment=prod&format=vsa", stage.world.image())).await;
    vsa.is(200);
    fs::write(folder.path().join("vsa.json"), &vsa.body).unwrap();
    let public = stage.anonymous().get("/.well-known/catenary/vsa.pem").await;
    public.is(200);
    fs::write(folder.path().join("vsa.pem"), &public.body).unwrap();
    let verify = [
        "verify-blob-attestation",
        "--key",
        "vsa.pem",
        "--signature",
        "vsa.json",
        "--insecure-ignore-tlog=true",
        "--type",
        VSA,
    ];
    done(&run(&[&verify[..], &["index.json"]].concat()));
    // The same verdict says nothing about other bytes.
    let other = run(&[&verify[..], &["predicate.json"]].concat());
    assert!(!other.status.success(), "cosign takes the verdict for another file");
}
