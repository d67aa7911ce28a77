//! A client with one credential, and answers that are easy to judge.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method, RequestBuilder,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

/// A client of one service with one credential.
#[derive(Debug, Clone)]
pub struct Client {
    /// The service.
    pub url: String,
    /// The credential.
    pub token: Option<String>,
    http: reqwest::Client,
    /// The newest entry that an answer named, plus one: what later reads ask for (`minIndex`).
    seen: Arc<AtomicU64>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client.
    pub fn new(url: &str, token: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self::over(http, url, token)
    }

    /// One that goes by connections of the caller's.
    pub fn over(http: reqwest::Client, url: &str, token: Option<&str>) -> Self {
        Self { url: url.to_owned(), token: token.map(str::to_owned), http, seen: Arc::default() }
    }

    /// The same service with another credential.
    pub fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same service without a credential.
    pub fn anonymous(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same credential at another service.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same credential at another service, as somebody who has seen nothing yet.
    pub fn afresh(&self, url: &str) -> Self {
        Self::new(url, self.token.as_deref())
    }

    /// A request with the credential.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends; `Err` is what went wrong below HTTP.
    pub async fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, body: response.bytes().await? };
        if let Some(index) = answer.newest_index() {
            self.seen.fetch_max(index + 1, Ordering::SeqCst);
        }
        Ok(answer)
    }

    /// Sends.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    /// `GET`, of a state that holds everything that this client was told is in the log.
    pub async fn get(&self, path: &str) -> Answer {
        let path = self.fresh(path);
        let begun = std::time::Instant::now();
        loop {
            let answer = self.send(self.request(Method::GET, &path)).await;
            // Not `wait=`: that also waits for evidence that a denied verdict lacks.
            if answer.code() != "SYS_INGEST_PENDING"
                || path.contains("wait=")
                || begun.elapsed() > Duration::from_secs(10)
            {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// The path of a read with `minIndex`, unless it has one.
    pub fn fresh(&self, path: &str) -> String {
        const READS: [&str; 5] =
            ["/v1/verdict?", "/v1/gate?", "/v1/attestations", "/v1/artifacts", "/v1/objects"];
        let seen = self.seen.load(Ordering::SeqCst);
        if seen == 0 || path.contains("minIndex=") || !READS.iter().any(|read| path.starts_with(read)) {
            return path.to_owned();
        }
        let join = if path.contains('?') { '&' } else { '?' };
        format!("{path}{join}minIndex={}", seen - 1)
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            self.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(body.to_string()),
        )
        .await
    }

    /// `POST` of bytes.
    pub async fn post_bytes(&self, path: &str, media_type: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.request(Method::POST, path).header(CONTENT_TYPE, media_type).body(body.into())).await
    }

    /// Posts one envelope, an array or JSON Lines.
    pub async fn submit(&self, body: impl Into<Bytes>) -> Answer {
        self.post_bytes("/v1/attestations", "application/json", body).await
    }

    /// Posts an object.
    pub async fn push_object(&self, blob: &catenary_testkit::oci::Blob) -> Answer {
        self.post_bytes("/v1/objects", &blob.media_type, blob.bytes.clone()).await
    }

    /// Asks for the verdict in `prod`.
    pub async fn verdict(&self, image: &str) -> Answer {
        self.get(&format!("/v1/verdict?image={}&environment=prod", escape(image))).await
    }

    /// Applies a policy.
    pub async fn apply(&self, name: &str, document: &str) -> Answer {
        let request = self
            .request(Method::PUT, &format!("/v1/policies/{name}"))
            .header(CONTENT_TYPE, "application/yaml");
        self.send(request.body(document.to_owned())).await
    }

    /// Registers a key.
    pub async fn add_key(&self, name: &str, pem: &str, scheme: Option<&str>) -> Answer {
        let mut body = serde_json::json!({"name": name, "pem": pem});
        if let Some(scheme) = scheme {
            body["scheme"] = scheme.into();
        }
        self.post("/v1/keys", &body).await
    }

    /// Revokes a key.
    pub async fn revoke_key(&self, id: &str, reason: &str) -> Answer {
        self.post(&format!("/v1/keys/{}/revoke", escape(id)), &serde_json::json!({"reason": reason})).await
    }

    /// Makes a token and gives a client with it.
    pub async fn as_role(&self, role: &str) -> Self {
        let answer = self.token(&serde_json::json!({"name": role, "role": role, "expiresIn": "1h"})).await;
        self.with(answer.is(201).text("token"))
    }

    /// Makes a token.
    pub async fn token(&self, body: &Value) -> Answer {
        self.post("/v1/tokens", body).await
    }
}

impl Answer {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Fails the test unless the status is this.
    #[track_caller]
    pub fn is(&self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", self.show());
        Json(self.json())
    }

    /// Fails the test unless it is a problem document with this status and code.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> Json {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.show());
        let media_type = self.header("content-type");
        assert!(media_type.starts_with("application/problem+json"), "{media_type}: {}", self.show());
        let body = self.json();
        assert_eq!(body["status"], status, "{}", self.show());
        for member in ["type", "title"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {}", self.show());
        }
        Json(body)
    }

    /// The newest index that a receipt names.
    fn newest_index(&self) -> Option<u64> {
        if ![200, 201].contains(&self.status) || self.body.len() > 4 << 20 {
            return None;
        }
        let body = self.json();
        let receipt = |item: &Value| item["id"].is_string().then(|| item["index"].as_u64()).flatten();
        let items = body["items"].as_array().map(|items| items.iter().filter_map(receipt).max());
        items.flatten().max(receipt(&body)).max(body["effectiveIndex"].as_u64())
    }

    /// The problem's code.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header, empty when absent.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The outcome of a verdict.
    #[track_caller]
    pub fn outcome(&self) -> String {
        self.is(200).text("outcome").to_owned()
    }

    /// The codes of a verdict's errors.
    pub fn codes(&self) -> Vec<String> {
        let body = self.json();
        let reasons = body["reasons"].as_array().cloned().unwrap_or_default();
        let errors = reasons.iter().filter(|r| r["severity"] == "error");
        errors.filter_map(|r| r["code"].as_str().map(str::to_owned)).collect()
    }

    /// The codes of a verdict's near misses.
    pub fn near_misses(&self) -> Vec<String> {
        let body = self.json();
        let all = body["nearMisses"].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|n| n["why"].as_str().map(str::to_owned)).collect()
    }

    /// Fails the test unless the verdict is PASSED and allowed.
    #[track_caller]
    pub fn passes(&self) -> Json {
        let body = self.is(200);
        assert_eq!(
            (body.0["outcome"].as_str(), body.0["allowed"].as_bool()),
            (Some("PASSED"), Some(true)),
            "{}",
            self.show()
        );
        body
    }

    /// Fails the test unless the verdict is no, with this code among its errors.
    #[track_caller]
    pub fn denies(&self, code: &str) -> Json {
        let body = self.is(200);
        assert_ne!(body.0["outcome"], "PASSED", "{}", self.show());
        assert_ne!(body.0["allowed"], true, "{}", self.show());
        assert!(
            self.codes().iter().any(|found| found == code),
            "{code} is not among {:?}: {}",
            self.codes(),
            self.show()
        );
        body
    }

    /// For failure messages.
    pub fn show(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        format!("{} {}", self.status, text.chars().take(3_000).collect::<String>())
    }
}

/// A JSON body.
#[derive(Debug, Clone)]
pub struct Json(pub Value);

impl Json {
    /// A member that is text.
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no text {name} in {}", self.0))
    }

    /// A member that is a number.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {}", self.0))
    }

    /// A member that is a list.
    #[track_caller]
    pub fn list(&self, name: &str) -> Vec<Value> {
        self.0[name].as_array().cloned().unwrap_or_else(|| panic!("no list {name} in {}", self.0))
    }
}

/// Percent-encodes a query value.
pub fn escape(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/:@".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
