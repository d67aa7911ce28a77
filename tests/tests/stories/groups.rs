//! Groups of the tenant: whom a policy means by a name, over HTTP and with the command.

use acceptance::{App, Stage, http::Answer};
use reqwest::Method;
use serde_json::{Value, json};

async fn set(stage: &Stage, name: &str, members: &Value) -> Answer {
    stage.send(stage.request(Method::PUT, &format!("/v1/groups/{name}")).json(members)).await
}

/// The golden policy, whose builder is whoever is in the group.
fn policy(stage: &Stage) -> String {
    let key = format!("signer: {{key: \"{}\"}}, builderId", stage.world.k_ci.id());
    let policy = stage.world.policy();
    assert!(policy.contains(&key), "{policy}");
    policy.replace(&key, "signer: {group: builders}, builderId")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_a_group_decides_and_who_is_taken_out_does_not() {
    let stage = Stage::empty().await;
    stage.apply("prod", &policy(&stage)).await.is(201);
    stage.post_world().await;
    stage.judge().await.denies("BLD_SIGNER_NOT_TRUSTED");

    let (ci, vcs) = (stage.world.k_ci.id(), stage.world.k_vcs.id());
    let made = set(&stage, "builders", &json!({"keys": [ci]})).await.is(201);
    assert_eq!((made.text("name"), made.0["keys"][0].as_str()), ("builders", Some(ci.as_str())));
    set(&stage, "builders", &json!({"keys": [ci]})).await.is(200);
    stage.judge().await.passes();
    let before = stage.judge().await.passes().0;

    // Somebody else in its place.
    set(&stage, "builders", &json!({"keys": [vcs]})).await.is(201);
    stage.judge().await.denies("BLD_SIGNER_NOT_TRUSTED");
    let known = before["log"]["size"].as_u64().unwrap();
    let image = acceptance::http::escape(&stage.world.image());
    let as_of = acceptance::http::escape(before["evaluatedAt"].as_str().unwrap());
    let then = format!("/v1/verdict?image={image}&environment=prod&asOf={as_of}&knownAt={known}");
    assert_eq!(stage.get(&then).await.passes().0["id"], before["id"], "what was known then");

    set(&stage, "builders", &json!({"keys": [ci, vcs]})).await.is(201);
    stage.judge().await.passes();
    // With nobody in it there is no such group.
    set(&stage, "builders", &json!({})).await.is(201);
    stage.judge().await.denies("BLD_SIGNER_NOT_TRUSTED");
    assert!(stage.get("/v1/groups").await.is(200).list("items").iter().all(|g| g["name"] != "builders"));
}

#[tokio::test]
async fn what_cannot_be_a_group_is_refused_and_the_group_stays() {
    let stage = Stage::empty().await;
    let ci = stage.world.k_ci.id();
    set(&stage, "builders", &json!({"keys": [ci]})).await.is(201);
    let unknown = format!("sha256:{}", "ab".repeat(32));
    set(&stage, "builders", &json!({"keys": [unknown]})).await.is_problem(404, "NOT_FOUND");
    set(&stage, "builders", &json!({"keys": ["ci"]})).await.is_problem(400, "REQ_MEMBER");
    set(&stage, "builders", &json!({"key": [ci]})).await.is_problem(400, "REQ_MEMBER");
    set(&stage, "Builders", &json!({"keys": [ci]})).await.is_problem(400, "REQ_MEMBER");
    let many: Vec<String> = (0..257).map(|n| format!("token:{n}")).collect();
    set(&stage, "builders", &json!({"principals": many})).await.is_problem(400, "REQ_MEMBER");
    for role in ["reader", "submitter", "auditor"] {
        let other = stage.as_role(role).await;
        let request = other.request(Method::PUT, "/v1/groups/builders").json(&json!({}));
        other.send(request).await.is_problem(403, "AUTH_ROLE");
    }
    let list = stage.get("/v1/groups").await.is(200).list("items");
    assert_eq!(list.iter().map(|g| g["keys"].clone()).collect::<Vec<_>>(), [json!([ci])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_set_from_the_command_line() {
    let app = App::start().await;
    let stage = Stage::in_default(&app).await;
    let ci = stage.world.k_ci.id();
    let run = app.run(&["group", "set", "builders", "--key", &ci, "--principal", "token:ann"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let run = app.run(&["group", "list"]);
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(text.contains(&format!("builders: {ci} token:ann")), "{text}");
    let run = app.run(&["group", "set", "builders", "--key", "sha256:00"]);
    assert!(!run.status.success());
    let kept = stage.get("/v1/groups").await.is(200).list("items");
    assert_eq!(kept[0]["principals"], json!(["token:ann"]), "the group stays");
}
