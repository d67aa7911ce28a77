//! Reviews by Kubernetes that hide an image, or ask about too many.

use acceptance::{Stage, honest};
use serde_json::{Value, json};

fn review(operation: &str, object: Value, old: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "name": "api-0", "namespace": "shop",
        "operation": operation, "dryRun": false, "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": object, "oldObject": old, "options": null}})
}

async fn admit(stage: &Stage, operation: &str, object: Value, old: Value) -> Value {
    let answer =
        stage.post("/v1/k8s/admit?environment=prod&timeout=10s", &review(operation, object, old)).await;
    let body = answer.is(200).0;
    assert_eq!(body["kind"], "AdmissionReview");
    assert_eq!(body["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    body["response"].clone()
}

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api-0"}, "spec": spec})
}

#[tokio::test]
async fn h42_an_image_is_hidden_where_few_look() {
    let stage = honest().await;
    let good = stage.world.image();
    let evil = format!("{}@sha256:{}", catenary_testkit::world::RESOURCE, "e".repeat(64));
    let main = json!([{"name": "api", "image": good}]);
    let answer = admit(&stage, "CREATE", pod(json!({"containers": main})), Value::Null).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    let hidden = |spec: Value| {
        let mut spec = spec;
        spec["containers"] = main.clone();
        spec
    };
    let init = pod(hidden(json!({"initContainers": [{"name": "x", "image": evil}]})));
    let ephemeral = pod(hidden(json!({"ephemeralContainers": [{"name": "x", "image": evil}]})));
    let volume = pod(hidden(json!({"volumes": [{"name": "v", "image": {"reference": evil}}]})));
    let template = json!({"kind": "Widget", "spec": {"workers": [{"template": {"spec": hidden(json!({"initContainers": [{"name": "x", "image": evil}]}))}}]}});
    let by_tag = pod(
        json!({"containers": [{"name": "x", "image": format!("{}:latest", catenary_testkit::world::RESOURCE)}]}),
    );
    let nameless = pod(hidden(json!({"initContainers": [{"name": "x"}]})));
    for object in [init, ephemeral, volume, template, by_tag, nameless] {
        let answer = admit(&stage, "CREATE", object.clone(), Value::Null).await;
        assert_eq!(answer["allowed"], false, "{object}: {answer}");
        assert_eq!(answer["status"]["code"], 403);
        assert!(
            answer["status"]["message"].as_str().is_some_and(|m| m.starts_with("catenary: ")),
            "{answer}"
        );
    }
    // Only what an update adds is asked about; a deletion is not.
    let running = pod(json!({"containers": [{"name": "x", "image": evil}]}));
    assert_eq!(admit(&stage, "UPDATE", running.clone(), running.clone()).await["allowed"], true);
    assert_eq!(
        admit(&stage, "UPDATE", running.clone(), pod(json!({"containers": main}))).await["allowed"],
        false
    );
    assert_eq!(admit(&stage, "DELETE", Value::Null, running).await["allowed"], true);
    // What is no review is not understood: Kubernetes' own failure policy decides then.
    for bad in [
        json!({}),
        json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "x", "operation": "CREATE"}}),
    ] {
        let answer = stage.post("/v1/k8s/admit", &bad).await;
        assert!((400..500).contains(&answer.status), "{}", answer.show());
    }
}

#[tokio::test]
async fn h46_the_last_of_500_images_is_not_attested() {
    let stage = honest().await;
    let good = stage.world.image();
    let evil = format!("{}@sha256:{}", catenary_testkit::world::RESOURCE, "e".repeat(64));
    let mut containers: Vec<Value> =
        (0..499).map(|n| json!({"name": format!("c{n}"), "image": good})).collect();
    let all_good = admit(&stage, "CREATE", pod(json!({"containers": containers})), Value::Null).await;
    assert_eq!(all_good["allowed"], true);
    containers.push(json!({"name": "last", "image": evil}));
    let answer = admit(&stage, "CREATE", pod(json!({"containers": containers})), Value::Null).await;
    assert_eq!(answer["allowed"], false, "{answer}");
    // As many different ones: each is asked about, within the time that Kubernetes waits.
    let different = |n: usize| format!("{}@sha256:{n:064x}", catenary_testkit::world::RESOURCE);
    let containers: Vec<Value> =
        (0..500).map(|n| json!({"name": format!("c{n}"), "image": different(n)})).collect();
    let answer = admit(&stage, "CREATE", pod(json!({"containers": containers})), Value::Null).await;
    assert_eq!(answer["allowed"], false);
    assert!(answer["status"]["message"].as_str().unwrap().contains("497 more"), "{answer}");
    let too_many: Vec<Value> =
        (0..1_001).map(|n| json!({"name": format!("c{n}"), "image": different(n)})).collect();
    let answer = admit(&stage, "CREATE", pod(json!({"containers": too_many})), Value::Null).await;
    assert_eq!(answer["allowed"], false, "too many to look at is no yes");
}
