-- What sql/migrations/0019_doors.sql had not at first.
alter table onsembl.device_requests add column network text not null default '';
