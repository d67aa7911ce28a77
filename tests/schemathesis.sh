#!/usr/bin/env bash
# Fuzzes a running service by its own description: no undocumented answer, no 5xx but a documented 503.
#   CATENARY_SCHEMATHESIS=schemathesis CATENARY_SERVER=http://127.0.0.1:8440 CATENARY_TOKEN=… tests/schemathesis.sh
set -euo pipefail
tool=${CATENARY_SCHEMATHESIS:-schemathesis}
server=${CATENARY_SERVER:-http://127.0.0.1:8440}
command -v "$tool" >/dev/null || { echo "SKIPPED schemathesis: $tool is not installed (pip install schemathesis)"; exit 0; }
exec "$tool" --config-file "$(dirname "$0")/schemathesis.toml" run "$server/openapi.json" --url "$server" \
  --header "Authorization: Bearer $CATENARY_TOKEN" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --max-examples "${CATENARY_EXAMPLES:-30}" --continue-on-failure "$@"
