//! Every reader, fed with damaged input: none panics, and what still verifies says what was signed and nothing else.
//!
//! `MUTATIONS=100000 cargo test --release -p catenary-evidence --test evidence mutate` goes on for longer.

use catenary_evidence::{
    PublicKey, allowed_signers,
    attestation::{detect, verify},
    object::{self, Body},
    trust_root::{Domain, Rules},
};

use crate::corpus::{Read, Rng, corpus, damage};

#[test]
#[expect(clippy::disallowed_methods, reason = "how long to go on comes from the environment")]
fn damaged_input_never_panics_and_never_says_what_nobody_signed() {
    let rounds: usize = std::env::var("MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let corpus = corpus();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let (mut refused, mut kept, mut verified) = (0, 0, 0);
    for round in 0..rounds {
        for (position, seed) in corpus.seeds.iter().enumerate() {
            let other = &corpus.seeds[(position + round) % corpus.seeds.len()].bytes;
            let bytes = damage(&seed.bytes, other, &mut rng);
            match &seed.read {
                Read::Evidence(golden) => {
                    let Ok(items) = detect(&bytes) else {
                        refused += 1;
                        continue;
                    };
                    for item in items {
                        let Ok(facts) = verify(item, &corpus.trust) else {
                            refused += 1;
                            continue;
                        };
                        kept += 1;
                        if facts.is_verified() {
                            verified += 1;
                            // A splice may bring in a whole other item, which is as good as it was.
                            let all = corpus.seeds.iter().filter_map(|seed| match &seed.read {
                                Read::Evidence(golden) => Some(golden),
                                _ => None,
                            });
                            let signed = all.flatten().chain(golden).any(|good| {
                                (&good.payload, &good.subjects, &good.claim)
                                    == (&facts.payload, &facts.subjects, &facts.claim)
                            });
                            assert!(signed, "{}: {}", seed.name, String::from_utf8_lossy(item));
                        }
                    }
                }
                Read::Object(media_type) => {
                    if let Ok(object) = object::read(media_type, &bytes, &corpus.trust, None)
                        && let Body::Commit(commit) = &object.body
                        && let Some(signature) = commit.signature.as_ref().and_then(|s| s.verified.as_ref())
                    {
                        // The signature covers the whole commit but itself.
                        let stripped = |text: &[u8]| {
                            let text = String::from_utf8_lossy(text).into_owned();
                            let (head, body) = text
                                .split_once("\n\n")
                                .map_or((text.clone(), String::new()), |(h, b)| (h.to_owned(), b.to_owned()));
                            let head: Vec<&str> = head
                                .lines()
                                .filter(|l| !l.starts_with(' ') && !l.starts_with("gpgsig"))
                                .collect();
                            (head.join("\n"), body)
                        };
                        assert_eq!(stripped(&bytes), stripped(&seed.bytes), "{signature:?}");
                    }
                }
                Read::Root => drop(Domain::read("acme", &bytes, Rules::default())),
                Read::Keys => {
                    let text = String::from_utf8_lossy(&bytes);
                    drop(PublicKey::from_text(&text, None));
                    drop(PublicKey::all_from_text(&text, None));
                    drop(allowed_signers::read(&text));
                }
            }
        }
    }
    println!("{refused} refused, {kept} kept, of which {verified} verified");
    assert!(refused > rounds && kept > 0, "the damage is worth the name");
}
