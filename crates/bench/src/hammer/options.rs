//! What was asked for on the command line.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9 of an instance.
    Kill,
    /// Postgres dies or is started again.
    Postgres,
    /// The wire between an instance and Postgres.
    Network,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything random comes from here.
    pub seed: u64,
    /// Ends early when so many new leaves are acknowledged; a run that does not get there fails.
    pub goal: Option<u64>,
    /// How long the roles play.
    pub max_runtime: Duration,
    /// What strikes.
    pub faults: BTreeSet<Kind>,
    /// Instances of the service.
    pub instances: usize,
    /// One JSON document instead of lines.
    pub json: bool,
}

/// For people who ask.
pub const USAGE: &str = "usage: bench hammer [--seed N] [--goal N] [--max-runtime SECONDS] \
[--faults all|none|kill,postgres,network] [--instances 1..3] [--output json]";

impl Options {
    /// Reads the arguments.
    pub fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            seed: fastrand::u64(..) >> 16,
            goal: None,
            max_runtime: Duration::from_secs(60),
            faults: kinds("all")?,
            instances: 2,
            json: false,
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let value = rest.next().with_context(|| format!("{name} needs a value\n{USAGE}"))?;
            let number = || value.parse::<u64>().with_context(|| format!("{name} {value} is not a number"));
            match name.as_str() {
                "--seed" => options.seed = number()?,
                "--goal" => options.goal = Some(number()?),
                "--max-runtime" => options.max_runtime = Duration::from_secs(number()?),
                "--faults" => options.faults = kinds(value)?,
                "--instances" => options.instances = number()?.clamp(1, 3) as usize,
                "--output" => options.json = value == "json",
                _ => bail!("{name} is not known\n{USAGE}"),
            }
        }
        Ok(options)
    }
}

fn kinds(text: &str) -> Result<BTreeSet<Kind>> {
    let kind = |name: &str| match name {
        "kill" => Ok(Kind::Kill),
        "postgres" => Ok(Kind::Postgres),
        "network" => Ok(Kind::Network),
        _ => bail!("there are no faults {name}\n{USAGE}"),
    };
    match text {
        "all" => Ok([Kind::Kill, Kind::Postgres, Kind::Network].into()),
        "none" => Ok(BTreeSet::new()),
        some => some.split(',').map(kind).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read() -> Result<()> {
        let options = read("--seed 7 --goal 2500 --max-runtime 9 --faults kill,network --output json")?;
        assert_eq!((options.seed, options.goal, options.json), (7, Some(2500), true));
        assert_eq!(options.faults, [Kind::Kill, Kind::Network].into());
        assert_eq!(options.max_runtime, Duration::from_secs(9));
        assert!(read("--faults none")?.faults.is_empty());
        for bad in ["--seed x", "--faults flood", "--seed", "--what 1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        Ok(())
    }
}
