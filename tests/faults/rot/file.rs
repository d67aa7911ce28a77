//! R13 below SQL: a bit of the file that holds what was signed is another one, with checksums of pages and without.

use std::{fs, path::PathBuf, process::Command, time::Instant};

use acceptance::{
    Cluster, Stage,
    cluster::{binaries, execute, texts},
};

use super::alarms;
use crate::{
    ground::{Ground, RECOVERY},
    report::Report,
};

/// Without checksums Postgres gives the altered bytes, and we notice; with them it says that the page is damaged.
pub async fn bits_flip(report: &mut Report) {
    for checksums in [false, true] {
        let cluster = Cluster::private(&["fsync=on"]).await;
        if checksums {
            cluster.end("INT");
            if let Err(why) = enable_checksums(&cluster) {
                report.skip("a flipped bit under checksums", &why);
                continue;
            }
            cluster.start().await;
        }
        let ground = Ground::on(cluster, |builder| builder).await;
        flip(report, &ground, checksums).await;
    }
}

async fn flip(report: &mut Report, ground: &Ground, checksums: bool) {
    // Nobody has asked about it yet.
    let stage = Stage::in_app(&ground.app).await;
    stage.post_world().await;
    let needle = signed(ground, &stage).await;
    execute(&ground.url, "checkpoint").await;
    let files = files(ground).await;
    ground.cluster.end("INT");
    let flipped = files.iter().filter(|file| flip_after(file, &needle)).count();
    report.expect(flipped == 1, || format!("{flipped} files hold the signed bytes"));
    ground.cluster.start().await;
    // The database was away for a moment; after it the first that was read is the damaged one.
    let mut answer = stage.judge().await;
    let begun = Instant::now();
    while answer.code() == "SYS_STORE_UNAVAILABLE" && begun.elapsed() < RECOVERY {
        answer = stage.judge().await;
    }
    let how = if checksums { "with checksums" } else { "without checksums" };
    report.expect(answer.json()["allowed"] != true, || format!("a flipped bit {how}: {}", answer.show()));
    report.expect([200, 503].contains(&answer.status), || format!("a flipped bit {how}: {}", answer.show()));
    let said = if checksums {
        ground.app.log().contains("what the database stores is damaged")
    } else {
        answer.codes().iter().any(|code| code == "SYS_INTEGRITY_VIOLATION")
            && alarms(&ground.app).iter().any(|a| (&*a.table, &a.tenant) == ("body", &stage.tenant))
    };
    report.expect(said, || format!("a flipped bit {how} was not noticed at once: {}", answer.show()));
    report.count("flipped bits in files", 1);
}

/// A piece of the provenance's signature as it was sent: no other row has it. Postgres cuts what is long every 1,996 bytes.
async fn signed(ground: &Ground, stage: &Stage) -> Vec<u8> {
    let sql = format!(
        "select encode(substring(b.bytes from case when (n - 70) / 1996 = (n - 29) / 1996 then n - 70 else n - 110 end for 40), 'hex')
         from body b join attestation a using (tenant, id), length(b.bytes) n
         where tenant = '{}' and predicate_type like 'https://slsa.dev/provenance%'",
        stage.tenant
    );
    let found = texts(&ground.url, &sql).await;
    hex::decode(&found[0]).unwrap()
}

/// Where bodies lie, those that are longer than a page included.
async fn files(ground: &Ground) -> Vec<PathBuf> {
    let sql = "select pg_relation_filepath(oid) from pg_class where relname = 'body'
               union select pg_relation_filepath(reltoastrelid) from pg_class where relname = 'body'";
    let data = ground.cluster.folder().join("data");
    texts(&ground.url, sql).await.into_iter().map(|file| data.join(file)).collect()
}

/// Flips a bit behind the first place where a file holds these bytes.
fn flip_after(file: &PathBuf, needle: &[u8]) -> bool {
    let mut bytes = fs::read(file).unwrap();
    let Some(at) = bytes.windows(needle.len()).position(|part| part == needle) else { return false };
    bytes[at + 8] ^= 1;
    fs::write(file, bytes).is_ok()
}

fn enable_checksums(cluster: &Cluster) -> Result<(), String> {
    let program = binaries().join("pg_checksums");
    let data = cluster.folder().join("data");
    let run = Command::new(program).args(["--enable", "--no-sync", "--pgdata"]).arg(data).output();
    let run = run.map_err(|error| format!("pg_checksums: {error}"))?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).trim().to_owned()) }
}
