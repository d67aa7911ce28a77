//! A chain without keys: a certificate names the workflow, logs and a timestamp authority saw the signature.

use anyhow::{Result, ensure};
use catenary_evidence::reference::ImageReference;
use catenary_testkit::authority::{Authority, Claims};
use serde_json::{Value, json};

use super::{
    image::Index,
    world::{APP_SOURCE, MAIN, World, now},
};

/// The repository of the image whose builder has no key.
pub const WEB: &str = "shop/web";
/// The trust domain of the demonstration's own certificate authority.
const DOMAIN: &str = "demo";
const ISSUER: &str = "https://token.demo.test";
const WORKFLOW: &str = "https://git.demo.test/shop/app/release.yml@refs/heads/main";
/// A workflow of the same repository that nobody trusts.
const OTHER_WORKFLOW: &str = "https://git.demo.test/shop/app/experiment.yml@refs/heads/main";

/// The certificate authority, its logs and its timestamp authority.
pub struct Keyless(Authority);

/// A chain of the show, and what must be said of it.
pub struct Shown {
    /// For machines.
    pub name: &'static str,
    /// For people.
    pub story: &'static str,
    /// The image asked about.
    pub image: ImageReference,
    /// The verdict on it.
    pub verdict: Value,
    /// The code that must be there; none for a chain that must hold.
    pub expected: Option<&'static str>,
}

impl Keyless {
    /// Makes the authority from a secret, and has it trusted with a policy for [`WEB`].
    pub async fn trust(secret: &str, world: &mut World<'_>) -> Result<Self> {
        let authority = Authority::at(&format!("demo-{secret}"), jiff::Timestamp::now().as_second());
        let root = json!({"domain": DOMAIN, "document": authority.trusted_root_json()});
        world.post("/v1/trust", &root).await?;
        let builders = format!(
            r#"      - {{id: workflow, maxLevel: 3, signer: {{issuer: "{ISSUER}", san: {{exact: "{WORKFLOW}"}}, root: {DOMAIN}}}, builderId: {{equals: signer.san}}, buildTypes: [generic]}}
"#
        );
        world.apply("demo-web", WEB, APP_SOURCE, true, &builders).await?;
        Ok(Self(authority))
    }

    /// The honest chain, and the same image built by a workflow that the policy does not name.
    pub async fn show(&self, world: &mut World<'_>) -> Result<[Shown; 2]> {
        let honest = world.build(&world.base, Some(("web.sh", "echo served\n")))?;
        self.attest(world, &honest, WORKFLOW).await?;
        let image = world.push(WEB, "1.0.0", &honest).await?;
        let passed = Shown {
            name: "keyless",
            story: "a workflow signs with a certificate that lives ten minutes, and no key",
            verdict: world.ask(&image).await?,
            image,
            expected: None,
        };
        let index = world.build(&world.base, Some(("web.sh", "echo something else\n")))?;
        self.attest(world, &index, OTHER_WORKFLOW).await?;
        let image = world.push(WEB, "experiment", &index).await?;
        let failed = Shown {
            name: "keyless-other-workflow",
            story: "the same authority certifies another workflow of the repository",
            verdict: world.ask(&image).await?,
            image,
            expected: Some("BLD_SIGNER_NOT_TRUSTED"),
        };
        Ok([passed, failed])
    }

    /// Sends provenance in a bundle: certificate, log entry, timestamp.
    async fn attest(&self, world: &mut World<'_>, index: &Index, workflow: &str) -> Result<()> {
        let mut provenance = world.provenance(WEB, index)?;
        provenance.builder = workflow.to_owned();
        provenance.started = now();
        let repository = APP_SOURCE.trim_start_matches("git+");
        let claims = Claims::uri(workflow, ISSUER)
            .build_signer_uri(workflow)
            .source_repository_uri(repository)
            .source_repository_digest(&world.source.commit)
            .source_repository_ref(MAIN)
            .build_trigger("push");
        let leaf = self.0.leaf(&claims).issue();
        let statement = provenance.statement().to_string();
        let bundle = self.0.attest(&leaf, &statement).timestamp().to_value();
        let (status, answer) = world.send(&bundle).await?;
        ensure!(answer["status"] == "verified", "a keyless bundle was not verified: HTTP {status} {answer}");
        Ok(())
    }
}
