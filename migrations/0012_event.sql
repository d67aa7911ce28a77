-- What happened beside the log, written in the transaction that made it happen. Entries of the log are events by themselves and have
-- no row here; `log_size` says how many of them an event takes into account, so that both are told in one order.
create table event_head (
    tenant text   not null,
    seq    bigint not null check (seq > 0),
    primary key (tenant)
);

create table event (
    tenant   text   not null,
    seq      bigint not null check (seq > 0),
    time_us  bigint not null,
    type     text   not null,
    subject  text   not null,
    log_size bigint not null,
    data     text   not null,
    primary key (tenant, seq)
);

create index event_by_subject on event (tenant, subject, seq);
