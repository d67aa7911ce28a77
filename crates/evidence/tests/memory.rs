//! How much memory one input takes while it is read: less than 64 MiB, whatever it is.
#![expect(unsafe_code, reason = "an allocator that counts")]

#[path = "evidence/corpus.rs"]
mod corpus;
#[path = "evidence/hostile.rs"]
mod hostile;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use catenary_evidence::{
    PublicKey, Trust, allowed_signers,
    attestation::{detect, verify},
    object,
    trust_root::{Domain, Rules},
};

use corpus::{Read, Rng, corpus, damage};

/// The most bytes of one input.
const MAX: usize = 64 * 1024 * 1024;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn more(bytes: usize) {
    PEAK.fetch_max(NOW.fetch_add(bytes, SeqCst) + bytes, SeqCst);
}

// SAFETY: every call is the system allocator's; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were there at once while `work` ran, with its input.
fn peak(input: usize, work: impl FnOnce()) -> usize {
    let before = NOW.load(SeqCst);
    PEAK.store(before, SeqCst);
    work();
    input + PEAK.load(SeqCst).saturating_sub(before)
}

fn read(read: &Read, bytes: &[u8], trust: &Trust) {
    match read {
        Read::Evidence(golden) => {
            assert!(!golden.is_empty(), "it verifies when it is not damaged");
            for item in detect(bytes).unwrap_or_default() {
                drop(verify(item, trust));
            }
        }
        Read::Object(media_type) => drop(object::read(media_type, bytes, trust, None)),
        Read::Root => drop(Domain::read("acme", bytes, Rules::default())),
        Read::Keys => {
            let text = String::from_utf8_lossy(bytes);
            drop(PublicKey::all_from_text(&text, None));
            drop(allowed_signers::read(&text));
        }
    }
}

/// One test, for what another allocated meanwhile would be counted.
#[test]
fn no_input_takes_64_mib() {
    let corpus = corpus();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let (mut most, mut over) = ((0, String::new()), Vec::new());
    let mut judge = |name: &str, taken: usize| {
        if taken > MAX {
            over.push(format!("{name}: {} KiB", taken / 1024));
        }
        if taken > most.0 {
            most = (taken, name.to_owned());
        }
    };
    for (position, seed) in corpus.seeds.iter().enumerate() {
        for round in 0..6 {
            let other = &corpus.seeds[(position + round) % corpus.seeds.len()].bytes;
            let bytes = if round == 0 { seed.bytes.clone() } else { damage(&seed.bytes, other, &mut rng) };
            judge(seed.name, peak(bytes.len(), || read(&seed.read, &bytes, &corpus.trust)));
        }
    }
    for input in hostile::inputs() {
        let bytes = &input.bytes;
        let taken = peak(bytes.len(), || match input.object {
            Some(media_type) => drop(object::read(media_type, bytes, &corpus.trust, None)),
            None => {
                for item in detect(bytes).unwrap_or_default() {
                    drop(verify(item, &corpus.trust));
                }
            }
        });
        println!("{:>8} KiB {:>8} KiB {}", bytes.len() / 1024, taken / 1024, input.name);
        judge(input.name, taken);
    }
    println!("most: {} KiB of {}", most.0 / 1024, most.1);
    assert!(over.is_empty(), "{over:#?}");
    assert!(most.0 > 8 * 1024 * 1024, "the largest inputs are there");
}
