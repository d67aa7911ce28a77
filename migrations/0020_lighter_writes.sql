-- Bodies are mostly base64 of what is compressed or random already: squeezing them cost a tenth of the time of writing them
-- and saved a third of their place (docs/scaling.md). Those that lie there are read as before.
alter table body alter column bytes set storage external;

-- Most attestations have none or one of these; one without is in no list by them.
drop index attestation_by_builder;
create index attestation_by_builder on attestation (tenant, builder, log_index) where builder is not null;
drop index attestation_by_repository;
create index attestation_by_repository on attestation (tenant, source_repository, log_index) where source_repository is not null;
drop index attestation_by_commit;
create index attestation_by_commit on attestation (tenant, source_commit, log_index) where source_commit is not null;
drop index attestation_by_resource;
create index attestation_by_resource on attestation (tenant, resource, log_index) where resource is not null;
