//! OpenVEX 0.2.0 (and its predecessors): whether a vulnerability touches a product.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Reader, Vex};
use crate::{
    limits::MAX_TEXT,
    mention::{Mention, Mentions, list},
    refusal::Refusal,
};

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
    #[serde(default, deserialize_with = "list")]
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
        #[serde(default, deserialize_with = "list")]
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
        #[serde(default, deserialize_with = "list")]
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
    let mut mentions = Mentions::default();
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
        // `not_affected` without a reason is an opinion; a reason too long for an index is left out.
        let state = match statement.justification.filter(|why| why.len() <= MAX_TEXT / 2) {
            Some(why) => format!("{}: {why}", statement.status),
            None => statement.status,
        };
        let mut purls: Vec<String> = statement.products.into_iter().flat_map(Product::purls).collect();
        if purls.is_empty() {
            purls.push(String::new());
        }
        for name in names {
            for purl in &purls {
                mentions.push(Mention::package(Some(purl), "", None).hit(&name, &state))?;
            }
        }
    }
    let vex =
        Vex { author: wire.author, issued: wire.timestamp.and_then(|time| time.parse().ok()), statuses };
    Ok((vex, mentions.finish()))
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
