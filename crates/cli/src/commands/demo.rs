//! `catenary demo`: the main job on real input, then eight attacks on it.
//!
//! The service, the repositories, the image and the registry are real and live in one folder; evidence goes
//! in and verdicts come out over HTTP only. Keys are made anew on each run, but for the developer's: the commit and so
//! the image have the same digest every time.

mod attacks;
mod git;
mod image;
mod keyless;
mod registry;
mod ssh;
mod world;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use catenary_evidence::reference::ImageReference;
use catenary_server::{
    Config, Server,
    config::{self, Secret},
};
use catenary_store::ladder::{Rungs, Scratch};
use clap::Args;
use serde_json::{Value, json};

use self::{
    attacks::{Attack, codes},
    image::Index,
    keyless::{Keyless, Shown},
    registry::{Place, Registry},
    world::{APP, World},
};
use crate::{
    client::{Client, Tls, query},
    draw::{self, short, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, WARN, paint},
};

/// Build, sign, push and judge a real image, then attack it.
#[derive(Args)]
pub struct Demo {
    /// End when the show is over, instead of leaving the server running for a look around.
    #[arg(long)]
    exit: bool,
    /// Keep everything in this folder: a new one, or one of an earlier demonstration. Default: a temporary folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where the service listens. Default: a free port on loopback.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
}

/// Written into the folder, so that no other installation's folder is ever taken for a demonstration's.
const MARK: &str = "catenary-demo";

impl Demo {
    /// Plays; 0 when the honest image passed and every attack was caught, else 1.
    pub async fn run(self, output: &Output) -> Result<Exit> {
        let folder = Folder::open(self.data.as_deref())?;
        let stage = tokio::select! {
            stage = Stage::set(&self, &folder, output) => stage?,
            () = catenary_server::ended() => bail!("interrupted"),
        };
        let played = tokio::select! {
            played = stage.play(folder.path(), output) => played.map(Some),
            () = catenary_server::ended() => Ok(None),
        };
        if !self.exit && matches!(played, Ok(Some(_))) {
            stage.invite(folder.path(), output);
            catenary_server::ended().await;
        }
        stage.clear().await;
        match played? {
            Some(true) => Ok(Exit::Allowed),
            Some(false) => Ok(Exit::Denied),
            None => bail!("interrupted"),
        }
    }
}

/// Where everything lies.
enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    /// A new folder, or one that is empty or an earlier demonstration's: this trusts the demonstration's keys.
    fn open(kept: Option<&Path>) -> Result<Self> {
        let folder = match kept {
            None => Self::Temporary(tempfile::Builder::new().prefix("catenary-demo-").tempdir()?),
            Some(path) => Self::Kept(std::path::absolute(path)?),
        };
        let path = folder.path();
        std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        let used = std::fs::read_dir(path)?.next().is_some();
        if used && !path.join(MARK).exists() {
            bail!("{} is in use and not by a demonstration; name another folder", path.display());
        }
        std::fs::write(path.join(MARK), "This folder may be deleted.\n")?;
        for stale in ["git", "registry", "layout"] {
            if path.join(stale).exists() {
                std::fs::remove_dir_all(path.join(stale))?;
            }
        }
        Ok(folder)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

/// The running service and the place for images.
struct Stage {
    server: Server,
    scratch: Option<Scratch>,
    place: Place,
    client: Client,
    url: String,
}

impl Stage {
    async fn set(demo: &Demo, folder: &Folder, output: &Output) -> Result<Self> {
        chapter(output, "The service");
        let begun = Instant::now();
        let secret = hex::encode(rand::<16>()?);
        let database_url = std::env::var("CATENARY_DATABASE_URL").ok().filter(|url| !url.is_empty());
        let mut config = Config {
            listen: demo.listen.clone(),
            data: folder.path().join("data"),
            database_url: database_url.clone().map(Secret::new),
            ..Config::default()
        };
        let registry = registry::free_address()?;
        if let Some(host) = &registry {
            config.registry.push(config::Registry {
                name: host.clone(),
                url: format!("http://{host}"),
                tenant: "default".into(),
                notification_token: Secret::new(secret.clone()),
                username: None,
                password: None,
            });
        }
        // What the URL names may be somebody's real log: a demonstration that keeps nothing makes its own database there.
        let scratch = match (database_url, folder, Rungs::from_env()?.url) {
            (Some(url), Folder::Temporary(_), true) => {
                Some(Scratch::make(&url, &format!("catenary_demo_{}", hex::encode(rand::<6>()?))).await?)
            }
            _ => None,
        };
        let started = match &scratch {
            Some(scratch) => {
                std::fs::create_dir_all(&config.data)?;
                Server::start_on(config, scratch.database()).await
            }
            None => Server::start(config).await,
        };
        let server = match started {
            Ok(server) => server,
            Err(error) => {
                remove(scratch).await;
                return Err(error.into());
            }
        };
        let url = format!("http://{}", server.address);
        done(output, &format!("listens on {url}, {}", server.database), begun);
        let client = Client::new(url.clone(), server.admin_token.clone(), &Tls::default())?;
        let begun = Instant::now();
        let (place, what) = match registry {
            Some(host) => match Registry::start(folder.path(), &host, &url, &secret).await {
                Ok(registry) => (
                    Place::Registry(registry),
                    format!("a real registry (docker-registry) on {host} reports pushes"),
                ),
                Err(error) => {
                    server.shutdown().await;
                    remove(scratch).await;
                    return Err(error);
                }
            },
            None => (
                Place::Layout(folder.path().join("layout")),
                "docker-registry is not installed: images go into OCI layouts, and a key attests the pushes"
                    .into(),
            ),
        };
        done(output, &what, begun);
        Ok(Self { server, scratch, place, client, url })
    }

    /// The honest chain, then the attacks; whether all went as it must.
    async fn play(&self, folder: &Path, output: &Output) -> Result<bool> {
        let (mut world, honest) = self.build(folder, output).await?;
        let image = world.name(APP, &honest)?;
        let verdict = world.ask(&image).await?;
        let mut good = verdict["outcome"] == "PASSED" && verdict["allowed"] == true;
        chapter(output, "The verdict");
        output.say(draw::verdict(&verdict).trim_end());
        if good {
            self.vsa(&image, output).await?;
        }
        let mut verdicts = vec![item("honest", &image, &verdict, codes(&verdict))];

        chapter(output, "A chain without a key");
        let begun = Instant::now();
        let keyless = Keyless::trust(&hex::encode(rand::<16>()?), &mut world).await?;
        done(output, "a certificate authority with logs and a clock, trusted as a root of its own", begun);
        for shown in keyless.show(&mut world).await? {
            good &= tell(&shown, output);
            verdicts.push(item(shown.name, &shown.image, &shown.verdict, codes(&shown.verdict)));
        }

        chapter(output, "Eight attacks, each beside its untouched twin");
        for attack in Attack::ALL {
            let begun = Instant::now();
            let caught = attack.run(&mut world, &honest).await.with_context(|| attack.name())?;
            let twin = world.ask(&image).await?;
            let holds = caught.holds(attack) && twin["outcome"] == "PASSED";
            good &= holds;
            let mark = if holds { paint(GOOD, "✓ caught") } else { paint(BAD, "✗ NOT CAUGHT") };
            output.say(format!(
                "  {mark}  {} {}",
                attack.story(),
                paint(DIM, format!("{} ms", begun.elapsed().as_millis()))
            ));
            let codes = caught.codes.join(", ");
            output.say(format!("           {} {codes}", draw::outcome(&caught.verdict)));
            if !holds {
                output.say(format!("           expected {}", attack.expected().join(" or ")));
            }
            output.say(format!("           {} twin {}", paint(DIM, "untouched"), draw::outcome(&twin)));
            verdicts.push(item(attack.name(), &caught.image, &caught.verdict, caught.codes));
        }
        let last = world.ask(&image).await?;
        let summary = json!({"verdicts": verdicts, "log": last["log"]});
        chapter(output, "The end");
        output.show(&summary, |_| {
            let word = if good {
                paint(GOOD, "All is as it should be.")
            } else {
                paint(BAD, "Something is not as it should be.")
            };
            format!(
                "  {word} The log has {} entries, root {}.",
                last["log"]["size"],
                short(string(&last["log"]["root"]))
            )
        });
        Ok(good)
    }

    /// Source, base, build, push: everything that the verdict rests on.
    async fn build<'a>(&'a self, folder: &Path, output: &Output) -> Result<(World<'a>, Index)> {
        chapter(output, "The chain: commit, build, push");
        let begun = Instant::now();
        let mut world = World::make(&self.client, &self.place, folder)?;
        let how = if world.source.by_git {
            "made by git, signed by ssh-keygen"
        } else {
            "git or ssh-keygen is missing: written without them"
        };
        done(
            output,
            &format!("a git repository with an SSH-signed commit {} ({how})", &world.source.commit[..12]),
            begun,
        );
        let begun = Instant::now();
        world.trust().await?;
        done(output, "five keys registered, three policies applied", begun);
        let begun = Instant::now();
        world.attest_sources().await?;
        done(output, "source evidence: the signed commits, who merged and who approved them", begun);
        let begun = Instant::now();
        world.release_base().await?;
        done(
            output,
            &format!(
                "a base image for two platforms, with a chain of its own: {}",
                short(&world.base.digest())
            ),
            begun,
        );
        let begun = Instant::now();
        let honest = world.build(&world.base, None)?;
        let statement = world.provenance(APP, &honest)?.statement();
        let envelope = world.keys.ci.envelope(&statement)?;
        world.attest(&envelope).await?;
        done(
            output,
            &format!(
                "the image, built from the commit for two platforms, with provenance: {}",
                honest.digest()
            ),
            begun,
        );
        let begun = Instant::now();
        let image = world.push(APP, "1.0.0", &honest).await?;
        done(output, &format!("pushed to {}", image.resource), begun);
        Ok((world, honest))
    }

    /// Gets the signed verdict and verifies it with nothing but its public key.
    async fn vsa(&self, image: &ImageReference, output: &Output) -> Result<()> {
        let path = format!("/v1/verdict?image={}&format=vsa", query(&image.to_string()));
        let request = self.client.request(reqwest::Method::GET, &path);
        let envelope = self.client.send(request).await?.bytes().await?;
        let request = self.client.request(reqwest::Method::GET, "/.well-known/catenary/vsa.pem");
        let pem = self.client.send(request).await?.text().await?;
        match super::vsa::verify(&envelope, &pem, Some(image), None)? {
            Ok(summary) => {
                let levels: Vec<String> =
                    summary.levels.iter().map(|(track, level)| format!("{track} {level}")).collect();
                output.say(format!(
                    "{} a signed verdict (VSA), verified offline: {}",
                    paint(GOOD, "✓"),
                    levels.join(", ")
                ));
                Ok(())
            }
            Err(why) => bail!("the signed verdict does not verify: {why}"),
        }
    }

    /// What to try while the server runs.
    fn invite(&self, folder: &Path, output: &Output) {
        let data = folder.join("data");
        output.say(format!(
            "\nThe server still runs at {}. In another terminal:\n\n  export CATENARY_SERVER={} CATENARY_DATA={}\n  catenary policy show demo-app\n  catenary key list\n  catenary log checkpoint\n  curl -H \"Authorization: Bearer $(cat {})\" {}/v1/attestations\n\nThe git repository, the images and the admin token are in {}. {}",
            self.url, self.url, data.display(), data.join("admin-token").display(), self.url, folder.display(), paint(WARN, "Ctrl-C ends it.")
        ));
    }

    async fn clear(self) {
        self.place.stop().await;
        self.server.shutdown().await;
        remove(self.scratch).await;
    }
}

/// Drops the demonstration's own database; one that stays behind is harmless.
async fn remove(scratch: Option<Scratch>) {
    if let Some(scratch) = scratch
        && let Err(error) = scratch.remove().await
    {
        tracing::warn!(%error, "the demonstration's database stays behind");
    }
}

/// Shows a keyless chain; whether the verdict is as it must be.
fn tell(shown: &Shown, output: &Output) -> bool {
    let codes = codes(&shown.verdict);
    let holds = match shown.expected {
        None => shown.verdict["outcome"] == "PASSED" && shown.verdict["allowed"] == true,
        Some(code) => shown.verdict["allowed"] == false && codes.iter().any(|known| known == code),
    };
    let mark = if holds { paint(GOOD, "✓") } else { paint(BAD, "✗") };
    output.say(format!("  {mark} {}", shown.story));
    output.say(format!("           {} {}", draw::outcome(&shown.verdict), codes.join(", ")));
    holds
}

/// One line of the result, for machines.
fn item(name: &str, image: &ImageReference, verdict: &Value, codes: Vec<String>) -> Value {
    json!({
        "name": name,
        "image": image.to_string(),
        "outcome": verdict["outcome"],
        "allowed": verdict["allowed"],
        "codes": codes,
    })
}

fn chapter(output: &Output, title: &str) {
    output.say(format!("\n{}", paint(anstyle::Style::new().bold(), title)));
}

fn done(output: &Output, what: &str, begun: Instant) {
    output.say(format!(
        "  {} {what} {}",
        paint(GOOD, "✓"),
        paint(DIM, format!("{} ms", begun.elapsed().as_millis()))
    ));
}

fn rand<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    Ok(bytes)
}
