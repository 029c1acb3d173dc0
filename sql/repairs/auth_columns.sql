-- What sql/standin/0002_auth.sql had not at first. Whoever could sign in then had no confirmed address and still can.
alter table auth.users add column email_confirmed_at timestamptz;
update auth.users set email_confirmed_at = created_at;
alter table auth.sessions add column not_after timestamptz;
