//! `catenary sign-bundle`: a keyless Sigstore bundle, with the arguments of the official conformance suite's client.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use clap::Args;
use jiff::Timestamp;
use reqwest::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    check::{Against, Outcome},
    commands::key::Algorithm,
    exit::Exit,
    output::{GOOD, Output, paint},
    sign::PrivateKey,
};

/// The most bytes of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Sign a file with an identity instead of a key.
#[derive(Args)]
pub struct SignBundle {
    /// Accepted for the suite's sake: the servers are those of `--signing-config`.
    #[arg(long)]
    staging: bool,
    /// The file is an in-toto statement: sign it in an envelope.
    #[arg(long)]
    in_toto: bool,
    /// An OIDC token whose subject or e-mail address the certificate will name.
    #[arg(long, env = "CATENARY_IDENTITY_TOKEN", hide_env_values = true)]
    identity_token: String,
    /// Where the bundle goes.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Verify the bundle under this root before it is written.
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// Which servers sign, log and stamp (`signingconfig.v0.2`). There is no default: nobody is asked who was not named.
    #[arg(long, value_name = "FILE")]
    signing_config: Option<PathBuf>,
    /// The file.
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    ca_urls: Vec<Service>,
    #[serde(default)]
    rekor_tlog_urls: Vec<Service>,
    #[serde(default)]
    tsa_urls: Vec<Service>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    url: String,
    major_api_version: u32,
    valid_for: Option<ValidFor>,
}

#[derive(Deserialize)]
struct ValidFor {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// The service of the highest version that is spoken here and that is valid now.
fn choose(services: &[Service], most: u32, now: Timestamp) -> Option<&Service> {
    let valid = |service: &&Service| {
        let range = service.valid_for.as_ref();
        range.and_then(|r| r.start).is_none_or(|start| start <= now)
            && range.and_then(|r| r.end).is_none_or(|end| now <= end)
            && (1..=most).contains(&service.major_api_version)
    };
    services.iter().filter(valid).max_by_key(|service| service.major_api_version)
}

/// What is signed, and the signature.
struct Signed {
    /// `messageSignature` or `dsseEnvelope`, by its member's name.
    content: (&'static str, Value),
    /// SHA-256 of a plain file; nothing for an envelope.
    digest: Option<[u8; 32]>,
    signature: Vec<u8>,
}

impl SignBundle {
    /// Runs it; the bundle is written only when all went well.
    pub async fn run(self, output: &Output) -> Result<Exit> {
        let Some(config) = &self.signing_config else {
            bail!("--signing-config names the servers; without it nobody is asked");
        };
        let config = fs::read(config).with_context(|| config.display().to_string())?;
        let config: Config = serde_json::from_slice(&config).context("the signing configuration")?;
        let now = Timestamp::now();
        let ca = choose(&config.ca_urls, 1, now).context("no certificate authority is valid now")?;
        let log = choose(&config.rekor_tlog_urls, 2, now);
        let tsa = choose(&config.tsa_urls, 1, now);
        ensure!(log.is_some() || tsa.is_some(), "neither a log nor a timestamp authority is valid now");
        ensure!(
            log.is_none_or(|log| log.major_api_version == 1) || tsa.is_some(),
            "a log of version 2 tells no time: a timestamp authority is needed"
        );
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;

        let key = PrivateKey::generate(Algorithm::P256)?;
        let certificate = certify(&http, &ca.url, &self.identity_token, &key).await?;
        let bytes = fs::read(&self.file).with_context(|| self.file.display().to_string())?;
        let signed = if self.in_toto { envelope(&key, &bytes)? } else { message(&key, &bytes)? };
        let mut material = json!({"certificate": {"rawBytes": STANDARD.encode(&certificate)}});
        material["tlogEntries"] = match log {
            None => json!([]),
            Some(log) if log.major_api_version == 1 => {
                json!([log_v1(&http, &log.url, &signed, &certificate).await?])
            }
            Some(log) => json!([log_v2(&http, &log.url, &signed, &certificate).await?]),
        };
        if let Some(tsa) = tsa {
            let token = stamp(&http, &tsa.url, &signed.signature).await?;
            material["timestampVerificationData"] =
                json!({"rfc3161Timestamps": [{"signedTimestamp": STANDARD.encode(token)}]});
        }
        let mut bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": material,
        });
        bundle[signed.content.0] = signed.content.1;
        let text = bundle.to_string();
        if let Some(root) = &self.trusted_root {
            let mut against = Against::new();
            against.root("given", &fs::read(root).with_context(|| root.display().to_string())?)?;
            let checked = against.bytes(text.as_bytes());
            let why = checked.message.unwrap_or_default();
            ensure!(checked.result == Outcome::Verified, "the servers' answers do not verify: {why}");
        }
        fs::write(&self.bundle, text).with_context(|| self.bundle.display().to_string())?;
        let told = json!({"bundle": self.bundle.display().to_string()});
        output.show(&told, |_| format!("{} {}", paint(GOOD, "signed"), self.bundle.display()));
        Ok(Exit::Allowed)
    }
}

/// A certificate for the key, in DER (Fulcio's API, version 2 of its path).
async fn certify(http: &reqwest::Client, url: &str, token: &str, key: &PrivateKey) -> Result<Vec<u8>> {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value = claims
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .context("the identity token is no JSON Web Token")?;
    let subject = claims["email"].as_str().or(claims["sub"].as_str()).context("the token has no subject")?;
    let request = json!({
        "credentials": {"oidcIdentityToken": token},
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": key.public()?.to_pem()},
            // That whoever has the token has the key, too.
            "proofOfPossession": STANDARD.encode(key.sign(subject.as_bytes())?),
        },
    });
    let answer: Value = post(http, &join(url, "api/v2/signingCert"), &request).await?;
    let chain = ["signedCertificateEmbeddedSct", "signedCertificateDetachedSct"]
        .iter()
        .find_map(|form| answer[form]["chain"]["certificates"].as_array())
        .context("the certificate authority gave no certificates")?;
    let pem = chain.first().and_then(Value::as_str).context("the certificate authority gave no leaf")?;
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(base64.trim()).context("the certificate")
}

fn message(key: &PrivateKey, bytes: &[u8]) -> Result<Signed> {
    let (signature, digest) = (key.sign(bytes)?, Sha256::digest(bytes));
    let content = json!({
        "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(digest)},
        "signature": STANDARD.encode(&signature),
    });
    Ok(Signed { content: ("messageSignature", content), digest: Some(digest.into()), signature })
}

fn envelope(key: &PrivateKey, bytes: &[u8]) -> Result<Signed> {
    let signature = key.sign(&catenary_evidence::dsse::pae(IN_TOTO, bytes))?;
    let content = json!({
        "payloadType": IN_TOTO,
        "payload": STANDARD.encode(bytes),
        "signatures": [{"sig": STANDARD.encode(&signature)}],
    });
    Ok(Signed { content: ("dsseEnvelope", content), digest: None, signature })
}

/// An entry of a Rekor v1 log, as bundles have it.
async fn log_v1(http: &reqwest::Client, url: &str, signed: &Signed, certificate: &[u8]) -> Result<Value> {
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD
            .encode(certificate)
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join("\n")
    );
    let (kind, spec) = match signed.digest {
        Some(digest) => (
            "hashedrekord",
            json!({
                "data": {"hash": {"algorithm": "sha256", "value": hex::encode(digest)}},
                "signature": {"content": STANDARD.encode(&signed.signature),
                              "publicKey": {"content": STANDARD.encode(&pem)}},
            }),
        ),
        None => (
            "dsse",
            json!({"proposedContent": {"envelope": signed.content.1.to_string(), "verifiers": [STANDARD.encode(&pem)]}}),
        ),
    };
    let entry = json!({"apiVersion": "0.0.1", "kind": kind, "spec": spec});
    let answer: Value = post(http, &join(url, "api/v1/log/entries"), &entry).await?;
    let entry = answer.as_object().and_then(|all| all.values().next()).context("the log gave no entry")?;
    let proof = &entry["verification"]["inclusionProof"];
    let base64 = |hex: &Value| -> Result<String> {
        Ok(STANDARD.encode(hex::decode(hex.as_str().context("a hash is missing")?).context("a hash")?))
    };
    let hashes = proof["hashes"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(json!({
        "logIndex": entry["logIndex"].to_string(),
        "logId": {"keyId": base64(&entry["logID"])?},
        "kindVersion": {"kind": kind, "version": "0.0.1"},
        "integratedTime": entry["integratedTime"].to_string(),
        "inclusionPromise": {"signedEntryTimestamp": entry["verification"]["signedEntryTimestamp"]},
        "inclusionProof": {
            "logIndex": proof["logIndex"].to_string(),
            "rootHash": base64(&proof["rootHash"])?,
            "treeSize": proof["treeSize"].to_string(),
            "hashes": hashes.iter().map(base64).collect::<Result<Vec<_>>>()?,
            "checkpoint": {"envelope": proof["checkpoint"]},
        },
        "canonicalizedBody": entry["body"],
    }))
}

/// An entry of a Rekor v2 log, which answers in the bundle's own form.
async fn log_v2(http: &reqwest::Client, url: &str, signed: &Signed, certificate: &[u8]) -> Result<Value> {
    let verifier = json!({
        "x509Certificate": {"rawBytes": STANDARD.encode(certificate)}, "keyDetails": "PKIX_ECDSA_P256_SHA_256",
    });
    let request = match signed.digest {
        Some(digest) => json!({"hashedRekordRequestV002": {
            "digest": STANDARD.encode(digest),
            "signature": {"content": STANDARD.encode(&signed.signature), "verifier": verifier},
        }}),
        None => json!({"dsseRequestV002": {"envelope": signed.content.1, "verifiers": [verifier]}}),
    };
    post(http, &join(url, "api/v2/log/entries"), &request).await
}

/// A time stamp response for the signature (RFC 3161), in DER.
async fn stamp(http: &reqwest::Client, url: &str, signature: &[u8]) -> Result<Vec<u8>> {
    // version 1; messageImprint { sha256, NULL; hash }; nonce; certReq TRUE
    let mut request = vec![0x30, 0x43, 2, 1, 1, 0x30, 0x31, 0x30, 0x0d, 6, 9];
    request.extend([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20]);
    request.extend(Sha256::digest(signature));
    let mut nonce = [0; 8];
    aws_lc_rs::rand::fill(&mut nonce).context("no randomness")?;
    // Positive, and not shorter than it looks.
    nonce[0] = nonce[0] & 0x3f | 0x40;
    request.extend([2, 8]);
    request.extend(nonce);
    request.extend([1, 1, 0xff]);
    let sent = http.post(url).header("content-type", "application/timestamp-query").body(request);
    read(url, sent.send().await.with_context(|| url.to_owned())?).await
}

fn join(url: &str, path: &str) -> String {
    format!("{}/{path}", url.trim_end_matches('/'))
}

async fn post(http: &reqwest::Client, url: &str, body: &Value) -> Result<Value> {
    let response = http.post(url).json(body).send().await.with_context(|| url.to_owned())?;
    serde_json::from_slice(&read(url, response).await?).with_context(|| format!("{url}: not JSON"))
}

async fn read(url: &str, mut response: Response) -> Result<Vec<u8>> {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(bytes.len() + chunk.len() <= MAX_ANSWER, "{url} answers more than {MAX_ANSWER} bytes");
        bytes.extend_from_slice(&chunk);
    }
    let said: String = String::from_utf8_lossy(&bytes).chars().take(300).collect();
    ensure!(status.is_success(), "{url} answers {status}: {said}");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_service_that_is_valid_and_spoken_is_chosen() {
        let config = r#"{"rekorTlogUrls": [
            {"url": "old", "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"}},
            {"url": "one", "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}},
            {"url": "two", "majorApiVersion": 2, "validFor": {"start": "2030-01-01T00:00:00Z"}},
            {"url": "three", "majorApiVersion": 3}]}"#;
        let config: Config = serde_json::from_str(config).unwrap();
        let at =
            |time: &str| choose(&config.rekor_tlog_urls, 2, time.parse().unwrap()).map(|s| s.url.as_str());
        assert_eq!(at("2026-01-01T00:00:00Z"), Some("one"));
        assert_eq!(at("2031-01-01T00:00:00Z"), Some("two"));
        assert_eq!(at("2019-01-01T00:00:00Z"), None);
    }
}
