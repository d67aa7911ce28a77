//! What an author should know about a document before anybody relies on it.
//!
//! Errors are what saving would refuse; warnings are what it would take and few people mean.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    Policy, PolicyError, Signer,
    document::{Mode, OnIndeterminate, Spec},
    glob::{Glob, Matcher},
    identity::BuilderId,
    place,
    property::Speaker,
};
use crate::reason::Severity;

/// One thing about a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `error` or `warning`.
    pub severity: Severity,
    /// From 1; 0 when the whole document is meant.
    pub line: u64,
    /// From 1; 0 when the whole document is meant.
    pub column: u64,
    /// The member.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl From<PolicyError> for Finding {
    fn from(error: PolicyError) -> Self {
        let PolicyError { line, column, path, message, suggestion, .. } = error;
        Self { severity: Severity::Error, line, column, path, message, suggestion }
    }
}

/// Everything about a document that is to be saved at `now`: the one error that saving would answer with, or every warning.
pub fn lint(document: &str, now: Timestamp) -> Vec<Finding> {
    let policy = match Policy::publish(document, now) {
        Ok(policy) => policy,
        Err(error) => return vec![error.into()],
    };
    let mut findings = Vec::new();
    let soon = now.checked_add(SOON).unwrap_or(Timestamp::MAX);
    if let Some(expires) = policy.expires().filter(|expires| *expires < soon) {
        let message = format!("the policy expires soon, at {expires}");
        findings.push(warning(document, "metadata.expires", message));
    }
    let mut warn = |path: String, message: &str| findings.push(warning(document, &path, message.to_owned()));
    wide(policy.spec(), &mut warn);
    lenient(policy.spec(), &mut warn);
    findings
}

/// Expiry is worth a word this long before.
const SOON: SignedDuration = SignedDuration::from_hours(24 * 30);

fn warning(document: &str, path: &str, message: String) -> Finding {
    let (line, column) = place::of_text(document, path);
    let path = path.to_owned();
    Finding { severity: Severity::Warning, line, column, path, message, suggestion: None }
}

/// Patterns that match more than one name's worth.
fn wide(spec: &Spec, warn: &mut impl FnMut(String, &str)) {
    for (index, glob) in spec.selects.resources.iter().enumerate() {
        if glob.as_str().split('/').next().is_some_and(|host| host.contains('*')) {
            warn(format!("spec.match.resources[{index}]"), "this selects images of any registry");
        }
    }
    for (index, rule) in spec.trust.builders.iter().enumerate() {
        if let Signer::Identity(identity) = &rule.signer
            && let Matcher::Prefix(prefix) = &identity.san
            && ends_inside_a_name(prefix)
        {
            let path = format!("spec.trust.builders[{index}].signer.san.prefix");
            warn(path, "the prefix ends inside a name and matches every longer one: end it with `/` or `@`");
        }
    }
    let refs = spec.source.as_ref().and_then(|source| source.refs.as_ref());
    for (index, glob) in refs.into_iter().flatten().enumerate() {
        if ["**", "*", "refs/**", "refs/heads/**", "refs/heads/*"].contains(&glob.as_str()) {
            warn(format!("spec.source.refs[{index}]"), "this allows branches that nobody reviewed");
        }
    }
}

/// Sections that ask for less than their readers think.
fn lenient(spec: &Spec, warn: &mut impl FnMut(String, &str)) {
    if spec.mode != Mode::Enforce {
        warn("spec.mode".into(), "broken chains are allowed in this mode");
    }
    if spec.on_indeterminate == OnIndeterminate::Allow {
        warn("spec.onIndeterminate".into(), "what cannot be decided is allowed");
    }
    if spec.build.is_some() && spec.source.is_none() {
        warn("spec.build".into(), "without `source`, a trusted builder may have built any repository");
    }
    if spec.source.as_ref().is_some_and(|source| source.refs.is_none()) {
        warn("spec.source".into(), "without `refs`, any branch will do, a pull request's too");
    }
}

/// Whether a longer name than the one that is meant begins with the prefix, too.
fn ends_inside_a_name(prefix: &str) -> bool {
    !prefix.ends_with(['/', '@', ':']) && !prefix.contains("@refs/")
}

/// Hosts on which anybody can have a workflow.
const FORGES: [&str; 3] = ["github.com", "gitlab.com", "bitbucket.org"];

/// Why a matcher of names is as good as none: it is not tied to one host, or on a public forge to one owner.
pub(super) fn unanchored(matcher: &Matcher, of_signer: bool) -> Option<String> {
    match matcher {
        Matcher::Exact(_) => None,
        Matcher::Prefix(prefix) => {
            let Some((_, rest)) = prefix.split_once("://") else {
                return Some(format!(
                    "`{prefix}` is the begin of names of anybody: give `exact`, or a prefix with a host"
                ));
            };
            let Some((host, path)) = rest.split_once('/') else {
                return Some(format!("`{prefix}` also begins names on other hosts: end the host with `/`"));
            };
            let anybody = path.is_empty() && FORGES.contains(&host);
            let cut = !path.is_empty() && !path.contains('/') && FORGES.contains(&host);
            match of_signer && (anybody || cut) {
                true => Some(format!("`{prefix}` also begins names of other owners: end the owner with `/`")),
                false => None,
            }
        }
        Matcher::Glob(glob) => open_glob(glob),
        Matcher::Regex(source, _) => {
            let begin = source.trim_start_matches(['^', '(', '?', ':']);
            let open = [".*", ".+", "[^/]*", "[^/]+"].iter().any(|any| begin.starts_with(any));
            open.then(|| format!("`{source}` begins with anything: begin it with the host"))
        }
    }
}

fn open_glob(glob: &Glob) -> Option<String> {
    let text = glob.as_str();
    let at = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = at.split('/').next().unwrap_or_default();
    // `*@acme.test` is everybody of one mail domain.
    let of_domain = text.strip_prefix("*@").is_some_and(|domain| !domain.is_empty() && !domain.contains('*'));
    let open =
        host.contains("**") || host.is_empty() || host.trim_matches('*').is_empty() || host.ends_with('*');
    (open && !of_domain).then(|| format!("`{text}` matches names on any host: begin it with the host"))
}

/// The first pattern over names of signers and builders that is not anchored.
pub(super) fn anchored(spec: &Spec) -> Result<(), (Vec<place::Step>, String)> {
    let fault = |matcher: &Matcher, of_signer: bool, mut path: Vec<place::Step>, members: &[&str]| {
        let Some(why) = unanchored(matcher, of_signer) else { return Ok(()) };
        path.extend(members.iter().map(|member| place::Step::from(*member)));
        Err((path, why))
    };
    let check = |matcher: &Matcher, of_signer: bool, list: &str, index: usize, members: &[&str]| {
        let path = vec!["spec".into(), "trust".into(), list.into(), index.into()];
        fault(matcher, of_signer, path, members)
    };
    let trust = &spec.trust;
    for (index, rule) in trust.builders.iter().enumerate() {
        if let BuilderId::Matches(matcher) = &rule.builder_id {
            check(matcher, false, "builders", index, &["builderId"])?;
        }
    }
    let signers = (trust.builders.iter().map(|rule| &rule.signer).enumerate().map(|rule| ("builders", rule)))
        .chain(trust.sources.iter().map(|rule| &rule.signer).enumerate().map(|rule| ("sources", rule)))
        .chain(trust.registries.iter().map(|rule| &rule.signer).enumerate().map(|rule| ("registries", rule)))
        .chain(trust.verifiers.iter().map(|rule| &rule.signer).enumerate().map(|rule| ("verifiers", rule)))
        .chain(trust.vex.iter().map(|rule| &rule.signer).enumerate().map(|rule| ("vex", rule)));
    for (list, (index, signer)) in signers {
        if let Signer::Identity(identity) = signer {
            check(&identity.san, true, list, index, &["signer", "san"])?;
        }
    }
    for (index, rule) in trust.verifiers.iter().enumerate() {
        check(&rule.verifier_id, false, "verifiers", index, &["verifierId"])?;
    }
    let required =
        spec.require.iter().enumerate().map(|(index, rule)| {
            (vec![place::Step::from("spec"), "require".into(), index.into()], &rule.signer)
        });
    let tests = spec
        .negatives
        .tests
        .iter()
        .map(|rule| (vec![place::Step::from("spec"), "negatives".into(), "tests".into()], &rule.signer));
    for (index, rule) in spec.require.iter().enumerate() {
        if let Some(matcher) = &rule.verifier_id {
            let path = vec![place::Step::from("spec"), "require".into(), index.into()];
            fault(matcher, false, path, &["verifierId"])?;
        }
    }
    for (path, speaker) in required.chain(tests) {
        if let Speaker::Signer(Signer::Identity(identity)) = speaker {
            fault(&identity.san, true, path, &["signer", "san"])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(san: &str, more: &str) -> String {
        format!(
            "apiVersion: catenary/v1\nkind: ChainPolicy\nmetadata: {{name: p, expires: 2027-01-01T00:00:00Z}}\nspec:\n  match: {{resources: [\"r.test/app\"]}}\n  trust: {{builders: [{{id: ci, signer: {{issuer: \"https://i.test\", san: {san}}}, builderId: {{exact: \"https://ci.test\"}}}}]}}\n  build: {{}}\n{more}"
        )
    }

    fn now() -> Timestamp {
        "2026-12-20T00:00:00Z".parse().unwrap()
    }

    const SOURCE: &str = "  source: {repository: {uri: \"https://git.test/a/b\"}, refs: [refs/heads/main]}\n";

    #[test]
    fn a_pattern_that_is_not_anchored_is_refused_with_its_place_and_the_mend() {
        for san in [
            "{prefix: \"https://github.com\"}",
            "{prefix: \"https://github.com/\"}",
            "{prefix: \"https://github.com/acme\"}",
            "{prefix: \"ann@\"}",
            "{glob: \"**\"}",
            "{glob: \"*/acme/app\"}",
            "{glob: \"https://*/acme/app/**\"}",
            "{glob: \"https://github.com**\"}",
            "{regex: \".*acme.*\"}",
            "{regex: \"^.+/acme/app\"}",
        ] {
            let error = Policy::publish(&document(san, SOURCE), now()).expect_err(san);
            assert_eq!(
                (error.path.as_str(), error.line),
                ("spec.trust.builders[0].signer.san", 6),
                "{error}"
            );
            assert!(error.message.contains("host") || error.message.contains("owner"), "{error}");
        }
        for san in [
            "{prefix: \"https://github.com/acme/\"}",
            "{glob: \"https://github.com/acme/app/.github/workflows/*@refs/tags/v*\"}",
            "{glob: \"*@acme.test\"}",
            "{glob: \"spiffe://acme.test/**\"}",
            "{regex: \"https://github\\\\.com/acme/.*\"}",
        ] {
            assert!(Policy::publish(&document(san, SOURCE), now()).is_ok(), "{san}");
        }
        let builder = document("{exact: a}", SOURCE)
            .replace("{exact: \"https://ci.test\"}", "{prefix: \"https://ci\"}");
        assert_eq!(
            Policy::publish(&builder, now()).expect_err("open").path,
            "spec.trust.builders[0].builderId"
        );
    }

    #[test]
    fn every_signer_of_a_property_is_anchored_too() {
        let open = "{issuer: \"https://i.test\", san: {glob: \"**\"}}";
        for (more, path) in [
            (
                format!("  require: [{{id: a, predicate: [vex], signer: {open}}}]\n"),
                "spec.require[0].signer.san",
            ),
            (format!("  negatives: {{tests: {{signer: {open}}}}}\n"), "spec.negatives.tests.signer.san"),
        ] {
            let error = Policy::publish(&document("{exact: a}", &more), now()).expect_err(&more);
            assert_eq!(error.path, path, "{error}");
        }
        for (rule, path) in [
            (format!("vex: [{{id: a, signer: {open}}}]"), "spec.trust.vex[0].signer.san"),
            (
                format!("verifiers: [{{id: a, signer: {open}, verifierId: {{exact: a}}, policies: [a]}}]"),
                "spec.trust.verifiers[0].signer.san",
            ),
        ] {
            let document = document("{exact: a}", SOURCE).replace("trust: {", &format!("trust: {{{rule}, "));
            assert_eq!(Policy::publish(&document, now()).expect_err(&rule).path, path);
        }
    }

    #[test]
    fn what_few_people_mean_is_told() {
        let told = |document: &str| {
            lint(document, now()).into_iter().map(|f| (f.severity, f.line, f.path)).collect::<Vec<_>>()
        };
        let good = document("{exact: a}", SOURCE).replace("2027-01", "2028-01");
        assert_eq!(told(&good), []);
        let warning = |line, path: &str| (Severity::Warning, line, path.to_owned());
        assert_eq!(told(&document("{exact: a}", SOURCE)), [warning(3, "metadata.expires")]);
        assert_eq!(
            told(&good.replace("refs/heads/main", "refs/heads/*")),
            [warning(8, "spec.source.refs[0]")]
        );
        assert_eq!(told(&good.replace("r.test/app", "**")), [warning(5, "spec.match.resources[0]")]);
        assert_eq!(
            told(&good.replace(SOURCE, "  mode: warn\n")),
            [warning(8, "spec.mode"), warning(7, "spec.build")]
        );
        assert_eq!(
            told(&good.replace("2028-01-01", "2026-01-01")),
            [(Severity::Error, 3, "metadata.expires".to_owned())]
        );
        assert_eq!(told("{}").len(), 1);
        let impossible = good.replace("build: {}", "build: {minLevel: 3}");
        assert_eq!(told(&impossible), [(Severity::Error, 7, "spec.build.minLevel".to_owned())]);
        assert!(Policy::parse(&impossible).is_ok(), "one that was saved once is still read");
    }
}
