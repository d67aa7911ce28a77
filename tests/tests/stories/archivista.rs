//! Tekton Chains and Witness, pointed here instead of at Archivista.

use acceptance::{App, Stage};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_testkit::{Key, Statement, Subject};
use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

fn envelope(key: &Key) -> String {
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": acceptance::unique()}));
    statement.subject(Subject::new("x", "sha256", &"2".repeat(64))).signed_by(key).to_json()
}

/// As git names a blob, with SHA-256.
fn gitoid(bytes: &[u8]) -> String {
    let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    hex::encode(Sha256::digest(blob))
}

#[tokio::test]
async fn an_uploaded_envelope_is_evidence_and_is_downloaded_byte_for_byte() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let key = Key::p256("archivista");
    stage.add_key("witness", &key.public_pem(), None).await.is(201);
    let document = envelope(&key);
    let name = gitoid(document.as_bytes());
    for _ in 0..2 {
        let answer = stage.admin.post_bytes("/upload", "application/json", document.clone()).await.is(200);
        assert_eq!(answer.text("gitoid"), name);
    }
    let kept = stage.submit(document.clone()).await.is(200);
    assert_eq!(kept.text("status"), "verified", "the same document, by the other door");
    for path in [format!("/download/{name}"), format!("/download/gitoid:blob:sha256:{name}")] {
        let answer = stage.admin.get(&path).await;
        answer.is(200);
        assert_eq!(answer.body, document.as_bytes());
    }
    stage.get(&format!("/download/{}", "4".repeat(64))).await.is_problem(404, "NOT_FOUND");
    stage.get("/download/latest").await.is_problem(400, "REQ_INVALID_DIGEST");
    let bent = document.replacen("\"payload\":\"", "\"payload\":\"AAAA", 1);
    let refused = stage.admin.post_bytes("/upload", "application/json", bent).await;
    assert_eq!(refused.status, 422, "{}", refused.show());
    app.log_is_clean();
}

#[tokio::test]
async fn a_client_that_can_only_send_a_password_sends_its_token_so() {
    let stage = Stage::empty().await;
    let document = envelope(&Key::ed25519("nobody's"));
    let token = stage.as_role("submitter").await.token.unwrap();
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("token:{password}")));
    let send = |authorization: String| {
        let client = stage.admin.anonymous();
        let request = client.request(Method::POST, "/upload").header("authorization", authorization);
        let request = request.header("content-type", "application/json").body(document.clone());
        async move { client.send(request).await }
    };
    send(basic(&token)).await.is(200);
    assert_eq!(send(basic("wrong")).await.status, 401);
    assert_eq!(send("Basic !".into()).await.status, 401);
    // A submitter reads nothing, and the other routes take no passwords.
    let client = stage.admin.anonymous();
    let name = gitoid(document.as_bytes());
    for (path, status) in [(format!("/download/{name}"), 403), ("/v1/attestations".to_owned(), 401)] {
        let request = client.request(Method::GET, &path).header("authorization", basic(&token));
        assert_eq!(client.send(request).await.status, status, "{path}");
    }
    // What is not evidence cannot be had by its hash, though it is kept beside evidence.
    let other = Stage::empty().await;
    other.get(&format!("/download/{name}")).await.is_problem(404, "NOT_FOUND");
}
