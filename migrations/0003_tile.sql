-- Full tiles of 256 hashes, written once. Partial ones are computed from what lies below:
-- leaves, or the roots of the tiles one level down.
create table log_tile (
    tenant     text     not null,
    level      smallint not null check (level >= 0),
    tile_index bigint   not null check (tile_index >= 0),
    hashes     bytea    not null check (length(hashes) = 8192),
    root       bytea    not null check (length(root) = 32),
    primary key (tenant, level, tile_index)
);
