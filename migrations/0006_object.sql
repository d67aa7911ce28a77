-- Bytes that prove themselves by their hash: OCI documents by content digest, git objects by oid.
create table object (
    tenant     text    not null,
    node       text    not null,
    id         bytea   not null check (length(id) = 32),
    log_index  bigint  not null,
    time_us    bigint  not null,
    media_type text    not null,
    facts      bytea   not null,
    mac_key    integer not null,
    mac        bytea   not null,
    primary key (tenant, node)
);

create index object_by_index on object (tenant, log_index);
create index object_by_id on object (tenant, id);
