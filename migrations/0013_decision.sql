-- What was answered to whom. Each instance of the service writes a chain of batches of its own for each tenant, so that none waits
-- for another: a batch carries the hash of the one in front. `decision` and `verdict_body` are derived from, or named by, the batches.
create table decision_batch (
    tenant   text    not null check (tenant <> ''),
    instance text    not null,
    number   bigint  not null check (number > 0),
    previous bytea   not null check (length(previous) = 32),
    hash     bytea   not null check (length(hash) = 32),
    time_us  bigint  not null,
    records  bytea   not null,
    mac_key  integer not null,
    mac      bytea   not null,
    primary key (tenant, instance, number)
);

-- The end of each chain. `is_open`: the instance has not said that it stopped. `alive_us`: everything answered before is recorded
-- (kept up to date in the row of tenant `platform` for all tenants of the instance).
create table decision_chain (
    tenant   text    not null check (tenant <> ''),
    instance text    not null,
    number   bigint  not null check (number >= 0),
    hash     bytea   not null check (length(hash) = 32),
    alive_us bigint  not null,
    is_open  boolean not null,
    mac_key  integer not null,
    mac      bytea   not null,
    primary key (tenant, instance)
);

-- One row for each principal, verdict and minute. The question is a part of the verdict, and so of its id.
create table decision (
    tenant      text    not null check (tenant <> ''),
    id          bytea   not null check (length(id) = 32),
    instance    text    not null,
    principal   text    not null,
    resource    text    not null,
    digest      text    not null,
    environment text    not null,
    platform    text    not null,
    verdict     bytea   not null check (length(verdict) = 32),
    outcome     text    not null,
    allowed     boolean not null,
    log_size    bigint  not null,
    count       bigint  not null check (count > 0),
    first_us    bigint  not null,
    last_us     bigint  not null,
    primary key (tenant, id)
);

create index decision_in_order on decision (tenant, first_us, id);
create index decision_by_digest on decision (tenant, digest, first_us, id);
create index decision_by_resource on decision (tenant, resource, first_us, id);
create index decision_by_principal on decision (tenant, principal, first_us, id);
create index decision_by_environment on decision (tenant, environment, first_us, id);

-- The exact bytes of each verdict that was answered, once.
create table verdict_body (
    tenant   text   not null check (tenant <> ''),
    id       bytea  not null check (length(id) = 32),
    log_size bigint not null,
    bytes    bytea  not null check (length(bytes) <= 1048576),
    primary key (tenant, id)
);

create index verdict_body_in_order on verdict_body (tenant, log_size, id);
