//! `asOf` and `knownAt`: answers about the past.
//!
//! `asOf` is the time that the evaluation is told; `knownAt` is the part of the log that it reads. With both those of an
//! earlier verdict, the answer is that verdict, byte for byte.

use std::sync::Arc;

use catenary_store::{
    StoreError,
    follow::{FollowError, KnownAt, Snapshot},
};
use jiff::Timestamp;

use crate::{App, problem::Fault};

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
        Ok(Self { as_of, known_at: known_at.transpose()? })
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
        assert_eq!(read("7"), Some(KnownAt::Size(7)));
        assert_eq!(read("2026-11-20T10:00:00Z"), Some(KnownAt::Time(moment)));
        for bad in ["", "-1", "+7", "1e3", "yesterday", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(When::read(Some("tomorrow"), None).is_err());
    }
}
