-- What attestations say about packages and vulnerabilities: one row for each component of an SBOM and each finding of a scan
-- or VEX document. Licences and hashes are lists, one a line. `position` is log_index * 32768 + the row's number: it orders, and is a cursor.
create table mention (
    tenant        text   not null,
    position      bigint not null check (position >= 0),
    id            bytea  not null check (length(id) = 32),
    package       text   not null,
    name          text   not null,
    version       text   not null,
    vulnerability text   not null,
    state         text   not null,
    licences      text   not null,
    hashes        text   not null,
    primary key (tenant, position)
);

create index mention_by_package on mention (tenant, package, position) where package <> '';
create index mention_by_name on mention (tenant, name, position) where name <> '';
create index mention_by_vulnerability on mention (tenant, vulnerability, position) where vulnerability <> '';
create index mention_by_id on mention (tenant, id, position);
