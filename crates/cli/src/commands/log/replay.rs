//! `catenary log replay`: every recorded verdict computed again from an export, with no service.
//!
//! 1. The chains of decisions: each batch follows the one in front, the end is the signed one.
//! 2. The log, entry by entry: each body is its leaf's, the leaves give the root of the signed checkpoint.
//! 3. At each size at which a verdict was computed: all evidence verified from its bytes, control state folded, the question
//!    evaluated at the verdict's `asOf`, and the bytes compared.
//! 4. Every verdict that a decision names is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_chain::{ENGINE, Question, verdict};
use catenary_evidence::{Sha256, object::Platform};
use catenary_store::{
    decisions::{Batch, Record, START},
    replay::Replay as Log,
};
use catenary_tlog::{Checkpoint, Verifier};
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::export::{CHECKPOINT, DECISIONS, ENTRIES, HEAD, VERDICTS};
use crate::{
    exit::Exit,
    output::{BAD, GOOD, Output, WARN, paint},
};

/// Differences that are named; all are counted.
const NAMED: usize = 100;
/// Verdicts that are computed together.
const TOGETHER: usize = 256;

/// Replay an export.
#[derive(Args)]
pub struct Replay {
    /// The folder that `log export` wrote.
    folder: PathBuf,
    /// The log's public key (`name+hash+key`), known from elsewhere. Without it the keys that the export names are used.
    #[arg(long)]
    log_key: Option<String>,
}

/// The first file.
#[derive(Deserialize)]
struct Head {
    v: u32,
    tenant: String,
    origin: String,
    size: u64,
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    index: u64,
    leaf: String,
    body: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum DecisionLine {
    Chain { instance: String, note: String },
    Batch { instance: String, number: u64, previous: String, time: Timestamp, records: String },
}

#[derive(Deserialize)]
struct VerdictLine {
    size: u64,
    text: String,
}

/// What of a recorded verdict must be known to compute it again, whichever engine wrote it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    subject: Subject,
    context: BTreeMap<String, String>,
    log: catenary_chain::verdict::LogView,
    engine: String,
    as_of: Timestamp,
}

#[derive(Deserialize)]
struct Subject {
    digest: String,
    resource: String,
    platform: Option<String>,
}

/// What was found.
#[derive(Default)]
struct Found {
    replayed: u64,
    same: u64,
    different: u64,
    other_engine: u64,
    answers: u64,
    gaps: Vec<Value>,
    differences: Vec<Value>,
}

impl Replay {
    /// Runs it.
    pub fn run(self, output: &Output) -> Result<Exit> {
        let head: Head = serde_json::from_str(&self.read(HEAD)?).context(HEAD)?;
        ensure!(head.v == 1, "this version reads exports of version 1, not {}", head.v);
        let (keys, source) = match &self.log_key {
            Some(key) => (vec![key.parse::<Verifier>().context("--log-key")?], "given"),
            None => (head.keys.iter().map(|key| key.parse()).collect::<Result<_, _>>()?, "export"),
        };
        let checkpoint =
            Checkpoint::open(&self.read(CHECKPOINT)?, &head.origin, &keys).context(CHECKPOINT)?;
        ensure!(
            checkpoint.size == head.size,
            "the checkpoint is of {} entries, not {}",
            checkpoint.size,
            head.size
        );
        let mut found = Found::default();
        let named = self.decisions(&head, &keys, &mut found)?;
        self.verdicts(&checkpoint, &named, &mut found)?;
        let report = json!({
            "tenant": head.tenant, "origin": head.origin, "entries": checkpoint.size, "root": checkpoint.root.to_string(),
            "logKey": source, "answers": found.answers, "replayed": found.replayed, "same": found.same,
            "different": found.different, "otherEngine": found.other_engine, "gaps": found.gaps,
            "differences": found.differences,
        });
        output.show(&report, |_| text(&found, &checkpoint, source));
        Ok(if found.different == 0 { Exit::Allowed } else { Exit::Denied })
    }

    fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.folder.join(name))
            .with_context(|| self.folder.join(name).display().to_string())
    }

    fn lines<T: DeserializeOwned>(&self, name: &'static str) -> Result<Reader<T>> {
        Reader::open(&self.folder, name)
    }

    /// Checks the chains; the verdicts that they name.
    fn decisions(&self, head: &Head, keys: &[Verifier], found: &mut Found) -> Result<BTreeSet<Sha256>> {
        let mut named = BTreeSet::new();
        let mut ends: HashMap<String, (Checkpoint, u64, Sha256)> = HashMap::new();
        let mut lines = self.lines::<DecisionLine>(DECISIONS)?;
        while let Some(line) = lines.next()? {
            match line {
                DecisionLine::Chain { instance, note } => {
                    let origin = format!("{}/decisions/{instance}", head.origin);
                    let end = Checkpoint::open(&note, &origin, keys)
                        .with_context(|| format!("chain {instance}"))?;
                    ensure!(
                        ends.insert(instance.clone(), (end, 0, START)).is_none(),
                        "two chains {instance}"
                    );
                }
                DecisionLine::Batch { instance, number, previous, time, records } => {
                    let place = format!("batch {number} of chain {instance}");
                    let end = ends.get_mut(&instance).with_context(|| format!("{place} has no chain"))?;
                    ensure!(
                        (number, previous) == (end.1 + 1, end.2.to_string()),
                        "{place} does not follow the one in front: decisions were removed or changed"
                    );
                    let (tenant, previous) = (head.tenant.clone(), end.2);
                    let batch =
                        Batch { tenant, instance, number, previous, time, records: records.into_bytes() };
                    (end.1, end.2) = (batch.number, batch.hash());
                    for record in batch.read().map_err(|why| anyhow!("{place}: {why}"))? {
                        note(record, &mut named, found);
                    }
                }
            }
        }
        for (instance, (end, number, hash)) in ends {
            ensure!(
                (end.size, end.root.0) == (number, hash.0),
                "chain {instance} does not end as it was signed: decisions were removed or changed"
            );
        }
        Ok(named)
    }

    /// Folds the log, and computes each verdict at its size.
    fn verdicts(&self, checkpoint: &Checkpoint, named: &BTreeSet<Sha256>, found: &mut Found) -> Result<()> {
        let mut log = Log::default();
        let mut entries = self.lines::<Entry>(ENTRIES)?;
        let mut lines = self.lines::<VerdictLine>(VERDICTS)?;
        let mut missing = named.clone();
        let mut next = lines.next()?;
        while let Some(first) = next.take() {
            let size = first.size;
            ensure!(size >= log.size(), "the verdicts are not in the order of their log sizes");
            ensure!(
                size <= checkpoint.size,
                "a verdict was computed at {size} entries, beyond the checkpoint"
            );
            push_until(&mut log, &mut entries, size)?;
            log.settle();
            let mut together = vec![first];
            next = lines.next()?;
            while next.as_ref().is_some_and(|line| line.size == size) && together.len() < TOGETHER {
                together.extend(next.take());
                next = lines.next()?;
            }
            for line in &together {
                if let Some(id) = verdict::id_of(line.text.as_bytes()) {
                    missing.remove(&id);
                }
            }
            judge(&log, &together, found);
        }
        push_until(&mut log, &mut entries, checkpoint.size)?;
        ensure!(entries.next()?.is_none(), "there are entries beyond the checkpoint");
        ensure!(
            log.root() == checkpoint.root && log.origin() == checkpoint.origin,
            "the entries do not give the root of the signed checkpoint"
        );
        for id in missing {
            found
                .differs(json!({ "verdict": id, "why": "a decision names it, and it is not in the export" }));
        }
        Ok(())
    }
}

fn note(record: Record, named: &mut BTreeSet<Sha256>, found: &mut Found) {
    match record {
        Record::Decision(decision) => {
            found.answers += decision.count;
            if decision.kept {
                named.insert(decision.verdict);
            }
        }
        Record::Gap { from, to, why, count } => {
            found.gaps.push(json!({ "from": from, "to": to, "why": why, "count": count }));
        }
        Record::Start { .. } | Record::Stop { .. } => {}
    }
}

fn push_until(log: &mut Log, entries: &mut Reader<Entry>, size: u64) -> Result<()> {
    while log.size() < size {
        let entry = entries.next()?.with_context(|| format!("entry {} is missing", log.size()))?;
        ensure!(entry.index == log.size(), "entry {} stands where {} should", entry.index, log.size());
        let decode = |text: &str| STANDARD.decode(text).with_context(|| format!("entry {}", entry.index));
        let body =
            entry.body.as_deref().with_context(|| format!("the body of entry {} is gone", entry.index))?;
        log.push(entry.index, &decode(&entry.leaf)?, &decode(body)?)?;
    }
    Ok(())
}

/// Computes verdicts of one size, on every processor.
fn judge(log: &Log, lines: &[VerdictLine], found: &mut Found) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(lines.len());
    let part = lines.len().div_ceil(workers.max(1));
    let results: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let parts: Vec<_> = lines
            .chunks(part.max(1))
            .map(|chunk| scope.spawn(move || chunk.iter().map(|line| again(log, line)).collect::<Vec<_>>()))
            .collect();
        // A thread that panicked is a difference that names nothing.
        parts
            .into_iter()
            .flat_map(|part| {
                part.join().unwrap_or_else(|_| vec![Err(anyhow!("a verdict cannot be computed"))])
            })
            .collect()
    });
    for result in results {
        match result {
            Ok(Outcome::OtherEngine) => found.other_engine += 1,
            Ok(Outcome::Same) => {
                found.replayed += 1;
                found.same += 1;
            }
            Ok(Outcome::Different(difference)) => {
                found.replayed += 1;
                found.differs(difference);
            }
            Err(why) => {
                found.replayed += 1;
                found.differs(json!({ "why": format!("{why:#}") }));
            }
        }
    }
}

enum Outcome {
    Same,
    Different(Value),
    OtherEngine,
}

/// Computes one verdict again.
fn again(log: &Log, line: &VerdictLine) -> Result<Outcome> {
    let bytes = line.text.as_bytes();
    let id = verdict::id_of(bytes).context("a verdict is not what its id says: it was changed")?;
    let recorded: Recorded = serde_json::from_slice(bytes).with_context(|| id.to_string())?;
    let at = (recorded.log.size, recorded.log.root.0);
    if at != (log.size(), log.root().0) || at.0 != line.size {
        let why = "it names another log: another size or root";
        return Ok(Outcome::Different(json!({ "verdict": id, "why": why })));
    }
    if recorded.engine != ENGINE {
        return Ok(Outcome::OtherEngine);
    }
    let question = recorded.question().with_context(|| id.to_string())?;
    let computed = log.verdicts(&question, recorded.as_of);
    if computed.iter().any(|verdict| verdict.to_json_bytes() == bytes) {
        return Ok(Outcome::Same);
    }
    let first = computed.first().map(|verdict| verdict.to_json_bytes()).unwrap_or_default();
    Ok(Outcome::Different(json!({
        "verdict": id,
        "image": question.image,
        "why": "the log gives another verdict",
        "members": members(bytes, &first),
    })))
}

/// The members that differ.
fn members(recorded: &[u8], computed: &[u8]) -> Vec<String> {
    let read = |bytes: &[u8]| serde_json::from_slice::<BTreeMap<String, Value>>(bytes).unwrap_or_default();
    let (recorded, computed) = (read(recorded), read(computed));
    let names: BTreeSet<&String> = recorded.keys().chain(computed.keys()).collect();
    names.into_iter().filter(|name| recorded.get(*name) != computed.get(*name)).cloned().collect()
}

impl Recorded {
    fn question(&self) -> Result<Question> {
        let mut context = self.context.clone();
        let environment = context.remove("environment");
        Ok(Question {
            image: format!("{}@{}", self.subject.resource, self.subject.digest).parse()?,
            environment,
            platform: self.subject.platform.as_deref().map(platform).transpose()?,
            context,
        })
    }
}

/// `os/architecture[/variant]`
fn platform(text: &str) -> Result<Platform> {
    let mut parts = text.split('/').map(str::to_owned);
    let (Some(os), Some(architecture), variant, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("{text} is not os/architecture[/variant]");
    };
    Ok(Platform { os, architecture, variant })
}

impl Found {
    fn differs(&mut self, difference: Value) {
        self.different += 1;
        if self.differences.len() < NAMED {
            self.differences.push(difference);
        }
    }
}

fn text(found: &Found, checkpoint: &Checkpoint, source: &str) -> String {
    let mut lines: Vec<String> =
        found.differences.iter().map(|d| format!("{} {d}", paint(BAD, "differs"))).collect();
    for gap in &found.gaps {
        let (from, to) = (gap["from"].as_str().unwrap_or_default(), gap["to"].as_str().unwrap_or_default());
        lines.push(format!(
            "{} answers between {from} and {to} may be missing: {}",
            paint(WARN, "gap"),
            gap["why"]
        ));
    }
    if source == "export" {
        lines.push(format!(
            "{} the log's key is the one that the export names; compare it, or pass --log-key",
            paint(WARN, "note")
        ));
    }
    let style = if found.different == 0 { GOOD } else { BAD };
    lines.push(format!(
        "{} entries under a signed checkpoint, {} answers recorded",
        checkpoint.size, found.answers
    ));
    let sum = format!(
        "replayed {}, same {}, different {}, other engine {}",
        found.replayed, found.same, found.different, found.other_engine
    );
    lines.push(paint(style, sum));
    lines.join("\n")
}

/// JSON Lines, one at a time.
struct Reader<T> {
    name: &'static str,
    number: u64,
    lines: Lines<BufReader<File>>,
    of: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Reader<T> {
    fn open(folder: &Path, name: &'static str) -> Result<Self> {
        let file = File::open(folder.join(name)).with_context(|| folder.join(name).display().to_string())?;
        Ok(Self { name, number: 0, lines: BufReader::new(file).lines(), of: std::marker::PhantomData })
    }

    fn next(&mut self) -> Result<Option<T>> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.number += 1;
        let place = || format!("{} line {}", self.name, self.number);
        serde_json::from_str(&line.with_context(place)?).with_context(place).map(Some)
    }
}
