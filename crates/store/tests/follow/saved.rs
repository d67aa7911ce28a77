//! Starting from a sealed snapshot of the fold, and what somebody with the database's password makes of it.

use catenary_store::audit::log_verify;

use super::*;

/// A log with keys, a revocation and evidence, and the snapshot of it.
async fn saved(name: &str) -> Ground {
    let ground = Ground::new(name).await;
    ground.store.create_tenant("twin", "catenary.test/twin").await.unwrap();
    let key = trusted("ci");
    for entry in [Entry::TrustAdded(key.clone().into()), Entry::TrustEffective(key.id.into())] {
        ground.control(entry).await;
    }
    for text in ["one", "two"] {
        ground.attest(text).await;
    }
    save(&ground).await;
    ground
}

/// Saves the fold of every tenant.
async fn save(ground: &Ground) {
    let follower = Follower::start(ground.store.clone(), ground.keys.clone(), None).await.unwrap();
    for tenant in follower.tenants() {
        follower.save_now(&tenant).await.unwrap();
    }
}

impl Ground {
    async fn control(&self, entry: Entry) -> u64 {
        let new = New::Control { entry: Box::new(entry), submitter: NOBODY };
        self.store.append(TENANT, new).await.unwrap().index
    }

    /// A start that knows nothing of checkpoints outside.
    async fn alone(&self) -> Follower {
        Follower::start(self.store.clone(), self.keys.clone(), None).await.unwrap()
    }

    async fn verify_names_it(&self) -> bool {
        let report = log_verify(&self.store, Some(TENANT), &self.keys, None).await.unwrap();
        report.differences.iter().any(|difference| difference.table == "log_fold")
    }

    async fn saved_size(&self) -> Option<i64> {
        let mut connection = PgConnection::connect_with(&self.connect).await.unwrap();
        sqlx::query_scalar("select size from log_fold where tenant = 'acme'")
            .fetch_optional(&mut connection)
            .await
            .unwrap()
    }

    /// What a start that reads the whole log comes to.
    async fn whole(&self) -> String {
        self.sql("create table if not exists put_aside as table log_fold; delete from log_fold").await;
        let state = state(&self.alone().await);
        self.sql("insert into log_fold select * from put_aside; drop table put_aside").await;
        state
    }
}

fn state(follower: &Follower) -> String {
    format!("{:?}", follower.snapshot(TENANT).unwrap())
}

fn trusts_ci(follower: &Follower) -> bool {
    follower.snapshot(TENANT).unwrap().control.trusts(&trusted("ci").id, Timestamp::MAX)
}

/// Enough entries that the snapshot's own tail does not reach the first ones.
async fn lengthen(ground: &Ground, by: usize) {
    for start in (0..by).step_by(300) {
        let token = |n| New::Control { entry: Box::new(Entry::TokenCreated(a_token(n))), submitter: NOBODY };
        let some = (start..by.min(start + 300)).map(token).collect();
        for answer in ground.store.append_all(TENANT, some).await {
            answer.unwrap();
        }
    }
}

#[tokio::test]
async fn a_start_from_a_snapshot_is_a_start_from_the_whole_log() {
    let ground = saved("saved_whole").await;
    assert_eq!(state(&ground.alone().await), ground.whole().await, "nothing after it");
    ground.attest("three").await;
    ground.control(revocation(trusted("ci").id)).await;
    ground.attest("four").await;
    assert_eq!(state(&ground.alone().await), ground.whole().await, "entries after it");
    assert!(!trusts_ci(&ground.alone().await));
    assert_eq!(ground.store.alarms(), 0);
    let past = |follower: Follower| async move {
        let now = follower.snapshot(TENANT).unwrap();
        follower.past(&now, catenary_store::follow::KnownAt::Size(3)).await.unwrap()
    };
    assert!(past(ground.alone().await).await.control.trusts(&trusted("ci").id, Timestamp::MAX));
}

#[tokio::test]
async fn what_lies_long_before_a_snapshot_is_left_to_log_verify() {
    let ground = saved("saved_long").await;
    lengthen(&ground, 300).await;
    save(&ground).await;
    ground.sql("update log_entry set leaf = leaf || 'x' where tenant = 'acme' and log_index = 4").await;
    let follower = ground.alone().await;
    assert_eq!(follower.broken(TENANT), None, "it was not read: this start did not read the whole log");
    let report = log_verify(&ground.store, Some(TENANT), &ground.keys, None).await.unwrap();
    assert!(report.differences.iter().any(|d| d.table == "log_entry"), "{:?}", report.differences);
}

/// The state, the alarm, and never a yes more than the log gives.
#[tokio::test]
async fn a_snapshot_that_was_changed_is_an_alarm_and_the_whole_log_is_read() {
    let cases = [
        (
            "state",
            "update log_fold set state = set_byte(state, 40, 255 - get_byte(state, 40)) where tenant = 'acme'",
        ),
        ("size", "update log_fold set size = size - 1 where tenant = 'acme'"),
        ("future", "update log_fold set size = size + 1000 where tenant = 'acme'"),
        ("key", "update log_fold set mac_key = 9 where tenant = 'acme'"),
        ("seal", "update log_fold set mac = sha256(mac) where tenant = 'acme'"),
        (
            "other_tenant",
            "update log_fold set size = o.size, state = o.state, mac = o.mac from log_fold o
             where log_fold.tenant = 'acme' and o.tenant = 'twin'",
        ),
        (
            "dropped",
            "update log_fold set state = convert_to(
               regexp_replace(convert_from(state, 'utf8'), '\"control\":.*', '\"control\":[]}'), 'utf8')
             where tenant = 'acme'",
        ),
    ];
    for (name, sql) in cases {
        let ground = saved(&format!("saved_{name}")).await;
        ground.control(revocation(trusted("ci").id)).await;
        save(&ground).await;
        assert!(!ground.verify_names_it().await, "{name}");
        ground.sql(sql).await;
        assert!(ground.verify_names_it().await, "{name}");
        let follower = ground.alone().await;
        assert_eq!(follower.broken(TENANT), None, "{name}");
        assert!(ground.store.alarms() > 0, "{name}");
        assert!(!trusts_ci(&follower), "{name}");
        assert_eq!(state(&follower), ground.whole().await, "{name}");
    }
}

#[tokio::test]
async fn a_log_that_does_not_bear_its_snapshot_out_is_not_believed() {
    let cases = [
        ("tail_gone", "delete from log_entry where log_index = 4 and tenant = 'acme'"),
        (
            "tail_changed",
            "update log_entry set leaf = (select leaf from log_entry where log_index = 3 and tenant = 'acme') where log_index = 4 and tenant = 'acme'",
        ),
        (
            "control_gone",
            "delete from body where id = (select id from log_entry where kind = 'trust.effective')",
        ),
        (
            "control_changed",
            "update body set bytes = '{}' where id = (select id from log_entry where kind = 'trust.effective')",
        ),
        ("root", "update log_head set root = sha256('x') where tenant = 'acme'"),
        ("origin", "update log_head set origin = 'other' where tenant = 'acme'"),
        ("head_gone", "delete from log_head where tenant = 'acme'"),
    ];
    for (name, sql) in cases {
        let ground = saved(&format!("unborne_{name}")).await;
        ground.sql(sql).await;
        let follower = ground.alone().await;
        assert!(follower.fresh(TENANT).await.is_err(), "{name}");
        assert!(!follower.lease_valid(TENANT), "{name}");
    }
}

#[tokio::test]
async fn a_log_shorter_than_a_sealed_snapshot_is_not_believed_even_without_a_checkpoint_outside() {
    let ground = saved("saved_shorter").await;
    rolled_back(&ground).await;
    let follower = ground.alone().await;
    assert_eq!(follower.broken(TENANT), Some(Broken::Shorter { had: 5, found: 1 }));
    // Grown again with other entries.
    for text in ["a", "b", "c", "d", "e"] {
        ground.attest(text).await;
    }
    let follower = ground.alone().await;
    assert_eq!(follower.broken(TENANT), Some(Broken::NotAnExtension { kept: 5 }));
}

#[tokio::test]
async fn an_old_snapshot_that_is_put_back_hides_no_revocation() {
    let ground = saved("saved_old").await;
    ground.sql("create table old as table log_fold").await;
    ground.control(revocation(trusted("ci").id)).await;
    save(&ground).await;
    ground.sql("delete from log_fold; insert into log_fold select * from old").await;
    assert!(!trusts_ci(&ground.alone().await));
    assert_eq!(ground.store.alarms(), 0, "it is what one of us wrote");
}

#[tokio::test]
async fn an_old_snapshot_and_a_log_cut_off_after_it_are_found_by_the_checkpoint_outside() {
    let ground = saved("saved_cut").await;
    ground.sql("create table old as table log_fold; create table head as table log_head").await;
    ground.control(revocation(trusted("ci").id)).await;
    save(&ground).await;
    let before = ground.follower().await;
    kept_outside(&ground, 6).await;
    drop(before);
    // As the database was before the revocation, the snapshot of that time with it.
    ground
        .sql(
            "delete from body where id = (select id from log_entry where log_index = 5 and tenant = 'acme');
             delete from log_entry where log_index = 5 and tenant = 'acme';
             delete from log_fold; insert into log_fold select * from old;
             delete from log_head; insert into log_head select * from head",
        )
        .await;
    let follower = ground.follower().await;
    assert_eq!(follower.broken(TENANT), Some(Broken::ShorterThanCheckpoint { kept: 6, found: 5 }));
}

#[tokio::test]
async fn the_checkpoint_outside_is_compared_before_at_and_after_a_snapshot() {
    for (name, kept, extra) in [("before", 3, 0), ("at", 5, 0), ("after", 6, 2)] {
        let ground = saved(&format!("saved_outside_{name}")).await;
        for n in 0..extra {
            ground.attest(&format!("more {n}")).await;
        }
        let real = ground.store.root_at(TENANT, kept).await.unwrap();
        for (root, holds) in [(real, true), (catenary_tlog::Hash([7; 32]), false)] {
            let folder = ground.dir.path().join(format!("outside-{holds}"));
            let outside = CheckpointStore::open(&folder).unwrap();
            let note = catenary_tlog::Checkpoint::new(ORIGIN, kept, root);
            let note = note.sign(&ground.keys.log_signer(ORIGIN).unwrap()).unwrap();
            outside.advance(TENANT, None, note.as_bytes()).unwrap();
            let follower =
                Follower::start(ground.store.clone(), ground.keys.clone(), Some(outside)).await.unwrap();
            let expected = (!holds).then_some(Broken::NotAnExtension { kept });
            assert_eq!(follower.broken(TENANT), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_damaged_tile_costs_a_start_time_and_not_its_yes() {
    let ground = saved("saved_tile").await;
    lengthen(&ground, 300).await;
    save(&ground).await;
    ground.sql("update log_tile set hashes = set_byte(hashes, 9, 255 - get_byte(hashes, 9))").await;
    let follower = ground.alone().await;
    assert_eq!(follower.broken(TENANT), None);
    assert!(ground.store.alarms() > 0);
    assert_eq!(state(&follower), ground.whole().await);
}

#[tokio::test]
async fn a_long_log_is_saved_while_we_run_and_a_changed_snapshot_replaced() {
    let ground = saved("saved_running").await;
    ground.sql("update log_fold set mac = sha256(mac) where tenant = 'acme'").await;
    lengthen(&ground, 4_100).await;
    let follower = ground.alone().await;
    let size = follower.snapshot(TENANT).unwrap().size;
    let begin = Instant::now();
    while ground.saved_size().await != Some(i64::try_from(size).unwrap()) {
        assert!(begin.elapsed() < Duration::from_secs(20), "no snapshot of {size} entries");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let alarms = ground.store.alarms();
    ground.alone().await.fresh(TENANT).await.unwrap();
    assert_eq!(ground.store.alarms(), alarms, "the new one is believed");
}
