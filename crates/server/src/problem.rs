//! What goes wrong, as RFC 9457 problem documents. The only place that knows status codes.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use catenary_chain::policy::{PolicyError, trial::Ran};
use catenary_evidence::{
    Refusal,
    digest::{Digest, DigestError},
    json::{JsonError, JsonFault},
    key::KeyError,
    reference::ReferenceError,
    trust_root::TrustRootError,
};
use catenary_store::{StoreError, follow::FollowError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::auth::{oidc::OidcError, scope::ScopeError, token::TokenError};

/// Media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A problem document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `/docs/reasons/<CODE>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// JSON pointer to the place in what was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Line of the place, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Column of the place, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// What the sender can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Quote it when asking for help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Members of single codes, such as `resolved` and `allowed`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// One fact that the caller can act on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// No credential, or one that is not good.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A CI token that is not good.
    #[error("{0}")]
    Oidc(#[from] OidcError),
    /// The credential's role may not do this.
    #[error("the role `{role}` may not do this")]
    Role {
        /// The credential's role.
        role: &'static str,
    },
    /// The evidence is outside of the credential's scope.
    #[error("{0}")]
    Scope(#[from] ScopeError),
    /// Nothing there, or nothing that this tenant may see.
    #[error("there is no {what} here")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// The route exists, the method does not.
    #[error("this route takes {allow}")]
    Method {
        /// The methods that it has.
        allow: String,
    },
    /// The body is over the limit.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body was cut off.
    #[error("the body ended early")]
    BodyCut,
    /// The body came too slowly.
    #[error("the body took longer than {} s", limit.as_secs())]
    BodySlow {
        /// The limit.
        limit: Duration,
    },
    /// Not the media type of this route.
    #[error("`{found}` is not a media type that this route takes; send {expected}")]
    MediaType {
        /// As sent.
        found: String,
        /// What the route takes.
        expected: &'static str,
    },
    /// Events after the cursor were removed because they were old.
    #[error("events after this cursor were removed: they were older than is kept")]
    EventsRemoved {
        /// The cursor behind them.
        next: String,
    },
    /// The decision must be recorded before it is given, and is not.
    #[error("the decision is not recorded: {why}")]
    NotRecorded {
        /// Why.
        why: &'static str,
    },
    /// A compressed body.
    #[error("the content encoding `{found}` is not taken; send the body as it is")]
    Encoding {
        /// As sent.
        found: String,
    },
    /// A request body that is not JSON, or not the JSON of this route.
    #[error("{0}")]
    Json(JsonError),
    /// A request member with a value that cannot be.
    #[error("{pointer}: {why}")]
    Member {
        /// Where.
        pointer: Cow<'static, str>,
        /// What is wrong with it.
        why: String,
    },
    /// A query that is malformed.
    #[error("the query is malformed: {0}")]
    Query(String),
    /// A path that is malformed.
    #[error("the path is malformed: {0}")]
    Path(String),
    /// A header that is malformed.
    #[error("the header `{0}` is malformed")]
    Header(&'static str),
    /// `limit` or `cursor` is not good.
    #[error("{0}")]
    Pagination(String),
    /// Not a digest.
    #[error("{0}")]
    Digest(#[from] DigestError),
    /// Not an image reference.
    #[error("{0}")]
    Reference(ReferenceError),
    /// A tag where a digest is needed.
    #[error("`{resource}:{tag}` names a tag, and tags move")]
    Tag {
        /// `registry/repository`.
        resource: String,
        /// The tag.
        tag: String,
        /// What it pointed to when it was last seen.
        resolved: Option<Digest>,
    },
    /// A bare digest where a repository is needed.
    #[error("a decision needs the repository: a good image in the wrong place is an attack")]
    ResourceRequired,
    /// Evidence that was refused.
    #[error("{0}")]
    Refused(Refusal),
    /// A policy document that was refused.
    #[error("{0}")]
    Policy(PolicyError),
    /// The document's name is not the one in the path.
    #[error("the document is named `{found}`, the path says `{expected}`")]
    PolicyName {
        /// In the path.
        expected: String,
        /// In the document.
        found: String,
    },
    /// An older revision's bytes.
    #[error("these bytes were revision {old} of `{name}`, {active} is active")]
    PolicyRollback {
        /// The policy.
        name: String,
        /// The revision that they were.
        old: u64,
        /// The active one.
        active: u64,
    },
    /// A test inside a policy document does not pass.
    #[error("{failed} of the document's tests fail; `{}`: {}", first.name, first.message.as_deref().unwrap_or(""))]
    PolicyTest {
        /// The first that fails.
        first: Box<Ran>,
        /// How many fail.
        failed: usize,
    },
    /// A revision whose tests were not run yet.
    #[error("the tests of `{name}` revision {revision} were not run, or did not pass")]
    PolicyUntested {
        /// The policy.
        name: String,
        /// The revision.
        revision: u64,
    },
    /// Others must approve first.
    #[error("`{name}` takes {need} approval(s) of others, and has {have}")]
    ApprovalRequired {
        /// What takes it.
        name: String,
        /// How many there are.
        have: u32,
        /// How many it takes.
        need: u32,
    },
    /// The same, of a policy: POL_UNSIGNED.
    #[error("`{name}` takes {need} approval(s) of others, and has {have}")]
    PolicyUnsigned {
        /// The policy, and its revision.
        name: String,
        /// How many there are.
        have: u32,
        /// How many it takes.
        need: u32,
    },
    /// Whoever proposes does not approve, nor does a token that they made or that made theirs.
    #[error("`{0}` was proposed by you: somebody else approves it")]
    ApprovalSelf(String),
    /// The policy names other approvers.
    #[error("the policy lets {approvers} approve exceptions")]
    ApprovalRole {
        /// Who may.
        approvers: String,
    },
    /// An exception that the policy does not allow.
    #[error("{0}")]
    Exception(String),
    /// Not a key that can be registered.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// Not a trust root.
    #[error(transparent)]
    Root(#[from] TrustRootError),
    /// An address that events are not sent to.
    #[error("events are not sent there: {0}")]
    WebhookTarget(#[from] crate::webhook::guard::Refused),
    /// It exists, and is something else.
    #[error("{0}")]
    Conflict(String),
    /// The verdict says no: the status-code form of it.
    #[error("{summary}")]
    Denied {
        /// The verdict's one line.
        summary: String,
        /// Its codes.
        codes: Vec<String>,
    },
    /// The verdict cannot be decided now.
    #[error("{summary}")]
    Undecided {
        /// The verdict's one line.
        summary: String,
        /// Its codes.
        codes: Vec<String>,
    },
    /// The entry that the answer must hold is not there yet.
    #[error("entry {asked} is not in the log yet, which has {size} entries")]
    IndexAhead {
        /// What was asked for.
        asked: u64,
        /// What there is.
        size: u64,
    },
    /// One client asks for too much at a time.
    #[error("too many requests of this credential are under way")]
    TooMany,
    /// We are over our limits.
    #[error("the service is busy")]
    Busy,
    /// It took too long.
    #[error("the answer took longer than {} s", limit.as_secs())]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// The tenant's log cannot be believed: every yes is stopped.
    #[error("the log cannot be believed: {why}")]
    LogBroken {
        /// What was found.
        why: String,
    },
    /// The head of the log could not be read in time.
    #[error("the log cannot be followed now")]
    LogUnreachable,
    /// The store did not do it.
    #[error("{why}")]
    Unavailable {
        /// What it said, without secrets.
        why: String,
    },
    /// A registry did not answer.
    #[error("the registry {registry} did not answer: {why}")]
    Registry {
        /// Its name.
        registry: String,
        /// What went wrong.
        why: String,
    },
    /// A defect.
    #[error("this is a defect of the service; it is in its log under the request's id")]
    Internal,
}

/// Status, code and title of a fault.
struct Class {
    status: StatusCode,
    code: Cow<'static, str>,
    title: &'static str,
}

impl Fault {
    fn class(&self) -> Class {
        use StatusCode as S;
        let (status, code, title) = match self {
            Self::Token(e) => (S::UNAUTHORIZED, e.code(), "Not authenticated"),
            Self::Oidc(e) if e.is_forbidden() => (S::FORBIDDEN, e.code(), "Not allowed"),
            Self::Oidc(e) if e.is_unavailable() => {
                (S::SERVICE_UNAVAILABLE, e.code(), "Issuer keys unavailable")
            }
            Self::Oidc(e) => (S::UNAUTHORIZED, e.code(), "Not authenticated"),
            Self::Role { .. } => (S::FORBIDDEN, "AUTH_ROLE", "Not allowed"),
            Self::Scope(_) => (S::FORBIDDEN, "AUTH_SCOPE", "Out of scope"),
            Self::NotFound { .. } => (S::NOT_FOUND, "NOT_FOUND", "Not found"),
            Self::Method { .. } => (S::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed"),
            Self::BodyTooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "Body too large"),
            Self::BodyCut => (S::BAD_REQUEST, "REQ_BODY_CUT", "Malformed request"),
            Self::BodySlow { .. } => (S::REQUEST_TIMEOUT, "REQ_BODY_SLOW", "Body too slow"),
            Self::MediaType { .. } => (S::UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE", "Unsupported media type"),
            Self::Encoding { .. } => {
                (S::UNSUPPORTED_MEDIA_TYPE, "CONTENT_ENCODING", "Unsupported content encoding")
            }
            Self::Json(e) => match e.fault {
                JsonFault::NotUtf8 | JsonFault::Syntax(_) => {
                    (S::BAD_REQUEST, "JSON_INVALID", "Malformed JSON")
                }
                JsonFault::DuplicateKey { .. } => {
                    (S::UNPROCESSABLE_ENTITY, "JSON_DUPLICATE_KEY", "Ambiguous JSON")
                }
                JsonFault::TooDeep => (S::UNPROCESSABLE_ENTITY, "JSON_TOO_DEEP", "Too deep"),
                JsonFault::BadString => (S::UNPROCESSABLE_ENTITY, "JSON_INVALID", "Malformed JSON"),
                JsonFault::Shape(_) => (S::BAD_REQUEST, "REQ_MEMBER", "Malformed request"),
                JsonFault::TooMany => (S::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "Body too large"),
            },
            Self::Member { .. } => (S::BAD_REQUEST, "REQ_MEMBER", "Malformed request"),
            Self::Query(_) => (S::BAD_REQUEST, "REQ_QUERY", "Malformed request"),
            Self::Path(_) => (S::BAD_REQUEST, "REQ_PATH", "Malformed request"),
            Self::Header(_) => (S::BAD_REQUEST, "REQ_HEADER", "Malformed request"),
            Self::Pagination(_) => (S::BAD_REQUEST, "REQ_PAGINATION", "Malformed pagination"),
            Self::Digest(_) => (S::BAD_REQUEST, "REQ_INVALID_DIGEST", "Not a digest"),
            Self::Reference(_) => (S::BAD_REQUEST, "REQ_INVALID_IMAGE", "Not an image reference"),
            Self::Tag { .. } => (S::BAD_REQUEST, "REQ_TAG_NOT_DIGEST", "A tag is not a digest"),
            Self::ResourceRequired => (S::BAD_REQUEST, "REQ_RESOURCE_REQUIRED", "Repository required"),
            Self::Refused(e) if e.is_syntax() => (S::BAD_REQUEST, e.code(), "Malformed evidence"),
            Self::Refused(e) if e.is_too_large() => (S::PAYLOAD_TOO_LARGE, e.code(), "Evidence too large"),
            Self::Refused(e) => (S::UNPROCESSABLE_ENTITY, e.code(), "Evidence refused"),
            Self::Policy(e) => (S::UNPROCESSABLE_ENTITY, e.code.as_str(), "Policy refused"),
            Self::PolicyName { .. } => (S::UNPROCESSABLE_ENTITY, "POL_INVALID", "Policy refused"),
            Self::EventsRemoved { .. } => (S::GONE, "EVENTS_REMOVED", "Events were removed"),
            Self::PolicyRollback { .. } => (S::CONFLICT, "POL_ROLLBACK", "An older revision"),
            Self::PolicyTest { .. } => (S::UNPROCESSABLE_ENTITY, "POL_TEST_FAILED", "Tests fail"),
            Self::PolicyUntested { .. } => (S::CONFLICT, "POL_UNTESTED", "Not tested"),
            Self::ApprovalRequired { .. } => (S::FORBIDDEN, "APPROVAL_REQUIRED", "Approval required"),
            Self::PolicyUnsigned { .. } => (S::FORBIDDEN, "POL_UNSIGNED", "Approval required"),
            Self::ApprovalSelf(_) => (S::FORBIDDEN, "APPROVAL_SELF", "Not by yourself"),
            Self::ApprovalRole { .. } => (S::FORBIDDEN, "APPROVAL_ROLE", "Not an approver"),
            Self::Exception(_) => (S::UNPROCESSABLE_ENTITY, "EXCEPTION_REFUSED", "Exception refused"),
            Self::Key(_) => (S::UNPROCESSABLE_ENTITY, "KEY_INVALID", "Key refused"),
            Self::Root(_) => (S::UNPROCESSABLE_ENTITY, "TRUST_ROOT_INVALID", "Trust root refused"),
            Self::WebhookTarget(_) => (S::UNPROCESSABLE_ENTITY, "WEBHOOK_TARGET", "Receiver refused"),
            Self::Conflict(_) => (S::CONFLICT, "CONFLICT", "Conflict"),
            Self::Denied { .. } => (S::FORBIDDEN, "GATE_DENIED", "Denied"),
            Self::Undecided { .. } => (S::SERVICE_UNAVAILABLE, "GATE_INDETERMINATE", "Cannot be decided now"),
            Self::IndexAhead { .. } => (S::SERVICE_UNAVAILABLE, "SYS_INGEST_PENDING", "Not there yet"),
            Self::TooMany => (S::TOO_MANY_REQUESTS, "REQ_RATE", "Too many requests"),
            Self::Busy => (S::SERVICE_UNAVAILABLE, "SYS_BUSY", "Busy"),
            Self::Timeout { .. } => (S::SERVICE_UNAVAILABLE, "SYS_TIMEOUT", "Out of time"),
            Self::LogBroken { .. } => (S::SERVICE_UNAVAILABLE, "SYS_LOG_ROLLED_BACK", "Log not believed"),
            Self::LogUnreachable => (S::SERVICE_UNAVAILABLE, "SYS_LOG_UNREACHABLE", "Log unreachable"),
            Self::Unavailable { .. } => {
                (S::SERVICE_UNAVAILABLE, "SYS_STORE_UNAVAILABLE", "Store unavailable")
            }
            Self::Registry { .. } => {
                (S::SERVICE_UNAVAILABLE, "SYS_REGISTRY_UNREACHABLE", "Registry unreachable")
            }
            Self::NotRecorded { .. } => (S::SERVICE_UNAVAILABLE, "SYS_NOT_RECORDED", "Not recorded"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "SYS_INTERNAL", "Defect"),
        };
        Class { status, code: Cow::Borrowed(code), title }
    }

    /// The stable code.
    pub fn code(&self) -> Cow<'static, str> {
        self.class().code
    }

    /// The HTTP status, for items of a batch.
    pub fn status(&self) -> u16 {
        self.class().status.as_u16()
    }

    /// The document.
    pub fn problem(&self) -> Problem {
        let Class { status, code, title } = self.class();
        let (pointer, position) = self.place();
        Problem {
            kind: format!("/docs/reasons/{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            code: code.into_owned(),
            pointer,
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            hint: self.hint(),
            request_id: None,
            more: self.more(),
        }
    }

    fn place(&self) -> (Option<String>, Option<(u64, u64)>) {
        let at = |(line, column): (usize, usize)| (line as u64, column as u64);
        match self {
            Self::Json(e) => (Some(e.pointer.clone()), Some(at((e.line, e.column)))),
            Self::Member { pointer, .. } => (Some(pointer.to_string()), None),
            Self::Refused(e) => (e.pointer().map(str::to_owned), e.position().map(at)),
            Self::Policy(e) => {
                let pointer = format!("/{}", e.path.trim_matches('.').replace('.', "/"));
                (Some(pointer), (e.line > 0).then_some((e.line, e.column)))
            }
            Self::PolicyTest { first, .. } => {
                let pointer = format!("/{}", first.path.replace('.', "/"));
                (Some(pointer), (first.line > 0).then_some((first.line, first.column)))
            }
            _ => (None, None),
        }
    }

    fn hint(&self) -> Option<String> {
        let text: String = match self {
            Self::Token(e) => e.hint().into(),
            Self::Oidc(e) => e.hint().into(),
            Self::Role { .. } => "use a credential with another role".into(),
            Self::Scope(_) => "use a credential whose scope covers the repository and predicate type".into(),
            Self::Refused(e) => e.hint(),
            Self::Policy(e) => format!("did you mean `{}`?", e.suggestion.as_ref()?),
            Self::PolicyName { .. } => "put the document under its own metadata.name".into(),
            Self::PolicyRollback { .. } => {
                "activate the old revision by its number to bring it back on purpose".into()
            }
            Self::PolicyTest { .. } => {
                "correct the policy, or what the test expects; `catenary policy test FILE` runs it here"
                    .into()
            }
            Self::PolicyUntested { name, revision } => {
                format!(
                    "send the fixtures to /v1/policies/{name}/revisions/{revision}/test, or use `catenary policy draft FILE`"
                )
            }
            Self::ApprovalRequired { .. } | Self::PolicyUnsigned { .. } => {
                "let others approve it: `catenary policy draft` and `approve`, `catenary trust approve`"
                    .into()
            }
            Self::ApprovalSelf(_) => {
                "ask somebody whose token you did not make, and who did not make yours".into()
            }
            Self::Tag { resource, resolved: Some(digest), .. } => format!("ask for {resource}@{digest}"),
            Self::Tag { resource, .. } => format!("ask for {resource}@sha256:<64 hex digits>"),
            Self::ResourceRequired => "pass image=registry/repository@sha256:…".into(),
            Self::Digest(_) => "send sha256:<64 lower-case hex digits>".into(),
            Self::Reference(_) => "send registry/repository@sha256:<64 lower-case hex digits>".into(),
            Self::Pagination(_) => "limit is 1 to 200; pass `next` of the page before as cursor".into(),
            Self::WebhookTarget(_) => {
                "use https and a public address, or have the operator name the host in CATENARY_WEBHOOK_ALLOW"
                    .into()
            }
            Self::BodyTooLarge { .. } => "send it in several requests".into(),
            Self::IndexAhead { .. } => "wait longer with wait=, at most 30s".into(),
            Self::LogBroken { .. } => "restore what is missing, or accept with `catenary log accept`".into(),
            Self::Json(e) => match e.fault {
                JsonFault::DuplicateKey { .. } => "name each member once".into(),
                _ => return None,
            },
            _ => return None,
        };
        Some(text)
    }

    fn more(&self) -> Map<String, Value> {
        let mut more = Map::new();
        match self {
            Self::Tag { resolved, .. } => {
                more.insert("resolved".into(), resolved.map_or(Value::Null, |d| d.to_string().into()));
            }
            Self::EventsRemoved { next } => {
                more.insert("next".into(), next.clone().into());
            }
            Self::ApprovalRequired { have, need, .. } | Self::PolicyUnsigned { have, need, .. } => {
                more.insert("have".into(), (*have).into());
                more.insert("need".into(), (*need).into());
            }
            Self::Denied { summary, codes } | Self::Undecided { summary, codes } => {
                more.insert("allowed".into(), false.into());
                more.insert("message".into(), summary.clone().into());
                more.insert("codes".into(), codes.clone().into());
            }
            _ => {}
        }
        more
    }

    /// Seconds after which asking again may help.
    fn retry_after(&self) -> Option<u64> {
        match self.class().status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Some(match self {
                Self::Undecided { .. } => 5,
                Self::LogBroken { .. } => 30,
                _ => 1,
            }),
            _ => None,
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        if matches!(self, Self::Internal) {
            tracing::error!("answered with a defect");
        }
        let status = self.class().status;
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"catenary\""));
        }
        if let Self::Method { allow } = &self
            && let Ok(value) = HeaderValue::from_str(allow)
        {
            headers.insert(header::ALLOW, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Status codes of answers that are not errors.
pub mod success {
    use super::{HeaderName, HeaderValue, IntoResponse, Response, StatusCode};

    /// 201 for what is new, 200 for what was known.
    pub fn kept(created: bool, body: impl IntoResponse) -> Response {
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        (status, body).into_response()
    }

    /// The status of an item of a batch.
    pub fn kept_status(created: bool) -> u16 {
        if created { StatusCode::CREATED.as_u16() } else { StatusCode::OK.as_u16() }
    }

    /// 202.
    pub fn accepted(body: impl IntoResponse) -> Response {
        (StatusCode::ACCEPTED, body).into_response()
    }

    /// 304 with the validator.
    pub fn not_modified(name: HeaderName, value: HeaderValue) -> Response {
        (StatusCode::NOT_MODIFIED, [(name, value)]).into_response()
    }

    /// 503 with a body: not ready.
    pub fn not_ready(body: impl IntoResponse) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<JsonError> for Fault {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl From<ReferenceError> for Fault {
    fn from(error: ReferenceError) -> Self {
        match error {
            ReferenceError::TagNotDigest { resource, tag } => Self::Tag { resource, tag, resolved: None },
            ReferenceError::Digest(e) => Self::Digest(e),
            other => Self::Reference(other),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Busy => Self::Busy,
            StoreError::ClockSkew { .. } | StoreError::Conflict { .. } | StoreError::KeysMoved { .. } => {
                tracing::warn!(%error, "refused to write");
                Self::Unavailable { why: error.to_string() }
            }
            StoreError::OtherKind { .. } | StoreError::NodeTaken { .. } => Self::Conflict(error.to_string()),
            StoreError::NoTenant(_) => Self::NotFound { what: "tenant" },
            StoreError::BeyondHead { asked, size } => Self::IndexAhead { asked: *asked, size: *size },
            StoreError::Integrity { .. } => Self::LogBroken { why: error.to_string() },
            StoreError::Unavailable(_) => {
                tracing::warn!(%error, "the store is not available");
                Self::Unavailable { why: "the database is not available".into() }
            }
            _ => {
                tracing::error!(%error, "the store failed");
                Self::Internal
            }
        }
    }
}

impl From<FollowError> for Fault {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::NoTenant(_) => Self::NotFound { what: "tenant" },
            FollowError::Broken { reason, .. } => Self::LogBroken { why: reason.to_string() },
            FollowError::Behind { index, size } => Self::IndexAhead { asked: index, size },
            FollowError::Store(StoreError::Unavailable(error)) => {
                tracing::warn!(%error, "the log cannot be followed");
                Self::LogUnreachable
            }
            FollowError::Store(error) => error.into(),
        }
    }
}

/// What the API's own codes mean, for `/docs/reasons/{code}`; those of verdicts are in `catenary_chain::reason`.
pub const CODES: &[(&str, &str)] = &[
    ("AUTH_REQUIRED", "The request has no credential. Send `Authorization: Bearer …`."),
    ("AUTH_INVALID", "The credential is not known, expired, revoked or malformed."),
    ("AUTH_ROLE", "The credential's role may not do this."),
    (
        "AUTH_SCOPE",
        "The evidence is about a repository or has a predicate type outside of the credential's scope.",
    ),
    ("AUTH_TOKEN_MALFORMED", "The CI token is not a compact JWS of three parts and at most 8 KiB."),
    ("AUTH_TOKEN_ALG", "The CI token's algorithm is not one that its issuer is configured with."),
    ("AUTH_TOKEN_ISSUER", "The CI token's issuer is not configured."),
    ("AUTH_TOKEN_KEY", "The CI token names a key that its issuer does not publish."),
    ("AUTH_TOKEN_SIGNATURE", "The CI token's signature does not verify."),
    ("AUTH_TOKEN_CLAIM", "A claim of the CI token is missing, of the wrong type, or out of its time."),
    ("AUTH_TOKEN_AUDIENCE", "The CI token is for another audience."),
    ("AUTH_CLAIMS", "The CI token is good, but no rule admits its claims."),
    ("AUTH_ISSUER_KEYS", "The keys of the CI token's issuer cannot be had."),
    ("NOT_FOUND", "It does not exist, or another tenant has it."),
    ("METHOD_NOT_ALLOWED", "The route does not take this method."),
    ("BODY_TOO_LARGE", "The body is over the limit."),
    ("REQ_BODY_CUT", "The body ended early."),
    ("REQ_BODY_SLOW", "The body came too slowly."),
    ("MEDIA_TYPE", "The route does not take this media type."),
    ("CONTENT_ENCODING", "Compressed bodies are not taken."),
    ("JSON_INVALID", "Not JSON."),
    ("JSON_DUPLICATE_KEY", "A member is named twice, so two readers could read two documents."),
    ("JSON_TOO_DEEP", "Nested too deep."),
    ("REQ_MEMBER", "A member is missing, unknown, or has a value that cannot be."),
    ("REQ_QUERY", "A query parameter is missing, unknown, or malformed."),
    ("REQ_PATH", "A part of the path is malformed."),
    ("REQ_HEADER", "A header is malformed."),
    ("REQ_PAGINATION", "`limit` or `cursor` is not good."),
    ("REQ_RATE", "Too many requests of this credential are under way."),
    ("REQ_INVALID_DIGEST", "Not a digest."),
    ("REQ_INVALID_IMAGE", "Not an image reference."),
    ("REQ_TAG_NOT_DIGEST", "Tags move; a verdict is about a digest."),
    ("REQ_RESOURCE_REQUIRED", "A decision needs the repository."),
    ("ATT_MALFORMED", "Not an envelope or bundle, or its certificate cannot be read."),
    ("ATT_FORM_UNSUPPORTED", "A form of evidence that this release does not read."),
    ("ATT_DUPLICATE", "The same attestation was sent before: nothing was added."),
    (
        "ATT_DIGEST_ALG_WEAK",
        "No subject has a digest that a rule accepts, so that the attestation is about nothing.",
    ),
    ("ATT_TOO_LARGE", "More bytes or members than the limit."),
    ("ATT_PAYLOAD_TYPE", "The payload is not an in-toto statement."),
    ("ATT_UNSIGNED", "Nothing signs the statement."),
    ("ATT_SIGNATURE_INVALID", "A signature names a registered key and does not verify under it."),
    ("ATT_STATEMENT_TYPE", "Not a known statement type."),
    ("ATT_SUBJECT_NO_DIGEST", "A statement or subject without a digest."),
    ("DIGEST_MALFORMED", "A digest that is not in its only form."),
    ("PREDICATE_INVALID", "The predicate is not what its type says."),
    ("DIGEST_MISMATCH", "The bytes do not hash to the digest that was given."),
    ("OBJECT_MEDIA_TYPE", "Not a media type of an object that Catenary reads."),
    ("OBJECT_MALFORMED", "The object is not what its media type says."),
    ("OBJECT_AMBIGUOUS", "The object can be read in two ways."),
    (
        "EVENTS_REMOVED",
        "Events after the cursor were removed because they were old; `next` is the cursor behind them.",
    ),
    ("POL_ROLLBACK", "The bytes of an older revision."),
    ("POL_TEST_FAILED", "A test inside the document does not pass; the active revision stays."),
    (
        "POL_UNSIGNED",
        "Fewer approvals of others than the policy takes: metadata.approvals of the active revision says how many.",
    ),
    ("POL_UNTESTED", "A revision with tests is activated only after they passed."),
    ("APPROVAL_REQUIRED", "Others must approve first: GET /v1/approvals says how many."),
    ("APPROVAL_SELF", "Whoever proposes something does not approve it, nor does a token that they made."),
    ("APPROVAL_ROLE", "The policy's `exceptions.approvers` names somebody else."),
    ("EXCEPTION_REFUSED", "The policy does not allow this exception."),
    ("KEY_INVALID", "Not a public key that Catenary verifies with."),
    ("TRUST_ROOT_INVALID", "Not a trusted root, or one with an authority that cannot be used."),
    ("ATT_CERT_CHAIN_UNTRUSTED", "The certificate's chain does not lead to an authority of a trust domain."),
    ("ATT_CERT_EXPIRED_AT_SIGNING", "The certificate was not valid when it signed."),
    ("ATT_SCT_MISSING", "The certificate has no signed certificate timestamp, which the domain demands."),
    ("ATT_SCT_INVALID", "The signed certificate timestamp does not hold."),
    (
        "ATT_TLOG_INVALID",
        "A log entry, its promise or its inclusion proof does not hold, or nobody knows the log.",
    ),
    ("ATT_TLOG_BODY_MISMATCH", "A log entry is about another signature, payload or key."),
    ("ATT_TLOG_CHECKPOINT", "The log did not sign the checkpoint."),
    (
        "ATT_TIMESTAMP_INVALID",
        "A timestamp is not over the signature, or not by the authority that it names.",
    ),
    ("WEBHOOK_TARGET", "Events are not sent to this address."),
    ("CONFLICT", "It exists and is something else."),
    ("GATE_DENIED", "The verdict is no."),
    ("GATE_INDETERMINATE", "The verdict cannot be decided now."),
    ("SYS_INGEST_PENDING", "The log has not come so far yet."),
    ("SYS_LOG_UNREACHABLE", "The log cannot be followed now, so that nobody knows what it holds; ask again."),
    ("SYS_BUSY", "The service is over its limits; ask again."),
    ("SYS_TIMEOUT", "The answer took too long; ask again."),
    ("SYS_LOG_ROLLED_BACK", "The log is shorter than, or does not extend, what was seen of it before."),
    ("SYS_STORE_UNAVAILABLE", "The database is not available; ask again."),
    ("SYS_NOT_RECORDED", "The decision must be recorded before it is given, and could not be; ask again."),
    ("SYS_REGISTRY_UNREACHABLE", "A registry did not answer."),
    ("SYS_INTERNAL", "A defect of the service."),
];
