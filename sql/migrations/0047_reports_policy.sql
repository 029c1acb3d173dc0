-- The condition is evaluated once for a statement, and not for each row, as in the other policies.
alter policy operators_read on onsembl.reports using ((select onsembl.is_operator()));
