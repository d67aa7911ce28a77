//! Metrics for Prometheus. Every label has few values, whatever is sent.

use std::{sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use catenary_chain::Outcome;
use metrics::{Counter, Histogram, counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use tokio_util::sync::CancellationToken;

use crate::{App, ingest::Kept, problem::Fault, routes::TrustReadiness};

/// Seconds: from a cached verdict to a slow one.
const BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// How often single values are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of one service; not global, so that several can run in one process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    hot: Hot,
}

/// What the hot route counts, looked up once.
struct Hot {
    answered: Counter,
    unchanged: Counter,
    passed: Counter,
    failed: Counter,
    hits: Counter,
    request_seconds: Histogram,
    verdict_seconds: Histogram,
}

impl Hot {
    fn new(recorder: &PrometheusRecorder) -> Self {
        const ROUTE: &str = "/v1/verdict";
        let requests = |class: &'static str| counter!("catenary_requests_total", "method" => "GET", "route" => ROUTE, "status" => class);
        let verdicts = |outcome: &'static str| counter!("catenary_verdicts_total", "outcome" => outcome);
        with_local_recorder(recorder, || Self {
            answered: requests("2xx"),
            unchanged: requests("3xx"),
            passed: verdicts("passed"),
            failed: verdicts("failed"),
            hits: counter!("catenary_verdict_cache_total", "result" => "hit"),
            request_seconds: histogram!("catenary_request_seconds", "route" => ROUTE),
            verdict_seconds: histogram!("catenary_verdict_seconds"),
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let builder = PrometheusBuilder::new();
        // Fails for an empty list only.
        let recorder = builder.set_buckets(&BUCKETS).unwrap_or_default().build_recorder();
        let (handle, hot) = (recorder.handle(), Hot::new(&recorder));
        Self { recorder, handle, hot }
    }
}

impl Metrics {
    /// One answered request.
    pub fn request(&self, method: &Method, route: &'static str, status: u16, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "HEAD" => "HEAD",
            _ => "other",
        };
        let class = match status {
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        with_local_recorder(&self.recorder, || {
            counter!("catenary_requests_total", "method" => method, "route" => route, "status" => class)
                .increment(1);
            histogram!("catenary_request_seconds", "route" => route).record(took.as_secs_f64());
        });
    }

    /// One verdict of the hot route. What is undecided is never kept ready.
    pub fn hot(&self, outcome: Outcome, status: StatusCode, took: Duration) {
        let Hot { answered, unchanged, passed, failed, hits, request_seconds, verdict_seconds } = &self.hot;
        if status == StatusCode::NOT_MODIFIED { unchanged } else { answered }.increment(1);
        if outcome == Outcome::Passed { passed } else { failed }.increment(1);
        hits.increment(1);
        request_seconds.record(took.as_secs_f64());
        verdict_seconds.record(took.as_secs_f64());
    }

    /// Puts what was recorded into its buckets; until then every single value is kept.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// One attestation that was sent.
    pub fn ingest(&self, result: &Result<Kept, Fault>) {
        let outcome = match result {
            Ok(kept) if !kept.entry.created => "known",
            Ok(kept) if kept.facts.is_verified() => "verified",
            Ok(_) => "unverified",
            Err(fault) if fault.status() >= 500 => "failed",
            Err(_) => "refused",
        };
        with_local_recorder(&self.recorder, || {
            counter!("catenary_ingest_total", "outcome" => outcome).increment(1)
        });
    }

    /// One verdict that was given.
    pub fn verdict(&self, outcome: &'static str, took: Duration) {
        with_local_recorder(&self.recorder, || {
            counter!("catenary_verdicts_total", "outcome" => outcome).increment(1);
            histogram!("catenary_verdict_seconds").record(took.as_secs_f64());
        });
    }

    /// Whether a verdict was ready.
    pub fn cache(&self, hit: bool) {
        let result = if hit { "hit" } else { "miss" };
        with_local_recorder(&self.recorder, || {
            counter!("catenary_verdict_cache_total", "result" => result).increment(1)
        });
    }

    /// A verdict for which the database was read together with others.
    pub fn shared(&self) {
        with_local_recorder(&self.recorder, || counter!("catenary_verdict_shared_total").increment(1));
    }

    /// How many entries of the log the watched answers do not take into account yet.
    pub fn watched(&self, lag: u64) {
        with_local_recorder(&self.recorder, || gauge!("catenary_watcher_lag_entries").set(lag as f64));
    }

    /// Watched answers that were evaluated again, and those that changed.
    pub fn reevaluated(&self, evaluated: usize, changed: usize) {
        with_local_recorder(&self.recorder, || {
            counter!("catenary_watched_evaluations_total").increment(evaluated as u64);
            counter!("catenary_verdicts_changed_total").increment(changed as u64);
        });
    }

    /// One event that was sent to a receiver, or not.
    pub fn delivery(&self, taken: bool) {
        let outcome = if taken { "delivered" } else { "failed" };
        with_local_recorder(&self.recorder, || {
            counter!("catenary_webhook_deliveries_total", "outcome" => outcome).increment(1)
        });
    }

    /// Events that receivers did not take, however often they were tried.
    pub fn dead_letters(&self, count: u64) {
        with_local_recorder(&self.recorder, || gauge!("catenary_webhook_dead_letters").set(count as f64));
    }

    /// Connections that were opened, or closed when negative.
    pub fn connections(&self, more: f64) {
        with_local_recorder(&self.recorder, || gauge!("catenary_connections").increment(more));
    }

    /// A connection that we ended.
    pub fn connection_ended(&self, why: &'static str) {
        with_local_recorder(&self.recorder, || {
            counter!("catenary_connections_ended_total", "why" => why).increment(1)
        });
    }

    /// New certificate files that were taken up, or could not be.
    pub fn certificate(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        with_local_recorder(&self.recorder, || {
            counter!("catenary_certificate_reloads_total", "result" => result).increment(1)
        });
    }

    /// The text, with what is only known when it is asked for.
    pub fn render(&self, app: &App) -> String {
        let follower = &app.backend.follower;
        let tenants = follower.tenants();
        let sizes = tenants.iter().filter_map(|t| follower.snapshot(t).ok()).map(|s| s.size);
        let (entries, largest) = sizes.fold((0, 0), |(sum, max), size| (sum + size, max.max(size)));
        let lease = tenants.iter().filter_map(|t| follower.lease_age(t)).max().unwrap_or_default();
        let broken = tenants.iter().filter(|t| follower.broken(t).is_some()).count();
        let trust = TrustReadiness::of(app);
        let (recorded, lost) = app.recorder.counts();
        let scrub = app.scrub.show();
        with_local_recorder(&self.recorder, || {
            gauge!("catenary_log_entries").set(entries as f64);
            gauge!("catenary_log_entries_largest").set(largest as f64);
            gauge!("catenary_tenants").set(tenants.len() as f64);
            gauge!("catenary_tenants_broken").set(broken as f64);
            gauge!("catenary_lease_age_seconds").set(lease.as_secs_f64());
            gauge!("catenary_trust_domains_stale").set(trust.stale as f64);
            gauge!("catenary_trust_pending").set(trust.pending as f64);
            gauge!("catenary_ingest_queue").set(app.workers.waiting() as f64);
            gauge!("catenary_verdict_cache_bytes").set(app.answers.bytes() as f64);
            gauge!("catenary_rollback_detection").set(f64::from(u8::from(follower.detects_rollback())));
            gauge!("catenary_decisions_waiting").set(app.recorder.waiting() as f64);
            counter!("catenary_decisions_total", "result" => "recorded").absolute(recorded);
            counter!("catenary_decisions_total", "result" => "dropped").absolute(lost);
            for doing in app.load.doing() {
                gauge!("catenary_class_running", "class" => doing.class).set(doing.running as f64);
                gauge!("catenary_class_waiting", "class" => doing.class).set(doing.waiting as f64);
                counter!("catenary_turned_away_total", "class" => doing.class).absolute(doing.turned_away);
            }
            counter!("catenary_scrub_rows_total").absolute(scrub.rows);
            counter!("catenary_scrub_passes_total").absolute(scrub.passes);
            if let Some(last) = &scrub.last {
                gauge!("catenary_scrub_last_pass_timestamp_seconds").set(last.ended.as_second() as f64);
                gauge!("catenary_scrub_last_pass_differences").set(last.differences as f64);
            }
            if let Some(reads) = app.backend.store.replica_reads() {
                counter!("catenary_replica_reads_total", "answer" => "served").absolute(reads.served);
                counter!("catenary_replica_reads_total", "answer" => "passed_on").absolute(reads.passed_on);
            }
            counter!("catenary_integrity_alarms_total").absolute(app.backend.store.alarms());
        });
        self.handle.run_upkeep();
        self.handle.render()
    }
}

/// Keeps what is recorded small, also where nobody asks for it.
pub async fn upkeep(metrics: Arc<Metrics>, stop: CancellationToken) {
    while tokio::time::timeout(UPKEEP, stop.cancelled()).await.is_err() {
        metrics.upkeep();
    }
}
