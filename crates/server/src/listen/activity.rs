//! What one connection does, and when that is too little: the rules of its watchdog.
//!
//! Hyper's own limit on headers runs while a connection rests between two requests, too; so the time for a head is
//! counted here, from its first byte, and resting has a limit of its own.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::Version,
};
use hyper::body::{Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};

/// From the first byte of a head to its end; also from the opening of a connection to its first request.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may rest between two requests. Balancers close theirs after 60 s; ours must live longer.
const IDLE: Duration = Duration::from_secs(75);
/// How long a peer may take for [`PORTION`] bytes of an answer that waits for it.
const STALL: Duration = Duration::from_secs(30);
const PORTION: u64 = 64 * 1024;
/// Requests that a peer may give up before their answer, on one connection (CVE-2023-44487).
const GIVEN_UP: usize = 200;

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// At once: `slow head`, `stalled`.
    Now(&'static str),
    /// After what is being answered: `idle`, `resets`.
    Soon(&'static str),
}

/// One connection. Times are milliseconds since it was opened, plus one; 0 stands for none.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Requests whose answer is not whole yet.
    running: AtomicUsize,
    /// Answers with more to give than the peer takes.
    untaken: AtomicUsize,
    /// A write that the peer does not take.
    blocked: AtomicBool,
    written: AtomicU64,
    mark: AtomicU64,
    mark_at: AtomicU64,
    requests: AtomicUsize,
    given_up: AtomicUsize,
    multiplexed: AtomicBool,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    evicted: Notify,
    /// Milliseconds that a test has let pass.
    #[cfg(test)]
    passed: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            running: AtomicUsize::new(0),
            untaken: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            written: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            mark_at: AtomicU64::new(1),
            requests: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            evicted: Notify::new(),
            #[cfg(test)]
            passed: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        #[cfg(test)]
        let now = now + self.passed.load(Relaxed);
        now
    }

    /// A request has come whole up to its body.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Running {
        self.requests.fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        self.multiplexed.store(version == Version::HTTP_2, Relaxed);
        Running { activity: self.clone(), answered: false }
    }

    /// Bytes have come.
    pub(super) fn read(&self) {
        if self.running.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Bytes were taken, or none could be.
    pub(super) fn wrote(&self, bytes: Option<usize>) {
        self.blocked.store(bytes.is_none(), Relaxed);
        self.written.fetch_add(bytes.unwrap_or(0) as u64, Relaxed);
    }

    /// Says whether the connection has done too little for too long. Asked once a second.
    pub(super) fn judge(&self) -> Option<End> {
        let now = self.now();
        let over = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_millis();
        let running = self.running.load(Relaxed);
        if self.requests.load(Relaxed) == 0 {
            return over(1, HEAD).then_some(End::Now("slow head"));
        }
        if self.given_up.load(Relaxed) > GIVEN_UP {
            return Some(End::Soon("resets"));
        }
        if self.blocked.load(Relaxed) || self.untaken.load(Relaxed) > 0 {
            let written = self.written.load(Relaxed);
            if written.saturating_sub(self.mark.load(Relaxed)) >= PORTION {
                self.mark.store(written, Relaxed);
                self.mark_at.store(now, Relaxed);
            } else if over(self.mark_at.load(Relaxed), STALL) {
                return Some(End::Now("stalled"));
            }
            return None;
        }
        self.mark.store(self.written.load(Relaxed), Relaxed);
        self.mark_at.store(now, Relaxed);
        if running > 0 {
            return None;
        }
        // Frames of HTTP/2 that are no request come and go on a connection that rests.
        let head = self.head_since.load(Relaxed);
        if head > 0 && !self.multiplexed.load(Relaxed) && over(head, HEAD) {
            return Some(End::Now("slow head"));
        }
        over(self.idle_since.load(Relaxed), IDLE).then_some(End::Soon("idle"))
    }

    /// How dispensable it is: `None` while it is being answered; else the one that never asked, and rested longest,
    /// is the least.
    pub(super) fn worth(&self) -> Option<(bool, u64)> {
        let rests = self.running.load(Relaxed) == 0;
        let resting_for = self.now().saturating_sub(self.idle_since.load(Relaxed));
        rests.then_some((self.requests.load(Relaxed) > 0, u64::MAX - resting_for))
    }

    /// Ends it, to make room.
    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    /// Waits until it must make room.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

/// One request, until its answer is whole.
#[derive(Debug)]
pub(super) struct Running {
    activity: Arc<Activity>,
    answered: bool,
}

impl Running {
    /// The body of its answer.
    pub(super) fn answer(mut self, body: Body) -> Answer {
        self.answered = true;
        let untaken = !body.is_end_stream();
        self.activity.untaken.fetch_add(usize::from(untaken), Relaxed);
        Answer { body, untaken, running: self }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let activity = &self.activity;
        activity.given_up.fetch_add(usize::from(!self.answered), Relaxed);
        activity.idle_since.store(activity.now(), Relaxed);
        activity.running.fetch_sub(1, Relaxed);
    }
}

/// A body that knows whose turn it is: ours to give the next part, or the peer's to take the last one.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    untaken: bool,
    running: Running,
}

impl Answer {
    fn peers_turn(&mut self, untaken: bool) {
        if self.untaken != untaken {
            self.untaken = untaken;
            let all = &self.running.activity.untaken;
            if untaken {
                all.fetch_add(1, Relaxed)
            } else {
                all.fetch_sub(1, Relaxed)
            };
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.peers_turn(false);
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let untaken = matches!(polled, Poll::Ready(Some(Ok(_)))) && !self.body.is_end_stream();
        self.peers_turn(untaken);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Activity {
        fn pass(&self, seconds: u64) {
            self.passed.fetch_add(seconds * 1000, Relaxed);
        }
    }

    #[test]
    fn a_connection_without_a_request_ends() {
        let activity = Activity::new();
        activity.pass(9);
        assert_eq!(activity.judge(), None);
        activity.pass(2);
        assert_eq!(activity.judge(), Some(End::Now("slow head")));
    }

    #[test]
    fn between_requests_it_may_rest_but_a_head_must_come_soon() {
        let activity = Activity::new();
        activity.read();
        drop(activity.begin(Version::HTTP_11).answer(Body::empty()));
        activity.pass(70);
        assert_eq!(activity.judge(), None);
        activity.read();
        activity.pass(4);
        activity.read();
        assert_eq!(activity.judge(), None);
        activity.pass(7);
        assert!(activity.judge().is_some());
    }

    #[test]
    fn pings_do_not_keep_a_connection_without_streams() {
        let activity = Activity::new();
        drop(activity.begin(Version::HTTP_2).answer(Body::empty()));
        for _ in 0..7 {
            activity.pass(10);
            activity.read();
            activity.wrote(Some(17));
            assert_eq!(activity.judge(), None);
        }
        activity.pass(10);
        assert_eq!(activity.judge(), Some(End::Soon("idle")));
    }

    #[test]
    fn an_answer_that_nobody_takes_ends_it_and_one_that_we_have_not_yet_does_not() {
        let activity = Activity::new();
        let running = activity.begin(Version::HTTP_11);
        activity.pass(300);
        assert_eq!(activity.judge(), None, "we are still thinking");
        let answer = running.answer(Body::from("text"));
        assert_eq!(activity.judge(), None);
        activity.pass(31);
        assert_eq!(activity.judge(), Some(End::Now("stalled")));
        drop(answer);
        assert_eq!(activity.judge(), None);
    }

    #[test]
    fn a_reader_that_takes_its_portion_is_waited_for() {
        let activity = Activity::new();
        let _answer = activity.begin(Version::HTTP_11).answer(Body::from("text"));
        for _ in 0..5 {
            activity.pass(20);
            activity.wrote(Some(70_000));
            assert_eq!(activity.judge(), None);
        }
        activity.wrote(None);
        activity.pass(31);
        activity.wrote(Some(100));
        assert_eq!(activity.judge(), Some(End::Now("stalled")));
    }

    #[test]
    fn a_storm_of_resets_ends_it() {
        let activity = Activity::new();
        for _ in 0..=GIVEN_UP {
            assert_eq!(activity.judge().filter(|_| activity.requests.load(Relaxed) > 0), None);
            drop(activity.begin(Version::HTTP_2));
        }
        assert_eq!(activity.judge(), Some(End::Soon("resets")));
    }

    #[test]
    fn who_never_asked_makes_room_first_and_who_is_answered_never() {
        let (silent, rests, busy) = (Activity::new(), Activity::new(), Activity::new());
        drop(rests.begin(Version::HTTP_11));
        [&silent, &rests, &busy].iter().for_each(|a| a.pass(5));
        let _running = busy.begin(Version::HTTP_11);
        let newer = Activity::new();
        assert!(busy.worth().is_none());
        assert!(silent.worth() < newer.worth());
        assert!(newer.worth() < rests.worth());
    }
}
