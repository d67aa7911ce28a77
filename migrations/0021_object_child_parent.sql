-- An object whose facts are derived anew is found among its children's rows by its own name.
create index object_child_by_parent on object_child (tenant, parent);
