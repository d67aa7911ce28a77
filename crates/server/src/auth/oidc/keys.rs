//! The published keys of one issuer, from a file or a pinned address.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use catenary_store::failpoint::hit;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use tokio::sync::Mutex;

use crate::config::{ConfigError, Issuer};

/// The least time between two fetches, so that tokens with made-up key ids cause no load on the issuer.
const FLOOR: Duration = Duration::from_secs(30);
/// How long keys are used when no newer ones can be had.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How long keys are used before newer ones are asked for.
const FRESH: Duration = Duration::from_secs(3600);
const MAX_BYTES: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeysError {
    /// The issuer has no such key.
    Unknown,
    /// No keys, or only old ones.
    Unavailable,
}

#[derive(Debug)]
pub(super) struct IssuerKeys {
    from: From,
    // Held while fetching: whoever needs a newer set meanwhile waits for the same fetch.
    state: Mutex<State>,
}

#[derive(Debug)]
enum From {
    File(PathBuf),
    Url { url: String, client: reqwest::Client },
}

#[derive(Debug, Default)]
struct State {
    set: Option<(JwkSet, Instant)>,
    tried: Option<Instant>,
}

impl IssuerKeys {
    pub(super) fn new(issuer: &Issuer) -> Result<Self, ConfigError> {
        let from = match (&issuer.jwks_file, &issuer.jwks_url) {
            (Some(path), _) => From::File(path.clone()),
            (None, Some(url)) => {
                let client = reqwest::Client::builder()
                    .redirect(reqwest::redirect::Policy::none())
                    .timeout(TIMEOUT)
                    .no_proxy()
                    .build()
                    .map_err(|e| ConfigError::Value { name: "oidc.jwks_url".into(), why: e.to_string() })?;
                From::Url { url: url.clone(), client }
            }
            (None, None) => {
                return Err(ConfigError::Value { name: "oidc.jwks_url".into(), why: "is missing".into() });
            }
        };
        Ok(Self { from, state: Mutex::default() })
    }

    /// The key of this id, when it can be one for this algorithm.
    pub(super) async fn find(&self, kid: &str, algorithm: Algorithm) -> Result<DecodingKey, KeysError> {
        let mut state = self.state.lock().await;
        let known =
            state.set.as_ref().is_some_and(|(set, at)| set.find(kid).is_some() && at.elapsed() < FRESH);
        if !known && state.tried.is_none_or(|at| at.elapsed() >= FLOOR) {
            state.tried = Some(Instant::now());
            match self.fetch().await {
                Ok(set) => state.set = Some((set, Instant::now())),
                Err(why) => tracing::warn!(why, "the keys of an issuer cannot be had"),
            }
        }
        match &state.set {
            Some((set, at)) if at.elapsed() < STALE => {
                let jwk = set.find(kid).filter(|jwk| is_for(jwk, algorithm)).ok_or(KeysError::Unknown)?;
                DecodingKey::from_jwk(jwk).map_err(|_| KeysError::Unknown)
            }
            _ => Err(KeysError::Unavailable),
        }
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        hit("jwks.refresh").map_err(|injected| injected.to_string())?;
        let bytes = match &self.from {
            From::File(path) => tokio::fs::read(path).await.map_err(|e| e.to_string())?,
            From::Url { url, client } => {
                let mut response = client.get(url).send().await.map_err(|e| e.without_url().to_string())?;
                if response.status() != reqwest::StatusCode::OK {
                    return Err(format!("status {}", response.status()));
                }
                let mut bytes = Vec::new();
                while let Some(chunk) = response.chunk().await.map_err(|e| e.without_url().to_string())? {
                    if bytes.len() + chunk.len() > MAX_BYTES {
                        return Err("more than 1 MiB".into());
                    }
                    bytes.extend_from_slice(&chunk);
                }
                bytes
            }
        };
        if bytes.len() > MAX_BYTES {
            return Err("more than 1 MiB".into());
        }
        let set: JwkSet = catenary_evidence::json::parse(&bytes).map_err(|e| e.to_string())?;
        Ok(set)
    }
}

/// Type, use and algorithm of the key agree with the token's algorithm; RSA has at least 2048 bits.
fn is_for(jwk: &Jwk, algorithm: Algorithm) -> bool {
    if jwk.common.public_key_use.as_ref().is_some_and(|u| *u != PublicKeyUse::Signature) {
        return false;
    }
    if jwk.common.key_algorithm.is_some_and(|a| a.to_string() != format!("{algorithm:?}")) {
        return false;
    }
    match (&jwk.algorithm, algorithm) {
        (
            AlgorithmParameters::RSA(rsa),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
        ) => URL_SAFE_NO_PAD.decode(&rsa.n).is_ok_and(|n| n.iter().skip_while(|b| **b == 0).count() >= 256),
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES256) => ec.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::ES384) => ec.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(okp), Algorithm::EdDSA) => okp.curve == EllipticCurve::Ed25519,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that were fetched so long ago, of an issuer that cannot be reached any more.
    fn fetched(ago: Duration) -> IssuerKeys {
        let set = serde_json::json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]});
        let at = Instant::now().checked_sub(ago).unwrap();
        let state = State { set: Some((serde_json::from_value(set).unwrap(), at)), tried: None };
        let gone = PathBuf::from("/nowhere/keys.json");
        IssuerKeys { from: From::File(gone), state: Mutex::new(state) }
    }

    #[tokio::test]
    async fn keys_are_used_while_the_issuer_is_away_and_not_for_ever() {
        let find = async |ago| fetched(ago).find("k", Algorithm::ES256).await.map(|_| ());
        assert_eq!(find(Duration::ZERO).await, Ok(()));
        assert_eq!(find(STALE - Duration::from_secs(60)).await, Ok(()));
        assert_eq!(find(STALE).await, Err(KeysError::Unavailable));
    }
}
