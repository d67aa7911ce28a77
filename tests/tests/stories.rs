//! What people do with Catenary, told over HTTP and the command line.

#![expect(clippy::unwrap_used, reason = "this is test code")]

#[path = "stories/archivista.rs"]
mod archivista;
#[path = "stories/batch.rs"]
mod batch;
#[path = "stories/browse.rs"]
mod browse;
#[path = "stories/check.rs"]
mod check;
#[path = "stories/closed_loop.rs"]
mod closed_loop;
#[path = "stories/components.rs"]
mod components;
#[path = "stories/conformance.rs"]
mod conformance;
#[path = "stories/cosign.rs"]
mod cosign;
#[path = "stories/decisions.rs"]
mod decisions;
#[path = "stories/exceptions.rs"]
mod exceptions;
#[path = "stories/groups.rs"]
mod groups;
#[path = "stories/impact.rs"]
mod impact;
#[path = "stories/import.rs"]
mod import;
#[path = "stories/keyless.rs"]
mod keyless;
#[path = "stories/language.rs"]
mod language;
#[path = "stories/layouts.rs"]
mod layouts;
#[path = "stories/listener.rs"]
mod listener;
#[path = "stories/newcomer.rs"]
mod newcomer;
#[path = "stories/operate.rs"]
mod operate;
#[path = "stories/policy_life.rs"]
mod policy_life;
#[path = "stories/properties.rs"]
mod properties;
#[path = "stories/registry.rs"]
mod registry;
#[path = "stories/revocation.rs"]
mod revocation;
#[path = "stories/signing.rs"]
mod signing;
#[path = "stories/strangers.rs"]
mod strangers;
#[path = "stories/timeline.rs"]
mod timeline;
#[path = "stories/tls.rs"]
mod tls;
#[path = "stories/trust.rs"]
mod trust;
#[path = "stories/webhooks.rs"]
mod webhooks;

use acceptance::App;

// Named after its id here, where the list of required cases looks for it; told in `stories/operate.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn o14_no_secrets_in_logs() {
    operate::no_secrets_in_logs(App::builder().await).await;
}
