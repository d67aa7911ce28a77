//! What happened around something, in order: evidence, pushes, decisions, deployments, policies, trust, revocations.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, response::Response};
use catenary_evidence::{
    digest::{Digest, Node},
    key::KeyId,
    object::Body,
    predicate::{Claim, RegistryAction},
};
use catenary_store::{
    AttestationRow, EntryRow, Filter, ObjectRow,
    decisions::DecisionRow,
    follow::Snapshot,
    timeline::{About, MAX_NODES, Place, Run, Source, Window, place_of_decision, place_of_entry},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::{Principal, Role},
    extract::ApiQuery,
    page,
    problem::Fault,
    routes::{impact, objects},
};

/// Statements that are looked at for what an artifact was built from, or a commit became.
const AROUND: u32 = 50;
/// Images of an application or environment whose indexes and commits are looked up, too; repositories in which tags may have moved.
const FEW: usize = 20;
/// Certificate identities of one name.
const MAX_SIGNERS: usize = 1_000;
/// The widest window on either side.
const WIDEST: SignedDuration = SignedDuration::from_hours(24 * 366);

/// One thing that happened.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    /// When Catenary took it in, answered it, or was told that it began or ended.
    time: String,
    /// `build`, `commit`, `registry.push`, `registry.promote`, `registry.delete`, `attestation`, `object`, `decision`, `deployment.started`, `deployment.ended`, or
    /// the kind of a log entry: `policy.applied`, `trust.added`, `revocation` …
    kind: String,
    /// One line for people.
    summary: String,
    id: String,
    /// Index of its log entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_index: Option<u64>,
    /// When it says itself that it happened, or when a deployment was told; where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed: Option<String>,
    /// Where more of it is.
    links: BTreeMap<&'static str, String>,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct Items {
    from: String,
    to: String,
    /// Digests and commits that the timeline is about.
    about: Vec<String>,
    items: Vec<Item>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// About what, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TimelineQuery {
    /// `sha256:…`, with the indexes around it and the commits that it was built from.
    digest: Option<String>,
    /// A git commit, hex, with the digests that were built from it.
    commit: Option<String>,
    /// Id of a registered key, or a certificate's name (`*` within a part of it, `**` across): everything that it signed.
    signer: Option<String>,
    /// Beside a certificate's name: only of this OIDC issuer.
    issuer: Option<String>,
    /// All images of an application.
    application: Option<String>,
    /// For example `prod`: its decisions and deployments, and all about what runs there.
    #[serde(alias = "env")]
    environment: Option<String>,
    /// `registry/repository`, or a git URI, for example `https://github.com/acme/shop`.
    repository: Option<String>,
    /// The moment (RFC 3339); now when no window is given.
    around: Option<String>,
    /// How long before `around`, for example `30m` (the default).
    before: Option<String>,
    /// How long after `around`, for example `30m` (the default).
    after: Option<String>,
    /// Instead of `around`: the first moment (RFC 3339).
    from: Option<String>,
    /// Instead of `around`: the first moment after (RFC 3339).
    to: Option<String>,
    /// 1 to 200, default 50.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// What happened, in order
///
/// Evidence received, registry events, decisions, deployments, policies, trust and revocations around an artifact, commit, signer, application, environment
/// or repository.
#[utoipa::path(get, path = "/v1/timeline", tag = "artifacts", params(TimelineQuery),
    responses((status = 200, description = "One page", body = Items)))]
pub(crate) async fn timeline(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<TimelineQuery>,
) -> Result<Response, Fault> {
    let limit = page::limit(query.limit)?;
    let (from, to) = query.window()?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let about = query.about(&app, &snapshot).await?;
    // A cursor keeps the window of its first page, whenever "now" was.
    let shape = query.shape();
    let (from, to, after) = match &query.cursor {
        Some(cursor) => read_cursor(&page::open_place(&app, &who.tenant, &shape, cursor)?)?,
        None => (from, to, None),
    };
    let window = Window { from, to, after, limit: limit + 1 };
    let mut found = gather(&app, &snapshot, &about, &window, who.role).await?;
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let more = page::cut(&mut found, limit);
    let last = found.last().filter(|_| more).map(|(place, _)| write_cursor(from, to, place));
    let next = last.map(|place| page::seal_place(&app, &who.tenant, &shape, &place));
    Ok(super::json(&Items {
        from: from.to_string(),
        to: to.to_string(),
        about: about.nodes.iter().map(ToString::to_string).collect(),
        items: found.into_iter().map(|(_, item)| item).collect(),
        next,
    }))
}

impl TimelineQuery {
    /// What the cursor is for: the same timeline of the same tenant only.
    fn shape(&self) -> String {
        let about = (
            &self.digest,
            &self.commit,
            (&self.signer, &self.issuer),
            &self.application,
            &self.environment,
            &self.repository,
        );
        format!("timeline {about:?} {:?}", (&self.around, &self.before, &self.after, &self.from, &self.to))
    }

    fn window(&self) -> Result<(Timestamp, Timestamp), Fault> {
        let moment = |text: &Option<String>, name: &str| {
            let parse = |t: &String| {
                t.parse::<Timestamp>().map_err(|_| Fault::Query(format!("`{name}` is an RFC 3339 time")))
            };
            text.as_ref().map(parse).transpose()
        };
        let (from, to) = (moment(&self.from, "from")?, moment(&self.to, "to")?);
        let around = moment(&self.around, "around")?;
        if (from.is_some() || to.is_some())
            && (around.is_some() || self.before.is_some() || self.after.is_some())
        {
            return Err(Fault::Query("give `around` with `before` and `after`, or `from` and `to`".into()));
        }
        let (from, to) = match (from, to) {
            (Some(from), to) => (from, to.unwrap_or_else(Timestamp::now)),
            (None, Some(_)) => return Err(Fault::Query("`to` needs `from`".into())),
            (None, None) => {
                let around = around.unwrap_or_else(Timestamp::now);
                let far = |_| Fault::Query("the window is beyond all time".into());
                let from = around.checked_sub(span(self.before.as_deref(), "before")?).map_err(far)?;
                (from, around.checked_add(span(self.after.as_deref(), "after")?).map_err(far)?)
            }
        };
        if from >= to {
            return Err(Fault::Query("`from` is before `to`".into()));
        }
        Ok((from, to))
    }

    /// The texts under which the signer is found: of a certificate's name there may be several, or none.
    async fn signers(&self, app: &App, snapshot: &Snapshot) -> Result<Option<Vec<String>>, Fault> {
        match (&self.signer, self.issuer.as_deref()) {
            (None, Some(_)) => Err(Fault::Query("`issuer` stands beside `signer`".into())),
            (None, None) => Ok(None),
            (Some(key), None) if key.starts_with("sha256:") => {
                Ok(Some(vec![key.parse::<KeyId>()?.to_string()]))
            }
            (Some(key), Some(_)) if key.starts_with("sha256:") => {
                Err(Fault::Query("a key has no `issuer`".into()))
            }
            (Some(name), issuer) => {
                let mut found = impact::signers(app, snapshot, name, issuer).await?;
                found.truncate(MAX_SIGNERS);
                Ok(Some(found))
            }
        }
    }

    async fn about(&self, app: &App, snapshot: &Snapshot) -> Result<About, Fault> {
        for text in [&self.application, &self.environment, &self.repository].into_iter().flatten() {
            if text.is_empty() || text.len() > 1024 || text.contains('\0') {
                return Err(Fault::Query("a filter is 1 to 1024 bytes without NUL".into()));
            }
        }
        // With a scheme it is a git repository, which provenance names in one form only.
        let repository = self.repository.as_ref().map(|text| match text.contains("://") {
            true => impact::git(text),
            false => Ok(text.clone()),
        });
        let mut about = About {
            repository: repository.transpose()?,
            signers: self.signers(app, snapshot).await?,
            application: self.application.clone(),
            environment: self.environment.clone(),
            nodes: BTreeSet::new(),
        };
        if let Some(digest) = &self.digest {
            let digest: Digest = digest.parse()?;
            about.nodes = around_digest(app, snapshot, digest.into()).await?;
        }
        if let Some(commit) = &self.commit {
            about.nodes.extend(around_commit(app, snapshot, impact::oid(commit)?.into()).await?);
        }
        let names = (self.application.as_deref(), self.environment.as_deref());
        if self.digest.is_none() && self.commit.is_none() && names != (None, None) {
            let deployed = app.backend.store.deployed(&snapshot.tenant, names.0, names.1).await?;
            if deployed.len() <= FEW {
                for image in &deployed {
                    about.nodes.extend(around_digest(app, snapshot, *image).await?);
                }
            }
            about.nodes.extend(deployed);
        }
        let named = [
            &self.digest,
            &self.commit,
            &self.signer,
            &self.application,
            &self.environment,
            &self.repository,
        ];
        if named.iter().all(|name| name.is_none()) {
            let why = "give a `digest`, `commit`, `signer`, `application`, `environment` or `repository`";
            return Err(Fault::Query(why.into()));
        }
        while about.nodes.len() > MAX_NODES {
            about.nodes.pop_last();
        }
        Ok(about)
    }
}

/// `30m`, `2h`, `1d`, `90s`; 30 minutes when absent.
fn span(text: Option<&str>, name: &str) -> Result<SignedDuration, Fault> {
    let Some(text) = text else { return Ok(SignedDuration::from_mins(30)) };
    let wrong = || Fault::Query(format!("`{name}` is a number and one of s, m, h, d, at most 366d"));
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number =
        text.get(..text.len() - 1).filter(|n| n.bytes().all(|b| b.is_ascii_digit())).ok_or_else(wrong)?;
    let seconds = number.parse::<i64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    Some(SignedDuration::from_secs(seconds)).filter(|span| *span <= WIDEST).ok_or_else(wrong)
}

/// The digest, the indexes around it, its manifests, and the commits that verified builds of it name.
async fn around_digest(app: &App, snapshot: &Snapshot, node: Node) -> Result<BTreeSet<Node>, Fault> {
    let (store, tenant) = (&app.backend.store, &snapshot.tenant);
    let mut nodes = BTreeSet::from([node]);
    nodes.extend(
        store.parents(tenant, node, snapshot.size, AROUND).await?.iter().map(|parent| parent.facts.node),
    );
    nodes.extend(platforms(app, snapshot, node).await?);
    for node in nodes.clone() {
        let filter = Filter { subject: Some(node), verified: Some(true), ..Filter::default() };
        for row in store.list_attestations(tenant, &filter, snapshot.size, AROUND).await? {
            if let Claim::Build(build) = &row.facts.claim {
                nodes.extend(build.source.as_ref().and_then(|source| source.commit).map(Node::Git));
            }
        }
        if nodes.len() > MAX_NODES {
            break;
        }
    }
    Ok(nodes)
}

/// The commit, and what verified builds made of it.
async fn around_commit(app: &App, snapshot: &Snapshot, node: Node) -> Result<BTreeSet<Node>, Fault> {
    let filter = Filter { source_commit: Some(node), verified: Some(true), ..Filter::default() };
    let rows = app.backend.store.list_attestations(&snapshot.tenant, &filter, snapshot.size, AROUND).await?;
    let mut nodes = BTreeSet::from([node]);
    nodes.extend(rows.iter().flat_map(|row| row.facts.subject_nodes()));
    for image in nodes.clone() {
        nodes.extend(platforms(app, snapshot, image).await?);
        if nodes.len() > MAX_NODES {
            break;
        }
    }
    Ok(nodes)
}

/// What an index holds.
async fn platforms(app: &App, snapshot: &Snapshot, node: Node) -> Result<Vec<Node>, Fault> {
    let object = app.backend.store.object(&snapshot.tenant, node, snapshot.size).await?;
    Ok(match object.as_ref().map(|object| &object.facts.body) {
        Some(Body::Index(index)) => {
            index.children.iter().take(AROUND as usize).map(|child| Node::from(child.digest)).collect()
        }
        _ => Vec::new(),
    })
}

/// The items of every source, each at most the window's limit.
async fn gather(
    app: &App,
    snapshot: &Snapshot,
    about: &About,
    window: &Window,
    role: Role,
) -> Result<Vec<(Place, Item)>, Fault> {
    let (store, tenant, size) = (&app.backend.store, &snapshot.tenant, snapshot.size);
    let mut found = Vec::new();
    for row in store.timeline_control(tenant, size, window).await? {
        found.extend(control(snapshot, &row));
    }
    found.extend(store.timeline_objects(tenant, size, about, window).await?.iter().map(object));
    let statements = store.timeline_statements(tenant, size, about, window).await?;
    found.extend(statements.iter().map(statement));
    let moved = moved(app, snapshot, about, window).await?;
    let known = |row: &&AttestationRow| !statements.iter().any(|other| other.facts.id == row.facts.id);
    found.extend(moved.iter().filter(known).map(statement));
    let who = matches!(role, Role::Auditor | Role::Admin);
    found.extend(store.timeline_decisions(tenant, about, window).await?.iter().map(|row| decision(row, who)));
    for source in [Source::Started, Source::Ended] {
        let runs = store.timeline_runs(tenant, about, window, source).await?;
        found.extend(runs.iter().map(|run| deployment(run, source)));
    }
    Ok(found)
}

/// Registry events by which a tag moved away from one of the images: they are about another image.
async fn moved(
    app: &App,
    snapshot: &Snapshot,
    about: &About,
    window: &Window,
) -> Result<Vec<AttestationRow>, Fault> {
    let (store, tenant, size) = (&app.backend.store, &snapshot.tenant, snapshot.size);
    let mut repositories = BTreeSet::new();
    for node in about.nodes.iter().filter(|node| matches!(node, Node::Content(_))).take(AROUND as usize) {
        let filter = Filter { subject: Some(*node), ..Filter::default() };
        for row in store.list_attestations(tenant, &filter, size, AROUND).await? {
            if let Claim::Registry(event) = &row.facts.claim {
                repositories.insert(event.resource.to_string());
            }
        }
    }
    let away = |row: &&AttestationRow| match &row.facts.claim {
        Claim::Registry(event) => event.previous.is_some_and(|was| about.nodes.contains(&was.into())),
        _ => false,
    };
    let mut found = Vec::new();
    for repository in repositories.into_iter().take(FEW) {
        let pushes = About { repository: Some(repository), ..About::default() };
        let mut window = window.clone();
        for _ in 0..AROUND {
            let rows = store.timeline_statements(tenant, size, &pushes, &window).await?;
            found.extend(rows.iter().filter(away).cloned());
            let Some(last) = rows.last().filter(|_| rows.len() >= window.limit as usize) else { break };
            window.after = Some(place_of_entry(last.time, Source::Statement, last.index));
        }
    }
    Ok(found)
}

fn control(snapshot: &Snapshot, row: &EntryRow) -> Option<(Place, Item)> {
    let leaf = row.decode().ok()?;
    let entry = snapshot.control_entry(row.index);
    let body = entry.and_then(|entry| serde_json::to_value(entry).ok()).unwrap_or_default();
    let mut words: Vec<String> = vec![row.kind.clone()];
    words.extend(leaf.extra.iter().map(|(name, value)| format!("{name} {value}")));
    words.extend(body["reason"].as_str().map(|reason| format!("({reason})")));
    let item = Item {
        time: leaf.time.to_string(),
        kind: row.kind.clone(),
        summary: words.join(" "),
        id: row.id.to_string(),
        log_index: Some(row.index),
        claimed: None,
        links: BTreeMap::new(),
    };
    Some((place_of_entry(leaf.time, Source::Control, row.index), item))
}

fn object(row: &ObjectRow) -> (Place, Item) {
    let node = row.facts.node.to_string();
    let item = Item {
        time: row.time.to_string(),
        kind: "object".into(),
        summary: format!("{} {node} received", objects::kind(&row.facts)),
        id: row.facts.id.to_string(),
        log_index: Some(row.index),
        claimed: None,
        links: BTreeMap::from([("object", format!("/v1/objects/{node}"))]),
    };
    (place_of_entry(row.time, Source::Object, row.index), item)
}

fn statement(row: &AttestationRow) -> (Place, Item) {
    let (kind, says, claimed) = says(row);
    let signers: Vec<String> = row.facts.signers().map(ToString::to_string).collect();
    let by = match signers.is_empty() {
        true => "not verified".to_owned(),
        false => format!("signed by {}", signers.join(", ")),
    };
    let id = row.facts.id.to_string();
    let item = Item {
        time: row.time.to_string(),
        kind: kind.into(),
        summary: format!("{says}; {by}"),
        log_index: Some(row.index),
        claimed: claimed.filter(|claimed| *claimed != row.time).map(|claimed| claimed.to_string()),
        links: BTreeMap::from([("attestation", format!("/v1/attestations/{id}"))]),
        id,
    };
    (place_of_entry(row.time, Source::Statement, row.index), item)
}

/// Kind, what it says, and when it says that it happened.
fn says(row: &AttestationRow) -> (&'static str, String, Option<Timestamp>) {
    match &row.facts.claim {
        Claim::Build(build) => {
            ("build", format!("built by {}", build.builder_id), build.finished_on.or(build.started_on))
        }
        Claim::Commit(commit) => {
            let says = format!("{} of {} moved", commit.reference, commit.repository);
            ("commit", says, Some(commit.updated_at))
        }
        Claim::Registry(event) => {
            let tag = event.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
            let previous =
                event.previous.map(|digest| format!(", tag moved from {digest}")).unwrap_or_default();
            let actor = event.actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
            let (kind, word) = match event.event {
                RegistryAction::Push => ("registry.push", "pushed"),
                RegistryAction::Promote => ("registry.promote", "promoted"),
                RegistryAction::Delete => ("registry.delete", "deleted"),
            };
            let way = if event.event == RegistryAction::Delete { "from" } else { "to" };
            (kind, format!("{word} {way} {}{tag}{actor}{previous}", event.resource), Some(event.occurred_at))
        }
        Claim::Run(run) => ("attestation", format!("run {}", run.conclusion), run.finished_on),
        Claim::Summary(summary) => {
            let word = if summary.passed { "PASSED" } else { "FAILED" };
            ("attestation", format!("{} says {word}", summary.verifier_id), summary.time_verified)
        }
        Claim::Scan(scan) => ("attestation", format!("scanned by {}", scan.scanner), scan.finished),
        Claim::Unread(unread) => ("attestation", format!("{}: {}", unread.format, unread.note), None),
        Claim::Sbom(sbom) => ("attestation", format!("SBOM of {} components", sbom.components), sbom.created),
        _ => ("attestation", row.facts.predicate_type.clone(), None),
    }
}

fn decision(row: &DecisionRow, who: bool) -> (Place, Item) {
    let word = if row.allowed { "allowed" } else { "denied" };
    let environment = row.environment.as_ref().map(|e| format!(" in {e}")).unwrap_or_default();
    let asked = if who { format!(", asked by {}", row.principal) } else { String::new() };
    let times =
        if row.count > 1 { format!(", {} times until {}", row.count, row.last) } else { String::new() };
    let item = Item {
        time: row.first.to_string(),
        kind: "decision".into(),
        summary: format!(
            "{word} ({}) {}@{}{environment}{asked}{times}",
            row.outcome, row.resource, row.digest
        ),
        id: row.id.to_string(),
        log_index: None,
        claimed: None,
        links: BTreeMap::from([("verdict", format!("/v1/verdicts/{}", row.verdict))]),
    };
    (place_of_decision(row), item)
}

fn deployment(run: &Run, source: Source) -> (Place, Item) {
    let (kind, word) = match source {
        Source::Ended => ("deployment.ended", "ended"),
        _ => ("deployment.started", "began to run"),
    };
    let denied = if run.allowed { "" } else { ", not allowed" };
    let item = Item {
        time: run.time.to_string(),
        kind: kind.into(),
        summary: format!(
            "{} {word} as {} of {} in {}{denied}, told by {}",
            run.image, run.workload, run.application, run.environment, run.reporter
        ),
        id: format!("sha256:{}", hex::encode(&run.id)),
        log_index: None,
        claimed: (source == Source::Started && run.recorded != run.time).then(|| run.recorded.to_string()),
        links: BTreeMap::from([("application", format!("/v1/applications/{}", run.application))]),
    };
    ((run.time.as_microsecond(), source, run.id.clone()), item)
}

fn write_cursor(from: Timestamp, to: Timestamp, (time, source, key): &Place) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(25 + key.len());
    for moment in [from.as_microsecond(), to.as_microsecond(), *time] {
        bytes.extend_from_slice(&moment.to_be_bytes());
    }
    bytes.push(source.number());
    bytes.extend_from_slice(key);
    bytes
}

fn read_cursor(bytes: &[u8]) -> Result<(Timestamp, Timestamp, Option<Place>), Fault> {
    let strange = || Fault::Pagination("the cursor is not one of this list".into());
    let mut rest = bytes;
    let mut moment = || {
        let (first, more) = rest.split_first_chunk::<8>().ok_or_else(strange)?;
        rest = more;
        Ok::<_, Fault>(i64::from_be_bytes(*first))
    };
    let (from, to, time) = (moment()?, moment()?, moment()?);
    let (source, key) = rest.split_first().ok_or_else(strange)?;
    let source = Source::ALL.get(usize::from(*source)).copied().ok_or_else(strange)?;
    let moment = |us| Timestamp::from_microsecond(us).map_err(|_| strange());
    Ok((moment(from)?, moment(to)?, Some((time, source, key.to_vec()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_small_and_have_a_unit() {
        assert_eq!(span(None, "before").ok(), Some(SignedDuration::from_mins(30)));
        assert_eq!(span(Some("90s"), "before").ok(), Some(SignedDuration::from_secs(90)));
        assert_eq!(span(Some("2h"), "before").ok(), Some(SignedDuration::from_hours(2)));
        for bad in ["", "m", "30", "-1m", "367d", "99999999999999999999d", "1w", "1é", "+1m"] {
            assert_eq!(span(Some(bad), "before").unwrap_err().code(), "REQ_QUERY", "{bad}");
        }
    }

    #[test]
    fn a_cursor_comes_back() {
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        let place = (5, Source::Decision, vec![1, 2, 3]);
        assert_eq!(read_cursor(&write_cursor(from, to, &place)).unwrap(), (from, to, Some(place)));
        assert!(read_cursor(&[0; 24]).is_err());
        assert!(read_cursor(&[9; 25]).is_err());
    }
}
