//! Who must have signed what: the trees of `and`, `or` and `k of n` that other tools write, as the rules of `require`, all of which
//! must hold.

use catenary_evidence::KeyId;
use serde_json::{Value, json};

use super::super::glob::Matcher;

/// Whoever may sign.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    /// A registered key.
    Key(KeyId),
    /// Whose certificates.
    Name(Name),
}

/// A certificate identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// The OIDC issuer.
    pub issuer: String,
    /// The certificate's name.
    pub san: Matcher,
    /// The trust domain.
    pub root: String,
    /// Extensions of the certificate.
    pub ext: Vec<(String, Matcher)>,
}

impl By {
    /// Whether it can be one signer only.
    fn is_one(&self) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Name(name) => matches!(name.san, Matcher::Exact(_)),
        }
    }

    /// As a policy has it: a key's id, or an identity.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Key(id) => json!(id.to_string()),
            Self::Name(Name { issuer, san, root, ext }) => {
                let mut value = json!({ "issuer": issuer, "san": san, "root": root });
                for (name, matcher) in ext {
                    value["ext"][name] = json!(matcher);
                }
                value
            }
        }
    }
}

/// What must have been signed, by whom.
#[derive(Debug, Clone)]
pub enum Want {
    /// A statement of one of these kinds, by this signer.
    Signed {
        /// What the rule is called.
        label: String,
        /// Predicate types.
        kinds: Vec<String>,
        /// Whose signature.
        by: By,
    },
    /// What nobody can do, or nothing here can tell.
    Never,
    /// At least so many of these.
    Of(usize, Vec<Want>),
}

/// One rule of `require`.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// What the rule is called.
    pub label: String,
    /// Predicate types.
    pub kinds: Vec<String>,
    /// Who may sign.
    pub by: Vec<By>,
    /// How many of them must have.
    pub least: usize,
}

/// Rules that all must hold, and whether they ask for exactly what was wanted. When they do not, they ask for more.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// All must hold.
    pub clauses: Vec<Clause>,
    /// Whether nothing more is asked.
    pub exact: bool,
}

impl Want {
    /// The rules, or nothing when it can never be.
    pub fn rules(self) -> Option<Rules> {
        match self {
            Self::Never => None,
            Self::Signed { label, kinds, by } => {
                let clause = Clause { label, kinds, by: vec![by], least: 1 };
                Some(Rules { clauses: vec![clause], exact: true })
            }
            Self::Of(least, of) => {
                let possible: Vec<Rules> = of.into_iter().filter_map(Self::rules).collect();
                (possible.len() >= least).then(|| some_of(least, possible))
            }
        }
    }
}

fn some_of(least: usize, parts: Vec<Rules>) -> Rules {
    let inside = parts.iter().all(|rules| rules.exact);
    if least < parts.len()
        && let Some(clause) = one_rule(least, &parts)
    {
        return Rules { clauses: vec![clause], exact: inside };
    }
    let exact = inside && least == parts.len();
    let mut clauses: Vec<Clause> = Vec::new();
    for clause in parts.into_iter().flat_map(|rules| rules.clauses) {
        if !clauses.contains(&clause) {
            clauses.push(clause);
        }
    }
    Rules { clauses, exact }
}

/// The same as one rule of many signers. Of several that are wanted each must be a signer of its own: a pattern would stand for
/// many, and would be counted more than once.
fn one_rule(least: usize, parts: &[Rules]) -> Option<Clause> {
    let first = parts.first()?.clauses.first()?;
    let mut by: Vec<By> = Vec::new();
    for rules in parts {
        let [clause] = rules.clauses.as_slice() else { return None };
        if clause.least != 1 || clause.kinds != first.kinds {
            return None;
        }
        let alone = clause.by.len() == 1 && clause.by[0].is_one() && !by.contains(&clause.by[0]);
        if least > 1 && !alone {
            return None;
        }
        by.extend(clause.by.iter().filter(|one| !by.contains(one)).cloned().collect::<Vec<_>>());
    }
    Some(Clause { label: first.label.clone(), kinds: first.kinds.clone(), by, least })
}

#[cfg(test)]
mod tests {
    use catenary_evidence::digest::Sha256;

    use super::*;

    fn key(name: &str) -> Want {
        by(By::Key(KeyId(Sha256::of(name.as_bytes()))), "k")
    }

    fn pattern(san: &str) -> Want {
        let san = Matcher::Prefix(san.to_owned());
        by(By::Name(Name { issuer: "i".into(), san, root: "r".into(), ext: Vec::new() }), "k")
    }

    fn by(by: By, kind: &str) -> Want {
        Want::Signed { label: "l".into(), kinds: vec![kind.to_owned()], by }
    }

    /// `signers/least` of each rule; `+` when more is asked than was wanted.
    fn told(want: Want) -> String {
        let Some(rules) = want.rules() else { return "never".to_owned() };
        let each: Vec<String> = rules.clauses.iter().map(|c| format!("{}/{}", c.by.len(), c.least)).collect();
        format!("{}{}", each.join(" "), if rules.exact { "" } else { "+" })
    }

    #[test]
    fn alternatives_are_one_rule_and_all_of_them_are_many() {
        assert_eq!(told(Want::Of(1, vec![key("a"), key("b")])), "2/1");
        assert_eq!(told(Want::Of(2, vec![key("a"), key("b")])), "1/1 1/1");
        assert_eq!(told(Want::Of(2, vec![key("a"), key("b"), key("c")])), "3/2");
        assert_eq!(told(Want::Of(1, vec![Want::Of(1, vec![key("a"), key("b")]), key("c")])), "3/1");
        assert_eq!(told(Want::Of(2, vec![Want::Of(1, vec![key("a"), key("b")]), key("c")])), "2/1 1/1");
    }

    #[test]
    fn what_is_no_rule_asks_for_more_and_never_for_less() {
        // One of two, each of which is two things.
        let both = |a, b| Want::Of(2, vec![key(a), key(b)]);
        assert_eq!(told(Want::Of(1, vec![both("a", "b"), both("c", "d")])), "1/1 1/1 1/1 1/1+");
        // Two names of one pattern would be two of three.
        assert_eq!(told(Want::Of(2, vec![pattern("p"), key("a"), key("b")])), "1/1 1/1 1/1+");
        // Other statements are no alternative signer.
        let sbom = by(By::Key(KeyId(Sha256::of(b"a"))), "sbom");
        assert_eq!(told(Want::Of(1, vec![key("a"), sbom])), "1/1 1/1+");
        // One key that stands there twice is one signer.
        assert_eq!(told(Want::Of(2, vec![key("a"), key("a"), key("b")])), "1/1 1/1+");
        assert_eq!(told(Want::Of(2, vec![key("a"), key("a")])), "1/1");
    }

    #[test]
    fn what_cannot_be_is_no_rule() {
        assert_eq!(told(Want::Of(1, vec![])), "never");
        assert_eq!(told(Want::Of(1, vec![Want::Never])), "never");
        assert_eq!(told(Want::Of(1, vec![Want::Never, key("a")])), "1/1");
        assert_eq!(told(Want::Of(2, vec![Want::Never, key("a")])), "never");
        assert_eq!(
            told(Want::Of(3, vec![key("a"), key("b")])),
            "never",
            "a threshold above the number of keys"
        );
    }
}
