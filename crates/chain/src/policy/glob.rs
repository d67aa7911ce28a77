//! Matchers over text, all anchored at both ends.
//!
//! Everything becomes a `regex`, which matches in linear time whatever the pattern.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Longest pattern that is compiled, in bytes; repository names and URIs are far shorter.
const MAX_PATTERN: usize = 1024;

/// `*` within one path segment, `**` across segments, nothing else is special.
#[derive(Debug, Clone)]
pub struct Glob {
    text: String,
    /// Bytes before the first star: most texts that do not match differ there, and most globs have nothing else.
    fixed: usize,
    regex: regex::Regex,
}

impl Glob {
    /// Compiles `text`.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(format!("a glob takes 1 to {MAX_PATTERN} bytes"));
        }
        let mut pattern = String::from(r"(?s)\A");
        let mut rest = text;
        while let Some(star) = rest.find('*') {
            pattern.push_str(&regex::escape(&rest[..star]));
            let across = rest[star..].starts_with("**");
            pattern.push_str(if across { ".*" } else { "[^/]*" });
            rest = &rest[star + if across { 2 } else { 1 }..];
        }
        pattern.push_str(&regex::escape(rest));
        pattern.push_str(r"\z");
        let regex = regex::Regex::new(&pattern).map_err(|e| e.to_string())?;
        let fixed = text.find('*').unwrap_or(text.len());
        Ok(Self { text: text.to_owned(), fixed, regex })
    }

    /// Whether it matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let (fixed, rest) = self.text.split_at(self.fixed);
        match rest {
            "" => text == fixed,
            "**" => text.starts_with(fixed),
            _ => text.starts_with(fixed) && self.regex.is_match(text),
        }
    }

    /// Whether some text matches both, as far as the texts before their first stars say: rather yes.
    pub fn may_meet(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.text[..self.fixed], &other.text[..other.fixed]);
        match (mine == self.text, theirs == other.text) {
            (true, _) => other.matches(mine),
            (_, true) => self.matches(theirs),
            _ => mine.starts_with(theirs) || theirs.starts_with(mine),
        }
    }

    /// The glob as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Whether any of `globs` matches.
pub fn any(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

/// The globs as written, for `expected`.
pub fn texts(globs: &[Glob]) -> Vec<String> {
    globs.iter().map(|glob| glob.text.clone()).collect()
}

/// Exactly one of `exact`, `prefix`, `glob`, `regex`.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// The text itself.
    Exact(String),
    /// What the text starts with.
    Prefix(String),
    /// A glob.
    Glob(Glob),
    /// A regular expression: the source as written, and compiled as `^(?:…)$`.
    Regex(String, regex::Regex),
}

impl Matcher {
    /// Whether it matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Glob(glob) => glob.matches(text),
            Self::Regex(_, regex) => regex.is_match(text),
        }
    }

    /// The matcher for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Exact(text) => text.clone(),
            Self::Prefix(text) => format!("{text}… (prefix)"),
            Self::Glob(glob) => format!("{} (glob)", glob.text),
            Self::Regex(text, _) => format!("{text} (regex)"),
        }
    }
}

/// As written.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Regex(a, _), Self::Regex(b, _)) => a == b,
            (Self::Glob(a), Self::Glob(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Matcher {}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, text) = match self {
            Self::Exact(text) => ("exact", text.as_str()),
            Self::Prefix(text) => ("prefix", text.as_str()),
            Self::Glob(glob) => ("glob", glob.as_str()),
            Self::Regex(text, _) => ("regex", text.as_str()),
        };
        serializer.collect_map([(name, text)])
    }
}

/// Compiles `^(?:…)$`. The source must compile alone first: `a)|(b` would else break out of the anchors.
fn anchored(source: &str) -> Result<regex::Regex, String> {
    if source.is_empty() || source.len() > MAX_PATTERN {
        return Err(format!("a regex takes 1 to {MAX_PATTERN} bytes"));
    }
    let build = |pattern: &str| {
        regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|e| e.to_string())
    };
    build(source)?;
    build(&format!(r"\A(?:{source})\z"))
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            exact: Option<String>,
            prefix: Option<String>,
            glob: Option<Glob>,
            regex: Option<String>,
        }
        let wire = Wire::deserialize(deserializer)?;
        let matcher = match (wire.exact, wire.prefix, wire.glob, wire.regex) {
            (Some(text), None, None, None) => Self::Exact(text),
            (None, Some(text), None, None) => Self::Prefix(text),
            (None, None, Some(glob), None) => Self::Glob(glob),
            (None, None, None, Some(source)) => {
                let regex = anchored(&source).map_err(D::Error::custom)?;
                Self::Regex(source, regex)
            }
            _ => {
                return Err(D::Error::custom(
                    "a matcher has exactly one of `exact`, `prefix`, `glob`, `regex`",
                ));
            }
        };
        match &matcher {
            Self::Exact(text) | Self::Prefix(text) if text.is_empty() => {
                Err(D::Error::custom("an empty text matches nothing or everything"))
            }
            _ => Ok(matcher),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_segment() {
        let glob = Glob::new("registry.acme.test/acme/*").unwrap();
        assert!(glob.matches("registry.acme.test/acme/app"));
        assert!(!glob.matches("registry.acme.test/acme/app/evil"));
        assert!(!glob.matches("registry.acme.test/acme"));
        assert!(!glob.matches("evil/registry.acme.test/acme/app"));
        assert!(!glob.matches("registryXacme.test/acme/app"), "a dot is a dot");
        assert!(Glob::new("registry.acme.test/**").unwrap().matches("registry.acme.test/a/b/c"));
        assert!(Glob::new("**").unwrap().matches("a\nb/c"));
    }

    #[test]
    fn nothing_else_is_special() {
        let glob = Glob::new("a?[b]{c,d}\\").unwrap();
        assert!(glob.matches("a?[b]{c,d}\\"));
        assert!(!glob.matches("axbc"));
    }

    #[test]
    fn a_regex_is_anchored_at_both_ends() {
        let matcher = |source: &str| anchored(source).map(|r| Matcher::Regex(source.to_owned(), r));
        let ci = matcher("https://ci|https://other").unwrap();
        assert!(ci.matches("https://ci"));
        assert!(!ci.matches("https://ci.evil.test"));
        assert!(!ci.matches("x https://other"));
        assert!(!ci.matches("https://ci\n"));
        assert!(matcher("a)|(?:b").is_err(), "cannot break out of the anchors");
    }
}
