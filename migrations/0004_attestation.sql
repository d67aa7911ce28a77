-- The facts of one attestation, a cache of verification: sealed, and derivable from the body.
create table attestation (
    tenant            text    not null,
    id                bytea   not null check (length(id) = 32),
    log_index         bigint  not null,
    time_us           bigint  not null,
    verified          boolean not null,
    predicate_type    text    not null,
    builder           text,
    source_repository text,
    source_commit     text,
    resource          text,
    facts             bytea   not null,
    mac_key           integer not null,
    mac               bytea   not null,
    primary key (tenant, id)
);

create index attestation_by_index on attestation (tenant, log_index);
create index attestation_by_predicate on attestation (tenant, predicate_type, log_index);
create index attestation_by_builder on attestation (tenant, builder, log_index);
create index attestation_by_repository on attestation (tenant, source_repository, log_index);
create index attestation_by_commit on attestation (tenant, source_commit, log_index);
create index attestation_by_resource on attestation (tenant, resource, log_index);
