//! Signing keys made from names, and RSA test keys that are embedded because making them is slow.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    agreement,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPssSaltLength, RsaSignatureEncoding,
    },
};
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::{der, sha256_hex, ssh};

/// A public key that is too short to be accepted: RSA with 1024 bits.
pub const WEAK_RSA_1024_PEM: &str = include_str!("keys/weak-rsa-1024.pem");

/// Two embedded keys that are used nowhere but in tests.
const RSA_PKCS1: &[u8] = include_bytes!("keys/rsa-2048-pkcs1.der");
const RSA_PSS: &[u8] = include_bytes!("keys/rsa-2048-pss.der");

const OID_EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const OID_P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
const OID_ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const OID_RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// A signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Ed25519.
    Ed25519,
    /// ECDSA P-256 with SHA-256, DER signatures.
    P256,
    /// ECDSA P-384 with SHA-384, DER signatures.
    P384,
    /// ECDSA P-521 with SHA-512, DER signatures.
    P521,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RsaPkcs1,
    /// RSA-PSS with SHA-256.
    RsaPss,
}

impl Scheme {
    /// The name that key registrations use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "ecdsa-p256-sha256",
            Self::P384 => "ecdsa-p384-sha384",
            Self::P521 => "ecdsa-p521-sha512",
            Self::RsaPkcs1 => "rsa-pkcs1-sha256",
            Self::RsaPss => "rsa-pss-sha256",
        }
    }
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A private key with everything that a test wants to know of it.
#[derive(Clone)]
pub struct Key {
    name: String,
    scheme: Scheme,
    pair: Arc<Pair>,
    pkcs8: Vec<u8>,
    spki: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {}, {})", self.name, self.scheme.name(), self.id())
    }
}

impl Key {
    /// An Ed25519 key, the same one for the same name.
    pub fn ed25519(name: &str) -> Self {
        let seed = Sha256::digest(format!("catenary-testkit ed25519 {name}"));
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed");
        let algorithm = der::sequence(&[OID_ED25519]);
        let pkcs8 = der::sequence(&[&[2, 1, 0], &algorithm, &der::tlv(4, &der::tlv(4, &seed))]);
        let spki = der::sequence(&[&algorithm, &der::bit_string(pair.public_key().as_ref())]);
        Self { name: name.into(), scheme: Scheme::Ed25519, pair: Arc::new(Pair::Ed25519(pair)), pkcs8, spki }
    }

    /// A P-256 key, the same one for the same name. Its signatures are random.
    pub fn p256(name: &str) -> Self {
        let secret = Sha256::digest(format!("catenary-testkit p256 {name}")).to_vec();
        Self::ecdsa(
            name,
            Scheme::P256,
            &agreement::ECDH_P256,
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            OID_P256,
            &secret,
        )
    }

    /// A P-384 key, the same one for the same name. Its signatures are random.
    pub fn p384(name: &str) -> Self {
        let secret = Sha384::digest(format!("catenary-testkit p384 {name}")).to_vec();
        Self::ecdsa(
            name,
            Scheme::P384,
            &agreement::ECDH_P384,
            &ECDSA_P384_SHA384_ASN1_SIGNING,
            OID_P384,
            &secret,
        )
    }

    /// A P-521 key, the same one for the same name. Its signatures are random.
    pub fn p521(name: &str) -> Self {
        // 512 of the 521 bits: always below the order of the group.
        let secret = [&[0, 0], Sha512::digest(format!("catenary-testkit p521 {name}")).as_slice()].concat();
        Self::ecdsa(
            name,
            Scheme::P521,
            &agreement::ECDH_P521,
            &ECDSA_P521_SHA512_ASN1_SIGNING,
            OID_P521,
            &secret,
        )
    }

    fn ecdsa(
        name: &str,
        scheme: Scheme,
        agreement: &'static agreement::Algorithm,
        signing: &'static EcdsaSigningAlgorithm,
        curve: &[u8],
        secret: &[u8],
    ) -> Self {
        let private =
            agreement::PrivateKey::from_private_key(agreement, secret).expect("the scalar is in range");
        let public = private.compute_public_key().expect("a private key has a public key");
        let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, secret, public.as_ref())
            .expect("they match");
        let algorithm = der::sequence(&[OID_EC, curve]);
        let point = der::bit_string(public.as_ref());
        let inner = der::sequence(&[&[2, 1, 1], &der::tlv(4, secret), &der::tlv(0xa1, &point)]);
        let pkcs8 = der::sequence(&[&[2, 1, 0], &algorithm, &der::tlv(4, &inner)]);
        let spki = der::sequence(&[&algorithm, &point]);
        Self { name: name.into(), scheme, pair: Arc::new(Pair::Ecdsa(pair)), pkcs8, spki }
    }

    /// The embedded RSA-2048 key that signs with PKCS#1 v1.5.
    pub fn rsa_pkcs1(name: &str) -> Self {
        Self::rsa(name, Scheme::RsaPkcs1, RSA_PKCS1)
    }

    /// The embedded RSA-2048 key (another one) that signs with PSS.
    pub fn rsa_pss(name: &str) -> Self {
        Self::rsa(name, Scheme::RsaPss, RSA_PSS)
    }

    fn rsa(name: &str, scheme: Scheme, pkcs8: &[u8]) -> Self {
        let pair = RsaKeyPair::from_pkcs8(pkcs8).expect("the embedded key is good");
        let algorithm = der::sequence(&[OID_RSA, &[5, 0]]);
        let spki = der::sequence(&[&algorithm, &der::bit_string(pair.public_key().as_ref())]);
        Self { name: name.into(), scheme, pair: Arc::new(Pair::Rsa(pair)), pkcs8: pkcs8.into(), spki }
    }

    /// The name that the key was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it signs.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `sha256:<hex of SHA-256 of the SubjectPublicKeyInfo>`.
    pub fn id(&self) -> String {
        format!("sha256:{}", sha256_hex(&self.spki))
    }

    /// SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SubjectPublicKeyInfo as PEM.
    pub fn public_pem(&self) -> String {
        der::pem("PUBLIC KEY", &self.spki)
    }

    /// PKCS#8 in DER.
    pub fn private_pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// PKCS#8 as PEM.
    pub fn private_pkcs8_pem(&self) -> String {
        der::pem("PRIVATE KEY", &self.pkcs8)
    }

    /// Signs exactly these bytes with the key's scheme.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::Ed25519(pair) => pair.sign(bytes).as_ref().to_vec(),
            Pair::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), bytes).expect("signing does not fail").as_ref().to_vec()
            }
            Pair::Rsa(pair) if self.scheme == Scheme::RsaPss => sign_rsa(pair, &RSA_PSS_SHA256, bytes),
            Pair::Rsa(pair) => sign_rsa(pair, &RSA_PKCS1_SHA256, bytes),
        }
    }

    /// Signs with RSA-PSS and a salt as long as the key allows; other keys sign as ever.
    pub fn sign_with_longest_salt(&self, bytes: &[u8]) -> Vec<u8> {
        static LONGEST: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
        self.sign_pss(&LONGEST, bytes)
    }

    /// Signs with RSA-PSS and a salt that is one byte longer than the digest; other keys sign as ever.
    pub fn sign_with_odd_salt(&self, bytes: &[u8]) -> Vec<u8> {
        static ODD: RsaSignatureEncoding = RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(33));
        self.sign_pss(&ODD, bytes)
    }

    fn sign_pss(&self, encoding: &'static RsaSignatureEncoding, bytes: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::Rsa(pair) => sign_rsa(pair, encoding, bytes),
            _ => self.sign(bytes),
        }
    }

    /// The raw public key: 32 bytes, an uncompressed point, or an RSAPublicKey.
    pub fn public_raw(&self) -> &[u8] {
        match &*self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// What SSH calls `rsa-sha2-512`; other keys sign as ever.
    pub(crate) fn sign_for_ssh(&self, bytes: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::Rsa(pair) => sign_rsa(pair, &RSA_PKCS1_SHA512, bytes),
            _ => self.sign(bytes),
        }
    }

    /// One line of an SSH public key file, with the name as comment.
    pub fn openssh_public(&self) -> String {
        ssh::public_line(self)
    }

    /// An armoured SSH signature (`ssh-keygen -Y sign`). `hash` is `sha256` or `sha512`.
    pub fn sshsig(&self, namespace: &str, hash: &str, message: &[u8]) -> String {
        ssh::signature(self, namespace, hash, message)
    }
}

fn sign_rsa(pair: &RsaKeyPair, padding: &'static dyn RsaEncoding, bytes: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), bytes, &mut signature).expect("signing does not fail");
    signature
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Command};

    use super::*;

    fn all() -> [Key; 6] {
        [
            Key::ed25519("a"),
            Key::p256("a"),
            Key::p384("a"),
            Key::p521("a"),
            Key::rsa_pkcs1("a"),
            Key::rsa_pss("a"),
        ]
    }

    #[test]
    fn the_same_name_gives_the_same_key_and_another_name_another() {
        assert_eq!(Key::p384("a").id(), Key::p384("a").id());
        assert_ne!(Key::p384("a").id(), Key::p384("b").id());
        assert_eq!(Key::ed25519("a").sign(b"x"), Key::ed25519("a").sign(b"x"));
        assert_ne!(Key::rsa_pkcs1("a").id(), Key::rsa_pss("a").id());
    }

    #[test]
    fn openssl_reads_the_keys_and_derives_the_same_public_key() {
        let dir = Scratch::new("keys");
        for key in all() {
            let private = dir.write("private.pem", key.private_pkcs8_pem().as_bytes());
            let out =
                Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout), key.public_pem(), "{key:?}");
        }
    }

    #[test]
    fn openssl_verifies_the_signatures() {
        let dir = Scratch::new("signatures");
        let message = dir.write("message", b"hello");
        for key in all() {
            let public = dir.write("public.pem", key.public_pem().as_bytes());
            let signature = dir.write("signature", &key.sign(b"hello"));
            let mut command = Command::new("openssl");
            match key.scheme() {
                Scheme::Ed25519 => {
                    command.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]).arg(&public)
                }
                other => {
                    let hash = match other {
                        Scheme::P384 => "-sha384",
                        Scheme::P521 => "-sha512",
                        _ => "-sha256",
                    };
                    command.args(["dgst", hash]);
                    if other == Scheme::RsaPss {
                        command.args(["-sigopt", "rsa_padding_mode:pss"]);
                    }
                    command.arg("-verify").arg(&public)
                }
            };
            if key.scheme() == Scheme::Ed25519 {
                command.arg("-sigfile").arg(&signature).arg("-in").arg(&message);
            } else {
                command.arg("-signature").arg(&signature).arg(&message);
            }
            let out = command.output().unwrap();
            assert!(out.status.success(), "{key:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
    }

    #[test]
    fn ssh_keygen_accepts_the_ssh_signatures_and_refuses_another_message() {
        let dir = Scratch::new("sshsig");
        for key in [Key::ed25519("a"), Key::p256("a"), Key::p384("a"), Key::p521("a"), Key::rsa_pkcs1("a")] {
            for hash in ["sha256", "sha512"] {
                let signature = dir.write("sig", key.sshsig("git", hash, b"hello").as_bytes());
                let check = |message: &[u8]| {
                    let mut child = Command::new("ssh-keygen")
                        .args(["-Y", "check-novalidate", "-n", "git", "-s"])
                        .arg(&signature)
                        .stdin(std::process::Stdio::piped())
                        .stdout(std::process::Stdio::null())
                        .stderr(std::process::Stdio::null())
                        .spawn()
                        .unwrap();
                    child.stdin.take().unwrap().write_all(message).unwrap();
                    child.wait().unwrap().success()
                };
                assert!(check(b"hello"), "{key:?} {hash}");
                assert!(!check(b"hellp"), "{key:?} {hash}");
            }
            let public = dir.write("public", key.openssh_public().as_bytes());
            assert!(
                Command::new("ssh-keygen").arg("-l").arg("-f").arg(public).output().unwrap().status.success()
            );
        }
    }

    /// A directory under the system's temporary one, removed at the end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("catenary-testkit-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn write(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
