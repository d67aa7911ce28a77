//! The cases, each against its ceiling.

mod impact;
mod ingest;
mod log;
mod reevaluation;
mod verdicts;
mod whole;

use std::path::Path;

use anyhow::{Result, ensure};

use super::{
    ceiling::Ceiling,
    client::{Drive, Requests, Sample, drive, get},
    report::{Figures, Report},
    stage::Stage,
    usage,
};

/// Attestations of the smallest data set that can be cut in three.
const LEAST: u64 = 2_000;

/// Both sides of every comparison, in one place.
pub struct Bench {
    /// With the whole data set.
    pub large: Stage,
    /// With a tenth of it.
    pub middle: Stage,
    /// With a hundredth of it.
    pub small: Stage,
    /// On the whole data set.
    pub ceiling: Ceiling,
}

/// Runs every case, or those whose name begins so (several with commas between them). One that cannot be measured takes
/// nothing from the others.
pub async fn run(folder: &Path, size: u64, only: Option<&str>) -> Result<Report> {
    let wanted = |name: &str| only.is_none_or(|only| only.split(',').any(|only| name.starts_with(only)));
    ensure!(size >= LEAST, "--size is at least {LEAST}");
    let open = async |size: u64| Stage::open(&folder.join(size.to_string()), size).await;
    let large = open(size).await?;
    // Each has a folder of its own, however little there is.
    let middle = open((size / 10).max(LEAST / 2)).await?;
    let small = open((size / 100).max(LEAST / 4)).await?;
    let files = folder.join("files");
    std::fs::create_dir_all(&files)?;
    verdicts::save(&large, &files).await?;
    log::save(&large, &files).await?;
    let ceiling = Ceiling::start(&large.url, &folder.join(size.to_string()), &files).await?;
    let mut bench = Bench { large, middle, small, ceiling };
    let mut report = Report::default();
    macro_rules! case {
        ($name:literal, $run:expr) => {
            if wanted($name) {
                report.add($name, $run.await);
            }
        };
    }
    case!("verdict repeated", verdicts::repeated(&bench));
    case!("verdict first", verdicts::first(&bench));
    case!("verdict growth", verdicts::growth(&bench));
    case!("verdict batch", verdicts::batch(&bench));
    case!("ingest plain", ingest::plain(&bench));
    case!("ingest growth", ingest::growth(&bench));
    case!("ingest keyless", ingest::keyless(&bench));
    case!("log", log::reads(&bench));
    case!("impact", impact::of_a_key(&bench));
    case!("start", whole::start(&mut bench));
    case!("memory", whole::memory(&mut bench));
    case!("re-evaluation", reevaluation::run(&mut bench));
    Ok(report)
}

impl Bench {
    /// The data sets, smallest first.
    pub fn by_size(&self) -> [&Stage; 3] {
        [&self.small, &self.middle, &self.large]
    }
}

/// Runs both sides in turn, so that what disturbs the machine disturbs both.
pub async fn in_turn(own: Side<'_>, other: Side<'_>, rounds: usize) -> Result<(Figures, Figures)> {
    let (mut own_all, mut other_all) = (Tally::default(), Tally::default());
    for _ in 0..rounds {
        own_all.add(&own).await?;
        other_all.add(&other).await?;
    }
    Ok((own_all.figures(), other_all.figures()))
}

/// One side of a comparison.
pub struct Side<'a> {
    /// How it is driven.
    pub drive: Drive,
    /// What is asked.
    pub requests: Requests,
    /// Whose processor time counts.
    pub pids: Vec<u32>,
    /// And the database server's behind this one.
    pub database: Option<&'a Stage>,
    /// Whose memory is reported.
    pub stage: Option<&'a Stage>,
}

impl Side<'_> {
    /// Microseconds so far; the database's connections as they are now, some of them new.
    fn cpu(&self) -> u64 {
        let backends = self.database.map(Stage::backends).unwrap_or_default();
        usage::cpu(&[&self.pids[..], &backends].concat())
    }
}

/// Several runs together.
#[derive(Default)]
pub struct Tally {
    samples: Vec<Sample>,
    cpu: u64,
    rss: Option<u64>,
}

impl Tally {
    /// Runs a side once more.
    pub async fn add(&mut self, side: &Side<'_>) -> Result<()> {
        let before = side.cpu();
        let sample = drive(side.drive, side.requests.clone()).await?;
        self.cpu += side.cpu().saturating_sub(before);
        ensure!(sample.odd.0 == 0, "{} answers of status {:?}", sample.odd.0, sample.odd.1);
        self.rss = side.stage.map(|stage| stage.app.process.resident());
        self.samples.push(sample);
        Ok(())
    }

    /// What all runs together say.
    pub fn figures(self) -> Figures {
        let answers: usize = self.samples.iter().map(Sample::answers).sum();
        let mut figures = Figures::of(&Sample::together(self.samples));
        figures.cpu = Some(self.cpu as f64 / answers.max(1) as f64);
        figures.rss = self.rss;
        figures
    }
}

/// `GET`s of one path after the other, again from the start.
pub fn round_robin(paths: Vec<String>, token: Option<&str>) -> Requests {
    let requests: Vec<Vec<u8>> = paths.iter().map(|path| get(path, token)).collect();
    std::sync::Arc::new(move |n| Some(requests[n as usize % requests.len()].clone()))
}
