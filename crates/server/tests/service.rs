//! The service over HTTP on a private cluster, one server a test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::time::Duration;

use catenary_server::{Config, Server};
use catenary_testkit::{Key, World};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Running {
    server: Server,
    http: Client,
    token: String,
    _data: TempDir,
}

impl Running {
    async fn start(extra: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let text = format!("listen = '127.0.0.1:0'\ndata = '{}'\n{extra}", data.path().display());
        let server = Server::start(Config::from_toml(&text).unwrap()).await.unwrap();
        let token = server.admin_token.clone().unwrap();
        let http = Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { server, http, token, _data: data }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.server.url())).bearer_auth(&self.token)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.request(Method::POST, path).json(body).send().await.unwrap()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> (StatusCode, Value) {
        read(self.request(method, path).header("content-type", media_type).body(body).send().await.unwrap())
            .await
    }

    async fn policy(&self, document: &str, name: &str) {
        let (status, answer) = self
            .send(Method::PUT, &format!("/v1/policies/{name}"), "application/yaml", document.to_owned())
            .await;
        assert!(status.is_success(), "{answer}");
    }

    async fn trust(&self, world: &World) {
        for (name, pem, scheme) in world.keys() {
            let (status, answer) =
                self.post("/v1/keys", &json!({ "name": name, "pem": pem, "scheme": scheme })).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            assert!(answer["effectiveIndex"].as_u64() > answer["index"].as_u64(), "{answer}");
        }
    }

    async fn feed(&self, world: &World) -> u64 {
        let mut last = 0;
        for object in world.objects() {
            let (status, answer) =
                self.send(Method::POST, "/v1/objects", &object.media_type, object.bytes.clone()).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
        }
        for envelope in world.envelopes() {
            let (status, answer) =
                self.send(Method::POST, "/v1/attestations", "application/json", envelope.to_bytes()).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            last = answer["index"].as_u64().unwrap();
        }
        last
    }
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test(flavor = "multi_thread")]
async fn k01_the_golden_chain_passes_and_a_revoked_key_breaks_it() {
    let app = Running::start("").await;
    let world = World::golden(1, now());
    let (status, ready) = app.get("/readyz").await;
    assert_eq!((status, &ready["rollbackDetection"]), (StatusCode::OK, &json!("on")), "{ready}");

    // O12: without any policy the answer is no.
    let verdict = format!("/v1/verdict?image={}&environment=prod", world.image());
    let (status, answer) = app.get(&verdict).await;
    assert_eq!((status, &answer["outcome"]), (StatusCode::OK, &json!("FAILED")), "{answer}");
    assert_eq!(answer["reasons"][0]["code"], "POL_NO_MATCH");

    app.trust(&world).await;
    app.policy(&world.policy(), "prod").await;
    let last = app.feed(&world).await;
    let (status, answer) = app.get(&format!("{verdict}&minIndex={last}")).await;
    assert_eq!(
        (status, &answer["outcome"], &answer["allowed"]),
        (StatusCode::OK, &json!("PASSED"), &json!(true)),
        "{answer:#}"
    );

    // The same again is the same bytes, and 304 for whoever has them.
    let first = app.request(Method::GET, &verdict).send().await.unwrap();
    let etag = first.headers()["etag"].clone();
    assert_eq!(first.headers()["cache-control"], "private, no-cache");
    assert_eq!(first.headers()["vary"], "Authorization");
    let again = app.request(Method::GET, &verdict).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let (status, answer) = app.get(&verdict.replace("/verdict", "/gate")).await;
    assert_eq!((status, &answer["allowed"]), (StatusCode::OK, &json!(true)));

    // Evidence that we export and a summary that we sign are about this image.
    let (status, envelope) = app.get(&format!("{verdict}&format=vsa")).await;
    assert_eq!((status, &envelope["payloadType"]), (StatusCode::OK, &json!("application/vnd.in-toto+json")));
    let digest = world.image().split_once('@').unwrap().1.to_owned();
    let (status, lines) =
        app.get(&format!("/v1/artifacts/{digest}/evidence?image={}&environment=prod", world.image())).await;
    assert_eq!(status, StatusCode::OK, "{lines}");
    assert!(lines.as_str().unwrap().lines().count() > 8);
    let (status, list) = app.get(&format!("/v1/verdict?digest={digest}&environment=prod")).await;
    assert_eq!((status, &list["outcome"]), (StatusCode::OK, &json!("PASSED")), "{list}");
    assert!(list["verdicts"][0].get("allowed").is_none());

    // H41: revoked, and no answer begun after the acknowledgement counts it.
    let (_, keys) = app.get("/v1/keys").await;
    let ci = keys["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["name"] == "ci")
        .unwrap_or_else(|| panic!("{keys}"))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (status, answer) = app.post(&format!("/v1/keys/{ci}/revoke"), &json!({ "reason": "stolen" })).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (_, answer) = app.get(&verdict).await;
    assert_eq!(answer["outcome"], "FAILED");
    let (status, answer) = app.get(&verdict.replace("/verdict", "/gate")).await;
    assert_eq!((status, &answer["allowed"]), (StatusCode::FORBIDDEN, &json!(false)));
    app.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_kept_once_as_it_was_sent_and_can_be_browsed() {
    let app = Running::start("").await;
    let world = World::golden(2, now());
    app.trust(&world).await;
    app.feed(&world).await;
    let bytes = world.build_envelope().to_bytes();
    let (status, kept) = app.send(Method::POST, "/v1/attestations", "application/json", bytes.clone()).await;
    assert!(status.is_success(), "{kept}");
    let id = kept["id"].as_str().unwrap().to_owned();
    let (status, again) = app.send(Method::POST, "/v1/attestations", "application/json", bytes.clone()).await;
    assert_eq!((status, &again["id"], &again["index"]), (StatusCode::OK, &kept["id"], &kept["index"]));
    let raw = app.request(Method::GET, &format!("/v1/attestations/{id}/raw")).send().await.unwrap();
    assert_eq!(raw.bytes().await.unwrap(), bytes);

    // A batch: the malformed one is refused, the ones around it go in.
    let other = world.source_envelope().to_json();
    let lines = format!("{other}\n{{\"payload\":1}}\n{other}\n");
    let (status, batch) = app.send(Method::POST, "/v1/attestations", "application/x-ndjson", lines).await;
    assert_eq!(status, StatusCode::OK);
    let statuses: Vec<_> =
        batch["items"].as_array().unwrap().iter().map(|i| i["status"].as_u64().unwrap()).collect();
    assert_eq!((statuses[0], statuses[2], statuses[1] / 100), (200, 200, 4), "{batch}");

    // A page at a time, without doubles; the cursor is for this list only (H35).
    let (_, page) = app.get("/v1/attestations?limit=2").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let (status, rest) = app.get(&format!("/v1/attestations?limit=2&cursor={next}")).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(page["items"][1]["id"], rest["items"][0]["id"]);
    let (status, problem) = app.get(&format!("/v1/attestations?limit=2&status=verified&cursor={next}")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("REQ_PAGINATION")));
    for bad in ["limit=1000000000", "limit=-1", "limit=1e9", "cursor=x"] {
        let (status, problem) = app.get(&format!("/v1/attestations?{bad}")).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("REQ_PAGINATION")), "{bad}");
    }
    let (_, found) = app
        .get("/v1/attestations?builder=https://ci.acme.test&predicateType=https://slsa.dev/provenance/v1")
        .await;
    assert!(!found["items"].as_array().unwrap().is_empty(), "{found}");

    let digest = world.image().split_once('@').unwrap().1.to_owned();
    let (status, artifact) = app.get(&format!("/v1/artifacts/{digest}")).await;
    assert_eq!((status, &artifact["kind"]), (StatusCode::OK, &json!("index")), "{artifact}");
    let (status, graph) = app.get(&format!("/v1/artifacts/{digest}/graph")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(graph["edges"].as_array().unwrap().len() > 5, "{graph}");
    let (status, _) = app.get(&format!("/v1/log/default/tile/0/000.p/{}", 4)).await;
    assert_eq!(status, StatusCode::OK);
    let (status, note) = app.get("/v1/log/default/checkpoint").await;
    assert_eq!(status, StatusCode::OK);
    assert!(note.as_str().unwrap().starts_with("catenary.local/default\n"), "{note}");
    app.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_problem_documents() {
    let app = Running::start("").await;
    let problem = |path: &'static str, method: Method| {
        let request = app.request(method, path);
        async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
            assert!(response.headers().contains_key("x-request-id"));
            let (status, body) = read(response).await;
            assert_eq!(body["status"], status.as_u16());
            assert!(body["requestId"].is_string());
            (status.as_u16(), body["code"].as_str().unwrap().to_owned())
        }
    };
    assert_eq!(problem("/nothing", Method::GET).await, (404, "NOT_FOUND".into()));
    assert_eq!(problem("/v1/attestations", Method::DELETE).await, (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(problem("/v1/attestations/x", Method::GET).await, (400, "REQ_INVALID_DIGEST".into()));
    assert_eq!(problem("/v1/keys?x=1", Method::GET).await, (400, "REQ_QUERY".into()));
    assert_eq!(problem("/v1/verdict", Method::GET).await, (400, "REQ_QUERY".into()));
    assert_eq!(
        problem("/v1/verdict?image=r.test/app:v1", Method::GET).await,
        (400, "REQ_TAG_NOT_DIGEST".into())
    );
    let bare = "/v1/gate?digest=sha256:6f4bbbe5a2d0bcb7b1d6a31f6ed3c07ba7b4ea7c8bd6cbf9fbb2a3d3be0cbd5a";
    assert_eq!(problem(bare, Method::GET).await, (400, "REQ_RESOURCE_REQUIRED".into()));
    assert_eq!(
        problem("/v1/keys?minIndex=9999&wait=0s", Method::GET).await,
        (503, "SYS_INGEST_PENDING".into())
    );

    // H01, H47, H52, compressed bodies, other media types.
    let anonymous = app.http.get(format!("{}/v1/keys", app.server.url())).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert!(anonymous.headers().contains_key("www-authenticate"));
    let (status, body) =
        app.post("/v1/tokens", &json!({ "name": "x", "role": "reader", "tenant": "globex" })).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("REQ_MEMBER")), "{body}");
    let (status, body) = app
        .send(Method::POST, "/v1/tokens", "application/json", r#"{"name":"a","name":"b","role":"reader"}"#)
        .await;
    assert_eq!((status, &body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("JSON_DUPLICATE_KEY")));
    let (status, _) = app.send(Method::POST, "/v1/tokens", "text/xml", "{}").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let encoded = app
        .request(Method::POST, "/v1/attestations")
        .header("content-encoding", "gzip")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(encoded.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let large =
        app.send(Method::POST, "/v1/attestations", "application/json", vec![b'a'; 8 * 1024 * 1024 + 1]).await;
    assert_eq!((large.0, &large.1["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("BODY_TOO_LARGE")));
    let bare = app.send(Method::POST, "/v1/attestations", "application/json", "{\"a\":").await;
    assert_eq!((bare.0, &bare.1["code"]), (StatusCode::BAD_REQUEST, &json!("JSON_INVALID")));
    app.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_other_and_tokens_end() {
    let app = Running::start("").await;
    let world = World::golden(4, now());
    let platform = app.server.platform_token.clone().unwrap();
    let make = |name: &str| {
        app.http
            .post(format!("{}/v1/tenants", app.server.url()))
            .bearer_auth(&platform)
            .json(&json!({ "name": name }))
    };
    let (status, tenant) = read(make("globex").send().await.unwrap()).await;
    assert_eq!(status, StatusCode::CREATED, "{tenant}");
    let globex = tenant["adminToken"].as_str().unwrap().to_owned();
    assert_eq!(make("globex").send().await.unwrap().status(), StatusCode::CONFLICT);
    assert_eq!(make("Globex").send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let (_, kept) = app
        .send(Method::POST, "/v1/attestations", "application/json", world.build_envelope().to_bytes())
        .await;
    assert_eq!(kept["status"], "unverified");
    // H25: the other tenant's evidence looks like none.
    let foreign = |path: String| app.http.get(format!("{}{path}", app.server.url())).bearer_auth(&globex);
    let id = kept["id"].as_str().unwrap();
    assert_eq!(
        foreign(format!("/v1/attestations/{id}")).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        foreign("/v1/log/default/checkpoint".into()).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(foreign("/v1/log/globex/checkpoint".into()).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(foreign("/v1/tenants".into()).send().await.unwrap().status(), StatusCode::FORBIDDEN);

    // H24, H28, H29.
    let (status, made) = app.post("/v1/tokens", &json!({ "name": "ci", "role": "submitter", "repositories": ["git+https://git.acme.test/acme/lib"] })).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let submit = |bytes: Vec<u8>| {
        app.http
            .post(format!("{}/v1/attestations", app.server.url()))
            .bearer_auth(made["token"].as_str().unwrap())
            .header("content-type", "application/json")
            .body(bytes)
    };
    let (status, problem) = read(submit(world.build_envelope().to_bytes()).send().await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("AUTH_SCOPE")), "{problem}");
    let reads = app
        .http
        .get(format!("{}/v1/attestations", app.server.url()))
        .bearer_auth(made["token"].as_str().unwrap());
    assert_eq!(reads.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let (status, _) = app
        .post(&format!("/v1/tokens/{}/revoke", made["id"].as_str().unwrap()), &json!({ "reason": "lost" }))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(submit(Vec::new()).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let _ = Key::ed25519("unused");
    app.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_does_not_roll_back_and_lints_with_its_place() {
    let app = Running::start("").await;
    let world = World::golden(5, now());
    let put = |document: String| app.send(Method::PUT, "/v1/policies/prod", "application/yaml", document);
    let (first, second) = (world.policy(), format!("{}# changed\n", world.policy()));
    let (status, answer) = put(first.clone()).await;
    assert_eq!((status, &answer["revision"]), (StatusCode::CREATED, &json!(1)), "{answer}");
    assert_eq!(put(first.clone()).await.0, StatusCode::OK);
    assert_eq!(put(second).await.1["revision"], 2);
    let (status, problem) = put(first).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("POL_ROLLBACK")));
    let (status, problem) = app
        .send(Method::POST, "/v1/policies:lint", "application/yaml", "apiVersion: catenary/v1\nkindd: x\n")
        .await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("POL_INVALID")));
    assert_eq!(problem["line"], 2, "{problem}");
    let (_, shown) = app.get("/v1/policies/prod").await;
    assert!(shown["document"].as_str().unwrap().ends_with("# changed\n"));
    app.server.shutdown().await;
}
