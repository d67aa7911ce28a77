//! Artifact rules (in-toto specification 4.3.3): what may go into a step and come out of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Link, pattern::matches};
use crate::{digest::Digest, statement::DigestSet};

/// Artifacts by path.
pub type Artifacts = BTreeMap<String, DigestSet>;

/// One rule. Rules are applied in order to the paths that no rule before has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Takes artifacts that another step has under the same path, with the same digest.
    Match {
        /// Pattern of the path, below `within`.
        pattern: String,
        /// Folder here.
        within: Option<String>,
        /// Materials or products of the other step.
        with: Side,
        /// Folder there.
        folder: Option<String>,
        /// The other step.
        step: String,
    },
    /// A rule with a pattern alone.
    Simple(Kind, String),
}

/// Rules with a pattern alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Takes products that were no materials.
    Create,
    /// Takes materials that are no products.
    Delete,
    /// Takes what is both, with different digests.
    Modify,
    /// Takes anything.
    Allow,
    /// Fails when anything is left.
    Disallow,
    /// Fails when the path is not left.
    Require,
}

/// Materials or products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What went in.
    Materials,
    /// What came out.
    Products,
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// `DISALLOW`, and something is left.
    #[error("`{path}` is disallowed by `DISALLOW {pattern}`")]
    Disallowed {
        /// The first path.
        path: String,
        /// The rule's pattern.
        pattern: String,
    },
    /// `REQUIRE`, and nothing is there.
    #[error("`{path}` is required and not there")]
    Required {
        /// The path.
        path: String,
    },
}

impl Rule {
    /// Reads the words of a rule.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        let texts: Vec<&str> = words.iter().map(String::as_str).collect();
        let first = texts.first().map(|word| word.to_uppercase()).unwrap_or_default();
        let kind = match first.as_str() {
            "MATCH" => return Self::read_match(&texts[1..]),
            "CREATE" => Kind::Create,
            "DELETE" => Kind::Delete,
            "MODIFY" => Kind::Modify,
            "ALLOW" => Kind::Allow,
            "DISALLOW" => Kind::Disallow,
            "REQUIRE" => Kind::Require,
            _ => return Err("it is no artifact rule".into()),
        };
        match texts.as_slice() {
            [_, pattern] if !pattern.is_empty() => Ok(Self::Simple(kind, (*pattern).to_owned())),
            _ => Err(format!("`{first}` takes one pattern")),
        }
    }

    /// `pattern [IN folder] WITH (MATERIALS|PRODUCTS) [IN folder] FROM step`.
    fn read_match(words: &[&str]) -> Result<Self, String> {
        const FORM: &str =
            "it is not `MATCH pattern [IN folder] WITH (MATERIALS|PRODUCTS) [IN folder] FROM step`";
        let is = |word: &str, keyword: &str| word.eq_ignore_ascii_case(keyword);
        let (pattern, rest) = words.split_first().ok_or(FORM)?;
        let (within, rest) = match rest {
            [word, folder, rest @ ..] if is(word, "IN") => (Some(*folder), rest),
            rest => (None, rest),
        };
        let [with, side, rest @ ..] = rest else { return Err(FORM.into()) };
        let side = match () {
            () if !is(with, "WITH") => return Err(FORM.into()),
            () if is(side, "MATERIALS") => Side::Materials,
            () if is(side, "PRODUCTS") => Side::Products,
            () => return Err(FORM.into()),
        };
        let (folder, rest) = match rest {
            [word, folder, rest @ ..] if is(word, "IN") => (Some(*folder), rest),
            rest => (None, rest),
        };
        match rest {
            [from, step] if is(from, "FROM") && !step.is_empty() => Ok(Self::Match {
                pattern: (*pattern).to_owned(),
                within: within.map(str::to_owned),
                with: side,
                folder: folder.map(str::to_owned),
                step: (*step).to_owned(),
            }),
            _ => Err(FORM.into()),
        }
    }
}

impl Link {
    fn side(&self, side: Side) -> &Artifacts {
        match side {
            Side::Materials => &self.materials,
            Side::Products => &self.products,
        }
    }
}

/// Applies the rules to one side of a step's link; `others` are the links of all steps.
pub fn apply(rules: &[Rule], link: &Link, side: Side, others: &BTreeMap<&str, &Link>) -> Result<(), Breach> {
    let artifacts = link.side(side);
    let mut queue: BTreeSet<&str> = artifacts.keys().map(String::as_str).collect();
    for rule in rules {
        let taken: Vec<&str> = match rule {
            Rule::Match { pattern, within, with, folder, step } => {
                let Some(other) = others.get(step.as_str()) else { continue };
                let there = other.side(*with);
                let has = |path: &&&str| {
                    let Some(base) = below(path, within.as_deref()) else { return false };
                    let found = there.get(&join(folder.as_deref(), base));
                    let here = artifacts.get(**path);
                    matches(pattern, base) && here.zip(found).is_some_and(|(a, b)| same(a, b))
                };
                queue.iter().filter(has).copied().collect()
            }
            Rule::Simple(Kind::Require, path) => {
                if !queue.contains(path.as_str()) {
                    return Err(Breach::Required { path: path.clone() });
                }
                continue;
            }
            Rule::Simple(kind, pattern) => {
                let takes = |path: &&&str| matches(pattern, path) && kind.takes(link, path);
                queue.iter().filter(takes).copied().collect()
            }
        };
        if let (Rule::Simple(Kind::Disallow, pattern), Some(path)) = (rule, taken.first()) {
            return Err(Breach::Disallowed { path: (*path).to_owned(), pattern: pattern.clone() });
        }
        for path in taken {
            queue.remove(path);
        }
    }
    Ok(())
}

impl Kind {
    fn takes(self, link: &Link, path: &str) -> bool {
        match (self, link.materials.get(path), link.products.get(path)) {
            (Self::Create, before, after) => before.is_none() && after.is_some(),
            (Self::Delete, before, after) => before.is_some() && after.is_none(),
            (Self::Modify, Some(before), Some(after)) => !same(before, after),
            (Self::Modify, ..) => false,
            (Self::Allow | Self::Disallow | Self::Require, ..) => true,
        }
    }
}

/// The path below a folder.
fn below<'p>(path: &'p str, folder: Option<&str>) -> Option<&'p str> {
    match folder.map(|folder| folder.trim_end_matches('/')) {
        None | Some("") => Some(path),
        Some(folder) => path.strip_prefix(folder)?.strip_prefix('/'),
    }
}

fn join(folder: Option<&str>, base: &str) -> String {
    match folder.map(|folder| folder.trim_end_matches('/')) {
        None | Some("") => base.to_owned(),
        Some(folder) => format!("{folder}/{base}"),
    }
}

/// Whether two digest sets are of the same bytes: a strong digest in common, and none that differs.
fn same(a: &DigestSet, b: &DigestSet) -> bool {
    let kind = |digest: &Digest| std::mem::discriminant(digest);
    let differs = |x: &Digest| b.content.iter().any(|y| kind(x) == kind(y) && x != y);
    a.content.iter().any(|x| b.content.contains(x)) && !a.content.iter().any(differs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;

    fn artifacts(list: &[(&str, &str)]) -> Artifacts {
        let set = |text: &str| DigestSet {
            content: vec![Digest::Sha256(Sha256::of(text.as_bytes()).0)],
            ..DigestSet::default()
        };
        list.iter().map(|(path, text)| ((*path).to_owned(), set(text))).collect()
    }

    fn link(name: &str, materials: &[(&str, &str)], products: &[(&str, &str)]) -> Link {
        Link { name: name.into(), materials: artifacts(materials), products: artifacts(products) }
    }

    fn rules(lines: &[&str]) -> Vec<Rule> {
        let words = |line: &&str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        lines.iter().map(|line| Rule::read(&words(line)).unwrap()).collect()
    }

    fn judge(lines: &[&str], link: &Link, side: Side, others: &[&Link]) -> Result<(), Breach> {
        let others = others.iter().map(|l| (l.name.as_str(), *l)).collect();
        apply(&rules(lines), link, side, &others)
    }

    #[test]
    fn match_takes_the_same_bytes_of_another_step_only() {
        let build = link("build", &[], &[("out/app", "1"), ("out/doc", "2")]);
        let same = link("pack", &[("in/app", "1"), ("in/doc", "2")], &[]);
        let other = link("pack", &[("in/app", "swapped"), ("in/doc", "2")], &[]);
        let lines = ["MATCH * IN in WITH PRODUCTS IN out FROM build", "DISALLOW *"];
        assert_eq!(judge(&lines, &same, Side::Materials, &[&build]), Ok(()));
        assert_eq!(
            judge(&lines, &other, Side::Materials, &[&build]),
            Err(Breach::Disallowed { path: "in/app".into(), pattern: "*".into() })
        );
        // A step that nobody did gives nothing.
        assert!(judge(&lines, &same, Side::Materials, &[]).is_err());
        // `in` is a folder, not a prefix of names.
        let tricky = link("pack", &[("inner/app", "1")], &[]);
        assert!(judge(&lines, &tricky, Side::Materials, &[&build]).is_err());
    }

    #[test]
    fn create_delete_and_modify_compare_both_sides() {
        let step = link(
            "s",
            &[("old", "1"), ("kept", "2"), ("changed", "3")],
            &[("kept", "2"), ("changed", "4"), ("new", "5")],
        );
        assert_eq!(
            judge(&["CREATE new", "MODIFY changed", "ALLOW kept", "DISALLOW *"], &step, Side::Products, &[]),
            Ok(())
        );
        assert_eq!(
            judge(&["DELETE *", "ALLOW kept", "MODIFY *", "DISALLOW *"], &step, Side::Materials, &[]),
            Ok(())
        );
        for (lines, left) in [
            (["CREATE *", "MODIFY *", "DISALLOW *"], "kept"),
            (["CREATE *", "ALLOW kept", "DISALLOW *"], "changed"),
            (["MODIFY *", "ALLOW kept", "DISALLOW *"], "new"),
        ] {
            let breach = judge(&lines, &step, Side::Products, &[]).unwrap_err();
            assert_eq!(breach, Breach::Disallowed { path: left.into(), pattern: "*".into() });
        }
    }

    #[test]
    fn require_asks_for_what_no_rule_has_taken() {
        let step = link("s", &[], &[("app", "1")]);
        assert_eq!(judge(&["REQUIRE app", "ALLOW *"], &step, Side::Products, &[]), Ok(()));
        assert_eq!(
            judge(&["ALLOW *", "REQUIRE app"], &step, Side::Products, &[]),
            Err(Breach::Required { path: "app".into() })
        );
        assert!(judge(&["REQUIRE other"], &step, Side::Products, &[]).is_err());
        // What no rule speaks of is tolerated.
        assert_eq!(judge(&["ALLOW x"], &step, Side::Products, &[]), Ok(()));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for line in [
            "",
            "PERMIT *",
            "ALLOW",
            "ALLOW a b",
            "MATCH",
            "MATCH *",
            "MATCH * WITH PRODUCTS",
            "MATCH * WITH THINGS FROM a",
            "MATCH * WITH PRODUCTS FROM a b",
            "MATCH * IN x PRODUCTS FROM a",
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert!(Rule::read(&words).is_err(), "{line}");
        }
    }

    #[test]
    fn weak_digests_are_never_the_same_bytes() {
        let weak = DigestSet { ignored: vec!["md5".into()], ..DigestSet::default() };
        assert!(!same(&weak, &weak));
    }
}
