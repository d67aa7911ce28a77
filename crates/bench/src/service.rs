//! The service, driven over HTTP, with Postgres and the load generator on the same cores.

mod cases;
pub mod ceiling;
mod client;
mod data;
mod report;
mod stage;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

/// What was asked for.
#[derive(Debug)]
struct Options {
    size: u64,
    folder: Option<PathBuf>,
    only: Option<String>,
    json: bool,
    /// Where the page and its plot are written.
    page: Option<PathBuf>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Self { size: 1_000_000, folder: None, only: None, json: false, page: None };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--size" => options.size = value.replace('_', "").parse()?,
                "--data" => options.folder = Some(PathBuf::from(value)),
                "--case" => options.only = Some(value.clone()),
                "--page" => options.page = Some(PathBuf::from(value)),
                "--output" => options.json = value == "json",
                other => bail!("there is no option {other}"),
            }
        }
        Ok(options)
    }
}

/// `all [--size N] [--data FOLDER] [--case NAME,…] [--output json|text] [--page docs/benchmarks.md]`
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::read(arguments)?;
    let scratch = tempfile::tempdir()?;
    // A folder that is named keeps its data for another run.
    let folder = options.folder.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(cases::run(&folder, options.size, options.only.as_deref()))?;
    if let Some(page) = &options.page {
        let plot = page.with_extension("svg");
        let name = plot.file_name().unwrap_or_default().to_string_lossy();
        std::fs::write(page, report.page(options.size, &name))?;
        std::fs::write(&plot, report.plot())?;
    }
    if options.json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.table());
    }
    Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
