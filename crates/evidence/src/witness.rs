//! Witnesses of transparency logs: whose cosignatures on checkpoints are known, and how many of them make a quorum
//! (C2SP tlog-policy, tlog-cosignature).
//!
//! A cosignature is a fact whoever asks for it; whether it is enough is for a trust domain's quorum. ML-DSA-44 witnesses
//! (type 0x06) are out of scope, and a policy that names one is refused instead of being weakened.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::signature::{ED25519, ParsedPublicKey, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_types::Checkpoint;

use crate::digest::Sha256;

/// Largest policy text: 64 witnesses, logs and groups with long names and comments.
pub const MAX_POLICY: usize = 64 * 1024;
/// Most logs, witnesses and groups of each kind. The format asks for at least 32.
pub const MAX_LINES: usize = 64;
/// Signature type of a log's Ed25519 key (signed-note).
const LOG_ED25519: u8 = 0x01;
/// Signature type of a timestamped Ed25519 cosignature.
const COSIGNATURE: u8 = 0x04;
/// SubjectPublicKeyInfo of an Ed25519 key before its 32 bytes (RFC 8410 section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct PolicyError {
    /// The line, from 1; one after the last for what is missing.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// That a witness saw a checkpoint: verified, and worth what a quorum makes of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cosignature {
    /// The log: SHA-256 of its SubjectPublicKeyInfo.
    pub log: Sha256,
    /// SHA-256 of the checkpoint's text. A quorum is one of a single checkpoint.
    pub checkpoint: Sha256,
    /// The witness: SHA-256 of its SubjectPublicKeyInfo.
    pub witness: Sha256,
    /// When it cosigned.
    pub at: Timestamp,
}

/// The witnesses of a trust domain and their quorum, as a tlog-policy says them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnesses {
    /// The logs that it is about; any when there are none.
    logs: Vec<Sha256>,
    known: Vec<Witness>,
    groups: Vec<Group>,
    /// Nothing for `quorum none`.
    quorum: Option<Member>,
}

/// A witness of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Witness {
    /// Its name in the policy.
    name: String,
    /// Its name on signature lines.
    key_name: String,
    hint: [u8; 4],
    key: [u8; 32],
    /// SHA-256 of its SubjectPublicKeyInfo. Two names of one key are one witness: the signed message names nobody.
    id: Sha256,
}

/// Some of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    threshold: usize,
    members: Vec<Member>,
}

/// A place in the lists of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

impl Witnesses {
    /// Reads a policy. A log line restricts the quorum to checkpoints of the logs that are named so.
    pub fn read(text: &str) -> Result<Self, PolicyError> {
        let mut reader = Reader::default();
        if text.len() > MAX_POLICY {
            return Err(PolicyError { line: 1, why: format!("a policy has at most {MAX_POLICY} bytes") });
        }
        let mut last = 0;
        for (line, content) in text.split('\n').enumerate() {
            last = line + 1;
            reader.line(content).map_err(|why| PolicyError { line: last, why })?;
        }
        reader.finish().map_err(|why| PolicyError { line: last + 1, why })
    }

    /// The id of every witness.
    pub fn ids(&self) -> impl Iterator<Item = Sha256> {
        self.known.iter().map(|witness| witness.id)
    }

    /// The logs that the policy names.
    pub fn logs(&self) -> &[Sha256] {
        &self.logs
    }

    /// The names of those who are among `ids`.
    pub fn names(&self, ids: &[Sha256]) -> Vec<&str> {
        self.known.iter().filter(|witness| ids.contains(&witness.id)).map(|w| w.name.as_str()).collect()
    }

    /// Whether cosignatures by `ids` on one checkpoint of `log` are enough.
    pub fn is_reached(&self, log: &Sha256, ids: &[Sha256]) -> bool {
        if !self.logs.is_empty() && !self.logs.contains(log) {
            return false;
        }
        // A log that cosigns its own checkpoint says nothing new.
        let signed: Vec<bool> = self.known.iter().map(|w| w.id != *log && ids.contains(&w.id)).collect();
        let mut groups: Vec<bool> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let met = group.members.iter().filter(|member| holds(**member, &signed, &groups)).count();
            groups.push(met >= group.threshold);
        }
        self.quorum.is_none_or(|quorum| holds(quorum, &signed, &groups))
    }

    /// The moment by which a checkpoint had its quorum, and who had cosigned it by then: to date a checkpoint back, as many
    /// must lie as to forge it. Without a quorum there is no such moment.
    pub fn since(&self, log: &Sha256, cosigned: &[Cosignature]) -> Option<(Timestamp, Vec<Sha256>)> {
        self.quorum?;
        let of_log = cosigned.iter().filter(|c| c.log == *log && self.ids().any(|id| id == c.witness));
        let mut in_order: Vec<(Timestamp, Sha256)> = of_log.map(|c| (c.at, c.witness)).collect();
        in_order.sort();
        let mut ids = Vec::new();
        for (at, id) in in_order {
            ids.push(id);
            if self.is_reached(log, &ids) {
                return Some((at, ids));
            }
        }
        None
    }

    fn named(&self, name: &str, hint: &[u8]) -> impl Iterator<Item = &Witness> {
        self.known.iter().filter(move |witness| witness.key_name == name && witness.hint[..] == *hint)
    }

    fn show(&self, member: Member, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = match member {
            Member::Witness(at) => return f.write_str(&self.known[at].name),
            Member::Group(at) => &self.groups[at],
        };
        write!(f, "{} of (", group.threshold)?;
        for (position, member) in group.members.iter().enumerate() {
            f.write_str(if position == 0 { "" } else { ", " })?;
            self.show(*member, f)?;
        }
        f.write_str(")")
    }
}

/// The quorum, for people: `2 of (w1, w2, w3)`.
impl fmt::Display for Witnesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each name is a member once and groups name earlier ones: this ends after each name.
        match self.quorum {
            Some(quorum) => self.show(quorum, f),
            None => f.write_str("none"),
        }
    }
}

fn holds(member: Member, signed: &[bool], groups: &[bool]) -> bool {
    match member {
        Member::Witness(at) => signed[at],
        Member::Group(at) => groups[at],
    }
}

/// The cosignatures on a checkpoint by any witness that one of the policies names.
///
/// Lines of others are ignored, even under a known name. A line of a known witness must verify: signed-note asks verifiers to
/// reject the whole note, a good line could otherwise hide a forged one, and whoever changed a note changed this evidence.
pub(crate) fn cosignatures(
    checkpoint: &Checkpoint,
    log: Sha256,
    policies: &[&Witnesses],
) -> Result<Vec<Cosignature>, String> {
    let text = checkpoint.signed_data();
    let mut found = Vec::new();
    for line in checkpoint.signatures() {
        let hint = line.key_id.as_bytes();
        let mut candidates = policies.iter().flat_map(|policy| policy.named(&line.name, hint)).peekable();
        if candidates.peek().is_none() {
            continue;
        }
        let signature = line.signature.as_bytes();
        let verified = candidates.find_map(|witness| Some((witness.id, witness.cosigned(text, signature)?)));
        let Some((witness, at)) = verified else {
            return Err(format!("the cosignature of `{}` does not verify", crate::json::shorten(&line.name)));
        };
        found.push(Cosignature { log, checkpoint: Sha256::of(text), witness, at });
    }
    found.sort();
    found.dedup();
    Ok(found)
}

impl Witness {
    /// When it cosigned `text`, if this is its cosignature: eight bytes of time, and Ed25519 over header, time and text.
    fn cosigned(&self, text: &[u8], cosignature: &[u8]) -> Option<Timestamp> {
        let (seconds, signature) = cosignature.split_first_chunk::<8>()?;
        let seconds = i64::try_from(u64::from_be_bytes(*seconds)).ok()?;
        let at = Timestamp::from_second(seconds).ok()?;
        let message = [format!("cosignature/v1\ntime {seconds}\n").as_bytes(), text].concat();
        UnparsedPublicKey::new(&ED25519, self.key).verify(&message, signature).is_ok().then_some(at)
    }
}

/// A policy while it is read.
#[derive(Default)]
struct Reader {
    logs: Vec<Sha256>,
    known: Vec<Witness>,
    groups: Vec<Group>,
    /// What each name means, and whether a group has it.
    names: BTreeMap<String, (Member, bool)>,
    quorum: Option<Option<Member>>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.bytes().any(|byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
            return Err("it holds a control character other than tab".into());
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] | ["log", key, _] => self.log(key),
            ["witness", name, key] | ["witness", name, key, _] => self.witness(name, key),
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            [word @ ("log" | "witness" | "group" | "quorum"), ..] => {
                Err(format!("`{word}` has too few or too many parts"))
            }
            [word, ..] => {
                let word = crate::json::shorten(word);
                Err(format!("`{word}` is not log, witness, group or quorum"))
            }
        }
    }

    fn log(&mut self, key: &str) -> Result<(), String> {
        let key = Vkey::read(key)?;
        if key.kind != LOG_ED25519 {
            return Err(
                "a log's key has type 1 here (Ed25519); other logs are named by the trusted root".into()
            );
        }
        let id = spki_digest(&key.key);
        if self.logs.contains(&id) {
            return Err("another log has its key".into());
        }
        if self.logs.len() == MAX_LINES {
            return Err(format!("a policy has at most {MAX_LINES} logs"));
        }
        self.logs.push(id);
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str) -> Result<(), String> {
        let Vkey { name: key_name, hint, kind, key } = Vkey::read(key)?;
        if kind != COSIGNATURE {
            return Err(format!("a witness's key has type 4 (Ed25519 cosignatures), not {kind}"));
        }
        let id = spki_digest(&key);
        if self.known.iter().any(|known| known.id == id) {
            return Err("another witness has its key".into());
        }
        self.define(name, Member::Witness(self.known.len()))?;
        self.known.push(Witness { name: name.to_owned(), key_name, hint, key, id });
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), String> {
        let threshold = match threshold {
            "any" => 1,
            "all" => members.len(),
            // No sign, no leading zero: one text for one number.
            number => number.parse().ok().filter(|n: &usize| n.to_string() == number).unwrap_or(0),
        };
        if !(1..=members.len()).contains(&threshold) {
            return Err(format!("the threshold is `any`, `all` or 1 to {}", members.len()));
        }
        let mut places = Vec::with_capacity(members.len());
        for member in members {
            let shown = crate::json::shorten(member);
            match self.names.get_mut(*member) {
                None => return Err(format!("`{shown}` is not defined before it")),
                Some((_, true)) => return Err(format!("`{shown}` is a member already, and can be one once")),
                Some((place, used)) => {
                    *used = true;
                    places.push(*place);
                }
            }
        }
        self.define(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, members: places });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is a quorum already".into());
        }
        self.quorum = Some(match (name, self.names.get(name)) {
            ("none", _) => None,
            (_, Some((member, _))) => Some(*member),
            (_, None) => return Err(format!("`{}` is not defined before it", crate::json::shorten(name))),
        });
        Ok(())
    }

    fn define(&mut self, name: &str, member: Member) -> Result<(), String> {
        if name == "none" {
            return Err("`none` is no name".into());
        }
        let (Member::Witness(before) | Member::Group(before)) = member;
        if before == MAX_LINES {
            return Err(format!("a policy has at most {MAX_LINES} witnesses, and as many groups"));
        }
        match self.names.insert(name.to_owned(), (member, false)) {
            None => Ok(()),
            Some(_) => Err(format!("`{}` is defined already", crate::json::shorten(name))),
        }
    }

    fn finish(self) -> Result<Witnesses, String> {
        let Self { logs, known, groups, quorum, .. } = self;
        let quorum = quorum.ok_or("the quorum line is missing")?;
        if let Some(log) = known.iter().find(|witness| logs.contains(&witness.id)) {
            return Err(format!("the witness `{}` has the key of a log", crate::json::shorten(&log.name)));
        }
        Ok(Witnesses { logs, known, groups, quorum })
    }
}

/// A verifier key (signed-note): name, key id and typed key.
struct Vkey {
    name: String,
    hint: [u8; 4],
    kind: u8,
    key: [u8; 32],
}

impl Vkey {
    fn read(text: &str) -> Result<Self, String> {
        let malformed = || "the key is not `<name>+<key id>+<base64>`".to_owned();
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(claimed), Some(base64)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let typed = STANDARD.decode(base64).map_err(|_| malformed())?;
        let (kind, key) = typed.split_first().ok_or_else(malformed)?;
        if name.is_empty() || name.chars().any(char::is_whitespace) {
            return Err(malformed());
        }
        let Ok(key) = <[u8; 32]>::try_from(key) else {
            return Err(format!("keys of type {kind} are not supported"));
        };
        ParsedPublicKey::new(&ED25519, key).map_err(|_| "the key is not one of Ed25519".to_owned())?;
        let hashed = Sha256::of(&[name.as_bytes(), b"\n", &typed].concat());
        let mut hint = [0; 4];
        hint.copy_from_slice(&hashed.0[..4]);
        if hex::encode(hint) != claimed {
            return Err(format!(
                "the key id is {}, not {}",
                hex::encode(hint),
                crate::json::shorten(claimed)
            ));
        }
        Ok(Self { name: name.to_owned(), hint, kind: *kind, key })
    }
}

fn spki_digest(key: &[u8; 32]) -> Sha256 {
    Sha256::of(&[&SPKI[..], key].concat())
}
