//! What an author should know about a document before anybody relies on it.
//!
//! Errors are what saving would refuse; warnings are what it would take and few people mean.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    Policy, PolicyError, Signer,
    document::{Mode, OnIndeterminate, Spec},
    glob::Matcher,
    place,
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
            "{glob: \"https://github.com/**\"}",
            "{glob: \"https://github.com/*/app/.github/workflows/ci.yml@refs/tags/v1\"}",
            "{glob: \"https://github.com/acme*/**\"}",
            "{regex: \".*acme.*\"}",
            "{regex: \"^.+/acme/app\"}",
            "{regex: \"\\\\S*\"}",
            "{regex: \"[a-z]*://github\\\\.com/acme/.*\"}",
            "{regex: \"https?://.*\"}",
            "{regex: \"https://github\\\\.com/.*\"}",
            "{regex: \"https://github\\\\.com/acme.*\"}",
            "{regex: \"https://github\\\\.com/acme/.*|.*\"}",
            "{regex: \"https://ci.acme.test/.*\"}",
            "{regex: \".{0,}\"}",
            "{regex: \"(?i)https://github\\\\.com/[a-z]+/.*\"}",
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
            "{regex: \"(?i)https://github\\\\.com/acme/.*\"}",
            "{regex: \"https?://ci\\\\.acme\\\\.test/(?:app|lib)/[0-9]+\"}",
            "{regex: \"https://ci\\\\.acme\\\\.test\"}",
            "{regex: \"[a-z]+@acme\\\\.test\"}",
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
    fn who_speaks_for_runs_tags_layouts_and_groups_is_anchored_too() {
        let open = "{issuer: \"https://i.test\", san: {regex: \"[\\\\s\\\\S]*\"}}";
        let source = |more: &str| SOURCE.replace("refs: [", &format!("{more}, refs: ["));
        for (trust, more, path) in [
            (
                format!("runs: [{{id: a, signer: {open}}}]"),
                SOURCE.to_owned(),
                "spec.trust.runs[0].signer.san",
            ),
            (
                format!("groups: {{a: {{identities: [{open}]}}}}"),
                SOURCE.to_owned(),
                "spec.trust.groups.a.identities[0].san",
            ),
            (
                "sources: [{id: a, signer: {service: a}, verifierId: {glob: \"**\"}}]".to_owned(),
                SOURCE.to_owned(),
                "spec.trust.sources[0].verifierId",
            ),
            (
                String::new(),
                source(&format!("signatures: {{commit: {{identities: [{open}]}}}}")),
                "spec.source.signatures.commit.identities[0].san",
            ),
            (
                String::new(),
                source(&format!("signatures: {{tag: {{identities: [{open}]}}}}")),
                "spec.source.signatures.tag.identities[0].san",
            ),
        ] {
            let trust = if trust.is_empty() { trust } else { format!("{trust}, ") };
            let document = document("{exact: a}", &more).replace("trust: {", &format!("trust: {{{trust}"));
            let error = Policy::publish(&document, now()).expect_err(path);
            assert_eq!(error.path, path, "{error}");
            assert!(error.line > 0 && error.column > 0, "{error}");
        }
        let ext =
            document("{exact: a}, ext: {sourceRepositoryUri: {glob: \"https://github.com/**\"}}", SOURCE);
        let error = Policy::publish(&ext, now()).expect_err("any repository");
        assert_eq!(error.path, "spec.trust.builders[0].signer.ext.sourceRepositoryUri", "{error}");
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
