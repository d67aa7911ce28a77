//! Whether what we talk to keeps the statements of one connection apart from those of another.
//!
//! A pooler that gives a connection another server connection for every transaction answers with whatever that one was last
//! asked to prepare: an error at best, the row of somebody else's query at worst. A service that decides by rows cannot run
//! behind it, so a start looks first: connections of its own prepare different statements under what a pooler sees as the same
//! names, in turn and at once, and every answer must be the one that was asked for.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection,
    postgres::{PgConnectOptions, PgConnection},
};

use crate::{StoreError, pool::connection};

/// Connections that are compared.
const CONNECTIONS: i64 = 4;
/// Statements that each prepares in turn with the others.
const IN_TURN: i64 = 3;
/// Statements that each prepares while the others do.
const AT_ONCE: i64 = 24;

/// How long looking may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Refuses a pooler that mixes up prepared statements or takes transactions apart.
pub(crate) async fn check(connect: &PgConnectOptions) -> Result<(), StoreError> {
    let late = |_| StoreError::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(PATIENCE, look(connect)).await.map_err(late)?
}

async fn look(connect: &PgConnectOptions) -> Result<(), StoreError> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connection(connect).await?);
    }
    for statement in 0..IN_TURN {
        for (connection, number) in connections.iter_mut().zip(0..) {
            prepared(connection, number, statement).await?;
        }
        // Again, now that the others have prepared theirs.
        for (connection, number) in connections.iter_mut().zip(0..) {
            prepared(connection, number, statement).await?;
        }
    }
    let tasks: Vec<_> = connections
        .into_iter()
        .zip(0..)
        .map(|(connection, number)| tokio::spawn(at_once(connection, number)))
        .collect();
    for task in tasks {
        task.await.map_err(|error| StoreError::Unavailable(error.to_string()))??;
    }
    Ok(())
}

async fn at_once(mut connection: PgConnection, number: i64) -> Result<(), StoreError> {
    for statement in IN_TURN..IN_TURN + AT_ONCE {
        prepared(&mut connection, number, statement).await?;
        prepared(&mut connection, number, statement - 1).await?;
    }
    whole_transaction(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Runs a statement that no other connection has: a column of its own, a sum of its own.
async fn prepared(connection: &mut PgConnection, number: i64, statement: i64) -> Result<(), StoreError> {
    let own = number * 1_000_000 + statement * 1_000;
    let sql = AssertSqlSafe(format!("select $1::bigint + {own}"));
    let answer: i64 = sqlx::query_scalar(sql).bind(7_i64).fetch_one(connection).await.map_err(mixed_up)?;
    if answer == own + 7 {
        return Ok(());
    }
    Err(StoreError::Pooler(format!("`select 7 + {own}` was answered {answer}")))
}

/// All statements of a transaction must reach one server connection.
async fn whole_transaction(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await.map_err(mixed_up)?;
    let mut servers = Vec::new();
    for _ in 0..2 {
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut *transaction)
            .await
            .map_err(mixed_up)?;
        servers.push(pid);
    }
    transaction.rollback().await.map_err(mixed_up)?;
    servers.dedup();
    if servers.len() == 1 {
        return Ok(());
    }
    Err(StoreError::Pooler("one transaction was spread over two server connections".to_owned()))
}

/// These statements are right: an error that is not about reaching the database is about what lies between.
fn mixed_up(error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Refused(what) => StoreError::Pooler(what),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        process::{Child, Command},
    };

    use super::*;
    use crate::{SealKeys, Store, StoreOptions, ladder::PrivateCluster};

    /// A pooler before a cluster, ended when dropped.
    struct Bouncer {
        process: Child,
        connect: PgConnectOptions,
        _folder: tempfile::TempDir,
    }

    impl Drop for Bouncer {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    impl Bouncer {
        /// `None` where none is installed.
        async fn start(cluster: &PrivateCluster, mode: &str) -> Option<Self> {
            let binary =
                ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|p| Path::new(p).is_file())?;
            let folder = tempfile::tempdir().unwrap();
            let to = cluster.connect_options();
            let socket = to.get_host();
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let user = to.get_username();
            let users = folder.path().join("users");
            std::fs::write(&users, format!("\"{user}\" \"\"\n")).unwrap();
            let config = folder.path().join("pgbouncer.ini");
            let text = format!(
                "[databases]\n* = host={} port={} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = any\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 8\n\
                 ignore_startup_parameters = extra_float_digits,options\n",
                socket,
                to.get_port(),
                users.display()
            );
            std::fs::write(&config, text).unwrap();
            for path in [folder.path(), &users, &config] {
                let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(path, open).unwrap();
            }
            let mut command = Command::new(binary);
            if nix::unistd::geteuid().is_root() {
                command.args(["-u", "postgres"]);
            }
            let process = command.arg("-q").arg(&config).spawn().unwrap();
            let connect = PgConnectOptions::new()
                .host("127.0.0.1")
                .port(port)
                .username(user)
                .database(to.get_database().unwrap_or("postgres"));
            let bouncer = Self { process, connect, _folder: folder };
            for _ in 0..100 {
                if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Some(bouncer);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("pgbouncer does not listen");
        }
    }

    async fn opened(connect: &PgConnectOptions) -> Result<(), StoreError> {
        let keys = SealKeys { current: (1, [1; 32]), retired: Vec::new() };
        let options = StoreOptions { readers: 2, writers: 1, ..StoreOptions::default() };
        let store = Store::open(connect.clone(), keys, &options).await?;
        store.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_pooler_that_mixes_up_statements_is_refused_and_one_that_does_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        opened(&cluster.connect_options()).await.unwrap();
        for (mode, refused) in [("transaction", true), ("statement", true), ("session", false)] {
            let Some(bouncer) = Bouncer::start(&cluster, mode).await else {
                eprintln!(
                    "skipped: a_pooler_that_mixes_up_statements_is_refused: pgbouncer is not installed"
                );
                return;
            };
            let answer = opened(&bouncer.connect).await;
            let pooler = matches!(&answer, Err(StoreError::Pooler(_)));
            assert_eq!((pooler, answer.is_ok()), (refused, !refused), "{mode}: {answer:?}");
        }
    }
}
