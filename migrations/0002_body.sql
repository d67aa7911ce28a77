-- The bytes that someone sent, exactly. A leaf points to them by SHA-256.
create table body (
    tenant text  not null,
    id     bytea not null check (length(id) = 32),
    bytes  bytea not null,
    primary key (tenant, id)
);
