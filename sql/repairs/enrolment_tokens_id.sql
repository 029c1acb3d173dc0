-- What sql/migrations/0019_doors.sql had not in its first two versions.
alter table onsembl.enrolment_tokens add column id uuid not null default gen_random_uuid() unique;
