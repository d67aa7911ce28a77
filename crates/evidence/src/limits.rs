//! Every limit of this crate, so that `docs/limits.md` can list them. Each is checked beside its parser.

pub use crate::{json::MAX_DEPTH, key::MAX_KEY};

/// Bytes of one item of a submission: an envelope or bundle. BuildKit allows 40 MiB for attestation files;
/// the largest real provenance is below 1 MiB, and a service holds many at a time. Base64 leaves 6 MiB of it for the payload.
pub const MAX_ITEM: usize = 8 * 1024 * 1024;

/// Items of one submission.
pub const MAX_ITEMS: usize = 1000;

/// Signatures of one envelope: each is tried under every registered key that it could be by.
pub const MAX_SIGNATURES: usize = 32;

/// Bytes of one decoded signature: RSA 8192 takes 1024.
pub const MAX_SIGNATURE: usize = 4096;

/// Bytes of a `keyid`.
pub const MAX_KEYID: usize = 1024;

/// Subjects of one statement.
pub const MAX_SUBJECTS: usize = 1024;

/// Members of one DigestSet.
pub const MAX_DIGESTS: usize = 32;

/// Bytes of a name, a URI, a ref, a type.
pub const MAX_TEXT: usize = 1024;

/// Resolved dependencies of one provenance.
pub const MAX_DEPENDENCIES: usize = 4096;

/// External parameters of one provenance, flattened.
pub const MAX_PARAMS: usize = 1024;

/// Steps, keys and functionaries of an in-toto layout.
pub const MAX_STEPS: usize = 256;

/// Packages of an SBOM, findings of a scan, statements of a VEX document.
pub const MAX_MENTIONS: usize = 20_000;

/// Bytes of all their texts together.
pub const MAX_MENTION_BYTES: usize = 16 * 1024 * 1024;

/// Findings of a scan that verdicts read one by one; names and products of a VEX document.
pub const MAX_JUDGED: usize = 4096;

/// Bytes of all their texts together: they are part of the facts, which every verdict about the image reads.
pub const MAX_JUDGED_BYTES: usize = 512 * 1024;

/// Bytes of one object: the OCI distribution specification asks registries for manifests of 4 MiB.
pub const MAX_OBJECT: usize = 4 * 1024 * 1024;

/// Manifests of an index, layers of a manifest, diff ids of a config.
pub const MAX_DESCRIPTORS: usize = 4096;

/// Parents of a commit: the largest merge in the Linux kernel has 66.
pub const MAX_PARENTS: usize = 256;

/// Levels and properties of a verification summary.
pub const MAX_LEVELS: usize = 256;

/// Approvers of one review.
pub const MAX_APPROVERS: usize = 256;
