//! OpenVEX 0.2.0 (and its predecessors): whether a vulnerability touches a product.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Reader, Vex, VexProduct, VexStatement, VexStatements, VexStatus, judged::Room};
use crate::{
    limits::MAX_TEXT,
    mention::{Mention, Mentions, list},
    refusal::Refusal,
};

const STATUSES: [(&str, VexStatus); 4] = [
    ("not_affected", VexStatus::NotAffected),
    ("affected", VexStatus::Affected),
    ("fixed", VexStatus::Fixed),
    ("under_investigation", VexStatus::UnderInvestigation),
];

/// The justifications that OpenVEX defines.
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    author: String,
    timestamp: Option<String>,
    last_updated: Option<String>,
    statements: Vec<Statement>,
}

#[derive(Deserialize)]
struct Statement {
    vulnerability: Vulnerability,
    #[serde(default, deserialize_with = "list")]
    products: Vec<Product>,
    /// Where OpenVEX 0.0.1 has them.
    #[serde(default, deserialize_with = "list")]
    subcomponents: Vec<Subcomponent>,
    status: String,
    justification: Option<String>,
    timestamp: Option<String>,
    last_updated: Option<String>,
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
        #[serde(default)]
        hashes: Option<BTreeMap<String, String>>,
        #[serde(default, deserialize_with = "list")]
        subcomponents: Vec<Subcomponent>,
    },
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Subcomponent {
    Id(String),
    Object {
        #[serde(rename = "@id")]
        id: Option<String>,
        identifiers: Option<Identifiers>,
    },
}

#[derive(Clone, Deserialize)]
struct Identifiers {
    purl: Option<String>,
}

/// Reads the predicate.
pub(super) fn read(reader: &Reader<'_>) -> Result<(Vex, Vec<Mention>), Refusal> {
    let wire: Wire = reader.parse()?;
    let issued = moment(&wire.last_updated).or(moment(&wire.timestamp));
    let mut mentions = Mentions::default();
    let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
    let (mut statements, mut room) = (VexStatements::default(), Room::default());
    for (position, statement) in wire.statements.into_iter().enumerate() {
        let at = |member: &str| format!("/statements/{position}/{member}");
        let Some((name, status)) = STATUSES.iter().find(|(name, _)| *name == statement.status) else {
            let why = format!("expected one of {}", STATUSES.map(|(name, _)| name).join(", "));
            return Err(reader.refuse(&at("status"), why));
        };
        let names = statement.vulnerability.names();
        if names.is_empty() {
            return Err(reader.refuse(&at("vulnerability"), "it has no name"));
        }
        *statuses.entry((*name).to_owned()).or_default() += 1;
        statements.push(
            VexStatement {
                names: names.clone(),
                status: *status,
                justification: statement
                    .justification
                    .clone()
                    .filter(|why| JUSTIFICATIONS.contains(&why.as_str())),
                products: products(&statement.products, &statement.subcomponents),
                issued: moment(&statement.last_updated).or(moment(&statement.timestamp)).or(issued),
            },
            &mut room,
        );
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
    let vex = Vex { author: wire.author, issued: moment(&wire.timestamp), statuses, statements };
    Ok((vex, mentions.finish()))
}

fn moment(text: &Option<String>) -> Option<Timestamp> {
    text.as_ref().and_then(|text| text.parse().ok())
}

/// The products as they are: one whose parts cannot be named still has parts, and is not meant as a whole.
fn products(products: &[Product], of_statement: &[Subcomponent]) -> Vec<VexProduct> {
    let parts = |list: &[Subcomponent]| -> Option<Vec<String>> {
        (!list.is_empty()).then(|| list.iter().flat_map(Subcomponent::names).collect())
    };
    let mut found: Vec<VexProduct> = Vec::new();
    for product in products {
        let (names, own) = match product {
            Product::Id(id) => (vec![id.clone()], None),
            Product::Object { id, identifiers, hashes, subcomponents } => {
                let mut names: Vec<String> = id.iter().cloned().collect();
                names.extend(identifiers.iter().filter_map(|identifiers| identifiers.purl.clone()));
                // IANA's names of hashes have a dash, ours have none.
                let digest = |(name, hex): (&String, &String)| {
                    format!("{}:{hex}", name.replace('-', "")).to_lowercase()
                };
                names.extend(hashes.iter().flatten().map(digest));
                (names, parts(subcomponents))
            }
        };
        found.push(VexProduct { names, parts: own.or_else(|| parts(of_statement)) });
    }
    if found.is_empty()
        && let Some(parts) = parts(of_statement)
    {
        found.push(VexProduct { names: Vec::new(), parts: Some(parts) });
    }
    found
}

impl Subcomponent {
    fn names(&self) -> Vec<String> {
        match self {
            Self::Id(id) => vec![id.clone()],
            Self::Object { id, identifiers } => {
                let purl = identifiers.as_ref().and_then(|identifiers| identifiers.purl.clone());
                id.iter().cloned().chain(purl).collect()
            }
        }
    }
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
            Self::Object { id, identifiers, subcomponents, .. } => {
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
