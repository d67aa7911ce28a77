//! Places where a test may make the service die, fail or wait: scenario R02.
//!
//! With the feature `failpoints` off, which is the default and how it is shipped, [`hit`] does nothing and is compiled
//! out, and a service refuses to start with `CATENARY_FAILPOINTS` set. With it,
//! `CATENARY_FAILPOINTS="append.before_commit=3:abort"` acts at the third hit of that place: `abort` ends the process
//! without any cleaning up, `error` fails once as a database would, `sleep` waits for a second. Several are separated by commas.

use crate::StoreError;

/// Every place, in the order in which an attestation passes them.
pub const POINTS: [&str; 14] = [
    "jwks.refresh",
    "bodies.before_insert",
    "bodies.after_insert",
    "entries.before_insert",
    "entries.after_insert",
    "append.before_commit",
    "append.after_commit",
    "checkpoint.sign",
    "ingest.before_response",
    "checkpoint.before_write",
    "checkpoint.before_rename",
    "checkpoint.after_rename",
    "decisions.before_commit",
    "verdict.sign",
];

/// What a failpoint with the action `error` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failpoint {0}")]
pub struct Injected(pub &'static str);

impl From<Injected> for StoreError {
    fn from(injected: Injected) -> Self {
        Self::Unavailable(injected.to_string())
    }
}

impl From<Injected> for std::io::Error {
    fn from(injected: Injected) -> Self {
        Self::other(injected)
    }
}

/// The execution passes `point`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "so that nothing of it is left")]
pub const fn hit(_point: &'static str) -> Result<(), Injected> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use super::{Injected, POINTS};

    /// One setting.
    struct Armed {
        point: &'static str,
        at: u64,
        action: Action,
        hits: AtomicU64,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Action {
        Abort,
        Error,
        Sleep,
    }

    /// The execution passes `point`.
    pub fn hit(point: &'static str) -> Result<(), Injected> {
        static SETTINGS: OnceLock<Vec<Armed>> = OnceLock::new();
        let settings = SETTINGS.get_or_init(|| {
            let text = std::env::var("CATENARY_FAILPOINTS").unwrap_or_default();
            // A name that nothing hits would be a test that cannot fail.
            text.split(',').filter(|part| !part.is_empty()).map(read).collect::<Option<_>>().unwrap_or_else(
                || {
                    eprintln!("CATENARY_FAILPOINTS is not understood: {text}");
                    std::process::abort()
                },
            )
        });
        for armed in settings.iter().filter(|armed| armed.point == point) {
            if armed.hits.fetch_add(1, Ordering::SeqCst) + 1 == armed.at {
                act(armed)?;
            }
        }
        Ok(())
    }

    fn act(armed: &Armed) -> Result<(), Injected> {
        match armed.action {
            Action::Abort => std::process::abort(),
            Action::Error => Err(Injected(armed.point)),
            Action::Sleep => {
                std::thread::sleep(Duration::from_secs(1));
                Ok(())
            }
        }
    }

    /// `point=n:action`
    fn read(text: &str) -> Option<Armed> {
        let (name, rest) = text.split_once('=')?;
        let (at, action) = rest.split_once(':')?;
        let action = match action {
            "abort" => Action::Abort,
            "error" => Action::Error,
            "sleep" => Action::Sleep,
            _ => return None,
        };
        let point = POINTS.into_iter().find(|point| *point == name)?;
        Some(Armed { point, at: at.parse().ok().filter(|n| *n > 0)?, action, hits: AtomicU64::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_setting_names_a_place_a_hit_and_an_action() {
            let armed = read("append.before_commit=3:abort").unwrap();
            assert_eq!((armed.point, armed.at, armed.action), ("append.before_commit", 3, Action::Abort));
            for bad in ["append=3:abort", "append.before_commit=0:abort", "append.before_commit=3:die", "x"] {
                assert!(read(bad).is_none(), "{bad}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_name() {
        let mut names = POINTS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), POINTS.len());
    }
}
