//! Short forms, written out: `spec: {github: owner/repo}`, `spec: {gitlab: group/project}`, `extends: preset/…`.
//!
//! The log keeps what was sent; the evaluator reads the expansion, which is a function of the text alone. A section of `spec`
//! that the document has itself wins whole, then that of the short form, then that of the preset: sections are never merged.

use catenary_evidence::trust_root::{GITHUB, SIGSTORE};
use serde_json::{Map, Value, json};

use super::{
    PolicyError,
    identity::PUBLIC_GOOD,
    place::{self, Step},
    preset, yaml,
};

/// Members of a document that are written out.
const EXTENDS: &str = "extends";
const FORMS: [&str; 2] = ["github", "gitlab"];

/// Members of `spec` that no section is, for suggestions.
pub(super) const MEMBERS: [&str; 2] = FORMS;

/// The longest name that a policy may have.
const MAX_NAME: usize = 63;

/// The whole document, written out; `None` when nothing in it is short.
pub fn expand(document: &str) -> Result<Option<String>, PolicyError> {
    if !document.contains(EXTENDS) && !FORMS.iter().any(|form| document.contains(form)) {
        return Ok(None);
    }
    // What cannot be read here is told about by the reader of whole documents, with its place.
    let Ok(Value::Object(mut root)) = super::value(document) else { return Ok(None) };
    let refused = |(path, fault): (Vec<Step>, Fault)| fault.at(document, &path);
    let extends = root.remove(EXTENDS);
    let Some(Value::Object(mut own)) = root.remove("spec") else { return Ok(None) };
    let forms: Vec<(&str, Value)> =
        FORMS.iter().filter_map(|form| own.remove(*form).map(|value| (*form, value))).collect();
    if extends.is_none() && forms.is_empty() {
        return Ok(None);
    }
    let mut spec = match &extends {
        Some(pin) => preset::named(pin).map_err(|fault| refused((vec![EXTENDS.into()], fault)))?,
        None => Map::new(),
    };
    let mut name = None;
    if let [(form, value), rest @ ..] = &forms[..] {
        let at = |form: &str| vec![Step::from("spec"), Step::from(form)];
        if let [(other, _), ..] = rest {
            return Err(refused((
                at(other),
                Fault::new(format!("`{form}` is there already: give one of them")),
            )));
        }
        let short = if *form == "github" { github(value) } else { gitlab(value) };
        let short = short.map_err(|(member, fault)| {
            let mut path = at(form);
            path.extend(member);
            refused((path, fault))
        })?;
        spec.extend(short.spec);
        name = Some(short.name);
    }
    spec.extend(own);
    root.insert("spec".into(), Value::Object(spec));
    name_it(&mut root, name).map_err(refused)?;
    Ok(Some(yaml::write(&Value::Object(root))))
}

/// What is wrong, and what mends it.
#[derive(Debug)]
pub(super) struct Fault {
    pub message: String,
    pub mend: Option<String>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), mend: None }
    }

    fn at(self, document: &str, path: &[Step]) -> PolicyError {
        let (line, column) = place::of_path(document, path);
        let path = place::join(path);
        PolicyError { line, column, path, suggestion: self.mend, ..PolicyError::new(self.message) }
    }
}

/// A short form, written out.
struct Short {
    name: String,
    spec: Map<String, Value>,
}

/// A member of the short form, and what is wrong with it.
type Wrong = (Vec<Step>, Fault);

fn wrong<T>(member: &'static str, message: impl Into<String>) -> Result<T, Wrong> {
    Err((vec![member.into()], Fault::new(message)))
}

/// `metadata.name` of a document that leaves it out.
fn name_it(root: &mut Map<String, Value>, name: Option<String>) -> Result<(), (Vec<Step>, Fault)> {
    let Some(name) = name else { return Ok(()) };
    let metadata = root.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else { return Ok(()) };
    if metadata.contains_key("name") {
        return Ok(());
    }
    if name.len() > MAX_NAME {
        let fault = Fault::new(format!("`{name}` is too long for a name: give metadata.name"));
        return Err((vec!["spec".into()], fault));
    }
    metadata.insert("name".into(), name.into());
    Ok(())
}

/// The members of a short form: a text stands for its first.
fn members(value: &Value, known: &[&'static str]) -> Result<Map<String, Value>, Wrong> {
    let members = match value {
        Value::String(text) => Map::from_iter([(known[0].to_owned(), Value::from(text.as_str()))]),
        Value::Object(members) => members.clone(),
        _ => return Err((Vec::new(), Fault::new(format!("give a text, or {}", known.join(", "))))),
    };
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        let mend = place::closest(unknown, known);
        let meant = mend.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default();
        let fault = Fault { message: format!("unknown member `{unknown}`{meant}"), mend };
        return Err((vec![Step::Member(unknown.clone())], fault));
    }
    if !members.contains_key(known[0]) {
        return Err((Vec::new(), Fault::new(format!("the member `{}` is missing", known[0]))));
    }
    Ok(members)
}

fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, Wrong> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => wrong(name, "give a text"),
    }
}

/// What a name in a forge is made of: nothing in it may mean something in a glob or a URI.
fn plain(part: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !part.is_empty() && part.len() <= 100 && part.bytes().all(good) && part != "." && part != ".."
}

/// `name` from the parts of a path, as [`Document`](super::Document) names are spelled.
fn derived(prefix: &str, path: &str) -> String {
    format!("{prefix}-{}", path.to_ascii_lowercase().replace(['/', '_'], "-"))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// `minLevel` and `refs`, which every form has. Nothing that is signed says which branch is the default one.
fn asked(members: &Map<String, Value>) -> Result<(Value, Value), Wrong> {
    let branch = text(members, "defaultBranch")?.unwrap_or("main");
    if branch.split('/').any(|part| !plain(part)) {
        return wrong("defaultBranch", "give the name of a branch, for example main");
    }
    let level = members.get("minLevel").cloned().unwrap_or(json!(2));
    if level.as_u64().is_none_or(|level| level > 3) {
        return wrong("minLevel", "the builders of this form reach level 3: give 0 to 3");
    }
    let refs = members.get("refs").cloned().unwrap_or(json!([format!("refs/heads/{branch}"), "refs/tags/*"]));
    let list = refs.as_array().filter(|list| !list.is_empty() && list.iter().all(Value::is_string));
    if list.is_none() {
        return wrong("refs", "give a list of refs, for example [refs/heads/main]");
    }
    let texts = refs.as_array().into_iter().flatten().filter_map(Value::as_str).enumerate();
    let short = |(_, name): &(usize, &str)| !name.starts_with("refs/") && !name.starts_with('*');
    if let Some((index, name)) = texts.into_iter().find(short) {
        let why = format!("`{name}` is no full ref: write `refs/heads/{name}` or `refs/tags/{name}`");
        return Err((vec!["refs".into(), index.into()], Fault::new(why)));
    }
    Ok((level, refs))
}

/// What holds a name to its repository: the ids that are given, and for what is not given those of its first use.
fn held(members: &Map<String, Value>, signer: &mut Value) -> Result<(), Wrong> {
    let mut given = 0;
    for (name, ext) in [("id", "sourceRepositoryId"), ("ownerId", "sourceRepositoryOwnerId")] {
        let Some(id) = text(members, name)? else { continue };
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            return wrong(name, "give the number that the forge has for it, as a text");
        }
        signer["ext"][ext] = id.into();
        given += 1;
    }
    // Whoever gives both has moved the repository on purpose.
    if given < 2 {
        signer["pin"] = "firstUse".into();
    }
    Ok(())
}

const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// A repository on github.com whose images lie beside it.
fn github(value: &Value) -> Result<Short, Wrong> {
    let members =
        members(value, &["repo", "workflow", "refs", "minLevel", "defaultBranch", "id", "ownerId"])?;
    let repo = text(&members, "repo")?.unwrap_or_default();
    if !repo.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name)) {
        return Err((Vec::new(), Fault::new(format!("`{repo}` is not owner/repository"))));
    }
    let workflow = text(&members, "workflow")?;
    if workflow.is_some_and(|file| !plain(file) || !(file.ends_with(".yml") || file.ends_with(".yaml"))) {
        return wrong("workflow", "give the file's name in .github/workflows, for example release.yml");
    }
    let (level, refs) = asked(&members)?;
    let image = format!("ghcr.io/{}", repo.to_ascii_lowercase());
    let uri = format!("https://github.com/{repo}");
    let spec = json!({
        "mode": "enforce",
        "onIndeterminate": "deny",
        "match": { "resources": [image, format!("{image}/*")] },
        "trust": {
            "roots": [PUBLIC_GOOD, GITHUB],
            "builders": github_builders(&members, &uri, workflow)?,
        },
        "build": {
            "minLevel": level,
            "triggers": ["push", "release", "workflow_dispatch", "schedule"],
            "params": { "unknown": "deny" },
        },
        "source": { "repository": repository(&members, &uri)?, "refs": refs, "minLevel": 0 },
    });
    Ok(Short { name: derived("github", repo), spec: object(spec) })
}

/// The repository's own workflows under each of the two roots that vouch for GitHub, and reusable builders that the
/// repository cannot change. All are one domain: however many sign, GitHub is one operator.
fn github_builders(members: &Map<String, Value>, uri: &str, workflow: Option<&str>) -> Result<Value, Wrong> {
    let own =
        format!("{uri}/.github/workflows/{}", workflow.map(|file| format!("{file}@")).unwrap_or_default());
    let hosted = json!({ "sourceRepositoryUri": uri, "runnerEnvironment": "github-hosted" });
    let mut called = hosted.clone();
    if workflow.is_some() {
        called["buildConfigUri"] = json!({ "prefix": own });
    }
    let rule = |id: &str, level: u8, root: &str, san: Value, ext: &Value, build_type: &str| {
        let mut signer =
            json!({ "issuer": GITHUB_ISSUER, "root": root, "san": san, "ext": ext, "timestamp": "required" });
        held(members, &mut signer)?;
        Ok(json!({
            "id": id,
            "domain": "github",
            "maxLevel": level,
            "signer": signer,
            "builderId": { "equals": "signer.san" },
            "buildTypes": [build_type],
            "evidence": evidence(root),
        }))
    };
    let reusable =
        |repo: &str| json!({ "glob": format!("https://github.com/{repo}/.github/workflows/*@refs/tags/v*") });
    let own = json!({ "prefix": own });
    Ok(Value::Array(vec![
        rule("workflow", 2, SIGSTORE, own.clone(), &hosted, "github-workflow")?,
        rule("workflow-private", 2, GITHUB, own, &hosted, "github-workflow")?,
        rule("docker-builder", 3, SIGSTORE, reusable("docker/github-builder"), &called, "buildkit")?,
        rule(
            "slsa-generator",
            3,
            SIGSTORE,
            reusable("slsa-framework/slsa-github-generator"),
            &called,
            "slsa-github-generator",
        )?,
    ]))
}

/// What proves a signature: the public good instance logs each, GitHub's own none.
fn evidence(root: &str) -> Value {
    match root {
        SIGSTORE => json!({ "timestamp": "required", "tlog": "required" }),
        _ => json!({ "timestamp": "required" }),
    }
}

/// `source.repository`.
fn repository(members: &Map<String, Value>, uri: &str) -> Result<Value, Wrong> {
    let mut repository = json!({ "uri": format!("git+{uri}") });
    if let Some(id) = text(members, "id")? {
        repository["id"] = id.into();
    }
    Ok(repository)
}

const GITLAB_COM: &str = "gitlab.com";

/// A project on gitlab.com, or on an instance of one's own.
fn gitlab(value: &Value) -> Result<Short, Wrong> {
    let members =
        members(value, &["project", "instance", "refs", "minLevel", "defaultBranch", "id", "ownerId"])?;
    let project = text(&members, "project")?.unwrap_or_default();
    if project.split('/').count() < 2 || !project.split('/').all(plain) {
        return Err((Vec::new(), Fault::new(format!("`{project}` is not group/project"))));
    }
    let instance = text(&members, "instance")?.unwrap_or(GITLAB_COM);
    let labels = || instance.split('.').all(|label| plain(label) && !label.contains('_'));
    if !instance.contains('.') || instance != instance.to_ascii_lowercase() || !labels() {
        return wrong("instance", "give the instance's host name, for example gitlab.com");
    }
    let (level, refs) = asked(&members)?;
    if level.as_u64() == Some(3) {
        return wrong("minLevel", "the builders of this form reach level 2: give 0 to 2");
    }
    let image = format!("registry.{instance}/{}", project.to_ascii_lowercase());
    let uri = format!("https://{instance}/{project}");
    let mut signer = json!({
        "issuer": format!("https://{instance}"),
        "san": { "prefix": format!("{uri}//") },
        "ext": { "sourceRepositoryUri": uri },
        "timestamp": "required",
    });
    // An instance of one's own has its own runners, and a root of its own vouches for it.
    if instance == GITLAB_COM {
        signer["root"] = SIGSTORE.into();
        signer["ext"]["runnerEnvironment"] = "gitlab-hosted".into();
    }
    held(&members, &mut signer)?;
    let mut trust = json!({
        "builders": [{
            "id": "pipeline",
            "domain": "gitlab",
            "maxLevel": 2,
            "signer": signer,
            "builderId": { "prefix": format!("{uri}/-/runners/") },
            "buildTypes": ["gitlab"],
            "evidence": evidence(if instance == GITLAB_COM { SIGSTORE } else { instance }),
        }],
    });
    if instance == GITLAB_COM {
        trust["roots"] = json!([PUBLIC_GOOD]);
    }
    let spec = json!({
        "mode": "enforce",
        "onIndeterminate": "deny",
        "match": { "resources": [image, format!("{image}/*"), format!("{image}/*/*")] },
        "trust": trust,
        "build": { "minLevel": level, "triggers": ["push", "web", "schedule"], "params": { "unknown": "deny" } },
        "source": { "repository": repository(&members, &uri)?, "refs": refs, "minLevel": 0 },
    });
    Ok(Short { name: derived("gitlab", project), spec: object(spec) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn short(spec: &str) -> String {
        format!("apiVersion: catenary/v1\nkind: ChainPolicy\nspec:\n  {spec}\n")
    }

    #[test]
    fn one_line_protects_an_image() {
        let policy = Policy::parse(&short("github: acme/shop")).unwrap();
        assert_eq!(policy.name(), "github-acme-shop");
        assert!(policy.matches("ghcr.io/acme/shop", Some("prod")));
        assert!(policy.matches("ghcr.io/acme/shop/worker", None));
        assert!(!policy.matches("ghcr.io/acme/shopping", None));
        let spec = policy.spec();
        assert_eq!(spec.build.as_ref().map(|build| build.min_level), Some(2));
        assert_eq!(
            spec.source.as_ref().map(|s| s.repository.uri.as_str()),
            Some("git+https://github.com/acme/shop")
        );
    }

    #[test]
    fn the_expansion_is_a_document_that_means_the_same() {
        for spec in [
            "github: acme/shop",
            "github: {repo: Acme/Shop_2, workflow: release.yml, refs: [\"refs/tags/v*\"], minLevel: 3}",
            "github: {repo: acme/shop, defaultBranch: trunk, id: \"42\", ownerId: \"7\"}",
            "gitlab: group/sub/app",
            "gitlab: {project: group/app, instance: gitlab.acme.test}",
        ] {
            let text = expand(&short(spec)).unwrap().unwrap();
            let (short, long) = (Policy::parse(&short(spec)).unwrap(), Policy::parse(&text).unwrap());
            assert_eq!(format!("{:?}", short.spec()), format!("{:?}", long.spec()), "{text}");
            assert_eq!(short.name(), long.name());
            assert_eq!(expand(&text).unwrap(), None, "it is written out already");
        }
    }

    #[test]
    fn the_names_of_workflows_are_anchored() {
        let policy = Policy::parse(&short("github: {repo: acme/shop, workflow: release.yml}")).unwrap();
        let text = format!("{:?}", policy.spec().trust.builders);
        assert!(text.contains("acme/shop/.github/workflows/release.yml@\""), "{text}");
        let policy = Policy::parse(&short("github: acme/shop")).unwrap();
        let text = format!("{:?}", policy.spec().trust.builders);
        assert!(text.contains("https://github.com/acme/shop/.github/workflows/\""), "{text}");
    }

    #[test]
    fn a_name_is_held_to_the_ids_of_its_first_use_or_to_those_that_are_given() {
        let signers = |spec: &str| {
            let policy = Policy::parse(&short(spec)).unwrap();
            policy.identities().cloned().collect::<Vec<_>>()
        };
        let firsts = signers("github: acme/shop");
        assert!(!firsts.is_empty() && firsts.iter().all(|rule| rule.pin.is_some()));
        assert!(signers("gitlab: group/app").iter().all(|rule| rule.pin.is_some()));
        let given = signers("github: {repo: acme/shop, id: \"42\", ownerId: \"7\"}");
        assert!(given.iter().all(|rule| rule.pin.is_none()));
        assert!(given.iter().all(|rule| rule.ext["sourceRepositoryId"].matches("42")));
        let policy = Policy::parse(&short("github: {repo: acme/shop, defaultBranch: trunk}")).unwrap();
        let refs = policy.spec().source.as_ref().and_then(|source| source.refs.clone()).unwrap();
        assert!(refs.iter().any(|r| r.matches("refs/heads/trunk")));
        assert!(!refs.iter().any(|r| r.matches("refs/heads/main")));
    }

    #[test]
    fn a_section_of_the_document_wins_whole() {
        let document =
            short("github: acme/shop\n  mode: warn\n  match: {resources: [registry.acme.test/shop]}");
        let policy = Policy::parse(&document).unwrap();
        assert!(policy.matches("registry.acme.test/shop", None));
        assert!(!policy.matches("ghcr.io/acme/shop", None));
        assert_eq!(policy.spec().mode, crate::policy::Mode::Warn);
    }

    #[test]
    fn p04_what_a_short_form_cannot_mean_is_refused_with_its_place() {
        let refused = |spec: &str, path: &str| {
            let error = Policy::parse(&short(spec)).expect_err(spec);
            assert_eq!((error.path.as_str(), error.line), (path, 4), "{error}");
            error
        };
        refused("github: acme", "spec.github");
        refused("github: acme/*", "spec.github");
        refused("github: acme/shop/x", "spec.github");
        refused("github: {repo: acme/shop, workflow: \"*\"}", "spec.github.workflow");
        refused("github: {repo: acme/shop, refs: []}", "spec.github.refs");
        refused("github: {repo: acme/shop, minLevel: 4}", "spec.github.minLevel");
        refused("gitlab: {project: g/p, instance: \"gitlab.com/evil\"}", "spec.gitlab.instance");
        let error = refused("github: {repo: acme/shop, worklow: a.yml}", "spec.github.worklow");
        assert_eq!(error.suggestion.as_deref(), Some("workflow"));
        let error = refused("gihub: acme/shop", "spec.gihub");
        assert_eq!(error.suggestion.as_deref(), Some("github"));
    }

    #[test]
    fn a_fault_in_a_section_of_ones_own_has_its_place_in_what_was_sent() {
        let document = short("github: acme/shop\n  time: {maxArtifactAge: 9x}");
        let error = Policy::parse(&document).expect_err("9x is no duration");
        assert_eq!((error.path.as_str(), error.line), ("spec.time.maxArtifactAge", 5), "{error}");
        let document = short("github: acme/shop\n  tmie: {skew: 9s}");
        let error = Policy::parse(&document).expect_err("no member");
        assert_eq!((error.line, error.column, error.suggestion.as_deref()), (5, 3, Some("time")), "{error}");
    }
}
