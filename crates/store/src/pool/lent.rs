//! Connections on loan, whose way back into their pool has a limit.
//!
//! sqlx pings a connection that comes back and waits for the answer for ever. One that is forgotten at that moment, because a wire was
//! pulled, would keep its place in the pool until TCP gives up. So nobody borrows from a pool itself, but from its [`Lender`].
//!
//! A connection whose last statement was answered to its end needs no ping: the lender keeps it at hand for the next borrower. The
//! round trip was a tenth of what a first verdict cost.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::Stream;
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{runtime::Handle, time::timeout};

/// How long a connection may take to come back in order; then it is closed.
const RELEASE: Duration = Duration::from_secs(2);

/// One that is not wanted for so long goes back to the pool, which closes what is idle or old.
const AT_HAND: Duration = Duration::from_secs(60);
/// So does one after so many loans.
const LOANS: u32 = 1_000;

/// A pool whose connections come back in time or not at all.
#[derive(Debug, Clone)]
pub(crate) struct Lender(Arc<Desk>);

#[derive(Debug)]
struct Desk {
    pool: PgPool,
    line: Mutex<Line>,
}

/// What is at hand, and who waits.
#[derive(Debug, Default)]
struct Line {
    /// The one that came back last is lent first.
    at_hand: VecDeque<AtHand>,
    /// Borrowers that wait for the pool: what comes back is theirs.
    waiting: usize,
    closed: bool,
}

#[derive(Debug)]
struct AtHand {
    connection: PoolConnection<Postgres>,
    loans: u32,
    since: Instant,
}

impl From<PgPool> for Lender {
    fn from(pool: PgPool) -> Self {
        Self(Arc::new(Desk { pool, line: Mutex::default() }))
    }
}

impl Lender {
    /// The pool itself, for what borrows by its own rules.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// A connection.
    pub(crate) async fn lend(&self) -> Result<Lent, sqlx::Error> {
        let lent = |connection, loans| Lent {
            connection: Some(connection),
            desk: self.0.clone(),
            loans,
            answered: false,
            open: false,
        };
        let waiting = {
            let mut line = self.0.line();
            if let Some(AtHand { connection, loans, .. }) = line.at_hand.pop_back() {
                return Ok(lent(connection, loans + 1));
            }
            line.waiting += 1;
            Waiting(&self.0)
        };
        let connection = self.0.pool.acquire().await;
        drop(waiting);
        Ok(lent(connection?, 0))
    }

    /// A connection inside a transaction, which finds rows through indexes, however small their table was when its statements were
    /// planned (see [`super::PLANNED`]).
    pub(crate) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        self.begin_by("begin; set local enable_seqscan = off; set local jit = off").await
    }

    /// The same for statements whose plan does not depend on what they are asked with: each is planned once a connection.
    pub(crate) async fn begin_planned(&self) -> Result<Transaction, sqlx::Error> {
        let begin = "begin; set local enable_seqscan = off; set local jit = off; set local plan_cache_mode = force_generic_plan";
        self.begin_by(begin).await
    }

    /// The same with a `begin` of the caller's.
    pub(crate) async fn begin_by(&self, begin: &'static str) -> Result<Transaction, sqlx::Error> {
        let mut lent = self.lend().await?;
        // Before it is said: whether a `begin` that was given up arrived is not known.
        lent.open = true;
        sqlx::raw_sql(begin).execute(&mut *lent).await?;
        Ok(Transaction(lent))
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        let at_hand = {
            let mut line = self.0.line();
            line.closed = true;
            std::mem::take(&mut line.at_hand)
        };
        for AtHand { connection, .. } in at_hand {
            bring_back(connection, false).await;
        }
        self.0.pool.close().await;
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a Desk);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.line().waiting -= 1;
    }
}

impl Desk {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection at hand; those that the pool is to look at instead.
    fn keep(&self, connection: PoolConnection<Postgres>, loans: u32) -> VecDeque<PoolConnection<Postgres>> {
        let mut line = self.line();
        let mut back = VecDeque::new();
        if line.waiting > 0 || line.closed || loans >= LOANS {
            back.push_back(connection);
        } else {
            line.at_hand.push_back(AtHand { connection, loans, since: Instant::now() });
        }
        while line.at_hand.front().is_some_and(|oldest| oldest.since.elapsed() > AT_HAND) {
            back.extend(line.at_hand.pop_front().map(|oldest| oldest.connection));
        }
        back
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for AtHand { connection, .. } in std::mem::take(&mut self.line().at_hand) {
            let_go(connection, false);
        }
    }
}

/// A connection that goes back when it is dropped.
pub(crate) struct Lent {
    /// `None` only while it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    desk: Arc<Desk>,
    /// How often it was lent without a look by the pool.
    loans: u32,
    /// Its last statement was answered to its end.
    answered: bool,
    /// A transaction may be open on it.
    open: bool,
}

const HELD: &str = "a connection is held until it is dropped";

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(HELD)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(HELD)
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.open || !self.answered {
            return let_go(connection, self.open);
        }
        for connection in self.desk.keep(connection, self.loans) {
            let_go(connection, false);
        }
    }
}

/// Has a connection brought back to its pool.
fn let_go(connection: PoolConnection<Postgres>, open: bool) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(bring_back(connection, open))),
        Err(_) => drop(connection.detach()),
    }
}

/// Gives a connection back, or closes it when it does not answer in time.
async fn bring_back(mut connection: PoolConnection<Postgres>, open: bool) {
    if open {
        let ended = timeout(RELEASE, sqlx::raw_sql("rollback").execute(&mut *connection)).await;
        if !matches!(ended, Ok(Ok(_))) {
            return drop(connection.detach());
        }
    }
    // Given up, it is closed, and its place is free.
    let _ = timeout(RELEASE, connection.return_to_pool()).await;
}

/// A connection inside a transaction, which ends with it unless it is committed.
#[derive(Debug)]
pub(crate) struct Transaction(Lent);

impl Transaction {
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("commit").await
    }

    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.end("rollback").await
    }

    async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(how).execute(&mut *self.0).await?;
        (self.0.open, self.0.answered) = (false, true);
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

type Answer<'e, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'e>>;
type Row = Either<PgQueryResult, PgRow>;
type Rows<'e> = Pin<Box<dyn Stream<Item = Result<Row, sqlx::Error>> + Send + 'e>>;

/// As sqlx does it for a pool.
impl<'c> Executor<'c> for &Lender {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Rows<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let lender = self.clone();
        let next = Next::default();
        let given = next.clone();
        let work = async move {
            let mut lent = lender.lend().await?;
            let mut rows = (*lent).fetch_many(query);
            while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
                given.give(row?).await;
            }
            drop(rows);
            lent.answered = true;
            Ok(())
        };
        Box::pin(Streamed { work: Some(Box::pin(work)), next })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> Answer<'e, Option<PgRow>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let lender = self.clone();
        Box::pin(async move {
            let mut lent = lender.lend().await?;
            let row = (*lent).fetch_optional(query).await?;
            lent.answered = true;
            Ok(row)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> Answer<'e, PgStatement>
    where
        'c: 'e,
    {
        let lender = self.clone();
        Box::pin(async move { (*lender.lend().await?).prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> Answer<'e, Describe<Postgres>>
    where
        'c: 'e,
    {
        let lender = self.clone();
        Box::pin(async move { (*lender.lend().await?).describe(sql).await })
    }
}

/// Where a row lies between who reads it and who wants it.
#[derive(Clone, Default)]
struct Next(Arc<Mutex<Option<Row>>>);

impl Next {
    /// Lays a row there and rests once, so that it is taken. Whoever takes it comes again: no waker is needed.
    async fn give(&self, row: Row) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(row);
        let mut rested = false;
        poll_fn(|_| if std::mem::replace(&mut rested, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn take(&self) -> Option<Row> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The rows that some work gives one by one.
struct Streamed<'e> {
    work: Option<Answer<'e, ()>>,
    next: Next,
}

impl Stream for Streamed<'_> {
    type Item = Result<Row, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(work) = &mut self.work else { return Poll::Ready(None) };
        match work.as_mut().poll(context) {
            Poll::Ready(ended) => {
                self.work = None;
                Poll::Ready(ended.err().map(Err))
            }
            Poll::Pending => self.next.take().map_or(Poll::Pending, |row| Poll::Ready(Some(Ok(row)))),
        }
    }
}
