-- Archivista's clients name a document by its gitoid: SHA-256 over `blob <length>`, a NUL and the bytes, as git hashes a blob.
create index body_by_gitoid on body (tenant, sha256(decode('blob ' || length(bytes)::text || '\000', 'escape') || bytes));
