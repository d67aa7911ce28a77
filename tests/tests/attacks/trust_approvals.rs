//! Attacks on what is added to trust: by one administrator alone.

use acceptance::{Client, honest, http::escape};
use catenary_testkit::{Key, authority::Authority};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(client: &Client, path: &str, body: &Value) -> acceptance::http::Answer {
    client.send(client.request(Method::PUT, path).json(body)).await
}

async fn waiting(client: &Client) -> Vec<Value> {
    client.get("/v1/approvals").await.is(200).list("waiting")
}

#[tokio::test]
async fn o15_nobody_adds_trust_alone() {
    let stage = honest().await;
    let (ann, bob) = (stage.as_role("admin").await, stage.as_role("admin").await);
    put(&ann, "/v1/approvals", &json!({"approvals": 1})).await.is(201);
    stage.judge().await.passes();

    // A key: not by its proposer again, by a second token of theirs, by who made theirs, by another role.
    let key = Key::p384("second");
    let added = ann.add_key("second", &key.public_pem(), None).await.is(202);
    assert_eq!((added.number("approvalsMissing"), &added.0["effectiveIndex"]), (1, &Value::Null));
    let wanted = json!({"key": key.id()});
    ann.post("/v1/approvals", &wanted).await.answers("O15");
    ann.as_role("admin").await.post("/v1/approvals", &wanted).await.answers("O15");
    stage.post("/v1/approvals", &wanted).await.answers("O15");
    for role in ["reader", "auditor", "submitter"] {
        stage.as_role(role).await.post("/v1/approvals", &wanted).await.is_problem(403, "AUTH_ROLE");
    }
    let path = format!("/v1/keys/{}", escape(&key.id()));
    assert!(stage.get(&path).await.is(200).0["effectiveIndex"].is_null());
    assert_eq!(waiting(&ann).await.len(), 1);
    bob.post("/v1/approvals", &wanted).await.is(201);
    let shown = stage.get(&path).await.is(200);
    assert!(shown.0["effectiveIndex"].is_u64() && shown.0["approvalsMissing"].is_null(), "{}", shown.0);
    bob.post("/v1/approvals", &wanted).await.is(200);
    bob.post("/v1/approvals", &json!({"key": Key::p384("nobody's").id()})).await.is_problem(404, "NOT_FOUND");

    // A trust root.
    let document = Authority::new("acme").trusted_root_json();
    let added = ann.post("/v1/trust", &json!({"domain": "acme", "document": document})).await.is(202);
    assert_eq!(added.number("approvalsMissing"), 1);
    let wanted = json!({"root": {"domain": "acme", "version": 1}});
    ann.post("/v1/approvals", &wanted).await.answers("O15");
    bob.post("/v1/approvals", &wanted).await.is(201);
    assert!(stage.get("/v1/trust/acme").await.is(200).0["effectiveIndex"].is_u64());

    // The members of a group.
    let members = json!({"keys": [key.id()], "principals": ["token:somebody"]});
    let set = put(&ann, "/v1/groups/release-managers", &members).await.is(202);
    assert!(set.list("keys").is_empty());
    let index = waiting(&bob).await[0]["change"]["group"].clone();
    ann.post("/v1/approvals", &json!({"group": index})).await.answers("O15");
    bob.post("/v1/approvals", &json!({"group": index})).await.is(201);
    let groups = stage.get("/v1/groups").await.is(200).list("items");
    assert_eq!((groups.len(), &groups[0]["keys"][0]), (1, &json!(key.id())));

    // The rule itself.
    put(&ann, "/v1/approvals", &json!({"approvals": 0})).await.is(202);
    put(&ann, "/v1/approvals", &json!({"approvals": 0})).await.answers("O15");
    put(&ann, "/v1/approvals", &json!({"approvals": 17})).await.is_problem(400, "REQ_MEMBER");
    let weaker = put(&bob, "/v1/approvals", &json!({"approvals": 0})).await.is(201);
    assert_eq!((weaker.number("approvals"), weaker.list("waiting").len()), (0, 0));
    put(&ann, "/v1/groups/release-managers", &json!({})).await.is(201);
    assert!(stage.get("/v1/groups").await.is(200).list("items").is_empty());

    // Taking trust away needs nobody else.
    put(&ann, "/v1/approvals", &json!({"approvals": 1})).await.is(201);
    ann.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
    stage.judge().await.denies("ATT_REVOKED_SIGNER");
}
