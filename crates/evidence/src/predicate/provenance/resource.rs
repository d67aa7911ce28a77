//! The `registry/repository` that the URI of an image dependency names. The digest decides what was used; this
//! says where it was taken from, which `inputs.allow` of a policy compares.

use crate::{predicate::Role, reference::ResourceName};

/// Reads purls (`pkg:docker/…`, `pkg:oci/…`), `docker://` and `oci://` URIs, and, where the role says that it is an image, plain references.
pub(super) fn of(uri: &str, role: Role) -> Option<String> {
    if let Some(purl) = uri.strip_prefix("pkg:docker/") {
        return docker_purl(purl);
    }
    if let Some(purl) = uri.strip_prefix("pkg:oci/") {
        return canonical(&qualifier(purl, "repository_url")?);
    }
    if let Some(reference) = ["docker://", "oci://", "docker-image://", "docker-pullable://"]
        .iter()
        .find_map(|p| uri.strip_prefix(p))
    {
        return canonical(reference);
    }
    let image = matches!(role, Role::BaseImage | Role::BuilderImage) || uri.contains("@sha256:");
    if image && !uri.contains("://") { canonical(uri) } else { None }
}

/// `pkg:docker/<namespace>/<name>@<version>?repository_url=<host>`; BuildKit writes the host into the namespace.
fn docker_purl(purl: &str) -> Option<String> {
    let path = purl.split(['?', '#', '@']).next().and_then(unescape)?;
    match qualifier(purl, "repository_url") {
        Some(host) => canonical(&format!("{}/{path}", host.trim_end_matches('/'))),
        None => canonical(&path),
    }
}

fn qualifier(purl: &str, name: &str) -> Option<String> {
    let (_, qualifiers) = purl.split_once('?')?;
    let qualifiers = qualifiers.split('#').next()?;
    let mut values = qualifiers.split('&').filter_map(|q| q.split_once('=')).filter(|(key, _)| *key == name);
    let (_, value) = values.next()?;
    // Two of one name could be read in two ways.
    if values.next().is_some() { None } else { unescape(value) }
}

/// Percent-decodes the ASCII that purls escape.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        let byte = u8::from_str_radix(code, 16).ok().filter(u8::is_ascii_graphic)?;
        out.push(char::from(byte));
        out.push_str(rest);
    }
    Some(out)
}

/// The canonical name of a reference, without its tag and digest.
fn canonical(reference: &str) -> Option<String> {
    let name = reference.split('@').next()?;
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    ResourceName::familiar(name).ok().map(|resource| resource.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_uris_name_their_repository() {
        for (uri, resource) in [
            ("pkg:docker/alpine@3.17?platform=linux%2Famd64", Some("docker.io/library/alpine")),
            ("pkg:docker/ghcr.io/acme/app@v1?digest=sha256:ab", Some("ghcr.io/acme/app")),
            ("pkg:docker/acme/app@v1?repository_url=ghcr.io", Some("ghcr.io/acme/app")),
            ("pkg:oci/app@sha256%3Aab?repository_url=ghcr.io%2Facme%2Fapp", Some("ghcr.io/acme/app")),
            ("pkg:oci/app@sha256%3Aab", None),
            ("pkg:oci/app?repository_url=a.test/b&repository_url=c.test/d", None),
            (
                "docker://registry.acme.test:5000/base/alpine:3@sha256:ab",
                Some("registry.acme.test:5000/base/alpine"),
            ),
            ("oci://registry.acme.test/base/alpine", Some("registry.acme.test/base/alpine")),
            ("docker://registry.acme.test/base/../evil", None),
            ("https://example.com/x.tar.gz", None),
            ("pkg:npm/left-pad@1.0.0", None),
        ] {
            assert_eq!(of(uri, Role::Generic).as_deref(), resource, "{uri}");
        }
        assert_eq!(of("alpine:3", Role::BaseImage).as_deref(), Some("docker.io/library/alpine"));
        assert_eq!(of("alpine:3", Role::Generic), None);
    }
}
