//! The evaluation alone: everything that a verdict reads is in memory.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use catenary_chain::{
    Control, Evidence, Outcome, Question,
    context::Context as Said,
    control::{Entry, TrustedKey},
    evaluate,
    verdict::LogView,
};
use catenary_evidence::{PublicKey, Trust, attestation, digest::Sha256, object};
use catenary_testkit::World;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pure::{case, in_turn};

/// What an ordinary chain may cost.
const MARK_US: f64 = 20.0;

/// The golden chain: an index of two platforms, source, build, base image and registry, under a policy without expressions.
pub fn ordinary() -> Result<Value> {
    let world = World::golden(1, catenary_testkit::time::NOON);
    let received = Timestamp::from_second(catenary_testkit::time::NOON)?;
    let (mut control, mut trust, mut evidence) = (Control::default(), Trust::default(), Evidence::default());
    let mut index = 0;
    let mut next = || {
        index += 1;
        index
    };
    for key in [&world.k_ci, &world.k_vcs, &world.k_reg, &world.k_dev] {
        let public = PublicKey::from_text(&key.public_pem(), None)?;
        let (id, scheme, pem) = (public.id(), public.scheme(), public.to_pem());
        let trusted = TrustedKey {
            id,
            name: "key".into(),
            pem,
            scheme,
            service: None,
            valid_from: None,
            valid_until: None,
        };
        control.apply(next(), &Entry::TrustAdded(trusted.into()));
        control.apply(next(), &Entry::TrustEffective(id.into()));
        trust.insert_key(public);
    }
    let document = world.policy();
    control.apply(next(), &Entry::PolicyApplied { name: "prod".into(), revision: 1, document });
    for blob in world.objects() {
        let object = object::read(&blob.media_type, &blob.bytes, &trust, None)?;
        evidence.add_object(next(), received, object);
    }
    for envelope in world.envelopes() {
        evidence.add_attestation(next(), received, attestation::verify(&envelope.to_bytes(), &trust)?);
    }
    let question = Question {
        image: world.image().parse()?,
        environment: Some("prod".into()),
        platform: None,
        context: Said::new(),
    };
    let log = LogView { size: next(), root: Sha256([7; 32]) };
    let ask = || evaluate(black_box(&question), &control, &evidence, log, received);
    let verdict = ask();
    ensure!(verdict.outcome == Outcome::Passed, "the golden chain is {}", verdict.summary);
    let rates = in_turn(|| black_box(ask()).allowed, || !black_box(verdict.to_json_bytes()).is_empty());
    let us = 1_000_000.0 / rates.0;
    let mut case = case("evaluate an ordinary chain", rates, "writing its verdict as JSON");
    let members = case.as_object_mut().context("a case is an object")?;
    members.insert("us".into(), json!((us * 10.0).round() / 10.0));
    members.insert("mark_us".into(), json!(MARK_US));
    members.insert("ok".into(), json!(us <= MARK_US));
    Ok(case)
}
