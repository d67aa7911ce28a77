//! Events in one order: entries of the log, which are events by themselves, and what is told beside it.
//!
//! A [`Cursor`] says how far each of the two was read. Both are gapless and only grow, so going on from a cursor neither loses nor
//! repeats anything, on any instance, after any restart. An event is told after the entries that it takes into account.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    str::FromStr,
    sync::Arc,
};

use catenary_chain::control::Revocation;
use catenary_evidence::digest::Sha256;
use catenary_store::{EntryRow, Store, StoreError, events::EventRow};
use catenary_tlog::leaf::kind;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{App, problem::Fault};

/// Entries and events that are read at once.
const CHUNK: u64 = 500;
/// Nodes that an event about evidence names.
const SUBJECTS: usize = 16;
/// How often a new event is looked for.
const POLL: std::time::Duration = std::time::Duration::from_millis(100);

/// How far the events were read: entries of the log below `log`, and the first `seq` others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Entries.
    pub log: u64,
    /// Others.
    pub seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.log, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits).ok_or(())
        };
        match text.split_once('.') {
            Some((log, seq)) => Ok(Self { log: number(log)?, seq: number(seq)? }),
            None if text == "0" => Ok(Self::default()),
            None => Err(()),
        }
    }
}

/// The types that somebody wants; all of them when none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Types(BTreeSet<String>);

/// Types that are told beside the log.
const BESIDE: [&str; 3] = ["verdict.changed", "deployment.started", "deployment.ended"];

/// Told of a certificate that names a repository by other ids than it was pinned to.
const MISMATCH: &str = "trust.mismatch";

impl Types {
    /// Reads a list with commas. `deployment.*` names all that begin so.
    pub fn read(list: &str) -> Result<Self, Fault> {
        let names: BTreeSet<String> =
            list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let plain = |name: &String| {
            name.len() <= 64 && name.bytes().all(|b| b.is_ascii_lowercase() || b"._-*".contains(&b))
        };
        let star =
            |name: &String| name.find('*').is_none_or(|at| name.ends_with(".*") && at + 1 == name.len());
        if names.len() > 32 || !names.iter().all(|name| plain(name) && star(name)) {
            return Err(Fault::Query(
                "types are names such as verdict.changed or deployment.*, with commas".into(),
            ));
        }
        Ok(Self(names))
    }

    /// The same of somebody who asks now: a misspelt type would be silence for ever. What was stored is read without.
    pub fn asked(list: &str) -> Result<Self, Fault> {
        let types = Self::read(list)?;
        let told = || kind::ALL.iter().filter_map(|kind| type_of(kind)).chain(BESIDE).chain([MISMATCH]);
        let fits = |name: &String| match name.strip_suffix('*') {
            Some(prefix) => told().any(|kind| kind.starts_with(prefix)),
            None => told().any(|kind| kind == name),
        };
        match types.0.iter().find(|name| !fits(name)) {
            None => Ok(types),
            Some(name) => {
                let known: BTreeSet<&str> = told().collect();
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                Err(Fault::Query(format!("no event has the type `{name}`; known are: {known}")))
            }
        }
    }

    fn has(&self, kind: &str) -> bool {
        let fits = |name: &String| match name.strip_suffix('*') {
            Some(prefix) => kind.starts_with(prefix),
            None => name == kind,
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }

    /// Whether entries of the log may be among them.
    fn wants_log(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|name| !BESIDE.contains(&name.as_str()))
    }
}

impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(String::as_str).collect::<Vec<_>>().join(","))
    }
}

/// An event as it is told (CloudEvents 1.0), and the cursor after it.
#[derive(Debug, Clone)]
pub struct Told {
    /// The type.
    pub kind: String,
    /// The event.
    pub event: Value,
    /// After it.
    pub cursor: Cursor,
}

/// A part of the events.
#[derive(Debug)]
pub struct Page {
    /// Those that were wanted, oldest first.
    pub items: Vec<Told>,
    /// After all that was looked at.
    pub next: Cursor,
    /// Whether there is more already.
    pub more: bool,
}

/// How far the events of every tenant are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    heads: watch::Sender<Arc<HashMap<String, u64>>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { heads: watch::Sender::new(Arc::default()) }
    }
}

impl Feed {
    /// Asks the store how far they are: once for everybody who waits.
    pub async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let heads: HashMap<String, u64> = store.event_heads().await?.into_iter().collect();
        self.heads.send_if_modified(|known| {
            let moved = **known != heads;
            if moved {
                *known = Arc::new(heads);
            }
            moved
        });
        Ok(())
    }

    /// The number of the newest event that is known of.
    pub fn head(&self, tenant: &str) -> u64 {
        self.heads.borrow().get(tenant).copied().unwrap_or(0)
    }
}

/// The type of the event that an entry is; `None` for those that are nobody's event.
pub fn type_of(entry_kind: &str) -> Option<&str> {
    match entry_kind {
        kind::ATTESTATION | kind::OBJECT => Some("evidence.added"),
        _ if ["token.", "tenant.", "log."].iter().any(|prefix| entry_kind.starts_with(prefix)) => None,
        other => Some(other),
    }
}

/// The end of the events as it is now.
pub async fn now(app: &App, tenant: &str) -> Result<Cursor, Fault> {
    let seq = app.backend.store.event_head(tenant).await?;
    Ok(Cursor { log: app.backend.snapshot(tenant).await?.size, seq })
}

/// Whether something may be after the cursor.
pub fn is_behind(app: &App, tenant: &str, at: Cursor) -> bool {
    let size = app.backend.follower.snapshot(tenant).map_or(0, |snapshot| snapshot.size);
    size > at.log || app.feed.head(tenant) > at.seq
}

/// Waits until something may be after the cursor.
pub async fn wait(app: &App, tenant: &str, at: Cursor) {
    while !is_behind(app, tenant, at) {
        tokio::time::sleep(POLL).await;
    }
}

/// The cursor to go on from, when everything after it is still there. The beginning is where the oldest event that is kept is.
pub async fn kept_from(app: &App, tenant: &str, at: Cursor) -> Result<Cursor, Fault> {
    let removed = app.backend.store.events_removed(tenant).await?;
    let kept = Cursor { log: at.log, seq: at.seq.max(removed) };
    match at.seq >= removed || at == Cursor::default() {
        true => Ok(kept),
        false => Err(Fault::EventsRemoved { next: kept.to_string() }),
    }
}

/// How often old events are looked for at the least.
const LONGEST_ROUND: std::time::Duration = std::time::Duration::from_secs(600);
/// Events that are removed at once.
const REMOVED_AT_ONCE: u32 = 5_000;

/// Removes events that were told longer ago than `kept`, until `stop`.
pub async fn forget(app: App, kept: std::time::Duration, stop: CancellationToken) {
    let round = (kept / 10).clamp(POLL, LONGEST_ROUND);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(round) => {}
        }
        if let Err(error) = forget_once(&app, kept).await {
            tracing::warn!(%error, "old events are not removed now");
        }
    }
}

async fn forget_once(app: &App, kept: std::time::Duration) -> Result<(), StoreError> {
    let store = &app.backend.store;
    let Ok(before) = jiff::Timestamp::now().checked_sub(kept) else { return Ok(()) };
    for (tenant, _) in store.event_heads().await? {
        let mut removed = 0;
        loop {
            let now = store.remove_events(&tenant, before, REMOVED_AT_ONCE).await?;
            removed += now;
            if now < u64::from(REMOVED_AT_ONCE) {
                break;
            }
        }
        if removed > 0 {
            tracing::info!(tenant, removed, "old events are removed");
        }
    }
    Ok(())
}

/// What is after the cursor: at most `limit` events, of at most [`CHUNK`] that were looked at.
pub async fn page(
    app: &App,
    tenant: &str,
    mut at: Cursor,
    types: &Types,
    limit: usize,
) -> Result<Page, Fault> {
    let snapshot = app.backend.snapshot(tenant).await?;
    let store = &app.backend.store;
    let origin = app.backend.origin_of(tenant);
    let beside = store.events(tenant, at.seq, CHUNK as u32).await?;
    // Numbers have no gap: a first one that is not the next was preceded by others that are gone.
    if beside.first().is_none_or(|first| first.seq != at.seq + 1) {
        at = kept_from(app, tenant, at).await?;
    }
    let entries = match types.wants_log() && at.log < snapshot.size {
        true => store.entries(tenant, at.log, snapshot.size.min(at.log + CHUNK)).await?,
        false => Vec::new(),
    };
    let ids: Vec<Vec<u8>> =
        entries.iter().filter(|row| row.kind == kind::ATTESTATION).map(|row| row.id.0.to_vec()).collect();
    let mut subjects = store.subjects(tenant, at.log, at.log + CHUNK, &ids, SUBJECTS).await?;
    // Who wants nothing of the log goes past it.
    let mut next = if types.wants_log() { at } else { Cursor { log: at.log.max(snapshot.size), ..at } };
    let full = |read: usize| read as u64 == CHUNK;
    let (entries_full, beside_full) = (full(entries.len()), full(beside.len()));
    let (mut entries, mut beside) = (entries.into_iter().peekable(), beside.into_iter().peekable());
    let mut items = Vec::new();
    while items.len() < limit {
        let told = match (entries.peek(), beside.peek()) {
            (_, Some(event)) if event.log_size <= next.log || !types.wants_log() => {
                let Some(event) = beside.next() else { break };
                next.seq = event.seq;
                types.has(&event.kind).then(|| (event.kind.clone(), beside_event(&origin, event)))
            }
            (Some(_), _) => {
                let Some(row) = entries.next() else { break };
                next.log = row.index + 1;
                let kind = type_of(&row.kind).filter(|kind| types.has(kind)).map(str::to_owned);
                let nodes = subjects.remove(&row.index).unwrap_or_default();
                let revocation = snapshot.control.revocations.at(row.index);
                kind.map(|kind| (kind.clone(), entry_event(&origin, &kind, &row, nodes, revocation)))
            }
            // The event takes entries into account that are not followed here yet, or not read in this chunk.
            (None, _) => break,
        };
        items.extend(told.map(|(kind, event)| Told { kind, event, cursor: next }));
    }
    let more = entries.peek().is_some() || beside.peek().is_some() || entries_full || beside_full;
    Ok(Page { items, next, more })
}

/// A leaf has room for whom a revocation is about; since when and why stands in its body.
fn entry_event(
    origin: &str,
    kind: &str,
    row: &EntryRow,
    nodes: Vec<String>,
    revocation: Option<&Revocation>,
) -> Value {
    let Ok(leaf) = row.decode() else { return Value::Null };
    let mut data: Map<String, Value> =
        leaf.extra.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    data.insert("index".into(), row.index.into());
    data.insert("entry".into(), row.kind.clone().into());
    data.insert("submitter".into(), Sha256(leaf.submitter.0).to_string().into());
    if !nodes.is_empty() {
        data.insert("subjects".into(), nodes.into());
    }
    if let Some(revocation) = revocation {
        data.insert("reason".into(), revocation.reason.clone().into());
        data.extend(revocation.from.map(|from| ("from".to_owned(), from.to_string().into())));
    }
    let id = format!("log-{}", row.index);
    cloud_event(&id, origin, kind, &row.id.to_string(), leaf.time, data.into())
}

fn beside_event(origin: &str, event: EventRow) -> Value {
    let id = format!("event-{}", event.seq);
    cloud_event(&id, origin, &event.kind, &event.subject, event.time, event.data)
}

fn cloud_event(
    id: &str,
    source: &str,
    kind: &str,
    subject: &str,
    time: jiff::Timestamp,
    data: Value,
) -> Value {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": kind,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor { log: 17, seq: 3 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("0".parse(), Ok(Cursor::default()));
        for bad in ["", "1", ".", "1.", ".1", "-1.0", "1.2.3", "1e3.0", "1.9999999999999999"] {
            assert_eq!(bad.parse::<Cursor>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn types_are_named_one_by_one_or_by_their_beginning() {
        let types = Types::read("verdict.changed, deployment.*").unwrap();
        assert!(types.has("verdict.changed") && types.has("deployment.ended"));
        assert!(!types.has("revocation") && !types.has("verdict.changed.not"));
        assert!(Types::read("").unwrap().has("anything"));
        assert!(!Types::read("verdict.changed").unwrap().wants_log());
        assert!(Types::read("revocation").unwrap().wants_log());
        for bad in ["*.x", "a*", "A", "a b", "**"] {
            assert!(Types::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_type_that_no_event_has_is_refused_when_it_is_asked_for() {
        for known in ["", "verdict.changed, deployment.*", "trust.mismatch", "evidence.added,evidence.erased"]
        {
            assert!(Types::asked(known).is_ok(), "{known}");
        }
        for told in kind::ALL.iter().filter_map(|kind| type_of(kind)) {
            assert!(Types::asked(told).is_ok(), "{told}");
        }
        for bad in ["verdict.change", "verdict.changed,nonsense.*", "token.created", "attestation"] {
            let error = Types::asked(bad).unwrap_err().to_string();
            assert!(error.contains("known are") && error.contains("verdict.changed"), "{error}");
        }
        assert!(Types::read("verdict.change").is_ok(), "one that is stored already");
    }

    #[test]
    fn who_may_come_in_is_nobodys_event() {
        assert_eq!(type_of("attestation"), Some("evidence.added"));
        assert_eq!(type_of("revocation"), Some("revocation"));
        for kind in ["token.created", "token.revoked", "tenant.created", "log.origin"] {
            assert_eq!(type_of(kind), None);
        }
    }
}
