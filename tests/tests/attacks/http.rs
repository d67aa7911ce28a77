//! Attacks on the HTTP surface.

use std::time::{Duration, Instant};

use acceptance::{
    App, Stage, honest,
    http::escape,
    listener::{Listener, Reply},
    mutant,
};
use catenary_testkit::{Statement, Subject};
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn h01_no_credentials() {
    let stage = honest().await;
    let nobody = stage.anonymous();
    for path in ["/v1/attestations", "/v1/keys", "/v1/policies", "/v1/tokens", "/v1/tenants"] {
        nobody.get(path).await.answers("H01");
    }
    nobody.verdict(&stage.world.image()).await.answers("H01");
    nobody.get(&format!("/v1/gate?image={}", stage.world.image())).await.answers("H01");
    nobody.get(&format!("/v1/log/{}/checkpoint", stage.tenant)).await.answers("H01");
    nobody.submit(stage.world.build_envelope().to_bytes()).await.answers("H01");
    nobody.apply("prod", &stage.world.policy()).await.answers("H01");
    for token in ["", "x", "ctn_default_x_y_z", "Basic abc"] {
        let answer = nobody.with(token).get("/v1/keys").await;
        assert_eq!(answer.status, 401, "{token}: {}", answer.show());
    }
    stage.judge().await.passes();
}

#[tokio::test]
async fn h25_reading_another_tenants_attestation() {
    let (acme, globex) = (honest().await, honest().await);
    let list = globex.get("/v1/attestations?limit=1").await.is(200).list("items");
    let id = list[0]["id"].as_str().unwrap().to_owned();
    globex.get(&format!("/v1/attestations/{id}")).await.is(200);
    let unknown = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for suffix in ["", "/raw", "/proof"] {
        let foreign = acme.get(&format!("/v1/attestations/{id}{suffix}")).await;
        let absent = acme.get(&format!("/v1/attestations/{unknown}{suffix}")).await;
        foreign.answers("H25");
        let plain = |answer: &acceptance::Answer| {
            let mut body = answer.json();
            body.as_object_mut().unwrap().remove("requestId");
            body.to_string()
        };
        assert_eq!(plain(&foreign), plain(&absent));
    }
    let image = globex.world.index.digest();
    acme.get(&format!("/v1/objects/{}", escape(&image))).await.is(404);
    acme.get(&format!("/v1/artifacts/{}", escape(&image))).await.is(404);
}

#[tokio::test]
async fn h27_no_context_leaks_between_tenants_on_a_pooled_connection() {
    let (acme, globex) = (honest().await, Stage::empty().await);
    for _ in 0..20 {
        let (full, empty) = tokio::join!(acme.get("/v1/attestations"), globex.get("/v1/attestations"));
        assert!(!full.is(200).list("items").is_empty());
        assert!(empty.is(200).list("items").is_empty(), "{}", empty.show());
        let foreign = globex.verdict(&acme.world.image()).await;
        assert_eq!(foreign.outcome(), "FAILED");
    }
    acme.judge().await.passes();
}

#[tokio::test]
async fn h28_role_escalation_matrix() {
    let stage = honest().await;
    let image = stage.world.image();
    let digest = stage.world.index.digest();
    let (submit, read, audit, admin) = ("submitter", "reader", "auditor", "admin");
    let everyone_reads = || vec![read, audit, admin];
    let post = |path: &str| (Method::POST, path.to_owned());
    let get = |path: String| (Method::GET, path);
    let rows: Vec<((Method, String), Vec<&str>)> = vec![
        (post("/v1/attestations"), vec![submit, admin]),
        (post("/v1/objects"), vec![submit, admin]),
        (get("/v1/attestations".into()), everyone_reads()),
        (get(format!("/v1/artifacts/{digest}")), everyone_reads()),
        (get(format!("/v1/verdict?image={image}")), everyone_reads()),
        (get(format!("/v1/gate?image={image}")), everyone_reads()),
        (post("/v1/verdicts"), everyone_reads()),
        (get("/v1/policies".into()), everyone_reads()),
        (get("/v1/keys".into()), everyone_reads()),
        (get(format!("/v1/artifacts/{digest}/evidence?image={image}")), vec![audit, admin]),
        (get(format!("/v1/log/{}/checkpoint", stage.tenant)), vec![audit, admin]),
        (get("/v1/tokens".into()), vec![audit, admin]),
        ((Method::PUT, "/v1/policies/prod".into()), vec![admin]),
        (post("/v1/keys"), vec![admin]),
        (post(&format!("/v1/keys/{}/revoke", stage.world.k_ci.id())), vec![admin]),
        (post("/v1/tokens"), vec![admin]),
        (post("/v1/tokens/AAAAAAAAAA/revoke"), vec![admin]),
        (post("/v1/registry/reconcile"), vec![admin]),
        (post("/v1/tenants"), vec![]),
        (get("/v1/tenants".into()), vec![]),
    ];
    let mut clients = vec![("platform-admin", App::shared().await.platform())];
    for role in [submit, read, audit] {
        clients.push((role, stage.as_role(role).await));
    }
    for (role, client) in &clients {
        for ((method, path), allowed) in &rows {
            if *role == "platform-admin" && path.starts_with("/v1/tenants") {
                continue;
            }
            // No body: whoever may is told that it is missing, whoever may not is told so first.
            let answer = client.send(client.request(method.clone(), path)).await;
            if allowed.contains(role) {
                assert!(![401, 403].contains(&answer.status), "{role} {method} {path}: {}", answer.show());
            } else if answer.status != 404 || *role != "platform-admin" {
                println!("{role} {method} {path}: {}", answer.status);
                answer.answers("H28");
            }
        }
    }
    // No tenant's administrator makes tenants, and no token is made with more than its maker has.
    stage.post("/v1/tenants", &json!({"name": "mine", "publicLog": false})).await.answers("H28");
    let answer = stage.token(&json!({"name": "x", "role": "platform-admin", "expiresIn": "1h"})).await;
    assert!([400, 403, 422].contains(&answer.status), "{}", answer.show());
    stage.judge().await.passes();
}

#[tokio::test]
async fn h29_a_revoked_token_is_refused_at_once() {
    let stage = honest().await;
    let created = stage.token(&json!({"name": "short", "role": "reader", "expiresIn": "1h"})).await.is(201);
    let client = stage.with(created.text("token"));
    client.verdict(&stage.world.image()).await.passes();
    stage
        .post(&format!("/v1/tokens/{}/revoke", created.text("id")), &json!({"reason": "lost"}))
        .await
        .is(200);
    client.verdict(&stage.world.image()).await.answers("H29");
    stage.judge().await.passes();
}

#[tokio::test]
async fn h29_a_token_with_a_flipped_character_is_refused() {
    let stage = honest().await;
    let token = stage.token.clone().unwrap();
    for at in [6, token.len() / 2, token.len() - 1] {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        let answer = stage.with(&String::from_utf8(bytes).unwrap()).get("/v1/keys").await;
        assert_eq!(answer.status, 401, "{}", answer.show());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h33_slow_headers_are_closed_while_others_are_served() {
    let stage = honest().await;
    let address = stage.url.trim_start_matches("http://").to_owned();
    let open = |slow: bool| {
        let address = address.clone();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let begun = Instant::now();
            let mut buffer = [0; 1024];
            loop {
                if slow && stream.write_all(b"G").await.is_err() {
                    return begun.elapsed();
                }
                match tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await {
                    Ok(Ok(0) | Err(_)) => return begun.elapsed(),
                    Ok(Ok(_)) => {}
                    Err(_) if begun.elapsed() > Duration::from_secs(60) => return begun.elapsed(),
                    Err(_) => {}
                }
            }
        })
    };
    let connections: Vec<_> = (0..200).map(|n| open(n % 2 == 0)).collect();
    for _ in 0..20 {
        let begun = Instant::now();
        stage.judge().await.passes();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    for (n, connection) in connections.into_iter().enumerate() {
        let open = connection.await.unwrap();
        println!("{n}: {open:?}");
        assert!(open <= Duration::from_secs(36), "connection {n} stayed open for {open:?}");
    }
}

#[tokio::test]
async fn h35_pagination_abuse() {
    let stage = honest().await;
    for limit in ["1000000000", "-1", "1e9", "0", "201", "%00", ""] {
        stage.get(&format!("/v1/attestations?limit={limit}")).await.answers("H35");
    }
    let other = honest().await;
    let foreign = other.get("/v1/attestations?limit=1").await.is(200).text("next").to_owned();
    for cursor in ["x", "AAAA", "%ff", "9999999999999999999999"] {
        stage.get(&format!("/v1/attestations?cursor={cursor}")).await.answers("H35");
    }
    // A foreign tenant's cursor is refused or only pages over one's own.
    let answer = stage.get(&format!("/v1/attestations?cursor={}", escape(&foreign))).await;
    if answer.status == 200 {
        for item in answer.is(200).list("items") {
            stage.get(&format!("/v1/attestations/{}", item["id"].as_str().unwrap())).await.is(200);
        }
    } else {
        answer.answers("H35");
    }
    // Honest paging sees everything once.
    let mut ids = Vec::new();
    let mut path = "/v1/attestations?limit=1".to_owned();
    loop {
        let page = stage.get(&path).await.is(200);
        ids.extend(page.list("items").iter().map(|i| i["id"].as_str().unwrap().to_owned()));
        match page.0["next"].as_str() {
            Some(next) => path = format!("/v1/attestations?limit=1&cursor={}", escape(next)),
            None => break,
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn h36_injection_through_queries() {
    let stage = honest().await;
    let texts = [
        "%';drop table attestation--",
        &"\\%_".repeat(2_000),
        &"\\%_".repeat(5_000),
        "$.* ? (@.a > 1)",
        "' OR 1=1 --",
        "\u{0}",
        "a\u{0}b",
    ];
    for text in texts {
        for name in
            ["subject", "predicateType", "signer", "builder", "sourceRepository", "sourceCommit", "since"]
        {
            let begun = Instant::now();
            let answer = stage.get(&format!("/v1/attestations?{name}={}", escape(text))).await;
            assert!([200, 400, 414, 431].contains(&answer.status), "{name}={text:.20}: {}", answer.show());
            if answer.status == 200 {
                assert!(answer.is(200).list("items").is_empty(), "{name}={text:.20}: {}", answer.show());
            }
            assert!(begun.elapsed() < Duration::from_secs(1));
        }
    }
    stage.judge().await.passes();
}

#[tokio::test]
async fn h38_a_url_in_evidence_is_never_fetched() {
    let host = Listener::start(Reply::Body("application/json", b"{}".to_vec())).await;
    let target = host.url.clone();
    let stage = mutant(|world| {
        world.build.source_uri = format!("git+{target}/acme/app");
        world.build.extra_dependencies.push(json!({"uri": format!("{target}/x"), "digest": {"sha256": "1".repeat(64)}, "downloadLocation": target}));
        world.source.repository = format!("git+{target}/acme/app");
    })
    .await;
    for address in
        ["http://169.254.169.254/latest", "http://[::1]/x", "http://10.0.0.1/x", "file:///etc/passwd"]
    {
        let mut build = stage.world.build.clone();
        build.source_uri = format!("git+{address}");
        let answer = stage.submit(build.statement().signed_by(&stage.world.k_ci).to_bytes()).await;
        assert!([201, 422].contains(&answer.status), "{address}: {}", answer.show());
    }
    let verdict = stage.judge().await;
    assert_eq!(verdict.outcome(), "FAILED");
    // A key is given as text, never as an address.
    let answer = stage.post("/v1/keys", &json!({"name": "x", "pem": host.url})).await;
    assert!([400, 422].contains(&answer.status), "{}", answer.show());
    let answer = stage.post("/v1/keys", &json!({"name": "x", "url": host.url})).await;
    assert!([400, 422].contains(&answer.status), "{}", answer.show());
    // A notification names a registry that is not configured.
    let event = json!({"events": [{"id": "1", "action": "push", "target": {"mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": stage.world.index.digest(), "repository": "x", "url": host.url}, "request": {"host": host.url}}]});
    let answer = stage.anonymous().post("/v1/events/distribution", &event).await;
    assert!([401, 403].contains(&answer.status), "{}", answer.show());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(host.calls(), 0, "a URL found in evidence was fetched");
}

#[tokio::test]
async fn h40_answers_are_private_and_vary_by_credential() {
    let stage = honest().await;
    let other = Stage::empty().await;
    let path = format!("/v1/verdict?image={}&environment=prod", stage.world.image());
    for host in ["catenary.acme.test", "evil.test"] {
        let request = stage.request(Method::GET, &path).header("x-forwarded-host", host);
        let answer = stage.send(request).await;
        answer.passes();
        let control = answer.header("cache-control");
        assert!(
            control.contains("private") && control.contains("no-cache") || control.contains("no-store"),
            "{control}"
        );
        assert!(answer.header("vary").to_lowercase().contains("authorization"), "{}", answer.header("vary"));
        assert!(!answer.show().contains("evil.test"));
    }
    let etag = stage.get(&path).await.header("etag");
    // The same URL and validator under another tenant's credential is that tenant's answer.
    let foreign = other.send(other.request(Method::GET, &path).header("if-none-match", &etag)).await;
    assert_eq!(foreign.outcome(), "FAILED");
    let mine = stage.send(stage.request(Method::GET, &path).header("if-none-match", &etag)).await;
    assert_eq!(mine.status, 304, "{}", mine.show());
}

#[tokio::test]
async fn h47_mass_assignment_of_trust_fields() {
    let stage = honest().await;
    for (name, value) in [
        ("verified", json!(true)),
        ("trust_level", json!("high")),
        ("tenant_id", json!("globex")),
        ("status", json!("verified")),
    ] {
        let mut envelope = stage.world.build.statement().signed_by(&stage.world.k_mallory).to_value();
        envelope[name] = value.clone();
        stage.submit(envelope.to_string()).await.is_problem(422, "ATT_MALFORMED");
        let mut key = json!({"name": "m", "pem": stage.world.k_mallory.public_pem()});
        key[name] = value.clone();
        let answer = stage.post("/v1/keys", &key).await;
        assert_eq!(answer.status, 400, "{}", answer.show());
        let mut token = json!({"name": "m", "role": "reader", "expiresIn": "1h"});
        token[name] = value;
        assert_eq!(stage.token(&token).await.status, 400);
    }
    stage.judge().await.passes();
}

#[tokio::test]
async fn h49_metric_labels_are_bounded() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let series = || async {
        String::from_utf8_lossy(&app.anonymous().get("/metrics").await.body)
            .lines()
            .filter(|l| !l.starts_with('#'))
            .count()
    };
    stage.get("/v1/nowhere").await.is(404);
    let before = series().await;
    assert!(before > 0);
    let mut lines = Vec::new();
    for n in 0..500 {
        let statement = Statement::new(&format!("https://evil.test/type/{n}"), json!({}))
            .subject(Subject::new("x", "sha256", &"1".repeat(64)));
        lines.push(statement.signed_by(&stage.world.k_mallory).to_json());
    }
    stage.submit(lines.join("\n")).await.is(200);
    for n in 0..200 {
        let request = stage
            .request(Method::GET, &format!("/v1/nowhere/{n}"))
            .header("user-agent", format!("agent-{n}"));
        stage.send(request).await;
        let request = stage.request(Method::from_bytes(format!("M{n}").as_bytes()).unwrap(), "/v1/keys");
        stage.send(request).await;
    }
    let after = series().await;
    assert!(after <= before + 60, "{before} series became {after}");
    stage.judge().await.passes();
}

#[tokio::test]
async fn h41_a_stale_allow_after_a_revocation() {
    let stage = honest().await;
    let image = escape(&stage.world.image());
    let asked = json!({ "questions": [{ "image": stage.world.image(), "environment": "prod" }] });
    let gate = format!("/v1/gate?image={image}&environment=prod");
    // Warm by every door: answered once, and kept.
    for _ in 0..2 {
        stage.judge().await.passes();
        stage.get(&gate).await.is(200);
        assert_eq!(stage.post("/v1/verdicts", &asked).await.is(200).list("verdicts")[0]["allowed"], true);
    }
    let etag = stage.judge().await.header("etag");
    let revoked = stage.revoke_key(&stage.world.k_ci.id(), "leaked").await;
    assert!([200, 201].contains(&revoked.status), "{}", revoked.show());
    // Acknowledged: not one answer that begins now is the old one.
    for _ in 0..20 {
        let verdict = stage.judge().await;
        verdict.denies("ATT_REVOKED_SIGNER");
        assert_ne!(verdict.header("etag"), etag);
        assert_eq!(stage.get(&gate).await.status, 403);
        let many = stage.post("/v1/verdicts", &asked).await.is(200).list("verdicts");
        assert_eq!((&many[0]["outcome"], &many[0]["allowed"]), (&json!("FAILED"), &json!(false)));
    }
    let path = format!("/v1/verdict?image={image}&environment=prod");
    let request = stage.request(Method::GET, &path).header("if-none-match", etag);
    assert_eq!(stage.send(request).await.status, 200, "what was kept elsewhere is not confirmed");
}

#[tokio::test]
async fn h52_head_options_and_method_override() {
    let stage = honest().await;
    for path in ["/v1/verdicts", "/v1/events/distribution", "/v1/registry/reconcile"] {
        let answer = stage.send(stage.request(Method::HEAD, path)).await;
        assert_eq!(answer.status, 405, "{path}");
    }
    for method in [Method::DELETE, Method::PATCH, Method::OPTIONS, Method::TRACE] {
        stage.send(stage.request(method, "/v1/attestations")).await.answers("H52");
    }
    let before = stage.get("/v1/policies/prod").await.is(200).0;
    for header in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let request = stage.request(Method::GET, "/v1/policies/prod").header(header, "DELETE");
        stage.send(request).await.is(200);
        let request = stage.request(Method::POST, "/v1/policies/prod").header(header, "PUT").body("x");
        stage.send(request).await.answers("H52");
    }
    assert_eq!(stage.get("/v1/policies/prod").await.is(200).0, before);
    stage.judge().await.passes();
}
