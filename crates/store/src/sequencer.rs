//! The queue in front of the log: collects what arrives within a few milliseconds and writes it as one
//! transaction, in a task of its own, so that a client that hangs up cannot cancel it half-way.
//!
//! While one transaction commits, the next one brings in its bodies: the log's head is a lock, so the order in it stays one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Appended, StoreError,
    append::{Pending, Writer},
};

/// How long an item waits for the next one.
const GATHER: Duration = Duration::from_millis(3);
/// How long the first item of a batch waits, when others keep coming.
const MOST_GATHER: Duration = Duration::from_millis(25);
/// A batch of so many waits for no more: its round trips are shared by enough.
const ENOUGH: usize = 32;
/// Items in one transaction.
const MAX_BATCH: usize = 1024;
/// Bytes of bodies in one transaction.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Items that may wait, per tenant.
const MAX_QUEUE: usize = 4096;
/// Bytes of bodies that may wait, over all tenants, in KiB.
const MAX_QUEUE_KIB: u32 = 128 * 1024;
/// A queue that nothing came to for so long is closed; the next item opens another.
const IDLE: Duration = Duration::from_secs(60);

/// A batch that is not written after so long is late.
const LATE: Duration = Duration::from_secs(2);

pub(crate) type Answer = Result<Appended, StoreError>;

/// One item on its way.
struct Job {
    pending: Pending,
    answer: oneshot::Sender<Answer>,
    room: OwnedSemaphorePermit,
}

/// A queue and the task behind it.
struct Queue {
    jobs: mpsc::Sender<Job>,
    task: JoinHandle<()>,
}

/// What is being written of a log.
struct Writing {
    /// Since when nothing was written.
    since: Instant,
    /// How many batches are on their way.
    batches: usize,
}

/// By tenant; no row where nothing is on its way and the last batch was written.
type Waiting = Arc<Mutex<HashMap<String, Writing>>>;

/// The queues of all tenants.
pub(crate) struct Sequencer {
    writer: Writer,
    queues: Mutex<HashMap<String, Queue>>,
    room: Arc<Semaphore>,
    since: Waiting,
}

impl std::fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequencer").finish_non_exhaustive()
    }
}

impl Sequencer {
    pub(crate) fn new(writer: Writer) -> Self {
        let room = Arc::new(Semaphore::new(MAX_QUEUE_KIB as usize));
        Self { writer, queues: Mutex::default(), room, since: Waiting::default() }
    }

    /// Queues an item. The answer comes when its transaction is committed or has failed.
    pub(crate) fn push(
        &self,
        tenant: &str,
        pending: Pending,
    ) -> Result<oneshot::Receiver<Answer>, StoreError> {
        let kib = u32::try_from(pending.bytes.len() / 1024 + 1).unwrap_or(MAX_QUEUE_KIB).min(MAX_QUEUE_KIB);
        let Ok(room) = self.room.clone().try_acquire_many_owned(kib) else {
            return Err(StoreError::Busy);
        };
        let (answer, answered) = oneshot::channel();
        let job = Job { pending, answer, room };
        let mut queues = self.lock();
        if queues.get(tenant).is_none_or(|queue| queue.jobs.is_closed()) {
            let (jobs, incoming) = mpsc::channel(MAX_QUEUE);
            let task =
                tokio::spawn(serve(self.writer.clone(), tenant.to_owned(), incoming, self.since.clone()));
            queues.insert(tenant.to_owned(), Queue { jobs, task });
        }
        let Some(queue) = queues.get(tenant) else { return Err(StoreError::Busy) };
        queue.jobs.try_send(job).map_err(|_| StoreError::Busy)?;
        Ok(answered)
    }

    /// How many items wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().values().map(|queue| queue.jobs.max_capacity() - queue.jobs.capacity()).sum()
    }

    /// How many logs take nothing at the moment, although something was sent.
    pub(crate) fn stalled(&self) -> usize {
        lock(&self.since).values().filter(|writing| writing.since.elapsed() > LATE).count()
    }

    /// Takes nothing more and waits until what was taken is written.
    pub(crate) async fn close(&self) {
        self.room.close();
        let queues: Vec<Queue> = self.lock().drain().map(|(_, queue)| queue).collect();
        for Queue { jobs, task } in queues {
            drop(jobs);
            if let Err(error) = task.await {
                tracing::error!(%error, "the writer of a log ended badly");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        lock(&self.queues)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes batch after batch until nothing comes any more. Each begins when the one before it is about to commit.
async fn serve(writer: Writer, tenant: String, mut incoming: mpsc::Receiver<Job>, waiting: Waiting) {
    let turn = Arc::new(Semaphore::new(1));
    let mut writing = JoinSet::new();
    loop {
        while writing.try_join_next().is_some() {}
        let first = match timeout(IDLE, incoming.recv()).await {
            Ok(Some(first)) => first,
            Ok(None) => break,
            // Closing first and draining then loses no item that slips in.
            Err(_) => {
                incoming.close();
                continue;
            }
        };
        let deadline = Instant::now() + MOST_GATHER;
        // Nobody closes it.
        let Ok(turn) = turn.clone().acquire_owned().await else { break };
        let batch = collect(first, &mut incoming, deadline, |job| job.pending.bytes.len()).await;
        let (writer, tenant, waiting) = (writer.clone(), tenant.clone(), waiting.clone());
        writing.spawn(async move {
            begun(&waiting, &tenant);
            let written = write(&writer, &tenant, batch, turn).await;
            ended(&waiting, &tenant, written);
        });
    }
    while writing.join_next().await.is_some() {}
}

fn begun(waiting: &Waiting, tenant: &str) {
    let mut waiting = lock(waiting);
    let new = || Writing { since: Instant::now(), batches: 0 };
    waiting.entry(tenant.to_owned()).or_insert_with(new).batches += 1;
}

fn ended(waiting: &Waiting, tenant: &str, written: bool) {
    let mut waiting = lock(waiting);
    let Some(writing) = waiting.get_mut(tenant) else { return };
    writing.batches = writing.batches.saturating_sub(1);
    if written {
        writing.since = Instant::now();
    }
    if written && writing.batches == 0 {
        waiting.remove(tenant);
    }
}

/// The first item, what arrives while others keep coming, until `deadline` or until there are enough, and what is there already.
async fn collect<T>(
    first: T,
    incoming: &mut mpsc::Receiver<T>,
    deadline: Instant,
    size: impl Fn(&T) -> usize,
) -> Vec<T> {
    let mut bytes = size(&first);
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
        let now = Instant::now();
        let until = if batch.len() < ENOUGH { deadline.min(now + GATHER) } else { now };
        let Ok(Some(next)) = timeout_at(until, incoming.recv()).await else { break };
        bytes += size(&next);
        batch.push(next);
    }
    batch
}

/// Writes one batch and answers each item; whether the database was there for it. A caller that is gone does not matter.
async fn write(writer: &Writer, tenant: &str, batch: Vec<Job>, turn: OwnedSemaphorePermit) -> bool {
    let (pending, waiting): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|job| (job.pending, (job.answer, job.room))).unzip();
    let answers = writer.write(tenant, &pending, turn).await;
    let written = !answers
        .iter()
        .any(|answer| matches!(answer, Err(StoreError::Unavailable(_) | StoreError::ClockSkew { .. })));
    for ((answer, _room), result) in waiting.into_iter().zip(answers) {
        let _ = answer.send(result);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn batch_of(items: usize, bytes: usize) -> (usize, usize) {
        let (send, mut incoming) = mpsc::channel(2 * MAX_BATCH);
        for _ in 0..items {
            send.try_send(()).unwrap();
        }
        // Nobody hangs up, and the last moment is far away.
        let deadline = Instant::now() + Duration::from_secs(3600);
        let batch = collect((), &mut incoming, deadline, |()| bytes).await;
        (batch.len(), incoming.len())
    }

    #[tokio::test]
    async fn a_batch_is_what_is_there_up_to_its_bounds_and_waits_for_nobody_else() {
        assert_eq!(batch_of(0, 1).await, (1, 0), "one that comes alone");
        assert_eq!(batch_of(ENOUGH / 2, 1).await, (ENOUGH / 2 + 1, 0));
        assert_eq!(batch_of(3 * ENOUGH, 1).await, (3 * ENOUGH + 1, 0), "enough is no bound on what is there");
        assert_eq!(batch_of(MAX_BATCH + 7, 1).await, (MAX_BATCH, 8));
        assert_eq!(batch_of(9, MAX_BATCH_BYTES / 4).await, (4, 6));
    }
}
