//! Connections: what each is for, and what each is set up with.
//!
//! Verdicts, the follower, writers and everybody else have pools of their own, so that none waits for another's.

use std::time::Duration;

use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
};

use crate::{StoreError, error::is_disconnect, replica::ReplicaAddress};

/// How the store uses its database.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The database takes one connection only (bundled pglite): one pool of one serves all.
    pub single_connection: bool,
    /// Connections that read for verdicts.
    pub readers: u32,
    /// Connections that read what is evaluated while nobody waits: watched questions, trials.
    pub evaluators: u32,
    /// Connections that read for everybody else.
    pub browsers: u32,
    /// Connections by which the log is followed: without them no lease holds.
    pub followers: u32,
    /// Connections that read for evidence that is taken in: not those that write it, or commits would wait for receipts.
    pub takers: u32,
    /// Connections that write.
    pub writers: u32,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// Replicas that may serve verdicts.
    pub replicas: Vec<ReplicaAddress>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        // Together they fit into a database that takes twenty, three of them its superuser's.
        Self {
            single_connection: false,
            readers: 6,
            evaluators: 1,
            browsers: 2,
            followers: 2,
            takers: 2,
            writers: 4,
            acquire_timeout: Duration::from_secs(2),
            replicas: Vec::new(),
        }
    }
}

/// For whom something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A verdict that somebody waits for.
    Verdict,
    /// Evidence that is taken in.
    Ingest,
    /// The follower of the log.
    Follow,
    /// Anybody else.
    Browse,
}

tokio::task_local! {
    static READING: Reading;
}

/// Runs `work`, whose reads use the connections of `reading`; tasks that it spawns use those of [`Reading::Browse`].
pub fn reading<F: Future>(reading: Reading, work: F) -> impl Future<Output = F::Output> {
    READING.scope(reading, work)
}

/// What a frontier asks for is planned once a connection: planning it takes ten times as long as running it.
const PLANNED: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

/// How often connecting is tried while others crowd the socket.
const ATTEMPTS: usize = 20;

/// A unix socket whose queue is full refuses with EAGAIN, where TCP would wait.
fn is_crowded(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Connects, again while others crowd the socket.
async fn uncrowded<T, F>(mut connect: impl FnMut() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    for _ in 0..ATTEMPTS {
        match connect().await {
            Err(error) if is_crowded(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
            result => return result,
        }
    }
    connect().await
}

/// One connection that belongs to no pool.
pub(crate) async fn connection(connect: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    uncrowded(|| PgConnection::connect_with(connect)).await
}

/// Limits that the server keeps for us. A transaction that nobody drives any more ends by itself.
const LIMITS: [(&str, &str); 3] =
    [("statement_timeout", "5s"), ("lock_timeout", "2s"), ("idle_in_transaction_session_timeout", "5s")];

/// The longest that a read waits for its answer, connection and second try included. The server ends a statement sooner;
/// what takes longer has a connection that leads nowhere, and nobody would ever say so.
const READ_PATIENCE: Duration = Duration::from_secs(6);
/// Dead connections that a read comes upon before it gives up.
const DEAD: usize = 8;
/// The same for the smallest reads, on which every answer waits: a head, a ping.
pub(crate) const GLANCE: Duration = Duration::from_secs(2);
/// How long a connection may take to come back in order; then it is closed.
const RELEASE: Duration = Duration::from_secs(2);

/// The pools; the same one each time on a database with one connection.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    verdict: PgPool,
    evaluate: PgPool,
    browse: PgPool,
    follow: PgPool,
    ingest: PgPool,
    pub(crate) write: PgPool,
}

impl Pools {
    /// Connects, so that a database that cannot be reached is known at once.
    pub(crate) async fn open(connect: PgConnectOptions, options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(uncrowded(|| Self::connect(connect.clone(), options)).await?)
    }

    async fn connect(connect: PgConnectOptions, options: &StoreOptions) -> Result<Self, sqlx::Error> {
        let connect = with_limits(connect, options).await?;
        if options.single_connection {
            // One backend and one connection, kept: opening another would wait for the first to close.
            let pool = pool(1, options).idle_timeout(None).max_lifetime(None).connect_with(connect).await?;
            let same = || pool.clone();
            return Ok(Self {
                verdict: same(),
                evaluate: same(),
                browse: same(),
                follow: same(),
                ingest: same(),
                write: pool,
            });
        }
        let of = |n: u32| pool(n.max(1), options).connect_lazy_with(connect.clone());
        let reads = |n: u32, connect: &PgConnectOptions| readers(n, connect.clone(), options);
        let planned = connect.clone().options([PLANNED]);
        // One is opened now, the others when they are wanted.
        let write = pool(options.writers.max(1), options).connect_with(connect.clone()).await?;
        Ok(Self {
            verdict: reads(options.readers, &planned),
            evaluate: reads(options.evaluators, &planned),
            browse: of(options.browsers),
            follow: reads(options.followers, &connect),
            ingest: reads(options.takers, &connect),
            write,
        })
    }

    /// The connections for whoever reads now; `always` when it is always the same.
    pub(crate) fn read(&self, always: Option<Reading>) -> &PgPool {
        let reading = always.or_else(|| READING.try_with(|reading| *reading).ok());
        match reading.unwrap_or(Reading::Browse) {
            Reading::Verdict => &self.verdict,
            Reading::Follow => &self.follow,
            Reading::Ingest => &self.ingest,
            Reading::Browse => &self.browse,
        }
    }

    /// The connections for the evidence that whoever reads now evaluates.
    pub(crate) fn gather(&self, always: Option<Reading>) -> &PgPool {
        let pool = self.read(always);
        if std::ptr::eq(pool, &self.browse) { &self.evaluate } else { pool }
    }

    /// The same, but whatever is read is read there.
    pub(crate) fn reading_from(self, read: PgPool) -> Self {
        let same = || read.clone();
        Self { verdict: same(), evaluate: same(), browse: same(), follow: same(), ingest: same(), ..self }
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        let all = [&self.verdict, &self.evaluate, &self.browse, &self.follow, &self.ingest, &self.write];
        for pool in all {
            pool.close().await;
        }
    }
}

fn pool(connections: u32, options: &StoreOptions) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(options.acquire_timeout)
        // A round trip before each use would halve the rate of reads; [`retry`] asks twice instead.
        .test_before_acquire(false)
        // sqlx 0.9.0 loses track of a transaction whose `begin` was cancelled (crate issue 4385). The next
        // borrower's statements would then wait in it for a commit that never comes.
        .after_release(|connection, _| Box::pin(async move { rolled_back(connection).await }))
}

/// Connections that only read, made when they are needed. Nothing is ever begun on them, so nothing is left open: no round
/// trip to make sure of it.
fn readers(connections: u32, connect: PgConnectOptions, options: &StoreOptions) -> PgPool {
    pool(connections.max(1), options)
        .after_release(|connection, _| Box::pin(async move { answered(connection).await }))
        .connect_lazy_with(connect)
}

/// Waits for what a read that was given up has not been told yet; nothing when it was told all. The pool itself would wait
/// for ever, and a connection that leads nowhere keep its place.
async fn answered(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    tokio::time::timeout(RELEASE, connection.flush()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(true)
}

/// One connection to a replica.
pub(crate) fn lazy(connect: PgConnectOptions, options: &StoreOptions) -> PgPool {
    readers(1, connect.options(LIMITS).options([PLANNED]), options)
}

/// Ends a transaction that may be open. Outside of one, this is a warning and nothing else.
async fn rolled_back(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let rollback = sqlx::raw_sql("rollback").execute(connection);
    // Without a limit a connection that leads nowhere would keep its place in the pool for good.
    tokio::time::timeout(RELEASE, rollback).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(true)
}

/// The limits as start-up parameters, where the server takes them (poolers and pglite may not).
async fn with_limits(
    connect: PgConnectOptions,
    options: &StoreOptions,
) -> Result<PgConnectOptions, sqlx::Error> {
    let limited = connect.clone().options(LIMITS);
    let attempt = tokio::time::timeout(options.acquire_timeout.max(Duration::from_secs(5)), async {
        let mut connection = PgConnection::connect_with(&limited).await?;
        let value: String = sqlx::query_scalar("show statement_timeout").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(value == "5s")
    });
    match attempt.await {
        Ok(Ok(true)) => Ok(limited),
        Ok(Err(error)) if is_disconnect(&error) && !options.single_connection => Err(error),
        _ => {
            tracing::warn!("the database does not take statement limits; running without them");
            Ok(connect)
        }
    }
}

/// Runs a read again on another connection when one turns out to be dead: after a restart of the database every idle one is.
pub(crate) async fn retry<T, F>(read: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    retry_within(READ_PATIENCE, read).await
}

/// The same with a limit of the caller's.
pub(crate) async fn retry_within<T, F>(
    patience: Duration,
    mut read: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let answer = tokio::time::timeout(patience, async {
        for _ in 0..DEAD {
            match read().await {
                Err(error) if is_disconnect(&error) => {}
                result => return result,
            }
        }
        read().await
    });
    match answer.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {patience:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use super::*;
    use crate::ladder::PrivateCluster;

    /// Drops a `begin` after it was polled `polls` times: a client that hangs up at that moment.
    async fn begin_cancelled(pool: &PgPool, polls: u32) {
        let mut begin = pin!(pool.begin());
        for _ in 0..polls {
            let done = poll_fn(|context| Poll::Ready(begin.as_mut().poll(context).is_ready())).await;
            if done {
                return;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    #[tokio::test]
    async fn d04_a_cancelled_begin_leaves_no_transaction_behind() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let options = StoreOptions { writers: 1, readers: 1, ..StoreOptions::default() };
        let pools = Pools::open(cluster.connect_options(), &options).await.unwrap();
        sqlx::raw_sql("create table t (n bigint)").execute(&pools.write).await.unwrap();
        for n in 0..60 {
            begin_cancelled(&pools.write, n % 6).await;
            sqlx::query("insert into t values ($1)").bind(i64::from(n)).execute(&pools.write).await.unwrap();
            let seen: i64 =
                sqlx::query_scalar("select count(*) from t").fetch_one(pools.read(None)).await.unwrap();
            assert_eq!(seen, i64::from(n) + 1, "an insert that looked done was not committed");
        }
        let idle: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where state like 'idle in transaction%'",
        )
        .fetch_one(pools.read(None))
        .await
        .unwrap();
        assert_eq!(idle, 0);
    }

    /// A server that takes connections and never says a word.
    async fn mute() -> PgConnectOptions {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        PgConnectOptions::new().host("127.0.0.1").port(port).username("nobody")
    }

    #[tokio::test]
    async fn a_read_of_a_mute_database_ends() {
        let options = StoreOptions { acquire_timeout: Duration::from_secs(60), ..StoreOptions::default() };
        let reads = pool(1, &options).connect_lazy_with(mute().await);
        let ping = || async { sqlx::query("select 1").execute(&reads).await.map(|_| ()) };
        let read = retry_within(Duration::from_millis(50), ping).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    }

    /// A wire to a socket that forgets the connections that it has when it is told to: they stay open and say nothing more.
    async fn forgetful(socket: std::path::PathBuf, forget: tokio::sync::watch::Receiver<()>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = tokio::net::UnixStream::connect(&socket).await.unwrap();
                let mut forget = forget.clone();
                forget.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = forget.changed() => std::future::pending().await,
                    }
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn forgotten_connections_give_their_places_back() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let own = cluster.connect_options();
        let socket = std::path::Path::new(own.get_host()).join(format!(".s.PGSQL.{}", own.get_port()));
        let (forget, forgotten) = tokio::sync::watch::channel(());
        let port = forgetful(socket, forgotten).await;
        let over = own.host("127.0.0.1").port(port);
        let options = StoreOptions { acquire_timeout: Duration::from_secs(30), ..StoreOptions::default() };
        let reads = readers(1, over, &options);
        let ping = || async { sqlx::query("select 1").execute(&reads).await.map(|_| ()) };
        ping().await.unwrap();
        while reads.num_idle() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        forget.send_replace(());
        let lost = retry_within(Duration::from_millis(200), ping).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        ping().await.unwrap();
    }

    #[tokio::test]
    async fn a_verdict_is_read_while_everybody_browses() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let acquire_timeout = Duration::from_secs(2);
        let options = StoreOptions { browsers: 1, acquire_timeout, ..StoreOptions::default() };
        let pools = Pools::open(cluster.connect_options(), &options).await.unwrap();
        let _held = pools.read(None).acquire().await.unwrap();
        let one = async || sqlx::query("select 1").execute(pools.read(None)).await.map(|_| ());
        assert!(one().await.is_err(), "browsers wait for each other");
        for other in [Reading::Verdict, Reading::Ingest, Reading::Follow] {
            reading(other, one()).await.unwrap();
        }
        sqlx::query("select 1").execute(pools.read(Some(Reading::Follow))).await.unwrap();
    }

    #[tokio::test]
    async fn the_server_keeps_our_limits() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let pools = Pools::open(cluster.connect_options(), &StoreOptions::default()).await.unwrap();
        for (name, value) in LIMITS {
            let sql = sqlx::AssertSqlSafe(format!("show {name}"));
            let shown: String = sqlx::query_scalar(sql).fetch_one(&pools.write).await.unwrap();
            assert_eq!(shown, value, "{name}");
        }
        let slow = sqlx::query("select pg_sleep(9)").execute(pools.read(None)).await.unwrap_err();
        assert!(matches!(StoreError::from(slow), StoreError::Unavailable(_)));
    }
}
