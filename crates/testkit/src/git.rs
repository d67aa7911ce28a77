//! Git objects, byte for byte, with both hash functions and SSH signatures.

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::key::Key;

/// A repository's object format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hash {
    /// 40 hex digits.
    #[default]
    Sha1,
    /// 64 hex digits.
    Sha256,
}

/// `<type> SP <size> NUL <content>`: what is hashed.
pub fn framed(kind: &str, content: &[u8]) -> Vec<u8> {
    [format!("{kind} {}\0", content.len()).as_bytes(), content].concat()
}

/// The object id.
pub fn oid(hash: Hash, kind: &str, content: &[u8]) -> String {
    let framed = framed(kind, content);
    match hash {
        Hash::Sha1 => hex::encode(Sha1::digest(&framed)),
        Hash::Sha256 => hex::encode(Sha256::digest(&framed)),
    }
}

/// The id of a blob.
pub fn blob_oid(hash: Hash, content: &[u8]) -> String {
    oid(hash, "blob", content)
}

/// A tree's content from `(mode, name, oid)`, which must be in git's order.
pub fn tree(entries: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (mode, name, oid) in entries {
        out.extend(format!("{mode} {name}\0").bytes());
        out.extend(hex::decode(oid).expect("an oid is hex"));
    }
    out
}

/// A person and a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// `name <email>`.
    pub who: String,
    /// Unix seconds.
    pub at: i64,
}

impl Stamp {
    /// A stamp in UTC.
    pub fn new(who: &str, at: i64) -> Self {
        Self { who: who.into(), at }
    }

    fn line(&self) -> String {
        format!("{} {} +0000", self.who, self.at)
    }
}

/// A commit that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The object format.
    pub hash: Hash,
    /// The tree's oid.
    pub tree: String,
    /// The parents' oids.
    pub parents: Vec<String>,
    /// Author.
    pub author: Stamp,
    /// Committer.
    pub committer: Stamp,
    /// Message, with its newline.
    pub message: String,
    /// Armoured signature.
    pub signature: Option<String>,
}

impl Commit {
    /// An unsigned SHA-1 commit.
    pub fn new(tree: &str, who: &str, at: i64, message: &str) -> Self {
        Self {
            hash: Hash::Sha1,
            tree: tree.into(),
            parents: Vec::new(),
            author: Stamp::new(who, at),
            committer: Stamp::new(who, at),
            message: message.into(),
            signature: None,
        }
    }

    /// The content without a signature: what is signed.
    pub fn unsigned(&self) -> Vec<u8> {
        self.content(None)
    }

    /// The content, as `git cat-file commit` prints it.
    pub fn bytes(&self) -> Vec<u8> {
        self.content(self.signature.as_deref())
    }

    /// The object id.
    pub fn oid(&self) -> String {
        oid(self.hash, "commit", &self.bytes())
    }

    /// The content behind its header: what is hashed.
    pub fn framed(&self) -> Vec<u8> {
        framed("commit", &self.bytes())
    }

    /// Signs with SSH in namespace `git`.
    pub fn signed_by(mut self, key: &Key) -> Self {
        self.signature = Some(key.sshsig("git", "sha512", &self.unsigned()));
        self
    }

    fn content(&self, signature: Option<&str>) -> Vec<u8> {
        let mut out = format!("tree {}\n", self.tree);
        for parent in &self.parents {
            out += &format!("parent {parent}\n");
        }
        out += &format!("author {}\ncommitter {}\n", self.author.line(), self.committer.line());
        if let Some(signature) = signature {
            let header = if self.hash == Hash::Sha1 { "gpgsig" } else { "gpgsig-sha256" };
            // Continuation lines begin with one space.
            out += &format!("{header} {}\n", signature.trim_end_matches('\n').replace('\n', "\n "));
        }
        out += &format!("\n{}", self.message);
        out.into_bytes()
    }
}

/// An annotated tag that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The object format.
    pub hash: Hash,
    /// The target's oid.
    pub object: String,
    /// The target's type.
    pub kind: String,
    /// The tag's name.
    pub name: String,
    /// Tagger.
    pub tagger: Stamp,
    /// Message, with its newline.
    pub message: String,
    /// Armoured signature, appended to the message.
    pub signature: Option<String>,
}

impl Tag {
    /// An unsigned SHA-1 tag of a commit.
    pub fn new(commit: &str, name: &str, who: &str, at: i64) -> Self {
        Self {
            hash: Hash::Sha1,
            object: commit.into(),
            kind: "commit".into(),
            name: name.into(),
            tagger: Stamp::new(who, at),
            message: format!("{name}\n"),
            signature: None,
        }
    }

    /// The content without a signature: what is signed.
    pub fn unsigned(&self) -> Vec<u8> {
        let tagger = self.tagger.line();
        format!(
            "object {}\ntype {}\ntag {}\ntagger {tagger}\n\n{}",
            self.object, self.kind, self.name, self.message
        )
        .into_bytes()
    }

    /// The content.
    pub fn bytes(&self) -> Vec<u8> {
        [self.unsigned(), self.signature.clone().unwrap_or_default().into_bytes()].concat()
    }

    /// The object id.
    pub fn oid(&self) -> String {
        oid(self.hash, "tag", &self.bytes())
    }

    /// The content behind its header: what is hashed.
    pub fn framed(&self) -> Vec<u8> {
        framed("tag", &self.bytes())
    }

    /// Signs with SSH in namespace `git`.
    pub fn signed_by(mut self, key: &Key) -> Self {
        self.signature = Some(key.sshsig("git", "sha512", &self.unsigned()));
        self
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    fn git_hash(kind: &str, content: &[u8]) -> String {
        let mut child = Command::new("git")
            .args(["hash-object", "-t", kind, "--stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "git refuses the {kind}");
        String::from_utf8(out.stdout).unwrap().trim().into()
    }

    #[test]
    fn git_computes_the_same_ids_and_accepts_the_objects() {
        let blob = blob_oid(Hash::Sha1, b"hello\n");
        assert_eq!(blob, git_hash("blob", b"hello\n"));
        let tree_bytes = tree(&[("100644", "README", &blob)]);
        let tree_oid = oid(Hash::Sha1, "tree", &tree_bytes);
        assert_eq!(tree_oid, git_hash("tree", &tree_bytes));
        let mut commit = Commit::new(&tree_oid, "Dev <dev@acme.test>", 1_780_000_000, "Begin\n");
        commit.parents.push("1".repeat(40));
        let commit = commit.signed_by(&Key::ed25519("dev"));
        assert_eq!(commit.oid(), git_hash("commit", &commit.bytes()));
        let tag =
            Tag::new(&commit.oid(), "v1", "Dev <dev@acme.test>", 1_780_000_000).signed_by(&Key::p256("dev"));
        assert_eq!(tag.oid(), git_hash("tag", &tag.bytes()));
    }

    #[test]
    fn sha256_ids_have_64_digits() {
        // The id of the empty blob in a SHA-256 repository.
        assert_eq!(
            blob_oid(Hash::Sha256, b""),
            "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"
        );
    }
}
