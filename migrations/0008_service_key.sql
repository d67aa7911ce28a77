-- Public parts and ids of the installation's own keys. Private parts never come here.
create table service_key (
    purpose    text    not null,
    generation integer not null check (generation > 0),
    key_id     text    not null,
    public     text    not null,
    primary key (purpose, generation)
);
