-- Which objects name a node: indexes their manifests, manifests their config. Only an index, as above.
create table object_child (
    tenant    text   not null,
    child     text   not null,
    parent    text   not null,
    log_index bigint not null,
    primary key (tenant, child, parent)
);
