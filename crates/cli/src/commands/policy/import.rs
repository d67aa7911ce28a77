//! `catenary policy import`: policies of other tools as documents of ours, with what could not be carried over.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use catenary_chain::policy::import::{Format, Imported, NamedKey, Unsupported, Written, import};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, WARN, paint},
};

/// What to import, and where to.
#[derive(Args)]
pub struct Import {
    /// YAML or JSON of one or several documents; `-` is standard input.
    file: PathBuf,
    /// What it must be. Default: whatever each document is.
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// Write the policy to this file, or each to NAME.yaml in this folder. Default: standard output.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write the keys that the policies name into this folder, as NAME.pub. Default: they stand in the commands that register them.
    #[arg(long)]
    keys_dir: Option<PathBuf>,
    /// For a layout: the repository that its image goes to, `registry/repository` (a glob is allowed).
    #[arg(long = "image")]
    images: Vec<String>,
}

/// `--format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// ClusterImagePolicy of sigstore's policy-controller.
    Cip,
    /// ClusterPolicy, Policy and ImageValidatingPolicy of Kyverno.
    Kyverno,
    /// An in-toto layout, as metablock or DSSE envelope.
    Layout,
}

impl From<Form> for Format {
    fn from(form: Form) -> Self {
        match form {
            Form::Cip => Self::Cip,
            Form::Kyverno => Self::Kyverno,
            Form::Layout => Self::Layout,
        }
    }
}

impl Import {
    /// Writes what could be carried over, and tells of the rest.
    pub fn run(self, output: &Output) -> Result<Exit> {
        let place = self.file.display().to_string();
        let text = read(&self.file).with_context(|| place.clone())?;
        let imported = import(&text, self.format.map(Format::from), &self.images, Timestamp::now())
            .map_err(|e| anyhow!("{place}:{}:{}: {}: {}", e.line, e.column, e.path, e.message))?;
        let files = self.targets(&imported.policies)?;
        let keys: Vec<Option<PathBuf>> =
            imported.keys.iter().map(|key| self.keep(key)).collect::<Result<_>>()?;
        for (file, written) in files.iter().zip(&imported.policies) {
            if let Some(file) = file {
                std::fs::write(file, &written.document).with_context(|| file.display().to_string())?;
            }
        }
        output.show(&answer(&imported, &files, &keys), |_| shown(&imported.policies, &files));
        report(&imported, &keys, &place, output);
        Ok(if imported.unsupported.is_empty() { Exit::Allowed } else { Exit::Denied })
    }

    /// Where each policy goes.
    fn targets(&self, policies: &[Written]) -> Result<Vec<Option<PathBuf>>> {
        let Some(out) = &self.out else { return Ok(vec![None; policies.len()]) };
        if out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/") {
            std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
            let file = |written: &Written| Some(out.join(format!("{}.yaml", written.name)));
            return Ok(policies.iter().map(file).collect());
        }
        if policies.len() > 1 {
            bail!(
                "{} policies come of this, and a file holds one: let --out be a folder (`{}/`)",
                policies.len(),
                out.display()
            );
        }
        Ok(vec![Some(out.clone())])
    }

    /// Writes a key beside, never over another one.
    fn keep(&self, key: &NamedKey) -> Result<Option<PathBuf>> {
        let Some(folder) = &self.keys_dir else { return Ok(None) };
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let file = folder.join(format!("{}.pub", key.name));
        if file.exists() && std::fs::read_to_string(&file).ok().as_deref() != Some(&key.pem) {
            bail!("{} is another key: let --keys-dir be an empty folder", file.display());
        }
        std::fs::write(&file, &key.pem).with_context(|| file.display().to_string())?;
        Ok(Some(file))
    }
}

fn read(file: &Path) -> Result<String> {
    if file.as_os_str() != "-" {
        return Ok(std::fs::read_to_string(file)?);
    }
    let mut text = String::new();
    // One byte more than is read says that it is too long.
    let most = catenary_chain::policy::MAX_DOCUMENT as u64 + 1;
    std::io::stdin().take(most).read_to_string(&mut text)?;
    Ok(text)
}

fn answer(imported: &Imported, files: &[Option<PathBuf>], keys: &[Option<PathBuf>]) -> Value {
    let mut answer = json!(imported);
    for (written, file) in files.iter().enumerate() {
        answer["policies"][written]["file"] = json!(file);
    }
    for (position, (key, file)) in imported.keys.iter().zip(keys).enumerate() {
        answer["keys"][position]["file"] = json!(file);
        answer["keys"][position]["command"] = json!(command(key, file.as_deref()));
    }
    answer
}

/// The documents, or where they are.
fn shown(policies: &[Written], files: &[Option<PathBuf>]) -> String {
    let one = |(written, file): (&Written, &Option<PathBuf>)| match file {
        None => written.document.clone(),
        Some(file) => format!("{} {}\n", paint(GOOD, "wrote"), file.display()),
    };
    let separator = if files.iter().any(Option::is_none) { "---\n" } else { "" };
    policies.iter().zip(files).map(one).collect::<Vec<_>>().join(separator)
}

/// For people: what to do before the policies are applied.
fn report(imported: &Imported, keys: &[Option<PathBuf>], place: &str, output: &Output) {
    if !imported.keys.is_empty() {
        output.tell("The policies name these keys. Register those that you trust:");
        for (key, file) in imported.keys.iter().zip(keys) {
            output.tell(format!(
                "{}\n{}",
                paint(DIM, format!("# {}", key.id)),
                command(key, file.as_deref())
            ));
        }
    }
    for item in &imported.unsupported {
        output.tell(draw(place, item));
    }
    match imported.unsupported.len() {
        0 => output.tell(format!("{} everything was carried over", paint(GOOD, "ok"))),
        n => output.tell(format!("{} {n} thing(s) could not be carried over", paint(WARN, "incomplete"))),
    }
}

fn draw(place: &str, item: &Unsupported) -> String {
    let effect = match &item.deny {
        Some(_) => paint(BAD, "refuses every image"),
        None => paint(WARN, "not carried over"),
    };
    let Unsupported { document, line, path, what, mend, .. } = item;
    format!("{place}:{line}: {effect}: document {document}, {path}: {what}\n  {mend}")
}

/// How the key is registered: from its file, or as it stands here.
fn command(key: &NamedKey, file: Option<&Path>) -> String {
    let scheme =
        if key.scheme.starts_with("rsa") { format!(" --scheme {}", key.scheme) } else { String::new() };
    let name = &key.name;
    match file {
        Some(file) => format!("catenary key add {name} {}{scheme}", quoted(&file.display().to_string())),
        None => format!("catenary key add {name} /dev/stdin{scheme} <<'PEM'\n{}PEM", key.pem),
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    match text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use catenary_chain::{
        Policy,
        policy::trial::{self, Ran},
    };
    use catenary_testkit::Key;

    use super::*;
    use crate::output::Format as Shown;

    const DIGEST: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn policy_of(signer: &Key) -> String {
        let pem: String = signer.public_pem().lines().map(|line| format!("          {line}\n")).collect();
        format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: signed}}\nspec:\n  images: [{{glob: \"r.test/app*\"}}]\n  authorities:\n    - key:\n        data: |\n{pem}"
        )
    }

    fn arguments(folder: &Path, out: &str) -> Import {
        let (out, keys_dir) = (Some(folder.join(out)), Some(folder.join("keys")));
        Import { file: folder.join("cip.yaml"), format: None, out, keys_dir, images: Vec::new() }
    }

    /// What the policy says of the image when this key signed it, as cosign does.
    fn judged(document: &str, trusted: &[&Key], signer: &Key, outcome: &str) -> Ran {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
            "subject": [{"name": "", "digest": {"sha256": DIGEST}}], "predicate": {},
        });
        let envelope =
            catenary_testkit::dsse::Envelope::statement(statement.to_string()).signed_by(signer).to_json();
        let mut fixture: Vec<String> = trusted
            .iter()
            .map(|key| json!({"type": "trust", "key": {"pem": key.public_pem()}}).to_string())
            .collect();
        fixture.push(envelope);
        let document = format!(
            "{document}  tests: [{{name: t, fixture: f.jsonl, image: \"r.test/app@sha256:{DIGEST}\", asOf: 2026-11-22T00:00:00Z, expect: {{outcome: {outcome}}}}}]\n"
        );
        let policy = Policy::parse(&document).unwrap();
        let fixtures = [("f.jsonl".to_owned(), fixture.join("\n"))].into();
        trial::run(&policy, &document, &fixtures).remove(0)
    }

    #[test]
    fn an_imported_policy_decides_as_the_one_that_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (Key::p256("ours"), Key::p256("theirs"));
        std::fs::write(folder.path().join("cip.yaml"), policy_of(&ours)).unwrap();
        let exit = arguments(folder.path(), "policy.yaml").run(&Output::new(Shown::Json)).unwrap();
        assert_eq!(exit, Exit::Allowed);
        let document = std::fs::read_to_string(folder.path().join("policy.yaml")).unwrap();
        for (signer, outcome) in [(&ours, "PASSED"), (&theirs, "FAILED")] {
            let ran = judged(&document, &[&ours, &theirs], signer, outcome);
            assert!(ran.passed, "{ran:?}");
        }
        let key = std::fs::read_to_string(folder.path().join("keys/signed-authority.pub")).unwrap();
        assert_eq!(key.trim(), ours.public_pem().trim());
    }

    #[test]
    fn what_was_not_carried_over_refuses_everything_and_is_exit_code_1() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Key::p256("ours");
        let program = "      attestations: [{name: a, predicateType: \"https://sigstore.dev/cosign/sign/v1\", policy: {type: cue, data: x}}]\n";
        std::fs::write(folder.path().join("cip.yaml"), policy_of(&ours) + program).unwrap();
        let exit = arguments(folder.path(), "out/").run(&Output::new(Shown::Text)).unwrap();
        assert_eq!(exit, Exit::Denied);
        let document = std::fs::read_to_string(folder.path().join("out/signed.yaml")).unwrap();
        let ran = judged(&document, &[&ours], &ours, "FAILED");
        assert!(ran.passed, "{ran:?}");
        // Whoever has read why takes the rule out.
        let (before, _) = document.split_once("  deny:\n").unwrap();
        let after = document.find("  require:").unwrap();
        let mended = format!("{before}{}", &document[after..]);
        let ran = judged(&mended, &[&ours], &ours, "PASSED");
        assert!(ran.passed, "{ran:?}");
    }

    #[test]
    fn nothing_is_written_over_and_several_policies_need_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Key::p256("ours");
        let two = format!("{}---\n{}", policy_of(&ours), policy_of(&ours).replace("name: signed", "name: b"));
        std::fs::write(folder.path().join("cip.yaml"), two).unwrap();
        let output = Output::new(Shown::Json);
        let error = arguments(folder.path(), "policy.yaml").run(&output).expect_err("two");
        assert!(error.to_string().contains("folder"), "{error}");
        assert!(!folder.path().join("policy.yaml").exists() && !folder.path().join("keys").exists());
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        std::fs::write(folder.path().join("keys/signed-authority.pub"), "another").unwrap();
        let error = arguments(folder.path(), "out/").run(&output).expect_err("another key");
        assert!(error.to_string().contains("another key"), "{error}");
        std::fs::write(folder.path().join("cip.yaml"), "kind: ClusterImagePolicy\na: [").unwrap();
        let error = arguments(folder.path(), "out/").run(&output).expect_err("no YAML");
        assert!(error.to_string().contains("cip.yaml:2:"), "{error}");
    }

    #[test]
    fn a_folder_is_one_word_of_a_shell() {
        assert_eq!(quoted("keys/a.pub"), "keys/a.pub");
        assert_eq!(quoted("my keys/$(x)'.pub"), r"'my keys/$(x)'\''.pub'");
    }
}
