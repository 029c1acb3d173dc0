-- A report that an agent submits while its turn runs is a draft until the turn is completed.
alter table onsembl.reports add draft boolean not null default false;
grant select (draft) on onsembl.reports to authenticated;
