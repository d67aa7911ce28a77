//! Rows of facts: made from verified facts, sealed, and believed only under their seal.

use catenary_evidence::{
    attestation::Attestation,
    digest::{GitOid, Node, Sha256},
    object::{Body, Object},
    predicate::Claim,
};
use jiff::Timestamp;

use crate::{SealKeys, entry::to_sql, seal::Sealed};

/// The longest text that is put into an index: Postgres takes index rows of at most 2,704 bytes.
const MAX_INDEXED: usize = 1024;

/// A row of `attestation`.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttestationRecord {
    pub(crate) id: Vec<u8>,
    pub(crate) log_index: i64,
    pub(crate) time_us: i64,
    pub(crate) verified: bool,
    pub(crate) predicate_type: String,
    pub(crate) builder: Option<String>,
    pub(crate) source_repository: Option<String>,
    pub(crate) source_commit: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) facts: Vec<u8>,
    pub(crate) mac_key: i32,
    pub(crate) mac: Vec<u8>,
}

/// A row of `object`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ObjectRecord {
    pub(crate) node: String,
    pub(crate) id: Vec<u8>,
    pub(crate) log_index: i64,
    pub(crate) time_us: i64,
    pub(crate) media_type: String,
    pub(crate) facts: Vec<u8>,
    pub(crate) mac_key: i32,
    pub(crate) mac: Vec<u8>,
}

impl AttestationRecord {
    /// The sealed row of these facts.
    pub(crate) fn new(
        tenant: &str,
        facts: &Attestation,
        index: u64,
        time: Timestamp,
        keys: &SealKeys,
    ) -> Self {
        let (builder, source_repository, source_commit, resource) = columns(facts);
        let mut record = Self {
            id: facts.id.0.to_vec(),
            log_index: to_sql(index),
            time_us: time.as_microsecond(),
            verified: facts.is_verified(),
            predicate_type: indexed(&facts.predicate_type).unwrap_or_default(),
            builder: builder.and_then(indexed),
            source_repository: source_repository.and_then(indexed),
            source_commit: source_commit.map(|oid| oid.to_string()),
            resource: resource.and_then(indexed),
            // Facts are plain data; were they not JSON, the row would fail its check when read.
            facts: serde_json::to_vec(facts).unwrap_or_default(),
            mac_key: 0,
            mac: Vec::new(),
        };
        let (id, mac) = record.with_sealed(tenant, |row| keys.seal(row));
        record.mac_key = id as i32;
        record.mac = mac;
        record
    }

    /// The facts, when the seal holds.
    pub(crate) fn open(&self, tenant: &str, keys: &SealKeys) -> Option<Attestation> {
        let id = u32::try_from(self.mac_key).ok()?;
        if !self.with_sealed(tenant, |row| keys.opens(row, id, &self.mac)) {
            return None;
        }
        let facts: Attestation = serde_json::from_slice(&self.facts).ok()?;
        (facts.id.0[..] == self.id[..]).then_some(facts)
    }

    fn with_sealed<'a, T>(&'a self, tenant: &str, f: impl FnOnce(&Sealed<'_>) -> T) -> T {
        let time = self.time_us.to_be_bytes();
        let text = |column: &'a Option<String>| column.as_deref().map(str::as_bytes);
        let columns = vec![
            Some(&time[..]),
            Some(if self.verified { &[1] } else { &[0] }),
            Some(self.predicate_type.as_bytes()),
            text(&self.builder),
            text(&self.source_repository),
            text(&self.source_commit),
            text(&self.resource),
            Some(&self.facts),
        ];
        f(&Sealed { tenant, table: "attestation", key: &self.id, index: self.log_index as u64, columns })
    }
}

impl ObjectRecord {
    /// The sealed row of these facts.
    pub(crate) fn new(
        tenant: &str,
        facts: &Object,
        media_type: &str,
        index: u64,
        time: Timestamp,
        keys: &SealKeys,
    ) -> Self {
        let mut record = Self {
            node: facts.node.to_string(),
            id: facts.id.0.to_vec(),
            log_index: to_sql(index),
            time_us: time.as_microsecond(),
            media_type: media_type.to_owned(),
            facts: serde_json::to_vec(facts).unwrap_or_default(),
            mac_key: 0,
            mac: Vec::new(),
        };
        let (id, mac) = record.with_sealed(tenant, |row| keys.seal(row));
        record.mac_key = id as i32;
        record.mac = mac;
        record
    }

    /// The facts, when the seal holds.
    pub(crate) fn open(&self, tenant: &str, keys: &SealKeys) -> Option<Object> {
        let id = u32::try_from(self.mac_key).ok()?;
        if !self.with_sealed(tenant, |row| keys.opens(row, id, &self.mac)) {
            return None;
        }
        let facts: Object = serde_json::from_slice(&self.facts).ok()?;
        let node: Node = self.node.parse().ok()?;
        (facts.id.0[..] == self.id[..] && facts.node == node).then_some(facts)
    }

    fn with_sealed<T>(&self, tenant: &str, f: impl FnOnce(&Sealed<'_>) -> T) -> T {
        let time = self.time_us.to_be_bytes();
        let columns =
            vec![Some(&self.id[..]), Some(&time), Some(self.media_type.as_bytes()), Some(&self.facts)];
        let key = self.node.as_bytes();
        f(&Sealed { tenant, table: "object", key, index: self.log_index as u64, columns })
    }
}

/// A row of `attestation_subject`: node and signer.
pub(crate) type SubjectRow = (String, String);

/// The index rows of an attestation: each node with each signer, or with '' when nobody vouches.
pub(crate) fn subject_rows(facts: &Attestation) -> Vec<SubjectRow> {
    let signers: Vec<String> = match facts.signatures.as_slice() {
        [] => vec![String::new()],
        signatures => signatures.iter().map(|s| s.signer.index_key()).collect(),
    };
    let nodes = facts.subject_nodes();
    let mut rows: Vec<SubjectRow> = nodes
        .iter()
        .flat_map(|node| signers.iter().map(|signer| (node.to_string(), signer.clone())))
        .collect();
    rows.sort();
    rows.dedup();
    rows
}

/// The nodes that an object names and that can be asked from: an index its entries, a manifest its config, a commit its
/// parents, a tag what it points to.
pub(crate) fn children(facts: &Object) -> Vec<String> {
    let mut nodes: Vec<String> = match &facts.body {
        Body::Index(index) => index.children.iter().map(|child| child.digest.to_string()).collect(),
        Body::Manifest(manifest) => vec![manifest.config.digest.to_string()],
        Body::Commit(commit) => commit.parents.iter().map(|parent| Node::Git(*parent).to_string()).collect(),
        Body::Tag(tag) => vec![Node::Git(tag.target).to_string()],
        Body::Config(_) => Vec::new(),
    };
    nodes.sort();
    nodes.dedup();
    nodes
}

/// An id from a column.
pub(crate) fn id_from(bytes: &[u8]) -> Option<Sha256> {
    bytes.try_into().ok().map(Sha256)
}

/// A time from a column.
pub(crate) fn time_from(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Builder, source repository, source commit and image repository, as lists filter by them.
fn columns(facts: &Attestation) -> (Option<&str>, Option<&str>, Option<GitOid>, Option<&str>) {
    let commit_subject = || {
        facts.subject_nodes().into_iter().find_map(|node| match node {
            Node::Git(oid) => Some(oid),
            Node::Content(_) => None,
        })
    };
    match &facts.claim {
        Claim::Build(build) => {
            let source = build.source.as_ref();
            let repository = source.map(|source| source.repository.as_str());
            (Some(&build.builder_id), repository, source.and_then(|source| source.commit), None)
        }
        Claim::Commit(commit) => (None, Some(&commit.repository), commit_subject(), None),
        Claim::Registry(event) => (None, None, None, Some(&event.resource)),
        Claim::Summary(summary) => (None, None, None, Some(&summary.resource_uri)),
        Claim::SourceProvenance(source) => (None, source.repository.as_deref(), commit_subject(), None),
        Claim::TagProvenance(tag) => (None, tag.repository.as_deref(), commit_subject(), None),
        Claim::Release(release) => (None, None, None, Some(&release.purl)),
        _ => (None, None, None, None),
    }
}

/// Text that Postgres can keep and index; what it cannot is browsable by other columns only.
fn indexed(text: &str) -> Option<String> {
    (text.len() <= MAX_INDEXED && !text.contains('\0')).then(|| text.to_owned())
}
