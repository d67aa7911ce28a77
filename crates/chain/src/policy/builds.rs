//! What a builder rule asks of the builds of its signer: their types, and what proves their signatures.

use std::fmt;

use catenary_evidence::predicate::{Adapter, Build};
use serde::{Deserialize, Deserializer, de::Error as _};

/// One of `buildTypes`: an adapter, or one version of what it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BuildType {
    adapter: Adapter,
    /// The build type, byte for byte; any that the adapter reads when absent.
    uri: Option<&'static str>,
}

/// Versions of BuildKit's provenance by the names that policies use.
const BUILDKIT: [(&str, &str); 2] = [
    ("buildkit-v1", "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"),
    ("buildkit-v0.2", "https://mobyproject.org/buildkit@v1"),
];

impl BuildType {
    /// Whether a build that `adapter` reads is of this type.
    pub fn is_of(self, adapter: Adapter, build: &Build) -> bool {
        self.adapter == adapter && self.uri.is_none_or(|uri| uri == build.build_type)
    }
}

/// As a reason names it.
impl fmt::Debug for BuildType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BUILDKIT.iter().find(|(_, uri)| Some(*uri) == self.uri) {
            Some((name, _)) => f.write_str(name),
            None => self.adapter.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for BuildType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if let Some((_, uri)) = BUILDKIT.iter().find(|(known, _)| *known == name) {
            return Ok(Self { adapter: Adapter::Buildkit, uri: Some(uri) });
        }
        let known = Adapter::deserialize(serde::de::value::StrDeserializer::<D::Error>::new(&name));
        known.map(|adapter| Self { adapter, uri: None })
    }
}

/// `trust.builders[].evidence`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningEvidence {
    /// What must say when the statement was signed.
    pub timestamp: Option<Timestamping>,
    /// Which transparency logs must hold it.
    pub tlog: Option<Tlog>,
}

impl SigningEvidence {
    /// Whether anything is asked for.
    pub fn is_asked(&self) -> bool {
        *self != Self::default()
    }
}

/// `evidence.timestamp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Timestamping {
    /// A trusted authority other than our own log.
    Required,
    /// Our own log is enough.
    ReceivedAt,
}

/// `evidence.tlog`: `required`, or `{quorum: …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tlog {
    /// One that the trust root of the certificate vouches for.
    Required,
    /// So many different ones.
    Logs(u8),
    /// What a trust domain asks for: its witnesses' quorum, or as many of its logs as its rules say.
    Quorum(String),
}

/// Most logs that can be asked for, as many as a trust domain can.
const MAX_LOGS: u8 = 8;

impl<'de> Deserialize<'de> for Tlog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Quorum {
            Logs(u8),
            Domain(String),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Asked {
            quorum: Quorum,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Word(String),
            Asked(Asked),
        }
        match Wire::deserialize(deserializer) {
            Ok(Wire::Word(word)) if word == "required" => Ok(Self::Required),
            Ok(Wire::Asked(Asked { quorum: Quorum::Logs(logs @ 1..=MAX_LOGS) })) => Ok(Self::Logs(logs)),
            Ok(Wire::Asked(Asked { quorum: Quorum::Domain(name) })) if !name.is_empty() => {
                Ok(Self::Quorum(name))
            }
            _ => Err(D::Error::custom(format!(
                "`tlog` is `required`, or `{{quorum: …}}` with 1 to {MAX_LOGS} logs or the name of a trust domain"
            ))),
        }
    }
}
