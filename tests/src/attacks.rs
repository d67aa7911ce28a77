//! The adversarial cases, what their catalogue calls the refusal, and what Catenary answers.

/// What Catenary does with an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// Refused with this status and code; nothing is kept.
    Refused(u16, &'static str),
    /// Kept (201), and the verdict denies with one of these codes.
    Denied(&'static [&'static str]),
    /// The test looks at something else than one code.
    Shown,
    /// Allowed: a positive control.
    Allowed,
}

use Answered::{Allowed, Denied, Refused, Shown};

/// One case: its id, the catalogue's name for the reason, ours.
pub const TABLE: &[(&str, &str, Answered)] = &[
    ("S01", "statement_type_unsupported", Refused(422, "ATT_STATEMENT_TYPE")),
    ("S02", "attestation_missing", Denied(&["BLD_NO_PROVENANCE"])),
    ("S03", "statement_malformed", Refused(422, "PREDICATE_INVALID")),
    ("S04", "statement_subject_empty", Refused(422, "ATT_SUBJECT_NO_DIGEST")),
    ("S06", "digest_malformed", Refused(422, "DIGEST_MALFORMED")),
    ("S07", "digest_algorithm_not_allowed", Denied(&["BLD_NO_PROVENANCE"])),
    ("S09", "digest_malformed", Refused(422, "DIGEST_MALFORMED")),
    ("S11", "source_repository_mismatch", Denied(&["SRC_REPO_MISMATCH"])),
    ("S13", "json_duplicate_key", Refused(422, "JSON_DUPLICATE_KEY")),
    ("S15", "predicate_schema_invalid", Refused(422, "PREDICATE_INVALID")),
    ("S16", "builder_signer_mismatch", Denied(&["BLD_BUILDER_SIGNER_PAIR"])),
    ("S17", "external_parameters_unexpected", Denied(&["BLD_PARAM_UNEXPECTED"])),
    ("S19", "source_missing", Denied(&["SRC_MISSING"])),
    ("S21", "json_invalid_string", Refused(422, "JSON_INVALID")),
    ("S23", "statement_malformed", Refused(422, "JSON_INVALID")),
    ("S26", "conflicting_attestations", Denied(&["PRP_FAILED"])),
    ("G01", "step_missing", Denied(&["SRC_COMMIT_UNKNOWN"])),
    ("G03", "link_broken", Denied(&["SRC_REPO_MISMATCH"])),
    ("G04", "link_broken", Denied(&["SRC_COMMIT_UNKNOWN"])),
    ("G10", "index_child_unattested", Denied(&["ART_PLATFORM_UNCOVERED"])),
    ("G11", "digest_mismatch", Refused(422, "DIGEST_MISMATCH")),
    ("G12", "manifest_ambiguous", Refused(422, "OBJECT_AMBIGUOUS")),
    ("G14", "subject_mismatch", Denied(&["BLD_NO_PROVENANCE"])),
    ("G15", "digest_required", Refused(400, "REQ_TAG_NOT_DIGEST")),
    ("G16", "base_image_untrusted", Denied(&["DEP_BASE_NOT_ALLOWED", "DEP_UNDECLARED_BASE"])),
    ("G18", "chain_cycle", Denied(&["DEP_CYCLE"])),
    ("G20", "chain_too_deep", Denied(&["DEP_DEPTH"])),
    ("G24", "conflicting_provenance", Denied(&["SRC_AMBIGUOUS"])),
    ("G32", "digest_no_common_algorithm", Denied(&["BLD_NO_PROVENANCE"])),
    ("G34", "source_repository_mismatch", Denied(&["SRC_REPO_MISMATCH", "SRC_MISSING"])),
    ("G36", "attestation_missing", Denied(&["ART_UNKNOWN"])),
    ("H01", "unauthenticated", Refused(401, "AUTH_REQUIRED")),
    ("H02", "token_alg_not_allowed", Refused(401, "AUTH_TOKEN_ALG")),
    ("H03", "token_alg_not_allowed", Refused(401, "AUTH_TOKEN_ALG")),
    ("H04", "token_key_unknown", Refused(401, "AUTH_TOKEN_KEY")),
    ("H06", "token_signature_invalid", Refused(401, "AUTH_TOKEN_SIGNATURE")),
    ("H07", "token_claim_invalid", Refused(401, "AUTH_TOKEN_CLAIM")),
    ("H09", "token_audience_invalid", Refused(401, "AUTH_TOKEN_AUDIENCE")),
    ("H10", "token_issuer_untrusted", Refused(401, "AUTH_TOKEN_ISSUER")),
    ("H12", "token_malformed", Refused(401, "AUTH_TOKEN_MALFORMED")),
    ("H16", "issuer_keys_unavailable", Shown),
    ("H17", "token_key_unknown", Refused(401, "AUTH_TOKEN_KEY")),
    ("H19", "repository_id_mismatch", Refused(403, "AUTH_CLAIMS")),
    ("H22", "event_not_allowed", Refused(403, "AUTH_CLAIMS")),
    ("H24", "submitter_scope_mismatch", Refused(403, "AUTH_SCOPE")),
    ("H25", "not_found", Refused(404, "NOT_FOUND")),
    ("H27", "none", Shown),
    ("H28", "forbidden", Refused(403, "AUTH_ROLE")),
    ("H29", "unauthenticated", Refused(401, "AUTH_INVALID")),
    ("H33", "request_timeout", Shown),
    ("H35", "pagination_invalid", Refused(400, "REQ_PAGINATION")),
    ("H36", "query_invalid", Shown),
    ("H38", "url_not_allowed", Shown),
    ("H40", "none", Shown),
    ("H47", "request_member_unknown", Shown),
    ("H49", "none", Shown),
    ("H52", "method_not_allowed", Refused(405, "METHOD_NOT_ALLOWED")),
    ("D01", "duplicate", Shown),
    ("D03", "none", Shown),
    ("D04", "none", Shown),
    ("D06", "database_unavailable", Shown),
    ("D07", "storage_full", Shown),
    ("D09", "database_unavailable", Shown),
    ("D10", "replica_stale", Shown),
    ("D12", "log_rollback_detected", Shown),
    ("D13", "integrity_violation", Denied(&["SYS_INTEGRITY_VIOLATION"])),
    ("D15", "integrity_violation", Shown),
    ("D16", "not_in_log", Shown),
    ("D18", "none", Shown),
    ("D20", "none", Shown),
    ("D21", "token_claim_invalid", Shown),
    ("D23", "audit_chain_broken", Shown),
    ("H31", "body_too_large", Refused(413, "BODY_TOO_LARGE")),
    ("P11", "policy_conflict_strictest", Denied(&["POL_AMBIGUOUS"])),
    ("P08", "policy_version_rollback", Refused(409, "POL_ROLLBACK")),
    ("P13", "forbidden", Refused(403, "AUTH_ROLE")),
    ("P16", "none", Shown),
    ("O15", "approval_required", Refused(403, "APPROVAL_REQUIRED")),
    ("O01", "key_expired", Denied(&["BLD_SIGNER_NOT_TRUSTED", "BLD_NO_PROVENANCE"])),
    ("O14", "none", Shown),
    ("K01", "none", Allowed),
    ("K02", "none", Allowed),
    ("K04", "none", Allowed),
    ("K06", "none", Allowed),
    ("K08", "none", Allowed),
    ("K09", "none", Allowed),
    ("K12", "none", Allowed),
    ("K14", "none", Allowed),
];

/// Every id of the groups statement_predicate, chain_graph, http_api, storage and positive_control, and the
/// three that the issue adds. H31 is not among the later ones: the issue measures it.
pub const REQUIRED: &[&str] = &[
    "S01", "S02", "S03", "S04", "S06", "S07", "S09", "S11", "S13", "S15", "S16", "S17", "S19", "S21", "S23",
    "S26", "G01", "G03", "G04", "G10", "G11", "G12", "G14", "G15", "G16", "G18", "G20", "G24", "G32", "G34",
    "G36", "H01", "H02", "H03", "H04", "H06", "H07", "H09", "H10", "H12", "H16", "H17", "H19", "H22", "H24",
    "H25", "H27", "H28", "H29", "H31", "H33", "H35", "H36", "H38", "H40", "H47", "H49", "H52", "D01", "D03",
    "D04", "D06", "D07", "D09", "D10", "D12", "D13", "D15", "D16", "D18", "D20", "D21", "D23", "K01", "K02",
    "K04", "K06", "K08", "K09", "K12", "K14", "P08", "P11", "P13", "P16", "O01", "O14", "O15",
];

/// What Catenary answers to a case.
pub fn answer_to(id: &str) -> Answered {
    let row = TABLE.iter().find(|row| row.0 == id).unwrap_or_else(|| panic!("{id} is not in the table"));
    row.2
}

impl crate::http::Answer {
    /// Fails the test unless the answer is the one that the table has for the case.
    #[track_caller]
    pub fn answers(&self, id: &str) {
        match answer_to(id) {
            Refused(status, code) => {
                self.is_problem(status, code);
            }
            Denied(codes) => {
                self.is(200);
                let found = self.codes();
                let code = codes.iter().find(|code| found.iter().any(|f| f == *code));
                self.denies(code.unwrap_or(&codes[0]));
            }
            Allowed => {
                self.passes();
            }
            Shown => panic!("{id} has no single answer"),
        }
    }
}
