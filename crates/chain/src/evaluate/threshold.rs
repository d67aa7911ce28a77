//! How many builders are independent: distinct domains, each by a build and a signer of its own (chain-model 1.7, thresholds).

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::digest::Sha256;

/// Whoever signed, as the policy knows it: the domains of all rules that name the signer. One that several domains name is one
/// operator, under whichever of them it is counted and whatever its certificates call it.
pub type Operator<'s> = Vec<&'s str>;

/// A good build: the statement, and whoever signed it.
pub type Voice<'s> = (Sha256, Operator<'s>);

/// The domains by which a node has good builds, and these.
pub type Voices<'s> = BTreeMap<&'s str, BTreeSet<Voice<'s>>>;

/// Sets of domains that are tried when builds or operators speak for several each.
const MAX_SETS: usize = 4096;

/// Voices that are tried for a set of domains. With more it does not count: that costs a yes, never a no.
const MAX_TRIES: usize = 4096;

/// The most domains for which, wherever it is asked, different builds by different operators speak.
pub fn independent(all: &[&Voices<'_>]) -> usize {
    let Some((first, rest)) = all.split_first() else { return 0 };
    let shared = first.keys().filter(|domain| rest.iter().all(|voices| voices.contains_key(*domain)));
    let domains: Vec<&str> = shared.copied().collect();
    if domains.len() < 2 || all.iter().all(|voices| are_apart(&domains, voices)) {
        return domains.len();
    }
    let mut sets: Vec<Vec<&str>> = vec![Vec::new()];
    for (size, _) in domains.iter().enumerate() {
        // A set that speaks with different voices has no subset that does not.
        let larger = sets.iter().flat_map(|set| {
            let later = domains.iter().filter(|domain| set.last().is_none_or(|last| last < *domain));
            later.map(|domain| set.iter().chain([domain]).copied().collect::<Vec<_>>())
        });
        let spoken = |set: &Vec<&str>| all.iter().all(|voices| have_one_each(set, voices));
        let larger: Vec<_> = larger.filter(spoken).take(MAX_SETS).collect();
        if larger.is_empty() {
            return size;
        }
        sets = larger;
    }
    domains.len()
}

/// Whether no build and no operator speaks for two of the domains, as is usual.
fn are_apart(domains: &[&str], voices: &Voices<'_>) -> bool {
    let mut builds = BTreeMap::new();
    let mut said = domains.iter().flat_map(|domain| voices[domain].iter().map(move |voice| (domain, voice)));
    said.all(|(domain, (id, operator))| operator.len() < 2 && *builds.entry(*id).or_insert(domain) == domain)
}

/// Whether each of the domains can have a build and an operator of its own.
fn have_one_each(domains: &[&str], voices: &Voices<'_>) -> bool {
    let mut choices: Vec<Vec<&Voice<'_>>> =
        domains.iter().map(|domain| few(domains.len(), voices.get(domain))).collect();
    // Those with the least choice go first.
    choices.sort_by_key(Vec::len);
    let mut tries = MAX_TRIES;
    place(&choices, &mut Vec::new(), &mut tries)
}

/// Of each operator as many builds as there are domains: when the others have taken theirs, one of these is left.
fn few<'v, 's>(most: usize, voices: Option<&'v BTreeSet<Voice<'s>>>) -> Vec<&'v Voice<'s>> {
    let mut taken: BTreeMap<&Operator<'s>, usize> = BTreeMap::new();
    let is_needed = |voice: &&'v Voice<'s>| {
        let of = taken.entry(&voice.1).or_default();
        *of += 1;
        *of <= most
    };
    voices.into_iter().flatten().filter(is_needed).collect()
}

/// Gives each of the choices a voice that shares neither build nor operator with those chosen before.
fn place<'v, 's>(choices: &[Vec<&'v Voice<'s>>], chosen: &mut Vec<&'v Voice<'s>>, tries: &mut usize) -> bool {
    let Some((first, rest)) = choices.split_first() else { return true };
    for voice in first {
        let Some(left) = tries.checked_sub(1) else { return false };
        *tries = left;
        let is_taken = chosen.iter().any(|other| other.0 == voice.0 || other.1 == voice.1);
        #[cfg(feature = "faults")]
        let is_taken = match crate::faults::on(crate::faults::Fault::OneOperatorTwice) {
            true => chosen.iter().any(|other| other.0 == voice.0),
            false => is_taken,
        };
        if is_taken {
            continue;
        }
        chosen.push(voice);
        if place(rest, chosen, tries) {
            return true;
        }
        chosen.pop();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voices(said: &[(&'static str, u8, &[&'static str])]) -> Voices<'static> {
        let mut voices = Voices::new();
        for (domain, id, operator) in said {
            voices.entry(domain).or_default().insert((Sha256([*id; 32]), operator.to_vec()));
        }
        voices
    }

    #[track_caller]
    fn check(expected: usize, said: &[(&'static str, u8, &[&'static str])]) {
        assert_eq!(independent(&[&voices(said)]), expected, "{said:?}");
    }

    #[test]
    fn neither_a_build_nor_an_operator_counts_twice() {
        check(0, &[]);
        check(2, &[("a", 1, &["a"]), ("b", 2, &["b"])]);
        check(1, &[("a", 1, &["a"]), ("b", 1, &["b"])]);
        check(1, &[("a", 1, &["a", "b"]), ("b", 2, &["a", "b"])]);
        check(2, &[("a", 1, &["a", "b"]), ("b", 1, &["a", "b"]), ("b", 2, &["b"])]);
        // The first choice of the one is the only choice of the other.
        check(2, &[("a", 1, &["a", "b"]), ("a", 2, &["a"]), ("b", 1, &["a", "b"])]);
        // Builds and operators are both enough, but not together: who signs for both has the only build of its own.
        check(1, &[("a", 1, &["a", "b"]), ("b", 1, &["b"]), ("b", 2, &["a", "b"])]);
    }

    #[test]
    fn every_place_is_by_the_same_domains() {
        let here = voices(&[("a", 1, &["a"]), ("b", 2, &["b"])]);
        let there = voices(&[("b", 2, &["b"]), ("c", 3, &["c"])]);
        assert_eq!(independent(&[&here, &there]), 1);
        assert_eq!(independent(&[&here, &here]), 2);
    }

    /// What was found by trying everything.
    fn by_trying(domains: &[&str], voices: &Voices<'_>) -> usize {
        let sets = 0_u32..1 << domains.len();
        let chosen = |set: u32| domains.iter().enumerate().filter(move |(at, _)| set >> at & 1 == 1);
        fn one_each(domains: &[&str], voices: &Voices<'_>, chosen: &[&Voice<'_>]) -> bool {
            let Some((domain, rest)) = domains.split_first() else { return true };
            voices[domain].iter().any(|voice| {
                chosen.iter().all(|other| other.0 != voice.0 && other.1 != voice.1)
                    && one_each(rest, voices, &[chosen, &[voice]].concat())
            })
        }
        let holds = |set: &u32| {
            let domains: Vec<&str> = chosen(*set).map(|(_, domain)| *domain).collect();
            one_each(&domains, voices, &[])
        };
        sets.filter(holds).map(u32::count_ones).max().unwrap_or(0) as usize
    }

    proptest! {
        #[test]
        fn as_many_as_by_trying(said in proptest::collection::vec((0_usize..4, 0_u8..6, 1_u8..16), 0..14)) {
            const DOMAINS: [&str; 4] = ["a", "b", "c", "d"];
            let mut voices = Voices::new();
            for (domain, id, operator) in said {
                let names = (0..4).filter(|at| operator >> at & 1 == 1 || *at == domain);
                let operator = names.map(|at| DOMAINS[at]).collect();
                voices.entry(DOMAINS[domain]).or_default().insert((Sha256([id; 32]), operator));
            }
            let domains: Vec<&str> = voices.keys().copied().collect();
            prop_assert_eq!(independent(&[&voices]), by_trying(&domains, &voices));
        }
    }
}
