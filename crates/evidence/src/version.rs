//! Versions of packages in order, and ranges of them.
//!
//! Distributions compare as Debian does (deb-version(7): runs of digits as numbers, `~` before everything, letters before
//! other characters). So does everybody else here, except that what follows a `-` is a pre-release and comes before the
//! version itself, and what follows a `+` says nothing (semver.org, 10 and 11).

use std::cmp::Ordering;

/// Compares two versions of a package of this purl type (`npm`, `deb`, …; empty when there is none).
pub fn compare(kind: &str, a: &str, b: &str) -> Ordering {
    let (a, b) = (normal(kind, a), normal(kind, b));
    let ((epoch_a, a), (epoch_b, b)) = (epoch(&a), epoch(&b));
    epoch_a.cmp(&epoch_b).then_with(|| parts(a, b))
}

/// A range: comparators that must all hold, for example `>=1.2, <1.4.7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    comparators: Vec<(Comparator, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparator {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Range {
    /// Reads comparators (`<`, `<=`, `=`, `!=`, `>=`, `>`), separated by commas or spaces.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut comparators = Vec::new();
        let mut rest = text.trim_start_matches([' ', ',']);
        while !rest.is_empty() {
            let known = [
                ("<=", Comparator::LessOrEqual),
                (">=", Comparator::GreaterOrEqual),
                ("!=", Comparator::NotEqual),
                ("<", Comparator::Less),
                (">", Comparator::Greater),
                ("=", Comparator::Equal),
            ];
            let found =
                known.iter().find_map(|(sign, comparator)| Some((*comparator, rest.strip_prefix(sign)?)));
            let Some((comparator, after)) = found else {
                return Err(format!("`{rest}` does not begin with `<`, `<=`, `=`, `!=`, `>=` or `>`"));
            };
            let after = after.trim_start();
            let end = after.find([' ', ',']).unwrap_or(after.len());
            let (version, after) = after.split_at(end);
            if version.is_empty() {
                return Err("a comparator without a version".to_owned());
            }
            comparators.push((comparator, version.to_owned()));
            rest = after.trim_start_matches([' ', ',']);
        }
        if comparators.is_empty() || comparators.len() > 16 {
            return Err("a range has 1 to 16 comparators".to_owned());
        }
        Ok(Self { comparators })
    }

    /// Whether a version is in it.
    pub fn contains(&self, kind: &str, version: &str) -> bool {
        self.comparators.iter().all(|(comparator, bound)| {
            let order = compare(kind, version, bound);
            match comparator {
                Comparator::Less => order.is_lt(),
                Comparator::LessOrEqual => order.is_le(),
                Comparator::Equal => order.is_eq(),
                Comparator::NotEqual => order.is_ne(),
                Comparator::GreaterOrEqual => order.is_ge(),
                Comparator::Greater => order.is_gt(),
            }
        })
    }
}

fn normal(kind: &str, version: &str) -> String {
    if matches!(kind, "deb" | "rpm" | "apk" | "alpm") {
        return version.to_owned();
    }
    let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
    let version = version.split('+').next().unwrap_or_default();
    match version.split_once('-') {
        Some((release, before)) => format!("{release}~{before}"),
        None => version.to_owned(),
    }
}

fn epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()) => {
            (epoch.parse().unwrap_or(u64::MAX), rest)
        }
        _ => (0, version),
    }
}

/// Alternately what is no digit, and numbers.
fn parts(mut a: &str, mut b: &str) -> Ordering {
    loop {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let (number_a, after_a) = rest_a.split_at(digits(rest_a));
        let (number_b, after_b) = rest_b.split_at(digits(rest_b));
        let order = texts(text_a, text_b).then_with(|| numbers(number_a, number_b));
        if order.is_ne() || (after_a.is_empty() && after_b.is_empty()) {
            return order;
        }
        (a, b) = (after_a, after_b);
    }
}

fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

/// Numbers of any length; none is zero.
fn numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn texts(a: &str, b: &str) -> Ordering {
    let rank = |c: Option<char>| match c {
        Some('~') => (0, '\0'),
        None => (1, '\0'),
        Some(c) if c.is_ascii_alphabetic() => (2, c),
        Some(c) => (3, c),
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (x, y) = (a.next(), b.next());
        let order = rank(x).cmp(&rank(y));
        if order.is_ne() || (x.is_none() && y.is_none()) {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_their_order() {
        let sorted = |kind: &str, versions: &[&str]| {
            for pair in versions.windows(2) {
                assert!(compare(kind, pair[0], pair[1]).is_lt(), "{kind}: {} < {}", pair[0], pair[1]);
                assert!(compare(kind, pair[1], pair[0]).is_gt(), "{kind}: {} > {}", pair[1], pair[0]);
            }
        };
        sorted(
            "npm",
            &["0.9", "1.0.0-alpha", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0", "1.0.1", "1.2", "1.10", "2"],
        );
        sorted("deb", &["1.0~rc1", "1.0", "1.0-1", "1.0-1+deb12u1", "1.0-2", "1.1", "1:0.5"]);
        sorted("golang", &["v0.0.0-20240101-abc", "v0.1.0", "v1.22.0", "v1.22.10"]);
        assert!(compare("npm", "1.0.0+build1", "1.0.0+build2").is_eq());
        assert!(compare("npm", "v1.0", "1.0").is_eq());
        assert!(compare("", "1.007", "1.7").is_eq());
        assert!(compare("", "99999999999999999999999", "100000000000000000000000").is_lt());
    }

    #[test]
    fn a_range_is_what_all_its_comparators_hold_of() {
        let range = Range::parse(">=1.2, <1.4.7 !=1.3").unwrap();
        for (version, inside) in [
            ("1.2", true),
            ("1.1.9", false),
            ("1.3", false),
            ("1.4.6", true),
            ("1.4.7", false),
            ("1.4.7-rc1", true),
        ] {
            assert_eq!(range.contains("cargo", version), inside, "{version}");
        }
        for bad in ["", "1.2", ">=", "~1.2", ">= , <2", "^1"] {
            assert!(Range::parse(bad).is_err(), "{bad}");
        }
    }
}
