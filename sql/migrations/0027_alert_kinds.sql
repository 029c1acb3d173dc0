-- Alerts of further kinds: the server names the kinds (sql/alerts.py). Any kind is a short word, so that a later release
-- adds one without a migration.
alter table onsembl.alerts drop constraint alerts_kind_check;
alter table onsembl.alerts add constraint alerts_kind_check check (kind ~ '^[a-z_]{1,64}$');
