-- How many of the first events beside the log were removed because they were old: whoever would go on before that is told so.
alter table event_head add column removed bigint not null default 0 check (removed >= 0);
