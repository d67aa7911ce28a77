//! A policy that is being written: rules of `require`, and for everything that was asked and cannot be said a deny rule that refuses
//! every image until somebody has read why and taken it out. So what comes out is never weaker than what went in.

use std::collections::BTreeMap;

use catenary_evidence::{KeyId, attestation::ARTIFACT_SIGNATURE, key::PublicKey};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    super::{Mode, Policy, PolicyError, yaml},
    node::At,
    want::{By, Clause, Want},
};

/// What a signature over an image is: cosign's own payload, or the statement that its bundles hold.
pub const SIGNATURE: [&str; 2] = [ARTIFACT_SIGNATURE, "https://sigstore.dev/cosign/sign/v1"];

/// Most policies that come of one file.
const MAX_POLICIES: usize = 64;

/// Longest text of a foreign document that is repeated.
const MAX_REPEATED: usize = 400;

/// What came of an import.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// In the order of the documents.
    pub policies: Vec<Written>,
    /// Keys that they name, to be registered.
    pub keys: Vec<NamedKey>,
    /// What could not be carried over.
    pub unsupported: Vec<Unsupported>,
}

/// A policy that was written.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// `metadata.name`.
    pub name: String,
    /// What it came from.
    pub source: String,
    /// The document: it lints.
    pub document: String,
}

/// A public key that a policy names by its id.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedKey {
    /// As the policy names it.
    pub id: String,
    /// Made of what the foreign document calls it, and fit for a file's name.
    pub name: String,
    /// As in the API.
    pub scheme: String,
    /// One block.
    pub pem: String,
}

/// Something that could not be carried over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsupported {
    /// Which document of the file, from 0.
    pub document: usize,
    /// From 1; 0 when the whole document is meant.
    pub line: u64,
    /// The member.
    pub path: String,
    /// What could not be said.
    pub what: String,
    /// What to do about it.
    pub mend: String,
    /// The deny rule that refuses every image until that is done, when less would be asked otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<String>,
}

impl Imported {
    /// Tells of something without which as much is asked as before, or more.
    pub fn say(&mut self, at: &At<'_>, what: impl AsRef<str>, mend: impl AsRef<str>) {
        self.tell(at, what.as_ref(), mend.as_ref(), None);
    }

    fn tell(&mut self, at: &At<'_>, what: &str, mend: &str, deny: Option<String>) {
        let path = if at.path.is_empty() { "." } else { &at.path };
        let item = Unsupported {
            document: at.document,
            line: at.line(),
            path: plain(path),
            what: plain(what),
            mend: plain(mend),
            deny,
        };
        if !self.unsupported.contains(&item) {
            self.unsupported.push(item);
        }
    }

    /// Keeps a key to be registered, once.
    pub fn key(&mut self, name: &str, key: &PublicKey) -> KeyId {
        let id = key.id().to_string();
        if !self.keys.iter().any(|known| known.id == id) {
            let taken = |name: &str| self.keys.iter().any(|known| known.name == name);
            let name = free(&spelled(name), taken);
            self.keys.push(NamedKey { id, name, scheme: key.scheme().to_string(), pem: key.to_pem() });
        }
        key.id()
    }
}

/// One policy.
pub struct Draft<'i> {
    /// Where everything is told.
    pub out: &'i mut Imported,
    /// `metadata.name`.
    pub name: String,
    /// What it comes from, in words.
    pub source: String,
    /// `spec.mode`.
    pub mode: Mode,
    /// `spec.match.resources`.
    pub resources: Vec<String>,
    /// `spec.layouts`.
    pub layouts: Vec<Value>,
    /// What an author should know, in comments.
    pub remarks: Vec<String>,
    clauses: Vec<Clause>,
    denies: Vec<String>,
    begins: usize,
}

impl<'i> Draft<'i> {
    /// An empty one, of a name that no other has.
    pub fn new(out: &'i mut Imported, name: &str, source: String) -> Self {
        let begins = out.unsupported.len();
        let name = free(&spelled(name), |name| out.policies.iter().any(|known| known.name == name));
        let (mode, resources, layouts, remarks) = (Mode::Enforce, Vec::new(), Vec::new(), Vec::new());
        let (clauses, denies) = (Vec::new(), Vec::new());
        Self { out, name, source, mode, resources, layouts, remarks, clauses, denies, begins }
    }

    /// Tells of something without which less would be asked, and refuses every image until it is mended.
    pub fn refuse(&mut self, at: &At<'_>, what: impl AsRef<str>, mend: impl AsRef<str>) {
        let rule = self.deny(what.as_ref());
        let mend = format!("{}; then take the deny rule `{rule}` out", mend.as_ref());
        self.out.tell(at, what.as_ref(), &mend, Some(rule));
    }

    /// A rule that refuses every image. Returns its id.
    pub fn deny(&mut self, message: &str) -> String {
        let message = plain(message);
        let known = self.denies.iter().position(|known| *known == message);
        let position = known.unwrap_or_else(|| {
            self.denies.push(message);
            self.denies.len() - 1
        });
        format!("not-carried-over-{}", position + 1)
    }

    /// Tells of every member that is not among `known`: nobody here knows what it asks.
    pub fn others(&mut self, at: &At<'_>, known: &[&str]) -> Result<(), PolicyError> {
        for (name, member) in at.members()? {
            if !known.contains(&name) {
                let what = format!("nothing here knows the member `{name}`");
                self.refuse(&member, what, "say by hand what it asks, if it asks anything");
            }
        }
        Ok(())
    }

    /// Adds what must be signed; `at` is where that is written.
    pub fn ask(&mut self, at: &At<'_>, want: Want) {
        match want.rules() {
            None => self.refuse(
                at,
                "nothing is left of who may sign",
                "add a rule to `require` that names who must sign what",
            ),
            Some(rules) => {
                if !rules.exact {
                    let what = "these are alternatives that no single rule says: all of them are asked for";
                    self.out.say(at, what, "take the rules out of `require` that are one too many");
                }
                let new = rules.clauses.into_iter().filter(|clause| !self.clauses.contains(clause));
                let new: Vec<Clause> = new.collect();
                self.clauses.extend(new);
            }
        }
    }

    /// Writes the policy. What this returns lints at `now`.
    pub fn finish(mut self, now: Timestamp) -> Result<(), PolicyError> {
        if self.out.policies.len() >= MAX_POLICIES {
            return Err(PolicyError::new(format!(
                "more than {MAX_POLICIES} policies come of this file: divide it"
            )));
        }
        let spec = self.spec();
        let document = json!({
            "apiVersion": "catenary/v1",
            "kind": "ChainPolicy",
            "metadata": { "name": self.name },
            "spec": spec,
        });
        let document = self.head() + &yaml::write(&document);
        Policy::publish(&document, now).map_err(|error| {
            PolicyError::new(format!(
                "what comes of `{}` would not lint: {}: {}",
                self.name, error.path, error.message
            ))
        })?;
        self.out.policies.push(Written { name: self.name, source: self.source, document });
        Ok(())
    }

    fn spec(&mut self) -> Value {
        let mut spec = json!({ "mode": self.mode.as_str(), "match": { "resources": self.resources } });
        let mut groups = Map::new();
        let mut require = Vec::new();
        let mut ids: Vec<String> = Vec::new();
        for clause in &self.clauses {
            let id = free(&spelled(&clause.label), |id| ids.iter().any(|known| known == id));
            let mut rule = json!({ "id": id, "predicate": clause.kinds, "signer": signer(&id, &clause.by, &mut groups) });
            if clause.least > 1 {
                rule["atLeast"] = clause.least.into();
            }
            require.push(rule);
            ids.push(id);
        }
        if require.is_empty() && self.layouts.is_empty() {
            // A group of the tenant that nobody is in. There are no groups of the document, which would take its place.
            let signer = json!({ "group": format!("{}-signers", self.name) });
            require.push(json!({ "id": "nobody-yet", "predicate": SIGNATURE, "signer": signer }));
        }
        if !groups.is_empty() {
            spec["trust"] = json!({ "groups": groups });
        }
        if !require.is_empty() {
            spec["require"] = require.into();
        }
        if !self.layouts.is_empty() {
            spec["layouts"] = std::mem::take(&mut self.layouts).into();
        }
        let deny = |(position, message): (usize, &String)| json!({ "id": format!("not-carried-over-{}", position + 1), "when": "true", "message": message });
        if !self.denies.is_empty() {
            spec["deny"] = self.denies.iter().enumerate().map(deny).collect();
        }
        spec
    }

    /// Comments for whoever reads the policy before it is applied.
    fn head(&self) -> String {
        let mut head = format!("# Written by `catenary policy import` from {}.\n", plain(&self.source));
        for remark in &self.remarks {
            head += &format!("# {}\n", plain(remark));
        }
        let missing = &self.out.unsupported[self.begins..];
        if !missing.is_empty() {
            head += "# Not carried over:\n";
        }
        for item in missing {
            head += &format!("# - {} (line {}): {}: {}\n", item.path, item.line, item.what, item.mend);
        }
        head
    }
}

/// One signer as it is; several as a group of the document.
fn signer(id: &str, by: &[By], groups: &mut Map<String, Value>) -> Value {
    let keys: Vec<Value> = by.iter().filter(|by| matches!(by, By::Key(_))).map(By::to_value).collect();
    let names: Vec<Value> = by.iter().filter(|by| matches!(by, By::Name(_))).map(By::to_value).collect();
    match (keys.as_slice(), names.as_slice()) {
        ([key], []) => json!({ "key": key }),
        (keys, []) => json!({ "keys": keys }),
        ([], [name]) => name.clone(),
        _ => {
            let lists =
                [("keys", keys), ("identities", names)].into_iter().filter(|(_, list)| !list.is_empty());
            let lists: BTreeMap<&str, Vec<Value>> = lists.collect();
            groups.insert(id.to_owned(), json!(lists));
            json!({ "group": id })
        }
    }
}

/// A name as policies spell it: `[a-z0-9][a-z0-9.-]{0,62}`.
pub fn spelled(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(good).skip_while(|c| !c.is_ascii_alphanumeric()).take(58).collect();
    if name.is_empty() { "imported".to_owned() } else { name }
}

/// The name, or with a number what is not taken.
fn free(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// A foreign text on one line: it neither ends a comment nor drives a terminal.
pub fn plain(text: &str) -> String {
    let line = |c: char| if c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) { ' ' } else { c };
    let mut short: String = text.chars().map(line).take(MAX_REPEATED).collect();
    if text.chars().nth(MAX_REPEATED).is_some() {
        short.push('…');
    }
    short
}
