//! What trusted VEX documents say of an image: which findings they excuse, and what they say affects it.
//!
//! The two questions are asked with opposite caution. A finding is excused only by a statement that plainly is about it;
//! a vulnerability affects the image unless the statement plainly is about something else.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, Node, Sha256},
    predicate::{Claim, Finding, VexProduct, VexStatement, VexStatus},
    purl::{self, Purl},
};
use jiff::Timestamp;

use crate::policy::property::VexRule;

use super::{
    voice,
    world::{Statement, World},
};

/// The image that statements are compared with.
pub struct Image {
    /// The image, and the indexes that hold it.
    pub whole: BTreeSet<Digest>,
    /// Its platforms.
    pub parts: BTreeSet<Digest>,
    /// Its repository.
    pub resource: String,
}

impl Image {
    pub fn new(digests: impl IntoIterator<Item = Digest>, parts: &[Digest], resource: &str) -> Self {
        let resource = resource.to_owned();
        Self { whole: digests.into_iter().collect(), parts: parts.iter().copied().collect(), resource }
    }

    /// Whether a name without a digest is that of its repository, or of the last part of it where nobody says whose.
    fn is_called(&self, name: &str, repository: Option<&str>) -> bool {
        let Some(repository) = repository else { return self.resource.rsplit('/').next() == Some(name) };
        let repository = repository.trim_start_matches("https://").trim_end_matches('/');
        self.resource == repository || self.resource == format!("{repository}/{name}")
    }

    fn holds(&self, digest: &str) -> bool {
        digest.parse().is_ok_and(|digest: Digest| self.whole.contains(&digest))
    }
}

/// Most different statements that are compared with each other.
const MAX_VOICES: usize = 20_000;

/// One statement, by whom, since when.
struct Voice<'a> {
    who: String,
    statement: &'a VexStatement,
    says: Says,
    at: Timestamp,
    document: Sha256,
    /// The nodes of the image, or the commits, that the document is about.
    nodes: BTreeSet<Node>,
    /// Whether the whole image is among them, not platforms of it alone.
    of_whole: bool,
}

/// What makes two statements of different moments the same.
type Key<'a> = (String, &'a [String], &'a [VexProduct], BTreeSet<Node>, Says);

/// Everything that trusted documents say.
pub struct Heard<'a> {
    voices: Vec<Voice<'a>>,
    by_name: BTreeMap<&'a str, Vec<usize>>,
    /// Whether a document says more than was kept.
    pub more: bool,
    /// The documents.
    pub documents: BTreeSet<Sha256>,
}

/// A vulnerability that affects the image.
pub struct Affects {
    pub vulnerability: String,
    pub document: Sha256,
}

/// Reads the documents among `statements` that count for one of the rules.
pub fn hear<'a>(
    world: &World<'a>,
    statements: impl IntoIterator<Item = &'a Statement>,
    rules: &[&VexRule],
    image: &Image,
) -> Heard<'a> {
    let mut speakers: BTreeMap<Sha256, (&'a Statement, BTreeSet<String>)> = BTreeMap::new();
    for statement in statements {
        for rule in rules {
            let by = world.signatures_of(statement, &rule.signer, rule.valid_from, rule.valid_until);
            let names: BTreeSet<String> =
                by.into_iter().map(|by| voice::name_of(world, &by.signer)).collect();
            speakers.entry(statement.fact.id).or_insert((statement, BTreeSet::new())).1.extend(names);
        }
    }
    listen(world, speakers.into_values(), image)
}

/// The same, when it is known already who stands behind each document.
pub fn listen<'a>(
    world: &World<'a>,
    documents: impl IntoIterator<Item = (&'a Statement, BTreeSet<String>)>,
    image: &Image,
) -> Heard<'a> {
    let (mut more, mut heard) = (false, BTreeSet::new());
    // A statement that is repeated every day is one statement.
    let mut latest: BTreeMap<Key<'a>, Voice<'a>> = BTreeMap::new();
    for (statement, names) in documents {
        let Claim::Vex(vex) = &statement.fact.claim else { continue };
        let existed = world.existed_at(statement);
        let whole = |node: &Node| matches!(node, Node::Content(digest) if image.whole.contains(digest));
        let mut nodes: BTreeSet<Node> = statement.fact.subject_nodes().into_iter().collect();
        nodes.retain(|node| match node {
            Node::Content(digest) => image.whole.contains(digest) || image.parts.contains(digest),
            Node::Git(_) => true,
        });
        for who in names {
            more |= vex.statements.more;
            heard.insert(statement.fact.id);
            for said in &vex.statements.list {
                let voice = Voice {
                    who: who.clone(),
                    statement: said,
                    says: Says::of(said),
                    at: said.issued.map_or(existed, |issued| issued.min(existed)),
                    document: statement.fact.id,
                    of_whole: nodes.iter().any(whole),
                    nodes: nodes.clone(),
                };
                let key = (who.clone(), &said.names[..], &said.products[..], nodes.clone(), voice.says);
                if latest.len() >= MAX_VOICES && !latest.contains_key(&key) {
                    more = true;
                } else if latest.get(&key).is_none_or(|known| known.at < voice.at) {
                    latest.insert(key, voice);
                }
            }
        }
    }
    let voices: Vec<Voice<'a>> = latest.into_values().collect();
    let mut by_name: BTreeMap<&'a str, Vec<usize>> = BTreeMap::new();
    for (index, voice) in voices.iter().enumerate() {
        for name in &voice.statement.names {
            by_name.entry(name).or_default().push(index);
        }
    }
    Heard { voices, by_name, more, documents: heard }
}

impl Heard<'_> {
    /// Whether the finding does not count: under its id, or under each of its other names.
    pub fn excuses(&self, finding: &Finding, image: &Image) -> bool {
        let under = |name: &String| self.excused_as(name, finding, image);
        let aliases = || finding.aliases.iter();
        let blocked = std::iter::once(&finding.id).chain(aliases()).any(|name| under(name) == Some(false));
        !blocked
            && (under(&finding.id) == Some(true)
                || !finding.aliases.is_empty() && aliases().all(|name| under(name) == Some(true)))
    }

    /// What the latest statement of each voice about a name says of the finding. `Some(false)`: somebody says that it is one.
    fn excused_as(&self, name: &str, finding: &Finding, image: &Image) -> Option<bool> {
        // Of several at one moment the worst.
        let mut latest: BTreeMap<&str, (Timestamp, Says)> = BTreeMap::new();
        for voice in self.named(name) {
            let about = match voice.says {
                Says::Excused => plainly_about(voice.statement, finding, image),
                Says::Nothing | Says::Affected => maybe_about(voice.statement, finding, image),
            };
            if about {
                let this = (voice.at, voice.says);
                let best = latest.entry(&voice.who).or_insert(this);
                *best = this.max(*best);
            }
        }
        let any = |wanted: Says| latest.values().any(|(_, says)| *says == wanted);
        match (any(Says::Affected), any(Says::Excused)) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Voice<'_>> {
        let indexes = self.by_name.get(name).filter(|_| !name.is_empty());
        indexes.into_iter().flatten().filter_map(|index| self.voices.get(*index))
    }

    /// What affects the image, each vulnerability once, by its first name.
    pub fn affected(&self, image: &Image) -> Vec<Affects> {
        let mut found: BTreeMap<&str, Sha256> = BTreeMap::new();
        for voice in self.voices.iter().filter(|v| v.says == Says::Affected) {
            let products = &voice.statement.products;
            let elsewhere = !products.is_empty() && products.iter().all(|p| is_other_image(p, image));
            let mut namesakes = voice.statement.names.iter().flat_map(|name| self.named(name));
            if !elsewhere && !namesakes.any(|later| takes_back(later, voice, image)) {
                let name = voice.statement.names.first().map_or("", String::as_str);
                found.entry(name).or_insert(voice.document);
            }
        }
        let affects = |(name, document): (&str, Sha256)| Affects { vulnerability: name.to_owned(), document };
        found.into_iter().map(affects).collect()
    }
}

/// What a statement says of a finding, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    /// It is none, and a machine can tell why.
    Excused,
    /// Nothing that changes anything.
    Nothing,
    /// It is one.
    Affected,
}

impl Says {
    fn of(statement: &VexStatement) -> Self {
        match statement.status {
            VexStatus::Fixed => Self::Excused,
            VexStatus::NotAffected if statement.justification.is_some() => Self::Excused,
            VexStatus::NotAffected | VexStatus::UnderInvestigation => Self::Nothing,
            VexStatus::Affected => Self::Affected,
        }
    }
}

/// Whether `later` says of everything that `earlier` speaks of that it is mended or was never affected.
fn takes_back(later: &Voice<'_>, earlier: &Voice<'_>, image: &Image) -> bool {
    let (new, old) = (later.statement, earlier.statement);
    let covers = |product: &VexProduct| {
        new.products.is_empty()
            || new.products.iter().any(|other| {
                let same = other.names.iter().any(|name| product.names.contains(name));
                let parts = match (&other.parts, &product.parts) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(these), Some(those)) => those.iter().all(|part| these.contains(part)),
                };
                (same || is_image(other, image) && is_image(product, image)) && parts
            })
    };
    let covers_all = match old.products.as_slice() {
        [] => new.products.is_empty() || new.products.iter().any(|p| is_image(p, image) && p.parts.is_none()),
        products => products.iter().all(covers),
    };
    later.who == earlier.who
        && later.at > earlier.at
        && later.says == Says::Excused
        && (later.of_whole || earlier.nodes.is_subset(&later.nodes))
        && covers_all
}

/// What a name of a product says.
enum Named {
    /// An image of this digest.
    Image(String),
    /// An image of this name, whichever, in this repository when one is said (`repository_url`).
    AnyImage(String, Option<String>),
    /// A package.
    Package(Purl),
    /// Nothing that is understood.
    Nothing,
}

fn read(name: &str) -> Named {
    if let Ok(purl) = Purl::parse(name) {
        let package = purl.package();
        let is_image = package.starts_with("pkg:oci/") || package.starts_with("pkg:docker/");
        return match (is_image, purl.version()) {
            (true, Some(version)) if version.contains(':') => Named::Image(version.to_owned()),
            (true, None) => {
                let mut all = purl::qualifiers(name).into_iter();
                let at = all.find(|(name, _)| name == "repository_url").map(|(_, value)| value);
                Named::AnyImage(purl.name().to_owned(), at)
            }
            (true, Some(_)) => Named::Nothing,
            (false, _) => Named::Package(purl),
        };
    }
    let digest = name.rsplit_once('@').map_or(name, |(_, digest)| digest);
    match digest.parse::<Digest>() {
        Ok(digest) => Named::Image(digest.to_string()),
        Err(_) => Named::Nothing,
    }
}

/// Whether a product plainly is the image.
fn is_image(product: &VexProduct, image: &Image) -> bool {
    product.names.iter().any(|name| match read(name) {
        Named::Image(digest) => image.holds(&digest),
        Named::AnyImage(name, at) => image.is_called(&name, at.as_deref()),
        Named::Package(_) | Named::Nothing => false,
    })
}

/// Whether a product plainly is another image.
fn is_other_image(product: &VexProduct, image: &Image) -> bool {
    let other = |name: &String| match read(name) {
        Named::Image(digest) => {
            let part = digest.parse().is_ok_and(|digest: Digest| image.parts.contains(&digest));
            !part && !image.holds(&digest)
        }
        Named::AnyImage(..) | Named::Package(_) | Named::Nothing => false,
    };
    product.names.iter().any(other) && !is_image(product, image)
}

/// Whether a name is the package of a finding: any version of it, or this one.
fn is_package(name: &str, finding: &Finding) -> bool {
    let Named::Package(purl) = read(name) else { return false };
    Purl::parse(&finding.package).is_ok_and(|found| {
        purl.package() == found.package()
            && purl.version().is_none_or(|version| found.version() == Some(version))
    })
}

/// Whether a name plainly is the package of a finding. Findings do not say their qualifiers: a name that means some of all
/// versions, those of a distribution for example, may mean another package.
fn is_plainly(name: &str, finding: &Finding) -> bool {
    let narrow =
        || !purl::qualifiers(name).is_empty() && Purl::parse(name).is_ok_and(|p| p.version().is_none());
    is_package(name, finding) && !narrow()
}

fn plainly_about(statement: &VexStatement, finding: &Finding, image: &Image) -> bool {
    let about = |product: &VexProduct| match &product.parts {
        Some(parts) => is_image(product, image) && parts.iter().any(|part| is_plainly(part, finding)),
        None => is_image(product, image) || product.names.iter().any(|name| is_plainly(name, finding)),
    };
    statement.products.is_empty() || statement.products.iter().any(about)
}

fn maybe_about(statement: &VexStatement, finding: &Finding, image: &Image) -> bool {
    let other_package = |name: &String| {
        matches!(read(name), Named::Package(_)) && !finding.package.is_empty() && !is_package(name, finding)
    };
    let about = |product: &VexProduct| {
        let packages = product.parts.as_ref().unwrap_or(&product.names);
        let others = !packages.is_empty() && packages.iter().all(other_package);
        !is_other_image(product, image) && !others
    };
    statement.products.is_empty() || statement.products.iter().any(about)
}
