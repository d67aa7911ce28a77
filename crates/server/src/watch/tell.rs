//! `verdict.changed`: what the answer was, what it is, and which entry made the difference.

use std::collections::{BTreeMap, BTreeSet};

use catenary_store::{EntryRow, events::NewEvent, follow::Snapshot, watched::Watched};
use catenary_tlog::leaf::kind;
use serde_json::{Value, json};

use super::standing;
use crate::{App, batch::Evaluated, problem::Fault};

/// Control entries that are looked through for a cause.
const LOOKED_THROUGH: u32 = 256;

/// One event for each answer that is another now.
pub async fn changes(
    app: &App,
    snapshot: &Snapshot,
    rows: &[Watched],
    evaluated: &[Evaluated],
) -> Result<Vec<NewEvent>, Fault> {
    let changed: Vec<(&Watched, &Evaluated)> = rows
        .iter()
        .zip(evaluated)
        .filter(|(row, now)| {
            let (old, new) = (&row.standing, standing(&now.verdict));
            (&old.outcome, old.allowed) != (&new.outcome, new.allowed)
        })
        .collect();
    let Some(from) = changed.iter().map(|(row, _)| row.log_size).min() else { return Ok(Vec::new()) };
    let store = &app.backend.store;
    let control = store.control_entries(&snapshot.tenant, from, snapshot.size, LOOKED_THROUGH).await?;
    let mut entries: BTreeMap<u64, EntryRow> = BTreeMap::new();
    let touched: BTreeSet<u64> = changed.iter().filter_map(|(row, _)| row.cause).collect();
    for index in touched {
        let found = store.entries(&snapshot.tenant, index, index + 1).await?;
        entries.extend(found.into_iter().map(|row| (index, row)));
    }
    let event = |(row, now): (&Watched, &Evaluated)| {
        let cause = cause(row, now, &control, &entries, snapshot.size);
        NewEvent {
            kind: "verdict.changed".to_owned(),
            subject: row.image.clone(),
            log_size: snapshot.size,
            data: json!({
                "image": row.image,
                "environment": row.environment,
                "platform": row.platform,
                "context": serde_json::from_str::<Value>(&row.context).unwrap_or_default(),
                "old": row.standing,
                "new": standing(&now.verdict),
                "summary": now.verdict.summary,
                "cause": cause,
                "log": { "from": row.log_size, "to": snapshot.size },
            }),
        }
    };
    Ok(changed.into_iter().map(event).collect())
}

fn cause(
    row: &Watched,
    now: &Evaluated,
    control: &[EntryRow],
    entries: &BTreeMap<u64, EntryRow>,
    size: u64,
) -> Value {
    if row.by_time {
        return json!({ "type": "time", "at": now.verdict.as_of });
    }
    let lost = row.standing.allowed && !now.verdict.allowed;
    let reaching = control.iter().filter(|entry| entry.index >= row.log_size && reaches_all(&entry.kind));
    // Of several, the one that most likely took the answer away, or the newest.
    let of_all = reaching.max_by_key(|entry| (lost && takes_away(&entry.kind), entry.index));
    match of_all.or_else(|| entries.get(&row.cause?)) {
        Some(entry) => named(entry),
        None => json!({ "type": "log", "from": row.log_size, "to": size }),
    }
}

/// Entries that can change every answer. Those about some images only are known by the nodes that they write.
fn reaches_all(entry: &str) -> bool {
    const ALL: [&str; 10] = [
        kind::TRUST_EFFECTIVE,
        kind::TRUST_WITHDRAWN,
        kind::POLICY_APPLIED,
        kind::POLICY_ACTIVATED,
        kind::TRUST_APPROVED,
        kind::TRUST_PINNED,
        kind::GROUP_SET,
        kind::REVOCATION,
        kind::TOKEN_REVOKED,
        kind::EVIDENCE_ERASED,
    ];
    ALL.contains(&entry)
}

fn takes_away(entry: &str) -> bool {
    matches!(entry, kind::REVOCATION | kind::TRUST_WITHDRAWN | kind::TOKEN_REVOKED | kind::EVIDENCE_ERASED)
}

fn named(entry: &EntryRow) -> Value {
    let kind = crate::feed::type_of(&entry.kind).unwrap_or(&entry.kind).to_owned();
    let mut cause = json!({ "type": kind, "index": entry.index, "id": entry.id });
    if let (Ok(leaf), Some(members)) = (entry.decode(), cause.as_object_mut()) {
        for (name, value) in leaf.extra {
            members.entry(name).or_insert(value.into());
        }
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_about_another_image_is_not_the_cause() {
        for kind in [kind::REVOCATION, kind::POLICY_ACTIVATED, kind::TRUST_EFFECTIVE, kind::TOKEN_REVOKED] {
            assert!(reaches_all(kind), "{kind}");
        }
        for kind in
            [kind::TRUST_ADDED, kind::TOKEN_CREATED, "policy.drafted", "exception.approved", "new.kind"]
        {
            assert!(!reaches_all(kind), "{kind}");
        }
    }
}
