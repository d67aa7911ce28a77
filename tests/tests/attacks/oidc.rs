//! CI tokens that are not what they say. A good one stands beside each bad one.

use std::time::{Duration, Instant};

use acceptance::{
    Answer, App, Stage,
    jwt::{AUDIENCE, GITHUB, GITLAB, Issuer, b64, config, config_with},
    listener::{Listener, Reply},
};
use catenary_testkit::Key;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A service that trusts two issuers, with the golden chain in tenant `default`.
struct Place {
    app: App,
    stage: Stage,
    github: Issuer,
    _folder: tempfile::TempDir,
}

async fn place() -> &'static Place {
    static PLACE: OnceCell<Place> = OnceCell::const_new();
    PLACE
        .get_or_init(|| async {
            let folder = tempfile::tempdir().unwrap();
            let (github, gitlab) = (Issuer::new(GITHUB), Issuer::new(GITLAB));
            let app = App::builder().await.config(&config(folder.path(), &github, &gitlab)).start().await;
            let stage = Stage::in_default(&app).await;
            Place { app, stage, github, _folder: folder }
        })
        .await
}

impl Place {
    /// Posts the golden build statement under a token.
    async fn submit(&self, token: &str) -> Answer {
        let client = acceptance::Client::new(&self.app.url, Some(token));
        client.submit(self.stage.world.build_envelope().to_bytes()).await
    }

    /// The honest token is good, and K01 holds, at the same moment.
    async fn twin(&self) {
        let answer = self.submit(&self.github.token(&self.github.github_claims())).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.show());
        let admin = self.app.admin();
        for blob in self.stage.world.objects() {
            assert!([200, 201].contains(&admin.push_object(&blob).await.status));
        }
        for envelope in self.stage.world.envelopes() {
            assert!([200, 201].contains(&admin.submit(envelope.to_bytes()).await.status));
        }
        admin.verdict(&self.stage.world.image()).await.passes();
    }

    /// Each token is answered as the table says; the honest one is good.
    async fn refuses(&self, id: &str, tokens: Vec<String>) {
        self.twin().await;
        for token in tokens {
            println!("{id} {}", token.chars().take(200).collect::<String>());
            self.submit(&token).await.answers(id);
        }
    }

    fn claims(&self, change: impl Fn(&mut Value)) -> String {
        let mut claims = self.github.github_claims();
        change(&mut claims);
        self.github.token(&claims)
    }
}

#[tokio::test]
async fn h02_jwt_alg_none() {
    let place = place().await;
    let claims = b64(place.github.github_claims().to_string());
    let tokens = ["none", "nOnE", "None", "NONE"]
        .map(|alg| format!("{}.{claims}.", b64(json!({"alg": alg, "kid": "k1"}).to_string())));
    place.refuses("H02", tokens.to_vec()).await;
}

#[tokio::test]
async fn h03_rs256_to_hs256_confusion() {
    let place = place().await;
    let key = &place.github.key;
    let jwk = place.github.jwk();
    let secrets = [
        key.public_pem().into_bytes(),
        key.spki_der().to_vec(),
        jwk["n"].as_str().unwrap().as_bytes().to_vec(),
    ];
    let text = format!(
        "{}.{}",
        b64(json!({"alg": "HS256", "kid": "k1"}).to_string()),
        b64(place.github.github_claims().to_string())
    );
    let tokens = secrets.map(|secret| format!("{text}.{}", b64(hmac(&secret, text.as_bytes()))));
    place.refuses("H03", tokens.to_vec()).await;
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut block = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block.resize(64, 0);
    let pad = |byte: u8| block.iter().map(|b| b ^ byte).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

/// An attacker's issuer: the same text, another key.
fn attacker() -> Issuer {
    Issuer { issuer: GITHUB.into(), key: Key::rsa_pss("attacker"), kid: "evil".into() }
}

#[tokio::test]
async fn h04_key_injected_through_the_header() {
    let place = place().await;
    let evil = attacker();
    let host = Listener::start(Reply::Body("application/json", evil.jwks().to_string().into_bytes())).await;
    let mut tokens = Vec::new();
    for (name, value) in [
        ("jwk", evil.jwk()),
        ("jku", json!(host.url)),
        ("x5u", json!(host.url)),
        ("x5c", json!([b64(evil.key.spki_der())])),
    ] {
        let mut header = evil.header();
        header[name] = value.clone();
        tokens.push(evil.sign(&header, &place.github.github_claims().to_string()));
        let mut header = json!({"alg": "RS256"});
        header[name] = value;
        tokens.push(evil.sign(&header, &place.github.github_claims().to_string()));
    }
    place.refuses("H04", tokens).await;
    assert_eq!(host.calls(), 0, "a URL of a token was fetched");
}

#[tokio::test]
async fn h06_kid_of_a_trusted_key_with_the_attackers_jwk() {
    let place = place().await;
    let evil = attacker();
    let header = json!({"alg": "RS256", "kid": "k1", "jwk": evil.jwk()});
    let claims = place.github.github_claims().to_string();
    let swapped = format!("{}x", &place.github.token(&place.github.github_claims()));
    place.refuses("H06", vec![evil.sign(&header, &claims)]).await;
    place.submit(&swapped).await.is(401);
}

#[tokio::test]
async fn h07_exp_and_nbf_of_the_wrong_type() {
    let place = place().await;
    let now = acceptance::now();
    place
        .refuses(
            "H07",
            vec![
                place.claims(|c| c["exp"] = json!("never")),
                place.claims(|c| c["exp"] = json!((now + 60).to_string())),
                place.claims(|c| c["exp"] = json!(now - 3_600)),
                place.claims(|c| c["exp"] = json!(null)),
                place.claims(|c| c["exp"] = json!(now + 10 * 365 * 86_400)),
                place.claims(|c| c["nbf"] = json!("9999999999")),
                place.claims(|c| c["nbf"] = json!(now + 3_600)),
                place.claims(|c| c["iat"] = json!(now + 3_600)),
                place.claims(|c| {
                    c.as_object_mut().unwrap().remove("exp");
                }),
            ],
        )
        .await;
    let infinite = place.github.github_claims().to_string().replacen("\"exp\":", "\"exp\":1e400,\"x\":", 1);
    place.submit(&place.github.sign(&place.github.header(), &infinite)).await.is(401);
}

#[tokio::test]
async fn h09_audience_confusion() {
    let place = place().await;
    let with = |aud: Value| place.claims(|c| c["aud"] = aud.clone());
    let tokens = vec![
        with(json!("https://github.com/acme")),
        with(json!(["sts.amazonaws.com", AUDIENCE])),
        with(json!([AUDIENCE, AUDIENCE])),
        with(json!([])),
        with(json!(7)),
        with(json!(format!("{AUDIENCE}/"))),
        place.claims(|c| {
            c.as_object_mut().unwrap().remove("aud");
        }),
    ];
    place.refuses("H09", tokens).await;
}

#[tokio::test]
async fn h10_issuer_look_alikes() {
    let place = place().await;
    let issuers = [
        "https://token.actions.githubusercontent.com.evil.test",
        "https://token.actions.githubusercontent.com@evil.test",
        "https://token.actions.githubusercontent.com/",
        "http://token.actions.githubusercontent.com",
        "https://TOKEN.actions.githubusercontent.com",
        "",
    ];
    place.refuses("H10", issuers.map(|issuer| place.claims(|c| c["iss"] = json!(issuer))).to_vec()).await;
}

#[tokio::test]
async fn h12_polyglot_serialisations() {
    let place = place().await;
    let honest = place.github.token(&place.github.github_claims());
    let [header, payload, signature] = honest.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let tokens = vec![
        format!("{honest}.x.y"),
        format!("{honest}.{signature}"),
        json!({"payload": payload, "protected": header, "signature": signature}).to_string(),
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature, "header": {"alg": "none"}}]}).to_string(),
        format!("{header}.{payload}"),
        honest.replace(header, &format!("{header}=")),
    ];
    place.refuses("H12", tokens).await;
}

#[tokio::test]
async fn h16_issuer_keys_behind_a_redirect_too_large_html_or_never() {
    place().await.twin().await;
    let internal =
        Listener::start(Reply::Body("application/json", Issuer::new(GITHUB).jwks().to_string().into_bytes()))
            .await;
    let replies = [
        Reply::Redirect(internal.url.clone()),
        Reply::Body("application/json", vec![b' '; 50 * 1024 * 1024]),
        Reply::Body("text/html", b"<html>".to_vec()),
        Reply::Stall,
    ];
    for reply in replies {
        let shown = format!("{reply:.40?}");
        let host = Listener::start(reply).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gitlab.json");
        std::fs::write(&file, Issuer::new(GITLAB).jwks().to_string()).unwrap();
        let toml = config_with(
            &format!("jwks_url = \"{}/jwks\"", host.url),
            &format!("jwks_file = {:?}", file.display().to_string()),
        );
        let app = App::builder().await.config(&toml).start().await;
        let issuer = Issuer::new(GITHUB);
        let client = acceptance::Client::new(&app.url, Some(&issuer.token(&issuer.github_claims())));
        let begun = Instant::now();
        let answer = client.submit("{}").await;
        assert!([401, 503].contains(&answer.status), "{shown}: {}", answer.show());
        assert!(begun.elapsed() < Duration::from_secs(10), "{shown}: {:?}", begun.elapsed());
        assert_eq!(host.calls(), 1, "{shown}");
    }
    assert_eq!(internal.calls(), 0, "the redirect was followed");
}

#[tokio::test]
async fn h17_unknown_kid_flood() {
    place().await.twin().await;
    let issuer = Issuer::new(GITHUB);
    let host = Listener::start(Reply::Body("application/json", issuer.jwks().to_string().into_bytes())).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gitlab.json");
    std::fs::write(&file, Issuer::new(GITLAB).jwks().to_string()).unwrap();
    let toml = config_with(
        &format!("jwks_url = \"{}/jwks\"", host.url),
        &format!("jwks_file = {:?}", file.display().to_string()),
    );
    let app = App::builder().await.config(&toml).start().await;
    let begun = Instant::now();
    for n in 0..1_000_u32 {
        let token = issuer.sign(
            &json!({"alg": "RS256", "kid": format!("random-{n}")}),
            &issuer.github_claims().to_string(),
        );
        acceptance::Client::new(&app.url, Some(&token)).submit("{}").await.answers("H17");
    }
    // One each half minute, however long a busy machine takes.
    let most = 1 + begun.elapsed().as_secs() / 30;
    assert!(host.calls() as u64 <= most, "{} fetches in {:?}", host.calls(), begun.elapsed());
}

#[tokio::test]
async fn h19_token_of_a_resurrected_repository() {
    let place = place().await;
    let tokens = vec![
        place.claims(|c| c["repository_id"] = json!("5151")),
        place.claims(|c| c["repository_id"] = json!(4242)),
        place.claims(|c| {
            c.as_object_mut().unwrap().remove("repository_id");
        }),
    ];
    place.refuses("H19", tokens).await;
}

#[tokio::test]
async fn h22_token_from_a_pull_request_or_a_fork() {
    let place = place().await;
    let tokens = vec![
        place.claims(|c| c["event_name"] = json!("pull_request_target")),
        place.claims(|c| {
            c["event_name"] = json!("pull_request_target");
            c["head_repository"] = json!("mallory/app");
            c["head_ref"] = json!("main");
        }),
        place.claims(|c| c["event_name"] = json!("pull_request")),
        place.claims(|c| c["ref"] = json!("refs/pull/7/merge")),
        place.claims(|c| c["runner_environment"] = json!("self-hosted")),
    ];
    place.refuses("H22", tokens).await;
}

#[tokio::test]
async fn h24_submitter_out_of_scope() {
    let place = place().await;
    place.twin().await;
    // The CI token of acme/app speaks about another repository.
    let client =
        acceptance::Client::new(&place.app.url, Some(&place.github.token(&place.github.github_claims())));
    let mut build = place.stage.world.build.clone();
    build.source_uri = "git+https://git.acme.test/acme/lib".into();
    client.submit(build.statement().signed_by(&place.stage.world.k_ci).to_bytes()).await.answers("H24");
    // So does an API token with a scope; and one for another predicate type.
    let admin = place.app.admin();
    let scoped = json!({"name": "lib", "role": "submitter", "expiresIn": "1h", "repositories": ["git+https://git.acme.test/acme/lib"]});
    let token = admin.token(&scoped).await.is(201).text("token").to_owned();
    admin.with(&token).submit(place.stage.world.build_envelope().to_bytes()).await.answers("H24");
    let scoped = json!({"name": "scan", "role": "submitter", "expiresIn": "1h", "predicateTypes": ["https://in-toto.io/attestation/vulns/v0.2"]});
    let token = admin.token(&scoped).await.is(201).text("token").to_owned();
    admin.with(&token).submit(place.stage.world.build_envelope().to_bytes()).await.answers("H24");
}

#[tokio::test]
async fn gitlab_tokens_are_admitted_by_numeric_ids() {
    let place = place().await;
    let gitlab = Issuer::new(GITLAB);
    let answer = place.submit(&gitlab.token(&gitlab.gitlab_claims())).await;
    assert!([200, 201].contains(&answer.status), "{}", answer.show());
    let mut fork = gitlab.gitlab_claims();
    fork["project_id"] = json!("777");
    place.submit(&gitlab.token(&fork)).await.is_problem(403, "AUTH_CLAIMS");
    let mut unprotected = gitlab.gitlab_claims();
    unprotected["ref_protected"] = json!("false");
    place.submit(&gitlab.token(&unprotected)).await.is_problem(403, "AUTH_CLAIMS");
    // A CI token submits and does nothing else.
    let client = acceptance::Client::new(&place.app.url, Some(&gitlab.token(&gitlab.gitlab_claims())));
    client.get("/v1/keys").await.is_problem(403, "AUTH_ROLE");
}
