//! Witnesses of checkpoints: policies that are read, quorums, and cosignatures that are facts.

use std::{collections::BTreeSet, sync::Arc};

use catenary_evidence::{
    Sha256, Signature, Trust,
    attestation::verify,
    signer::AuthorityKind,
    trust_root::{Domain, Rules, TrustRootError},
    witness::{Cosignature, MAX_LINES, Witnesses},
};
use catenary_testkit::{
    Key,
    authority::{Authority, BundleBuilder, Claims, Kind, Witness},
    sha256_hex,
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

/// Two of three.
fn policy(witnesses: &[&Witness]) -> String {
    let lines: Vec<String> =
        witnesses.iter().map(|w| format!("witness {} {} https://{}/\n", w.name, w.vkey(), w.name)).collect();
    let names: Vec<&str> = witnesses.iter().map(|w| w.name.as_str()).collect();
    format!("# ours\n{}group ours {} {}\nquorum ours\n", lines.concat(), 2.min(names.len()), names.join(" "))
}

fn three() -> [Witness; 3] {
    ["w1.test", "w2.test", "w3.test"].map(Witness::new)
}

fn id(witness: &Witness) -> Sha256 {
    Sha256::of(witness.key.spki_der())
}

/// The authority's own domain with witnesses.
fn trust(authority: &Authority, policy: &str) -> Trust {
    let root = authority.trusted_root_json();
    let mut trust = Trust::none();
    trust.insert_domain(Arc::new(
        Domain::read_with("acme", root.as_bytes(), Rules::default(), Some(policy)).unwrap(),
    ));
    trust
}

/// A bundle of a v2 log without a timestamp: nothing but witnesses says when.
fn bundle(authority: &Authority) -> BundleBuilder<'_> {
    let claims = Claims::github("acme/app", ".github/workflows/ci.yml", "refs/heads/main", &"a".repeat(40));
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicate": {},
        "predicateType": "https://acme.test/note/v1",
        "subject": [{"name": "image", "digest": {"sha256": sha256_hex(b"the image")}}]
    });
    let leaf = authority.leaf(&claims).issue();
    authority.attest(&leaf, &statement.to_string()).entry(Kind::DsseV2)
}

/// The signature, or the code of what is missing.
fn check(bundle: &BundleBuilder<'_>, trust: &Trust) -> Result<Signature, String> {
    let facts = verify(bundle.to_json().as_bytes(), trust).map_err(|refusal| refusal.code().to_owned())?;
    let missing = || facts.doubt.clone().map_or_else(String::new, |doubt| doubt.code);
    facts.signatures.first().cloned().ok_or_else(missing)
}

fn at(authority: &Authority, seconds: i64) -> Timestamp {
    Timestamp::from_second(authority.now + seconds).unwrap()
}

#[test]
fn a_quorum_of_witnesses_says_when_a_checkpoint_was_there() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let trust = trust(&authority, &policy(&[&w1, &w2, &w3]));
    let now = authority.now;
    let signed = bundle(&authority).cosigned_by(&w1, now + 20).cosigned_by(&w3, now + 40);
    let signature = check(&signed, &trust).unwrap();
    assert_eq!(signature.signed_before, Some(at(&authority, 40)), "the second makes the quorum");
    let seen: BTreeSet<_> = signature.cosigned.iter().map(|c| (c.witness, c.at)).collect();
    assert_eq!(seen, BTreeSet::from([(id(&w1), at(&authority, 20)), (id(&w3), at(&authority, 40))]));
    let log = Sha256::of(authority.rekor_v2.key.spki_der());
    assert!(signature.cosigned.iter().all(|c| c.log == log));
    let vouching: BTreeSet<_> =
        signature.vouchers.iter().filter(|v| v.kind == AuthorityKind::Witness).map(|v| v.authority).collect();
    assert_eq!(vouching, BTreeSet::from([id(&w1), id(&w3)]), "the time rests on both");

    let text = serde_json::to_string(&signature).unwrap();
    assert_eq!(serde_json::from_str::<Signature>(&text).unwrap(), signature);
}

#[test]
fn one_witness_too_few_proves_no_time_and_is_a_fact() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let trust = trust(&authority, &policy(&[&w1, &w2, &w3]));
    let now = authority.now;
    let alone = || bundle(&authority).cosigned_by(&w1, now + 20);
    assert_eq!(check(&alone(), &trust), Err("ATT_TIMESTAMP_MISSING".into()));
    // With another time the witness is a fact by itself, and its time none.
    let signature = check(&alone().timestamp(), &trust).unwrap();
    assert_eq!(signature.cosigned.len(), 1);
    assert_eq!(signature.signed_before, Some(at(&authority, 5)));
    assert!(signature.vouchers.iter().all(|v| v.kind != AuthorityKind::Witness));
}

#[test]
fn one_lying_witness_dates_nothing_back() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let trust = trust(&authority, &policy(&[&w1, &w2, &w3]));
    let now = authority.now;
    let long_ago = now - 86_400;
    let signed = bundle(&authority).cosigned_by(&w1, long_ago).cosigned_by(&w2, now + 30);
    assert_eq!(check(&signed, &trust).unwrap().signed_before, Some(at(&authority, 30)));
    // A quorum that lies contradicts the certificate.
    let signed = bundle(&authority).cosigned_by(&w1, long_ago).cosigned_by(&w2, long_ago);
    assert_eq!(check(&signed, &trust), Err("ATT_CERT_EXPIRED_AT_SIGNING".into()));
}

#[test]
fn a_late_cosignature_takes_nothing_from_an_earlier_time() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let trust = trust(&authority, &policy(&[&w1, &w2, &w3]));
    let late = authority.now + 86_400;
    let late = |bundle: BundleBuilder<'static>| bundle.cosigned_by(&w1, late).cosigned_by(&w2, late);
    // The certificate has ended by then: alone it proves no time inside, beside another it adds no time.
    let authority: &'static Authority = Box::leak(Box::new(authority));
    assert_eq!(check(&late(bundle(authority)), &trust), Err("ATT_CERT_EXPIRED_AT_SIGNING".into()));
    let signature = check(&late(bundle(authority).timestamp()), &trust).unwrap();
    assert_eq!(signature.signed_before, Some(at(authority, 5)));
    assert_eq!(signature.cosigned.len(), 2);
}

#[test]
fn the_proof_of_a_v1_log_is_cosigned_too() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let trust = trust(&authority, &policy(&[&w1, &w2, &w3]));
    let signed = bundle(&authority).entry(Kind::DsseV1).cosigned_by(&w2, authority.now + 60);
    let signature = check(&signed, &trust).unwrap();
    assert_eq!(signature.cosigned[0].log, Sha256::of(authority.rekor.key.spki_der()));
}

#[test]
fn the_same_witness_twice_is_one_witness() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let trust = trust(&authority, &policy(&[&w1, &w2, &w3]));
    let now = authority.now;
    let twice = || bundle(&authority).cosigned_by(&w1, now + 20).cosigned_by(&w1, now + 30);
    assert_eq!(check(&twice(), &trust), Err("ATT_TIMESTAMP_MISSING".into()));
    // Nor under another name: the key is the witness.
    let alias = Witness { name: "alias.test".into(), key: w1.key.clone() };
    let text = policy(&[&w1, &alias]);
    assert_eq!(Witnesses::read(&text).unwrap_err().line, 3);
}

#[test]
fn a_line_of_a_known_witness_must_verify_and_strangers_are_ignored() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let trust = trust(&authority, &policy(&[&w1, &w2, &w3]));
    let now = authority.now;
    let good = || bundle(&authority).cosigned_by(&w1, now + 20).cosigned_by(&w2, now + 20);
    let forged = |edit: &dyn Fn(&str) -> String| {
        good().edit_checkpoint(|checkpoint| *checkpoint = edit(checkpoint)).to_json()
    };
    let refused = |text: String| verify(text.as_bytes(), &trust).map(|_| ()).map_err(|r| r.code().to_owned());
    let bad = Err("ATT_TLOG_CHECKPOINT".to_owned());

    // By another key under the witness's name and key id.
    let key = Key::ed25519("mallory");
    let mallory = |checkpoint: &str| {
        let line = w3.line(checkpoint, now + 20);
        let other = Witness { name: w3.name.clone(), key: key.clone() }.line(checkpoint, now + 20);
        let (mut blob, stolen) = (unline(&line), unline(&other));
        blob[12..].copy_from_slice(&stolen[12..]);
        format!("{checkpoint}{}", relined(&w3.name, &blob))
    };
    assert_eq!(refused(forged(&mallory)), bad);
    // Over the checkpoint of another tree, and of another log.
    let other_tree = |checkpoint: &str| {
        let other = authority.rekor_v2.checkpoint(999, &[7; 32]);
        format!("{checkpoint}{}", w3.line(&other, now + 20))
    };
    assert_eq!(refused(forged(&other_tree)), bad);
    let other_log = |checkpoint: &str| {
        let other = checkpoint.replacen(&authority.rekor_v2.host, "log.other.test", 1);
        format!("{checkpoint}{}", w3.line(&other, now + 20))
    };
    assert_eq!(refused(forged(&other_log)), bad);
    // With another time than the one that was signed, or without any.
    for cut in [false, true] {
        let retimed = |checkpoint: &str| {
            let mut blob = unline(&w3.line(checkpoint, now + 20));
            if cut {
                blob.drain(4..12);
            } else {
                blob[11] ^= 1;
            }
            format!("{checkpoint}{}", relined(&w3.name, &blob))
        };
        assert_eq!(refused(forged(&retimed)), bad);
    }
    // The plain signature that a log would make with the key.
    let plain = |checkpoint: &str| {
        let body = checkpoint.split_once("\n\n").unwrap().0;
        let hint = unline(&w3.line(checkpoint, now))[..4].to_vec();
        let blob = [hint, w3.key.sign(format!("{body}\n").as_bytes())].concat();
        format!("{checkpoint}{}", relined(&w3.name, &blob))
    };
    assert_eq!(refused(forged(&plain)), bad);
    // A stranger says what it likes, even under a name that is known.
    let stranger = Witness { name: w3.name.clone(), key: Key::ed25519("stranger") };
    let signature = check(&good().cosigned_by(&stranger, now + 20), &trust).unwrap();
    assert_eq!(signature.cosigned.len(), 2);
}

#[test]
fn a_witness_of_another_domain_is_a_fact_and_no_time() {
    let (authority, [w1, w2, w3]) = (Authority::new("acme"), three());
    let root = authority.trusted_root_json();
    let mut trust = Trust::none();
    let acme = Domain::read("acme", root.as_bytes(), Rules::default()).unwrap();
    let text = policy(&[&w1, &w2, &w3]);
    let alone = Domain::read_with("witnesses", b"", Rules::default(), Some(&text)).unwrap();
    trust.insert_domain(Arc::new(acme));
    trust.insert_domain(Arc::new(alone));
    let now = authority.now;
    let signed = || bundle(&authority).cosigned_by(&w1, now + 20).cosigned_by(&w2, now + 20);
    assert_eq!(check(&signed(), &trust), Err("ATT_TIMESTAMP_MISSING".into()));
    let signature = check(&signed().timestamp(), &trust).unwrap();
    assert_eq!(signature.cosigned.len(), 2);
}

#[test]
fn a_log_is_no_witness() {
    let authority = Authority::new("acme");
    let log = Witness { name: "log.test".into(), key: authority.rekor_v2.key.clone() };
    let root = authority.trusted_root_json();
    let read = |text: &str| {
        Domain::read_with("acme", root.as_bytes(), Rules::default(), Some(text)).map(|_| ()).unwrap_err()
    };
    assert_eq!(read(&policy(&[&log])), TrustRootError::WitnessIsLog { log: id(&log) });
    // By the policy alone.
    let line = format!("log {}\n", log_vkey(&log));
    let error = Witnesses::read(&format!("{line}{}", policy(&[&log]))).unwrap_err();
    assert!(error.why.contains("the key of a log"), "{error}");
    // In a domain of its own it is not known beforehand: then it does not count for its own log.
    let witnesses = Witnesses::read(&policy(&[&log])).unwrap();
    assert!(!witnesses.is_reached(&id(&log), &[id(&log)]));
    assert!(witnesses.is_reached(&Sha256([1; 32]), &[id(&log)]));
    // A policy for logs that the root does not name is a mistake.
    let [w1, ..] = three();
    let foreign = Witness { name: "other.test".into(), key: Key::ed25519("other log") };
    let text = format!("log {}\n{}", log_vkey(&foreign), policy(&[&w1]));
    assert_eq!(read(&text), TrustRootError::ForeignLog { log: id(&foreign) });
}

#[test]
fn log_lines_say_which_logs_a_quorum_is_about() {
    let [w1, w2, w3] = three();
    let log = Witness::new("log.test");
    let text = format!("log {} https://log.test/\n{}", log_vkey(&log), policy(&[&w1, &w2, &w3]));
    let witnesses = Witnesses::read(&text).unwrap();
    assert!(witnesses.is_reached(&id(&log), &[id(&w1), id(&w2)]));
    assert!(!witnesses.is_reached(&Sha256([1; 32]), &[id(&w1), id(&w2)]));
}

#[test]
fn policies_are_exact() {
    let [w1, w2, w3] = three();
    let good = policy(&[&w1, &w2, &w3]);
    assert_eq!(Witnesses::read(&good).unwrap().to_string(), "2 of (w1.test, w2.test, w3.test)");
    let none = Witnesses::read("quorum none\n").unwrap();
    assert!(none.is_reached(&Sha256([1; 32]), &[]));
    assert_eq!(none.since(&Sha256([1; 32]), &[]), None);
    let one = |rest: &str| format!("witness a {}\n{rest}", w1.vkey());
    assert_eq!(Witnesses::read(&one("quorum a")).unwrap().to_string(), "a");
    // Tabs, spaces and comments stand anywhere.
    assert!(Witnesses::read(&format!(" \t# x\n\twitness  a\t{} \n\n quorum a ", w1.vkey())).is_ok());

    let swapped = w1.vkey().replacen("w1", "wx", 1);
    let typed = |byte: u8, key: &[u8]| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let typed = [&[byte], key].concat();
        let hint = sha256_hex(&[b"w\n", typed.as_slice()].concat())[..8].to_owned();
        format!("w+{hint}+{}", STANDARD.encode(typed))
    };
    let bad = [
        (String::new(), 2, "quorum line is missing"),
        (one(""), 3, "quorum line is missing"),
        (one("quorum a\nquorum a\n"), 3, "already"),
        (one("quorum b\n"), 2, "not defined"),
        ("quorum a\nwitness a x\n".into(), 1, "not defined"),
        (one("group none any a\n"), 2, "no name"),
        (one("group g any none\n"), 2, "not defined"),
        (one("group g any g\n"), 2, "not defined"),
        (one("group a any a\n"), 2, "defined already"),
        (one("group g any a a\n"), 2, "once"),
        (one("group g any a\ngroup h any a\n"), 3, "once"),
        (one("group g any a\ngroup h any g\ngroup i all g\n"), 4, "once"),
        (one("group g 0 a\n"), 2, "threshold"),
        (one("group g 2 a\n"), 2, "threshold"),
        (one("group g 01 a\n"), 2, "threshold"),
        (one("group g +1 a\n"), 2, "threshold"),
        (one("group g most a\n"), 2, "threshold"),
        (one("group g all\n"), 2, "threshold"),
        (one("group g\n"), 2, "parts"),
        (one("quorum\n"), 2, "parts"),
        (one("witnesses b c\n"), 2, "is not log, witness, group or quorum"),
        (one("quorum a\r\n"), 2, "control"),
        (one(&format!("witness a {}\n", w2.vkey())), 2, "defined already"),
        (one(&format!("witness b {}\n", w1.vkey())), 2, "another witness"),
        (format!("witness none {}\n", w1.vkey()), 1, "no name"),
        (format!("witness a {swapped}\n"), 1, "key id"),
        ("witness a w1.test\n".into(), 1, "<name>"),
        (format!("witness a {}\n", typed(1, w1.key.public_raw())), 1, "type 4"),
        (format!("witness a {}\n", typed(6, &[7; 1312])), 1, "type 6"),
        (format!("log {}\n", typed(4, w1.key.public_raw())), 1, "trusted root"),
        (format!("log {0}\nlog {0}\n", log_vkey(&w1)), 2, "another log"),
    ];
    for (text, line, why) in bad {
        let error = Witnesses::read(&text).unwrap_err();
        assert!(error.line == line && error.why.contains(why), "{text:?}: {error}");
    }
    let many = |count: usize| -> String {
        (0..count).map(|n| format!("witness w{n} {}\n", Witness::new(&format!("w{n}")).vkey())).collect()
    };
    assert!(Witnesses::read(&format!("{}quorum w0\n", many(MAX_LINES))).is_ok());
    assert_eq!(Witnesses::read(&many(MAX_LINES + 1)).unwrap_err().line, MAX_LINES + 1);
    assert!(Witnesses::read(&"#".repeat(64 * 1024 + 1)).is_err());
}

/// The vkey of a log that has the key.
fn log_vkey(log: &Witness) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let typed = [&[1], log.key.public_raw()].concat();
    let hint = sha256_hex(&[log.name.as_bytes(), b"\n", &typed].concat())[..8].to_owned();
    format!("{}+{hint}+{}", log.name, STANDARD.encode(typed))
}

fn unline(line: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(line.trim_end().rsplit_once(' ').unwrap().1).unwrap()
}

fn relined(name: &str, blob: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("\u{2014} {name} {}\n", STANDARD.encode(blob))
}

/// A quorum over witnesses 0, 1, 2, …, written down as the format's text and evaluated here in another way.
#[derive(Debug, Clone)]
enum Tree {
    Leaf,
    Group(usize, Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    Just(Tree::Leaf).prop_recursive(3, 20, 4, |inner| {
        prop::collection::vec(inner, 1..5)
            .prop_flat_map(|members| (1..=members.len(), Just(members)))
            .prop_map(|(threshold, members)| Tree::Group(threshold, members))
    })
}

impl Tree {
    /// Writes its lines; the name of its last one.
    fn write(&self, witnesses: &mut usize, groups: &mut usize, text: &mut String) -> String {
        let Self::Group(threshold, members) = self else {
            let name = format!("w{witnesses}");
            *witnesses += 1;
            *text += &format!("witness {name} {}\n", Witness::new(&name).vkey());
            return name;
        };
        let names: Vec<String> = members.iter().map(|member| member.write(witnesses, groups, text)).collect();
        let name = format!("g{groups}");
        *groups += 1;
        let threshold = match *threshold {
            all if all == members.len() => "all".to_owned(),
            1 => "any".to_owned(),
            some => some.to_string(),
        };
        *text += &format!("group {name} {threshold} {}\n", names.join(" "));
        name
    }

    fn holds(&self, next: &mut usize, signed: &[bool]) -> bool {
        match self {
            Self::Leaf => {
                *next += 1;
                signed.get(*next - 1).copied().unwrap_or_default()
            }
            Self::Group(threshold, members) => {
                members.iter().map(|member| usize::from(member.holds(next, signed))).sum::<usize>()
                    >= *threshold
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn groups_count_their_members(tree in tree(), signed in prop::collection::vec(any::<bool>(), 64), more in 0usize..64) {
        let (mut text, mut count, mut groups) = (String::new(), 0, 0);
        let name = tree.write(&mut count, &mut groups, &mut text);
        prop_assume!(count <= MAX_LINES && groups <= MAX_LINES);
        text += &format!("quorum {name}\n");
        let witnesses = Witnesses::read(&text).unwrap();
        let log = Sha256([1; 32]);
        let ids = |signed: &[bool]| -> Vec<Sha256> {
            (0..count).filter(|n| signed[*n]).map(|n| id(&Witness::new(&format!("w{n}")))).collect()
        };
        let reached = witnesses.is_reached(&log, &ids(&signed));
        prop_assert_eq!(reached, tree.holds(&mut 0, &signed));
        // A stranger, and one more of them, takes nothing away.
        let mut with_stranger = ids(&signed);
        with_stranger.push(Sha256([2; 32]));
        prop_assert_eq!(witnesses.is_reached(&log, &with_stranger), reached);
        let mut grown = signed.clone();
        grown[more] = true;
        prop_assert!(!reached || witnesses.is_reached(&log, &ids(&grown)));
        // The moment of the quorum is the earliest at which it was reached.
        let cosigned: Vec<Cosignature> = ids(&signed).into_iter().enumerate().map(|(second, witness)| Cosignature {
            log, checkpoint: Sha256([3; 32]), witness, at: Timestamp::from_second(i64::try_from(second).unwrap()).unwrap(),
        }).collect();
        let since = witnesses.since(&log, &cosigned);
        prop_assert_eq!(since.is_some(), reached);
        if let Some((at, by)) = since {
            prop_assert!(witnesses.is_reached(&log, &by));
            let before: Vec<Sha256> = cosigned.iter().filter(|c| c.at < at).map(|c| c.witness).collect();
            prop_assert!(!witnesses.is_reached(&log, &before));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(witness|group|quorum|log|none|any|all|[a-z0-9+= \t\n#\u{0}])*") {
        let _ = Witnesses::read(&text);
    }
}
