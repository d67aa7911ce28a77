//! From nothing to a verdict with the README alone; from CI with curl alone.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use acceptance::{App, Stage, app::program, honest};
use catenary_testkit::sha256_hex;

/// The first block of shell after a heading or comment of a document.
fn shell_after(document: &str, mark: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document)).unwrap();
    let after = &text[text.find(mark).unwrap_or_else(|| panic!("{document} has no {mark:?}"))..];
    let block = after.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    block.to_owned()
}

/// A folder with the command `catenary` in `bin` and a git repository in `checkout`.
fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("bin")).unwrap();
    std::os::unix::fs::symlink(program(), path("bin/catenary")).unwrap();
    fs::create_dir(path("checkout")).unwrap();
    fs::write(path("checkout/main.c"), "int main(void) { return 0; }\n").unwrap();
    let git = "git init -q -b main . && git add . && git -c user.name=Dev -c user.email=dev@acme.test commit -q -m Begin";
    let run = Command::new("sh").args(["-c", git]).current_dir(path("checkout")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    folder
}

fn shell(app: &App, folder: &Path, image: &str, script: &str) -> Output {
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder)
        .env("PATH", path)
        .env("CATENARY_SERVER", &app.url)
        .env("CATENARY_DATA", &app.data)
        .env("IMAGE", image)
        .output()
        .unwrap()
}

fn text(run: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_a_verdict_with_the_readme_alone() {
    let app = App::start().await;
    let folder = workshop();
    let image = format!("registry.example.com/shop/api@sha256:{}", sha256_hex(b"their image"));
    let steps: Vec<String> = shell_after("README.md", "## Ten minutes")
        .lines()
        .filter(|line| {
            !["cargo install", "catenary serve", "IMAGE="].iter().any(|start| line.starts_with(start))
        })
        .map(|line| line.replace("cd your/checkout", "cd checkout"))
        .collect();
    let script = steps.join("\n");
    assert!(script.contains("catenary verdict"), "{script}");
    let run = shell(&app, folder.path(), &image, &script);
    assert!(run.status.success(), "{}\n{script}", text(&run));
    assert!(text(&run).contains("PASSED"), "{}", text(&run));

    // Another commit than the one that was built from: denied, and the explanation says why.
    let other = format!("registry.example.com/shop/api@sha256:{}", sha256_hex(b"another image"));
    let wrong = "cd checkout
        catenary attest build --source https://git.example.com/shop/api --commit 1111111111111111111111111111111111111111 --image \"$IMAGE\" --key ../ci.key --out wrong.json
        catenary push wrong.json";
    let run = shell(&app, folder.path(), &other, wrong);
    assert!(run.status.success(), "{}", text(&run));
    let verdict = shell(&app, folder.path(), &other, "catenary verdict \"$IMAGE\"");
    assert_eq!(verdict.status.code(), Some(1), "{}", text(&verdict));
    let explain = shell(&app, folder.path(), &other, "catenary explain \"$IMAGE\"");
    assert_eq!(explain.status.code(), Some(1));
    assert!(text(&explain).contains("SRC_COMMIT_UNKNOWN"), "{}", text(&explain));
    // An image that nobody ever spoke of.
    let unknown = format!("registry.example.com/shop/api@sha256:{}", "0123456789abcdef".repeat(4));
    assert_eq!(shell(&app, folder.path(), &unknown, "catenary verdict \"$IMAGE\"").status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_usage_credential_and_network_apart() {
    let app = App::start().await;
    let folder = workshop();
    let image = format!("r.test/a@sha256:{}", "0123456789abcdef".repeat(4));
    let code = |script: &str| {
        let run = shell(&app, folder.path(), &image, script);
        (run.status.code(), text(&run))
    };
    for (script, expected) in [
        ("catenary verdict", 3),
        ("catenary verdict r.test/a:latest", 3),
        ("CATENARY_TOKEN=wrong catenary verdict \"$IMAGE\"", 4),
        ("catenary --server http://127.0.0.1:1 verdict \"$IMAGE\"", 5),
        ("catenary policy lint /nowhere", 3),
    ] {
        let (found, output) = code(script);
        assert_eq!(found, Some(expected), "{script}: {output}");
    }
    let (_, output) = code("catenary verdict \"$IMAGE\" --output json; true");
    let value: serde_json::Value = serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output}"));
    assert_eq!(value["outcome"], "FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_steps_of_the_ci_page_work() {
    let script = shell_after("docs/ci.md", "the block below is run by tests");
    let stage = Stage::empty().await;
    let run = |stage: &Stage| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("build.dsse.json"), stage.world.build_envelope().to_bytes()).unwrap();
        Command::new("sh")
            .args(["-ec", &script])
            .current_dir(folder.path())
            .env("CATENARY_TOKEN", stage.token.as_deref().unwrap())
            .env("CATENARY_SERVER", &stage.url)
            .env("IMAGE_REF", stage.world.image())
            .output()
            .unwrap()
    };
    // The gate says no while evidence is missing, and yes once it is there.
    let before = run(&stage);
    assert!(text(&before).contains("GATE_DENIED"), "{}", text(&before));
    stage.post_objects(&stage.world).await;
    stage.post_envelopes(&[stage.world.source_envelope(), stage.world.push_envelope()]).await;
    let after = run(&stage);
    assert!(after.status.success() && text(&after).contains("\"allowed\":true"), "{}", text(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_verdict_is_replayed_without_a_service() {
    let stage = honest().await;
    let folder = tempfile::tempdir().unwrap();
    let (evidence, policy) = (folder.path().join("evidence.jsonl"), folder.path().join("policy.yaml"));
    let image = stage.world.image();
    let path =
        format!("/v1/artifacts/{}/evidence?image={image}&environment=prod", stage.world.index.digest());
    let export = stage.get(&path).await;
    export.is(200);
    assert!(
        export.header("content-type").starts_with("application/x-ndjson"),
        "{}",
        export.header("content-type")
    );
    fs::write(&evidence, &export.body).unwrap();
    fs::write(&policy, stage.world.policy()).unwrap();
    let replay = |file: &Path| {
        Command::new(program())
            .args(["verdict", &image, "--env", "prod", "--output", "json", "--offline"])
            .arg(file)
            .arg("--policy")
            .arg(&policy)
            .env("CATENARY_SERVER", "http://127.0.0.1:1")
            .output()
            .unwrap()
    };
    let run = replay(&evidence);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
    let value: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(value["outcome"], "PASSED");
    // Without one of its attestations the chain is broken; with one altered bit it is refused or broken. Never yes.
    let lines: Vec<&str> = std::str::from_utf8(&export.body).unwrap().lines().collect();
    let attestations: Vec<usize> =
        (0..lines.len()).filter(|n| lines[*n].contains("\"type\":\"attestation\"")).collect();
    assert!(attestations.len() >= 3, "{}", lines.len());
    for at in attestations {
        let without: Vec<&str> =
            lines.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, line)| *line).collect();
        let file = folder.path().join("without.jsonl");
        fs::write(&file, without.join("\n")).unwrap();
        assert_ne!(replay(&file).status.code(), Some(0), "a chain without a link passes offline");
        let mut value: serde_json::Value = serde_json::from_str(lines[at]).unwrap();
        let body = value["body"].as_str().unwrap().to_owned();
        let (head, tail) = body.split_at(body.len() / 2);
        let swapped = if tail.starts_with('A') { "B" } else { "A" };
        value["body"] = format!("{head}{swapped}{}", &tail[1..]).into();
        let mut altered: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        altered[at] = value.to_string();
        fs::write(&file, altered.join("\n")).unwrap();
        assert_ne!(replay(&file).status.code(), Some(0), "an altered body passes offline");
    }
}
