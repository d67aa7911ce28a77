//! `asOf` and `knownAt`: answers about the past.
//!
//! `asOf` is the time that the evaluation is told; `knownAt` is the part of the log that it reads. With both those of an
//! earlier verdict, the answer is that verdict, byte for byte.

use std::sync::Arc;

use catenary_store::{
    StoreError,
    follow::{FollowError, KnownAt, Snapshot},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer};

use crate::{App, problem::Fault};

/// How far the asker's clock may be ahead of ours (docs/limits.md).
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(30);

/// `knownAt` of a body: a verdict has `log.size` as a number.
pub fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number of log entries or an RFC 3339 time")]
    enum Place {
        Size(u64),
        Text(String),
    }
    Ok(Option::<Place>::deserialize(deserializer)?.map(|place| match place {
        Place::Size(size) => size.to_string(),
        Place::Text(text) => text,
    }))
}

/// When an answer is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct When {
    /// The time of the evaluation; now when absent.
    pub as_of: Option<Timestamp>,
    /// What is read of the log; all when absent.
    pub known_at: Option<KnownAt>,
}

impl When {
    /// Reads `asOf` (RFC 3339) and `knownAt` (a number of entries, or RFC 3339).
    pub fn read(as_of: Option<&str>, known_at: Option<&str>) -> Result<Self, Fault> {
        let moment = |name: &str, text: &str| {
            text.parse::<Timestamp>().map_err(|_| Fault::Query(format!("`{name}` is an RFC 3339 time")))
        };
        let as_of = as_of.map(|text| moment("asOf", text)).transpose()?;
        let known_at = known_at.map(|text| {
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            match text.parse() {
                Ok(size) if is_number => Ok(KnownAt::Size(size)),
                _ => moment("knownAt", text).map(KnownAt::Time).map_err(|_| {
                    Fault::Query("`knownAt` is a number of log entries or an RFC 3339 time".into())
                }),
            }
        });
        let known_at = known_at.transpose()?;
        // What will be known then is not known yet: the same question would have another answer later.
        let latest = Timestamp::now().checked_add(CLOCKS_APART).unwrap_or(Timestamp::MAX);
        if matches!(known_at, Some(KnownAt::Time(moment)) if moment > latest) {
            return Err(Fault::Query("`knownAt` is in the future".into()));
        }
        Ok(Self { as_of, known_at })
    }

    /// Whether the answer is about now.
    pub fn is_now(&self) -> bool {
        *self == Self::default()
    }

    /// The time to evaluate at.
    pub fn now(&self) -> Timestamp {
        self.as_of.unwrap_or_else(Timestamp::now)
    }

    /// What was known.
    pub async fn snapshot(&self, app: &App, tenant: &str) -> Result<Arc<Snapshot>, Fault> {
        let snapshot = app.backend.snapshot(tenant).await?;
        match self.known_at {
            None => Ok(snapshot),
            Some(known_at) => match app.backend.follower.past(&snapshot, known_at).await {
                // No waiting brings it.
                Err(FollowError::Store(StoreError::BeyondHead { asked: 0, .. })) => {
                    Err(Fault::Query("`knownAt` is before the first entry of the log".into()))
                }
                past => Ok(Arc::new(past?)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_log_is_a_number_or_a_time() {
        let read = |text: &str| When::read(None, Some(text)).ok().and_then(|when| when.known_at);
        let moment: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        assert_eq!(read("7777-01-01T00:00:00Z"), None, "the future");
        assert_eq!(read("7"), Some(KnownAt::Size(7)));
        assert_eq!(read("2026-11-20T10:00:00Z"), Some(KnownAt::Time(moment)));
        for bad in ["", "-1", "+7", "1e3", "yesterday", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(When::read(Some("tomorrow"), None).is_err());
    }

    #[test]
    fn a_body_may_give_the_size_as_a_verdict_has_it() {
        let read = |text: &str| place(&mut serde_json::Deserializer::from_str(text)).ok().flatten();
        assert_eq!(read("48213").as_deref(), Some("48213"));
        assert_eq!(read("\"48213\"").as_deref(), Some("48213"));
        assert_eq!(read("null"), None);
        let error = place(&mut serde_json::Deserializer::from_str("-1")).unwrap_err().to_string();
        assert!(error.contains("a number of log entries"), "{error}");
    }
}
