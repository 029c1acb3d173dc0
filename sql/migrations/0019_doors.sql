-- The server's role gives what happened and no more: when, in which transaction and as which number is for the database
-- to say, or a row could be put in where the sealer of the chain does not look.
revoke insert on onsembl.audit from onsembl_api;
grant insert (actor_kind, actor_id, actor_name, action, target_kind, target_id, address, outcome, detail)
    on onsembl.audit to onsembl_api;

-- A row is known by its number and its time, as in the log: one that repeats a number must not stop the sealer.
alter table onsembl.audit_chain drop constraint audit_chain_audit_id_key;
alter table onsembl.audit_chain add unique (audit_id, audit_at);

-- What counts as one caller: an IPv4 address or an IPv6 /64. One may have so many requests open.
alter table onsembl.device_requests add column network text not null default '';

-- By which a token is named, for nobody has the token itself.
alter table onsembl.enrolment_tokens add column id uuid not null default gen_random_uuid() unique;
