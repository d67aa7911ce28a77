-- Facts of certificate signatures are a little over 2 kB, where the database begins to squeeze a row: that took a twentieth of its time
-- for keyless bundles and saved a kilobyte each. Rows up to 4 kB are written as they are; those that lie there are read as before.
alter table attestation set (toast_tuple_target = 4096);
