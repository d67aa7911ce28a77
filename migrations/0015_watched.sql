-- The questions whose answers are kept up to date: those about what runs, and the last ones asked. A row is evaluated again when its time
-- has come (0: at once), or when it was evaluated before the entry `all_at` of its tenant's watcher.
create table watched (
    tenant      text    not null,
    key         bytea   not null check (length(key) = 32),
    image       text    not null,
    environment text,
    platform    text,
    context     text    not null,
    outcome     text    not null,
    allowed     boolean not null,
    reason      text    not null,
    verdict     bytea   not null check (length(verdict) = 32),
    nodes       bytea   not null check (length(nodes) = 32),
    log_size    bigint  not null,
    due_us      bigint  not null,
    cause       bigint,
    asked_us    bigint  not null,
    primary key (tenant, key)
);

create index watched_by_due on watched (tenant, due_us);
create index watched_by_size on watched (tenant, log_size);
create index watched_by_asked on watched (tenant, asked_us);
create index watched_denied on watched (tenant, key) where not allowed;

-- Which watched answers read a node.
create table watched_node (
    tenant text  not null,
    node   text  not null,
    key    bytea not null,
    primary key (tenant, node, key)
);

create index watched_node_by_key on watched_node (tenant, key);

-- How far each log was followed for the watched. Whoever writes compares and raises `version`, so that of two instances one counts.
create table watcher (
    tenant   text   not null,
    log_size bigint not null,
    all_at   bigint not null,
    version  bigint not null,
    holder   text   not null,
    lease_us bigint not null,
    primary key (tenant)
);
