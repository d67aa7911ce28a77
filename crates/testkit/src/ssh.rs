//! SSH public keys and signatures, as OpenSSH's PROTOCOL.sshsig writes them.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256, Sha512};

use crate::{
    der,
    key::{Key, Scheme},
};

/// `string` of RFC 4251.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat()
}

fn key_type(key: &Key) -> &'static str {
    match key.scheme() {
        Scheme::Ed25519 => "ssh-ed25519",
        Scheme::P256 => "ecdsa-sha2-nistp256",
        Scheme::P384 => "ecdsa-sha2-nistp384",
        Scheme::P521 => "ecdsa-sha2-nistp521",
        Scheme::RsaPkcs1 | Scheme::RsaPss => "ssh-rsa",
    }
}

fn public_blob(key: &Key) -> Vec<u8> {
    let kind = key_type(key);
    match key.scheme() {
        Scheme::Ed25519 => [string(kind.as_bytes()), string(key.public_raw())].concat(),
        Scheme::RsaPkcs1 | Scheme::RsaPss => {
            let (modulus, exponent) = der::two_integers(key.public_raw());
            [string(kind.as_bytes()), string(exponent), string(modulus)].concat()
        }
        _ => {
            let curve = kind.trim_start_matches("ecdsa-sha2-");
            [string(kind.as_bytes()), string(curve.as_bytes()), string(key.public_raw())].concat()
        }
    }
}

pub(crate) fn public_line(key: &Key) -> String {
    format!("{} {} {}\n", key_type(key), STANDARD.encode(public_blob(key)), key.name())
}

pub(crate) fn signature(key: &Key, namespace: &str, hash: &str, message: &[u8]) -> String {
    let hashed = match hash {
        "sha256" => Sha256::digest(message).to_vec(),
        "sha512" => Sha512::digest(message).to_vec(),
        other => panic!("sshsig has no hash {other}"),
    };
    let named = [string(namespace.as_bytes()), string(b""), string(hash.as_bytes())].concat();
    let raw = key.sign_for_ssh(&[b"SSHSIG", named.as_slice(), &string(&hashed)].concat());
    let (algorithm, raw) = match key.scheme() {
        Scheme::Ed25519 => ("ssh-ed25519", raw),
        Scheme::RsaPkcs1 | Scheme::RsaPss => ("rsa-sha2-512", raw),
        _ => {
            // A DER INTEGER and an SSH mpint have the same content.
            let (r, s) = der::two_integers(&raw);
            (key_type(key), [string(r), string(s)].concat())
        }
    };
    let inner = [string(algorithm.as_bytes()), string(&raw)].concat();
    let blob =
        [b"SSHSIG".as_slice(), &1u32.to_be_bytes(), &string(&public_blob(key)), &named, &string(&inner)]
            .concat();
    format!("-----BEGIN SSH SIGNATURE-----\n{}-----END SSH SIGNATURE-----\n", der::wrapped(&blob, 70))
}
