//! Requests whose answers are judged before anybody looks at them: documented statuses (I11), no marker of another
//! tenant (I9), no token (I11).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use acceptance::{Answer, Client};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use super::findings::Findings;

/// How long a client waits. Longer than any of the service's own limits, so that silence is the service's fault.
const PATIENCE: Duration = Duration::from_secs(15);

/// What every answer is held against.
#[derive(Debug)]
pub struct Judge {
    findings: Arc<Findings>,
    /// Method and path template, and its statuses.
    documented: BTreeMap<(String, String), BTreeSet<u16>>,
    /// Markers of tenants.
    markers: RwLock<Vec<(String, String)>>,
    /// How often each status was answered; 0 is no answer.
    statuses: Mutex<BTreeMap<u16, u64>>,
}

impl Judge {
    /// With the committed contract.
    pub fn new(findings: Arc<Findings>) -> Result<Self> {
        let contract: Value = serde_json::from_str(include_str!("../../../../api/openapi.json"))?;
        let mut documented = BTreeMap::new();
        for (path, item) in contract["paths"].as_object().context("paths")? {
            for (method, operation) in item.as_object().context("operations")? {
                let Some(responses) = operation["responses"].as_object() else { continue };
                let statuses = responses.keys().filter_map(|status| status.parse().ok()).collect();
                documented.insert((method.to_uppercase(), path.clone()), statuses);
            }
        }
        Ok(Self { findings, documented, markers: RwLock::default(), statuses: Mutex::default() })
    }

    /// A text that only this tenant may see.
    pub fn marks(&self, tenant: &str, marker: &str) {
        let mut all = self.markers.write().unwrap_or_else(PoisonError::into_inner);
        all.push((tenant.to_owned(), marker.to_owned()));
    }

    /// The statuses until now.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, status: u16) {
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    fn judge(&self, tenant: &str, method: &Method, path: &str, answer: &Answer) {
        self.count(answer.status);
        let bare = path.split('?').next().unwrap_or(path);
        let known = self.statuses_of(method.as_str(), bare);
        let retry = answer.status < 500 || !answer.header("retry-after").is_empty();
        let documented = known.is_some_and(|known| known.contains(&answer.status));
        self.findings
            .check("I11", documented && retry, || format!("{method} {bare}: {}", short(&answer.show())));
        let markers = self.markers.read().unwrap_or_else(PoisonError::into_inner);
        let foreign = markers.iter().find(|(owner, marker)| {
            owner != tenant && answer.body.windows(marker.len()).any(|part| part == marker.as_bytes())
        });
        self.findings.check("I9", foreign.is_none(), || format!("{method} {bare} to {tenant}: {foreign:?}"));
    }

    fn statuses_of(&self, method: &str, path: &str) -> Option<&BTreeSet<u16>> {
        let fits = |template: &str| {
            // Tiles deeper than the documented template differ only in how many segments name the index.
            let mut parts = path.split('/');
            template.split('/').all(|part| match parts.next() {
                Some(found) => part.starts_with('{') || part == found,
                None => false,
            }) && (parts.next().is_none() || template.contains("/tile/"))
        };
        let mut all = self.documented.iter().filter(|((m, template), _)| m == method && fits(template));
        all.next().map(|(_, statuses)| statuses)
    }
}

/// The beginning of a text.
pub fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

/// A tenant's client of all instances.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant.
    pub tenant: String,
    client: Client,
    urls: Arc<Vec<String>>,
    judge: Arc<Judge>,
}

impl Caller {
    /// A client with one credential.
    pub fn new(tenant: &str, token: Option<&str>, urls: &Arc<Vec<String>>, judge: &Arc<Judge>) -> Self {
        let first = urls.first().map_or("", String::as_str);
        let client = Client::new(first, token);
        Self { tenant: tenant.to_owned(), client, urls: urls.clone(), judge: judge.clone() }
    }

    /// The same with another credential.
    pub fn with(&self, token: &str) -> Self {
        Self { client: self.client.with(token), ..self.clone() }
    }

    /// How many instances there are.
    pub fn instances(&self) -> usize {
        self.urls.len()
    }

    /// Asks one instance; `None` when no answer came.
    pub async fn ask(&self, instance: usize, method: Method, path: &str, body: Body) -> Option<Answer> {
        let client = self.client.at(&self.urls[instance % self.urls.len()]);
        let mut request = client.request(method.clone(), path).timeout(PATIENCE);
        if let Body::Of(media_type, bytes) = body {
            request = request.header("content-type", media_type).body(bytes);
        }
        match client.try_send(request).await {
            Ok(answer) => {
                self.judge.judge(&self.tenant, &method, path, &answer);
                Some(answer)
            }
            Err(_) => {
                self.judge.count(0);
                None
            }
        }
    }

    /// `GET` of any instance.
    pub async fn get(&self, path: &str) -> Option<Answer> {
        self.ask(fastrand::usize(..64), Method::GET, path, Body::None).await
    }

    /// `POST` of JSON to any instance.
    pub async fn post(&self, path: &str, body: &Value) -> Option<Answer> {
        let body = Body::Of("application/json", body.to_string().into());
        self.ask(fastrand::usize(..64), Method::POST, path, body).await
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing.
    None,
    /// Bytes with a media type.
    Of(&'static str, Bytes),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_knows_what_the_hammer_asks() -> Result<()> {
        let judge = Judge::new(Arc::default())?;
        for (method, path) in [
            ("POST", "/v1/attestations"),
            ("GET", "/v1/attestations/sha256:00/proof"),
            ("GET", "/v1/log/acme/tile/entries/x001/234.p/5"),
            ("GET", "/v1/log/acme/checkpoint"),
            ("PUT", "/v1/policies/prod"),
        ] {
            let statuses = judge.statuses_of(method, path).with_context(|| path.to_owned())?;
            assert!(statuses.contains(&200) && statuses.contains(&503) && !statuses.contains(&500), "{path}");
        }
        assert!(judge.statuses_of("GET", "/v1/nothing").is_none());
        Ok(())
    }
}
