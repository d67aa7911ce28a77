//! Patterns of other tools as globs and matchers: exactly, or not at all.

use super::super::glob::{Glob, Matcher};

/// One thing after another that a pattern matches.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    /// Within a segment.
    Segment,
    Any,
}

/// A regular expression of Go as a matcher, when it begins with `^` and has nothing but text, `.*` and `[^/]*`. One that does not
/// end in `$` is about how the text begins. (A `.` matches no line break; names have none.)
pub fn regex(source: &str) -> Result<Matcher, String> {
    let Some(mut rest) = source.strip_prefix('^') else {
        return Err("it is not anchored: it matches names that only contain what it says".to_owned());
    };
    let (mut pieces, mut closed) = (Vec::new(), false);
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            _ if rest == "$" => {
                closed = true;
                1
            }
            _ if rest.starts_with(".*") => star(&mut pieces, Piece::Any, 2),
            _ if rest.starts_with("[^/]*") => star(&mut pieces, Piece::Segment, 5),
            '\\' => match rest[1..].chars().next() {
                Some(plain) if plain.is_ascii_punctuation() => 1 + literal(&mut pieces, plain),
                _ => return Err("it has a class of characters".to_owned()),
            },
            '.' => return Err("a `.` in it stands for any character: write `\\.` for a dot".to_owned()),
            '^' | '$' | '|' | '(' | ')' | '[' | ']' | '{' | '}' | '?' | '*' | '+' => {
                return Err(format!("`{first}` in it is more than text, `.*` and `[^/]*`"));
            }
            plain => literal(&mut pieces, plain),
        };
        rest = &rest[taken..];
    }
    if !closed {
        star(&mut pieces, Piece::Any, 0);
    }
    matcher(pieces)
}

/// A wildcard of Kyverno as a matcher: `*` goes across segments, `?` is one character.
pub fn wildcard(source: &str) -> Result<Matcher, String> {
    if source.contains('?') {
        return Err("`?` stands for one character, which no glob here says".to_owned());
    }
    let mut pieces = Vec::new();
    for (position, text) in source.split('*').enumerate() {
        if position > 0 {
            star(&mut pieces, Piece::Any, 0);
        }
        text.chars().for_each(|c| {
            literal(&mut pieces, c);
        });
    }
    matcher(pieces)
}

fn literal(pieces: &mut Vec<Piece>, plain: char) -> usize {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(plain),
        _ => pieces.push(Piece::Text(plain.to_string())),
    }
    plain.len_utf8()
}

/// Adds a star. Two beside each other are one, the wider.
fn star(pieces: &mut Vec<Piece>, star: Piece, taken: usize) -> usize {
    match pieces.last_mut() {
        Some(last @ (Piece::Any | Piece::Segment)) => {
            if star == Piece::Any {
                *last = Piece::Any;
            }
        }
        _ => pieces.push(star),
    }
    taken
}

fn matcher(pieces: Vec<Piece>) -> Result<Matcher, String> {
    match pieces.as_slice() {
        [] | [Piece::Any | Piece::Segment] => return Err("it matches whatever there is".to_owned()),
        [Piece::Text(text)] => return Ok(Matcher::Exact(text.clone())),
        [Piece::Text(text), Piece::Any] => return Ok(Matcher::Prefix(text.clone())),
        _ => {}
    }
    let mut glob = String::new();
    for piece in &pieces {
        match piece {
            Piece::Text(text) if text.contains('*') => {
                return Err("it has a star that stands for itself".to_owned());
            }
            Piece::Text(text) => glob.push_str(text),
            Piece::Segment => glob.push('*'),
            Piece::Any => glob.push_str("**"),
        }
    }
    Glob::new(&glob).map(Matcher::Glob)
}

/// A pattern over image references as globs over repositories, and the tags that it is about, when these are not all.
#[derive(Debug, PartialEq)]
pub struct Images {
    /// Over `registry/repository`.
    pub globs: Vec<String>,
    /// What it says about tags or digests.
    pub tag: Option<String>,
}

/// What a policy's glob is about in sigstore's policy-controller: `*` within a segment, `**` across.
pub fn cip_images(glob: &str) -> Images {
    let (name, tag) = split(glob);
    let name = match name {
        "*" => "docker.io/library/*".to_owned(),
        "*/*" => "docker.io/*/*".to_owned(),
        name => on_docker(name),
    };
    Images { globs: vec![name], tag }
}

/// The same of Kyverno, where `*` goes across segments.
pub fn kyverno_images(pattern: &str) -> Result<Images, String> {
    if pattern.contains('?') {
        return Err("`?` stands for one character, which no glob here says".to_owned());
    }
    let (name, tag) = split(pattern);
    let mut wide = String::new();
    for c in name.chars() {
        match c {
            '*' if wide.ends_with('*') => {}
            '*' => wide.push_str("**"),
            other => wide.push(other),
        }
    }
    let name = on_docker(&wide);
    let mut globs = vec![name.clone()];
    // Kyverno calls an official image of Docker Hub docker.io/nginx, we call it docker.io/library/nginx.
    if let Some(short) = name.strip_prefix("docker.io/").filter(|short| !short.contains('/')) {
        globs.push(format!("docker.io/library/{short}"));
    }
    Ok(Images { globs, tag })
}

/// The repository, and what is said about its tags or digests unless that is anything.
fn split(pattern: &str) -> (&str, Option<String>) {
    let from = pattern.rfind('/').map_or(0, |slash| slash + 1);
    // A digest's own colon comes after its `@`.
    let cut = pattern[from..].find(['@', ':']).map(|at| from + at);
    let Some(cut) = cut else { return (pattern, None) };
    let tag = &pattern[cut + 1..];
    let any = ["*", "**", "sha256:*", "sha256:**"].contains(&tag);
    (&pattern[..cut], (!any).then(|| tag.to_owned()))
}

/// The name with the host that we give it.
fn on_docker(name: &str) -> String {
    let (host, rest) = name.split_once('/').unwrap_or((name, ""));
    if host == "index.docker.io" {
        return format!("docker.io/{rest}");
    }
    if host.contains(['.', ':', '*']) || host == "localhost" {
        return name.to_owned();
    }
    match rest {
        "" => format!("docker.io/library/{name}"),
        _ => format!("docker.io/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(matcher: Result<Matcher, String>) -> String {
        matcher.map_or_else(|why| format!("no: {why}"), |matcher| serde_json::to_string(&matcher).unwrap())
    }

    #[test]
    fn a_regex_is_carried_over_when_it_says_what_a_matcher_says() {
        for (source, matcher) in [
            (r"^https://accounts\.google\.com$", r#"{"exact":"https://accounts.google.com"}"#),
            (r"^https://github\.com/acme/.*$", r#"{"prefix":"https://github.com/acme/"}"#),
            (r"^https:\/\/github\.com\/acme\/", r#"{"prefix":"https://github.com/acme/"}"#),
            (
                r"^https://github\.com/acme/[^/]*/\.github/workflows/release\.yml@refs/tags/.*$",
                r#"{"glob":"https://github.com/acme/*/.github/workflows/release.yml@refs/tags/**"}"#,
            ),
            (r"^.*@acme\.test$", r#"{"glob":"**@acme.test"}"#),
            (r"^a[^/]*.*b$", r#"{"glob":"a**b"}"#),
            (r"^a\*$", r#"{"exact":"a*"}"#),
        ] {
            assert_eq!(told(regex(source)), matcher, "{source}");
        }
    }

    #[test]
    fn a_regex_that_says_anything_else_is_not() {
        for (source, why) in [
            (r"https://github\.com/acme/.*", "not anchored"),
            (r".*acme.*", "not anchored"),
            (r"(?i)^acme$", "not anchored"),
            (r"^https://github.com/acme/.*$", "any character"),
            (r"^a.+$", "any character"),
            (r"^a[^/]+$", "`[`"),
            (r"^(a|b)$", "`(`"),
            (r"^a|b$", "`|`"),
            (r"^a$|b", "`$`"),
            (r"^a*$", "`*`"),
            (r"^\w+$", "class"),
            (r"^a\", "class"),
            (r"^a\*.*b$", "star"),
            (r"^.*$", "whatever"),
            (r"^", "whatever"),
            (r"^$", "whatever"),
        ] {
            let told = told(regex(source));
            assert!(told.starts_with("no: ") && told.contains(why), "{source}: {told}");
        }
    }

    #[test]
    fn a_wildcard_goes_across_segments() {
        assert_eq!(told(wildcard("ann@acme.test")), r#"{"exact":"ann@acme.test"}"#);
        assert_eq!(told(wildcard("https://github.com/acme/*")), r#"{"prefix":"https://github.com/acme/"}"#);
        assert_eq!(told(wildcard("https://g/*/x@**")), r#"{"glob":"https://g/**/x@**"}"#);
        assert!(told(wildcard("*")).contains("whatever"));
        assert!(told(wildcard("")).contains("whatever"));
        assert!(told(wildcard("a?")).contains('?'));
    }

    #[test]
    fn images_are_named_as_resources_are() {
        let cip = |glob: &str| {
            let Images { globs, tag } = cip_images(glob);
            (globs.join(" "), tag)
        };
        assert_eq!(cip("**"), ("**".into(), None));
        assert_eq!(cip("*"), ("docker.io/library/*".into(), None));
        assert_eq!(cip("ghcr.io/acme/app*"), ("ghcr.io/acme/app*".into(), None));
        assert_eq!(cip("ghcr.io/acme/app:**"), ("ghcr.io/acme/app".into(), None));
        assert_eq!(cip("ghcr.io/acme/app@*"), ("ghcr.io/acme/app".into(), None));
        assert_eq!(cip("registry.test:5000/app:v1*"), ("registry.test:5000/app".into(), Some("v1*".into())));
        assert_eq!(cip("a/b@sha256:00"), ("docker.io/a/b".into(), Some("sha256:00".into())));
        assert_eq!(cip("index.docker.io/library/nginx*"), ("docker.io/library/nginx*".into(), None));
        assert_eq!(cip("nginx*"), ("nginx*".into(), None), "a host may begin so");
        let kyverno =
            |pattern: &str| kyverno_images(pattern).map(|images| (images.globs.join(" "), images.tag));
        assert_eq!(kyverno("ghcr.io/acme/*"), Ok(("ghcr.io/acme/**".into(), None)));
        assert_eq!(kyverno("ghcr.io/acme/app:v*"), Ok(("ghcr.io/acme/app".into(), Some("v*".into()))));
        assert_eq!(kyverno("*"), Ok(("**".into(), None)));
        assert_eq!(kyverno("nginx"), Ok(("docker.io/library/nginx".into(), None)));
        assert_eq!(
            kyverno("docker.io/nginx*"),
            Ok(("docker.io/nginx** docker.io/library/nginx**".into(), None))
        );
        assert!(kyverno("ghcr.io/a?").is_err());
    }
}
