//! Image references and repository URIs in canonical form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// `registry/repository@algorithm:hex`: the only form that a verdict is given for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// `registry/repository`: host with port, lower case; `docker.io/library/` expanded.
    pub resource: String,
    /// The digest.
    pub digest: Digest,
}

/// Longest `registry/repository` (the distribution specification leaves 255 for both).
pub const MAX_RESOURCE: usize = 255;

/// Why a text is not an image reference, a resource or a repository URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// A tag, which can move, where a digest is needed.
    #[error("`{resource}:{tag}` names a tag; ask for `{resource}@sha256:…`")]
    TagNotDigest {
        /// The resource in canonical form.
        resource: String,
        /// The tag.
        tag: String,
    },
    /// Neither tag nor digest.
    #[error("`{resource}` names no digest; ask for `{resource}@sha256:…`")]
    NoDigest {
        /// The resource in canonical form.
        resource: String,
    },
    /// The digest is malformed.
    #[error("the digest is malformed: {0}")]
    Digest(#[from] crate::digest::DigestError),
    /// Not `registry/repository`.
    #[error("not a repository name: {0}")]
    Resource(&'static str),
    /// Not a URI of a git repository in a form that has one meaning.
    #[error("not a canonical repository URI: {0}")]
    Repository(&'static str),
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    /// Reads `name[:tag]@algorithm:hex`. The tag is ignored: the digest decides.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = split_tag(name);
        let resource = expand(name)?;
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Resource("a tag has at most 128 letters, digits, `.`, `_`, `-`"));
        }
        match (digest, tag) {
            (Some(digest), _) => Ok(Self { resource, digest: digest.parse()? }),
            (None, Some(tag)) => Err(ReferenceError::TagNotDigest { resource, tag: tag.to_owned() }),
            (None, None) => Err(ReferenceError::NoDigest { resource }),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.resource, self.digest)
    }
}

/// `registry/repository` in canonical form: lower case, host with port, `docker.io/library/` expanded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

impl ResourceName {
    /// Reads a name without tag and digest, and expands short names of Docker Hub.
    pub fn familiar(text: &str) -> Result<Self, ReferenceError> {
        expand(text).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ResourceName {
    type Err = ReferenceError;

    /// Reads a name that is canonical already: nothing is expanded.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let name = Self::familiar(text)?;
        if name.0 == text {
            Ok(name)
        } else {
            Err(ReferenceError::Resource("write `registry/repository` in full"))
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits `name:tag`; a colon before the last slash belongs to a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => (before, Some(tag)),
        _ => (name, None),
    }
}

fn is_tag(tag: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(plain) && !tag.starts_with(['.', '-'])
}

/// Checks the grammar of the distribution specification and expands Docker Hub's short names.
fn expand(name: &str) -> Result<String, ReferenceError> {
    use ReferenceError::Resource;
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Resource("names are lower case"));
    }
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let (host, path) = match host {
        "docker.io" | "index.docker.io" if !path.contains('/') => ("docker.io", format!("library/{path}")),
        "index.docker.io" => ("docker.io", path),
        _ => (host, path),
    };
    check_host(host).map_err(Resource)?;
    if !path.split('/').all(is_path_component) {
        return Err(Resource(
            "a path component is lower-case letters and digits, separated by `.`, `_`, `__` or `-`",
        ));
    }
    let resource = format!("{host}/{path}");
    if resource.len() > MAX_RESOURCE {
        Err(Resource("a name has at most 255 characters"))
    } else {
        Ok(resource)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let separator = |b: u8| matches!(b, b'.' | b'_' | b'-');
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let ends = alphanumeric(*first) && alphanumeric(*last);
    let mut runs =
        text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|run| !run.is_empty());
    ends && bytes.iter().all(|b| alphanumeric(*b) || separator(*b))
        && runs.all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

/// A host name or address in lower case with an optional port.
fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(good) && !l.starts_with('-') && !l.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err("a host is lower-case labels, separated by single dots");
    }
    match port {
        Some(port) if port.starts_with('0') || port.parse::<u16>().is_err() || port.starts_with('+') => {
            Err("a port is a number from 1 to 65535")
        }
        _ => Ok(()),
    }
}

/// A git repository in its one canonical form, `git+https://host/path`.
///
/// Two texts are the same repository only when both have this form and it is equal. Whatever could be read
/// in two ways (dot segments, percent escapes, empty segments, credentials, an explicit default port, `.git.git`)
/// is refused instead of being repaired, so that no trick can become equal to the real one (G34).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryUri(String);

impl RepositoryUri {
    /// Reads a URI that may end in `@ref` or `#ref`, and gives the ref apart.
    pub fn split(text: &str) -> Result<(Self, Option<&str>), ReferenceError> {
        let (location, reference) = split_reference(text);
        if reference.is_some_and(str::is_empty) {
            return Err(ReferenceError::Repository("the ref is empty"));
        }
        Ok((canonical(location).map_err(ReferenceError::Repository).map(Self)?, reference))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a dependency's URI says that it is a git repository, so that its `sha1` is a commit
    /// (chain-model 1.1): BuildKit, SLSA v0.2, GCB and slsa-github-generator write it so.
    pub fn is_git_shaped(text: &str) -> bool {
        let (location, _) = split_reference(text);
        text.starts_with("git+")
            || text.starts_with("git://")
            || text.starts_with("git@")
            || text.starts_with("ssh://")
            || (text.starts_with("https://") && location.ends_with(".git"))
    }
}

impl FromStr for RepositoryUri {
    type Err = ReferenceError;

    /// Reads a URI without a ref.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match Self::split(text)? {
            (uri, None) => Ok(uri),
            (_, Some(_)) => Err(ReferenceError::Repository("it names a ref; give the repository alone")),
        }
    }
}

impl fmt::Display for RepositoryUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits at the first `@` or `#` of the path.
fn split_reference(text: &str) -> (&str, Option<&str>) {
    // The authority ends at the first slash (URL) or colon (scp form); an `@` before it is a user.
    let path = match text.find("://") {
        Some(scheme) => text[scheme + 3..].find('/').map_or(text.len(), |slash| scheme + 3 + slash),
        None => text.find(':').unwrap_or(0),
    };
    match text[path..].find(['@', '#']) {
        Some(at) => (&text[..path + at], Some(&text[path + at + 1..])),
        None => (text, None),
    }
}

fn canonical(location: &str) -> Result<String, &'static str> {
    if location.len() > crate::limits::MAX_TEXT {
        return Err("it is too long");
    }
    let bare = location.strip_prefix("git+").unwrap_or(location);
    let (scheme, authority, path) = match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').ok_or("it has no path")?;
            (scheme.to_ascii_lowercase(), authority, path)
        }
        // scp form: user@host:path
        None => {
            let (authority, path) = bare.split_once(':').ok_or("it has no scheme")?;
            if !authority.contains('@') {
                return Err("it has no scheme");
            }
            ("ssh".to_owned(), authority, path.strip_prefix('/').unwrap_or(path))
        }
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host.to_ascii_lowercase()),
        None => (None, authority.to_ascii_lowercase()),
    };
    check_host(&host)?;
    // A user is how ssh says where the key lies; in a URL of the web it is a credential, or a decoy before the host.
    let plain = |user: &str| {
        !user.is_empty() && user.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let scheme = match (scheme.as_str(), user) {
        ("ssh", user) if user.is_none_or(plain) => {
            if host.contains(':') {
                "ssh"
            } else {
                "https"
            }
        }
        ("ssh", _) => return Err("the user is malformed"),
        (_, Some(_)) => return Err("it holds a user or a credential"),
        ("https", None) => "https",
        ("http", None) => "http",
        ("git", None) => "git",
        _ => return Err("the scheme is none of https, http, ssh, git"),
    };
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        "git" => ":9418",
        _ => ":22",
    };
    if host.ends_with(default_port) {
        return Err("it names the default port");
    }
    let path = path.strip_suffix(".git").unwrap_or(path);
    check_path(path)?;
    // GitHub's names are the same in any case; other forges may tell them apart.
    let path = if host == "github.com" { path.to_ascii_lowercase() } else { path.to_owned() };
    Ok(format!("git+{scheme}://{host}/{path}"))
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.ends_with(".git") {
        return Err("it ends in `.git` twice");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'+');
    for segment in path.split('/') {
        match segment {
            "" => return Err("a path segment is empty"),
            "." | ".." => return Err("it has a dot segment"),
            segment if !segment.bytes().all(plain) => {
                return Err("the path has an escape or a special character");
            }
            _ => {}
        }
    }
    Ok(())
}

/// References are text in JSON.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(ImageReference, ResourceName, RepositoryUri);

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6f4bbbe5a2d0bcb7b1d6a31f6ed3c07ba7b4ea7c8bd6cbf9fbb2a3d3be0cbd5a";

    fn image(name: &str) -> String {
        format!("{name}@sha256:{HEX}")
            .parse::<ImageReference>()
            .map_or_else(|e| e.to_string(), |i| i.resource)
    }

    #[test]
    fn image_references_have_one_form() {
        for (text, resource) in [
            ("alpine", "docker.io/library/alpine"),
            ("acme/app", "docker.io/acme/app"),
            ("docker.io/alpine", "docker.io/library/alpine"),
            ("index.docker.io/library/alpine:3.19", "docker.io/library/alpine"),
            ("registry.acme.test:5000/acme/app:v1", "registry.acme.test:5000/acme/app"),
            ("localhost/app", "localhost/app"),
            ("127.0.0.1:5000/a/b__c/d--e", "127.0.0.1:5000/a/b__c/d--e"),
        ] {
            assert_eq!(image(text), resource);
            let reference: ImageReference = format!("{resource}@sha256:{HEX}").parse().unwrap();
            assert_eq!(
                reference.to_string(),
                format!("{resource}@sha256:{HEX}"),
                "the canonical form is stable"
            );
        }
    }

    #[test]
    fn malformed_image_references_are_refused() {
        for text in [
            "",
            "UPPER/x",
            "r.test/App",
            "r.test//app",
            "r.test/app/",
            "/app",
            "r.test/../app",
            "r.test/a..b",
            "r.test/a___b",
            "r.test/app:",
            "r.test/app:a b",
            "r..test/app",
            "r.test:0/app",
            "r.test:99999/app",
            "r.test/a%2fb",
            "r.test/a b",
            "r.test./app",
            "-r.test/app",
            "https://r.test/app",
        ] {
            assert!(format!("{text}@sha256:{HEX}").parse::<ImageReference>().is_err(), "{text}");
        }
        assert!(format!("r.test/{}@sha256:{HEX}", "a".repeat(248)).parse::<ImageReference>().is_ok());
        assert!(format!("r.test/{}@sha256:{HEX}", "a".repeat(249)).parse::<ImageReference>().is_err());
        assert!(format!("r.test/a@sha256:{}", HEX.to_uppercase()).parse::<ImageReference>().is_err());
        assert!(format!("r.test/a@sha256:{HEX}@sha256:{HEX}").parse::<ImageReference>().is_err());
    }

    #[test]
    fn a_tag_is_not_a_digest() {
        assert_eq!(
            "r.test/app:v1".parse::<ImageReference>(),
            Err(ReferenceError::TagNotDigest { resource: "r.test/app".into(), tag: "v1".into() })
        );
        assert_eq!(
            "r.test:5000/app".parse::<ImageReference>(),
            Err(ReferenceError::NoDigest { resource: "r.test:5000/app".into() })
        );
    }

    #[test]
    fn repository_uris_meet_in_one_form() {
        for text in [
            "git+https://github.com/acme/app",
            "https://github.com/Acme/App.git",
            "https://GitHub.com/acme/app",
            "git@github.com:acme/app.git",
            "ssh://git@github.com/acme/app",
            "git+ssh://git@github.com/acme/app.git",
        ] {
            let uri: RepositoryUri = text.parse().unwrap();
            assert_eq!(uri.as_str(), "git+https://github.com/acme/app", "{text}");
            assert_eq!(uri.as_str().parse::<RepositoryUri>().unwrap(), uri, "the canonical form is stable");
        }
        let other: RepositoryUri = "https://git.acme.test:8443/Acme/app".parse().unwrap();
        assert_eq!(other.as_str(), "git+https://git.acme.test:8443/Acme/app");
    }

    #[test]
    fn a_ref_is_split_off() {
        for (text, reference) in [
            ("git+https://git.acme.test/a/b@refs/heads/main", Some("refs/heads/main")),
            ("https://git.acme.test/a/b.git#refs/tags/v1", Some("refs/tags/v1")),
            ("git@git.acme.test:a/b@refs/heads/x", Some("refs/heads/x")),
            ("git+https://git.acme.test/a/b", None),
        ] {
            let (uri, found) = RepositoryUri::split(text).unwrap();
            assert_eq!((uri.as_str(), found), ("git+https://git.acme.test/a/b", reference), "{text}");
        }
    }

    #[test]
    fn g34_no_trick_becomes_equal_to_the_real_repository() {
        for text in [
            "git+https://github.com/acme/app/../evil",
            "git+https://github.com/evil/../acme/app",
            "git+https://github.com/acme/./app",
            "git+https://github.com/acme//app",
            "git+https://github.com//acme/app",
            "git+https://github.com/acme/app/",
            "git+https://github.com/acme%2Fapp",
            "git+https://github.com/%61cme/app",
            "git+https://user@github.com/acme/app",
            "git+https://github.com@evil.test/acme/app",
            "git+https://github.com:443@evil.test/acme/app",
            "git+https://github.com:443/acme/app",
            "git+https://github.com./acme/app",
            "git+https://github.com/acme/app.git.git",
            "git+git+https://github.com/acme/app",
            "git+https://github.com/acme/app?x=1",
            "git+https://github.com\\@evil.test/acme/app",
            "git+https://github.com/acme/app ",
            "git+https://evil.test/github.com/acme/app",
            "git+http://github.com/acme/app",
            "github.com:acme/app",
            "git+https://gıthub.com/acme/app",
            "git+https://github.com",
            "",
        ] {
            let canonical = text.parse::<RepositoryUri>().map(|uri| uri.0);
            assert_ne!(canonical.as_deref(), Ok("git+https://github.com/acme/app"), "{text}");
            let split = RepositoryUri::split(text).map(|(uri, _)| uri.0);
            assert_ne!(split.as_deref(), Ok("git+https://github.com/acme/app"), "{text}");
        }
    }
}
