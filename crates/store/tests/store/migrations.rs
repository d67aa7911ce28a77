//! The SQL stays such that it runs on a distributed Postgres, on replicas and on pglite (design section 8).

use std::{fs, path::Path};

/// Words that bind us to one server, or hide rules in the database.
const BANNED: [&str; 13] = [
    "trigger",
    "serial",
    "plpgsql",
    "advisory",
    "recursive",
    "listen",
    "notify",
    "sequence",
    "identity",
    "create function",
    "create procedure",
    "create extension",
    "unlogged",
];

fn without_comments(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default().to_lowercase());
    lines.collect::<Vec<_>>().join("\n")
}

fn faults(sql: &str) -> Vec<String> {
    let sql = without_comments(sql);
    let mut faults: Vec<String> =
        BANNED.iter().filter(|word| sql.contains(**word)).map(|word| format!("says `{word}`")).collect();
    for table in sql.split("create table ").skip(1) {
        let name = table.split_whitespace().next().unwrap_or_default();
        let body = table.split(';').next().unwrap_or_default();
        // Service keys belong to the installation, not to a tenant.
        let leads = body.contains("primary key (tenant");
        if !leads && name != "service_key" {
            faults.push(format!("the primary key of `{name}` does not lead with the tenant"));
        }
    }
    for index in sql.replace("drop index ", "drop ").split(" index ").skip(1) {
        if !index.split(';').next().unwrap_or_default().contains("(tenant") {
            faults.push(format!("an index does not lead with the tenant: {index}"));
        }
    }
    faults
}

#[test]
fn migrations_are_portable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(faults(&fs::read_to_string(&path).unwrap()), Vec::<String>::new(), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 8);
}

#[test]
fn what_is_not_portable_is_found() {
    for bad in [
        "create table t (tenant text, id bigserial, primary key (tenant, id));",
        "create table t (id bytea primary key);",
        "create table t (tenant text, id bytea, primary key (id, tenant));",
        "create index i on t (id);",
        "create trigger x before insert on t;",
        "select pg_advisory_lock(1);",
        "with recursive x as (select 1) select 1;",
        "notify x;",
    ] {
        assert!(!faults(bad).is_empty(), "{bad}");
    }
    assert!(faults("-- no trigger here\ncreate table t (tenant text, primary key (tenant));").is_empty());
}
