-- One Merkle log per tenant. The head row is the lock under which entries get their indexes;
-- it holds the right edge, so that appending reads no older entry.
create table log_head (
    tenant   text   not null check (tenant <> ''),
    origin   text   not null,
    size     bigint not null check (size > 0),
    frontier bytea  not null,
    root     bytea  not null check (length(root) = 32),
    time_us  bigint not null,
    primary key (tenant)
);

-- Entry i never changes. `id` and `kind` repeat what the leaf says, so that they can be looked up.
create table log_entry (
    tenant    text   not null,
    log_index bigint not null check (log_index >= 0),
    id        bytea  not null check (length(id) = 32),
    kind      text   not null,
    leaf      bytea  not null,
    primary key (tenant, log_index),
    unique (tenant, id)
);

-- Control entries are few; every instance folds all of them when it starts.
create index log_entry_control on log_entry (tenant, log_index) where kind not in ('attestation', 'object');
