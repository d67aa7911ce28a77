-- What an instance folded from a log, sealed: a start believes it only under its seal and reads the entries after it. It may be
-- deleted at any time; the next start then reads the whole log.
create table log_fold (
    tenant  text    not null,
    size    bigint  not null,
    state   bytea   not null,
    mac_key integer not null,
    mac     bytea   not null,
    primary key (tenant)
);
