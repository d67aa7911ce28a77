-- Which attestations are about a node, one row for each signer ('' when nobody vouches).
-- Only an index: what is found through it is believed for what its sealed facts say.
create table attestation_subject (
    tenant    text   not null,
    node      text   not null,
    signer    text   not null,
    log_index bigint not null,
    id        bytea  not null check (length(id) = 32),
    primary key (tenant, node, signer, log_index)
);

create index attestation_subject_in_order on attestation_subject (tenant, node, log_index);
create index attestation_subject_by_signer on attestation_subject (tenant, signer, log_index);
create index attestation_subject_by_id on attestation_subject (tenant, id);
