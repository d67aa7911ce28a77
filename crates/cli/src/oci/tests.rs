//! A registry that answers what it is told, on a port of its own.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use super::*;

/// Answers `answer(path, authorization)`: status, headers, body. Gives its address and the requests that came.
fn serve(
    answer: impl Fn(&str, &str) -> (u16, String, String) + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let authorization = headers.iter().find_map(|line| line.strip_prefix("authorization: "));
            let authorization = authorization.unwrap_or_default();
            let path = first.split(' ').nth(1).unwrap_or_default();
            log.lock().unwrap().push(format!("{path} {authorization}").trim().to_owned());
            let (status, headers, body) = answer(path, authorization);
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (host, seen)
}

fn repository(host: &str, credential: Option<Credential>) -> Repository {
    Repository::new(&format!("{host}/shop/api:1").parse().unwrap(), false, credential).unwrap()
}

fn ci() -> Option<Credential> {
    Some(Credential { username: "ci".into(), password: "secret".into() })
}

fn reference(text: &str) -> Option<(String, String, String)> {
    let reference: Reference = text.parse().ok()?;
    Some((reference.registry, reference.repository, reference.image))
}

#[test]
fn references_name_a_tag_or_a_digest() {
    let digest = format!("sha256:{}", "1".repeat(64));
    let found = |image: &str| Some(("r.acme.test:5000".into(), "shop/api".into(), image.to_owned()));
    assert_eq!(reference("r.acme.test:5000/shop/api"), found("latest"));
    assert_eq!(reference("r.acme.test:5000/shop/api:1.0"), found("1.0"));
    assert_eq!(reference(&format!("r.acme.test:5000/shop/api:1.0@{digest}")), found(&digest));
    assert_eq!(reference("r.acme.test:5000/shop/../api"), None);
    assert_eq!(reference("r.acme.test:5000/shop/api@sha256:1"), None);
}

#[tokio::test]
async fn a_token_is_asked_for_with_the_narrowest_scope() {
    let (token_host, asked) = serve(|_, _| (200, String::new(), r#"{"access_token":"t1"}"#.into()));
    let (host, seen) = serve(move |_, authorization| match authorization {
        "Bearer t1" => (200, "content-type: application/json\r\n".into(), "{}".into()),
        _ => {
            let realm = format!("Bearer realm=\"http://{token_host}/token\",service=\"r\",scope=\"*\"");
            (401, format!("www-authenticate: {realm}\r\n"), String::new())
        }
    });
    assert!(repository(&host, ci()).manifest("1").await.unwrap().is_some());
    assert_eq!(
        *asked.lock().unwrap(),
        ["/token?scope=repository%3Ashop%2Fapi%3Apull&service=r Basic Y2k6c2VjcmV0"]
    );
    // Nothing was sent before the registry asked.
    assert_eq!(seen.lock().unwrap()[0], "/v2/shop/api/manifests/1");
}

#[tokio::test]
async fn a_password_is_sent_when_the_registry_asks_and_not_before() {
    let (host, seen) = serve(|_, authorization| match authorization {
        "Basic Y2k6c2VjcmV0" => (200, "content-type: application/json\r\n".into(), "{}".into()),
        _ => (401, "www-authenticate: Basic realm=\"r\"\r\n".into(), String::new()),
    });
    assert!(matches!(repository(&host, None).manifest("1").await, Err(RemoteError::Challenge { .. })));
    assert!(repository(&host, ci()).manifest("1").await.unwrap().is_some());
    let path = "/v2/shop/api/manifests/1";
    assert_eq!(*seen.lock().unwrap(), [path, path, &format!("{path} Basic Y2k6c2VjcmV0")]);
}

#[tokio::test]
async fn a_token_service_in_the_clear_gets_no_password() {
    let (host, _) = serve(|_, _| {
        (401, "www-authenticate: Bearer realm=\"http://auth.acme.test/token\"\r\n".into(), String::new())
    });
    assert!(matches!(repository(&host, ci()).manifest("1").await, Err(RemoteError::Address { .. })));
}

#[tokio::test]
async fn referrers_are_paged_on_the_same_registry_only() {
    let [one, two] = ["1", "2"].map(|c| format!("sha256:{}", c.repeat(64)));
    let page = |digest: &str| format!(r#"{{"manifests":[{{"digest":"{digest}"}},{{"digest":"../etc"}}]}}"#);
    let (first, second) = (page(&one), page(&two));
    let (host, seen) = serve(move |path, _| match path.contains("page=2") {
        false => (200, format!("link: <{path}?page=2>; rel=\"next\"\r\n"), first.clone()),
        true => (200, "link: <http://169.254.169.254/latest>; rel=\"next\"\r\n".into(), second.clone()),
    });
    let found = repository(&host, None).referrers(&Digest::sha256(b"")).await.unwrap();
    assert_eq!(found.iter().map(Digest::to_string).collect::<Vec<_>>(), [one, two]);
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn g11_other_bytes_than_the_digest_says_are_refused() {
    let (host, _) = serve(|_, _| (200, String::new(), "other bytes".into()));
    let mut repository = repository(&host, None);
    let digest = Digest::sha256(b"these bytes");
    assert!(matches!(repository.blob(&digest).await, Err(RemoteError::Digest { .. })));
    assert!(matches!(repository.manifest(&digest.to_string()).await, Err(RemoteError::Digest { .. })));
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let (host, _) = serve(|_, _| (200, String::new(), "x".repeat(MAX_OBJECT + 1)));
    assert!(matches!(repository(&host, None).manifest("1").await, Err(RemoteError::TooLarge { .. })));
}

#[tokio::test]
async fn a_redirect_into_the_clear_is_not_followed() {
    let (other, asked) = serve(|_, _| (200, String::new(), "{}".into()));
    let (host, _) = serve(move |_, _| (302, format!("location: http://{other}/\r\n"), String::new()));
    assert!(matches!(
        repository(&host, None).manifest("1").await,
        Err(RemoteError::Status { status: 302, .. })
    ));
    assert!(asked.lock().unwrap().is_empty());
}
