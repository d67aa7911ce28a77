//! Kubernetes' admission webhook (admission.k8s.io/v1): a pod is admitted when every image in it is allowed.
//!
//! What is understood is answered with 200, as Kubernetes wants; `allowed` says the rest. Images are looked for wherever a
//! pod template has them, in objects of any kind: of one that is not known, every `image` below a `containers`,
//! `initContainers` or `ephemeralContainers` list counts, and every image volume. An image that is named by tag is denied.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, response::Response};
use catenary_chain::{Outcome, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiQuery},
    problem::Fault,
    record::Mode,
    verdict,
};

/// The most images of one review.
const MAX_IMAGES: usize = 1_000;
/// How deep an object is looked through; Kubernetes' own kinds need eight.
const MAX_DEPTH: usize = 64;
/// Kubernetes waits ten seconds when nobody says otherwise.
const LONGEST: Duration = Duration::from_secs(30);
/// The API server cuts longer messages.
const MAX_MESSAGE: usize = 1_024;
/// The longest warning, and the most of them, that clients are shown.
const MAX_WARNING: usize = 120;
const MAX_WARNINGS: usize = 10;

/// `AdmissionReview`; what else it has is not looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Review {
    api_version: String,
    kind: String,
    request: Asked,
}

/// Its `request`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

/// In which environment.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AdmitQuery {
    /// The environment of the cluster, for example `prod`.
    environment: Option<String>,
    /// What the API server appends: how long it waits, for example `10s`.
    timeout: Option<String>,
}

/// The answer's `response`, for the contract.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Answer {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    audit_annotations: BTreeMap<String, String>,
}

/// What is said of one image.
struct Judged {
    image: String,
    allowed: bool,
    message: String,
    codes: Vec<String>,
    verdict: String,
    warning: Option<String>,
}

/// Kubernetes' admission webhook
///
/// `admission.k8s.io/v1`. An update is asked about the images that it adds; deletions are admitted.
#[utoipa::path(post, path = "/v1/k8s/admit", tag = "verdicts", params(AdmitQuery), request_body = Value,
    responses((status = 200, description = "AdmissionReview with `response`", body = Value)))]
pub(crate) async fn admit(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<AdmitQuery>,
    ApiJson(review): ApiJson<Review>,
) -> Result<Response, Fault> {
    if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
        return Err(Fault::Member {
            pointer: "/apiVersion".into(),
            why: "is admission.k8s.io/v1, of kind AdmissionReview".into(),
        });
    }
    let asked = &review.request;
    let patience = patience(query.timeout.as_deref())?;
    let images = match asked.operation.as_str() {
        "CREATE" => images(&asked.object),
        // Labels of a running pod may change although its image was revoked meanwhile.
        "UPDATE" => {
            let before = images(&asked.old_object).unwrap_or_default();
            images(&asked.object).map(|images| images.difference(&before).cloned().collect())
        }
        "DELETE" | "CONNECT" => Ok(BTreeSet::new()),
        _ => {
            return Err(Fault::Member {
                pointer: "/request/operation".into(),
                why: "is CREATE, UPDATE, DELETE or CONNECT".into(),
            });
        }
    };
    let judged = match images {
        Ok(images) => {
            judge(&app, &who, images, query.environment.as_deref(), Instant::now() + patience).await
        }
        Err(why) => vec![refused("", why)],
    };
    let answer = answer(asked.uid.clone(), &judged);
    let namespace = asked.namespace.as_deref().unwrap_or_default();
    tracing::info!(
        tenant = who.tenant,
        namespace,
        allowed = answer.allowed,
        images = judged.len(),
        "admission review"
    );
    Ok(super::json(&json!({ "apiVersion": review.api_version, "kind": review.kind, "response": answer })))
}

/// Less than Kubernetes waits, so that it hears a no instead of nothing.
fn patience(timeout: Option<&str>) -> Result<Duration, Fault> {
    let Some(text) = timeout else { return Ok(Duration::from_secs(9)) };
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<u64>().ok());
    let waited = seconds.map(Duration::from_secs).filter(|waited| !waited.is_zero() && *waited <= LONGEST);
    let waited = waited.ok_or_else(|| Fault::Query("`timeout` is 1s to 30s".into()))?;
    Ok(waited.mul_f64(0.9))
}

/// Every image in an object.
fn images(object: &Value) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    look(object, "", 0, &mut found)?;
    if found.len() > MAX_IMAGES {
        return Err(format!("the object has more than {MAX_IMAGES} images"));
    }
    Ok(found)
}

fn look(value: &Value, under: &str, depth: usize, found: &mut BTreeSet<String>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("the object is nested deeper than {MAX_DEPTH}"));
    }
    match value {
        Value::Array(items) => {
            for item in items {
                if is_containers(under) {
                    container(item, found)?;
                }
                if under == "volumes"
                    && let Some(image) = item.get("image")
                {
                    found.insert(text(image.get("reference"), "an image volume")?);
                }
                look(item, "", depth + 1, found)?;
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                if is_containers(name) && !member.is_array() && !member.is_null() {
                    return Err(format!("`{name}` is not a list"));
                }
                look(member, name, depth + 1, found)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_containers(name: &str) -> bool {
    matches!(name, "containers" | "initContainers" | "ephemeralContainers")
}

fn container(item: &Value, found: &mut BTreeSet<String>) -> Result<(), String> {
    let Some(members) = item.as_object() else { return Err("a container is not an object".to_owned()) };
    // Lists of other kinds are called so, too; a pod's containers all have a name and an image.
    if members.contains_key("image") || members.contains_key("name") {
        found.insert(text(members.get("image"), "a container")?);
    }
    Ok(())
}

fn text(image: Option<&Value>, of: &str) -> Result<String, String> {
    match image.and_then(Value::as_str) {
        Some(image) if !image.is_empty() => Ok(image.to_owned()),
        _ => Err(format!("{of} names no image")),
    }
}

/// Asks about each; whoever is not asked in time is denied.
async fn judge(
    app: &App,
    who: &Principal,
    images: BTreeSet<String>,
    environment: Option<&str>,
    deadline: Instant,
) -> Vec<Judged> {
    let mut judged = Vec::with_capacity(images.len());
    for image in images {
        let question = match verdict::question(&image, environment, None) {
            Ok(question) => question,
            Err(fault) => {
                judged.push(refused(&image, fault.to_string()));
                continue;
            }
        };
        let asked = tokio::time::timeout_at(deadline, verdict::ask(app, &who.tenant, &question)).await;
        judged.push(match asked {
            Ok(Ok(answer)) => {
                match app.recorder.count(&who.tenant, &who.name, &answer.ready, Mode::Required) {
                    Ok(()) => said(&image, &answer.ready.verdict),
                    Err(fault) => refused(&image, fault.to_string()),
                }
            }
            Ok(Err(fault)) => refused(&image, fault.to_string()),
            Err(_) => refused(&image, "SYS_TIMEOUT: it was not decided in time".to_owned()),
        });
    }
    // As at the gate: what is not recorded is not allowed.
    if judged.iter().any(|one| one.allowed) {
        let recorded = tokio::time::timeout_at(deadline, app.recorder.settle(Mode::Required)).await;
        if !matches!(recorded, Ok(Ok(()))) {
            let why = "SYS_NOT_RECORDED: the decision could not be recorded in time";
            judged = judged.iter().map(|one| refused(&one.image, why.to_owned())).collect();
        }
    }
    judged
}

fn refused(image: &str, message: String) -> Judged {
    Judged {
        image: image.to_owned(),
        allowed: false,
        message,
        codes: Vec::new(),
        verdict: String::new(),
        warning: None,
    }
}

fn said(image: &str, verdict: &Verdict) -> Judged {
    let mut codes: Vec<String> = verdict.errors().map(|reason| reason.code.to_string()).collect();
    codes.dedup();
    let policy = verdict
        .policy
        .as_ref()
        .map_or_else(|| "no policy".to_owned(), |p| format!("{}@{}", p.name, p.revision));
    let message = format!("{image} denied by {policy}: {} (verdict {})", codes.join(", "), verdict.id);
    let tolerated = verdict.allowed && verdict.outcome != Outcome::Passed;
    let warning = tolerated.then(|| format!("catenary: {image}: {}", codes.join(", ")));
    Judged {
        image: image.to_owned(),
        allowed: verdict.allowed,
        message,
        codes,
        verdict: verdict.id.to_string(),
        warning,
    }
}

fn answer(uid: String, judged: &[Judged]) -> Answer {
    let denied: Vec<&Judged> = judged.iter().filter(|image| !image.allowed).collect();
    let status = (!denied.is_empty()).then(|| {
        let messages: Vec<String> = denied
            .iter()
            .take(3)
            .map(|image| {
                if image.image.is_empty() || image.message.contains(&image.image) {
                    image.message.clone()
                } else {
                    format!("{}: {}", image.image, image.message)
                }
            })
            .collect();
        let more = if denied.len() > 3 { format!("; and {} more", denied.len() - 3) } else { String::new() };
        let message = cut(&format!("catenary: {}{more}", messages.join("; ")), MAX_MESSAGE);
        json!({ "code": 403, "reason": "Forbidden", "message": message })
    });
    let mut notes = BTreeMap::new();
    let of = |note: fn(&Judged) -> String| {
        let mut notes: Vec<String> = judged.iter().map(note).filter(|note| !note.is_empty()).collect();
        notes.dedup();
        cut(&notes.join(","), MAX_MESSAGE)
    };
    notes.insert("verdicts".to_owned(), of(|image| image.verdict.clone()));
    notes.insert("codes".to_owned(), of(|image| image.codes.join(",")));
    notes.retain(|_, note| !note.is_empty());
    let warnings = judged.iter().filter_map(|image| image.warning.as_deref()).take(MAX_WARNINGS);
    Answer {
        uid,
        allowed: denied.is_empty(),
        status,
        warnings: warnings.map(|warning| cut(warning, MAX_WARNING)).collect(),
        audit_annotations: notes,
    }
}

/// On one line, at most so many characters.
fn cut(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(object: Value) -> Result<Vec<String>, String> {
        images(&object).map(|images| images.into_iter().collect())
    }

    #[test]
    fn images_are_found_wherever_a_pod_has_them() {
        let pod = json!({"kind": "Pod", "spec": {
            "containers": [{"name": "a", "image": "a"}], "initContainers": [{"name": "b", "image": "b"}],
            "ephemeralContainers": [{"name": "c", "image": "c"}], "volumes": [{"image": {"reference": "d"}}, {"emptyDir": {}}]}});
        assert_eq!(found(pod.clone()).unwrap(), ["a", "b", "c", "d"]);
        let cron = json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": pod}}}});
        assert_eq!(found(cron).unwrap(), ["a", "b", "c", "d"]);
        let custom = json!({"kind": "Widget", "spec": {"some": {"deep": [{"template": {"spec": {"containers": [{"image": "e"}]}}}]}}});
        assert_eq!(found(custom).unwrap(), ["e"]);
        assert!(found(json!({"kind": "ConfigMap", "data": {"image": "x"}})).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_no_yes() {
        for bad in [
            json!({"spec": {"containers": [{"name": "a"}]}}),
            json!({"spec": {"containers": [{"image": 7}]}}),
            json!({"spec": {"containers": ["a"]}}),
            json!({"spec": {"containers": {"a": {"image": "a"}}}}),
            json!({"spec": {"volumes": [{"image": {"pullPolicy": "Always"}}]}}),
        ] {
            assert!(found(bad.clone()).is_err(), "{bad}");
        }
        let deep = (0..100).fold(json!({}), |inner, _| json!({ "a": inner }));
        assert!(found(deep).is_err());
    }
}
