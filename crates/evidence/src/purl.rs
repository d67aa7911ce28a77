//! Package URLs (ECMA-427): which package, apart from where it was got and for what machine.

use std::fmt;

use crate::limits::MAX_TEXT;

/// A package, and maybe a version of it. Qualifiers and subpath say nothing about which package it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Purl {
    kind: String,
    namespace: String,
    name: String,
    version: Option<String>,
}

/// Why a text is no package URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a package URL (`pkg:type/namespace/name@version`): {0}")]
pub struct PurlError(&'static str);

/// Types of which the namespace alone is.
const LOWER_NAMESPACE: [&str; 2] = ["qpkg", "rpm"];

/// Types whose namespace and name are written in lower case.
const LOWER: [&str; 15] = [
    "alpm",
    "apk",
    "bitbucket",
    "bitnami",
    "composer",
    "deb",
    "docker",
    "github",
    "golang",
    "hex",
    "luarocks",
    "npm",
    "oci",
    "pub",
    "pypi",
];

impl Purl {
    /// Reads one. Escapes are undone, and what the type says is written in lower case is.
    pub fn parse(text: &str) -> Result<Self, PurlError> {
        if text.len() > MAX_TEXT {
            return Err(PurlError("it is too long"));
        }
        let scheme = text.get(..4).filter(|scheme| scheme.eq_ignore_ascii_case("pkg:"));
        scheme.ok_or(PurlError("it does not begin with `pkg:`"))?;
        let rest = text[4..].trim_start_matches('/');
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        let (kind, rest) = rest.split_once('/').ok_or(PurlError("there is no name"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
        if kind.is_empty() || !kind.chars().all(plain) || kind.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(PurlError("the type is letters, digits, `.`, `+` and `-`"));
        }
        let kind = kind.to_ascii_lowercase();
        // A version may hold an `@`, as may the namespace of an npm package, which comes before the last `/`.
        let rest = rest.trim_end_matches('/');
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, version) = match rest[slash..].split_once('@') {
            Some((name, version)) => (format!("{}{name}", &rest[..slash]), Some(decode(version)?)),
            // Or a `/`, as the name of a branch does. A part that begins with `@` is a namespace.
            None => match rest.match_indices('@').find(|(at, _)| *at > 0 && !rest[..*at].ends_with('/')) {
                Some((at, _)) => (rest[..at].to_owned(), Some(decode(&rest[at + 1..])?)),
                None => (rest.to_owned(), None),
            },
        };
        // An escaped `/` is no border between parts, and stays escaped.
        let part = |part| decode(part).map(|part| part.replace('/', "%2F"));
        let mut parts = path.split('/').filter(|p| !p.is_empty()).map(part).collect::<Result<Vec<_>, _>>()?;
        let mut name = parts.pop().ok_or(PurlError("there is no name"))?;
        let mut namespace = parts.join("/");
        if LOWER.contains(&kind.as_str()) {
            (name, namespace) = (name.to_lowercase(), namespace.to_lowercase());
        }
        if LOWER_NAMESPACE.contains(&kind.as_str()) {
            namespace = namespace.to_lowercase();
        }
        if kind == "pypi" {
            name = name.replace('_', "-");
        }
        if name.is_empty() {
            return Err(PurlError("the name is empty"));
        }
        Ok(Self { kind, namespace, name, version: version.filter(|version| !version.is_empty()) })
    }

    /// `pkg:type/namespace/name`, by which packages are found.
    pub fn package(&self) -> String {
        match self.namespace.as_str() {
            "" => format!("pkg:{}/{}", self.kind, self.name),
            namespace => format!("pkg:{}/{namespace}/{}", self.kind, self.name),
        }
    }

    /// The name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

/// The qualifiers of a package URL that was read before: on which of the packages of that name it is, where it lies, for what
/// machine.
pub fn qualifiers(text: &str) -> Vec<(String, String)> {
    let text = text.split_once('#').map_or(text, |(before, _)| before);
    let Some((_, list)) = text.split_once('?') else { return Vec::new() };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_ascii_lowercase(), decode(value).ok().filter(|value| !value.is_empty())?))
    };
    list.split('&').filter_map(pair).collect()
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
        write!(f, "{}{version}", self.package())
    }
}

fn decode(text: &str) -> Result<String, PurlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex =
            rest.get(..2).and_then(|hex| hex::decode(hex).ok()).ok_or(PurlError("an escape is not hex"))?;
        bytes.extend(hex);
        rest = &rest[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| PurlError("an escape is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(PurlError("a control character"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_one_spelling() {
        for (text, package, version) in [
            ("pkg:deb/debian/bash@5.2-1?arch=amd64#x/y", "pkg:deb/debian/bash", Some("5.2-1")),
            ("pkg:DEB/Debian/Bash", "pkg:deb/debian/bash", None),
            ("pkg://npm/%40angular/animation@12.3.1", "pkg:npm/@angular/animation", Some("12.3.1")),
            ("pkg:npm/@angular/animation@12.3.1", "pkg:npm/@angular/animation", Some("12.3.1")),
            ("pkg:pypi/Django_package@1.11.1.dev1", "pkg:pypi/django-package", Some("1.11.1.dev1")),
            ("pkg:golang/github.com/Acme/x/v2@v2.0.0", "pkg:golang/github.com/acme/x/v2", Some("v2.0.0")),
            ("pkg:maven/org.Apache/Batik@1.9.1", "pkg:maven/org.Apache/Batik", Some("1.9.1")),
            ("pkg:generic/openssl@1.1.1%2Bdfsg", "pkg:generic/openssl", Some("1.1.1+dfsg")),
            ("pkg:github/Acme/app@feature/x", "pkg:github/acme/app", Some("feature/x")),
            ("pkg:npm/@angular/animation", "pkg:npm/@angular/animation", None),
            ("pkg:rpm/Fedora/ImageMagick@7.1", "pkg:rpm/fedora/ImageMagick", Some("7.1")),
            ("pkg:oci/app@sha256%3Aabc", "pkg:oci/app", Some("sha256:abc")),
        ] {
            let purl = Purl::parse(text).unwrap();
            assert_eq!((purl.package().as_str(), purl.version()), (package, version), "{text}");
            assert_eq!(Purl::parse(&purl.package()).unwrap().package(), package, "{text}");
        }
    }

    #[test]
    fn qualifiers_are_read_and_nothing_else() {
        let of = |text: &str| {
            qualifiers(text).into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            of("pkg:oci/app?Repository_url=r.test%2Fapp&arch=&tag=1#a?b=c"),
            ["repository_url=r.test/app", "tag=1"]
        );
        for none in
            ["pkg:oci/app", "pkg:oci/app@1#x?y=z", "pkg:oci/app?", "pkg:oci/app?arch", "pkg:oci/app?a=%zz"]
        {
            assert!(of(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn what_is_no_package_url_is_refused() {
        for text in [
            "",
            "bash",
            "pkg:",
            "pkg:deb",
            "pkg:deb/",
            "pkg:de b/x",
            "pkg:1x/y",
            "pkg:deb/%zz",
            "pkg:deb/a%00b",
            "pkg:deb/%ff",
            "http://x/y",
        ] {
            assert!(Purl::parse(text).is_err(), "{text}");
        }
        assert!(Purl::parse(&format!("pkg:deb/{}", "x".repeat(MAX_TEXT))).is_err());
    }
}
