//! CI tokens, written by hand so that each part can be wrong.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use catenary_testkit::{Key, World};
use serde_json::{Value, json};

/// The issuer of the tests, spelled as GitHub's.
pub const GITHUB: &str = "https://token.actions.githubusercontent.com";
/// The issuer of the tests, spelled as a GitLab.
pub const GITLAB: &str = "https://gitlab.acme.test";
/// The audience that the service wants.
pub const AUDIENCE: &str = "https://catenary.acme.test/ingest";

/// An issuer with its RSA key.
#[derive(Debug)]
pub struct Issuer {
    /// `iss`.
    pub issuer: String,
    /// Its key.
    pub key: Key,
    /// `kid`.
    pub kid: String,
}

/// base64url without padding.
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// An issuer.
    pub fn new(issuer: &str) -> Self {
        Self { issuer: issuer.into(), key: Key::rsa_pkcs1("oidc"), kid: "k1".into() }
    }

    /// Its key set.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.jwk()]})
    }

    /// Its key.
    pub fn jwk(&self) -> Value {
        let (n, e) = rsa_parts(self.key.spki_der());
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": b64(n), "e": b64(e)})
    }

    /// The usual header.
    pub fn header(&self) -> Value {
        json!({"alg": "RS256", "typ": "JWT", "kid": self.kid})
    }

    /// The claims of a push to the golden repository, as GitHub writes them.
    pub fn github_claims(&self) -> Value {
        let now = crate::now();
        json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": "repo:acme/app:ref:refs/heads/main",
            "iat": now - 5, "nbf": now - 5, "exp": now + 300, "jti": format!("jti-{}", crate::unique()),
            "repository": "acme/app", "repository_id": "4242", "repository_owner_id": "99",
            "event_name": "push", "ref": "refs/heads/main", "runner_environment": "github-hosted",
        })
    }

    /// The claims of a protected branch's pipeline, as GitLab writes them.
    pub fn gitlab_claims(&self) -> Value {
        let now = crate::now();
        json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": "project_path:acme/app:ref_type:branch:ref:main",
            "iat": now - 5, "nbf": now - 5, "exp": now + 300, "jti": format!("jti-{}", crate::unique()),
            "project_id": "4242", "project_path": "acme/app", "namespace_id": "99", "ref": "main", "ref_type": "branch",
            "ref_protected": "true", "pipeline_source": "push", "runner_id": 7,
        })
    }

    /// A token.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), &claims.to_string())
    }

    /// A token with any header and claims text, honestly signed.
    pub fn sign(&self, header: &Value, claims: &str) -> String {
        let text = format!("{}.{}", b64(header.to_string()), b64(claims));
        let signature = self.key.sign(text.as_bytes());
        format!("{text}.{}", b64(signature))
    }
}

/// Modulus and exponent of an RSA SubjectPublicKeyInfo.
fn rsa_parts(spki: &[u8]) -> (Vec<u8>, Vec<u8>) {
    // SEQUENCE { SEQUENCE { … }, BIT STRING { 0, SEQUENCE { INTEGER n, INTEGER e } } }
    let (outer, _) = element(spki);
    let (_, rest) = element(outer);
    let (bits, _) = element(rest);
    let (key, _) = element(&bits[1..]);
    let (n, rest) = element(key);
    let (e, _) = element(rest);
    let plain = |integer: &[u8]| integer.iter().copied().skip_while(|b| *b == 0).collect();
    (plain(n), plain(e))
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, at) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |sum, b| sum * 256 + usize::from(*b)), 2 + count)
        }
    };
    (&der[at..at + length], &der[at + length..])
}

/// The configuration of the two issuers, with key sets in files of `folder`.
pub fn config(folder: &std::path::Path, github: &Issuer, gitlab: &Issuer) -> String {
    let source = |name: &str, issuer: &Issuer| {
        let file = folder.join(name);
        std::fs::write(&file, issuer.jwks().to_string()).unwrap();
        format!("jwks_file = {:?}", file.display().to_string())
    };
    config_with(&source("github.json", github), &source("gitlab.json", gitlab))
}

/// The configuration of the two issuers, with any source of their key sets.
pub fn config_with(github: &str, gitlab: &str) -> String {
    let repositories =
        format!("[{:?}, {:?}]", World::golden(1, 0).build.source_uri, catenary_testkit::world::RESOURCE);
    format!(
        r#"
[[oidc]]
issuer = "{GITHUB}"
audience = "{AUDIENCE}"
{github}
tenant = "default"

[[oidc.rule]]
claims = {{ repository_id = "4242", event_name = "push", ref = "refs/heads/main", runner_environment = "github-hosted" }}
repositories = {repositories}

[[oidc]]
issuer = "{GITLAB}"
audience = "{AUDIENCE}"
{gitlab}
tenant = "default"

[[oidc.rule]]
claims = {{ project_id = "4242", namespace_id = "99", ref_protected = "true", pipeline_source = "push" }}
repositories = {repositories}
"#
    )
}
