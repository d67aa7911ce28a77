//! The service, seen from the command line.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// What goes wrong between here and the service.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error(
        "{server} cannot be reached: {reason}\n  start it with `catenary serve`, or name it with --server"
    )]
    Unreachable {
        /// The address.
        server: String,
        /// Why.
        reason: String,
    },
    /// The service said no, and why.
    #[error("{code}: {detail}{}", hint.as_ref().map(|h| format!("\n  {h}")).unwrap_or_default())]
    Problem {
        /// HTTP status.
        status: u16,
        /// Stable code.
        code: String,
        /// What is wrong.
        detail: String,
        /// What mends it.
        hint: Option<String>,
        /// The whole problem document.
        document: Value,
    },
}

/// How the service is known, and how it knows this machine, where the public authorities are not asked.
#[derive(Debug, Default, clap::Args)]
pub struct Tls {
    /// Certificate authority of the service (PEM); without it, the public ones.
    #[arg(long, global = true, env = "CATENARY_CA", value_name = "FILE")]
    server_ca: Option<PathBuf>,
    /// Certificate and private key of this client (PEM, both in one file).
    #[arg(long, global = true, env = "CATENARY_CLIENT_CERTIFICATE", value_name = "FILE")]
    client_certificate: Option<PathBuf>,
}

/// A client of one service with one credential. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    server: String,
    token: Option<String>,
    http: reqwest::Client,
}

impl Tls {
    fn apply(&self, mut http: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder> {
        let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
        if let Some(path) = &self.server_ca {
            let authorities = reqwest::Certificate::from_pem_bundle(&read(path)?);
            let authorities = authorities.ok().filter(|all| !all.is_empty());
            let authorities =
                authorities.with_context(|| format!("{}: no certificate in PEM is in it", path.display()))?;
            http = http.tls_certs_only(authorities);
        }
        if let Some(path) = &self.client_certificate {
            let identity = reqwest::Identity::from_pem(&read(path)?);
            let identity = identity.with_context(|| {
                format!("{}: wants a certificate and its private key in PEM", path.display())
            })?;
            http = http.identity(identity);
        }
        Ok(http)
    }
}

impl Client {
    /// Makes a client; nothing is sent yet.
    pub fn new(server: String, token: Option<String>, tls: &Tls) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none());
        let http = tls.apply(http)?.build().context("this machine cannot make a TLS client")?;
        let token = token.or_else(|| {
            let file = std::env::var_os("CATENARY_DATA")
                .map_or_else(catenary_server::config::default_data, PathBuf::from)
                .join("admin-token");
            Some(std::fs::read_to_string(file).ok()?.trim().to_owned())
        });
        Ok(Self { server: server.trim_end_matches('/').to_owned(), token, http })
    }

    /// A request to `path` (with query), with the credential.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends; an answer that is not 2xx becomes [`ClientError::Problem`].
    pub async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = self.raw(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let document: Value = response.json().await.unwrap_or_default();
        let text = |name: &str| document[name].as_str().map(str::to_owned);
        Err(ClientError::Problem {
            status,
            code: text("code").unwrap_or_else(|| format!("HTTP {status}")),
            detail: text("detail").or_else(|| text("title")).unwrap_or_else(|| "no details".into()),
            hint: text("hint"),
            document,
        }
        .into())
    }

    /// Sends; any status is an answer.
    pub async fn raw(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| {
            // The innermost cause says what happened: "connection refused", "timed out".
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            let reason = cause.to_string();
            ClientError::Unreachable { server: self.server.clone(), reason }.into()
        })
    }

    /// `GET path` as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let response = self.send(self.request(Method::GET, path)).await?;
        response.json().await.context("the service's answer is not JSON")
    }

    /// The items of a list, page after page until there are `limit`, and the first page. `path` has a query; `cursor` is its member
    /// that takes `next` of the page before.
    pub async fn list(&self, path: &str, cursor: &str, limit: usize) -> Result<(Vec<Value>, Value)> {
        let first = self.get(path).await?;
        let (mut found, mut page) = (Vec::new(), first.clone());
        loop {
            found.extend(page["items"].as_array().into_iter().flatten().cloned());
            let Some(next) = page["next"].as_str().filter(|_| found.len() < limit) else { break };
            page = self.get(&format!("{path}&{cursor}={}", query(next))).await?;
        }
        found.truncate(limit);
        Ok((found, first))
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        response.json().await.context("the service's answer is not JSON")
    }
}

/// Percent-encodes a query value.
pub fn query(value: &str) -> String {
    value
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'@' => {
                char::from(b).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
