//! Whether patterns over the names of signers and builders are tied to a host, and on a public forge to an owner.
//!
//! A pattern that matches names of anybody trusts anybody. What a pattern can begin and end with is read from the pattern itself,
//! and not guessed from its first characters: `\S*` and `https?://.*` are as open as `.*`.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::{
    Signer, Spec,
    glob::{Glob, Matcher},
    identity::{BuilderId, IdentityRule},
    place::Step,
    property::Speaker,
    validate::Fault,
};

/// Hosts on which anybody can have a workflow.
const FORGES: [&str; 3] = ["github.com", "gitlab.com", "bitbucket.org"];

/// The first pattern over names of signers and builders that is not anchored.
pub(super) fn anchored(spec: &Spec) -> Result<(), Fault> {
    for (matcher, of_signer, path) in patterns(spec) {
        if let Some(why) = unanchored(matcher, of_signer) {
            return Err((path, why));
        }
    }
    Ok(())
}

macro_rules! path {
    ($($step:expr),*) => { vec![$(Step::from($step)),*] };
}

/// A matcher, whether it is about signers (anybody can be one on a forge), and where it stands.
type Pattern<'s> = (&'s Matcher, bool, Vec<Step>);

fn patterns(spec: &Spec) -> Vec<Pattern<'_>> {
    let mut found = Vec::new();
    let trust = &spec.trust;
    for (name, group) in &trust.groups {
        let at = path!["spec", "trust", "groups", name.as_str(), "identities"];
        identities(&group.identities, &at, &mut found);
    }
    for (index, rule) in trust.builders.iter().enumerate() {
        if let BuilderId::Matches(matcher) = &rule.builder_id {
            found.push((matcher, false, path!["spec", "trust", "builders", index, "builderId"]));
        }
        signer(&rule.signer, path!["spec", "trust", "builders", index, "signer"], &mut found);
    }
    for (index, rule) in trust.sources.iter().enumerate() {
        signer(&rule.signer, path!["spec", "trust", "sources", index, "signer"], &mut found);
        let at = path!["spec", "trust", "sources", index, "verifierId"];
        found.extend(rule.verifier_id.as_ref().map(|matcher| (matcher, false, at)));
    }
    for (index, rule) in trust.registries.iter().enumerate() {
        signer(&rule.signer, path!["spec", "trust", "registries", index, "signer"], &mut found);
    }
    for (index, rule) in trust.runs.iter().enumerate() {
        signer(&rule.signer, path!["spec", "trust", "runs", index, "signer"], &mut found);
    }
    for (index, rule) in trust.verifiers.iter().enumerate() {
        signer(&rule.signer, path!["spec", "trust", "verifiers", index, "signer"], &mut found);
        found.push((&rule.verifier_id, false, path!["spec", "trust", "verifiers", index, "verifierId"]));
    }
    for (index, rule) in trust.vex.iter().enumerate() {
        signer(&rule.signer, path!["spec", "trust", "vex", index, "signer"], &mut found);
    }
    for (index, rule) in spec.layouts.iter().enumerate() {
        signer(&rule.signer, path!["spec", "layouts", index, "signer"], &mut found);
    }
    if let Some(source) = &spec.source {
        let tag = source.signatures.tag.as_ref().and_then(|tag| tag.identities.as_ref());
        for (of, list) in [("commit", source.signatures.commit.identities.as_ref()), ("tag", tag)] {
            let at = path!["spec", "source", "signatures", of, "identities"];
            identities(list.map_or(&[][..], Vec::as_slice), &at, &mut found);
        }
    }
    for (index, rule) in spec.require.iter().enumerate() {
        let at = path!["spec", "require", index, "verifierId"];
        found.extend(rule.verifier_id.as_ref().map(|matcher| (matcher, false, at)));
        speaker(&rule.signer, path!["spec", "require", index, "signer"], &mut found);
    }
    if let Some(rule) = &spec.negatives.tests {
        speaker(&rule.signer, path!["spec", "negatives", "tests", "signer"], &mut found);
    }
    found
}

fn speaker<'s>(speaker: &'s Speaker, path: Vec<Step>, found: &mut Vec<Pattern<'s>>) {
    if let Speaker::Signer(rule) = speaker {
        signer(rule, path, found);
    }
}

/// Of a group, where it is defined.
fn signer<'s>(signer: &'s Signer, path: Vec<Step>, found: &mut Vec<Pattern<'s>>) {
    if let Signer::Identity(rule) = signer {
        identity(rule, path, found);
    }
}

fn identities<'s>(rules: &'s [IdentityRule], path: &[Step], found: &mut Vec<Pattern<'s>>) {
    for (index, rule) in rules.iter().enumerate() {
        identity(rule, path.iter().cloned().chain([index.into()]).collect(), found);
    }
}

/// The name, and the extensions that are names, too.
fn identity<'s>(rule: &'s IdentityRule, path: Vec<Step>, found: &mut Vec<Pattern<'s>>) {
    let at = |members: &[&str]| path.iter().cloned().chain(members.iter().map(|m| Step::from(*m))).collect();
    found.push((&rule.san, true, at(&["san"])));
    let names = rule.ext.iter().filter(|(name, _)| name.ends_with("Uri"));
    found.extend(names.map(|(name, matcher)| (matcher, true, at(&["ext", name]))));
}

/// Why a matcher of names is as good as none: it is not tied to one host, or on a public forge to one owner.
pub(super) fn unanchored(matcher: &Matcher, of_signer: bool) -> Option<String> {
    match matcher {
        Matcher::Exact(_) => None,
        Matcher::Prefix(prefix) => Some(format!("`{prefix}` {}", open(prefix, of_signer)?)),
        Matcher::Glob(glob) => open_glob(glob, of_signer),
        Matcher::Regex(source, _) => open_regex(source, of_signer),
    }
}

/// What else begins as `begin` does.
fn open(begin: &str, of_signer: bool) -> Option<&'static str> {
    let Some((_, rest)) = begin.split_once("://") else {
        return Some("is the begin of names of anybody: give `exact`, or a prefix with a host");
    };
    let Some((host, path)) = rest.split_once('/') else {
        return Some("also begins names on other hosts: end the host with `/`");
    };
    let anybody = FORGES.iter().any(|forge| forge.eq_ignore_ascii_case(host)) && !path.contains('/');
    (of_signer && anybody).then_some("also begins names of other owners: end the owner with `/`")
}

fn open_glob(glob: &Glob, of_signer: bool) -> Option<String> {
    let text = glob.as_str();
    let begin = text.split('*').next().unwrap_or_default();
    if begin == text {
        return None;
    }
    let at = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = at.split('/').next().unwrap_or_default();
    // `*@acme.test` is everybody of one mail domain.
    let of_domain = text.strip_prefix("*@").is_some_and(|domain| !domain.is_empty() && !domain.contains('*'));
    let hosts =
        host.contains("**") || host.is_empty() || host.trim_matches('*').is_empty() || host.ends_with('*');
    if hosts && !of_domain {
        return Some(format!("`{text}` matches names on any host: begin it with the host"));
    }
    if host.contains('*') || of_domain {
        return None;
    }
    // The host is written out; on a forge the owner must be, too.
    let why = open(begin, of_signer).filter(|_| begin.contains("://"))?;
    Some(format!("`{text}` {why}, before the first `*`"))
}

fn open_regex(source: &str, of_signer: bool) -> Option<String> {
    let hir = regex_syntax::parse(source).ok()?;
    let domain = |end: &Text| {
        let domain = end.text.rsplit_once('@').map(|(_, domain)| domain);
        domain.is_some_and(|domain| domain.contains('.') && !domain.contains('/'))
    };
    if texts(&hir, Side::End).iter().all(domain) {
        return None;
    }
    let begins = texts(&hir, Side::Begin);
    let why = begins.iter().filter(|begin| !begin.whole).find_map(|begin| open(&begin.text, of_signer))?;
    Some(format!("`{source}` {why}, with `\\.` for each dot, and only then what varies"))
}

/// What a regular expression can begin or end with.
#[derive(Debug, Clone, PartialEq)]
struct Text {
    text: String,
    /// Nothing follows.
    whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Begin,
    End,
}

/// More texts than this are not told apart: they are cut where they stand.
const MAX_TEXTS: usize = 256;
/// A class of more characters than this can be anything.
const MAX_CLASS: usize = 16;

/// Every match begins (or ends) with one of these.
fn texts(hir: &Hir, side: Side) -> Vec<Text> {
    let whole = |text: String| Text { text, whole: true };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![whole(String::new())],
        HirKind::Literal(literal) => vec![whole(String::from_utf8_lossy(&literal.0).into_owned())],
        HirKind::Class(class) => match letters(class) {
            Some(letters) => letters.into_iter().map(|letter| whole(letter.to_string())).collect(),
            None => vec![Text { text: String::new(), whole: false }],
        },
        HirKind::Capture(capture) => texts(&capture.sub, side),
        HirKind::Repetition(repetition) => {
            let mut found = match (repetition.min, repetition.max) {
                (_, Some(0)) => Vec::new(),
                (0, None | Some(2..)) => return vec![Text { text: String::new(), whole: false }],
                _ => texts(&repetition.sub, side),
            };
            let once = repetition.max.is_some_and(|max| max <= 1);
            found.iter_mut().for_each(|text| text.whole &= once);
            if repetition.min == 0 {
                found.push(whole(String::new()));
            }
            found
        }
        HirKind::Alternation(branches) => {
            let found: Vec<Text> = branches.iter().flat_map(|branch| texts(branch, side)).collect();
            if found.len() > MAX_TEXTS { vec![Text { text: String::new(), whole: false }] } else { found }
        }
        HirKind::Concat(parts) => match side {
            Side::Begin => joined(parts.iter(), side),
            Side::End => joined(parts.iter().rev(), side),
        },
    }
}

fn joined<'h>(parts: impl Iterator<Item = &'h Hir>, side: Side) -> Vec<Text> {
    let mut found = vec![Text { text: String::new(), whole: true }];
    for part in parts {
        let open = found.iter().filter(|text| text.whole).count();
        if open == 0 {
            break;
        }
        let next = texts(part, side);
        if open * next.len() > MAX_TEXTS {
            found.iter_mut().for_each(|text| text.whole = false);
            break;
        }
        let (whole, mut all): (Vec<Text>, Vec<Text>) = found.into_iter().partition(|text| text.whole);
        all.extend(whole.iter().flat_map(|done| {
            next.iter().map(|next| Text {
                text: match side {
                    Side::Begin => format!("{}{}", done.text, next.text),
                    Side::End => format!("{}{}", next.text, done.text),
                },
                whole: next.whole,
            })
        }));
        found = all;
    }
    found
}

/// The characters of a small class, each letter once, whatever its case.
fn letters(class: &Class) -> Option<Vec<char>> {
    let Class::Unicode(class) = class else { return None };
    let mut letters = Vec::new();
    for range in class.ranges() {
        if range.len() > MAX_CLASS {
            return None;
        }
        letters.extend((range.start()..=range.end()).map(folded));
    }
    letters.sort_unstable();
    letters.dedup();
    (letters.len() <= MAX_CLASS).then_some(letters)
}

fn folded(letter: char) -> char {
    let upper = letter.to_uppercase().next().unwrap_or(letter);
    upper.to_lowercase().next().unwrap_or(upper)
}
