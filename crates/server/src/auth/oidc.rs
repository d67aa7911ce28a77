//! CI tokens (OIDC). The token says who may write to a tenant; what is true, the signature inside the evidence says.
//!
//! The checks, in this order: size and form; header (algorithm of the issuer's list, no `crit`; `jwk`, `jku`,
//! `x5u` and `x5c` are not looked at); issuer, byte for byte; key by `kid` from the pinned set; signature;
//! claims of the right JSON type in their time; exactly one audience; rules over claims.

mod keys;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use catenary_chain::policy::glob::Glob;
use catenary_evidence::json;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::keys::{IssuerKeys, KeysError};
use super::scope::Scope;
use crate::config::{ConfigError, Issuer};

/// The most bytes of a token.
pub const MAX_TOKEN: usize = 8 * 1024;

/// Seconds that clocks may be apart.
const LEEWAY: u64 = 30;

/// Why a CI token does not authenticate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// Not a compact JWS.
    #[error("the CI token is malformed: {0}")]
    Malformed(&'static str),
    /// The algorithm is not one of the issuer's.
    #[error("the CI token's algorithm is not allowed")]
    Algorithm,
    /// The issuer is not configured.
    #[error("the CI token's issuer is not configured")]
    Issuer,
    /// The key is not one of the issuer's.
    #[error("the CI token is signed with a key that its issuer does not publish")]
    Key,
    /// The signature does not verify.
    #[error("the CI token's signature does not verify")]
    Signature,
    /// A claim is missing, of the wrong type, or out of its time.
    #[error("the CI token's claim `{0}` is missing, malformed or out of its time")]
    Claim(&'static str),
    /// Another audience, or more than one.
    #[error("the CI token is for another audience")]
    Audience,
    /// No rule admits the claims.
    #[error("no rule admits the CI token's claims")]
    NoRule,
    /// The issuer's keys cannot be had.
    #[error("the keys of the CI token's issuer cannot be had")]
    KeysUnavailable,
}

impl OidcError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "AUTH_TOKEN_MALFORMED",
            Self::Algorithm => "AUTH_TOKEN_ALG",
            Self::Issuer => "AUTH_TOKEN_ISSUER",
            Self::Key => "AUTH_TOKEN_KEY",
            Self::Signature => "AUTH_TOKEN_SIGNATURE",
            Self::Claim(_) => "AUTH_TOKEN_CLAIM",
            Self::Audience => "AUTH_TOKEN_AUDIENCE",
            Self::NoRule => "AUTH_CLAIMS",
            Self::KeysUnavailable => "AUTH_ISSUER_KEYS",
        }
    }

    /// Whether we know who it is, and they may not.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::NoRule)
    }

    /// Whether asking again later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::KeysUnavailable)
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Audience => "ask the CI for a token whose audience is exactly the one configured here",
            Self::NoRule => "add an [[oidc.rule]] that fits the claims",
            Self::Issuer => "add an [[oidc]] section for the issuer",
            Self::KeysUnavailable => "ask again later",
            _ => "ask the CI for a new token",
        }
    }
}

/// A bearer that an issuer vouches for and a rule admits.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The tenant.
    pub tenant: String,
    /// What it may submit.
    pub scope: Scope,
    /// What names the bearer in the log: issuer and the claims that the rule asked for.
    pub name: String,
    /// Who it is: `oidc:<issuer>#<sub>`.
    pub identity: String,
}

/// Every configured issuer with its keys.
#[derive(Debug, Clone, Default)]
pub struct Issuers(Arc<Vec<Known>>);

#[derive(Debug)]
struct Known {
    config: Issuer,
    keys: IssuerKeys,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    claims: BTreeMap<String, Glob>,
    scope: Scope,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Whether a bearer text is meant as a CI token and not as an API token.
pub fn looks_like_one(text: &str) -> bool {
    !text.starts_with(super::token::PREFIX)
}

impl Issuers {
    /// Reads the rules.
    pub fn new(issuers: &[Issuer]) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError::Value { name: "oidc.rule".into(), why };
        let mut known = Vec::new();
        for config in issuers {
            let mut rules = Vec::new();
            for rule in &config.rule {
                let mut claims = BTreeMap::new();
                for (name, glob) in &rule.claims {
                    claims.insert(name.clone(), Glob::new(glob).map_err(wrong)?);
                }
                rules.push(Rule {
                    claims,
                    scope: Scope::new(&rule.repositories, &rule.predicate_types).map_err(wrong)?,
                });
            }
            known.push(Known { config: config.clone(), keys: IssuerKeys::new(config)?, rules });
        }
        Ok(Self(Arc::new(known)))
    }

    /// Authenticates a token.
    pub async fn admit(&self, token: &str) -> Result<Admitted, OidcError> {
        let (header, claims) = split(token)?;
        if header.crit.is_some() {
            return Err(OidcError::Malformed("`crit` is not understood"));
        }
        let issuer = claims.get("iss").and_then(Value::as_str).ok_or(OidcError::Issuer)?;
        let of_issuer: Vec<&Known> = self.0.iter().filter(|k| k.config.issuer == issuer).collect();
        // Several sections may share an issuer; then the audience tells them apart.
        let known = match of_issuer[..] {
            [] => return Err(OidcError::Issuer),
            [only] => only,
            _ => of_issuer
                .into_iter()
                .find(|k| is_only_audience(&claims, &k.config.audience))
                .ok_or(OidcError::Audience)?,
        };
        let algorithm: Algorithm = header.alg.parse().map_err(|_| OidcError::Algorithm)?;
        if !known.config.algorithms.contains(&algorithm) {
            return Err(OidcError::Algorithm);
        }
        let kid = header.kid.ok_or(OidcError::Key)?;
        let key = known.keys.find(&kid, algorithm).await.map_err(|e| match e {
            KeysError::Unknown => OidcError::Key,
            KeysError::Unavailable => OidcError::KeysUnavailable,
        })?;
        verify(token, &key, algorithm, &known.config)?;
        check_times(&claims, known.config.max_lifetime)?;
        if !is_only_audience(&claims, &known.config.audience) {
            return Err(OidcError::Audience);
        }
        let rule = known.rules.iter().find(|rule| rule.fits(&claims)).ok_or(OidcError::NoRule)?;
        let asked = rule
            .claims
            .keys()
            .map(|name| format!(" {name}={}", claims.get(name).and_then(Value::as_str).unwrap_or("")));
        let name = format!("oidc {issuer}{}", asked.collect::<String>());
        let identity = format!("oidc:{issuer}#{}", claims.get("sub").and_then(Value::as_str).unwrap_or(""));
        Ok(Admitted { tenant: known.config.tenant.clone(), scope: rule.scope.clone(), name, identity })
    }
}

impl Rule {
    /// Every claim is there, is text, and fits. Other types never fit: `true` is not `"true"`.
    fn fits(&self, claims: &Map<String, Value>) -> bool {
        self.claims
            .iter()
            .all(|(name, glob)| claims.get(name).and_then(Value::as_str).is_some_and(|v| glob.matches(v)))
    }
}

/// Header and claims of a compact JWS, as strict JSON. Nothing is verified yet.
fn split(token: &str) -> Result<(Header, Map<String, Value>), OidcError> {
    use OidcError::Malformed;
    if token.len() > MAX_TOKEN {
        return Err(Malformed("it is over 8 KiB"));
    }
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        return Err(Malformed("it has not exactly three parts"));
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed("a part is not base64url"));
    let header: Header =
        json::parse(&decode(header)?).map_err(|_| Malformed("the header is not strict JSON"))?;
    let claims = json::parse(&decode(claims)?).map_err(|_| Malformed("the claims are not strict JSON"))?;
    decode(signature)?;
    Ok((header, claims))
}

fn verify(
    token: &str,
    key: &jsonwebtoken::DecodingKey,
    algorithm: Algorithm,
    issuer: &Issuer,
) -> Result<(), OidcError> {
    use jsonwebtoken::errors::ErrorKind;
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_audience(&[&issuer.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    match jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidSignature => OidcError::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => OidcError::Algorithm,
            ErrorKind::InvalidAudience => OidcError::Audience,
            ErrorKind::InvalidIssuer => OidcError::Issuer,
            ErrorKind::ExpiredSignature => OidcError::Claim("exp"),
            ErrorKind::ImmatureSignature => OidcError::Claim("nbf"),
            ErrorKind::MissingRequiredClaim(name) if name == "aud" => OidcError::Audience,
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => OidcError::Claim("exp"),
            _ => OidcError::Malformed("it cannot be read"),
        }),
    }
}

/// `exp`, `iat` and, where it is there, `nbf` are whole numbers; the token lives no longer than allowed.
fn check_times(claims: &Map<String, Value>, max_lifetime: u64) -> Result<(), OidcError> {
    let number = |name: &'static str| claims.get(name).and_then(Value::as_u64).ok_or(OidcError::Claim(name));
    let (exp, iat) = (number("exp")?, number("iat")?);
    if claims.contains_key("nbf") {
        number("nbf")?;
    }
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    if iat > now + LEEWAY {
        return Err(OidcError::Claim("iat"));
    }
    if exp.saturating_sub(iat) > max_lifetime {
        return Err(OidcError::Claim("exp"));
    }
    Ok(())
}

/// `aud` is the one text, or a list of exactly it. Being one of several would let another service replay it.
fn is_only_audience(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(list)) => matches!(&list[..], [Value::String(one)] if one == audience),
        _ => false,
    }
}
