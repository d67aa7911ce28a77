-- What runs where, as deploy tools tell it, and what the verdict was when it was told. `seq` is that of the event which says so:
-- it orders, and is a cursor. `question` is the key of the question that the verdict answers. What has no end runs.
create table deployment (
    tenant      text    not null,
    id          bytea   not null check (length(id) = 32),
    seq         bigint  not null,
    environment text    not null,
    application text    not null,
    workload    text    not null,
    image       text    not null,
    digest      text    not null,
    since_us    bigint  not null,
    until_us    bigint  check (until_us >= since_us),
    reporter    text    not null,
    recorded_us bigint  not null,
    question    bytea   not null check (length(question) = 32),
    outcome     text    not null,
    allowed     boolean not null,
    reason      text    not null,
    verdict     bytea   not null check (length(verdict) = 32),
    primary key (tenant, id),
    unique (tenant, seq)
);

create index deployment_running on deployment (tenant, question) where until_us is null;
create index deployment_by_workload on deployment (tenant, environment, application, workload) where until_us is null;
create index deployment_by_application on deployment (tenant, application, seq);
create index deployment_by_digest on deployment (tenant, digest, seq);
