//! The golden world: one honest chain from commit to registry, and every part of it in reach.
//!
//! Each attack is one mutation of [`World::golden`]; a harness that cannot make the golden world pass proves
//! nothing, so each refusal is shown beside its untouched twin.

use crate::{
    commit::{Actor, CommitEvidence, CommitSignature, Review},
    dsse::Envelope,
    git,
    key::Key,
    oci::{Blob, Image, Index, layer},
    provenance::{Base, Provenance},
    registry::RegistryEvidence,
    statement::{Statement, Subject},
};

/// The tenant that the world belongs to.
pub const TENANT: &str = "acme";
/// Another tenant.
pub const OTHER_TENANT: &str = "globex";
/// The application's repository.
pub const REPOSITORY: &str = "git+https://git.acme.test/acme/app";
/// The forge's id of the repository.
pub const REPOSITORY_ID: &str = "4242";
/// The forge's id of its owner.
pub const OWNER_ID: &str = "99";
/// The base image's repository at the forge.
pub const BASE_REPOSITORY: &str = "git+https://git.acme.test/acme/base";
/// The forge's id of that repository.
pub const BASE_REPOSITORY_ID: &str = "4343";
/// The protected branch.
pub const MAIN: &str = "refs/heads/main";
/// The builder.
pub const BUILDER: &str = "https://ci.acme.test";
/// Where the image is pushed.
pub const RESOURCE: &str = "registry.acme.test/acme/app";
/// Where the base image is pushed.
pub const BASE_RESOURCE: &str = "registry.acme.test/base/debian";
/// The media type that commits are sent under; the bytes are what `git cat-file` prints.
pub const GIT_COMMIT: &str = "application/x-git-commit";
/// The media type that annotated tags are sent under.
pub const GIT_TAG: &str = "application/x-git-tag";

/// What is said and who signs it.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    /// What is said.
    pub body: T,
    /// Who signs.
    pub signer: Key,
}

impl<T> std::ops::Deref for Signed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.body
    }
}

impl<T> std::ops::DerefMut for Signed<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.body
    }
}

/// The base image's own chain.
#[derive(Debug, Clone)]
pub struct BaseChain {
    /// Its commit.
    pub commit: git::Commit,
    /// Its commit statement.
    pub source: Signed<CommitEvidence>,
    /// Its build statement.
    pub build: Signed<Provenance>,
    /// Its push.
    pub push: Signed<RegistryEvidence>,
}

/// Who signs in a world.
#[derive(Debug, Clone)]
pub struct Signers {
    /// The version control collector's key, Ed25519.
    pub k_vcs: Key,
    /// The CI's key, P-256.
    pub k_ci: Key,
    /// The registry collector's key, P-384.
    pub k_reg: Key,
    /// The developer's SSH key, Ed25519.
    pub k_dev: Key,
    /// A key that nobody registered.
    pub k_mallory: Key,
}

impl Signers {
    /// The signers of a seed.
    pub fn of(seed: u64) -> Self {
        let name = |name: &str| format!("{name}-{seed}");
        Self {
            k_vcs: Key::ed25519(&name("vcs")),
            k_ci: Key::p256(&name("ci")),
            k_reg: Key::p384(&name("reg")),
            k_dev: Key::ed25519(&name("dev")),
            k_mallory: Key::ed25519(&name("mallory")),
        }
    }
}

/// The world.
#[derive(Debug, Clone)]
pub struct World {
    /// The moment that every time in it is relative to, Unix seconds.
    pub now: i64,
    /// The version control collector's key, Ed25519.
    pub k_vcs: Key,
    /// The CI's key, P-256.
    pub k_ci: Key,
    /// The registry collector's key, P-384.
    pub k_reg: Key,
    /// The developer's SSH key, Ed25519.
    pub k_dev: Key,
    /// A key that nobody registered.
    pub k_mallory: Key,
    /// C1, signed by the developer.
    pub commit: git::Commit,
    /// B1.
    pub base: Index,
    /// I, with M1 (amd64) and M2 (arm64).
    pub index: Index,
    /// `registry/repository` that the question names.
    pub resource: String,
    /// A_src.
    pub source: Signed<CommitEvidence>,
    /// A_build.
    pub build: Signed<Provenance>,
    /// A_reg.
    pub push: Signed<RegistryEvidence>,
    /// The base image's chain; with it the policy says `chain: true` and [`World::base_policy`] is wanted.
    pub base_chain: Option<BaseChain>,
    /// Envelopes to send beside the golden ones.
    pub extra_envelopes: Vec<Envelope>,
    /// Objects to send beside the golden ones.
    pub extra_objects: Vec<Blob>,
}

impl World {
    /// The honest world. The same seed and moment give the same bytes, but for ECDSA signatures.
    pub fn golden(seed: u64, now: i64) -> Self {
        Self::release(Signers::of(seed), seed, seed, &["linux/amd64", "linux/arm64"], now)
    }

    /// One of many honest releases by the same signers, on the base image of seed `base_seed`.
    pub fn release(signers: Signers, seed: u64, base_seed: u64, platforms: &[&str], now: i64) -> Self {
        let Signers { k_vcs, k_ci, k_reg, k_dev, k_mallory } = signers;
        let commit =
            make_commit(&format!("fn main() {{}} // {seed}\n"), "Greet the world\n", now - 900, &k_dev);
        let base_layer = layer(&[("etc/os-release", format!("ID=acme\nBUILD_ID={base_seed}\n").as_bytes())]);
        let base = Index::new(
            platforms.iter().map(|platform| Image::new(platform, vec![base_layer.clone()])).collect(),
        );
        let base_digest = base.digest();
        let app = |below: &Image| {
            let binary = format!("app {seed} {}", below.platform.architecture);
            below
                .extend(layer(&[("usr/bin/app", binary.as_bytes())]))
                .annotate("org.opencontainers.image.base.name", BASE_RESOURCE)
                .annotate("org.opencontainers.image.base.digest", &base_digest)
        };
        let index = Index::new(base.images.iter().map(app).collect());

        let source = commit_evidence(&commit, REPOSITORY, REPOSITORY_ID, now - 600, &k_dev);
        let mut build = Provenance::generic(BUILDER, REPOSITORY, MAIN, &commit.oid());
        build.subjects = subjects(RESOURCE, &index);
        build.base = Some(Base { uri: BASE_RESOURCE.into(), digest: Some(base_digest) });
        build.invocation = format!("{BUILDER}/runs/{seed}");
        build.runner = Some("github-hosted".into());
        build.started_on = Some(now - 540);
        build.finished_on = Some(now - 480);
        let mut push = RegistryEvidence::push(RESOURCE, &index.digest(), now - 420);
        push.tag = Some("1.0.0".into());

        Self {
            now,
            source: Signed { body: source, signer: k_vcs.clone() },
            build: Signed { body: build, signer: k_ci.clone() },
            push: Signed { body: push, signer: k_reg.clone() },
            k_vcs,
            k_ci,
            k_reg,
            k_dev,
            k_mallory,
            commit,
            base,
            index,
            resource: RESOURCE.into(),
            base_chain: None,
            extra_envelopes: Vec::new(),
            extra_objects: Vec::new(),
        }
    }

    /// The honest world in which the base image has an honest chain of its own.
    pub fn golden_with_base_chain(seed: u64, now: i64) -> Self {
        let mut world = Self::golden(seed, now);
        let commit =
            make_commit(&format!("FROM scratch # {seed}\n"), "Lay the base\n", now - 9_000, &world.k_dev);
        let source = commit_evidence(&commit, BASE_REPOSITORY, BASE_REPOSITORY_ID, now - 6_000, &world.k_dev);
        let mut build = Provenance::generic(BUILDER, BASE_REPOSITORY, MAIN, &commit.oid());
        build.subjects = subjects(BASE_RESOURCE, &world.base);
        build.invocation = format!("{BUILDER}/runs/base-{seed}");
        build.repository_id = BASE_REPOSITORY_ID.into();
        build.started_on = Some(now - 5_400);
        build.finished_on = Some(now - 4_800);
        let push = RegistryEvidence::push(BASE_RESOURCE, &world.base.digest(), now - 4_200);
        world.base_chain = Some(BaseChain {
            commit,
            source: Signed { body: source, signer: world.k_vcs.clone() },
            build: Signed { body: build, signer: world.k_ci.clone() },
            push: Signed { body: push, signer: world.k_reg.clone() },
        });
        world
    }

    /// `registry/repository@sha256:…` of I.
    pub fn image(&self) -> String {
        self.image_of(&self.index.digest())
    }

    /// The same of any digest, M1's for example.
    pub fn image_of(&self, digest: &str) -> String {
        format!("{}@{digest}", self.resource)
    }

    /// A_src, signed.
    pub fn source_envelope(&self) -> Envelope {
        sign(&self.source.statement(), &self.source.signer)
    }

    /// A_build, signed.
    pub fn build_envelope(&self) -> Envelope {
        sign(&self.build.statement(), &self.build.signer)
    }

    /// A_reg, signed.
    pub fn push_envelope(&self) -> Envelope {
        sign(&self.push.statement(), &self.push.signer)
    }

    /// Every envelope: the golden three, the base image's, and the extra ones.
    pub fn envelopes(&self) -> Vec<Envelope> {
        let mut all = vec![self.source_envelope(), self.build_envelope(), self.push_envelope()];
        if let Some(base) = &self.base_chain {
            all.push(sign(&base.source.statement(), &base.source.signer));
            all.push(sign(&base.build.statement(), &base.build.signer));
            all.push(sign(&base.push.statement(), &base.push.signer));
        }
        all.extend(self.extra_envelopes.iter().cloned());
        all
    }

    /// Every object that the service keeps: commits, indexes, manifests, configs; not layers.
    pub fn objects(&self) -> Vec<Blob> {
        let mut all = vec![Blob::new(GIT_COMMIT, self.commit.bytes())];
        if let Some(base) = &self.base_chain {
            all.push(Blob::new(GIT_COMMIT, base.commit.bytes()));
        }
        for index in [&self.base, &self.index] {
            for image in &index.images {
                all.extend([image.config(), image.manifest()]);
            }
            if index.buildkit_attestations {
                for image in &index.images {
                    let [_, config, manifest] = Index::buildkit_attestation(image);
                    all.extend([config, manifest]);
                }
            }
            all.push(index.document());
        }
        all.extend(self.extra_objects.iter().cloned());
        all
    }

    /// The keys that the tenant registers: `(name, PEM, scheme)`.
    pub fn keys(&self) -> Vec<(String, String, String)> {
        [("vcs", &self.k_vcs), ("ci", &self.k_ci), ("reg", &self.k_reg), ("dev", &self.k_dev)]
            .into_iter()
            .map(|(name, key)| (name.into(), key.public_pem(), key.scheme().name().into()))
            .collect()
    }

    /// The policy `prod`, under which the golden world is PASSED.
    pub fn policy(&self) -> String {
        let chain = if self.base_chain.is_some() { "chain: true, depth: 4, " } else { "" };
        let inputs = format!(
            "  inputs: [{{role: baseImage, allow: [\"registry.acme.test/base/*\"], {chain}pinned: required, undeclared: deny}}]\n"
        );
        self.policy_for("prod", "registry.acme.test/acme/*", REPOSITORY, REPOSITORY_ID, &inputs)
    }

    /// The policy `base` for the base image's own chain.
    pub fn base_policy(&self) -> String {
        self.policy_for("base", "registry.acme.test/base/*", BASE_REPOSITORY, BASE_REPOSITORY_ID, "")
    }

    fn policy_for(
        &self,
        name: &str,
        resources: &str,
        repository: &str,
        repository_id: &str,
        inputs: &str,
    ) -> String {
        let (ci, vcs, reg, dev) = (self.k_ci.id(), self.k_vcs.id(), self.k_reg.id(), self.k_dev.id());
        format!(
            r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: {name}, owner: sec}}
spec:
  mode: enforce
  match: {{resources: ["{resources}"]}}
  subject: {{kinds: [image-index, image-manifest], platforms: [linux/amd64, linux/arm64], extraPlatforms: deny}}
  trust:
    builders:
      - {{id: ci, domain: acme-ci, maxLevel: 3, signer: {{key: "{ci}"}}, builderId: {{exact: "{BUILDER}"}}, buildTypes: [generic]}}
    sources:
      - {{id: vcs, maxLevel: 3, signer: {{key: "{vcs}"}}}}
    registries:
      - {{id: reg, signer: {{key: "{reg}"}}, repositories: ["registry.acme.test/**"]}}
  build: {{minLevel: 2, builders: {{atLeast: 1, of: [ci]}}, triggers: [push, workflow_dispatch, release], params: {{unknown: deny}}}}
  source:
    repository: {{uri: "{repository}", id: "{repository_id}"}}
    refs: ["{MAIN}"]
    unique: true
    review: {{atLeast: 2}}
    signatures: {{commit: {{required: true, keys: ["{dev}"]}}}}
{inputs}  registry: {{path: ["{resources}"], promotedBy: [reg]}}
  time: {{skew: 120s, order: ["source<build", "build<push"]}}
"#
        )
    }
}

fn sign(statement: &Statement, signer: &Key) -> Envelope {
    statement.signed_by(signer)
}

/// The index and each of its images as subjects.
pub fn subjects(name: &str, index: &Index) -> Vec<Subject> {
    let digests = std::iter::once(index.digest()).chain(index.images.iter().map(Image::digest));
    digests.map(|digest| Subject::image(name, &digest)).collect()
}

fn make_commit(file: &str, message: &str, at: i64, signer: &Key) -> git::Commit {
    let blob = git::blob_oid(git::Hash::Sha1, file.as_bytes());
    let tree = git::oid(git::Hash::Sha1, "tree", &git::tree(&[("100644", "main", &blob)]));
    git::Commit::new(&tree, "Dev Eloper <dev@acme.test>", at, message).signed_by(signer)
}

fn commit_evidence(
    commit: &git::Commit,
    repository: &str,
    id: &str,
    updated_at: i64,
    signer: &Key,
) -> CommitEvidence {
    CommitEvidence {
        commit: commit.oid(),
        extra_subjects: Vec::new(),
        repository: repository.into(),
        repository_id: Some(id.into()),
        reference: MAIN.into(),
        previous: None,
        updated_at,
        actor: Some(Actor::new("dev", "1")),
        review: Some(Review {
            approved_revision: commit.oid(),
            approvers: vec![Actor::new("ann", "2"), Actor::new("bob", "3")],
        }),
        signature: Some(CommitSignature {
            method: "ssh".into(),
            principal: Some("dev@acme.test".into()),
            key_id: Some(signer.id()),
        }),
        extra: serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::time::NOON;

    #[test]
    fn k01_the_golden_world_is_the_same_every_time() {
        let (one, two) = (World::golden(1, NOON), World::golden(1, NOON));
        assert_eq!(one.image(), two.image());
        assert_eq!(one.build.statement().to_json(), two.build.statement().to_json());
        assert_eq!(one.source_envelope(), two.source_envelope());
        assert_eq!(one.policy(), two.policy());
        assert_ne!(one.image(), World::golden(2, NOON).image());
    }

    #[test]
    fn the_statements_name_the_objects() {
        let world = World::golden_with_base_chain(1, NOON);
        let build: Value = serde_json::from_str(&world.build.statement().to_json()).unwrap();
        let digests: Vec<String> = world.objects().iter().map(Blob::digest).collect();
        for subject in build["subject"].as_array().unwrap() {
            let digest = format!("sha256:{}", subject["digest"]["sha256"].as_str().unwrap());
            assert!(digests.contains(&digest), "{digest}");
        }
        let dependencies = &build["predicate"]["buildDefinition"]["resolvedDependencies"];
        assert_eq!(dependencies[0]["digest"]["gitCommit"], world.commit.oid());
        assert_eq!(dependencies[1]["digest"]["sha256"], world.base.digest().trim_start_matches("sha256:"));
        assert_eq!(build["predicate"]["runDetails"]["metadata"]["startedOn"], "2026-06-01T11:51:00Z");
        assert_eq!(world.envelopes().len(), 6);
    }

    #[test]
    fn one_mutation_changes_one_statement() {
        let golden = World::golden(1, NOON);
        let mut world = golden.clone();
        world.build.builder_id = "https://ci.evil.test".into();
        assert_ne!(world.build_envelope().payload, golden.build_envelope().payload);
        assert_eq!(world.source_envelope(), golden.source_envelope());
        world.build.signer = world.k_mallory.clone();
        assert_eq!(world.build_envelope().signatures[0].keyid, Some(world.k_mallory.id()));
    }
}
