-- The secret of a receiver is derived from its generation, too, so that it can be changed; until `old_until_us` what is sent is signed
-- with the one before as well.
alter table webhook add column generation integer not null default 0;
alter table webhook add column old_mac_key integer not null default 0;
alter table webhook add column old_until_us bigint not null default 0;
