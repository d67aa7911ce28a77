//! Tenants in which the golden world can be played, honestly or with one thing changed.

use std::sync::Arc;

use catenary_testkit::{World, dsse::Envelope};
use tokio::sync::Mutex;

use crate::{
    app::App,
    http::{Answer, Client},
};

/// A tenant that trusts the golden world's keys and has its policy.
#[derive(Debug)]
pub struct Stage {
    /// The tenant's name.
    pub tenant: String,
    /// Its administrator.
    pub admin: Client,
    /// The world, of which nothing has been posted.
    pub world: World,
}

impl std::ops::Deref for Stage {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.admin
    }
}

/// A prepared tenant: everything but a client, which belongs to one test's runtime.
#[derive(Debug, Clone)]
struct Prepared {
    tenant: String,
    token: String,
    world: World,
}

/// How many tenants are prepared at once: each waits out the lease of its control entries, together.
const BATCH: usize = 12;

impl Stage {
    /// An empty stage in the shared service.
    pub async fn empty() -> Self {
        static READY: Mutex<Vec<Prepared>> = Mutex::const_new(Vec::new());
        let app = App::shared().await;
        app.never_panicked();
        let mut ready = READY.lock().await;
        if ready.is_empty() {
            let platform = app.platform();
            let tasks: Vec<_> =
                (0..BATCH).map(|_| tokio::spawn(prepare(platform.clone(), crate::unique()))).collect();
            for task in tasks {
                ready.push(task.await.unwrap());
            }
        }
        let Prepared { tenant, token, world } = ready.pop().unwrap();
        Self { tenant, admin: Client::new(&app.url, Some(&token)), world }
    }

    /// An empty stage in a service of the test's own.
    pub async fn in_app(app: &App) -> Self {
        let Prepared { tenant, token, world } = prepare(app.platform(), crate::unique()).await;
        Self { tenant, admin: Client::new(&app.url, Some(&token)), world }
    }

    /// The stage of tenant `default`.
    pub async fn in_default(app: &App) -> Self {
        let world = World::golden(crate::unique(), crate::now());
        let admin = app.admin();
        furnish(&admin, &world).await;
        Self { tenant: "default".into(), admin, world }
    }

    /// Posts objects and envelopes of the world.
    pub async fn post_world(&self) {
        self.post_objects(&self.world).await;
        self.post_envelopes(&self.world.envelopes()).await;
    }

    /// Posts the objects of a world.
    pub async fn post_objects(&self, world: &World) {
        for blob in world.objects() {
            let answer = self.push_object(&blob).await;
            assert!([200, 201].contains(&answer.status), "{}", answer.show());
        }
    }

    /// Posts envelopes as one batch; each must be accepted.
    pub async fn post_envelopes(&self, envelopes: &[Envelope]) -> Vec<serde_json::Value> {
        let lines: Vec<String> = envelopes.iter().map(Envelope::to_json).collect();
        let answer = self.submit(format!("[{}]", lines.join(","))).await.is(200);
        let items = answer.list("items");
        assert_eq!(items.len(), envelopes.len());
        for item in &items {
            assert!(item["id"].is_string(), "{item}");
        }
        items
    }

    /// The verdict about the world's image.
    pub async fn judge(&self) -> Answer {
        self.verdict(&self.world.image()).await
    }

    /// K01: plays the honest world, which must pass.
    pub async fn play_honest(self) -> Self {
        self.post_world().await;
        self.judge().await.passes();
        self
    }
}

/// K01 in a fresh tenant of the shared service: PASSED.
pub async fn honest() -> Stage {
    Stage::empty().await.play_honest().await
}

/// The golden world with one mutation, posted in a tenant beside a twin that passed.
pub async fn mutant(mutate: impl FnOnce(&mut World)) -> Stage {
    let _twin = honest().await;
    let mut stage = Stage::empty().await;
    mutate(&mut stage.world);
    stage.post_world().await;
    stage
}

async fn prepare(platform: Client, seed: u64) -> Prepared {
    let tenant = format!("t{seed}");
    let body = serde_json::json!({"name": tenant, "publicLog": false});
    let created = platform.post("/v1/tenants", &body).await.is(201);
    let token = created.text("adminToken").to_owned();
    let world = World::golden(seed, crate::now());
    furnish(&platform.with(&token), &world).await;
    Prepared { tenant, token, world }
}

/// Registers the world's keys and applies its policy, all at once.
pub async fn furnish(admin: &Client, world: &World) {
    let (admin, world) = (Arc::new(admin.clone()), Arc::new(world.clone()));
    let mut tasks = Vec::new();
    for (name, pem, scheme) in world.keys() {
        let admin = Arc::clone(&admin);
        tasks.push(tokio::spawn(async move {
            admin.add_key(&name, &pem, Some(&scheme)).await.is(201);
        }));
    }
    let policy = tokio::spawn(async move {
        admin.apply("prod", &world.policy()).await.is(201);
    });
    tasks.push(policy);
    for task in tasks {
        task.await.unwrap();
    }
}
