//! in-toto layouts and links that the Python implementation wrote and signed by gpg, with keys of three kinds: an RSA key that
//! signs itself, an RSA key that only certifies and has two signing subkeys, an Ed25519 key. `in-toto-verify` accepts `write`
//! and `build`.

use catenary_evidence::{
    Attestation, KeyId, PublicKey, Refusal, Trust, attestation::verify, predicate::Claim,
};
use serde_json::{Value, json};

const ANN: &str = include_str!("openpgp/in-toto/ann.asc");
const CARL: &str = include_str!("openpgp/in-toto/carl.asc");
const DORA: &str = include_str!("openpgp/in-toto/dora.asc");
const LAYOUT: &str = include_str!("openpgp/in-toto/root.layout");
const WRITE: &str = include_str!("openpgp/in-toto/write.link");
const BUILD: &str = include_str!("openpgp/in-toto/build.link");
const BUILD_SHORT: &str = include_str!("openpgp/in-toto/build-short.link");
const BUILD_CARL: &str = include_str!("openpgp/in-toto/build-carl.link");

fn id(armour: &str) -> KeyId {
    PublicKey::from_openpgp(armour).unwrap().id()
}

fn trust(keys: &[&str]) -> Trust {
    keys.iter().map(|key| PublicKey::from_openpgp(key).unwrap()).collect()
}

fn all() -> Trust {
    trust(&[ANN, CARL, DORA])
}

fn check(text: &str, trust: &Trust) -> Result<Attestation, Refusal> {
    verify(text.as_bytes(), trust)
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Steps of a layout after a change; nobody has to have signed it to see who they name.
fn steps(change: impl FnOnce(&mut Value)) -> Vec<(Vec<KeyId>, Vec<String>)> {
    let mut layout = value(LAYOUT);
    change(&mut layout["signed"]);
    let Claim::Layout(layout) = check(&layout.to_string(), &Trust::none()).unwrap().claim else {
        panic!("it is a layout")
    };
    layout.steps.into_iter().map(|step| (step.functionaries, step.unread)).collect()
}

#[test]
fn openpgp_signatures_verify_under_the_registered_key_or_its_subkey() {
    for (text, key) in [(LAYOUT, ANN), (WRITE, ANN), (BUILD, DORA), (BUILD_SHORT, DORA), (BUILD_CARL, CARL)] {
        assert_eq!(check(text, &all()).unwrap().keys(), [id(key)]);
        let others = trust(&[ANN, CARL, DORA].into_iter().filter(|other| *other != key).collect::<Vec<_>>());
        assert!(!check(text, &others).unwrap().is_verified(), "a stranger's");
    }
}

#[test]
fn the_end_of_the_key_that_signed_is_a_fact() {
    let end = |text: &str| check(text, &all()).unwrap().signatures[0].expires.map(|end| end.to_string());
    assert_eq!(end(WRITE), None);
    assert_eq!(end(BUILD_CARL).unwrap().get(..10), Some("2026-11-22"));
    assert_eq!(end(BUILD_SHORT).unwrap().get(..10), Some("2026-11-23"), "the subkey ends before its key");
    assert_eq!(end(BUILD).unwrap().get(..10), Some("2029-11-20"), "and no later than it");
}

#[test]
fn a_functionary_is_known_by_the_packet_that_the_layout_describes() {
    let honest = steps(|_| {});
    assert_eq!(honest, [(vec![id(ANN)], vec![]), (vec![id(DORA)], vec![])]);
    let Claim::Layout(layout) = check(LAYOUT, &all()).unwrap().claim else { panic!("it is a layout") };
    let ends: Vec<_> = layout.ends.iter().map(|(key, end)| (*key, end.to_string())).collect();
    assert_eq!(ends, [(id(DORA), "2029-11-20T14:50:32Z".to_owned())]);
}

#[test]
fn who_cannot_be_known_again_is_named_and_can_do_nothing() {
    const ANNS: &str = "776c13cefeeb40166bdd17c79ab9b91615b14a5b";
    let of = |change: &dyn Fn(&mut Value)| steps(|layout| change(layout)).remove(0);
    let none = |change: &dyn Fn(&mut Value), why: &str| {
        let (functionaries, unread) = of(change);
        assert!(functionaries.is_empty(), "{why}");
        assert!(unread[0].contains(why), "{unread:?}");
    };
    none(&|l| drop(l["keys"][ANNS].as_object_mut().unwrap().remove("creation_time")), "time of its creation");
    none(&|l| l["keys"][ANNS]["creation_time"] = json!(1), "not its fingerprint");
    none(&|l| l["keys"][ANNS]["keyval"]["public"]["e"] = json!("03"), "not its fingerprint");
    none(&|l| l["keys"][ANNS]["method"] = json!("pgp+dsa-fips-180-2"), "not read");
    none(
        &|l| l["steps"][0]["pubkeys"] = json!(["84fcea9729dc2f80e2cdbee3655a40704898813b"]),
        "a subkey without",
    );
    none(&|l| l["steps"][0]["pubkeys"] = json!(["0000"]), "does not have");
    none(
        &|l| {
            l["steps"][0]["pubkeys"] = json!([]);
            l["steps"][0]["cert_constraints"] = json!([{"common_name": "*", "roots": ["*"]}]);
        },
        "cert_constraints",
    );
    let (functionaries, unread) =
        of(&|l| l["steps"][0]["cert_constraints"] = json!([{"common_name": "write"}]));
    assert_eq!((functionaries, unread.len()), (vec![id(ANN)], 1), "keys count beside certificates");
    assert_eq!(of(&|l| l["steps"][0]["cert_constraints"] = json!([])), (vec![id(ANN)], vec![]));
}

#[test]
fn e01_a_changed_link_or_a_changed_part_of_its_signature_is_refused() {
    for link in [WRITE, BUILD, BUILD_CARL] {
        let of = |change: &dyn Fn(&mut Value)| {
            let mut link = value(link);
            change(&mut link);
            match check(&link.to_string(), &all()) {
                Err(refusal) => refusal.code().to_owned(),
                Ok(facts) => facts.is_verified().to_string(),
            }
        };
        let flip = |text: &Value, at: usize| {
            let mut bytes = hex::decode(text.as_str().unwrap()).unwrap();
            bytes[at] ^= 1;
            Value::from(hex::encode(bytes))
        };
        assert_eq!(of(&|_| {}), "true");
        assert_eq!(of(&|l| l["signed"]["name"] = json!("other")), "ATT_SIGNATURE_INVALID");
        assert_eq!(of(&|l| l["signed"]["more"] = json!(1)), "ATT_SIGNATURE_INVALID");
        let signature = value(link)["signatures"][0].clone();
        for at in 0..signature["signature"].as_str().unwrap().len() / 2 {
            let found = of(&|l| l["signatures"][0]["signature"] = flip(&signature["signature"], at));
            assert_eq!(found, "ATT_SIGNATURE_INVALID", "byte {at} of the signature");
        }
        for at in 0..signature["other_headers"].as_str().unwrap().len() / 2 {
            let found = of(&|l| l["signatures"][0]["other_headers"] = flip(&signature["other_headers"], at));
            assert!(
                ["ATT_SIGNATURE_INVALID", "false"].contains(&&*found),
                "byte {at} of the header: {found}"
            );
        }
        let longer = format!("{}00", signature["other_headers"].as_str().unwrap());
        assert_eq!(of(&|l| l["signatures"][0]["other_headers"] = json!(longer)), "false");
        // Two readings of one signature: neither counts.
        assert_eq!(of(&|l| l["signatures"][0]["sig"] = json!("00")), "false");
        assert_eq!(of(&|l| l["signatures"][0]["signature"] = json!("zz")), "ATT_MALFORMED");
    }
}

#[test]
fn e07_the_name_of_another_key_gives_nothing() {
    let mut link = value(BUILD_CARL);
    link["signatures"][0]["keyid"] = json!("776c13cefeeb40166bdd17c79ab9b91615b14a5b");
    let facts = check(&link.to_string(), &all()).unwrap();
    assert_eq!(facts.keys(), [id(CARL)], "the signature itself says whose it is");
    let found = check(&link.to_string(), &trust(&[ANN]));
    assert!(found.is_err() || !found.unwrap().is_verified());
}
