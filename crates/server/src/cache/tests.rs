//! The law of the cache: whatever happens, an answer that comes out is the one that would be computed now.

use catenary_chain::{Control, Evidence, evaluate, verdict::LogView};
use catenary_evidence::digest::{Digest, Node};

use super::*;

const NODES: usize = 12;
const QUESTIONS: usize = 8;

/// A small generator (xorshift64*), so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}

fn node(n: usize) -> Node {
    Node::Content(Digest::sha256(&[u8::try_from(n).unwrap()]))
}

fn question(n: usize) -> Question {
    let image = format!("r.test/app-{n}@{}", Digest::sha256(b"image")).parse().unwrap();
    Question { image, environment: None, platform: None, context: Default::default() }
}

/// A log whose only effect is how often each node was written; an answer spells the counts of what it reads.
#[derive(Default)]
struct Model {
    log: Vec<WriteSet>,
    writes: [u64; NODES],
    epoch: u64,
}

impl Model {
    fn write(&mut self, dice: &mut Dice) -> WriteSet {
        let written = match dice.roll(20) {
            0 => WriteSet::All,
            1 | 2 => WriteSet::None,
            _ => {
                let touched: Vec<usize> = (0..=dice.roll(2)).map(|_| dice.roll(NODES)).collect();
                touched.iter().for_each(|n| self.writes[*n] += 1);
                WriteSet::Nodes(touched.into_iter().map(node).collect())
            }
        };
        if written == WriteSet::All {
            self.epoch += 1;
        }
        self.log.push(written.clone());
        written
    }

    /// What question `n` reads, misses included; every question has other nodes.
    fn reads(n: usize) -> impl Iterator<Item = usize> {
        [n % NODES, (n * 5 + 1) % NODES, (n * 7 + 3) % NODES].into_iter()
    }

    fn text(&self, n: usize) -> String {
        let counts: Vec<u64> = Self::reads(n).map(|node| self.writes[node]).collect();
        format!("epoch {} counts {counts:?}", self.epoch)
    }

    fn answer(&self, n: usize) -> Arc<Ready> {
        let log = LogView { size: self.log.len() as u64, root: Sha256::of(b"root") };
        let now = Timestamp::UNIX_EPOCH;
        let mut verdict = evaluate(&question(n), &Control::default(), &Evidence::default(), log, now);
        verdict.summary = self.text(n);
        verdict.valid_until = Timestamp::MAX;
        let reads = ReadSet { nodes: Self::reads(n).map(node).collect() };
        Arc::new(Evaluated { verdict, reads, ends: n.is_multiple_of(2).then_some(now) }.into())
    }

    fn key(&self, n: usize) -> Key {
        key("acme", self.epoch, &question(n))
    }
}

#[test]
fn after_every_entry_of_a_random_log_the_cached_answer_is_the_fresh_one() {
    let (mut hits, mut refused) = (0, 0);
    for seed in 1..=60_u64 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        // Room for every ready answer, or for one: then most come out of their packed form.
        let room = if seed % 2 == 0 { 1 << 20 } else { 64 << 10 };
        let (mut model, answers) = (Model::default(), Answers::new(room));
        answers.start("acme", 0);
        // Answers that are still being computed while the log goes on.
        let mut computing: Vec<(Key, Arc<Ready>)> = Vec::new();
        for _ in 0..400 {
            let n = dice.roll(QUESTIONS);
            match dice.roll(8) {
                0 => {
                    let from = model.log.len() as u64;
                    let batch: Vec<WriteSet> = (0..=dice.roll(3)).map(|_| model.write(&mut dice)).collect();
                    answers.follow("acme", from, &batch);
                    if dice.roll(4) == 0 {
                        // Told twice: harmless.
                        answers.follow("acme", from, &batch);
                    }
                }
                1 | 2 => computing.push((model.key(n), model.answer(n))),
                3 | 4 if !computing.is_empty() => {
                    let (key, ready) = computing.swap_remove(dice.roll(computing.len()));
                    refused += usize::from(!answers.insert("acme", key, &ready));
                }
                _ => {
                    let followed = model.log.len() as u64;
                    if let Some(ready) = answers.get("acme", &model.key(n), followed, Timestamp::UNIX_EPOCH) {
                        hits += 1;
                        assert_eq!(ready.verdict.summary, model.text(n), "seed {seed}, question {n}");
                    }
                }
            }
        }
    }
    assert!(hits > 1000 && refused > 200, "the test must see both: {hits} hits, {refused} late fills");
}

#[test]
fn an_answer_that_was_overtaken_while_it_was_computed_is_not_kept() {
    let answers = Answers::new(1 << 20);
    answers.start("acme", 0);
    let (model, written) = (Model::default(), WriteSet::Nodes(vec![node(0)]));
    let (key, ready) = (model.key(0), model.answer(0));
    answers.follow("acme", 0, std::slice::from_ref(&written));
    assert!(!answers.insert("acme", key, &ready), "its node was written meanwhile");
    let other = model.answer(2);
    assert!(!other.read_set.intersects(&written));
    assert!(answers.insert("acme", model.key(2), &other));
}

#[test]
fn a_cache_that_is_behind_the_follower_gives_nothing() {
    let answers = Answers::new(1 << 20);
    answers.start("acme", 0);
    let model = Model::default();
    assert!(answers.insert("acme", model.key(0), &model.answer(0)));
    let get = |followed| answers.get("acme", &model.key(0), followed, Timestamp::UNIX_EPOCH).is_some();
    assert!(get(0));
    assert!(!get(1), "entry 0 was published, but not yet told to the cache");
    answers.follow("acme", 5, &[WriteSet::None]);
    assert!(!get(6), "entries were missed: nothing that was kept may be given");
}

#[test]
fn an_answer_ends_with_its_time_and_an_undecided_one_is_never_kept() {
    let answers = Answers::new(1 << 20);
    answers.start("acme", 0);
    let model = Model::default();
    let mut verdict = model.answer(0).verdict.clone();
    verdict.valid_until = "2026-11-20T10:00:00Z".parse().unwrap();
    let reads = model.answer(0).read_set.clone();
    let answer = |verdict| Arc::new(Evaluated { verdict, reads: reads.clone(), ends: None }.into());
    assert!(answers.insert("acme", model.key(0), &answer(verdict.clone())));
    let get = |now: &str| answers.get("acme", &model.key(0), 0, now.parse().unwrap()).is_some();
    assert!(get("2026-11-20T09:59:59Z"));
    assert!(!get("2026-11-20T10:00:00Z"));
    verdict.outcome = Outcome::Indeterminate;
    assert!(!answers.insert("acme", model.key(1), &answer(verdict)));
}

#[test]
fn h40_no_two_questions_share_a_key() {
    let mut keys = std::collections::BTreeSet::new();
    let context: Vec<catenary_chain::context::Context> = vec![
        [].into(),
        [("a".to_owned(), "b".to_owned())].into(),
        [("a".to_owned(), "bc".to_owned())].into(),
        [("ab".to_owned(), "c".to_owned())].into(),
    ];
    let asked = |environment: Option<&str>, platform: Option<&str>, context: &_| Question {
        context: Clone::clone(context),
        image: question(0).image,
        environment: environment.map(str::to_owned),
        platform: platform.map(|os| catenary_evidence::object::Platform {
            os: os.into(),
            architecture: "amd64".into(),
            variant: None,
        }),
    };
    for tenant in ["acme", "globex"] {
        for epoch in [1, 11] {
            for environment in [None, Some("prod"), Some("prodlinux")] {
                for platform in [None, Some("linux")] {
                    for context in &context {
                        keys.insert(key(tenant, epoch, &asked(environment, platform, context)));
                    }
                }
            }
        }
    }
    assert_eq!(keys.len(), 96);
}

#[test]
fn a_packed_answer_is_the_answer() {
    let model = Model::default();
    let other = Arc::new(packed::Sample::of(&model.answer(0)));
    for n in 0..QUESTIONS {
        let ready = model.answer(n);
        let packed = Packed::new(&ready, other.clone()).unwrap();
        assert!(packed.bytes() < ready.bytes.len() / 3, "{} of {}", packed.bytes(), ready.bytes.len());
        let unpacked = packed.unpack().unwrap();
        assert_eq!((&unpacked.bytes, &unpacked.etag), (&ready.bytes, &ready.etag));
        assert_eq!((&unpacked.verdict, &unpacked.read_set), (&ready.verdict, &ready.read_set));
        assert_eq!(unpacked.ends, ready.ends);
        assert_eq!((unpacked.size, unpacked.valid_until), (ready.size, ready.valid_until));
    }
}

#[test]
fn links_to_answers_that_were_pushed_out_are_tidied_away() {
    let nodes: Vec<Node> = (0..NODES).map(node).collect();
    let mut readers = readers::Readers::default();
    for n in 0..100_u8 {
        readers.add([n; 32], nodes.iter());
        // Computed anew: the older links go.
        readers.add([n; 32], nodes.iter().take(3));
    }
    readers.tidy(|key| key[0] < 10);
    assert_eq!(readers.links(), 30);
    assert_eq!(readers.take(&nodes[0]).len(), 10);
    assert!(readers.take(&nodes[0]).is_empty() && readers.take(&nodes[5]).is_empty());
    assert_eq!((readers.links(), readers.take_all().len()), (20, 10));
}
