//! OpenVEX 0.2.0 (and its predecessors): whether a vulnerability touches a product.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Reader, Vex};
use crate::{dsse::within, limits::MAX_MENTIONS, mention::Mention, refusal::Refusal};

const STATUSES: [&str; 4] = ["not_affected", "affected", "fixed", "under_investigation"];

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    author: String,
    timestamp: Option<String>,
    statements: Vec<Statement>,
}

#[derive(Deserialize)]
struct Statement {
    vulnerability: Vulnerability,
    #[serde(default)]
    products: Vec<Product>,
    status: String,
    justification: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vulnerability {
    Name(String),
    Object {
        name: Option<String>,
        #[serde(rename = "@id")]
        id: Option<String>,
        #[serde(default)]
        aliases: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Product {
    Id(String),
    Object {
        #[serde(rename = "@id")]
        id: Option<String>,
        identifiers: Option<Identifiers>,
        #[serde(default)]
        subcomponents: Vec<Subcomponent>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Subcomponent {
    Id(String),
    Object {
        #[serde(rename = "@id")]
        id: Option<String>,
        identifiers: Option<Identifiers>,
    },
}

#[derive(Deserialize)]
struct Identifiers {
    purl: Option<String>,
}

/// Reads the predicate.
pub(super) fn read(reader: &Reader<'_>) -> Result<(Vex, Vec<Mention>), Refusal> {
    let wire: Wire = reader.parse()?;
    let mut mentions = Vec::new();
    let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
    for (position, statement) in wire.statements.into_iter().enumerate() {
        let at = |member: &str| format!("/statements/{position}/{member}");
        if !STATUSES.contains(&statement.status.as_str()) {
            let why = format!("expected one of {}", STATUSES.join(", "));
            return Err(reader.refuse(&at("status"), why));
        }
        let names = statement.vulnerability.names();
        if names.is_empty() {
            return Err(reader.refuse(&at("vulnerability"), "it has no name"));
        }
        *statuses.entry(statement.status.clone()).or_default() += 1;
        // `not_affected` without a reason is an opinion.
        let state = match statement.justification {
            Some(why) => format!("{}: {why}", statement.status),
            None => statement.status,
        };
        let mut purls: Vec<String> = statement.products.into_iter().flat_map(Product::purls).collect();
        if purls.is_empty() {
            purls.push(String::new());
        }
        within("packages and findings", mentions.len() + names.len() * purls.len(), MAX_MENTIONS)?;
        for name in names {
            let about = |purl: &String| Mention {
                vulnerability: name.clone(),
                state: state.clone(),
                ..Mention::package(Some(purl), "", None)
            };
            mentions.extend(purls.iter().map(about));
        }
    }
    let vex =
        Vex { author: wire.author, issued: wire.timestamp.and_then(|time| time.parse().ok()), statuses };
    mentions.retain(Mention::is_findable);
    mentions.sort();
    mentions.dedup();
    Ok((vex, mentions))
}

impl Vulnerability {
    fn names(self) -> Vec<String> {
        let mut names = match self {
            Self::Name(name) => vec![name],
            Self::Object { name, id, aliases } => name.or(id).into_iter().chain(aliases).collect(),
        };
        names.retain(|name| !name.is_empty());
        names
    }
}

impl Product {
    /// Its parts when it names some, else itself.
    fn purls(self) -> Vec<String> {
        match self {
            Self::Id(id) => vec![id],
            Self::Object { id, identifiers, subcomponents } => {
                let parts: Vec<String> = subcomponents
                    .into_iter()
                    .filter_map(|part| match part {
                        Subcomponent::Id(id) => Some(id),
                        Subcomponent::Object { id, identifiers } => purl(id, identifiers),
                    })
                    .collect();
                if parts.is_empty() { purl(id, identifiers).into_iter().collect() } else { parts }
            }
        }
    }
}

fn purl(id: Option<String>, identifiers: Option<Identifiers>) -> Option<String> {
    identifiers.and_then(|identifiers| identifiers.purl).or(id)
}
