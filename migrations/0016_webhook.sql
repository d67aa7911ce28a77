-- Where events are sent, and how far each receiver has come. `types` is a list with commas; the secret is derived, not kept.
create table webhook (
    tenant     text    not null,
    id         text    not null,
    url        text    not null,
    types      text    not null,
    mac_key    integer not null,
    creator    text    not null,
    created_us bigint  not null,
    log_size   bigint  not null,
    seq        bigint  not null,
    attempts   integer not null,
    error      text    not null,
    next_us    bigint  not null,
    holder     text    not null,
    lease_us   bigint  not null,
    delivered  bigint  not null,
    dead       bigint  not null,
    primary key (tenant, id)
);

-- Events that a receiver did not take, however often it was tried.
create table dead_letter (
    tenant   text    not null,
    webhook  text    not null,
    number   bigint  not null,
    event    text    not null,
    type     text    not null,
    body     text    not null,
    attempts integer not null,
    error    text    not null,
    time_us  bigint  not null,
    primary key (tenant, webhook, number)
);
