//! Documents from files and from the service.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow};
use catenary_chain::{
    Policy, PolicyError,
    policy::{
        lint::Finding,
        short,
        trial::{self, Ran},
    },
};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde_json::json;

use crate::{client::Client, draw::string};

/// A document, and where it is from.
pub struct Document {
    /// For messages.
    pub place: String,
    /// Exactly as it is.
    pub text: String,
}

impl Document {
    /// An error about it, as compilers write them.
    pub fn wrong(&self, error: &PolicyError) -> anyhow::Error {
        anyhow!("{}:{}:{}: {}: {}", self.place, error.line, error.column, error.path, error.message)
    }

    /// The policy's name, or what is wrong and where.
    pub fn name(&self) -> Result<String> {
        Ok(self.policy()?.name().to_owned())
    }

    /// The policy, or what is wrong and where.
    fn policy(&self) -> Result<Policy> {
        Policy::parse(&self.text).map_err(|error| self.wrong(&error))
    }

    /// The fixtures that its tests name, from the files beside it.
    pub fn fixtures(&self) -> Result<BTreeMap<String, String>> {
        let folder = Path::new(&self.place).parent().unwrap_or(Path::new("."));
        let mut fixtures = BTreeMap::new();
        for test in &self.policy()?.spec().tests {
            let file = folder.join(&test.fixture);
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            fixtures.insert(test.fixture.clone(), text);
        }
        Ok(fixtures)
    }

    /// Runs its tests.
    pub fn test(&self) -> Result<Vec<Ran>> {
        Ok(trial::run(&self.policy()?, &self.text, &self.fixtures()?))
    }

    /// Puts it into a request, with its fixtures when it has tests.
    pub fn with_fixtures(self, request: RequestBuilder) -> Result<RequestBuilder> {
        let fixtures = self.fixtures()?;
        Ok(match fixtures.is_empty() {
            true => request.header("content-type", "application/yaml").body(self.text),
            false => request.json(&json!({ "document": self.text, "fixtures": fixtures })),
        })
    }

    /// Everything about it.
    pub fn lint(&self) -> Vec<Finding> {
        catenary_chain::policy::lint::lint(&self.text, Timestamp::now())
    }
}

/// A file.
pub fn read(file: &Path) -> Result<Document> {
    let place = file.display().to_string();
    Ok(Document { text: std::fs::read_to_string(file).with_context(|| place.clone())?, place })
}

/// A file, or `name` or `name@revision` of the service.
pub async fn from(client: &Client, what: &str) -> Result<Document> {
    let file = Path::new(what);
    if file.exists() || what.contains(['/', '\\']) || what.ends_with(".yaml") || what.ends_with(".yml") {
        return read(file);
    }
    let path = match what.split_once('@') {
        Some((name, revision)) => format!("/v1/policies/{name}/revisions/{revision}"),
        None => format!("/v1/policies/{what}"),
    };
    let answer = client.get(&path).await?;
    Ok(Document { place: what.to_owned(), text: string(&answer["document"]).to_owned() })
}

/// The document written out.
pub fn explain(document: &Document) -> Result<String> {
    document.name()?;
    let long = short::expand(&document.text).map_err(|error| document.wrong(&error))?;
    Ok(long.unwrap_or_else(|| document.text.clone()))
}
