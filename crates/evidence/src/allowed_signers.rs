//! OpenSSH `allowed_signers` files (ssh-keygen(1), "ALLOWED SIGNERS"): who may sign, with which key, and when.

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::key::{KeyError, PublicKey};

/// One line: a key, whose it is, and when its signatures count.
#[derive(Debug, Clone)]
pub struct AllowedSigner {
    /// Principal patterns, as written.
    pub principals: String,
    /// The key.
    pub key: PublicKey,
    /// `valid-after`.
    pub valid_from: Option<Timestamp>,
    /// `valid-before`.
    pub valid_until: Option<Timestamp>,
}

/// Why a line cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct AllowedSignersError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No key where one belongs.
    #[error("expected `principals [options] key-type base64-key`")]
    Shape,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// SSH certificates are not read.
    #[error("`cert-authority` is not supported: register the signers' own keys")]
    CertificateAuthority,
    /// An option that nobody knows may be a restriction.
    #[error("the option `{0}` is not known")]
    Option(String),
    /// An end or a beginning that is said twice.
    #[error("the option `{0}` is there twice")]
    Twice(String),
    /// Not `YYYYMMDD[HHMM[SS]][Z]`.
    #[error("`{0}` is not a time of the form YYYYMMDD[HHMM[SS]][Z]")]
    Time(String),
}

/// Reads every line. Lines whose `namespaces` leave out `git` are passed over: such a key signs no commits.
///
/// Times without `Z` are local time to OpenSSH; here all are UTC, since the service has no time zone.
pub fn read(text: &str) -> Result<Vec<AllowedSigner>, AllowedSignersError> {
    let mut signers = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match signer(line) {
            Ok(signer) => signers.extend(signer),
            Err(fault) => return Err(AllowedSignersError { line: number + 1, fault }),
        }
    }
    Ok(signers)
}

fn signer(line: &str) -> Result<Option<AllowedSigner>, Fault> {
    let (principals, mut rest) = word(line).ok_or(Fault::Shape)?;
    let (mut from, mut until, mut git) = (None, None, true);
    let is_key =
        |rest: &str| rest.starts_with("ssh-") || rest.starts_with("ecdsa-") || rest.starts_with("sk-");
    if !is_key(rest) {
        let (options, after) = word(rest).ok_or(Fault::Shape)?;
        rest = after;
        for option in split(options) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "namespaces" => git = lists_git(value),
                "valid-after" if from.is_none() => from = Some(time(value)?),
                "valid-before" if until.is_none() => until = Some(time(value)?),
                // Which of two holds would be a guess; OpenSSH refuses them, too.
                "valid-after" | "valid-before" => return Err(Fault::Twice(name.to_owned())),
                "cert-authority" => return Err(Fault::CertificateAuthority),
                _ => return Err(Fault::Option(name.to_owned())),
            }
        }
    }
    if !is_key(rest) {
        return Err(Fault::Shape);
    }
    let key = PublicKey::from_openssh(rest)?;
    let principals = principals.trim_matches('"').to_owned();
    Ok(git.then_some(AllowedSigner { principals, key, valid_from: from, valid_until: until }))
}

/// Whether a pattern list (ssh_config(5), "PATTERNS") takes the namespace `git`: some pattern does, and none that is negated.
fn lists_git(list: &str) -> bool {
    let (not, with): (Vec<&str>, Vec<&str>) = list.split(',').partition(|pattern| pattern.starts_with('!'));
    let takes = |pattern: &str| {
        let mut pattern = pattern.as_bytes().to_vec();
        pattern.dedup_by(|a, b| *a == b'*' && *b == b'*');
        // Longer ones ask for more characters than there are.
        pattern.len() <= 2 * "git".len() + 1 && matches(&pattern, b"git")
    };
    with.into_iter().any(takes) && !not.into_iter().any(|pattern| takes(&pattern[1..]))
}

/// `*` is any text, `?` any character. For short patterns: it tries every way.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| matches(rest, &text[taken..])),
        ([b'?', pattern @ ..], [_, text @ ..]) => matches(pattern, text),
        ([p, pattern @ ..], [t, text @ ..]) => p == t && matches(pattern, text),
        ([], text) => text.is_empty(),
        (_, []) => false,
    }
}

/// The first word, in which quoted spaces do not count, and what follows.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = unquoted(text, char::is_whitespace)?;
    Some((&text[..end], text[end..].trim_start()))
}

/// Options, at the commas that are not quoted.
fn split(options: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), options);
    while let Some(comma) = unquoted(rest, |c| c == ',') {
        parts.push(&rest[..comma]);
        rest = &rest[comma + 1..];
    }
    parts.push(rest);
    parts
}

fn unquoted(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (!quoted && wanted(c)).then_some(at)
    })
}

fn time(text: &str) -> Result<Timestamp, Fault> {
    let wrong = || Fault::Time(text.to_owned());
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let part =
        |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), |d| d.parse::<i8>().map_err(|_| wrong()));
    let year = digits[..4].parse::<i16>().map_err(|_| wrong())?;
    civil::DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0)
        .and_then(|time| time.to_zoned(TimeZone::UTC))
        .map(|time| time.timestamp())
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICTOdlvvz6pNPBTXCKzM9BHRtFSnXMUmdRU6wVODIR1w someone";

    #[test]
    fn principals_options_and_windows_are_read() {
        let text = format!(
            "# signers\n\nalice@acme.test,bob@acme.test {KEY}\n\
             carol@acme.test namespaces=\"git,file\",valid-after=\"20240102\",valid-before=\"202502030405Z\" {KEY}\n\
             \"two words\" namespaces=\"file\" {KEY}\n"
        );
        let signers = read(&text).unwrap();
        assert_eq!(signers.len(), 2, "a key for files signs no commits");
        assert_eq!(signers[0].principals, "alice@acme.test,bob@acme.test");
        assert_eq!(signers[1].valid_from, Some("2024-01-02T00:00:00Z".parse().unwrap()));
        assert_eq!(signers[1].valid_until, Some("2025-02-03T04:05:00Z".parse().unwrap()));
    }

    #[test]
    fn a_key_that_a_negated_namespace_keeps_from_git_signs_no_commits() {
        for (namespaces, git) in [
            ("git", true),
            ("*", true),
            ("g?t", true),
            ("file,gi*", true),
            ("*,!file", true),
            ("!git,*", false),
            ("*,!g*", false),
            ("!file", false),
            ("gi", false),
            ("gitx", false),
            ("", false),
        ] {
            let line = format!("a@acme.test namespaces=\"{namespaces}\" {KEY}");
            assert_eq!(read(&line).unwrap().len(), usize::from(git), "{namespaces}");
        }
        for (many, git) in [("*?", 0), ("*", 1)] {
            let line = format!("a@acme.test namespaces=\"{}t\" {KEY}", many.repeat(20_000));
            assert_eq!(read(&line).unwrap().len(), git, "and it ends");
        }
    }

    #[test]
    fn what_may_be_a_restriction_is_never_passed_over() {
        let fault = |options: &str| read(&format!("a@acme.test {options} {KEY}")).unwrap_err().fault;
        assert_eq!(fault("cert-authority"), Fault::CertificateAuthority);
        assert_eq!(fault("no-touch"), Fault::Option("no-touch".into()));
        assert_eq!(
            fault("valid-before=\"20240101\",valid-before=\"20990101\""),
            Fault::Twice("valid-before".into())
        );
        assert_eq!(fault("valid-after=\"2024\""), Fault::Time("2024".into()));
        assert_eq!(fault("valid-before=\"20241399\""), Fault::Time("20241399".into()));
        assert_eq!(read("a@acme.test").unwrap_err().fault, Fault::Shape);
        assert!(matches!(read("a@acme.test ssh-ed25519 AAAA").unwrap_err().fault, Fault::Key(_)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\n\"]{0,200}") {
            let _ = read(&text);
        }
    }
}
