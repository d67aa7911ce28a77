//! `catenary policy init`: a first policy, with a comment on each decision.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::output::{GOOD, Output, paint};

/// What a first policy needs to know.
#[derive(Args)]
pub struct Init {
    /// The repository of the image: `registry/repository` (a glob is allowed).
    #[arg(long)]
    image: String,
    /// The git repository that it is built from.
    #[arg(long)]
    source: String,
    /// Public key (file) or key id of whoever builds.
    #[arg(long)]
    key: String,
    /// Public key or id of whoever attests commits. Default: no commit evidence is asked for.
    #[arg(long)]
    source_key: Option<String>,
    /// Public key or id of whoever attests pushes; `collector` for the service's own. Default: no registry stage.
    #[arg(long)]
    registry_key: Option<String>,
    /// The builder's id as its provenance says it.
    #[arg(long, default_value = "https://localhost/catenary-cli")]
    builder: String,
    /// Allowed refs (globs).
    #[arg(long = "ref", default_value = "refs/heads/main")]
    refs: Vec<String>,
    /// The environments it decides for. Default: all.
    #[arg(long = "environment")]
    environments: Vec<String>,
    /// The policy's name.
    #[arg(long, default_value = "default")]
    name: String,
    /// Write here instead of to standard output.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Init {
    /// Writes it.
    pub(super) fn run(self, output: &Output) -> Result<()> {
        let document = self.document()?;
        catenary_chain::Policy::parse(&document)
            .map_err(|error| anyhow::anyhow!("this would not lint: {error}"))?;
        match &self.out {
            Some(file) => {
                std::fs::write(file, &document).with_context(|| file.display().to_string())?;
                output.show(&json!({"file": file}), |_| {
                    format!(
                        "{} {}; apply it with `catenary policy apply {}`",
                        paint(GOOD, "wrote"),
                        file.display(),
                        file.display()
                    )
                });
            }
            None => output.show(&json!({"document": document}), |_| document.clone()),
        }
        Ok(())
    }

    /// The document, with a comment on each decision.
    fn document(&self) -> Result<String> {
        let source = self.source.parse::<catenary_evidence::reference::RepositoryUri>()?.to_string();
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let list = |all: &[String]| all.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", ");
        let environments = if self.environments.is_empty() {
            String::new()
        } else {
            format!(", environments: [{}]", list(&self.environments))
        };
        let mut trust = format!(
            "    builders:\n      - id: ci\n        signer: {}\n        # The signer may speak for this builder only.\n        builderId: {{exact: {}}}\n        maxLevel: 2\n",
            signer(&self.key)?,
            quoted(&self.builder)
        );
        if let Some(key) = &self.source_key {
            trust += &format!(
                "    sources:\n      - id: vcs\n        signer: {}\n        maxLevel: 1\n",
                signer(key)?
            );
        }
        let mut registry = String::new();
        if let Some(key) = &self.registry_key {
            trust += &format!("    registries:\n      - id: registry\n        signer: {}\n", signer(key)?);
            registry = format!("  registry:\n    path: [{}]\n", quoted(&self.image));
        }
        Ok(format!(
            "apiVersion: catenary/v1\nkind: ChainPolicy\nmetadata: {{name: {name}}}\nspec:\n  mode: enforce\n  match: {{resources: [{image}]{environments}}}\n  trust:\n{trust}  build:\n    minLevel: 1\n    builders: {{atLeast: 1, of: [ci]}}\n    # A parameter that no adapter knows is refused.\n    params: {{unknown: deny}}\n  source:\n    repository: {{uri: {source}}}\n    refs: [{refs}]\n{registry}",
            name = quoted(&self.name),
            image = quoted(&self.image),
            source = quoted(&source),
            refs = list(&self.refs),
        ))
    }
}

/// `{key: id}` of a key id or a public key file; `{service: collector}`.
fn signer(key: &str) -> Result<String> {
    if key == "collector" {
        return Ok("{service: collector}".into());
    }
    if key.starts_with("sha256:") {
        return Ok(format!("{{key: \"{key}\"}}"));
    }
    let text =
        std::fs::read_to_string(key).with_context(|| format!("{key} is neither a key id nor a file"))?;
    let public = catenary_evidence::PublicKey::from_text(&text, None).with_context(|| key.to_owned())?;
    Ok(format!("{{key: \"{}\"}}", public.id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(registry_key: Option<&str>) -> Init {
        let id = format!("sha256:{}", "1".repeat(64));
        Init {
            image: "registry.example.com/shop/api".into(),
            source: "https://git.example.com/shop/api.git".into(),
            key: id.clone(),
            source_key: Some(id),
            registry_key: registry_key.map(str::to_owned),
            builder: "https://localhost/catenary-cli".into(),
            refs: vec!["refs/heads/main".into()],
            environments: vec!["prod".into()],
            name: "default".into(),
            out: None,
        }
    }

    #[test]
    fn the_first_policy_lints() {
        for registry_key in [None, Some("collector")] {
            let document = init(registry_key).document().unwrap();
            let policy = catenary_chain::Policy::parse(&document).unwrap();
            assert_eq!(policy.name(), "default");
            assert!(policy.matches("registry.example.com/shop/api", Some("prod")));
            assert!(document.contains("git+https://git.example.com/shop/api\""), "{document}");
        }
    }
}
