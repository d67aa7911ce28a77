//! What a leaf certificate says about who signed: names, the OIDC issuer and the claims of a CI run.

use std::collections::BTreeMap;

use super::x509::{Extension, oid};
use crate::der;

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    /// `uniformResourceIdentifier`.
    Uri(String),
    /// `rfc822Name`.
    Email(String),
    /// Fulcio's `otherName` for usernames.
    Username(String),
    /// `dNSName`, which no signer should have.
    Dns(String),
}

impl San {
    fn to_der(&self) -> Vec<u8> {
        match self {
            Self::Uri(text) => der::tlv(0x86, text.as_bytes()),
            Self::Email(text) => der::tlv(0x81, text.as_bytes()),
            Self::Dns(text) => der::tlv(0x82, text.as_bytes()),
            Self::Username(text) => {
                let value = der::tlv(0xa0, &der::utf8(text));
                der::tlv(0xa0, &[der::oid("1.3.6.1.4.1.57264.1.7"), value].concat())
            }
        }
    }

    /// The name itself.
    pub fn text(&self) -> &str {
        let (Self::Uri(text) | Self::Email(text) | Self::Username(text) | Self::Dns(text)) = self;
        text
    }
}

/// The claims of one leaf certificate. Absent claims are not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// Subject alternative names, in order.
    pub sans: Vec<San>,
    /// `.1.8`, a DER UTF8String.
    pub issuer: Option<String>,
    /// `.1.1`, raw bytes; normally equal to `issuer`.
    pub legacy_issuer: Option<String>,
    /// `.1.2` to `.1.6` (raw) and `.1.9` to `.1.24` (UTF8String), by their last arc.
    pub fields: BTreeMap<u8, String>,
}

/// GitHub's OIDC issuer.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

impl Claims {
    /// A name under an OIDC issuer and nothing else.
    pub fn of(san: San, issuer: &str) -> Self {
        Self { sans: vec![san], ..Self::default() }.issuer(issuer)
    }

    /// A person.
    pub fn email(address: &str, issuer: &str) -> Self {
        Self::of(San::Email(address.into()), issuer)
    }

    /// A workload.
    pub fn uri(uri: &str, issuer: &str) -> Self {
        Self::of(San::Uri(uri.into()), issuer)
    }

    /// A GitHub Actions run of `repository` (`owner/name`) with `workflow` (a path in it) at `reference`
    /// and `sha`. The name, the build signer URI and the provenance's `builder.id` are one and the same text,
    /// which [`Claims::san`] gives back.
    pub fn github(repository: &str, workflow: &str, reference: &str, sha: &str) -> Self {
        let host = "https://github.com";
        let owner = repository.split('/').next().unwrap_or(repository);
        let signer = format!("{host}/{repository}/{workflow}@{reference}");
        Self::uri(&signer, GITHUB_ISSUER)
            .with(2, "push")
            .with(3, sha)
            .with(4, "release")
            .with(5, repository)
            .with(6, reference)
            .build_signer_uri(&signer)
            .build_signer_digest(sha)
            .runner_environment("github-hosted")
            .source_repository_uri(&format!("{host}/{repository}"))
            .source_repository_digest(sha)
            .source_repository_ref(reference)
            .source_repository_id("4242")
            .source_repository_owner_uri(&format!("{host}/{owner}"))
            .source_repository_owner_id("77")
            .build_config_uri(&signer)
            .build_config_digest(sha)
            .build_trigger("push")
            .run_invocation_uri(&format!("{host}/{repository}/actions/runs/1001/attempts/1"))
            .visibility("public")
    }

    /// The first name.
    pub fn san(&self) -> &str {
        self.sans.first().map_or("", San::text)
    }

    /// Replaces all names.
    pub fn with_sans(mut self, sans: Vec<San>) -> Self {
        self.sans = sans;
        self
    }

    /// Sets both issuer extensions.
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.into());
        self.legacy_issuer = Some(issuer.into());
        self
    }

    /// Sets only the old raw issuer extension.
    pub fn legacy_issuer(mut self, issuer: Option<&str>) -> Self {
        self.legacy_issuer = issuer.map(Into::into);
        self
    }

    /// Sets a claim by the last arc of its identifier.
    pub fn with(mut self, arc: u8, value: &str) -> Self {
        self.fields.insert(arc, value.into());
        self
    }

    /// Leaves a claim out.
    pub fn without(mut self, arc: u8) -> Self {
        self.fields.remove(&arc);
        self
    }

    /// `.1.9`.
    pub fn build_signer_uri(self, value: &str) -> Self {
        self.with(9, value)
    }

    /// `.1.10`.
    pub fn build_signer_digest(self, value: &str) -> Self {
        self.with(10, value)
    }

    /// `.1.11`: `github-hosted` or `self-hosted`.
    pub fn runner_environment(self, value: &str) -> Self {
        self.with(11, value)
    }

    /// `.1.12`.
    pub fn source_repository_uri(self, value: &str) -> Self {
        self.with(12, value)
    }

    /// `.1.13`: the commit.
    pub fn source_repository_digest(self, value: &str) -> Self {
        self.with(13, value)
    }

    /// `.1.14`.
    pub fn source_repository_ref(self, value: &str) -> Self {
        self.with(14, value)
    }

    /// `.1.15`.
    pub fn source_repository_id(self, value: &str) -> Self {
        self.with(15, value)
    }

    /// `.1.16`.
    pub fn source_repository_owner_uri(self, value: &str) -> Self {
        self.with(16, value)
    }

    /// `.1.17`.
    pub fn source_repository_owner_id(self, value: &str) -> Self {
        self.with(17, value)
    }

    /// `.1.18`.
    pub fn build_config_uri(self, value: &str) -> Self {
        self.with(18, value)
    }

    /// `.1.19`.
    pub fn build_config_digest(self, value: &str) -> Self {
        self.with(19, value)
    }

    /// `.1.20`: the event.
    pub fn build_trigger(self, value: &str) -> Self {
        self.with(20, value)
    }

    /// `.1.21`.
    pub fn run_invocation_uri(self, value: &str) -> Self {
        self.with(21, value)
    }

    /// `.1.22`.
    pub fn visibility(self, value: &str) -> Self {
        self.with(22, value)
    }

    /// `.1.23`.
    pub fn deployment_environment(self, value: &str) -> Self {
        self.with(23, value)
    }

    /// The extensions that carry the claims, names first.
    pub fn extensions(&self) -> Vec<Extension> {
        let mut extensions = Vec::new();
        if !self.sans.is_empty() {
            let names: Vec<u8> = self.sans.iter().flat_map(San::to_der).collect();
            extensions.push(Extension::critical(oid::SUBJECT_ALT_NAME, der::tlv(0x30, &names)));
        }
        let fulcio = |arc: u8, value: Vec<u8>| Extension::new(&format!("{}.{arc}", oid::FULCIO), value);
        if let Some(issuer) = &self.legacy_issuer {
            extensions.push(fulcio(1, issuer.clone().into_bytes()));
        }
        if let Some(issuer) = &self.issuer {
            extensions.push(fulcio(8, der::utf8(issuer)));
        }
        for (&arc, value) in &self.fields {
            let raw = arc < 8;
            extensions.push(fulcio(arc, if raw { value.clone().into_bytes() } else { der::utf8(value) }));
        }
        extensions
    }
}
