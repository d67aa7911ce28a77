//! Git commit and tag objects, read from their raw content.
//!
//! The format is the one that `git fsck` demands. The length of the oids inside tells whether the repository is in SHA-1
//! or SHA-256 format, and so which hash proves the object.

use jiff::Timestamp;

use super::{GitCommit, GitSignature, GitTag, ssh, x509};
use crate::{
    digest::GitOid, dsse::within, limits::MAX_PARENTS, refusal::Refusal, signer::Signature, trust::Trust,
};

/// One header with its continuation lines; `raw` is everything of it, the last newline included.
struct Header<'a> {
    name: &'a str,
    value: &'a [u8],
    raw: &'a [u8],
}

/// Reads a commit.
pub(super) fn commit(bytes: &[u8], trust: &Trust) -> Result<(GitOid, GitCommit), Refusal> {
    let refuse = |why: &str| malformed("git commit", why);
    let (headers, _message) = split("git commit", bytes)?;
    let mut rest = headers.iter().peekable();
    let tree =
        rest.next().filter(|h| h.name == "tree").ok_or_else(|| refuse("it does not begin with `tree`"))?;
    let tree = oid("git commit", tree)?;
    let mut parents = Vec::new();
    while let Some(parent) = rest.next_if(|h| h.name == "parent") {
        parents.push(oid("git commit", parent)?);
    }
    within("parents", parents.len(), MAX_PARENTS)?;
    if parents.iter().any(|parent| is_sha256(parent) != is_sha256(&tree)) {
        return Err(refuse("it mixes SHA-1 and SHA-256"));
    }
    let author =
        rest.next().filter(|h| h.name == "author").ok_or_else(|| refuse("`author` is not in its place"))?;
    let committer = rest
        .next()
        .filter(|h| h.name == "committer")
        .ok_or_else(|| refuse("`committer` is not in its place"))?;
    if rest.any(|h| matches!(h.name, "tree" | "parent" | "author" | "committer")) {
        return Err(refuse("a header is there twice"));
    }
    let header = if is_sha256(&tree) { "gpgsig-sha256" } else { "gpgsig" };
    let signature = match one("git commit", &headers, header)? {
        None => None,
        Some(armour) => {
            // What is signed is the object without its signatures, in either format.
            let mut signed = bytes.to_vec();
            for h in headers.iter().rev().filter(|h| h.name == "gpgsig" || h.name == "gpgsig-sha256") {
                let start = offset(bytes, h.raw);
                signed.drain(start..start + h.raw.len());
            }
            Some(signature(&unfold(armour.value), &signed, trust)?)
        }
    };
    let (author, _) = person(author.value);
    let (committer, committed_at) = person(committer.value);
    let oid = hash("commit", bytes, is_sha256(&tree));
    Ok((oid, GitCommit { tree, parents, author, committer, committed_at, signature }))
}

/// Reads an annotated tag. Its signature is appended to the message.
pub(super) fn tag(bytes: &[u8], trust: &Trust) -> Result<(GitOid, GitTag), Refusal> {
    let (headers, message) = split("git tag", bytes)?;
    let need = |position: usize, name: &'static str| {
        headers
            .get(position)
            .filter(|h| h.name == name)
            .ok_or_else(|| malformed("git tag", &format!("`{name}` is not in its place")))
    };
    let target = oid("git tag", need(0, "object")?)?;
    let target_kind = text(need(1, "type")?.value);
    let name = text(need(2, "tag")?.value);
    let tagger = one("git tag", &headers, "tagger")?.map(|h| person(h.value).0);
    if headers.iter().skip(3).any(|h| matches!(h.name, "object" | "type" | "tag")) {
        return Err(malformed("git tag", "a header is there twice"));
    }
    if !matches!(target_kind.as_str(), "commit" | "tree" | "blob" | "tag") {
        return Err(malformed("git tag", "`type` is no type of git object"));
    }
    let signature = match armour_at(message) {
        None => None,
        Some(at) => {
            let start = bytes.len() - message.len() + at;
            Some(signature(&text(&bytes[start..]), &bytes[..start], trust)?)
        }
    };
    let oid = hash("tag", bytes, is_sha256(&target));
    Ok((oid, GitTag { name, target, target_kind, tagger, signature }))
}

/// The key inside an SSH signature, wherever the object keeps it.
pub(super) fn carried_ssh_key(bytes: &[u8]) -> Option<crate::key::PublicKey> {
    let (headers, message) = split("git object", bytes).ok()?;
    let header = headers.iter().find(|h| h.name == "gpgsig" || h.name == "gpgsig-sha256");
    let armour = match header {
        Some(header) => unfold(header.value),
        None => text(&message[armour_at(message)?..]),
    };
    ssh::carried(&armour)
}

fn malformed(kind: &'static str, why: &str) -> Refusal {
    Refusal::Object { kind, pointer: None, why: why.to_owned() }
}

/// Splits the headers off. The message begins after the first empty line.
fn split<'a>(kind: &'static str, bytes: &'a [u8]) -> Result<(Vec<Header<'a>>, &'a [u8]), Refusal> {
    let mut headers = Vec::new();
    let mut rest = bytes;
    loop {
        if rest.is_empty() {
            return Ok((headers, rest));
        }
        if let Some(message) = rest.strip_prefix(b"\n") {
            return Ok((headers, message));
        }
        let mut end = 0;
        loop {
            let Some(line) = rest[end..].iter().position(|b| *b == b'\n') else {
                return Err(malformed(kind, "a header does not end"));
            };
            end += line + 1;
            if rest.get(end) != Some(&b' ') {
                break;
            }
        }
        let (raw, after) = rest.split_at(end);
        let space =
            raw.iter().position(|b| *b == b' ').ok_or_else(|| malformed(kind, "a header has no value"))?;
        let name =
            std::str::from_utf8(&raw[..space]).map_err(|_| malformed(kind, "a header's name is no text"))?;
        let value = &raw[space + 1..end - 1];
        if name.is_empty() || value.contains(&0) {
            return Err(malformed(kind, "a header is malformed"));
        }
        headers.push(Header { name, value, raw });
        rest = after;
    }
}

/// The only header of that name; two could be read in two ways.
fn one<'h, 'a>(
    kind: &'static str,
    headers: &'h [Header<'a>],
    name: &str,
) -> Result<Option<&'h Header<'a>>, Refusal> {
    let mut found = headers.iter().filter(|h| h.name == name);
    let first = found.next();
    match found.next() {
        Some(_) => Err(malformed(kind, &format!("`{name}` is there twice"))),
        None => Ok(first),
    }
}

fn oid(kind: &'static str, header: &Header<'_>) -> Result<GitOid, Refusal> {
    let hex = std::str::from_utf8(header.value).unwrap_or_default();
    GitOid::from_hex(hex).map_err(|e| malformed(kind, &format!("`{}`: {e}", header.name)))
}

fn is_sha256(oid: &GitOid) -> bool {
    matches!(oid, GitOid::Sha256(_))
}

fn hash(kind: &str, bytes: &[u8], sha256: bool) -> GitOid {
    if sha256 { GitOid::sha256(kind, bytes) } else { GitOid::sha1(kind, bytes) }
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// Text to show: git does not demand UTF-8, and NUL would not go into the database.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

/// Continuation lines without their first space.
fn unfold(value: &[u8]) -> String {
    text(value).replace("\n ", "\n")
}

/// `name <email> seconds zone` → the name with the address, and the time.
fn person(value: &[u8]) -> (String, Option<Timestamp>) {
    let value = text(value);
    let Some((who, when)) = value.rsplit_once('>') else { return (value, None) };
    let seconds = when.split_ascii_whitespace().next().and_then(|s| s.parse().ok());
    (format!("{who}>"), seconds.and_then(|s| Timestamp::from_second(s).ok()))
}

/// The beginnings of armour, and what they say about the signature.
const ARMOURS: [(&str, &str); 4] = [
    ("-----BEGIN SSH SIGNATURE-----", "ssh"),
    ("-----BEGIN PGP SIGNATURE-----", "openpgp"),
    ("-----BEGIN PGP MESSAGE-----", "openpgp"),
    ("-----BEGIN SIGNED MESSAGE-----", "x509"),
];

fn method(line: &[u8]) -> Option<&'static str> {
    ARMOURS.iter().find(|(begin, _)| line.starts_with(begin.as_bytes())).map(|(_, method)| *method)
}

/// Where the appended signature of a tag begins: at the last line that opens an armour, as git reads it.
fn armour_at(message: &[u8]) -> Option<usize> {
    let mut start = 0;
    let mut found = None;
    for line in message.split_inclusive(|b| *b == b'\n') {
        if method(line).is_some() {
            found = Some(start);
        }
        start += line.len();
    }
    found
}

fn signature(armour: &str, signed: &[u8], trust: &Trust) -> Result<GitSignature, Refusal> {
    let method = method(armour.as_bytes()).unwrap_or("unknown");
    let signer = match method {
        "x509" => {
            let verified = x509::verify(armour, signed, trust)?;
            return Ok(GitSignature { method: method.to_owned(), verified });
        }
        "ssh" => ssh::verify(armour, signed, trust.keys())?,
        #[cfg(feature = "gpg")]
        "openpgp" => crate::openpgp::verify(armour, signed, trust.keys())?,
        _ => None,
    };
    Ok(GitSignature { method: method.to_owned(), verified: signer.map(Signature::by_key) })
}
