//! New images enter, honest and hostile.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::hammer::{
    cast::{Actor, MUTATIONS, Part},
    play::Play,
};

/// Lets images enter until the end; every attack case comes up again and again.
pub async fn enter(play: Arc<Play>) {
    while play.goes_on() {
        let tenant = fastrand::usize(..play.tenants.len());
        let part = match fastrand::u8(..4) {
            0 => Part::Honest,
            _ => Part::Hostile(&MUTATIONS[play.turn.fetch_add(1, Ordering::Relaxed) % MUTATIONS.len()]),
        };
        perform(&play, tenant, part).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..500))).await;
    }
}

/// One image: it is polled from before its first byte is sent.
pub async fn perform(play: &Play, tenant: usize, part: Part) -> Option<Arc<Actor>> {
    let actor = Arc::new(Actor::new(tenant, &play.tenants.get(tenant)?.world, play.number(), part));
    play.enters(&actor);
    let mut newest = 0;
    for blob in &actor.objects {
        newest = newest.max(play.push_object(tenant, &blob.media_type, &blob.bytes).await?);
    }
    for envelope in &actor.envelopes {
        newest = newest.max(play.submit(tenant, &envelope.to_json()).await?);
    }
    actor.complete.store(newest + 1, Ordering::SeqCst);
    Some(actor)
}
