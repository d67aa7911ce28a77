//! The contract: OpenAPI 3.1 from the routes themselves, completed with what every route has in common.

use serde_json::{Map, Value, json};

use crate::{
    auth::{Access, TABLE},
    freshness::ASKED_BY_POST,
    routes,
};

/// Problems that any route can answer.
const ALWAYS: [(&str, &str); 9] = [
    ("400", "Malformed request"),
    ("404", "Not found"),
    ("405", "Method not allowed"),
    ("408", "Too slow"),
    ("413", "Body too large"),
    ("415", "Media type or encoding not taken"),
    ("422", "Refused"),
    ("429", "Too many requests"),
    ("503", "Not now; see Retry-After"),
];

/// The document as text, the same bytes each time.
pub fn document() -> String {
    let mut text = serde_json::to_string_pretty(&build()).unwrap_or_default();
    text.push('\n');
    text
}

fn build() -> Value {
    let (_, api) = routes::all().split_for_parts();
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": "Catenary",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Keeps signed evidence about how software was made, and answers whether an image has an unbroken, trusted chain.",
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    document["components"]["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer", "description": "An API token, or a CI token (OIDC) of a configured issuer." },
    });
    let problem = serde_json::to_value(<crate::problem::Problem as utoipa::PartialSchema>::schema())
        .unwrap_or_default();
    document["components"]["schemas"]["Problem"] = problem;
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            complete(path, item);
        }
    }
    document
}

fn complete(path: &str, item: &mut Value) {
    let Some(operations) = item.as_object_mut() else { return };
    for (method, operation) in operations {
        let method = method.to_uppercase();
        let access = TABLE.iter().find(|(m, t, _)| *m == method && *t == path).map(|(.., access)| *access);
        let closed = !matches!(access, Some(Access::Anyone));
        if closed {
            operation["security"] = json!([{ "bearer": [] }]);
            let asks = method == "GET" || method == "POST" && ASKED_BY_POST.contains(&path);
            if asks && access != Some(Access::Log) {
                add_freshness(operation);
            }
        }
        if let Some(responses) = operation["responses"].as_object_mut() {
            add_problems(responses, closed);
        }
    }
}

fn add_problems(responses: &mut Map<String, Value>, closed: bool) {
    let auth = [("401", "Not authenticated"), ("403", "Not allowed")];
    for (status, description) in ALWAYS.iter().chain(auth.iter().filter(|_| closed)) {
        let problem = json!({
            "description": description,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
        responses.entry(*status).or_insert(problem);
    }
}

fn add_freshness(operation: &mut Value) {
    let own = [
        json!({ "name": "minIndex", "in": "query", "required": false, "description": "The log entry that the answer must take into account",
            "schema": { "type": "integer", "format": "int64", "minimum": 0, "maximum": 999_999_999_999_999_u64 } }),
        json!({ "name": "wait", "in": "query", "required": false, "description": "How long to wait for it, at most 30 seconds",
            "schema": { "type": "string", "pattern": "^([0-9]|[12][0-9]|30)s?$" } }),
    ];
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.extend(own),
        None => operation["parameters"] = json!(own),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_contract_is_the_served_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/openapi.json");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), document(), "run once with UPDATE_EXPECT=1");
    }

    #[test]
    fn every_documented_route_has_an_owner_and_every_owned_one_is_documented() {
        let document = build();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        // Deep tiles are one resource, written once.
        let owned = TABLE
            .iter()
            .filter(|(_, t, _)| !t.contains("/{b}"))
            .map(|(m, t, _)| ((*m).to_owned(), (*t).to_owned()));
        assert_eq!(owned.collect::<BTreeSet<_>>(), documented);
    }
}
