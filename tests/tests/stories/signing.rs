//! Signing with an identity: the servers of a configuration certify, log and stamp.

use std::{path::Path, sync::Arc};

use acceptance::App;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use catenary_testkit::{
    authority::{Authority, Claims, Entry},
    sha256_hex,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const ISSUER: &str = "https://issuer.acme.test";
const WHO: &str = "ann@acme.test";

/// A certificate authority, two logs and a timestamp authority behind one address.
struct Servers {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Servers {
    /// `lies`: the log's promise is for another entry.
    async fn start(authority: Arc<Authority>, lies: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let authority = authority.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    let (head, body) = loop {
                        let mut chunk = [0; 8192];
                        let read = stream.read(&mut chunk).await.unwrap();
                        request.extend_from_slice(&chunk[..read]);
                        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
                            continue;
                        };
                        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        if request.len() >= end + 4 + length.map_or(0, |n| n.parse::<usize>().unwrap()) {
                            break (head, request[end + 4..].to_vec());
                        }
                    };
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let answer = answer(&authority, &path, &body, lies);
                    let head = format!(
                        "HTTP/1.1 201 Created\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        answer.len()
                    );
                    stream.write_all(head.as_bytes()).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                });
            }
        });
        Self { url, task }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(authority: &Authority, path: &str, body: &[u8], lies: bool) -> Vec<u8> {
    let now = jiff::Timestamp::now().as_second();
    if path == "/tsa" {
        // The imprint stands where the request says: after version and algorithm.
        let mut token = authority.tsa.token(b"", now);
        token.imprint = Some(body[24..56].to_vec());
        return token.to_der();
    }
    let request: Value = serde_json::from_slice(body).unwrap();
    match path {
        "/api/v2/signingcert" => certify(authority, &request, now),
        "/api/v1/log/entries" => log_v1(authority, &request, now, lies),
        "/api/v2/log/entries" => {
            let wanted = &request["hashedRekordRequestV002"];
            let body = json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": wanted["digest"]}, "signature": wanted["signature"]}}});
            let entry = authority.rekor_v2.log("hashedrekord", "0.0.2", body.to_string().as_bytes(), now);
            entry.to_value().to_string().into_bytes()
        }
        other => panic!("{other}"),
    }
}

/// A certificate for whoever has token and key.
fn certify(authority: &Authority, request: &Value, now: i64) -> Vec<u8> {
    let token = request["credentials"]["oidcIdentityToken"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let email = claims["email"].as_str().unwrap();
    let wanted = &request["publicKeyRequest"];
    let pem = wanted["publicKey"]["content"].as_str().unwrap();
    let possession = STANDARD.decode(wanted["proofOfPossession"].as_str().unwrap()).unwrap();
    let key = catenary_evidence::PublicKey::from_pem(pem, None).unwrap();
    assert!(key.verify(email.as_bytes(), &possession), "whoever asks has the key");
    let spki = key.spki().to_vec();
    let leaf = authority.leaf(&Claims::email(email, ISSUER)).at(now - 1);
    let leaf = leaf.edit(move |spec| spec.spki = spki.clone()).issue();
    json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [leaf.pem()]}}})
        .to_string()
        .into_bytes()
}

fn log_v1(authority: &Authority, request: &Value, now: i64, lies: bool) -> Vec<u8> {
    let kind = request["kind"].as_str().unwrap();
    let mut body = request.clone();
    if kind == "dsse" {
        let proposed = &request["spec"]["proposedContent"];
        let text = proposed["envelope"].as_str().unwrap();
        let envelope: Value = serde_json::from_str(text).unwrap();
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": sha256_hex(bytes)});
        body["spec"] = json!({
            "envelopeHash": hash(text.as_bytes()), "payloadHash": hash(&payload),
            "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": proposed["verifiers"][0]}],
        });
    }
    let Entry { log_index, log_id, promise, proof, body, .. } =
        authority.rekor.log(kind, "0.0.1", body.to_string().as_bytes(), now);
    let proof = proof.unwrap();
    let mut promise = promise.unwrap();
    if lies {
        let end = promise.len() - 1;
        promise[end] ^= 1;
    }
    json!({"24296fb24b8ad77a": {
        "body": STANDARD.encode(body), "integratedTime": now, "logIndex": log_index, "logID": hex::encode(log_id),
        "verification": {
            "signedEntryTimestamp": STANDARD.encode(promise),
            "inclusionProof": {
                "logIndex": proof.index, "treeSize": proof.size, "rootHash": hex::encode(proof.root),
                "hashes": proof.hashes.iter().map(hex::encode).collect::<Vec<_>>(), "checkpoint": proof.checkpoint,
            },
        },
    }})
    .to_string()
    .into_bytes()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn config(folder: &Path, url: &str, log: u32, tsa: bool) -> String {
    let service = |url: String, version: u32| json!([{"url": url, "majorApiVersion": version, "validFor": {"start": "2020-01-01T00:00:00Z"}}]);
    let stamps = if tsa { service(format!("{url}/tsa"), 1) } else { json!([]) };
    let config = json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": service(url.to_owned(), 1), "rekorTlogUrls": service(url.to_owned(), log), "tsaUrls": stamps,
    });
    write(folder, &format!("config-{log}-{tsa}.json"), &config.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_signed_by_the_servers_of_a_configuration_and_verifies() {
    let app = App::shared().await;
    let authority = Arc::new(Authority::at("signing", jiff::Timestamp::now().as_second()));
    let servers = Servers::start(authority.clone(), false).await;
    let folder = tempfile::tempdir().unwrap();
    let root = write(folder.path(), "root.json", &authority.trusted_root_json());
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.AAAA", part(json!({"alg": "none"})), part(json!({"sub": "7", "email": WHO})));
    let file = write(folder.path(), "file", "signed, sealed, delivered\n");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://acme.test/note/v1", "predicate": {},
        "subject": [{"name": "file", "digest": {"sha256": sha256_hex(b"signed, sealed, delivered\n")}}],
    });
    let statement = write(folder.path(), "statement.json", &statement.to_string());
    let bundle = folder.path().join("bundle.json").to_str().unwrap().to_owned();
    let sign = |config: &str, more: &[&str], file: &str| {
        let _ = std::fs::remove_file(&bundle);
        let fixed =
            ["sign-bundle", "--identity-token", &token, "--bundle", &bundle, "--signing-config", config];
        let run = app.run(&[&fixed[..], more, &[file]].concat());
        (run.status.success(), String::from_utf8_lossy(&run.stderr).into_owned())
    };
    let verify = |identity: &str| {
        let fixed = ["verify-bundle", "--bundle", &bundle, "--certificate-identity", identity];
        let more = ["--certificate-oidc-issuer", ISSUER, "--trusted-root", &root, &file];
        app.run(&[&fixed[..], &more[..]].concat()).status.success()
    };
    let with_root = ["--trusted-root", root.as_str()];
    for (log, tsa, in_toto) in [(1, false, false), (1, false, true), (1, true, false), (2, true, false)] {
        let config = config(folder.path(), &servers.url, log, tsa);
        let (more, signed) = match in_toto {
            true => ([&with_root[..], &["--in-toto"]].concat(), &statement),
            false => (with_root.to_vec(), &file),
        };
        let (done, said) = sign(&config, &more, signed);
        assert!(done, "log {log} stamp {tsa} in-toto {in_toto}: {said}");
        assert!(verify(WHO), "log {log} stamp {tsa} in-toto {in_toto}");
        assert!(!verify("mallory@acme.test"));
    }

    // Nobody is asked who was not named; a log without a clock needs one; a log that lies is found out.
    let fixed = ["sign-bundle", "--identity-token", &token, "--bundle", &bundle, &file];
    assert!(!app.run(&fixed).status.success());
    assert!(!sign(&config(folder.path(), &servers.url, 2, false), &with_root, &file).0);
    let liar = Servers::start(authority, true).await;
    let (done, said) = sign(&config(folder.path(), &liar.url, 1, false), &with_root, &file);
    assert!(!done && said.contains("do not verify"), "{said}");
    assert!(!Path::new(&bundle).exists(), "nothing is written");
}
