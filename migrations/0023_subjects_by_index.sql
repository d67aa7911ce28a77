-- What is said about one attestation is found by its place in the log, where rows are added at the end. An index of ids takes each
-- new one at a page of its own, and what is written first on a page after a checkpoint is written whole.
drop index attestation_subject_by_id;
create index attestation_subject_by_index on attestation_subject (tenant, log_index);
