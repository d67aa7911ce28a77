//! Presets: sections that a document takes over by `extends: preset/NAME@sha256:…`.
//!
//! They are compiled in and pinned by digest, so that another release with another preset is refused, not silently obeyed.

use catenary_evidence::digest::Sha256;
use serde_json::{Map, Value};

use super::short::Fault;

/// A preset that is compiled in.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name, without `preset/`.
    pub name: &'static str,
    /// The document.
    pub text: &'static str,
}

/// Every preset.
pub const ALL: [Preset; 2] = [
    Preset { name: "baseline", text: include_str!("presets/baseline.yaml") },
    Preset { name: "github-actions", text: include_str!("presets/github-actions.yaml") },
];

impl Preset {
    /// SHA-256 of the document.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.text.as_bytes())
    }

    /// As `extends` names it.
    pub fn pin(&self) -> String {
        format!("preset/{}@{}", self.name, self.digest())
    }
}

/// The sections of the preset that a document extends.
pub(super) fn named(pin: &Value) -> Result<Map<String, Value>, Fault> {
    let Some(pin) = pin.as_str() else {
        return Err(Fault::new("give one preset as text: preset/NAME@sha256:…"));
    };
    let (path, digest) = pin.split_once('@').map_or((pin, None), |(path, digest)| (path, Some(digest)));
    let preset = ALL.iter().find(|preset| path.strip_prefix("preset/") == Some(preset.name));
    let Some(preset) = preset else {
        let known: Vec<String> = ALL.iter().map(Preset::pin).collect();
        let names: Vec<&str> = ALL.iter().map(|preset| preset.name).collect();
        let mend = super::place::closest(path.trim_start_matches("preset/"), &names)
            .and_then(|name| ALL.iter().find(|preset| preset.name == name).map(Preset::pin));
        return Err(Fault { message: format!("there is no `{path}`; known are {}", known.join(", ")), mend });
    };
    if digest != Some(preset.digest().to_string().as_str()) {
        let found = digest.map_or("no digest".to_owned(), |digest| format!("`{digest}`"));
        let message = format!("{path} is pinned by its digest: it is {}, not {found}", preset.digest());
        return Err(Fault { message, mend: Some(preset.pin()) });
    }
    match super::value(preset.text).ok().and_then(|mut document| document.get_mut("spec").map(Value::take)) {
        Some(Value::Object(spec)) => Ok(spec),
        // They are constants; a test reads them.
        _ => Err(Fault::new(format!("{path} cannot be read"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn with(pin: &str) -> String {
        format!(
            "apiVersion: catenary/v1\nkind: ChainPolicy\nextends: \"{pin}\"\nmetadata: {{name: p}}\nspec:\n  match: {{resources: [registry.acme.test/app]}}\n  source: {{repository: {{uri: \"git+https://github.com/acme/app\"}}}}\n"
        )
    }

    fn pin(name: &str) -> String {
        ALL.iter().find(|preset| preset.name == name).unwrap().pin()
    }

    #[test]
    fn every_preset_is_read() {
        for preset in &ALL {
            assert!(!named(&Value::from(preset.pin())).unwrap().is_empty());
        }
        let policy = Policy::parse(&with(&pin("github-actions"))).unwrap();
        assert_eq!(policy.spec().build.as_ref().map(|b| b.min_level), Some(3));
        assert_eq!(policy.spec().trust.builders.len(), 2);
        let document = with(&pin("baseline")).replace("source: {", "github: acme/app\n  source: {");
        assert_eq!(Policy::parse(&document).unwrap().spec().inputs.len(), 2);
    }

    #[test]
    fn a_preset_without_its_digest_or_with_another_is_refused_with_the_right_one() {
        for wrong in
            ["preset/github-actions".to_owned(), format!("preset/github-actions@sha256:{}", "0".repeat(64))]
        {
            let error = Policy::parse(&with(&wrong)).expect_err(&wrong);
            assert_eq!((error.path.as_str(), error.line), ("extends", 3));
            assert_eq!(error.suggestion, Some(pin("github-actions")));
        }
        let error = Policy::parse(&with("preset/github-action@sha256:00")).expect_err("unknown");
        assert_eq!(error.suggestion, Some(pin("github-actions")));
        assert!(Policy::parse(&with("https://evil.test/preset.yaml")).is_err(), "nothing is fetched");
    }
}
