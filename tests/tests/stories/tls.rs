//! The service over TLS: whom it answers, and how its certificate is replaced.

use std::time::{Duration, Instant};

use acceptance::{App, Client, tls::Authority};
use reqwest::{Method, tls::TlsInfo};

/// Waits until a service over TLS is ready.
async fn ready(app: &App, client: &Client) {
    let begun = Instant::now();
    loop {
        let answer = client.try_send(client.request(Method::GET, "/readyz")).await;
        if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            return;
        }
        let late = begun.elapsed() > Duration::from_secs(60);
        assert!(app.process.is_running() && !late, "not ready: {answer:?}\n{}", app.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn served(client: &Client) -> Vec<u8> {
    let answer = client.request(Method::GET, "/healthz").send().await.unwrap();
    answer.extensions().get::<TlsInfo>().unwrap().peer_certificate().unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_authority_is_answered_over_both_versions() {
    let authority = Authority::new("acme");
    authority.serve("first");
    let builder = App::builder().await;
    let app = builder
        .env("CATENARY_TLS_CERTIFICATE", &authority.file("tls.crt").display().to_string())
        .env("CATENARY_TLS_KEY", &authority.file("tls.key").display().to_string())
        .launch();
    let anonymous = app.anonymous().at(&app.url.replace("http://", "https://"));
    let health = Client::over(authority.http().build().unwrap(), &anonymous.url, None);
    ready(&app, &health).await;
    let admin = authority.admin(&app, authority.http());
    let response = admin.request(Method::GET, "/v1/keys").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, reqwest::Version::HTTP_11));
    if acceptance::installed("curl") {
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "--http2",
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--write-out",
            "%{http_version}",
        ]);
        curl.args(["--output", "/dev/null", "--cacert"]).arg(authority.file("ca.pem"));
        let output = curl.arg(format!("{}/healthz", anonymous.url)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "2", "{output:?}");
    } else {
        acceptance::skip("HTTP/2 by ALPN", "curl is not installed");
    }
    // Who does not know the authority does not talk to it, and nobody does in the clear.
    let stranger = anonymous.try_send(anonymous.request(Method::GET, "/healthz")).await;
    assert!(stranger.is_err(), "{stranger:?}");
    let clear = app.anonymous();
    let clear = clear.try_send(clear.request(Method::GET, "/healthz")).await;
    assert!(clear.is_err(), "{clear:?}");
    // The command line.
    let list = |ca: Option<&str>| {
        let mut command = app.builder.command(&["key", "list"]);
        command.env("CATENARY_SERVER", &anonymous.url).env_remove("CATENARY_TLS_CERTIFICATE");
        if let Some(ca) = ca {
            command.args(["--server-ca", ca]);
        }
        command.output().unwrap()
    };
    let known = list(Some(&authority.file("ca.pem").display().to_string()));
    assert!(known.status.success(), "{known:?}");
    assert_eq!(list(None).status.code(), Some(5));
    assert_eq!(list(Some("/nowhere.pem")).status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let authority = Authority::new("acme");
    let first = authority.serve("first");
    let app = App::builder().await.config(&authority.config("")).launch();
    let url = app.url.replace("http://", "https://");
    // A new connection each time.
    let fresh = || authority.http().pool_max_idle_per_host(0);
    let health = || Client::over(fresh().build().unwrap(), &url, None);
    ready(&app, &health()).await;
    assert_eq!(served(&health()).await, first);
    let second = authority.serve("second");
    assert_ne!(first, second);
    let begun = Instant::now();
    while served(&health()).await != second {
        assert!(begun.elapsed() < Duration::from_secs(30), "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let count = async |result: &str| {
        let text = health().get("/metrics").await;
        let text = String::from_utf8_lossy(&text.body).into_owned();
        let name = format!("catenary_certificate_reloads_total{{result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!(count("taken").await >= 1);
    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let before = count("refused").await;
        std::fs::write(authority.file("tls.crt"), broken).unwrap();
        let begun = Instant::now();
        while count("refused").await == before {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody noticed");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(served(&health()).await, second);
    }
    assert!(app.log().contains("the old one stays"));
    let third = authority.serve("third");
    let begun = Instant::now();
    while served(&health()).await != third {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_need_a_certificate_of_the_right_authority() {
    let (authority, other) = (Authority::new("acme"), Authority::new("other"));
    authority.serve("first");
    let (good, foreign) = (authority.client("ci"), other.client("ci"));
    let identity =
        |file: &std::path::Path| reqwest::Identity::from_pem(&std::fs::read(file).unwrap()).unwrap();
    let try_health = async |http: reqwest::ClientBuilder, url: &str| {
        let client = Client::over(http.build().unwrap(), url, None);
        client.try_send(client.request(Method::GET, "/healthz")).await
    };
    for mode in ["required", "optional"] {
        let more = format!("client_ca = '{}'\nclient = '{mode}'", authority.file("ca.pem").display());
        let app = App::builder().await.config(&authority.config(&more)).launch();
        let url = app.url.replace("http://", "https://");
        let known = Client::over(authority.http().identity(identity(&good)).build().unwrap(), &url, None);
        ready(&app, &known).await;
        let without = try_health(authority.http(), &url).await;
        assert_eq!(without.is_ok(), mode == "optional", "{mode}: {without:?}");
        // One that is sent must be good, in either mode.
        let stranger = try_health(authority.http().identity(identity(&foreign)), &url).await;
        assert!(stranger.is_err(), "{mode}: {stranger:?}");
        // A certificate opens the connection and no more: who asks, the token says.
        known.get("/v1/keys").await.is_problem(401, "AUTH_REQUIRED");
        let listed = |certificate: Option<&std::path::Path>| {
            let mut command = app.builder.command(&["key", "list"]);
            command.env("CATENARY_SERVER", &url).env("CATENARY_CA", authority.file("ca.pem"));
            if let Some(file) = certificate {
                command.env("CATENARY_CLIENT_CERTIFICATE", file);
            }
            command.output().unwrap()
        };
        assert!(listed(Some(&good)).status.success());
        assert_eq!(listed(None).status.success(), mode == "optional");
    }
}
