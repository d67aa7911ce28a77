//! Connections: what each is for, and what each is set up with.
//!
//! Verdicts, the follower, writers and everybody else have pools of their own, so that none waits for another's.

mod lent;

use std::time::Duration;

use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
};

pub(crate) use self::lent::{Lender, Transaction};
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

/// What a frontier asks for, and the entries that are followed, is planned once a connection: planning takes longer than running it.
/// Each of these statements has an index for what it looks up. A plan that was made while its table was still small would read the
/// whole table until Postgres looks at it again, a minute later, which a burst turns into seconds for each verdict.
const PLANNED: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")];

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

/// The pools; the same one each time on a database with one connection.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    verdict: Lender,
    evaluate: Lender,
    browse: Lender,
    follow: Lender,
    ingest: Lender,
    pub(crate) write: Lender,
}

impl Pools {
    /// Connects, so that a database that cannot be reached is known at once.
    pub(crate) async fn open(connect: PgConnectOptions, options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(uncrowded(|| Self::connect(connect.clone(), options)).await?)
    }

    async fn connect(connect: PgConnectOptions, options: &StoreOptions) -> Result<Self, sqlx::Error> {
        let (connect, planned) = with_settings(connect, options).await?;
        if options.single_connection {
            // One backend and one connection, kept: opening another would wait for the first to close.
            let pool = places(1, options).idle_timeout(None).max_lifetime(None).connect_with(connect).await?;
            let pool = Lender::from(pool);
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
        let lazily = |n: u32, connect: &PgConnectOptions| lazy(n, connect.clone(), options);
        // One is opened now, the others when they are wanted.
        let write = places(options.writers.max(1), options).connect_with(connect.clone()).await?;
        Ok(Self {
            verdict: lazily(options.readers, &planned),
            evaluate: lazily(options.evaluators, &planned),
            browse: lazily(options.browsers, &connect),
            follow: lazily(options.followers, &planned),
            ingest: lazily(options.takers, &connect),
            write: write.into(),
        })
    }

    /// The connections for whoever reads now; `always` when it is always the same.
    pub(crate) fn read(&self, always: Option<Reading>) -> &Lender {
        let reading = always.or_else(|| READING.try_with(|reading| *reading).ok());
        match reading.unwrap_or(Reading::Browse) {
            Reading::Verdict => &self.verdict,
            Reading::Follow => &self.follow,
            Reading::Ingest => &self.ingest,
            Reading::Browse => &self.browse,
        }
    }

    /// The connections for the evidence that whoever reads now evaluates.
    pub(crate) fn gather(&self, always: Option<Reading>) -> &Lender {
        let pool = self.read(always);
        if std::ptr::eq(pool, &self.browse) { &self.evaluate } else { pool }
    }

    /// The same, but whatever is read is read there.
    pub(crate) fn reading_from(self, read: Lender) -> Self {
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

fn places(connections: u32, options: &StoreOptions) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(options.acquire_timeout)
        // A round trip before each use would halve the rate of reads; [`retry`] asks twice instead. Nor is one needed after it: sqlx
        // 0.9.0 loses track of a transaction whose `begin` was cancelled (crate issue 4385), but a [`Lender`] does not.
        .test_before_acquire(false)
}

/// Connections that are made when they are needed.
fn lazy(connections: u32, connect: PgConnectOptions, options: &StoreOptions) -> Lender {
    places(connections.max(1), options).connect_lazy_with(connect).into()
}

/// One connection to a replica.
pub(crate) fn to_replica(connect: PgConnectOptions, options: &StoreOptions) -> Lender {
    lazy(1, connect.options(LIMITS).options(PLANNED), options)
}

/// The limits as start-up parameters, where the server takes them (poolers and pglite may not): for everybody, and for those
/// whose statements are [`PLANNED`].
async fn with_settings(
    connect: PgConnectOptions,
    options: &StoreOptions,
) -> Result<(PgConnectOptions, PgConnectOptions), sqlx::Error> {
    let limited = connect.clone().options(LIMITS);
    let attempt = tokio::time::timeout(options.acquire_timeout.max(Duration::from_secs(5)), async {
        let mut connection = PgConnection::connect_with(&limited).await?;
        let value: String = sqlx::query_scalar("show statement_timeout").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(value == "5s")
    });
    match attempt.await {
        Ok(Ok(true)) => Ok((limited.clone(), limited.options(PLANNED))),
        Ok(Err(error)) if is_disconnect(&error) && !options.single_connection => Err(error),
        _ => {
            tracing::warn!("the database does not take statement limits; running without them");
            Ok((connect.clone(), connect))
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
    async fn begin_cancelled(pool: &Lender, polls: u32) {
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
        let reads = lazy(1, mute().await, &options);
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

    /// The cluster by way of [`forgetful`], and what makes that forget.
    async fn over_forgetful(cluster: &PrivateCluster) -> (PgConnectOptions, tokio::sync::watch::Sender<()>) {
        let own = cluster.connect_options();
        let socket = std::path::Path::new(own.get_host()).join(format!(".s.PGSQL.{}", own.get_port()));
        let (forget, forgotten) = tokio::sync::watch::channel(());
        let port = forgetful(socket, forgotten).await;
        (own.host("127.0.0.1").port(port), forget)
    }

    #[tokio::test]
    async fn forgotten_connections_give_their_places_back() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let (over, forget) = over_forgetful(&cluster).await;
        let options = StoreOptions { acquire_timeout: Duration::from_secs(30), ..StoreOptions::default() };
        let reads = lazy(1, over, &options);
        let ping = || async { sqlx::query("select 1").execute(&reads).await.map(|_| ()) };
        ping().await.unwrap();
        forget.send_replace(());
        let lost = retry_within(Duration::from_millis(200), ping).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        ping().await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_forgotten_on_its_way_back_gives_its_place_back() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let (over, forget) = over_forgetful(&cluster).await;
        let options = StoreOptions { acquire_timeout: Duration::from_secs(30), ..StoreOptions::default() };
        let lender = lazy(1, over, &options);
        let mut lent = lender.lend().await.unwrap();
        // It was told all: nothing is left to wait for but the ping by which it is taken back.
        sqlx::query("select 1").execute(&mut *lent).await.unwrap();
        forget.send_replace(());
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(lent);
        sqlx::query("select 1").execute(&lender).await.unwrap();
    }

    #[tokio::test]
    async fn a_read_that_was_given_up_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let one = lazy(1, cluster.connect_options(), &StoreOptions::default());
        let backend = || async {
            sqlx::query_scalar::<_, i32>("select pg_backend_pid()").fetch_one(&one).await.unwrap()
        };
        let first = backend().await;
        for n in 0..20 {
            let slow = sqlx::query_scalar::<_, i32>("select -1 from pg_sleep(0.01)").fetch_one(&one);
            let _ = tokio::time::timeout(Duration::from_millis(n % 12), slow).await;
            let sql = format!("select {n}");
            let own: i32 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&one).await.unwrap();
            assert_eq!(own, i32::try_from(n).unwrap(), "another read's row");
        }
        assert_eq!(backend().await, first, "the connection was kept");
    }

    #[tokio::test]
    async fn what_comes_back_is_for_who_waits_and_nothing_stays_open() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let two = lazy(2, cluster.connect_options(), &StoreOptions::default());
        let sum = |n: i32| {
            let two = two.clone();
            async move {
                let sql = "select $1 + 0 from pg_sleep(0.001)";
                sqlx::query_scalar::<_, i32>(sql).bind(n).fetch_one(&two).await.unwrap()
            }
        };
        let mut all = tokio::task::JoinSet::new();
        (0..200).for_each(|n| drop(all.spawn(sum(n))));
        let mut answers = all.join_all().await;
        answers.sort_unstable();
        assert_eq!(answers, (0..200).collect::<Vec<_>>());
        two.close().await;
        let other = lazy(1, cluster.connect_options(), &StoreOptions::default());
        let open = "select count(*) from pg_stat_activity where backend_type = 'client backend'";
        for _ in 0..100 {
            let left: i64 = sqlx::query_scalar(open).fetch_one(&other).await.unwrap();
            if left == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("connections stay open");
    }

    #[tokio::test]
    async fn rows_that_are_lent_one_by_one_come_all_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let pools = Pools::open(cluster.connect_options(), &StoreOptions::default()).await.unwrap();
        let sql = "select generate_series(1, 5000)";
        let rows: Vec<i32> = sqlx::query_scalar(sql).fetch_all(pools.read(None)).await.unwrap();
        assert_eq!(rows, (1..=5000).collect::<Vec<_>>());
        let failed =
            sqlx::query("select 1 / (3 - n) from generate_series(1, 5) n").fetch_all(pools.read(None));
        assert!(failed.await.is_err(), "an error after rows is an error");
        let none: Option<i32> =
            sqlx::query_scalar("select 1 where false").fetch_optional(pools.read(None)).await.unwrap();
        assert_eq!(none, None);
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_is_rolled_back_by_every_pool() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let options = StoreOptions { writers: 1, followers: 1, ..StoreOptions::default() };
        let pools = Pools::open(cluster.connect_options(), &options).await.unwrap();
        sqlx::raw_sql("create table t (n bigint)").execute(&pools.write).await.unwrap();
        for lender in [&pools.write, pools.read(Some(Reading::Follow))] {
            let mut dropped = lender.begin().await.unwrap();
            sqlx::raw_sql("insert into t values (1)").execute(&mut *dropped).await.unwrap();
            drop(dropped);
            let mut kept = lender.begin().await.unwrap();
            sqlx::raw_sql("insert into t values (2)").execute(&mut *kept).await.unwrap();
            kept.commit().await.unwrap();
        }
        let seen: Vec<i64> = sqlx::query_scalar("select n from t").fetch_all(pools.read(None)).await.unwrap();
        assert_eq!(seen, [2, 2]);
    }

    #[tokio::test]
    async fn a_verdict_is_read_while_everybody_browses() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = PrivateCluster::start(folder.path()).await.unwrap();
        let acquire_timeout = Duration::from_secs(2);
        let options = StoreOptions { browsers: 1, acquire_timeout, ..StoreOptions::default() };
        let pools = Pools::open(cluster.connect_options(), &options).await.unwrap();
        let _held = pools.read(None).lend().await.unwrap();
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
