//! What all roles share: the site, the tenants, the cast, the journal.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use acceptance::{Client, http::escape, stage::furnish};
use anyhow::{Context as _, Result, ensure};
use catenary_testkit::{Key, World, world::GIT_COMMIT};
use reqwest::Method;
use serde_json::json;

use super::{
    call::{Body, Caller, Judge},
    cast::Actor,
    check::tree::hex_id,
    findings::Findings,
    journal::{Journal, Record},
    options::Options,
    site::Site,
};

/// A tenant of the play.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its administrator.
    pub admin: Caller,
    /// Its keys and policy.
    pub world: World,
    /// A text that no other tenant may see.
    pub marker: String,
}

/// The play.
#[derive(Debug)]
pub struct Play {
    /// As asked for.
    pub options: Options,
    /// What is hammered.
    pub site: Arc<Site>,
    /// What was found.
    pub findings: Arc<Findings>,
    /// What every answer is held against.
    pub judge: Arc<Judge>,
    /// What was acknowledged.
    pub journal: Journal,
    /// Two or more.
    pub tenants: Vec<Tenant>,
    /// Everybody who entered the stage.
    pub cast: Mutex<Vec<Arc<Actor>>>,
    /// New leaves that were acknowledged.
    pub acknowledged: Arc<AtomicU64>,
    /// When the roles go.
    pub stop: Arc<AtomicBool>,
    /// What was sent and not answered: tenant and bytes.
    pub unanswered: Mutex<Vec<(usize, String)>>,
    /// A key that nobody registered.
    pub stranger: Key,
    /// Whose turn it is among the attack cases.
    pub turn: AtomicUsize,
    numbers: AtomicU64,
}

/// How many tenants.
const TENANTS: usize = 3;

impl Play {
    /// Starts the site and prepares the tenants, all at once.
    pub async fn prepare(options: Options, folder: &Path) -> Result<Self> {
        let findings = Arc::new(Findings::default());
        let judge = Arc::new(Judge::new(findings.clone())?);
        let site = Arc::new(Site::start(options.instances, &findings).await?);
        let journal = Journal::create(&folder.join("journal"))?;
        let platform = Client::new(&site.urls[0], Some(&site.platform_token));
        let now = acceptance::now();
        let tasks = (0..TENANTS as u64).map(|n| {
            let (platform, site, judge) = (platform.clone(), site.clone(), judge.clone());
            let seed = options.seed.wrapping_add(n);
            tokio::spawn(async move { enter(&platform, &site, &judge, seed, now).await })
        });
        let mut tenants = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            tenants.push(task.await??);
        }
        let play = Self {
            stranger: Key::ed25519(&format!("stranger-{}", options.seed)),
            options,
            site,
            findings,
            judge,
            journal,
            tenants,
            cast: Mutex::default(),
            acknowledged: Arc::default(),
            stop: Arc::default(),
            unanswered: Mutex::default(),
            turn: AtomicUsize::new(0),
            numbers: AtomicU64::new(1),
        };
        play.open().await?;
        Ok(play)
    }

    /// What all images of a tenant share: the commit, the base image, and what the version control collector says.
    async fn open(&self) -> Result<()> {
        for (index, tenant) in self.tenants.iter().enumerate() {
            let world = &tenant.world;
            let commit = catenary_testkit::oci::Blob::new(GIT_COMMIT, world.commit.bytes());
            let base = world.base.images.iter().flat_map(|image| [image.config(), image.manifest()]);
            for blob in base.chain([world.base.document(), commit]) {
                ensure!(self.push_object(index, &blob.media_type, &blob.bytes).await.is_some(), "an object");
            }
            let source = world.source_envelope().to_json();
            ensure!(self.submit(index, &source).await.is_some(), "the source statement");
        }
        Ok(())
    }

    /// Whether the roles go on.
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A number that nobody else has.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Somebody who entered, by chance.
    pub fn anybody(&self) -> Option<Arc<Actor>> {
        let cast = self.cast.lock().unwrap_or_else(PoisonError::into_inner);
        (!cast.is_empty()).then(|| cast[fastrand::usize(..cast.len())].clone())
    }

    /// Enters the stage.
    pub fn enters(&self, actor: &Arc<Actor>) {
        self.cast.lock().unwrap_or_else(PoisonError::into_inner).push(actor.clone());
    }

    /// Posts an object until it is acknowledged; `None` when the play ends before. Its index.
    pub async fn push_object(&self, tenant: usize, media_type: &str, bytes: &[u8]) -> Option<u64> {
        let media_type: &'static str = match media_type {
            GIT_COMMIT => GIT_COMMIT,
            catenary_testkit::oci::OCI_INDEX => catenary_testkit::oci::OCI_INDEX,
            catenary_testkit::oci::OCI_MANIFEST => catenary_testkit::oci::OCI_MANIFEST,
            _ => catenary_testkit::oci::OCI_CONFIG,
        };
        self.until_acknowledged(tenant, "/v1/objects", media_type, bytes).await
    }

    /// Posts an envelope until it is acknowledged.
    pub async fn submit(&self, tenant: usize, envelope: &str) -> Option<u64> {
        self.until_acknowledged(tenant, "/v1/attestations", "application/json", envelope.as_bytes()).await
    }

    async fn until_acknowledged(
        &self,
        tenant: usize,
        path: &str,
        media_type: &'static str,
        bytes: &[u8],
    ) -> Option<u64> {
        let admin = &self.tenants[tenant].admin;
        self.journal.note(&Record::Intent { tenant: admin.tenant.clone(), id: hex_id(bytes) });
        while self.goes_on() {
            let body = Body::Of(media_type, bytes.to_vec().into());
            let answer = admin.ask(fastrand::usize(..64), Method::POST, path, body).await;
            match answer {
                Some(answer) if [200, 201].contains(&answer.status) => {
                    return self.acknowledge(tenant, bytes, &answer).await;
                }
                Some(answer) if answer.status < 500 => {
                    let why = || format!("{path}: {}", super::call::short(&answer.show()));
                    self.findings.check("I4", false, why);
                    return None;
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        None
    }

    /// Writes an acknowledgement down; it counts from then on.
    pub async fn acknowledge(&self, tenant: usize, bytes: &[u8], answer: &acceptance::Answer) -> Option<u64> {
        let (body, id) = (answer.json(), hex_id(bytes));
        let (index, said) = (body["index"].as_u64(), body["id"].as_str().unwrap_or_default().to_owned());
        let named = said.trim_start_matches("sha256:") == id;
        self.findings.check("I1", named && index.is_some(), || format!("{id} was acknowledged as {said}"));
        let (tenant, created) = (self.tenants[tenant].name.clone(), answer.status == 201);
        let index = index?;
        self.journal.keep(&Record::Acknowledged { tenant, id, index, created }).await.ok()?;
        self.acknowledged.fetch_add(u64::from(created), Ordering::Relaxed);
        Some(index)
    }
}

/// Makes a tenant with the golden keys and policy.
async fn enter(platform: &Client, site: &Site, judge: &Arc<Judge>, seed: u64, now: i64) -> Result<Tenant> {
    let name = format!("hammer-{seed}");
    let answer = platform.post("/v1/tenants", &json!({"name": name, "publicLog": false})).await;
    ensure!(answer.status == 201, "{}", answer.show());
    let token = answer.json()["adminToken"].as_str().context("a token")?.to_owned();
    let world = World::golden(seed, now);
    furnish(&platform.with(&token), &world).await;
    let marker = format!("marker-of-{name}-{:016x}", fastrand::u64(..));
    judge.marks(&name, &marker);
    let admin = Caller::new(&name, Some(&token), &site.urls, judge);
    Ok(Tenant { name, admin, world, marker })
}

/// The path of a question.
pub fn question(image: &str) -> String {
    format!("/v1/verdict?image={}&environment=prod", escape(image))
}
